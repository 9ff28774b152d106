"""What the page reads from a store, as a protocol; `headwater.io.store_sqlite_query.StoreReader` is one.

Rows are mappings with the names of contracts §8 and columns are arrays of one length, so that any store can answer.
Every method may block: the page calls them in worker threads, several at a time.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Row = Mapping[str, Any]
Columns = Mapping[str, Any]


class Reader(Protocol):
    """Answers the page's questions; times are int64 µs, intervals `[start_us, end_us)`, rows newest first."""

    def devices(self) -> Sequence[Row]:
        """One row a device: site, device, online, last_us (newest event time), received_us, buffered, agent, metrics.

        `metrics` maps a name to {"last_us", "value", "quality"}, and {"unit", "lo", "hi"} as far as they are known.
        """

    def device(self, site: str, device: str) -> Row | None:
        """The same row for one device; None if it is unknown."""

    def series(self, site: str, device: str, metric: str, start_us: int, end_us: int, points_max: int) -> Columns:
        """At most `points_max` buckets that hold readings: time_us, mean, min, max, count."""

    def raw(self, site: str, device: str, metric: str, start_us: int, end_us: int, limit: int) -> Columns:
        """The oldest `limit` readings that the edge kept, ascending: time_us, value, quality."""

    def windows(self, site: str, device: str, metric: str, window: str, start_us: int, end_us: int) -> Columns:
        """Reported windows, ascending: time_us, mean, min, max, std, p50, p95, p99, count, late, revision."""

    def anomalies(
        self, start_us: int, end_us: int, limit: int, *, site: str | None = None, device: str | None = None
    ) -> Sequence[Row]:
        """Anomalies: time_us, site, device, metric, detector, severity, score, value, expected, lo, hi, message."""

    def health(self, site: str | None = None, device: str | None = None) -> Sequence[Row]:
        """The newest row per device and component: time_us, site, device, component, health, rul_h, rul_lo, rul_hi."""

    def health_history(self, site: str, device: str, start_us: int, end_us: int, limit: int) -> Sequence[Row]:
        """Health rows of one device in an interval."""

    def gaps(self, limit: int) -> Sequence[Row]:
        """Declared gaps: declared_us, site, device, epoch, from_seq, to_seq, reason, readings."""

    def alerts(self, limit: int) -> Sequence[Row]:
        """Alerts: time_us, site, device, rule, severity, state, value, message."""

    def accounts(self) -> Sequence[Row]:
        """One row a device and epoch, the fields of `headwater.points.DeviceAccount`."""

    def dead_letters(self, limit: int) -> Sequence[Row]:
        """Dead letters, the fields of `headwater.batch.DeadLetter`."""

    def newest_us(self) -> int:
        """The newest event time in the store; 0 if it is empty."""
