// Fleet: which devices need me? Tiles by site, the one who asks for people first to see.

import { h, icon, put, status, text } from "./dom.js";
import { get, nowUs } from "./api.js";
import * as format from "./format.js";
import { drawSpark, sparkline } from "./spark.js";
import { age, figure, loading, merged, message, severityKind, tone } from "./parts.js";

const FILTERS = [["all", "All"], ["attention", "Needs attention"], ["offline", "Offline"]];
const NEWS_MAX = 12;

class Tile {
  constructor(row) {
    this.row = {};
    this.state = h("span.tile-state");
    this.value = h("span.tile-value");
    this.metric = h("span.tile-metric");
    this.health = h("span.meter-fill");
    this.healthWords = h("span.tile-health-words");
    this.note = h("span.tile-note");
    this.spark = sparkline();
    this.element = h("a.tile", { href: `/device/${row.site}/${row.device}`, "data-link": true },
      h("span.tile-head", {}, h("span.tile-name", {}, row.device), this.state),
      h("span.tile-read", {}, this.value, this.metric),
      this.spark,
      h("span.tile-foot", {}, h("span.tile-health", { title: "Health of its weakest component" }, h("span.meter", {}, this.health), this.healthWords), this.note));
    this.update(row);
  }

  update(change) {
    const before = this.row;
    this.row = { ...this.row, ...change };
    const { row } = this;
    const kind = row.attention || (row.online ? "ok" : "offline");
    this.element.dataset.kind = row.online ? kind : "offline";
    if (before.online !== row.online || before.attention !== row.attention || before.why !== row.why) {
      const word = row.online ? row.why || "online" : "offline";
      put(this.state, status(row.online ? kind : "offline", word));
    }
    if (row.spark && row.spark !== before.spark) {
      const { mean, metric, unit } = row.spark;
      text(this.value, mean.length ? format.measured(mean.at(-1), unit) : "no readings");
      text(this.metric, format.metricName(metric));
      if (mean.length) drawSpark(this.spark, row.spark);
    }
    const hasHealth = format.isNumber(row.health);
    this.health.style.setProperty("--fill", hasHealth ? row.health / 100 : 0);
    this.health.dataset.tone = hasHealth ? tone(row.health) : "";
    text(this.healthWords, hasHealth ? `Health ${Math.round(row.health)}` : "Health –");
    const isWaiting = row.buffered > 1;
    text(this.note, isWaiting ? `${format.count(row.buffered)} waiting` : format.ago(row.received_us, nowUs()));
    this.note.title = `last seen ${format.utc(row.received_us)}`;
  }

  matches(words, filter) {
    const { row } = this;
    const isFound = !words || `${row.site}/${row.device}`.includes(words);
    const passes = filter === "all" || (filter === "offline" ? !row.online : Boolean(row.attention) || !row.online);
    return isFound && passes;
  }
}

/** One line of the list of anomalies beside the tiles. */
function news(row) {
  const when = h("time", { title: format.utc(row.time_us) }, age(row.time_us, nowUs()));
  const link = h("a.news-row", { href: `/device/${row.site}/${row.device}?at=${row.time_us}`, "data-link": true },
    status(severityKind(row.severity), row.severity),
    h("span.news-text", {}, h("strong", {}, row.device), " ", row.message || `${row.detector} in ${row.metric}`), when);
  return h("li", {}, link);
}

