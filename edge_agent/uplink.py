"""Sends the spool's frames and frees what the pipeline acknowledges; a state machine over an `MqttLink`.

    spool ─▶ urgent ─▶ live ─▶ earlier epochs ─▶ backlog ─▶ publish (QoS 1) ─▶ PUBACK: room for the next
      ▲                                                                              │
      └──────────────── durable ack (contiguous, missing) ◀── gateway ◀──────────────┘

A PUBACK frees nothing. A frame is sent again when the gateway names it missing, when no durable ack comes for long, and
after every reconnect, and when a broker lost what was on its way (`Ack.resync`). No clock, socket or queue of its own: the spool is the queue, and the window is bounded.
"""

from collections.abc import Callable

from edge_agent.pack import Lane
from edge_agent.spool import Spool, SpoolUnavailableError
from edge_agent.spool_rows import Key, Row
from edge_agent.traffic import Cursors, Sent, UplinkCounters, UplinkLimits
from headwater.ack import parse_ack
from headwater.errors import ConnectError, DecodeError
from headwater.mqtt_link import LinkDown, LinkEvent, LinkMessage, LinkPuback, LinkUp, MqttLink, Will
from headwater.names import mqtt_topic, parse_mqtt_topic
from headwater.status import Status

NO_SUBSCRIBERS = 0x10
FAILURE_MIN = 0x80
EVERYTHING = 1 << 62
FETCHED_MAX = 32
OVERLOOKED_MAX = 64
DECLARED_MAX = 4_096
ACK_WAIT_US = 500_000  # The retained ack comes right after the subscription; waiting for it saves sending twice.
MISSING_AGE_MIN_US = 1_000_000  # An ack may have been on its way while the frame was.
STEADY_US = 60_000_000  # A connection that held so long was a good one: the next failure starts the delays anew.


