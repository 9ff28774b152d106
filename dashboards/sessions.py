"""Logins to the page: the token is compared in constant time, guesses are few, sessions end when idle; pure."""

import hmac
from collections import OrderedDict, deque

MINUTE_US = 60_000_000
ADDRESSES_MAX = 4096


class Sessions:
    """Knows who has shown the token.

    Session keys are drawn by the caller from a secure source; a session lives on as long as it is used.
    """

    def __init__(self, token: str, *, tries_max: int, idle_us: int, sessions_max: int) -> None:
        self._token = token.encode()
        self._tries_max = tries_max
        self._idle_us = idle_us
        self._sessions_max = sessions_max
        self._used_us: OrderedDict[str, int] = OrderedDict()
        self._failures: OrderedDict[str, deque[int]] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """True when no token is set: whoever reaches the page may see it."""
        return not self._token

    def is_token(self, text: str) -> bool:
        """Compares in constant time."""
        return bool(self._token) and hmac.compare_digest(text.encode(), self._token)

    def is_locked(self, address: str, monotonic_us: int) -> bool:
        """True while `address` has guessed wrong too often within a minute."""
        failures = self._failures.get(address)
        while failures and monotonic_us - failures[0] >= MINUTE_US:
            failures.popleft()
        return failures is not None and len(failures) >= self._tries_max

    def fail(self, address: str, monotonic_us: int) -> None:
        """Counts a wrong guess."""
        self._failures.setdefault(address, deque(maxlen=self._tries_max)).append(monotonic_us)
        self._failures.move_to_end(address)
        while len(self._failures) > ADDRESSES_MAX:
            self._failures.popitem(last=False)

    def start(self, key: str, monotonic_us: int) -> None:
        """Opens a session; the one used longest ago ends when there are too many."""
        self._used_us[key] = monotonic_us
        while len(self._used_us) > self._sessions_max:
            self._used_us.popitem(last=False)

    def is_live(self, key: str, monotonic_us: int) -> bool:
        """Tells whether the session is open and marks it used."""
        used_us = self._used_us.get(key)
        if used_us is None or monotonic_us - used_us > self._idle_us:
            self._used_us.pop(key, None)
            return False
        self._used_us[key] = monotonic_us
        self._used_us.move_to_end(key)
        return True

    def end(self, key: str) -> None:
        """Closes a session."""
        self._used_us.pop(key, None)
