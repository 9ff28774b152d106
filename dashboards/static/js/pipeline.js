// Pipeline: from the sensors to this page, how fast, how far behind, and whether everything adds up.

import { h, icon, put, status, text } from "./dom.js";
import { get, nowUs } from "./api.js";
import * as format from "./format.js";
import { Chart, Group } from "./chart.js";
import { account, figure, message, table, when } from "./parts.js";

// Title, what it does, picture, and the counters that people ask for first (the API tells all of them).
const STAGES = {
  agents: ["Edge agents", "sample, detect, reduce, spool", "chip", ["sampled", "readings", "published", "frames", "published_bytes", "buffered", "dropped"]],
  gateway: ["Gateway", "ends MQTT, admits, batches", "gate", ["admitted_readings", "readings", "admitted_frames", "frames", "dead_letters", "devices_online", "acks_sent", "bytes"]],
  log: ["Log", "keeps every batch in order", "layers", ["commits", "records", "admitted_batches", "admitted_record_bytes", "lag_records", "lag"]],
  processor: ["Processor", "dedupes, windows, health", "cpu", ["readings", "frames_new", "frames_duplicate", "duplicates", "readings_late", "late", "event_to_stored_p95_ms", "received_to_stored_p95_ms", "p95_ms"]],
  store: ["Store", "each reading once", "disk", ["readings", "frames", "rows", "anomalies", "gaps", "size_bytes", "write_p95_ms"]],
};
const SHOWN_MAX = 5;
const LABELS = { published_bytes: "bytes sent", event_to_stored_p95_ms: "event to stored, p95", received_to_stored_p95_ms: "received to stored, p95", admitted_record_bytes: "written", size_bytes: "size", frames_duplicate: "duplicates", write_p95_ms: "write, p95", p95_ms: "p95" };
const words = (key) => LABELS[key] ?? key.replace(/^admitted_/, "").replaceAll("_", " ").replaceAll(".", " · ");

class Stage {
  constructor(name) {
    const [title, does, picture, shown] = STAGES[name];
    this.shown = shown;
    this.rate = h("b.stage-rate", {}, "–");
    this.unit = h("span.stage-unit");
    this.list = h("dl.stage-list");
    this.element = h("section.stage", { "aria-label": title }, h("h3", {}, icon(picture, 20), title), h("p.muted", {}, does), h("p.stage-now", {}, this.rate, this.unit), this.list);
  }

  set(row) {
    const keys = Object.keys(row.totals);
    if (!keys.length) {
      text(this.rate, "–");
      text(this.unit, "runs elsewhere");
      return;
    }
    text(this.rate, row.rate === null ? "–" : format.compact(row.rate));
    text(this.unit, row.main ? `${words(row.main)} / s` : "");
    const first = this.shown.filter((key) => format.isNumber(row.totals[key]));
    const shown = (first.length ? first : keys.filter((key) => format.isNumber(row.totals[key]))).slice(0, SHOWN_MAX);
    put(this.list, shown.map((key) => [h("dt", {}, words(key)), h("dd", {}, /bytes$/.test(key) ? format.bytes(row.totals[key]) : /_ms$/.test(key) ? format.millis(row.totals[key]) : format.compact(row.totals[key]))]));
  }
}

function pipe(label) {
  const rate = h("span.pipe-rate");
  const element = h("div.pipe", { role: "img", "aria-label": label }, h("i.pipe-flow"), rate);
  return {
    element,
    set(perSecond) {
      const isFlowing = perSecond > 0.01;
      element.classList.toggle("flowing", isFlowing);
      // Faster with the logarithm of the rate: 1/s takes 4 s for the pattern, 10,000/s takes 0.8 s.
      element.style.setProperty("--period", `${(4 / (1 + Math.log10(1 + perSecond))).toFixed(1)}s`);
      text(rate, isFlowing ? `${format.compact(perSecond)}\nper s` : "still");
    },
  };
}