export function fleetScreen({ main, live, go, query }) {
  const tiles = new Map();
  const groups = new Map();
  let filter = "all";
  let words = query.get("search") ?? "";
  let recent = [];
  const figures = {
    online: figure("Devices online"), attention: figure("Need attention", { hint: "offline, sick or odd" }),
    anomalies: figure("Anomalies", { hint: "in the last hour" }), health: figure("Lowest health", { hint: "of 100" }),
    stored: figure("Readings stored"), unknown: figure("Unaccounted frames", { hint: "must read 0" }),
  };
  const search = h("input", { type: "search", placeholder: "Search devices", "aria-label": "Search devices", value: words, autocomplete: "off", spellcheck: "false",
    oninput: () => { words = search.value.trim().toLowerCase(); arrange(); },
    onkeydown: (event) => {
      if (event.key === "Escape") { search.value = ""; words = ""; arrange(); search.blur(); }
      const first = [...tiles.values()].find((tile) => !tile.element.hidden);
      if (event.key === "Enter" && words && first) go(first.element.getAttribute("href"));
    } });
  const chips = h("div.chips", { role: "group", "aria-label": "Show" }, FILTERS.map(([key, label]) =>
    h("button.chip", { type: "button", "aria-pressed": String(key === filter), "data-key": key, onclick: () => {
      filter = key;
      for (const chip of chips.children) chip.setAttribute("aria-pressed", String(chip.dataset.key === key));
      arrange();
    } }, label)));
  const sites = h("div.sites", {}, loading(8));
  const list = h("ol.news", {});
  put(main,
    h("h1.screen-title", {}, "Fleet"),
    h("dl.figures", {}, Object.values(figures).map((one) => one.element)),
    h("div.fleet", {},
      h("section.fleet-tiles", { "aria-label": "Devices" }, h("div.toolbar", {}, h("label.search", {}, icon("search", 16), search, h("kbd", {}, "/")), chips), sites),
      h("section.card.news-card", { "aria-labelledby": "news-title" }, h("h2", { id: "news-title" }, "Latest anomalies"), list,
        h("a.more", { href: "/anomalies", "data-link": true }, "All anomalies"))));
  if (query.has("search")) search.focus();

  function group(site) {
    if (!groups.has(site)) {
      const note = h("span.muted");
      const grid = h("div.tiles");
      const section = h("section.site", {}, h("h2.site-name", {}, site, note), grid);
      groups.set(site, { section, grid, note });
      sites.append(section);
    }
    return groups.get(site);
  }

  function arrange() {
    let shown = 0;
    for (const { section } of groups.values()) section.hidden = true;
    for (const tile of tiles.values()) {
      tile.element.hidden = !tile.matches(words, filter);
      if (tile.element.hidden) continue;
      shown += 1;
      groups.get(tile.row.site).section.hidden = false;
    }
    sites.querySelector(".empty")?.remove();
    if (!shown && tiles.size) sites.append(message(filter === "all" ? `No device is called “${words}”.` : "Nothing here needs you.", filter === "all" ? "Press Esc to see all of them." : "Every device is online, healthy and ordinary."));
    if (!tiles.size) sites.append(message("No device has been heard yet.", "Point an agent or any MQTT device at the gateway; headwater demo brings simulated ones."));
  }

  function take(fleet) {
    const f = fleet.figures;
    figures.online.set(`${f.online} / ${f.devices}`, f.online === f.devices ? "all of them" : `${f.devices - f.online} offline`, f.online === f.devices ? "" : "warning");
    figures.attention.set(format.count(f.attention), undefined, f.attention ? "warning" : "");
    figures.anomalies.set(format.count(f.anomalies));
    figures.health.set(f.health_lowest === null ? "–" : String(Math.round(f.health_lowest)), f.health_lowest === null ? "not known yet" : "of 100", f.health_lowest === null ? "" : tone(f.health_lowest));
    figures.stored.set(format.compact(f.readings_stored), "once each");
    figures.unknown.set(format.count(f.unknown), undefined, f.unknown ? "critical" : "ok");
    let isNew = false;
    sites.querySelector(".skeletons")?.remove();
    for (const row of fleet.devices) {
      const key = `${row.site}/${row.device}`;
      const tile = tiles.get(key);
      if (tile) tile.update(row);
      else {
        const made = new Tile(row);
        tiles.set(key, made);
        group(row.site).grid.append(made.element);
        isNew = true;
      }
    }
    for (const site of fleet.sites) {
      const waiting = site.buffered > site.devices ? ` · ${format.count(site.buffered)} frames waiting` : "";
      text(group(site.site).note, `${site.online} of ${site.devices} online${waiting}`);
    }
    if (isNew || filter !== "all" || !tiles.size) arrange();
  }

  function takeAnomalies(rows) {
    recent = merged(recent, rows).slice(0, NEWS_MAX);
    put(list, recent.length ? recent.map(news) : h("li.empty", {}, "None in the last hour."));
  }

  async function load() {
    try {
      const [fleet, anomalies] = await Promise.all([get("fleet"), get("anomalies", { limit: NEWS_MAX })]);
      take(fleet);
      recent = [];
      takeAnomalies(anomalies.rows);
    } catch (error) {
      put(sites, message("The fleet can't be shown now.", error.message));
    }
  }

  live.open(["fleet", "anomalies"], { fleet: take, anomalies: ({ rows }) => takeAnomalies(rows), skipped: load });
  load();
  const timer = setInterval(() => { for (const tile of tiles.values()) tile.update({}); }, 5000);
  return { stop: () => clearInterval(timer) };
}
