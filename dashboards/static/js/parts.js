// Parts that several screens share: empty states, skeletons, what an anomaly says, tables.

import { h, put, s, status, text } from "./dom.js";
import * as format from "./format.js";

/** A figure with its name: the strip on top of a screen. */
export function figure(name, { hint = "", kind = "" } = {}) {
  const value = h("dd.figure-value", {}, "–");
  const note = h("dd.figure-note", {}, hint);
  const element = h("div.figure", { class: kind }, h("dt.figure-name", {}, name), value, note);
  return { element, set: (words, extra = hint, tone = "") => { text(value, words); text(note, extra); element.dataset.tone = tone; } };
}

/** An empty state: what is so, and what to do. */
export const message = (what, todo = "") => h("div.empty", { role: "status" }, h("strong", {}, what), todo && h("span", {}, todo));

export const loading = (n) => h("div.skeletons", { "aria-hidden": "true" }, Array.from({ length: n }, () => h("div.skeleton")));

/** How a health of 0 to 100 is shown. */
export const tone = (health) => (health < 30 ? "critical" : health < 60 ? "warning" : "ok");

export const severityKind = (severity) => (["critical", "warning"].includes(severity) ? severity : "info");

/** Draws where the value lies against the band that was expected, as one horizontal scale. */
export function scaleOf(row) {
  const numbers = [row.value, row.expected, row.lo, row.hi].filter(format.isNumber);
  if (!format.isNumber(row.value) || numbers.length < 2) return null;
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const pad = (high - low || 1) * 0.12;
  const x = (v) => (((v - low + pad) / (high - low + 2 * pad)) * 300).toFixed(1);
  const hasBand = format.isNumber(row.lo) && format.isNumber(row.hi);
  return s("svg", { class: "scale", viewBox: "0 0 300 34", preserveAspectRatio: "xMinYMid", role: "img", "aria-label": `value ${format.value(row.value)}, expected ${format.value(row.lo)} to ${format.value(row.hi)}` },
    s("path", { class: "scale-axis", d: "M0 17H300" }),
    hasBand && s("rect", { class: "scale-band", x: x(row.lo), y: 9, width: Math.max(1, x(row.hi) - x(row.lo)), height: 16, rx: 3 }),
    format.isNumber(row.expected) && s("path", { class: "scale-expected", d: `M${x(row.expected)} 6V28` }),
    s("path", { class: `scale-value ${severityKind(row.severity)}`, d: `M${x(row.value)} 9l8 8-8 8-8-8z` }));
}

/** Adds anomalies to those that are known, each once, newest first. */
export function merged(known, fresh) {
  const byKey = new Map();
  for (const row of [...known, ...fresh]) byKey.set([row.site, row.device, row.metric, row.detector, row.severity, row.time_us].join("|"), row);
  return [...byKey.values()].sort((a, b) => b.time_us - a.time_us);
}

/** Why: the sentence, the numbers, the drawing. */
export function why(row) {
  const term = (name, words) => h("div", {}, h("dt", {}, name), h("dd", {}, words));
  return h("div.why", {},
    h("dl.terms", {},
      term("Value", format.value(row.value)),
      term("Expected", format.value(row.expected)),
      term("Band", `${format.value(row.lo)} … ${format.value(row.hi)}`),
      term("Score", `${format.value(row.score)} × its limit`),
      term("Detector", row.detector)),
    scaleOf(row),
    h("p.legend", {}, "◆ what was measured · │ what was expected · shaded: what would have been ordinary"));
}

/** How long ago: main.js keeps the words true while they are on the page. */
export const age = (us, nowUs) => h("span.age", { "data-us": us }, format.ago(us, nowUs));

export function when(us, nowUs) {
  return h("time", { title: format.utc(us), datetime: new Date(us / 1000).toISOString() }, format.dateTime(us), " ", h("span.muted", {}, age(us, nowUs)));
}

/** A table that turns into cards on a narrow screen: each cell carries its column's name. */
export function table(caption, columns, rows) {
  const body = rows.map((cells) => h("tr", {}, cells.map((cell, i) => h("td", { "data-name": columns[i].name, class: columns[i].kind ?? "" }, cell))));
  return h("div.table-scroll", {}, h("table.table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, columns.map((one) => h("th", { scope: "col", class: one.kind ?? "" }, one.name)))), h("tbody", {}, body)));
}

/** The account of frames: the equation with its numbers, and a bar of the parts. */
export function account() {
  const parts = [["stored", "Stored"], ["dead_lettered", "Dead letters"], ["gap", "Declared gap"], ["in_flight", "In flight"]];
  const element = h("div.account");
  return {
    element,
    set(sums) {
      const total = Math.max(1, sums.assigned);
      put(element,
        h("div.equation", {}, h("span.term", { class: "total" }, h("b", {}, format.count(sums.assigned)), h("span", {}, "Assigned")),
          parts.map(([key, label], i) => h("span.signed", {}, h("span.sign", { "aria-hidden": "true" }, i ? "+" : "="), h("span.term", { "data-part": key }, h("b", {}, format.count(sums[key])), h("span", {}, label))))),
        h("div.stack", { "aria-hidden": "true" }, parts.map(([key]) => h("span.stack-part", { "data-part": key, vars: { "--part": sums[key] / total } }))),
        h("div.verdict", { class: sums.unknown ? "bad" : "good" }, status(sums.unknown ? "critical" : "ok", `Unknown ${format.count(sums.unknown)}`),
          h("span", {}, sums.unknown ? "Frames are missing without a record: run headwater doctor." : "Every frame that a device took a number for is accounted for.")));
    },
  };
}
