// Device: synced charts with the bands, the marks, what the edge kept; health, remaining life, its account.

import { h, icon, put, status, text } from "./dom.js";
import { get, nowUs } from "./api.js";
import * as format from "./format.js";
import { Chart, Group } from "./chart.js";
import { account, figure, loading, merged, message, severityKind, tone, when, why } from "./parts.js";

const SPANS = [["5 min", 300], ["15 min", 900], ["1 h", 3600], ["6 h", 21600], ["24 h", 86400]];
const CHARTS_MAX = 16;
const STATE = /(^|_)(running|on|enabled|open)(_|$)/;

function link(words, path) {
  return h("a.back", { href: path, "data-link": true }, icon("back", 16), words);
}

export function deviceScreen({ main, live, found, query }) {
  const { site, device } = found;
  const at = Number(query.get("at")) || null;
  const group = new Group({ spanUs: 900e6, now: nowUs });
  if (at) group.zoom = [at - 300e6, Math.min(nowUs(), at + 300e6)];
  const charts = new Map();
  let isKept = false;
  let anomalies = [];
  let pending = [];
  let stopped = false;
  let isFirst = true;
  let healthChart = null;

  const state = h("span.device-state");
  const place = h("span.device-place.muted");
  const figures = {
    health: figure("Health"), life: figure("Remaining life"), seen: figure("Last heard"),
    waiting: figure("Waiting on the device", { hint: "frames in its spool" }), kept: figure("The edge kept"), anomalies: figure("Anomalies", { hint: "in the last 24 h" }),
  };
  const spans = h("div.chips", { role: "group", "aria-label": "Time range" }, SPANS.map(([label, seconds]) =>
    h("button.chip", { type: "button", "data-span": seconds, onclick: () => { group.spanUs = seconds * 1e6; group.setZoom(null); } }, label)));
  const back = h("button.chip", { type: "button", class: "live", onclick: () => group.setZoom(null) }, "Back to live");
  const kept = h("button.chip", { type: "button", "aria-pressed": "false", onclick: () => { isKept = !isKept; kept.setAttribute("aria-pressed", String(isKept)); loadCharts(); } }, "Show what the edge kept");
  const stack = h("div.charts", {}, loading(3));
  const events = h("ol.events");
  const wear = h("div.wear");
  const books = account();
  const edge = h("div.edge");
  put(main,
    h("div.screen-head", {}, link("Fleet", "/"), h("h1.screen-title", {}, h("span.muted", {}, `${site} / `), device), state, place),
    h("dl.figures", {}, Object.values(figures).map((one) => one.element)),
    h("div.toolbar", {}, spans, kept, back),
    h("div.device", {},
      h("section.card.charts-card", { "aria-label": "Readings" }, stack,
        h("p.legend", {}, h("span.legend-item", {}, h("i.key.band"), "minimum to maximum"), h("span.legend-item", {}, h("i.key.expected"), "expected: trailing median ± 3 σ"), status("warning", "anomaly"))),
      h("div.device-side", {},
        h("section.card", { "aria-labelledby": "wear-title" }, h("h2", { id: "wear-title" }, "Health and remaining life"), wear),
        h("section.card", { "aria-labelledby": "events-title" }, h("h2", { id: "events-title" }, "Anomalies"), events),
        h("section.card", { "aria-labelledby": "edge-title" }, h("h2", { id: "edge-title" }, "What the edge kept"), edge),
        h("section.card", { "aria-labelledby": "books-title" }, h("h2", { id: "books-title" }, "Every frame"), books.element))));

  function pressed() {
    for (const chip of spans.children) chip.setAttribute("aria-pressed", String(!group.zoom && Number(chip.dataset.span) * 1e6 === group.spanUs));
    back.hidden = !group.zoom;
  }
  group.onzoom = () => { pressed(); loadCharts(); };

  function marksOf(metric) {
    return anomalies.filter((row) => row.metric === metric).map((row) => ({
      t: row.time_us, v: row.value, lo: row.lo, hi: row.hi, severity: row.severity,
      text: `${row.severity}: ${row.message || row.detector}`,
    }));
  }

  function build(metrics) {
    const names = Object.keys(metrics).slice(0, CHARTS_MAX);
    if (!names.length) { put(stack, message("This device has sent no readings yet.", "They appear here as soon as its first frame is stored.")); return; }
    if (names.every((name) => charts.has(name))) return;
    if (!charts.size) put(stack);
    for (const name of names) {
      if (charts.has(name)) continue;
      const isState = STATE.test(name);
      const chart = new Chart({ label: format.metricName(name), unit: format.unit(metrics[name]?.unit), group, height: isState ? 84 : 128, step: isState, zero: isState, high: isState ? 1 : null });
      charts.set(name, chart);
      stack.append(chart.element);
    }
  }

  async function loadCharts() {
    const [start, end] = group.range();
    const range = { site, device, start_us: Math.floor(start), end_us: Math.ceil(end) };
    const points = Math.min(1200, Math.max(120, Math.round((charts.values().next().value?.width ?? 600) * 0.75)));
    await Promise.all([...charts].map(async ([metric, chart]) => {
      try {
        const { columns, expected } = await get("series", { ...range, metric, points });
        const raw = isKept ? (await get("raw", { ...range, metric, limit: 4000 })).columns : null;
        if (stopped) return;
        if (raw?.time_us.length) chart.points.set(raw.time_us, raw.value);
        else chart.setBuckets(columns, expected);
        chart.dots = isKept;
        chart.setMarks(marksOf(metric));
        for (const [name, t, v] of pending) if (name === metric) chart.append(t, v);
      } catch (error) {
        chart.read.textContent = error.message;
      }
    }));
    pending = [];
    if (isFirst && !group.zoom) fit();
  }

  /** A device that is heard for minutes only is shown over minutes. */
  function fit() {
    isFirst = false;
    const oldest = Math.min(...[...charts.values()].map((chart) => chart.points.t[0] || Infinity));
    if (nowUs() - oldest < 300e6) { group.spanUs = 300e6; pressed(); loadCharts(); }
  }

  function takeRow(row, local = {}) {
    const isOnline = local.online ?? row.online;
    put(state, status(isOnline ? "ok" : "offline", isOnline ? "online" : "offline"));
    place.textContent = format.location(row.lat, row.lon);
    figures.seen.set(format.ago(row.received_us, nowUs()), format.time(row.received_us ?? row.last_us));
    const waiting = local.buffered ?? row.buffered ?? 0;
    figures.waiting.set(format.count(waiting), undefined, waiting > 20 ? "warning" : "");
    build(row.metrics ?? {});
  }

  function takeHealth(rows, history) {
    const worst = rows.reduce((a, b) => (a === null || b.health < a.health ? b : a), null);
    if (!worst) {
      figures.health.set("–", "not known yet");
      figures.life.set("–", "needs a trend");
      put(wear, message("Its health is not known yet.", "The processor learns what is ordinary from the first minutes of readings."));
      return;
    }
    figures.health.set(String(Math.round(worst.health)), `of 100 · ${worst.component}`, tone(worst.health));
    figures.life.set(format.hours(worst.rul_h), format.isNumber(worst.rul_lo) ? `${format.hours(worst.rul_lo)} to ${format.hours(worst.rul_hi)}` : "no wear in sight");
    if (!healthChart) {
      const day = new Group({ spanUs: 86400e6, now: nowUs });
      healthChart = new Chart({ label: worst.component, unit: "health of 100, 24 h", group: day, height: 120, zero: true, high: 100 });
    }
    const own = history.filter((row) => row.component === worst.component && format.isNumber(row.health)).reverse();
    healthChart.points.set(own.map((row) => row.time_us), own.map((row) => row.health));
    const first = own[0]?.time_us ?? nowUs();
    healthChart.group.spanUs = Math.min(86400e6, Math.max(600e6, (nowUs() - first) * 1.05));
    healthChart.dirty = true;
    put(wear, healthChart.element, h("ul.components", {}, rows.map((row) => h("li", {},
      h("span", {}, h("strong", {}, row.component), h("span.muted", {}, ` ${row.model || ""}`)), h("span", {}, `Health ${Math.round(row.health)}`),
      h("span.meter", {}, h("span.meter-fill", { vars: { "--fill": row.health / 100 }, "data-tone": tone(row.health) })),
      h("span.muted", {}, format.isNumber(row.rul_h) ? `${format.hours(row.rul_h)} left, ${format.hours(row.rul_lo)} to ${format.hours(row.rul_hi)}` : "no wear in sight"),
      format.isNumber(row.p_fail) && h("span.muted", {}, `fails soon: ${(100 * row.p_fail).toFixed(1)} %`)))));
  }

  function takeAccounts(rows) {
    const sum = (key) => rows.reduce((total, row) => total + (row[key] ?? 0), 0);
    const keys = ["assigned", "stored", "dead_lettered", "gap", "in_flight", "unknown"];
    books.set(Object.fromEntries(keys.map((key) => [key, sum(key)])));
    const [acquired, stored, aggregated, suppressed, dropped] = ["acquired", "readings_stored", "aggregated", "suppressed", "dropped"].map(sum);
    figures.kept.set(acquired ? `${((100 * stored) / acquired).toFixed(stored / acquired < 0.1 ? 1 : 0)} %` : "–", `${format.compact(stored)} of ${format.compact(acquired)} readings`);
    const part = (name, n, key) => h("li", {}, h("span.key", { class: key }), h("span", {}, name), h("b", {}, format.count(n)));
    put(edge,
      h("div.stack", { "aria-hidden": "true" }, [["kept", stored], ["aggregated", aggregated], ["suppressed", suppressed], ["dropped", dropped]].map(([key, n]) => h("span.stack-part", { "data-part": key, vars: { "--part": n / Math.max(1, acquired) } }))),
      h("ul.shares", {}, part("sent as they were", stored, "kept"), part("told by summaries", aggregated, "aggregated"), part("left out within the promised error", suppressed, "suppressed"), part("dropped, with a reason", dropped, "dropped")));
  }

  function takeAnomalies() {
    figures.anomalies.set(format.count(anomalies.length), undefined, anomalies.length ? "warning" : "");
    put(events, anomalies.length ? anomalies.slice(0, 12).map((row) => h("li", {}, h("details", {},
      h("summary", {}, status(severityKind(row.severity), row.severity), h("span.news-text", {}, row.message || `${row.detector} in ${row.metric}`), when(row.time_us, nowUs())),
      why(row),
      h("button.button", { type: "button", onclick: () => group.setZoom([row.time_us - 300e6, Math.min(row.time_us + 300e6, nowUs())]) }, "Show on the charts"))))
      : message("None in the last 24 hours."));
    for (const [metric, chart] of charts) chart.setMarks(marksOf(metric));
  }

  function takeLive({ row, live: local, series }) {
    takeRow(row, local);
    for (const [metric, columns] of Object.entries(series)) {
      const chart = charts.get(metric);
      if (!chart || !chart.points.length) pending.push([metric, columns.time_us, columns.value]);
      else if (!group.zoom) chart.append(columns.time_us, columns.value);
    }
    if (pending.length > 200) pending.splice(0, 100);
  }

  async function load() {
    try {
      const end = Math.ceil(nowUs() + 60e6);
      const [own, found24, history] = await Promise.all([
        get(`devices/${site}/${device}`), get("anomalies", { site, device, start_us: end - 86400e6, end_us: end, limit: 200 }),
        get("health-history", { site, device, limit: 300 }),
      ]);
      if (stopped) return;
      anomalies = found24.rows;
      takeRow(own.row);
      takeHealth(own.health, history.rows);
      takeAccounts(own.accounts);
      takeAnomalies();
      await loadCharts();
    } catch (error) {
      put(stack, message("This device can't be shown now.", error.message));
    }
  }

  async function refresh() {
    const own = await get(`devices/${site}/${device}`).catch(() => null);
    if (!own || stopped) return;
    takeAccounts(own.accounts);
    const history = await get("health-history", { site, device, limit: 300 }).catch(() => null);
    if (history && !stopped) takeHealth(own.health, history.rows);
    if (!group.zoom) loadCharts();
  }

  pressed();
  live.open([`device/${site}/${device}`, "anomalies"], {
    device: takeLive,
    anomalies: ({ rows }) => {
      const own = rows.filter((row) => row.site === site && row.device === device);
      if (own.length) { anomalies = merged(anomalies, own); takeAnomalies(); }
    },
    skipped: load,
  });
  load();
  const timer = setInterval(refresh, 15000);
  return {
    stop() {
      stopped = true;
      clearInterval(timer);
      for (const chart of charts.values()) chart.destroy();
      healthChart?.destroy();
    },
  };
}
