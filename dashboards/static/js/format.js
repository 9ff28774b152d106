// Numbers and times for people.

const UNITS = { Cel: "°C", "m3/h": "m³/h", "{rpm}": "rpm", "m/s2": "m/s²", "%": "%", Ohm: "Ω", degC: "°C", C: "°C" };
const clockShort = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const clockMinute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const dayClock = new Intl.DateTimeFormat(undefined, {
  day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", hour12: false,
});
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** A measured value with about four significant digits. */
export function value(x) {
  if (!isNumber(x)) return "–";
  const size = Math.abs(x);
  if (Number.isInteger(x) && size < 1e6) return String(x).replace("-", "−");
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return x.toExponential(2);
  return x.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3).replace("-", "−");
}

export const unit = (text) => UNITS[text] ?? text ?? "";
export const measured = (x, u) => (u ? `${value(x)} ${unit(u)}` : value(x));
export const count = (n) => (isNumber(n) ? whole.format(n) : "–");

/** 12.3k, 4.56M: for rates and big totals. */
export function compact(n) {
  if (!isNumber(n)) return "–";
  const size = Math.abs(n);
  if (size >= 1e9) return `${(n / 1e9).toFixed(2)}G`;
  if (size >= 1e6) return `${(n / 1e6).toFixed(2)}M`;
  if (size >= 1e4) return `${(n / 1e3).toFixed(1)}k`;
  return size >= 100 || Number.isInteger(n) ? whole.format(n) : n.toFixed(1);
}

/** 212 kB, 1.4 MB. */
export function bytes(n) {
  if (!isNumber(n)) return "–";
  if (n < 1e3) return `${Math.round(n)} B`;
  if (n < 1e6) return `${(n / 1e3).toFixed(n < 1e4 ? 1 : 0)} kB`;
  return n < 1e9 ? `${(n / 1e6).toFixed(n < 1e7 ? 1 : 0)} MB` : `${(n / 1e9).toFixed(1)} GB`;
}

/** 4.1 ms, 2.2 s. */
export const millis = (ms) => (!isNumber(ms) ? "–" : ms < 1000 ? `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** "4 s", "12 min", "3.5 h", "2.1 d" for a duration in seconds. */
export function span(seconds) {
  if (!isNumber(seconds)) return "–";
  const n = Math.max(0, seconds);
  if (n < 90) return `${Math.round(n)} s`;
  if (n < 5400) return `${Math.round(n / 60)} min`;
  if (n < 172800) return `${(n / 3600).toFixed(n < 36000 ? 1 : 0)} h`;
  return `${(n / 86400).toFixed(n < 864000 ? 1 : 0)} d`;
}

export const hours = (h) => span(isNumber(h) ? h * 3600 : NaN);

/** "12 s ago" relative to the server's clock. */
export function ago(us, nowUs) {
  if (!us) return "never";
  const seconds = (nowUs - us) / 1e6;
  return seconds < 1.5 ? "now" : `${span(seconds)} ago`;
}

/** "47.37690° N, 8.54170° E", about a metre; nothing where the location is not known. */
export function location(lat, lon) {
  if (!isNumber(lat) || !isNumber(lon)) return "";
  return `${Math.abs(lat).toFixed(5)}° ${lat < 0 ? "S" : "N"}, ${Math.abs(lon).toFixed(5)}° ${lon < 0 ? "W" : "E"}`;
}

export const utc = (us) => (us ? `${new Date(us / 1000).toISOString().replace("T", " ").slice(0, 19)} UTC` : "");
export const time = (us) => clockShort.format(new Date(us / 1000));
export const dateTime = (us) => dayClock.format(new Date(us / 1000));

/** A tick on a time axis, as short as its step allows. */
export function tick(us, stepUs) {
  const at = new Date(us / 1000);
  if (stepUs < 60e6) return clockShort.format(at);
  return stepUs < 86400e6 ? clockMinute.format(at) : dayClock.format(at).split(",")[0];
}

/** "bearing_temp_cel" reads better as "bearing temp"; a unit at the end is said by the unit. */
export function metricName(name) {
  return name.replace(/_(mm_s|m_s2|m_s|m3_h|l_min|cel|bar|a|m3h|rpm|mms|pct|kw|v|hz|lpm|ms2|g|um|mm|pa|kpa)$/i, "").replaceAll("_", " ");
}
