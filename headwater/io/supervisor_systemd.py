"""Tells systemd how the process is doing: the datagrams of sd_notify(3), without its library."""

import logging
import os
import socket
from collections.abc import Mapping

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"
# A third of systemd's patience, so that one ping may be late and one lost.
PINGS_PER_PATIENCE = 3


_messages = logging.getLogger(__name__)


class Supervisor:
    """The service manager that started this process; without one, every method does nothing.

    Args:
        environment: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID as systemd sets them.

    Attributes:
        ping_every_us: how often `alive` has to say something; 0 if nobody waits for it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        patience_us = int(environment.get("WATCHDOG_USEC") or 0)
        is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.ping_every_us = patience_us // PINGS_PER_PATIENCE if self._address and is_ours else 0
        self._said_us: int | None = None

    def ready(self, status: str) -> None:
        """Says that the process does its work; `status` is a line for `systemctl status`."""
        self._tell(f"{READY}\nSTATUS={_one_line(status)}")

    def alive(self, now_us: int) -> None:
        """Says that the main loop turns, when it is time; `now_us` is monotonic. Call it from that loop only."""
        if not self.ping_every_us or (self._said_us is not None and now_us - self._said_us < self.ping_every_us):
            return
        self._said_us = now_us
        self._tell(ALIVE)

    def stopping(self, status: str) -> None:
        """Says that it has begun to end."""
        self._tell(f"{STOPPING}\nSTATUS={_one_line(status)}")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        # A name that begins with "@" lies in Linux's abstract namespace, where a zero byte stands for the sign.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(1.0)
            try:
                channel.sendto(text.encode(), address)
            except OSError as error:
                # Not worth the process: systemd notices the silence by itself and acts on it.
                _messages.warning("systemd at %s can't be told %s: %s", self._address, text.splitlines()[0], error)


def _one_line(text: str) -> str:
    return " ".join(text.split())
