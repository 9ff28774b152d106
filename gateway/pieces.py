"""What the log refuses as too large, in smaller pieces: batches in halves, and the message that a frame came in.

records ─▶ half of the records ─▶ half of the batch ─▶ one frame ─▶ its dead letter
"""

from dataclasses import replace

import numpy as np

from gateway.batcher import Group
from gateway.inbound import Foreign, Inbound
from headwater.batch import Batch
from headwater.batch_build import take_frames
from headwater.codec import decode_frame
from headwater.errors import DecodeError


def halves(batch: Batch) -> list[Batch]:
    """Returns the batch in two that hold what it holds: statuses, then frames, then dead letters; [] if that is one thing.

    Only the last half says how far event time has come: before it, the rest of the batch is still to come.
    """
    statuses, frames = len(batch.statuses), len(batch)
    things = statuses + frames + len(batch.dead_letters)
    if things < 2:
        return []
    at = things // 2
    row, letter = min(max(at - statuses, 0), frames), max(at - statuses - frames, 0)
    first = replace(
        take_frames(batch, np.arange(row)),
        statuses=batch.statuses[:at],
        dead_letters=batch.dead_letters[:letter],
        low_watermark_us=-1,
    )
    last = replace(
        take_frames(batch, np.arange(row, frames)),
        statuses=batch.statuses[at:],
        dead_letters=batch.dead_letters[letter:],
    )
    return [first, last]


class Origins:
    """Finds the messages of a group again that frames of its batches came in; costs nothing until it is asked."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._identities: dict[int, tuple[int, int]] = {}

    def of(self, batch: Batch) -> tuple[str, bytes]:
        """Returns (MQTT topic, payload) of the one frame of a batch; the topic is "" where a note brought it.

        Of foreign messages that are equal in device, time of receipt and length, it is the first.
        """
        who, identity = batch.devices[batch.device[0]], (int(batch.epoch[0]), int(batch.seq[0]))
        wanted = (*who, int(batch.received_us[0]), int(batch.payload_bytes[0]))
        for message in self._group.inbound.get(batch.shard, ()):
            topic = message.device_topic
            if (topic.site, topic.device, message.received_us, len(message.payload)) == wanted and identity == (
                self._identity(message) if topic.leaf == "frame" else (0, 0)
            ):
                return message.mqtt_topic, message.payload
        for note in self._group.notes.get(batch.shard, ()):
            one = note.what
            if isinstance(one, Foreign) and wanted == (
                one.frame.site, one.frame.device, one.received_us, len(one.payload),
            ):  # fmt: skip
                return "", one.payload
        return "", b""

    def _identity(self, message: Inbound) -> tuple[int, int]:
        """Who a native message says it is, read once; (-1, -1) if it can't be read."""
        known = self._identities.get(id(message))
        if known is None:
            try:
                frame = decode_frame(message.payload)
                known = frame.epoch, frame.seq
            except DecodeError:
                known = -1, -1
            self._identities[id(message)] = known
        return known
