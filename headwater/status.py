"""The retained status message of a device (contracts §3), as data and as JSON; also the form of its will."""

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from headwater.errors import DecodeError
from headwater.location import Location, read_location
from headwater.reasons import DeadLetterReason

SIZE_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Status:
    """What a device says of itself.

    Attributes:
        online: False in the will and on a clean goodbye.
        epoch: the spool's epoch, 0 if unknown.
        assigned: highest seq assigned.
        buffered: frames waiting in the spool.
        agent: version of the agent.
        metrics: name → {"unit", "lo", "hi", "reduction"} as the device declares them; JSON types only.
        location: where it stands, None if it does not say.
    """

    online: bool
    epoch: int = 0
    assigned: int = 0
    buffered: int = 0
    agent: str = ""
    metrics: dict[str, dict[str, Any]] | None = None
    location: Location | None = None

    def to_json(self) -> bytes:
        """Encodes for the `status` topic; the epoch is a string because JSON numbers stop at 2^53.

        Where the location is not known there is no `lat` and no `lon`, as before devices could say it.
        """
        # Not `asdict` of the whole, which copies every metric at ten times the cost of the rest.
        told = {field.name: getattr(self, field.name) for field in fields(self)} | {"epoch": str(self.epoch)}
        del told["location"]
        location = {} if self.location is None else asdict(self.location)
        return json.dumps(told | location, separators=(",", ":"), allow_nan=False).encode()


def parse_status(payload: bytes) -> Status:
    """Decodes a status strictly; unknown keys are ignored so that newer agents can say more.

    >>> parse_status(Status(online=True, epoch=7, assigned=3).to_json()).assigned
    3

    Raises:
        DecodeError: the payload is not one.
    """
    if len(payload) > SIZE_MAX_BYTES:
        raise DecodeError(DeadLetterReason.TOO_LARGE, f"status of {len(payload)} bytes")
    try:
        data: Any = json.loads(payload)
        status = Status(
            online=data["online"],
            epoch=int(data.get("epoch", "0")),
            assigned=data.get("assigned", 0),
            buffered=data.get("buffered", 0),
            agent=data.get("agent", ""),
            metrics=data.get("metrics"),
        )
        lat, lon = data.get("lat"), data.get("lon")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DecodeError(DeadLetterReason.PARSE, f"status: {error}") from error
    if (
        type(status.online) is not bool
        or not 0 <= status.epoch < 1 << 64
        or not all(type(n) is int and 0 <= n < 1 << 63 for n in (status.assigned, status.buffered))
        or type(status.agent) is not str
        or not (status.metrics is None or isinstance(status.metrics, dict))
    ):
        raise DecodeError(DeadLetterReason.SCHEMA, "status fields out of range")
    try:
        return replace(status, location=read_location(lat, lon))
    except ValueError as error:
        raise DecodeError(DeadLetterReason.SCHEMA, f"status: {error}") from error
