"""Who is connected: from births, wills, goodbyes and silence to changes of presence, in the order seen.

A device that speaks Headwater says so itself in its status message, whose will says the opposite. A foreign device
says nothing: it is online from its first message on a connection until that connection ends.
"""

from dataclasses import replace

from headwater.batch import DeviceStatus
from headwater.status import Status


class Presence:
    """Follows devices; connections are told apart by any hashable key.

    >>> presence = Presence()
    >>> [s.online for s in presence.heard("c1", "north", "pump", 5)], presence.heard("c1", "north", "pump", 6)
    ([True], [])
    >>> [s.online for s in presence.gone("c1", 9)]
    [False]
    """

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str], DeviceStatus] = {}
        self._speaker: dict[tuple[str, str], object] = {}
        self._devices: dict[object, set[tuple[str, str]]] = {}

    @property
    def devices(self) -> int:
        """How many devices are known."""
        return len(self._latest)

    @property
    def online(self) -> int:
        """How many devices are online."""
        return sum(status.online for status in self._latest.values())

    def known(self) -> list[tuple[str, str]]:
        """(site, device) of every device that was heard of."""
        return list(self._latest)

    def of(self, site: str, device: str) -> DeviceStatus | None:
        """The latest known presence of a device."""
        return self._latest.get((site, device))

    def speaks_elsewhere(self, connection: object, site: str, device: str) -> bool:
        """Tells whether a device now speaks on another connection than this one."""
        speaker = self._speaker.get((site, device))
        return speaker is not None and speaker is not connection

    def heard(self, connection: object, site: str, device: str, now_us: int) -> list[DeviceStatus]:
        """Notes that a message of a device came on a connection; returns the change, if it is one."""
        who = (site, device)
        if self._speaker.get(who) is connection:
            return []
        self._claim(connection, who)
        latest = self._latest.get(who)
        if latest and latest.online:
            return []
        return [self._keep(replace(latest or DeviceStatus(site, device, 0, online=False), at_us=now_us, online=True))]

    def said(self, connection: object, site: str, device: str, status: Status, now_us: int) -> list[DeviceStatus]:
        """Notes a status message or a will; every one is a change because its figures are new."""
        who = (site, device)
        if status.online:
            self._claim(connection, who)
        elif self._speaker.get(who) is connection:
            self._release(connection, who)
        return [
            self._keep(
                DeviceStatus(
                    site,
                    device,
                    now_us,
                    online=status.online,
                    epoch=status.epoch,
                    assigned=status.assigned,
                    buffered=status.buffered,
                    agent=status.agent,
                    location=status.location,
                )
            )
        ]

    def gone(self, connection: object, now_us: int) -> list[DeviceStatus]:
        """Notes the end of a connection; returns the devices that spoke on it last and were online."""
        changes = []
        for who in sorted(self._devices.pop(connection, ())):
            del self._speaker[who]
            latest = self._latest[who]
            if latest.online:
                changes.append(self._keep(replace(latest, at_us=now_us, online=False)))
        return changes

    def _keep(self, status: DeviceStatus) -> DeviceStatus:
        self._latest[status.site, status.device] = status
        return status

    def _claim(self, connection: object, who: tuple[str, str]) -> None:
        before = self._speaker.get(who)
        if before is connection:
            return
        if before is not None:
            self._devices[before].discard(who)
        self._speaker[who] = connection
        self._devices.setdefault(connection, set()).add(who)

    def _release(self, connection: object, who: tuple[str, str]) -> None:
        del self._speaker[who]
        self._devices[connection].discard(who)
