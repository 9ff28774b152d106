"""Deadband: sends a reading that is further than ε from the last one sent; between them the last one holds."""

from collections.abc import Sequence

from edge_agent.line import NEVER, NOTHING, Line, Point


class Deadband(Line):
    """Deadband against the last reading *sent*, so that slow drift can't creep past; with a heartbeat.

    >>> [point.value for point in Deadband(0.5, 60_000_000).push([1, 2, 3, 4], [0.0, 0.4, 0.6, 0.7])]
    [0.0, 0.6]
    """

    def __init__(self, epsilon: float, gap_max_us: int) -> None:
        super().__init__(epsilon, gap_max_us)
        self._last, self._last_us = 0.0, NEVER

    def step(self, time_us: int, value: float) -> Sequence[Point]:
        """Takes one good reading: as `push`, without its lists."""
        error = abs(value - self._last)
        if error <= self.epsilon and time_us < self._last_us + self._gap_max_us and not self._quality:
            if error > self.error_max:  # noqa: PLR1730  written out, max costs more than the rest
                self.error_max = error
            self.seen += 1
            self.suppressed += 1
            return NOTHING
        return self.push((time_us,), (value,))

    def _run(self, times_us: Sequence[int], values: Sequence[float]) -> list[Point]:
        points: list[Point] = []
        last, due_us, error_max = self._last, self._last_us + self._gap_max_us, self.error_max
        epsilon, quality = self.epsilon, self._line_quality
        for time_us, value in zip(times_us, values, strict=True):
            error = abs(value - last)
            if error <= epsilon and time_us < due_us:
                if error > error_max:  # noqa: PLR1730  as above
                    error_max = error
            else:
                points.append(Point(time_us, value, quality, False))
                last, self._last_us = value, time_us
                due_us = time_us + self._gap_max_us
        self._last, self.error_max = last, error_max
        self.suppressed += len(values) - len(points)
        return points

    def _exact(self, time_us: int, value: float) -> list[Point]:
        self._last, self._last_us = value, time_us
        return []

    def _finish(self) -> list[Point]:
        self._last_us = NEVER
        return []
