"""Durable acknowledgements (contracts §5): what each device is told, and when; sans-IO.

    what became durable ─▶ note ─▶ due(now) ─▶ one retained Ack per device, at most every `every_us`

A hole is named as missing only when it is `missing_after_us` old, because frames overtake each other; as long as it
stays, it is named again every `repeat_us`, because the message may be lost.
"""

from dataclasses import dataclass, field

from headwater.ack import MISSING_MAX, Ack, AckLevel
from headwater.ports import FrontierRow

REPEAT_FACTOR = 5
EPOCHS_MAX = 4


@dataclass(slots=True)
class _Epoch:
    contiguous: int = 0
    missing: dict[tuple[int, int], int] = field(default_factory=dict)


@dataclass(slots=True)
class _Device:
    epoch: int = 0
    epochs: dict[int, _Epoch] = field(default_factory=dict)
    is_changed: bool = False
    sent_us: int = -1
    look_us: int = -1


class AckBook:
    """Keeps what is durable per device and epoch.

    >>> book = AckBook("store", missing_after_us=2, every_us=1)
    >>> book.note(FrontierRow("north", "pump", 7, 3, ((5, 6),)), now_us=10)
    >>> [(ack.contiguous, ack.missing) for _, _, ack in book.due(10, "log-1")]
    [(3, ())]
    >>> [(ack.contiguous, ack.missing) for _, _, ack in book.due(12, "log-1")]
    [(3, ((4, 4),))]
    """

    def __init__(self, level: AckLevel, *, missing_after_us: int, every_us: int) -> None:
        self._level: AckLevel = level
        self._missing_after_us = missing_after_us
        self._every_us = every_us
        self._repeat_us = missing_after_us * REPEAT_FACTOR
        self._devices: dict[tuple[str, str], _Device] = {}
        self._open: set[tuple[str, str]] = set()
        self._resync = 0

    def again(self, resync: int = 0) -> None:
        """Tells every device again where it stands: acks may have been lost with a connection.

        A `resync` other than 0 goes with all acks from here on: what was on its way to the gateway is lost too.
        """
        self._resync = resync or self._resync
        for device in self._devices.values():
            device.is_changed = True
        self._open.update(self._devices)

    def note(self, row: FrontierRow, now_us: int) -> None:
        """Takes what is durable now of one device and epoch."""
        who = (row.site, row.device)
        device = self._devices.setdefault(who, _Device())
        epoch = device.epochs.pop(row.epoch, None) or _Epoch()
        device.epochs[row.epoch] = epoch
        while len(device.epochs) > EPOCHS_MAX:
            del device.epochs[next(iter(device.epochs))]
        epoch.contiguous = row.contiguous
        holes, below = {}, row.contiguous
        for lo, hi in row.ranges[:MISSING_MAX]:
            hole = (below + 1, lo - 1)
            holes[hole] = epoch.missing.get(hole, now_us)
            below = hi
        epoch.missing = holes
        if device.epoch in {0, row.epoch}:
            device.is_changed = True
            self._open.add(who)

    def connected(self, site: str, device: str, epoch: int) -> None:
        """Notes the epoch that a device says is its present one; it is told where that stands."""
        who = (site, device)
        known = self._devices.setdefault(who, _Device())
        if epoch and known.epoch != epoch:
            known.epoch = epoch
            known.is_changed = True
            self._open.add(who)

    def due(self, now_us: int, log: str, count_max: int = 1 << 30) -> list[tuple[str, str, Ack]]:
        """Returns (site, device, ack) of at most `count_max` devices to be told something now."""
        acks: list[tuple[str, str, Ack]] = []
        for who in list(self._open):
            if len(acks) >= count_max:
                break
            device = self._devices[who]
            if device.sent_us >= 0 and now_us - device.sent_us < self._every_us:
                continue
            if not device.is_changed and now_us < device.look_us:
                continue
            number = device.epoch or next(reversed(device.epochs), 0)
            epoch = device.epochs.get(number)
            if epoch is None:
                self._open.discard(who)
                continue
            missing = tuple(
                hole for hole, since_us in epoch.missing.items() if now_us - since_us >= self._missing_after_us
            )
            acks.append((*who, Ack(number, epoch.contiguous, missing, self._level, log, self._resync)))
            device.is_changed = False
            device.sent_us = now_us
            young = [
                since_us + self._missing_after_us for hole, since_us in epoch.missing.items() if hole not in missing
            ]
            if epoch.missing:
                device.look_us = min([*young, now_us + self._repeat_us])
            else:
                self._open.discard(who)
        return acks
