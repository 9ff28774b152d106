"""Lines that an InfluxDB does not take, told from those beside them, and as dead letters (docs/influxdb.md)."""

import re

from headwater.batch import DeadLetter
from headwater.io.store_influx_http import Answer
from headwater.reasons import DeadLetterReason

WORDS_MAX = 400
FAILING_MIN = 500
_DROPPED = re.compile(r"\bdropped[= ](\d+)")
_EXPIRED = re.compile(r"(beyond|outside) retention policy")
_TOO_OLD = "older than what the bucket keeps"
_TAG = re.compile(rb",(site|device)=((?:\\.|[^, \\])*)")


def doomed(lines: list[bytes], answer: Answer) -> list[bytes] | None:
    """Which lines of a refused body the server will never take, as far as its answer tells; None: ask for the halves."""
    if answer.status >= FAILING_MIN:
        return None
    if len(lines) == 1:
        return lines
    found = _DROPPED.search(answer.message)
    dropped = int(found[1]) if found else 0
    if dropped == len(lines) and answer.status != 413:
        return lines
    if dropped and _EXPIRED.search(answer.message):
        # All others are stored, and those that are too old are the oldest.
        return sorted(lines, key=_time_us)[:dropped]
    return None


def letter_of(line: bytes, answer: Answer) -> DeadLetter:
    """The dead letter of a line; the same for the same line whatever stood beside it and whenever, so a replay adds none."""
    head = line.partition(b" ")[0]
    tags = {name.decode(): text.decode("utf-8", "replace") for name, text in _TAG.findall(head)}
    measurement = head.partition(b",")[0].decode()
    reason, detail = DeadLetterReason.REFUSED, _DROPPED.sub("", answer.message)[:WORDS_MAX].strip()
    if answer.status >= FAILING_MIN:
        detail = f"the server fails on it: {answer.status} {detail}".rstrip()
    elif _EXPIRED.search(answer.message):
        # The server's own words name the moment.
        reason, detail = DeadLetterReason.EXPIRED, _TOO_OLD
    return DeadLetter(
        _time_us(line), reason, "store", f"influxdb/{measurement}", detail or f"status {answer.status}",
        tags.get("site", ""), tags.get("device", ""), readings=int(measurement == "telemetry"), payload=line[:65_536],
    )  # fmt: skip


def _time_us(line: bytes) -> int:
    return int(line.rpartition(b" ")[2]) // 1_000
