// A small time-series chart on a canvas: lines with a min–max band, an expected band, marks, a cursor shared by
// all charts of a group, drag to zoom, arrow keys, gaps as gaps. Times are µs. Colours come from CSS variables.

import { h } from "./dom.js";
import { Points } from "./points.js";
import * as format from "./format.js";

const LEFT = 50;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 20;
const STEPS_US = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800].map((s) => s * 1e6);
const charts = new Set();
let isTicking = false;

/** Time range and cursor that charts share; `live()` returns the moving right edge, null stands still. */
export class Group {
  constructor({ spanUs, now }) {
    this.spanUs = spanUs;
    this.now = now;
    this.zoom = null;
    this.cursorUs = null;
    this.members = new Set();
    this.onzoom = null;
  }

  range() {
    if (this.zoom) return this.zoom;
    const end = this.now();
    return [end - this.spanUs, end];
  }

  setZoom(zoom) {
    this.zoom = zoom;
    this.redraw();
    this.onzoom?.(zoom);
  }

  setCursor(us) { this.cursorUs = us; this.redraw(); }

  redraw() {
    for (const chart of this.members) chart.dirty = true;
  }
}

function tickAll() {
  for (const chart of charts) chart.frame();
  isTicking = charts.size > 0;
  if (isTicking) requestAnimationFrame(tickAll);
}

/** Ticks at round values that cut [lo, hi] into about `wanted` parts. */
export function roundTicks(lo, hi, wanted) {
  const raw = (hi - lo) / Math.max(1, wanted);
  if (!(raw > 0) || !Number.isFinite(raw)) return [];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((m) => m >= raw * 0.999);
  const ticks = [];
  for (let i = Math.ceil(lo / step); i * step <= hi + step * 1e-9; i += 1) ticks.push(i * step);
  return ticks;
}

