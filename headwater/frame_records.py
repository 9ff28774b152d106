"""Anomalies, gaps and the ledger of a frame to and from protobuf: the few things that are not columns."""

import re
from typing import Any, Final

from headwater.errors import DecodeError, LimitError
from headwater.frame import Anomaly, Gap, Ledger
from headwater.frame_schema import DROP_REASONS, GAP_REASONS, SEVERITIES
from headwater.name_table import is_metric_cached
from headwater.reasons import DeadLetterReason, DropReason

RECORDS_MAX: Final = 1024
MESSAGE_CHARS_MAX: Final = 512
NUMBER_MAX: Final = 1 << 62
# The sum over all reasons goes into one int64 later.
LEDGER_MAX: Final = NUMBER_MAX >> 4

_DETECTOR: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}")


def write_records(message: Any, anomalies: tuple[Anomaly, ...], gaps: tuple[Gap, ...], ledger: Ledger) -> None:
    """Adds them to a frame message.

    Raises:
        LimitError: more than RECORDS_MAX of a kind, or a message of more than MESSAGE_CHARS_MAX.
    """
    if max(len(anomalies), len(gaps)) > RECORDS_MAX:
        raise LimitError(f"{len(anomalies)} anomalies and {len(gaps)} gaps: a frame holds {RECORDS_MAX} of each")
    message.acquired = ledger.acquired
    message.suppressed = ledger.suppressed
    message.aggregated = ledger.aggregated
    for anomaly in anomalies:
        if len(anomaly.message) > MESSAGE_CHARS_MAX:
            raise LimitError(f"an anomaly's message of {len(anomaly.message)} characters is over {MESSAGE_CHARS_MAX}")
        message.notes.anomalies.add(
            metric=anomaly.metric,
            time_us=anomaly.time_us,
            detector=anomaly.detector,
            severity=SEVERITIES.index(anomaly.severity),
            is_onset=anomaly.is_onset,
            score=anomaly.score,
            value=anomaly.value,
            expected=anomaly.expected,
            lo=anomaly.lo,
            hi=anomaly.hi,
            message=anomaly.message,
        )
    for gap in gaps:
        message.notes.gaps.add(
            epoch=gap.epoch,
            from_seq=gap.from_seq,
            to_seq=gap.to_seq,
            reason=GAP_REASONS.index(gap.reason),
            readings=gap.readings,
            declared_us=gap.declared_us,
        )
    for reason, readings in ledger.dropped.items():
        message.notes.dropped.add(reason=[str(known) for known in DROP_REASONS].index(str(reason)), readings=readings)


def read_anomalies(records: Any) -> tuple[Anomaly, ...]:
    """Reads and checks the anomalies of a frame message.

    Raises:
        DecodeError: LIMIT, NAME or SCHEMA.
    """
    _check_count(records, "anomalies")
    anomalies = []
    for record in records:
        if not is_metric_cached(record.metric):
            raise DecodeError(DeadLetterReason.NAME, f"metric {record.metric[:140]!r} of an anomaly")
        text = record.message
        if (
            record.severity >= len(SEVERITIES)
            or not _DETECTOR.fullmatch(record.detector)
            or abs(record.time_us) >= NUMBER_MAX
            or len(text) > MESSAGE_CHARS_MAX
        ):
            raise DecodeError(DeadLetterReason.SCHEMA, f"an anomaly of {record.metric} has a field out of range")
        anomalies.append(
            Anomaly(
                metric=record.metric,
                time_us=record.time_us,
                detector=record.detector,
                severity=SEVERITIES[record.severity],
                is_onset=record.is_onset,
                score=record.score,
                value=record.value,
                expected=record.expected,
                lo=record.lo,
                hi=record.hi,
                message=text,
            )
        )
    return tuple(anomalies)


def read_gaps(records: Any) -> tuple[Gap, ...]:
    """Reads and checks the gaps of a frame message.

    Raises:
        DecodeError: LIMIT or SCHEMA.
    """
    _check_count(records, "gaps")
    gaps = []
    for record in records:
        from_seq, to_seq = record.from_seq, record.to_seq
        if (
            record.reason >= len(GAP_REASONS)
            or not 1 <= from_seq < NUMBER_MAX
            or not (to_seq == 0 or from_seq <= to_seq < NUMBER_MAX)
            or not -1 <= record.readings < NUMBER_MAX
            or abs(record.declared_us) >= NUMBER_MAX
        ):
            raise DecodeError(DeadLetterReason.SCHEMA, f"a gap from seq {from_seq} has a field out of range")
        gaps.append(
            Gap(record.epoch, from_seq, to_seq, GAP_REASONS[record.reason], record.readings, record.declared_us)
        )
    return tuple(gaps)


def read_drops(records: Any) -> tuple[tuple[DropReason, int], ...]:
    """Reads and checks what the ledger of a frame message says of dropped readings.

    Raises:
        DecodeError: LIMIT or SCHEMA.
    """
    _check_count(records, "drops")
    dropped: dict[DropReason, int] = {}
    for record in records:
        if record.reason >= len(DROP_REASONS) or DROP_REASONS[record.reason] in dropped:
            raise DecodeError(DeadLetterReason.SCHEMA, f"drop reason {record.reason} is unknown or comes twice")
        if record.readings >= LEDGER_MAX:
            raise DecodeError(DeadLetterReason.SCHEMA, "the ledger counts more readings than there can be")
        dropped[DROP_REASONS[record.reason]] = record.readings
    return tuple(dropped.items())


def _check_count(records: Any, what: str) -> None:
    if len(records) > RECORDS_MAX:
        raise DecodeError(DeadLetterReason.LIMIT, f"{len(records)} {what}: a frame holds at most {RECORDS_MAX}")
