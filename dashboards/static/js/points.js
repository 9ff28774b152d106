// Columns of a time series in typed arrays: appended at the end, the oldest quarter leaves when they are full.

// A deadband or a swing is silent while nothing changes, up to its hold.
const SPARSE_US = 2e6;
const HOLD_US = 65e6;

export class Points {
  constructor(capacity = 8192) {
    this.capacity = capacity;
    this.length = 0;
    this.t = new Float64Array(capacity);
    this.v = new Float64Array(capacity);
    this.lo = new Float64Array(capacity);
    this.hi = new Float64Array(capacity);
  }

  /** Takes whole columns; lo and hi default to v. */
  set(t, v, lo = v, hi = v) {
    this.length = 0;
    for (let i = Math.max(0, t.length - this.capacity); i < t.length; i += 1) this.push(t[i], v[i], lo[i], hi[i]);
  }

  /** Adds a point; one that isn't newer than the last is left out. False if it was. */
  push(t, v, lo = v, hi = v) {
    if (this.length && t <= this.t[this.length - 1]) return false;
    if (this.length === this.capacity) {
      const quarter = this.capacity >> 2;
      for (const column of [this.t, this.v, this.lo, this.hi]) column.copyWithin(0, quarter);
      this.length -= quarter;
    }
    const i = this.length;
    this.t[i] = t;
    this.v[i] = v ?? NaN;
    this.lo[i] = lo ?? NaN;
    this.hi[i] = hi ?? NaN;
    this.length += 1;
    return true;
  }

  /** Index of the first point at or after `t`. */
  from(t) {
    let lo = 0;
    let hi = this.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (this.t[mid] < t) lo = mid + 1;
      else hi = mid;
    }
    return lo;
  }

  /** Index of the point nearest to `t`, -1 if there is none. */
  nearest(t) {
    if (!this.length) return -1;
    const i = this.from(t);
    if (i === 0) return 0;
    if (i === this.length) return i - 1;
    return t - this.t[i - 1] <= this.t[i] - t ? i - 1 : i;
  }

  /**
   * The distance beyond which two neighbours are apart (a gap): five times the median distance, three times the
   * 95th percentile, at least `least`; and where readings are sparse, the time for which the edge may be silent.
   */
  gap(least) {
    const n = this.length;
    if (n < 3) return Infinity;
    const steps = [];
    for (let i = Math.max(1, n - 257); i < n; i += 1) steps.push(this.t[i] - this.t[i - 1]);
    steps.sort((a, b) => a - b);
    const median = steps[steps.length >> 1];
    return Math.max(least, median > SPARSE_US ? HOLD_US : 0, 5 * median, 3 * steps[Math.floor(steps.length * 0.95)]);
  }
}
