"""Bounds and counters of the uplink."""

from dataclasses import dataclass, field

from edge_agent.spool_rows import Key


@dataclass(frozen=True, slots=True)
class UplinkLimits:
    """Bounds and delays; see the settings of the same names."""

    in_flight_max: int = 32
    unacked_max: int = 512
    ack_timeout_us: int = 30_000_000
    ack_timeout_max_us: int = 600_000_000
    reconnect_min_us: int = 1_000_000
    reconnect_max_us: int = 60_000_000


@dataclass(slots=True)
class UplinkCounters:
    """What happened on the way; `acks_beyond` is a security event: an ack of frames that were never assigned."""

    connects: int = 0
    connect_failures: int = 0
    published: int = 0
    published_bytes: int = 0
    republished: int = 0
    refused: int = 0
    acks: int = 0
    acks_malformed: int = 0
    acks_foreign: int = 0
    acks_beyond: int = 0
    ack_timeouts: int = 0
    resyncs: int = 0
    last_error: str = ""


@dataclass(slots=True)
class Sent:
    """A frame that was published in this connection and is not acknowledged as durable."""

    at_us: int
    in_flight: bool = True


@dataclass(slots=True)
class Cursors:
    """How far each lane has been sent."""

    urgent: int = 0
    live: int = 0
    backlog: int = 0
    strays: Key = field(default_factory=lambda: Key(0, 0))