class Uplink:
    """The way of one device's frames to the gateway.

    Args:
        spool: the frames.
        connect: makes a link with a will; called for every attempt.
        status: says what the device is, online or not.
        draw: gives random numbers in [0, 1).
        limits: see there.
        on_control: told of messages on `config` and `command`, with the topic's last word.
    """

    def __init__(
        self,
        spool: Spool,
        connect: Callable[[Will], MqttLink],
        status: Callable[[bool], Status],
        draw: Callable[[], float],
        limits: UplinkLimits | None = None,
        on_control: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self._spool = spool
        self._connect = connect
        self._status = status
        self._draw = draw
        self._limits = limits or UplinkLimits()
        self._on_control = on_control
        self.counters = UplinkCounters()
        self.link: MqttLink | None = None
        self.is_up = False
        self._is_leaving = False
        self._is_cut = self._cut_wanted = False
        self._failures = 0
        self._try_at_us = 0
        self._up_at_us = 0
        self._window = 0
        self._attempts = 0
        self._in_flight: dict[int, Key | None] = {}
        self._sent: dict[Key, Sent] = {}
        self._ever_sent: Key = Key(0, 0)
        self._cursors = Cursors()
        self._live_from = 0
        self._hold_until_us = 0
        self._resend_at_us: int | None = None
        self._exhausted_at: tuple[int, int] | None = None
        self._overlooked: set[int] = set()
        self._declared: set[int] = set()
        self._resync = -1
        self._generation = spool.generation

    def step(self, monotonic_us: int, now_us: int) -> None:
        """Takes what the link brought, and sends what there is room for; never blocks."""
        if self._cut_wanted != self._is_cut:
            self._cut_or_mend()
        if self.link is None:
            if self._is_leaving or self._is_cut or monotonic_us < self._try_at_us:
                return
            self._dial()
        assert self.link is not None
        for event in self.link.events():
            self._take(event, monotonic_us, now_us)
        if self.link is None or not self.is_up:
            return
        if self._generation != self._spool.generation:
            self.start_over()
        if self._resend_at_us is not None and monotonic_us >= self._resend_at_us:
            self._time_out(monotonic_us)
        if monotonic_us >= self._hold_until_us and not self._is_leaving:
            try:
                self._send(monotonic_us, now_us)
            except (ConnectError, SpoolUnavailableError) as error:
                self.counters.last_error = str(error)

    def cut(self, *, is_cut: bool) -> None:
        """Breaks the network as a cut cable does, or mends it, with the next step; any thread may ask for it."""
        self._cut_wanted = is_cut

    def _cut_or_mend(self) -> None:
        self._is_cut = self._cut_wanted
        if self._is_cut and self.link is not None:
            self.link.drop()
            self._lose()
        self._try_at_us = self._failures = 0

    def leave(self) -> None:
        """Says goodbye: publishes that the device goes offline; `is_gone` tells when that is done."""
        self._is_leaving = True
        if self.link is not None and self.is_up:
            self._announce(online=False)

    @property
    def is_gone(self) -> bool:
        """True when nothing is under way any more."""
        return self.link is None or not self.is_up or not self._in_flight

    def hang_up(self) -> None:
        """Closes the connection now."""
        if self.link is not None:
            self.link.close()
            self._lose()

    def announce(self) -> None:
        """Publishes the status again, after the metrics changed."""
        if self.is_up and not self._is_leaving:
            self._announce(online=True)

    def promoted(self, seq: int) -> None:
        """Frames from `seq` on may have moved into the urgent lane."""
        self._cursors.urgent = min(self._cursors.urgent, seq - 1)
        self._exhausted_at = None

    def _topic(self, leaf: str) -> str:
        return mqtt_topic(self._spool.site, self._spool.device, leaf)

    def _dial(self) -> None:
        self.link = self._connect(Will(self._topic("status"), self._status(False).to_json()))
        self.link.start()

    def _take(self, event: LinkEvent, monotonic_us: int, now_us: int) -> None:
        match event:
            case LinkUp():
                self._come_up(event.receive_maximum, monotonic_us)
            case LinkDown():
                self._go_down(event.reason, monotonic_us)
            case LinkPuback():
                self._take_puback(event, monotonic_us)
            case LinkMessage():
                self._take_message(event, monotonic_us, now_us)

    def _come_up(self, receive_maximum: int, monotonic_us: int) -> None:
        self.is_up = True
        self.counters.connects += 1
        self._up_at_us = monotonic_us
        self._window = min(self._limits.in_flight_max, receive_maximum)
        self._attempts = 0
        self._resync = -1
        self.start_over()
        self._hold_until_us = monotonic_us + (ACK_WAIT_US if self._spool.buffered else 0)
        assert self.link is not None
        try:
            self.link.subscribe(tuple(self._topic(leaf) for leaf in ("ack", "config", "command")))
        except ConnectError as error:
            self.counters.last_error = str(error)
        self._announce(online=True)

    def start_over(self) -> None:
        """Everything that is not acknowledged is to be sent; what exists now is backlog, what comes is live."""
        self._generation = self._spool.generation
        self._in_flight = dict.fromkeys(self._in_flight) if self.is_up else {}
        self._sent.clear()
        self._cursors = Cursors()
        self._live_from = self._spool.assigned + 1
        self._cursors.live = self._spool.assigned
        self._resend_at_us = None
        self._exhausted_at = None
        self._overlooked.clear()
        self._declared.clear()

    def _announce(self, *, online: bool) -> None:
        assert self.link is not None
        try:
            self._in_flight[self.link.publish(self._topic("status"), self._status(online).to_json(), retain=True)] = (
                None
            )
        except ConnectError as error:
            self.counters.last_error = str(error)

    def _go_down(self, reason: str, monotonic_us: int) -> None:
        self.counters.last_error = reason
        if self.is_up and monotonic_us - self._up_at_us >= STEADY_US:
            self._failures = 0
        self.counters.connect_failures += not self.is_up
        ceiling = min(self._limits.reconnect_max_us, self._limits.reconnect_min_us << min(self._failures, 20))
        self._failures += 1
        self._try_at_us = monotonic_us + int(self._draw() * ceiling)
        self._lose()

    def _lose(self) -> None:
        self.link = None
        self.is_up = False
        self._in_flight.clear()
        self._sent.clear()

    # ── what the gateway says ──────────────────────────────────────────────────────────────────────────────────

    def _take_puback(self, event: LinkPuback, monotonic_us: int) -> None:
        key = self._in_flight.pop(event.mid, None)
        if key is None or (sent := self._sent.get(key)) is None:
            return
        sent.in_flight = False
        if event.reason_code == NO_SUBSCRIBERS or event.reason_code >= FAILURE_MIN:
            # Nobody has it: it stays unacknowledged and goes again with the others after a pause.
            self.counters.refused += 1
            self.counters.last_error = f"frame {key.seq} refused with reason code {event.reason_code:#04x}"
            pause_us = self._limits.reconnect_min_us << min(self._attempts, 20)
            due_us = monotonic_us + int((1 + self._draw()) * min(pause_us, self._limits.ack_timeout_us))
            self._resend_at_us = due_us if self._resend_at_us is None else min(self._resend_at_us, due_us)

    def _take_message(self, event: LinkMessage, monotonic_us: int, now_us: int) -> None:
        parsed = parse_mqtt_topic(event.mqtt_topic)
        if parsed is None or (parsed.site, parsed.device) != (self._spool.site, self._spool.device):
            self.counters.acks_foreign += 1
        elif parsed.leaf == "ack":
            self._hold_until_us = 0
            self._take_ack(event.payload, monotonic_us, now_us)
        elif self._on_control is not None:
            self._on_control(parsed.leaf, event.payload)

    def _take_ack(self, payload: bytes, monotonic_us: int, now_us: int) -> None:
        try:
            ack = parse_ack(payload)
        except DecodeError as error:
            self.counters.acks_malformed += 1
            self.counters.last_error = str(error)
            return
        self.counters.acks += 1
        claimed = max([ack.contiguous, *(last for _, last in ack.missing)])
        try:
            if ack.epoch == self._spool.epoch and claimed > self._spool.assigned:
                # Either someone lies, or the disk has forgotten frames that it had promised to keep.
                self.counters.acks_beyond += 1
                self._spool.rotate(ack.contiguous, now_us)
                return
            self._spool.acknowledge(ack.epoch, ack.contiguous, now_us)
        except SpoolUnavailableError as error:
            self.counters.last_error = str(error)
            return
        freed = [key for key in self._sent if key.epoch == ack.epoch and key.seq <= ack.contiguous]
        for key in freed:
            del self._sent[key]
        if freed:
            self._attempts = 0
            self._resend_at_us = None
        for first, last in ack.missing:
            self._send_again(
                [
                    key
                    for key, sent in self._sent.items()
                    if key.epoch == ack.epoch and first <= key.seq <= last and self._is_old(sent, monotonic_us)
                ]
            )
            if ack.epoch == self._spool.epoch:
                self._look_for(first, last)
        if ack.resync not in {0, self._resync} and self._resync >= 0:
            # A broker lost what it had taken: all of it goes again, without waiting for the time-out.
            self.counters.resyncs += 1
            self._send_again([key for key, sent in self._sent.items() if not sent.in_flight])
        self._resync = ack.resync or max(self._resync, 0)
        self._arm(monotonic_us)

    def _look_for(self, first: int, last: int) -> None:
        """Notes missing frames that every lane has passed without seeing them: a damaged index hides them, or worse."""
        for seq in range(max(first, self._spool.oldest), last + 1):
            passed = self._cursors.backlog if seq < self._live_from else self._cursors.live
            if seq > passed or len(self._overlooked) >= OVERLOOKED_MAX:
                break
            if Key(self._spool.epoch, seq) not in self._sent and seq not in self._declared:
                self._overlooked.add(seq)

    def _send_overlooked(self, monotonic_us: int, now_us: int) -> None:
        while self._overlooked and len(self._in_flight) < self._window:
            seq = self._overlooked.pop()
            row = self._spool.one(Key(self._spool.epoch, seq), now_us)
            if row is not None:
                self._publish(row, monotonic_us)
            elif seq >= self._spool.oldest and len(self._declared) < DECLARED_MAX:
                self._declared.add(seq)
                self._spool.declare_lost(seq, now_us)

    def _is_old(self, sent: Sent, monotonic_us: int) -> bool:
        return not sent.in_flight and monotonic_us - sent.at_us >= MISSING_AGE_MIN_US

    def _time_out(self, monotonic_us: int) -> None:
        """No durable ack for too long: all that is not on its way goes again, and the next wait is longer."""
        self.counters.ack_timeouts += 1
        self._attempts += 1
        self._resend_at_us = None
        self._send_again([key for key, sent in self._sent.items() if not sent.in_flight])
        self._arm(monotonic_us)

    def _send_again(self, keys: list[Key]) -> None:
        for key in keys:
            del self._sent[key]
        own = [key.seq for key in keys if key.epoch == self._spool.epoch]
        if own:
            lowest = min(own) - 1
            self._cursors.urgent = min(self._cursors.urgent, lowest)
            self._cursors.backlog = min(self._cursors.backlog, lowest)
            self._cursors.live = max(min(self._cursors.live, lowest), self._live_from - 1)
        if len(own) < len(keys):
            self._cursors.strays = Key(0, 0)
        if keys:
            self._exhausted_at = None

    def _arm(self, monotonic_us: int) -> None:
        if self._sent and self._resend_at_us is None:
            wait_us = min(self._limits.ack_timeout_us << min(self._attempts, 20), self._limits.ack_timeout_max_us)
            self._resend_at_us = monotonic_us + self._limits.ack_timeout_us + int(self._draw() * wait_us)

    # ── sending ────────────────────────────────────────────────────────────────────────────────────────────────

    def _send(self, monotonic_us: int, now_us: int) -> None:
        self._send_overlooked(monotonic_us, now_us)
        if self._exhausted_at == (self._generation, self._spool.assigned):
            return
        for source in (self._urgent, self._live, self._strays, self._backlog):
            # The last quarter of the windows is kept free for what happens now.
            spare = 0 if source in (self._urgent, self._live) else max(1, self._window // 4)
            while True:
                room = min(self._window - len(self._in_flight), self._limits.unacked_max - len(self._sent)) - spare
                if room <= 0:
                    break
                rows = source(min(room, FETCHED_MAX), now_us)
                if not rows:
                    break
                for row in rows:
                    if row.key not in self._sent:
                        self._publish(row, monotonic_us)
            if room <= 0 and spare == 0:
                return
        if room > 0:
            self._exhausted_at = (self._generation, self._spool.assigned)

    def _publish(self, row: Row, monotonic_us: int) -> None:
        assert self.link is not None
        mid = self.link.publish(self._topic("frame"), row.payload)
        self._in_flight[mid] = row.key
        self._sent[row.key] = Sent(monotonic_us)
        self.counters.published += 1
        self.counters.published_bytes += len(row.payload)
        if row.key <= self._ever_sent and row.key.epoch == self._ever_sent.epoch:
            self.counters.republished += 1
        else:
            self._ever_sent = row.key
        self._arm(monotonic_us)

    def _urgent(self, rows_max: int, now_us: int) -> list[Row]:
        rows = self._spool.following(Lane.URGENT, self._cursors.urgent, EVERYTHING, rows_max, now_us)
        self._cursors.urgent = rows[-1].key.seq if rows else self._cursors.urgent
        return rows

    def _live(self, rows_max: int, now_us: int) -> list[Row]:
        rows = self._spool.following(Lane.NORMAL, self._cursors.live, EVERYTHING, rows_max, now_us)
        self._cursors.live = rows[-1].key.seq if rows else self._cursors.live
        return rows

    def _backlog(self, rows_max: int, now_us: int) -> list[Row]:
        rows = self._spool.following(Lane.NORMAL, self._cursors.backlog, self._live_from, rows_max, now_us)
        self._cursors.backlog = rows[-1].key.seq if rows else self._cursors.backlog
        return rows

    def _strays(self, rows_max: int, now_us: int) -> list[Row]:
        rows = self._spool.strays(self._cursors.strays, rows_max, now_us)
        self._cursors.strays = rows[-1].key if rows else self._cursors.strays
        return rows
