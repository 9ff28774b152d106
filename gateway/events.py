"""Anomalies, gaps and changes of presence as JSON records of `headwater.events`, for whoever follows those alone."""

import json
from dataclasses import asdict
from math import isfinite
from typing import Any

from headwater import log_topics
from headwater.batch import Batch, DeviceStatus
from headwater.ports import LogRecord


def event_records(batch: Batch) -> list[LogRecord]:
    """Returns one record per anomaly, gap and change of presence of a batch, in order."""
    records = [_of_frame(batch, row, "anomaly", anomaly.time_us, asdict(anomaly)) for row, anomaly in batch.anomalies]
    records += [_of_frame(batch, row, "gap", gap.declared_us, asdict(gap)) for row, gap in batch.gaps]
    records += [_of_status(batch.shard, status) for status in batch.statuses]
    return records


def _of_frame(batch: Batch, row: int, kind: str, time_us: int, fields: dict[str, Any]) -> LogRecord:
    site, device = batch.devices[batch.device[row]]
    identity = {"epoch": str(batch.epoch[row]), "seq": int(batch.seq[row])}
    if kind == "gap":
        fields["gap_epoch"] = str(fields.pop("epoch"))
    return _record(batch.shard, kind, site, device, time_us, fields | identity)


def _of_status(shard: int, status: DeviceStatus) -> LogRecord:
    fields = asdict(status) | {"epoch": str(status.epoch)}
    del fields["site"], fields["device"], fields["at_us"]
    fields |= fields.pop("location") or {}
    return _record(shard, "status", status.site, status.device, status.at_us, fields)


def _record(shard: int, kind: str, site: str, device: str, time_us: int, fields: dict[str, Any]) -> LogRecord:
    # JSON has no infinities: an open limit of a band is null.
    plain = {key: None if isinstance(value, float) and not isfinite(value) else value for key, value in fields.items()}
    body = {"kind": kind, "site": site, "device": device, "time_us": time_us} | plain
    value = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    return LogRecord(log_topics.EVENTS, shard, f"{site}/{device}".encode(), value, time_us)
