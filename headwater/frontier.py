"""Which sequence numbers of one device and epoch have been seen: a contiguous mark and ranges above it.

The gateway keeps one per device to acknowledge, the processor one to deduplicate. It never expires. Cost is
O(1) for frames in order and O(ranges) otherwise; ranges are bounded by `RANGES_MAX`.
"""

from bisect import bisect_right

RANGES_MAX = 256


class Frontier:
    """A set of sequence numbers 1, 2, 3 … kept as `contiguous` (all up to here) and ranges above.

    >>> f = Frontier()
    >>> [f.add(n) for n in (1, 2, 5, 2)]
    [True, True, True, False]
    >>> f.contiguous, f.ranges, f.missing()
    (2, [(5, 5)], [(3, 4)])
    """

    __slots__ = ("_hi", "_lo", "contiguous")

    def __init__(self, contiguous: int = 0, ranges: list[tuple[int, int]] | None = None) -> None:
        self.contiguous = contiguous
        self._lo = [lo for lo, _ in ranges or ()]
        self._hi = [hi for _, hi in ranges or ()]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Inclusive ranges above the contiguous mark, ascending and apart."""
        return list(zip(self._lo, self._hi, strict=True))

    @property
    def range_count(self) -> int:
        """How many ranges there are, without listing them."""
        return len(self._lo)

    @property
    def highest(self) -> int:
        """The highest number seen, 0 if none."""
        return self._hi[-1] if self._hi else self.contiguous

    @property
    def is_full(self) -> bool:
        """True when another separate range would break the bound; the caller parks the frame or asks for the gap."""
        return len(self._lo) >= RANGES_MAX

    def __contains__(self, seq: int) -> bool:
        if seq <= self.contiguous:
            return True
        at = bisect_right(self._lo, seq) - 1
        return at >= 0 and seq <= self._hi[at]

    def add(self, seq: int) -> bool:
        """Adds one number; False if it was there already."""
        if seq == self.contiguous + 1 and not self._lo:
            self.contiguous = seq
            return True
        if seq in self:
            return False
        self.add_range(seq, seq)
        return True

    def add_range(self, lo: int, hi: int) -> None:
        """Adds all numbers from `lo` to `hi`, both inclusive; those already there stay."""
        if hi <= self.contiguous:
            return
        lo = max(lo, self.contiguous + 1)
        start = bisect_right(self._hi, lo - 2)
        end = bisect_right(self._lo, hi + 1)
        if start < end:
            lo, hi = min(lo, self._lo[start]), max(hi, self._hi[end - 1])
        self._lo[start:end] = [lo]
        self._hi[start:end] = [hi]
        if self._lo[0] == self.contiguous + 1:
            self.contiguous = self._hi[0]
            del self._lo[0], self._hi[0]

    def missing(self) -> list[tuple[int, int]]:
        """The inclusive ranges between the contiguous mark and the highest number that are not here."""
        after = [self.contiguous, *self._hi]
        return [(below + 1, lo - 1) for below, lo in zip(after, self._lo, strict=False)]
