// Simulator (demo): break things and watch them be noticed, cut a network and watch the spool fill and drain.

import { h, icon, put, status, text } from "./dom.js";
import { get, nowUs, post } from "./api.js";
import * as format from "./format.js";
import { Chart, Group } from "./chart.js";
import { age, message, table } from "./parts.js";

const COLORS = ["--accent", "--second", "--third", "--warn", "--ok"];
const FAULTS_MAX = 10;
const DURATIONS = [["30 s", 30], ["1 min", 60], ["3 min", 180], ["5 min", 300], ["10 min", 600]];

export function simulatorScreen({ main, live }) {
  let chart = null;
  let state = null;
  let stopped = false;
  const switches = new Map();
  const sites = h("div.switches");
  const spool = h("div");
  const faults = h("div");
  const said = h("p.notice", { role: "status", hidden: true });
  const device = h("select", { name: "device", required: true });
  const metric = h("select", { name: "metric" });
  const kind = h("select", { name: "kind", required: true });
  const severity = h("input", { type: "range", name: "severity", min: 1, max: 20, step: 0.5, value: 8, oninput: () => text(strength, `${Number(severity.value)} σ`) });
  const strength = h("output", {}, "8 σ");
  const duration = h("select", { name: "duration" }, DURATIONS.map(([label, seconds]) => h("option", { value: seconds, selected: seconds === 60 || null }, label)));
  const form = h("form.inject", { onsubmit: inject },
    h("label.field", {}, "Device", device), h("label.field", {}, "Fault", kind), h("label.field", {}, "Metric", metric),
    h("label.field", {}, "For", duration), h("label.field", { class: "wide" }, h("span", {}, "Strength ", strength), severity),
    h("button.button.primary", { type: "submit" }, icon("bolt", 16), "Inject fault"));
  device.addEventListener("change", metrics);
  put(main,
    h("div.screen-head", {}, h("h1.screen-title", {}, "Simulator"), h("span.muted", {}, "The devices of this demo are simulated: do them harm.")),
    said,
    h("section.card", { "aria-labelledby": "net-title" }, h("h2", { id: "net-title" }, "Networks"), h("p.muted", {}, "Cut a site off: its devices keep on sampling into their spools. Restore it and every frame arrives, once."), sites, spool),
    h("div.columns", {},
      h("section.card", { "aria-labelledby": "inject-title" }, h("h2", { id: "inject-title" }, "Inject a fault"), form),
      h("section.card", { "aria-labelledby": "faults-title" }, h("h2", { id: "faults-title" }, "Faults, and where to see them"), faults)));

  function say(words, tone = "") {
    said.hidden = false;
    said.dataset.tone = tone;
    text(said, words);
  }

  async function inject(event) {
    event.preventDefault();
    const [site, name] = device.value.split("/");
    try {
      await post("simulator/inject", { site, device: name, metric: metric.value, kind: kind.value, severity: Number(severity.value), duration_us: Number(duration.value) * 1e6 });
      say(`${kind.value} has begun on ${device.value}: watch it on its own screen and among the anomalies.`, "ok");
      load();
    } catch (error) { say(error.message, "critical"); }
  }

  async function toggle(site, online) {
    try {
      await post("simulator/network", { site, online });
      say(online ? `The network of ${site} is back: its spools drain.` : `The network of ${site} is cut: its spools fill.`, online ? "ok" : "warning");
      load();
    } catch (error) { say(error.message, "critical"); }
  }

  async function metrics() {
    put(metric, h("option", { value: "" }, "the whole machine"));
    if (!device.value) return;
    const own = await get(`devices/${device.value}`).catch(() => null);
    if (!own || stopped) return;
    for (const name of Object.keys(own.row.metrics ?? {})) metric.append(h("option", { value: name }, format.metricName(name)));
  }

  function card(one) {
    const word = h("span.switch-state");
    const waiting = h("b.switch-waiting", {}, "0");
    const fill = h("span.meter-fill");
    const button = h("button.button", { type: "button" });
    const element = h("div.switch", {}, h("div.switch-head", {}, h("h3", {}, one.site), word), h("div.switch-spool", {}, h("span.muted", {}, "Frames waiting"), waiting), h("span.meter", {}, fill), button);
    let online = null;
    let most = 50;
    button.addEventListener("click", () => toggle(one.site, !online));
    sites.append(element);
    return {
      set(now, buffered) {
        if (online !== now) {
          online = now;
          put(word, status(now ? "ok" : "offline", now ? "connected" : "cut off"));
          put(button, icon(now ? "cut" : "link", 16), now ? "Cut network" : "Restore network");
          button.classList.toggle("danger", now);
          button.classList.toggle("primary", !now);
        }
        most = Math.max(most, buffered);
        text(waiting, format.count(buffered));
        fill.style.setProperty("--fill", buffered / most);
        fill.dataset.tone = now ? "" : "warning";
      },
    };
  }

  function take({ state: next, sites: fills, history = [] }) {
    if (!next) return;
    const isFirst = state === null;
    state = next;
    if (isFirst) {
      put(spool);
      chart = new Chart({ label: "Frames waiting in the spools", unit: "frames, by site", height: 150, zero: true, high: 20, group: new Group({ spanUs: 180e6, now: nowUs }),
        series: next.sites.map((one, i) => ({ key: one.site, label: one.site, color: COLORS[i % COLORS.length] })) });
      put(spool, chart.element, h("p.legend", {}, next.sites.map((one, i) => h("span.legend-item", {}, h("i.key.line", { "data-color": i % COLORS.length }), one.site))));
      put(kind, next.kinds.map((one) => h("option", { value: one }, one.replaceAll("_", " "))));
      put(device, next.sites.map((one) => h("optgroup", { label: one.site }, one.devices.map((name) => h("option", { value: `${one.site}/${name}` }, name)))));
      metrics();
      for (const [i, one] of next.sites.entries()) for (const past of history) if (past.sites) chart.append([past.now_us], [past.sites[one.site] ?? 0], i);
    }
    for (const [i, one] of next.sites.entries()) {
      if (!switches.has(one.site)) switches.set(one.site, card(one));
      const buffered = fills?.find((site) => site.site === one.site)?.buffered ?? 0;
      switches.get(one.site).set(one.online, buffered);
      if (fills && chart.series[i]) chart.append([nowUs()], [buffered], i);
    }
    put(faults, next.faults.length ? table("Active and recent", [{ name: "Device" }, { name: "Fault" }, { name: "Began" }, { name: "State" }],
      [...next.faults].reverse().slice(0, FAULTS_MAX).map((one) => [h("a", { href: `/device/${one.site}/${one.device}`, "data-link": true }, one.device, h("span.under", {}, one.site)), h("span", {}, String(one.kind).replaceAll("_", " "), h("span.under", {}, one.metric ? format.metricName(one.metric) : "whole machine")),
        h("time", { title: format.utc(one.start_us) }, age(one.start_us, nowUs())),
        one.end_us && one.end_us < nowUs() ? status("info", "over") : status("warning", "active")]))
      : message("Nothing is broken.", "Choose a device and a fault, and inject it."));
  }

  async function load() {
    try {
      take(await get("simulator"));
    } catch (error) {
      put(main, h("h1.screen-title", {}, "Simulator"), message("There is no simulator here.", error.message));
    }
  }

  live.open(["simulator"], { simulator: take, skipped: load });
  load();
  return { stop() { stopped = true; chart?.destroy(); } };
}