export function pipelineScreen({ main, live }) {
  const group = new Group({ spanUs: 300e6, now: nowUs });
  const chart = new Chart({ label: "Throughput", unit: "per second, at the gateway and at the store", group, height: 150, zero: true,
    series: [{ key: "gateway", label: "gateway", color: "--accent" }, { key: "store", label: "store", color: "--second" }] });
  const stages = new Map(Object.keys(STAGES).map((name) => [name, new Stage(name)]));
  const pipes = Object.keys(STAGES).slice(1).map((name) => [name, pipe(`to ${STAGES[name][0]}`)]);
  const figures = {
    unknown: figure("Unaccounted frames", { hint: "must read 0" }), behind: figure("Event-time lag"), flight: figure("Frames in flight", { hint: "not stored yet" }),
    dead: figure("Dead letters", { hint: "kept, with a reason" }), doubled: figure("Duplicates", { hint: "recognised, stored once" }),
  };
  const books = account();
  const spools = h("ul.spools");
  const letters = h("div", {}, message("Reading the dead letters."));
  const devices = h("div");
  const flow = h("div.flow", {}, [...stages].map(([name, stage]) => [pipes.find(([to]) => to === name)?.[1].element, stage.element]));
  put(main,
    h("h1.screen-title", {}, "Pipeline"),
    h("dl.figures", {}, Object.values(figures).map((one) => one.element)),
    h("section.card.flow-card", { "aria-label": "Flow" }, flow),
    h("section.card", { "aria-labelledby": "books-title" }, h("h2", { id: "books-title" }, "Every frame is accounted for"), books.element),
    h("div.columns", {},
      h("section.card", { "aria-label": "Throughput" }, chart.element, h("p.legend", {}, h("span.legend-item", {}, h("i.key.line"), "gateway"), h("span.legend-item", {}, h("i.key.line.second"), "store"))),
      h("section.card", { "aria-labelledby": "spool-title" }, h("h2", { id: "spool-title" }, "Waiting on the devices"), spools)),
    h("section.card", { "aria-labelledby": "letters-title" }, h("h2", { id: "letters-title" }, "Dead letters"), letters),
    h("section.card", {}, h("details.fold", {}, h("summary", {}, icon("chevron", 16), h("h2", {}, "Account of each device")), devices)));

  function take(body) {
    const sums = body.account;
    figures.unknown.set(format.count(sums.unknown), sums.unknown ? "must read 0" : "as it must be", sums.unknown ? "critical" : "ok");
    figures.flight.set(format.count(sums.in_flight));
    figures.dead.set(format.count(sums.dead_lettered), undefined, sums.dead_lettered ? "warning" : "");
    figures.doubled.set(format.count(sums.duplicates));
    figures.behind.set(body.newest_us ? format.span((body.now_us - body.newest_us) / 1e6) : "–", "behind the newest reading");
    const rates = {};
    for (const row of body.stages) {
      stages.get(row.stage)?.set(row);
      rates[row.stage] = row.rate;
    }
    // A pipe shows readings where the stage counts them: the log counts records, so it borrows the gateway's figure.
    const readings = Object.fromEntries(body.stages.map((row) => [row.stage, /readings/.test(row.main) ? row.rate : null]));
    for (const [name, one] of pipes) one.set(readings[name] ?? readings.gateway ?? rates[name] ?? 0);
    for (const [i, name] of ["gateway", "store"].entries()) if (format.isNumber(rates[name])) chart.append([body.now_us], [rates[name]], i);
    books.set(sums);
    const most = Math.max(20, ...body.sites.map((site) => site.buffered));
    put(spools, body.sites.length ? body.sites.map((site) => h("li", {}, h("span.spool-name", {}, site.site), h("span.meter", {}, h("span.meter-fill", { vars: { "--fill": site.buffered / most }, "data-tone": site.online < site.devices ? "warning" : "" })),
      h("b", {}, format.count(site.buffered)), status(site.online === site.devices ? "ok" : site.online ? "warning" : "offline", `${site.online} of ${site.devices} online`))) : h("li", {}, message("No device yet.")));
  }

  /** The minutes before this screen was opened, as the server saw them. */
  function seed(history) {
    for (const [i, name] of ["gateway", "store"].entries()) {
      for (const one of history) if (format.isNumber(one.rates[name])) chart.append([one.now_us], [one.rates[name]], i);
    }
  }

  async function load() {
    try {
      const [body, dead, each] = await Promise.all([get("pipeline"), get("dead-letters", { limit: 20 }), get("accounts")]);
      if (!chart.points.length) seed(body.history);
      take(body);
      put(letters, dead.rows.length ? table("The newest, with the reason why they could not be stored", [{ name: "When" }, { name: "Reason" }, { name: "From" }, { name: "Detail" }, { name: "Readings", kind: "number" }],
        dead.rows.map((row) => [when(row.at_us, nowUs()), h("code", {}, row.reason), `${row.site}/${row.device}`, row.detail, format.count(row.readings)]))
        : message("There are none.", "What can't be stored would stand here with its reason and its bytes."));
      const columns = ["Device", "Assigned", "Stored", "Dead letters", "Gap", "In flight", "Unknown"].map((name, i) => ({ name, kind: i ? "number" : "" }));
      put(devices, table("assigned = stored + dead letters + gap + in flight + unknown, in frames", columns,
        each.rows.map((row) => [h("a", { href: `/device/${row.site}/${row.device}`, "data-link": true }, `${row.site}/${row.device}`), ...["assigned", "stored", "dead_lettered", "gap", "in_flight", "unknown"].map((key) => format.count(row[key]))])));
    } catch (error) {
      put(letters, message("The pipeline can't be shown now.", error.message));
    }
  }

  live.open(["pipeline"], { pipeline: take, skipped: load });
  load();
  const timer = setInterval(load, 10000);
  return { stop() { clearInterval(timer); chart.destroy(); } };
}
