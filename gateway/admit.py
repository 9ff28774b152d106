"""Turns a group of messages into log records: decode, cut into batches, dead letters, events, registry.

    frames ─ decode_batch ─▶ Batch ─┐                      ┌─▶ headwater.readings     a batch per record
    JSON ─── read_json ────▶ Batch ─┼─ cut, complete ─▶────┼─▶ headwater.dead-letters
    notes ─ presence, refusals, ────┘                      ├─▶ headwater.events
                                                           └─▶ headwater.devices

Pure: the same group and time give the same records. All of them go into one atomic append; where the log refuses one
as too large, into several that are smaller.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal, Protocol

import numpy as np

from gateway.batcher import Group
from gateway.events import event_records
from gateway.foreign_json import RecentContent, read_json
from gateway.inbound import Foreign, Inbound
from gateway.letters import LetterBook, bundle, letter_record, shortened
from gateway.pieces import Origins, halves
from headwater import log_topics
from headwater.batch import Batch, DeadLetter, DeviceStatus
from headwater.batch_arrow import Compression, batch_to_arrow
from headwater.batch_build import batch_from_frames, concat_batches, take_frames
from headwater.codec_batch import Arrival, Portion, decode_portions
from headwater.errors import DecodeError
from headwater.frame import Frame
from headwater.ports import LogRecord
from headwater.reasons import DeadLetterReason

FRAMES_AT_ONCE_MAX = 4096
# What is held at a time between decoding and the log, whatever frames claim: a hundred bytes may say 64 Ki readings.
READINGS_PER_APPEND_MAX = 1 << 19
# Smaller records are deflated by the log itself.
COMPRESS_MIN_READINGS = 1024
FORGET_AFTER_US = 24 * 3_600 * 1_000_000

# A named tuple's own constructor costs three times as much, and one is made per message.
_arrival: Final[Callable[[tuple[object, ...]], Arrival]] = partial(tuple.__new__, Arrival)


@dataclass(frozen=True, slots=True)
class Admitted:
    """What became of a group: records to append, and per batch (device identity columns) for frontiers."""

    records: list[LogRecord]
    batches: list[Batch]


class Decode(Protocol):
    """Decodes payloads of one shard; `headwater.codec_batch.decode_portions` is one."""

    def __call__(self, arrivals: Sequence[Arrival], *, shard: int, made_us: int, cells_max: int) -> Iterator[Portion]:
        """Gives batches in order, each with what is not in it and how many arrivals that was."""


class Admission:
    """Admits groups; keeps what is needed across them (recent JSON, latest event times, letter budgets).

    Attributes:
        counters: frames, readings, foreign_frames, foreign_duplicates, batches, record_bytes. What was admitted and
            then refused by the log counts here and among the dead letters.
        letters: dead letters by reason.
    """

    def __init__(
        self,
        *,
        partitions: int,
        readings_max: int,
        max_bytes: int,
        letters_max: int,
        letter_max_bytes: int,
        recent: RecentContent,
        decode: Decode = decode_portions,
        compression: Literal["none", "lz4", "zstd"] = "lz4",
    ) -> None:
        self._compression: Compression = None if compression == "none" else compression
        self._decode_native = decode
        self._partitions = partitions
        self._readings_max = readings_max
        self._max_bytes = max_bytes
        self._letter_max_bytes = letter_max_bytes
        self._recent = recent
        self._latest_us: dict[int, dict[tuple[str, str], tuple[int, int]]] = {}
        self.letters = LetterBook(letters_max)
        self.counters: Counter[str] = Counter()

    def admit(self, group: Group, now_us: int) -> Iterator[Admitted]:
        """Decodes a group at its closing time and gives its records, shard by shard, to be appended in order.

        Mostly in one part; a part ends where it holds READINGS_PER_APPEND_MAX readings.
        """
        records: list[LogRecord] = []
        batches: list[Batch] = []
        readings = 0
        for shard in sorted(group.inbound.keys() | group.notes.keys() | group.heartbeats):
            for batch, letters in self._admit_shard(shard, group, now_us):
                batches.append(batch)
                records.append(self._reading_record(batch))
                records += event_records(batch)
                whole, bare = self.letters.admit(letters)
                records += [letter_record(letter, self._partitions) for letter in whole]
                records += bundle(bare, self._partitions)
                readings += batch.reading_count
                if readings >= READINGS_PER_APPEND_MAX:
                    yield Admitted(records, batches)
                    records, batches, readings = [], [], 0
            records += [
                LogRecord(log_topics.DEVICES, shard, note.what[0], note.what[1], now_us)
                for note in group.notes.get(shard, ())
                if isinstance(note.what, tuple)
            ]
        if records:
            yield Admitted(records, batches)

    def smaller(self, refused: Admitted, origins: Origins, why: str, now_us: int) -> list[Admitted]:
        """Returns what the log refused as too large in smaller parts, to be appended in order; [] if there are none.

        Fewer records, or of one batch fewer frames. A frame alone becomes a dead letter, and so does an event or an
        entry of the registry; a dead letter loses half of its bytes.
        """
        records, batches = refused.records, refused.batches
        if len(records) > 1:
            at = len(records) // 2
            before = sum(record.log_topic == log_topics.READINGS for record in records[:at])
            return [Admitted(records[:at], batches[:before]), Admitted(records[at:], batches[before:])]
        (record,) = records
        if record.log_topic == log_topics.DEAD_LETTERS:
            if not record.value:
                return []
            headers = {**record.headers, "bytes": "cut: the log takes no more"}
            return [Admitted([replace(record, value=record.value[: len(record.value) // 2], headers=headers)], [])]
        detail = f"alone a record of {len(record.value)} bytes, more than the log takes: {why}"
        if record.log_topic != log_topics.READINGS:
            site, device, *_ = record.key.decode().split("/")
            payload = record.value[: self._letter_max_bytes]
            letter = DeadLetter(
                now_us, DeadLetterReason.TOO_LARGE, "gateway", record.log_topic, detail, site, device, payload=payload
            )
            return [self._letter_alone(record.partition, letter, now_us)]
        (batch,) = batches
        pieces = halves(batch)
        if pieces or not len(batch):
            return [Admitted([self._reading_record(piece)], [piece]) for piece in pieces]
        where, payload = origins.of(batch)
        site, device = batch.devices[batch.device[0]]
        letter = DeadLetter(
            now_us,
            DeadLetterReason.TOO_LARGE,
            "gateway",
            where or f"{site}/{device}",
            detail,
            site,
            device,
            int(batch.epoch[0]),
            int(batch.seq[0]),
            batch.reading_count,
            payload[: self._letter_max_bytes],
        )
        return [self._letter_alone(batch.shard, letter, now_us)]

    def _letter_alone(self, shard: int, letter: DeadLetter, now_us: int) -> Admitted:
        """Makes a dead letter durable by a batch of its own, which ends its frame's journey, and its record."""
        empty = batch_from_frames([], shard=shard, made_us=now_us)
        batch = replace(empty, dead_letters=(shortened(letter),))
        whole, bare = self.letters.admit([letter])
        letters = [letter_record(one, self._partitions) for one in whole] + bundle(bare, self._partitions)
        return Admitted([self._reading_record(batch), *letters], [batch])

    def _admit_shard(self, shard: int, group: Group, now_us: int) -> Iterator[tuple[Batch, list[DeadLetter]]]:
        """Gives the batches of a shard, at least one, each with the dead letters that go with it."""
        notes = group.notes.get(shard, [])
        letters = [note.what for note in notes if isinstance(note.what, DeadLetter)]
        statuses = tuple(note.what for note in notes if isinstance(note.what, DeviceStatus))
        is_first = True
        for messages in _portions(group.inbound.get(shard, []), self._max_bytes):
            for batch, refused in self._decode(shard, messages, now_us):
                letters += refused
                for piece in _cut(batch, self._readings_max):
                    yield self._completed(piece, letters, statuses, now_us), letters
                    is_first, letters, statuses = False, [], ()
        foreign = self._frames_of(note.what for note in notes if isinstance(note.what, Foreign))
        if foreign:
            for piece in _cut(batch_from_frames(foreign, shard=shard, made_us=now_us), self._readings_max):
                yield self._completed(piece, letters, statuses, now_us), letters
                is_first, letters, statuses = False, [], ()
        if is_first or letters:
            empty = batch_from_frames([], shard=shard, made_us=now_us)
            yield self._completed(empty, letters, statuses, now_us), letters

    def _completed(
        self, batch: Batch, letters: list[DeadLetter], statuses: tuple[DeviceStatus, ...], now_us: int
    ) -> Batch:
        """Counts a batch and adds what it says beyond its frames."""
        self._note_latest(batch, now_us)
        self.counters["batches"] += 1
        self.counters["frames"] += len(batch)
        self.counters["readings"] += batch.reading_count
        return replace(
            batch,
            low_watermark_us=self._low_watermark_us(batch.shard, now_us),
            dead_letters=tuple(shortened(letter) for letter in letters),
            statuses=statuses,
        )

    def _decode(self, shard: int, messages: list[Inbound], now_us: int) -> Iterator[tuple[Batch, list[DeadLetter]]]:
        """Decodes native frames, a few batches of bounded size, then JSON; what fails becomes a dead letter."""
        native = [message for message in messages if message.device_topic.leaf == "frame"]
        arrivals = [
            _arrival((topic.site, topic.device, payload, received_us))
            for topic, _, _, payload, received_us, _, _, _ in native
        ]
        batch = batch_from_frames([], shard=shard, made_us=now_us)
        letters: list[DeadLetter] = []
        at = 0
        for portion in self._decode_native(arrivals, shard=shard, made_us=now_us, cells_max=self._readings_max):
            if at:
                yield batch, letters
                letters = []
            letters += [
                self._letter(native[at + bad.index], bad.reason, bad.detail, bad.epoch, bad.seq, bad.readings, now_us)
                for bad in portion.rejects
            ]
            batch = portion.batch
            at += portion.taken
        if len(native) < len(messages):
            foreign: list[tuple[Frame, int, int]] = []
            for message in messages:
                if message.device_topic.leaf == "json":
                    self._read_foreign(message, foreign, letters, now_us)
            batch = concat_batches([batch, batch_from_frames(foreign, shard=shard, made_us=now_us)])
        yield batch, letters

    def _frames_of(self, messages: Iterable[Foreign]) -> list[tuple[Frame, int, int]]:
        """Counts foreign frames and returns those whose content did not come before."""
        frames: list[tuple[Frame, int, int]] = []
        for one in messages:
            # Without a time of its own the same content is a new reading, unless MQTT says that it is a repetition.
            is_new = self._recent.is_new(one.frame.site, one.frame.device, one.payload, one.received_us)
            if not is_new and (one.has_own_time or one.is_repeated):
                self.counters["foreign_duplicates"] += 1
                continue
            self.counters["foreign_frames"] += 1
            frames.append((one.frame, one.received_us, len(one.payload)))
        return frames

    def _read_foreign(
        self, message: Inbound, frames: list[tuple[Frame, int, int]], letters: list[DeadLetter], now_us: int
    ) -> None:
        site, device = message.device_topic.site, message.device_topic.device
        try:
            got = read_json(message.payload, site, device, message.received_us)
        except DecodeError as error:
            letters.append(self._letter(message, error.reason, error.detail, 0, 0, 0, now_us))
            return
        foreign = Foreign(got.frame, message.payload, message.received_us, got.has_own_time, message.is_repeated)
        frames += self._frames_of([foreign])

    def _letter(
        self,
        message: Inbound,
        reason: DeadLetterReason,
        detail: str,
        epoch: int,
        seq: int,
        readings: int,
        now_us: int,
    ) -> DeadLetter:
        return DeadLetter(
            now_us,
            reason,
            "gateway",
            message.mqtt_topic,
            detail,
            message.device_topic.site,
            message.device_topic.device,
            epoch,
            seq,
            readings,
            message.payload[: self._letter_max_bytes],
        )

    def _reading_record(self, batch: Batch) -> LogRecord:
        value = batch_to_arrow(
            batch, compression=self._compression if batch.reading_count >= COMPRESS_MIN_READINGS else None
        )
        self.counters["record_bytes"] += len(value)
        return LogRecord(
            log_topics.READINGS, batch.shard, str(batch.shard).encode(), value, max(batch.low_watermark_us, 0)
        )

    def _note_latest(self, batch: Batch, now_us: int) -> None:
        """Keeps each device's latest event time, by one reduction."""
        latest = self._latest_us.setdefault(batch.shard, {})
        filled = np.diff(batch.reading_start) > 0
        if not filled.any():
            return
        newest = np.full(len(batch.devices), -1, np.int64)
        np.maximum.at(
            newest, batch.device[filled], np.maximum.reduceat(batch.time_us, batch.reading_start[:-1][filled])
        )
        for who, time_us in zip(batch.devices, newest.tolist(), strict=True):
            if time_us >= 0:
                latest[who] = max(latest.get(who, (0, 0))[0], time_us), now_us

    def _low_watermark_us(self, shard: int, now_us: int) -> int:
        """The lowest of the devices' latest event times; devices silent for a day are left out; -1 if none is left.

        A device that stays below (a backlog after more than a day of silence) is still not late: its own watermark
        decides, in the processor.
        """
        latest = self._latest_us.get(shard, {})
        for who in [who for who, (_, seen_us) in latest.items() if now_us - seen_us > FORGET_AFTER_US]:
            del latest[who]
        return min((time_us for time_us, _ in latest.values()), default=-1)


def _portions(messages: list[Inbound], max_bytes: int) -> Iterator[list[Inbound]]:
    """Cuts messages into runs that are safe to decode at once."""
    portion: list[Inbound] = []
    size_bytes = 0
    for message in messages:
        if portion and (len(portion) >= FRAMES_AT_ONCE_MAX or size_bytes + len(message.payload) > max_bytes):
            yield portion
            portion, size_bytes = [], 0
        portion.append(message)
        size_bytes += len(message.payload)
    if portion:
        yield portion


def _cut(batch: Batch, readings_max: int) -> Iterator[Batch]:
    """Cuts a batch at frames so that no piece holds more than `readings_max` readings, unless one frame does."""
    start = batch.reading_start
    row = 0
    while row < len(batch):
        end = int(np.searchsorted(start, start[row] + readings_max, side="right")) - 1
        end = max(end, row + 1)
        if row == 0 and end >= len(batch):
            yield batch
            return
        yield take_frames(batch, np.arange(row, min(end, len(batch))))
        row = end
