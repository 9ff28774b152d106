"""What came in from clients, on its way to the log: messages that are admitted to a batch, and refusals."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from gateway.sender import Sender
from headwater.batch import DeadLetter, DeviceStatus
from headwater.frame import Frame
from headwater.names import DeviceTopic


class Inbound(NamedTuple):
    """A message for the batch of its shard.

    Attributes:
        device_topic: whose, and whether it is a frame or JSON.
        mqtt_topic: the topic it came on.
        shard: the partition.
        payload: as received.
        received_us: the gateway's time of receipt.
        session, ticket: whom to acknowledge; ticket -1 for QoS 0.
        is_repeated: MQTT marks it as sent before.
    """

    device_topic: DeviceTopic
    mqtt_topic: str
    shard: int
    payload: bytes
    received_us: int
    session: Sender
    ticket: int
    is_repeated: bool = False


# A named tuple's own constructor costs three times as much, and one is made per message.
inbound_of: Final[Callable[[tuple[object, ...]], Inbound]] = partial(tuple.__new__, Inbound)


@dataclass(frozen=True, slots=True, eq=False)
class Foreign:
    """What a foreign device sent, read where it came in because that needed what the device had said before.

    Attributes:
        frame: its readings, epoch 0 and seq 0.
        payload: the bytes it was made of: the content that tells duplicates.
        received_us: the gateway's time of receipt.
        has_own_time: every reading told its time.
        is_repeated: MQTT marks it as sent before.
    """

    frame: Frame
    payload: bytes
    received_us: int
    has_own_time: bool
    is_repeated: bool


@dataclass(slots=True)
class Note:
    """Something that is no message of its own and travels to the log with the batch of its shard.

    Attributes:
        shard: the partition.
        what: a change of presence, a refused message, (key, JSON) for the registry of devices, foreign readings,
            or None where nothing but an acknowledgement is owed.
        session, ticket: whom to acknowledge when it is durable; None and -1 for nobody.
    """

    shard: int
    what: DeviceStatus | DeadLetter | tuple[bytes, bytes] | Foreign | None
    session: Sender | None = None
    ticket: int = -1
