// A small line without axes, as SVG: it says whether, the chart says what.

import { s } from "./dom.js";

const WIDTH = 200;
const HEIGHT = 40;

/** Draws spark = {time_us, mean, start_us, end_us} into an SVG element made by `sparkline()`. */
export function drawSpark(svg, spark) {
  const [area, line, dot] = svg.children;
  const { time_us: t, mean: v, end_us: end } = spark;
  const start = Math.min(t[0] ?? spark.start_us, end - 60e6);
  let lo = Math.min(...v.filter((one) => one !== null));
  let hi = Math.max(...v.filter((one) => one !== null));
  if (!(hi - lo > 1e-9)) { lo -= 1; hi += 1; }
  const x = (us) => ((us - start) / (end - start)) * WIDTH;
  const y = (value) => 3 + (1 - (value - lo) / (hi - lo)) * (HEIGHT - 6);
  const step = t.length > 2 ? (t[t.length - 1] - t[0]) / (t.length - 1) : Infinity;
  let path = "";
  let fill = "";
  let from = null;
  let last = null;
  const close = () => { if (last !== null) fill += `L${x(last.t).toFixed(1)} ${HEIGHT}L${x(from).toFixed(1)} ${HEIGHT}Z`; };
  for (let i = 0; i < t.length; i += 1) {
    if (v[i] === null) continue;
    const isNew = last === null || t[i] - last.t > 4 * step;
    if (isNew) { close(); from = t[i]; }
    const point = `${isNew ? "M" : "L"}${x(t[i]).toFixed(1)} ${y(v[i]).toFixed(1)}`;
    path += point;
    fill += point;
    last = { t: t[i], v: v[i] };
  }
  close();
  line.setAttribute("d", path);
  area.setAttribute("d", fill);
  if (last) dot.setAttribute("d", `M${x(last.t).toFixed(1)} ${y(last.v).toFixed(1)}h0.01`);
}

export function sparkline() {
  return s(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    s("path", { class: "spark-area" }),
    s("path", { class: "spark-line" }),
    s("path", { class: "spark-dot" }),
  );
}
