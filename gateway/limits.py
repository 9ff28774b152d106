"""How much of something may happen per second: a token bucket."""


class TokenBucket:
    """Grants `rate_max` tokens per second on average and up to `burst_max` at once; time is an argument.

    >>> bucket = TokenBucket(rate_max=10, burst_max=2, now_us=0)
    >>> [bucket.take(1, 0) for _ in range(3)], bucket.take(1, 100_000)
    ([True, True, False], True)
    """

    __slots__ = ("_at_us", "_burst_max", "_level", "_rate_max")

    def __init__(self, rate_max: float, burst_max: float, now_us: int) -> None:
        self._rate_max = rate_max
        self._burst_max = burst_max
        self._level = burst_max
        self._at_us = now_us

    def take(self, tokens: float, now_us: int) -> bool:
        """Takes tokens if there are enough (a clock that steps back grants none, and from there on as ever); a request above the burst is granted when the bucket is full."""
        if now_us > self._at_us:
            self._level = min(self._burst_max, self._level + (now_us - self._at_us) * self._rate_max / 1e6)
        self._at_us = now_us
        if self._level < min(tokens, self._burst_max):
            return False
        self._level -= tokens
        return True
