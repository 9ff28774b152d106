// Anomalies: what was seen, where, and why it was called odd.

import { h, icon, put, s, status } from "./dom.js";
import { get, nowUs } from "./api.js";
import * as format from "./format.js";
import { Chart, Group } from "./chart.js";
import { loading, merged, message, severityKind, when, why } from "./parts.js";

const SPANS = [["1 h", 3600], ["6 h", 21600], ["24 h", 86400], ["7 d", 604800]];
const SEVERITIES = ["critical", "warning", "info"];
const BARS = 48;
const SHOWN_MAX = 200;
const SIDE_US = 180e6;

/** Counts by time and severity as stacked bars. */
function histogram(rows, startUs, endUs) {
  const width = (endUs - startUs) / BARS;
  const counts = Array.from({ length: BARS }, () => ({ critical: 0, warning: 0, info: 0 }));
  for (const row of rows) {
    const bar = counts[Math.floor((row.time_us - startUs) / width)];
    if (bar) bar[severityKind(row.severity)] += 1;
  }
  const most = Math.max(1, ...counts.map((one) => one.critical + one.warning + one.info));
  const bars = counts.flatMap((one, i) => {
    let y = 60;
    return SEVERITIES.filter((key) => one[key]).map((key) => {
      const high = (one[key] / most) * 56;
      y -= high;
      return s("rect", { class: `bar ${key}`, x: i * 10 + 1, y: y.toFixed(2), width: 8, height: Math.max(1.5, high).toFixed(2) });
    });
  });
  return h("figure.histogram", {},
    s("svg", { viewBox: "0 0 480 60", preserveAspectRatio: "none", role: "img", "aria-label": `${rows.length} anomalies, at most ${most} in ${format.span(width / 1e6)}` }, s("path", { class: "scale-axis", d: "M0 59.5H480" }), ...bars),
    h("figcaption", {}, h("span", {}, format.dateTime(startUs)), h("span", {}, `a bar is ${format.span(width / 1e6)}, the highest ${most}`), h("span", {}, format.dateTime(endUs))));
}

export function anomaliesScreen({ main, live }) {
  const items = new Map();
  const charts = [];
  let rows = [];
  let span = 86400;
  const chosen = { severity: "", detector: "", site: "", words: "" };
  const search = h("input", { type: "search", placeholder: "Search device, metric, message", "aria-label": "Search anomalies", autocomplete: "off", oninput: () => { chosen.words = search.value.trim().toLowerCase(); draw(); } });
  const select = (key, name) => h("select", { "aria-label": name, onchange: (event) => { chosen[key] = event.target.value; draw(); } }, h("option", { value: "" }, name));
  const fields = { severity: select("severity", "Every severity"), detector: select("detector", "Every detector"), site: select("site", "Every site") };
  const spans = h("div.chips", { role: "group", "aria-label": "Time range" }, SPANS.map(([label, seconds]) => h("button.chip", { type: "button", "data-span": seconds, onclick: () => { span = seconds; load(); } }, label)));
  const bars = h("div.bars");
  const list = h("ol.events", {}, loading(5));
  const total = h("span.muted", { role: "status" });
  put(main,
    h("div.screen-head", {}, h("h1.screen-title", {}, "Anomalies"), total),
    h("div.toolbar", {}, h("label.search", {}, icon("search", 16), search, h("kbd", {}, "/")), ...Object.values(fields), spans),
    h("section.card", { "aria-label": "Over time" }, bars),
    h("section.card.list-card", { "aria-label": "List" }, list));

  function options(key) {
    const known = new Set([...fields[key].options].map((one) => one.value));
    for (const value of new Set(rows.map((row) => row[key]))) if (!known.has(value)) fields[key].append(h("option", { value }, value));
  }

  function item(row) {
    const reason = why(row);
    let chart = null;
    const details = h("details", { ontoggle: () => {
      if (details.open && !chart) { chart = around(row); reason.append(chart.element); }
    } },
      h("summary", {},
        status(severityKind(row.severity), row.severity),
        h("span.event-device", {}, h("strong", {}, row.device), h("span.muted", {}, row.site)),
        h("span.news-text", {}, row.message || `${row.detector} in ${row.metric}`, h("span.muted", {}, `${format.metricName(row.metric)} · ${row.detector} · ${format.value(row.score)} × limit`)),
        when(row.time_us, nowUs())),
      reason,
      h("a.button", { href: `/device/${row.site}/${row.device}?at=${row.time_us}`, "data-link": true }, "Show on the device's charts"));
    return h("li", {}, details);
  }

  /** The metric around the moment, with its bands. */
  function around(row) {
    const group = new Group({ spanUs: SIDE_US * 2, now: nowUs });
    group.zoom = [row.time_us - SIDE_US, row.time_us + SIDE_US];
    const chart = new Chart({ label: format.metricName(row.metric), unit: "three minutes before and after", group, height: 130 });
    charts.push(chart);
    const [start_us, end_us] = group.zoom;
    get("series", { site: row.site, device: row.device, metric: row.metric, start_us, end_us, points: 360 }).then(({ columns, expected }) => {
      chart.setBuckets(columns, expected);
      chart.setMarks([{ t: row.time_us, v: row.value, lo: row.lo, hi: row.hi, severity: row.severity, text: row.severity }]);
    }).catch((error) => { chart.read.textContent = error.message; });
    return chart;
  }

  const keyOf = (row) => [row.site, row.device, row.metric, row.detector, row.time_us].join("|");

  /** Items stay the same elements as long as they are shown: open ones stay open. */
  function itemOf(row) {
    const key = keyOf(row);
    if (!items.has(key)) items.set(key, item(row));
    return items.get(key);
  }

  function draw() {
    const shown = rows.filter((row) =>
      (!chosen.severity || row.severity === chosen.severity) && (!chosen.detector || row.detector === chosen.detector) && (!chosen.site || row.site === chosen.site)
      && (!chosen.words || `${row.site}/${row.device} ${row.metric} ${row.message}`.toLowerCase().includes(chosen.words)));
    for (const chip of spans.children) chip.setAttribute("aria-pressed", String(Number(chip.dataset.span) === span));
    const end = nowUs();
    put(bars, histogram(shown, end - span * 1e6, end));
    total.textContent = `${format.count(shown.length)} shown`;
    put(list, shown.length ? shown.slice(0, SHOWN_MAX).map(itemOf) : h("li", {}, message(rows.length ? "No anomaly fits these filters." : "No anomaly in this time.", rows.length ? "Choose fewer of them." : "In the demo, inject a fault on the Simulator screen.")));
    if (shown.length > SHOWN_MAX) list.append(h("li.more", {}, `${format.count(shown.length - SHOWN_MAX)} older ones: narrow the filters to see them.`));
  }

  async function load() {
    try {
      const end = Math.ceil(nowUs() + 60e6);
      ({ rows } = await get("anomalies", { start_us: end - span * 1e6, end_us: end, limit: 1000 }));
      for (const key of Object.keys(fields)) options(key);
      draw();
    } catch (error) {
      put(list, h("li", {}, message("The anomalies can't be shown now.", error.message)));
    }
  }

  live.open(["anomalies"], {
    anomalies: (fresh) => { rows = merged(rows, fresh.rows).slice(0, 2000); for (const key of Object.keys(fields)) options(key); draw(); },
    skipped: load,
  });
  load();
  return { stop: () => { for (const chart of charts) chart.destroy(); } };
}
