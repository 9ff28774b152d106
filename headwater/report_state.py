"""What has been reported of each window and series: the revision, and how many readings it held."""

from typing import Any

import numpy as np

from headwater.arrivals import Bool
from headwater.frame import Int64

_Window = tuple[int, int]  # number of the windower, end of the window


class ReportState:
    """Numbers the reports of every window; a report that changes nothing is no revision."""

    __slots__ = ("_windows",)

    def __init__(self) -> None:
        # Rows of each window: series (ascending), revision, count.
        self._windows: dict[_Window, Int64] = {}

    def report(self, window: _Window, series: Int64, count: Int64) -> tuple[Bool, Int64]:
        """Enters reports of some series (ascending, distinct).

        Returns:
            Which of them say something new, and the revision of each.
        """
        had = self._windows.get(window)
        if had is None:
            if len(series):
                self._windows[window] = np.stack([series, np.zeros(len(series), np.int64), count])
            return np.ones(len(series), bool), np.zeros(len(series), np.int64)
        at = np.minimum(np.searchsorted(had[0], series), had.shape[1] - 1)
        known = had[0, at] == series
        changed = ~known | (had[2, at] != count)
        revision = np.where(known, had[1, at] + changed, 0)
        rows = at[known]
        had[1, rows], had[2, rows] = revision[known], count[known]
        if not known.all():
            fresh = np.stack([series, revision, count])[:, ~known]
            had = np.concatenate([had, fresh], axis=1)
            self._windows[window] = had[:, np.argsort(had[0], kind="stable")]
        return changed, revision

    def sweep(self, settled_us: Int64, device_of: Int64) -> None:
        """Forgets reports of windows that ended at or before the settled time of their devices."""
        latest = int(settled_us.max()) if len(settled_us) else 0
        for window in [window for window in self._windows if window[1] <= latest]:
            had = self._windows[window]
            needed = settled_us[device_of[had[0]]] < window[1]
            if not needed.any():
                del self._windows[window]
            elif 2 * np.count_nonzero(needed) < len(needed):
                self._windows[window] = had[:, needed]

    def state(self) -> dict[str, Any]:
        """What `restore` needs, for a snapshot."""
        windows = list(self._windows)
        sizes = [self._windows[window].shape[1] for window in windows]
        tables = [self._windows[window] for window in windows]
        return {
            "report_windows": np.array(windows, np.int64).reshape(-1, 2),
            "report_sizes": np.array(sizes, np.int64),
            "reports": np.concatenate([np.empty((3, 0), np.int64), *tables], axis=1),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Becomes what `state` describes."""
        pieces = np.split(state["reports"], np.cumsum(state["report_sizes"])[:-1], axis=1)
        windows = state["report_windows"].tolist()
        self._windows = {(number, end): piece.copy() for (number, end), piece in zip(windows, pieces, strict=False)}
