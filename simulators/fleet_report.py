"""What a fleet did: counters that grow, and the report made of them."""

from dataclasses import asdict, dataclass, field

LATENCIES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class FleetReport:
    """What the fleet did, so far or in all.

    Attributes:
        devices, connections: how many; `connected` of the connections are up.
        frames, readings, bytes: offered.
        frames_acked, readings_acked: durable.
        waiting: frames without durable ack.
        resent: frames that were sent again; `refused` PUBACKs said no; `reconnects` after the first connection.
        held: frames that came later than their time because too many waited.
        bad_acks: messages on an ack topic that could not be read.
        seconds: since the first frame.
        ack_p50_ms, ack_p95_ms: from offer to durable ack; 0 if there was none.
    """

    devices: int
    connections: int
    connected: int = 0
    frames: int = 0
    readings: int = 0
    bytes: int = 0
    frames_acked: int = 0
    readings_acked: int = 0
    waiting: int = 0
    resent: int = 0
    refused: int = 0
    reconnects: int = 0
    held: int = 0
    bad_acks: int = 0
    seconds: float = 0.0
    ack_p50_ms: float = 0.0
    ack_p95_ms: float = 0.0

    @property
    def is_clean(self) -> bool:
        """True if every frame is durable."""
        return self.waiting == 0 and self.frames_acked == self.frames

    def as_dict(self) -> dict[str, float]:
        """Returns plain numbers for JSON, with rates."""
        seconds = max(self.seconds, 1e-9)
        rates = {"readings_per_s": self.readings / seconds, "readings_acked_per_s": self.readings_acked / seconds}
        return asdict(self) | {name: round(rate, 1) for name, rate in rates.items()}


@dataclass(slots=True)
class Tally:
    """Numbers that grow as the fleet runs."""

    frames: int = 0
    readings: int = 0
    bytes: int = 0
    frames_acked: int = 0
    readings_acked: int = 0
    resent: int = 0
    refused: int = 0
    reconnects: int = 0
    held: int = 0
    bad_acks: int = 0
    latencies_us: list[int] = field(default_factory=list)

    def report(self, devices: int, connections: int, connected: int, waiting: int, seconds: float) -> FleetReport:
        """Returns the numbers as they are now."""
        latencies = sorted(self.latencies_us)
        quantiles = [latencies[int(share * (len(latencies) - 1))] / 1e3 if latencies else 0.0 for share in (0.5, 0.95)]
        counts = {name: getattr(self, name) for name in Tally.__slots__ if name != "latencies_us"}
        return FleetReport(
            devices,
            connections,
            connected,
            waiting=waiting,
            seconds=round(seconds, 3),
            ack_p50_ms=quantiles[0],
            ack_p95_ms=quantiles[1],
            **counts,
        )