export class Chart {
  /** options: {label, unit, group, height, series: [{key, label, color}], floor: lowest top, zero: include 0, step} */
  constructor({ label, unit = "", group, height = 150, series = [{ key: "v", label: "", color: "--accent" }], zero = false, high = null, dots = false, step = false }) {
    Object.assign(this, { label, unit, group, zero, high, dots, step });
    this.series = series.map((one) => ({ ...one, points: new Points() }));
    this.expected = new Points(4096);
    this.marks = [];
    this.dirty = true;
    this.drag = null;
    this.lastStart = 0;
    this.summaryAt = -Infinity;
    this.read = h("output.chart-read", { "aria-live": "off" });
    this.canvas = h("canvas", { tabindex: 0, role: "img", "aria-label": label });
    this.plot = h("div.chart-plot", { vars: { "--chart-height": `${height}px` } }, this.canvas);
    this.element = h("figure.chart", {}, h("figcaption.chart-head", {}, h("span.chart-name", {}, label), h("span.chart-unit", {}, unit), this.read), this.plot);
    this.pen = this.canvas.getContext("2d");
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.plot);
    this.retheme = () => { this.colors = null; this.dirty = true; };
    addEventListener("themechange", this.retheme);
    this.listen();
    group.members.add(this);
    charts.add(this);
    if (!isTicking) { isTicking = true; requestAnimationFrame(tickAll); }
  }

  destroy() {
    this.observer.disconnect();
    removeEventListener("themechange", this.retheme);
    this.group.members.delete(this);
    charts.delete(this);
  }

  get points() { return this.series[0].points; }

  /** Adds live points to a series; what isn't newer than the last is left out. */
  append(t, v, at = 0) {
    for (let i = 0; i < t.length; i += 1) this.series[at].points.push(t[i], v[i]);
    this.dirty = true;
  }

  /** Takes what the API calls `series`: buckets with minimum and maximum, and the expected band. */
  setBuckets(columns, expected) {
    this.points.set(columns.time_us, columns.mean, columns.min, columns.max);
    this.expected.set(expected.time_us, expected.hi.map((hi, i) => (hi === null ? NaN : (hi + expected.lo[i]) / 2)), expected.lo, expected.hi);
    this.dirty = true;
  }

  setMarks(marks) { this.marks = marks; this.dirty = true; }

  resize() {
    const box = this.plot.getBoundingClientRect();
    const ratio = Math.min(3, devicePixelRatio || 1);
    this.width = Math.round(box.width);
    this.height = Math.round(box.height);
    this.canvas.width = Math.round(box.width * ratio);
    this.canvas.height = Math.round(box.height * ratio);
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.dirty = true;
    this.draw();
  }

  color(name) {
    this.colors ??= {};
    this.colors[name] ??= getComputedStyle(this.canvas).getPropertyValue(name).trim() || "#888";
    return this.colors[name];
  }

  /** Draws if something changed, or if the live edge has moved by half a pixel. */
  frame() {
    if (!this.width) return;
    const [start, end] = this.group.range();
    const pixelUs = (end - start) / (this.width - LEFT - RIGHT);
    if (this.dirty || Math.abs(start - this.lastStart) >= pixelUs / 2) this.draw();
  }

  x(us) { return LEFT + ((us - this.t0) / (this.t1 - this.t0)) * (this.width - LEFT - RIGHT); }

  y(v) { return TOP + (1 - (v - this.v0) / (this.v1 - this.v0)) * (this.height - TOP - BOTTOM); }

  timeAt(px) { return this.t0 + ((px - LEFT) / (this.width - LEFT - RIGHT)) * (this.t1 - this.t0); }

  scale() {
    let lo = this.zero ? 0 : Infinity;
    let hi = this.zero ? 0 : -Infinity;
    const take = (a, b) => { if (a < lo) lo = a; if (b > hi) hi = b; };
    for (const { points } of this.series) {
      for (let i = Math.max(0, points.from(this.t0) - 1); i < points.length && points.t[i] <= this.t1; i += 1) take(points.lo[i], points.hi[i]);
    }
    for (let i = this.expected.from(this.t0); i < this.expected.length && this.expected.t[i] <= this.t1; i += 1) take(this.expected.lo[i], this.expected.hi[i]);
    // Some detectors score another quantity than the metric: a mark far from all values stands at the line instead.
    const [least, most] = [lo - 1.5 * (hi - lo), hi + 1.5 * (hi - lo)];
    for (const { t, v } of this.marks) if (t >= this.t0 && t <= this.t1 && v >= least && v <= most) take(v, v);
    if (this.high !== null) hi = Math.max(hi, this.high);
    if (!(lo <= hi)) [lo, hi] = [0, 1];
    const pad = (hi - lo || Math.abs(hi) || 1) * 0.08;
    this.v0 = this.zero ? Math.min(0, lo) : lo - pad;
    this.v1 = hi + pad;
  }

  draw() {
    if (!this.width || this.width < LEFT + RIGHT + 10) return;
    [this.t0, this.t1] = this.group.range();
    this.lastStart = this.t0;
    this.dirty = false;
    this.scale();
    const pen = this.pen;
    pen.clearRect(0, 0, this.width, this.height);
    this.drawAxes();
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, 0, this.width - LEFT - RIGHT, this.height - BOTTOM + 1);
    pen.clip();
    this.drawExpected();
    for (const one of this.series) this.drawSeries(one);
    for (const mark of this.marks) this.drawMark(mark);
    this.drawCursor();
    pen.restore();
    this.say();
  }

  drawAxes() {
    const pen = this.pen;
    const bottom = this.height - BOTTOM;
    pen.font = `11px ${this.color("--font")}`;
    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const v of roundTicks(this.v0, this.v1, Math.max(2, Math.floor(bottom / 26)))) {
      const y = Math.round(this.y(v)) + 0.5;
      pen.strokeStyle = this.color("--grid");
      pen.beginPath(); pen.moveTo(LEFT, y); pen.lineTo(this.width - RIGHT, y); pen.stroke();
      pen.fillStyle = this.color("--ink-3");
      pen.fillText(Math.abs(v) >= 1e4 ? format.compact(v) : String(Number(v.toPrecision(4))).replace("-", "−"), LEFT - 8, y);
    }
    const wanted = Math.max(2, Math.floor((this.width - LEFT - RIGHT) / 110));
    const step = STEPS_US.find((one) => one >= (this.t1 - this.t0) / wanted) ?? STEPS_US.at(-1);
    const zone = new Date(this.t1 / 1000).getTimezoneOffset() * 60e6;
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    for (let t = Math.ceil((this.t0 - zone) / step) * step + zone; t <= this.t1; t += step) {
      const x = Math.round(this.x(t)) + 0.5;
      pen.strokeStyle = this.color("--grid");
      pen.beginPath(); pen.moveTo(x, bottom); pen.lineTo(x, bottom + 4); pen.stroke();
      const words = format.tick(t, step);
      const half = pen.measureText(words).width / 2;
      pen.fillStyle = this.color("--ink-3");
      if (x - half >= LEFT - 14 && x + half <= this.width) pen.fillText(words, x, this.height - 4);
    }
    pen.strokeStyle = this.color("--line");
    pen.beginPath(); pen.moveTo(LEFT, bottom + 0.5); pen.lineTo(this.width - RIGHT, bottom + 0.5); pen.stroke();
  }

  /** Calls `run(from, to)` for each stretch of visible points without a gap. */
  stretches(points, run) {
    const gap = points.gap((this.t1 - this.t0) / 400);
    const first = Math.max(0, points.from(this.t0) - 1);
    let from = first;
    let i = first;
    for (; i < points.length; i += 1) {
      const isBroken = i > from && (points.t[i] - points.t[i - 1] > gap || Number.isNaN(points.v[i]));
      if (isBroken) { run(from, i); from = Number.isNaN(points.v[i]) ? i + 1 : i; }
      if (points.t[i] > this.t1) { i += 1; break; }
    }
    if (i > from) run(from, i);
  }

  band(points, from, to) {
    const pen = this.pen;
    pen.beginPath();
    for (let i = from; i < to; i += 1) pen.lineTo(this.x(points.t[i]), this.y(points.hi[i]));
    for (let i = to - 1; i >= from; i -= 1) pen.lineTo(this.x(points.t[i]), this.y(points.lo[i]));
    pen.closePath();
  }

  drawExpected() {
    const pen = this.pen;
    this.stretches(this.expected, (from, to) => {
      this.band(this.expected, from, to);
      pen.fillStyle = this.color("--expected-fill");
      pen.fill();
      pen.strokeStyle = this.color("--expected");
      pen.lineWidth = 1;
      pen.setLineDash([3, 3]);
      for (const side of [this.expected.lo, this.expected.hi]) {
        pen.beginPath();
        for (let i = from; i < to; i += 1) pen.lineTo(this.x(this.expected.t[i]), this.y(side[i]));
        pen.stroke();
      }
      pen.setLineDash([]);
    });
  }

  drawSeries({ points, color }) {
    const pen = this.pen;
    this.stretches(points, (from, to) => {
      this.band(points, from, to);
      pen.globalAlpha = 0.2;
      pen.fillStyle = this.color(color);
      pen.fill();
      pen.globalAlpha = 1;
      pen.strokeStyle = this.color(color);
      pen.lineWidth = 1.6;
      pen.lineJoin = "round";
      pen.beginPath();
      for (let i = from; i < to; i += 1) {
        if (this.step && i > from) pen.lineTo(this.x(points.t[i]), this.y(points.v[i - 1]));
        pen.lineTo(this.x(points.t[i]), this.y(points.v[i]));
      }
      pen.stroke();
      const pixels = (this.x(points.t[to - 1]) - this.x(points.t[from])) / Math.max(1, to - from);
      if (to - from === 1 || this.dots) {
        pen.fillStyle = this.color(color);
        const radius = Math.min(2.6, Math.max(1.2, pixels / 3));
        for (let i = from; i < to; i += 1) { pen.beginPath(); pen.arc(this.x(points.t[i]), this.y(points.v[i]), radius, 0, 7); pen.fill(); }
      }
    });
  }

  /** A critical mark is a triangle, a warning a diamond, an information a circle; the bracket is what was expected. */
  drawMark({ t, v, lo, hi, severity }) {
    if (t < this.t0 || t > this.t1) return;
    const pen = this.pen;
    const x = this.x(t);
    const near = this.points.nearest(t);
    const at = v >= this.v0 && v <= this.v1 ? v : near < 0 ? NaN : this.points.v[near];
    const y = format.isNumber(at) ? this.y(at) : TOP + 8;
    pen.strokeStyle = pen.fillStyle = this.color(severity === "critical" ? "--crit" : severity === "warning" ? "--warn" : "--ink-3");
    pen.lineWidth = 1;
    pen.globalAlpha = 0.55;
    pen.beginPath(); pen.moveTo(x, TOP); pen.lineTo(x, this.height - BOTTOM); pen.stroke();
    pen.globalAlpha = 1;
    if (format.isNumber(lo) && format.isNumber(hi)) {
      pen.beginPath();
      pen.moveTo(x - 4, this.y(lo)); pen.lineTo(x + 4, this.y(lo)); pen.moveTo(x - 4, this.y(hi)); pen.lineTo(x + 4, this.y(hi));
      pen.stroke();
    }
    pen.beginPath();
    if (severity === "critical") { pen.moveTo(x, y - 6); pen.lineTo(x + 6, y + 5); pen.lineTo(x - 6, y + 5); }
    else if (severity === "warning") { pen.moveTo(x, y - 6); pen.lineTo(x + 6, y); pen.lineTo(x, y + 6); pen.lineTo(x - 6, y); }
    else pen.arc(x, y, 4, 0, 7);
    pen.closePath();
    pen.fill();
    pen.strokeStyle = this.color("--surface");
    pen.lineWidth = 1.5;
    pen.stroke();
  }

  drawCursor() {
    const pen = this.pen;
    if (this.drag && Math.abs(this.drag.to - this.drag.from) > 3) {
      pen.fillStyle = this.color("--select");
      pen.fillRect(Math.min(this.drag.from, this.drag.to), TOP, Math.abs(this.drag.to - this.drag.from), this.height - TOP - BOTTOM);
    }
    const at = this.group.cursorUs;
    if (at === null || at < this.t0 || at > this.t1) return;
    pen.strokeStyle = this.color("--ink-3");
    pen.lineWidth = 1;
    const x = Math.round(this.x(at)) + 0.5;
    pen.beginPath(); pen.moveTo(x, TOP); pen.lineTo(x, this.height - BOTTOM); pen.stroke();
    for (const { points, color } of this.series) {
      const i = points.nearest(at);
      if (i < 0 || Math.abs(points.t[i] - at) > points.gap(0) || Number.isNaN(points.v[i])) continue;
      pen.fillStyle = this.color(color);
      pen.strokeStyle = this.color("--surface");
      pen.lineWidth = 2;
      pen.beginPath(); pen.arc(this.x(points.t[i]), this.y(points.v[i]), 4, 0, 7); pen.fill(); pen.stroke();
    }
  }

  /** Writes the read-out and, at most every two seconds, the summary for screen readers. */
  say() {
    const at = this.group.cursorUs;
    const parts = this.series.map((one) => {
      const { points } = one;
      const i = at === null ? points.length - 1 : points.nearest(at);
      if (i < 0) return "no data";
      if (at !== null && Math.abs(points.t[i] - at) > points.gap(0)) return `${one.label} gap`.trim();
      const spread = points.hi[i] - points.lo[i] > 1e-9 ? ` (${format.value(points.lo[i])} … ${format.value(points.hi[i])})` : "";
      return `${one.label} ${format.value(points.v[i])}${at === null ? "" : spread}`.trim();
    });
    const mark = at === null ? null : this.marks.find((one) => Math.abs(this.x(one.t) - this.x(at)) < 7);
    const words = `${parts.join(" · ")}${at === null ? "" : `  ${format.time(at)}`}${mark ? `  ${mark.text}` : ""}`;
    if (this.read.textContent !== words) this.read.textContent = words;
    const now = performance.now();
    if (now - this.summaryAt < 2000) return;
    this.summaryAt = now;
    const seen = this.marks.filter((one) => one.t >= this.t0 && one.t <= this.t1).length;
    this.canvas.setAttribute("aria-label", `${this.label} in ${this.unit || "its own unit"} over ${format.span((this.t1 - this.t0) / 1e6)}: now ${parts.join(", ")}; shown from ${format.value(this.v0)} to ${format.value(this.v1)}; ${seen} anomalies. Arrow keys move the cursor.`);
  }

  listen() {
    const { canvas, group } = this;
    const clamp = (px) => Math.min(this.width - RIGHT, Math.max(LEFT, px));
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const px = clamp(event.offsetX);
      if (event.pointerType === "mouse") { this.drag = { from: px, to: px }; canvas.setPointerCapture(event.pointerId); }
      group.setCursor(this.timeAt(px));
    });
    canvas.addEventListener("pointermove", (event) => {
      const px = clamp(event.offsetX);
      if (this.drag) this.drag.to = px;
      group.setCursor(this.timeAt(px));
    });
    canvas.addEventListener("pointerup", () => {
      const drag = this.drag;
      this.drag = null;
      if (drag && Math.abs(drag.to - drag.from) > 6) group.setZoom([this.timeAt(Math.min(drag.from, drag.to)), this.timeAt(Math.max(drag.from, drag.to))]);
    });
    canvas.addEventListener("pointerleave", () => { if (!this.drag) group.setCursor(null); });
    canvas.addEventListener("pointercancel", () => { this.drag = null; });
    canvas.addEventListener("dblclick", () => group.setZoom(null));
    canvas.addEventListener("blur", () => group.setCursor(null));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const { group, points } = this;
    const [t0, t1] = group.range();
    const step = event.shiftKey ? 10 : 1;
    const here = group.cursorUs ?? t1;
    const i = points.nearest(here);
    const to = (n) => group.setCursor(points.t[Math.max(points.from(t0), Math.min(points.length - 1, n))]);
    const around = (factor) => group.setZoom([here - (here - t0) * factor, here + (t1 - here) * factor]);
    if (event.key === "ArrowLeft" && i >= 0) to(i - step);
    else if (event.key === "ArrowRight" && i >= 0) to(i + step);
    else if (event.key === "Home" && i >= 0) to(points.from(t0));
    else if (event.key === "End" && i >= 0) to(points.length - 1);
    else if (event.key === "+" || event.key === "=") around(0.5);
    else if (event.key === "-") around(2);
    else if (event.key === "Escape") { group.setZoom(null); group.setCursor(null); }
    else return;
    this.read.setAttribute("aria-live", "polite");
    event.preventDefault();
  }
}
