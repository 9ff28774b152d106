"""Frames for people: what one holds as plain JSON types, and drafts numbered without a spool."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from edge_agent.pack import Draft
from headwater.codec import encode_frame
from headwater.frame import Block, Frame, Summaries
from headwater.instant import format_utc
from headwater.quality import MISSING

SAMPLES_SHOWN_MAX = 1_000


def numbered(drafts: Sequence[Draft], site: str, device: str, first_seq: int) -> Iterator[tuple[Frame, bytes]]:
    """Makes frames as the spool would, of epoch 1; for rehearsals, where nothing is kept."""
    for seq, draft in enumerate(drafts, first_seq):
        frame = Frame(
            site,
            device,
            1,
            seq,
            draft.created_us,
            draft.clock,
            1,
            draft.blocks,
            draft.summaries,
            draft.anomalies,
            draft.gaps,
            draft.ledger,
        )
        yield frame, encode_frame(frame)


def outlined(frame: Frame, size_bytes: int) -> dict[str, Any]:
    """Describes a frame in JSON types; long blocks show their first samples and how many there are."""
    return {
        "site": frame.site,
        "device": frame.device,
        "seq": frame.seq,
        "created": format_utc(frame.created_us),
        "clock": frame.clock.name.lower(),
        "bytes": size_bytes,
        "readings": frame.reading_count,
        "blocks": [_block(block) for block in frame.blocks],
        "summaries": _summaries(frame.summaries),
        "anomalies": [asdict(anomaly) for anomaly in frame.anomalies],
        "gaps": [asdict(gap) | {"epoch": str(gap.epoch)} for gap in frame.gaps],
        "ledger": asdict(frame.ledger),
    }


def _block(block: Block) -> dict[str, Any]:
    shown = slice(SAMPLES_SHOWN_MAX)
    missing = None if block.quality is None else block.quality[:, shown] == MISSING
    rows = block.value[:, shown].tolist()
    values = {
        name: [None if missing is not None and missing[i, j] else value for j, value in enumerate(row)]
        for i, (name, row) in enumerate(zip(block.metrics, rows, strict=True))
    }
    quality = (
        {}
        if block.quality is None
        else {"quality": dict(zip(block.metrics, block.quality[:, shown].tolist(), strict=True))}
    )
    return {
        "samples": len(block.time_us),
        "time": [format_utc(time_us) for time_us in block.time_us[shown].tolist()],
        "values": values,
        "reductions": dict(zip(block.metrics, block.reductions or ("raw",) * len(block.metrics), strict=True)),
        **quality,
    }


def _summaries(table: Summaries) -> list[dict[str, Any]]:
    return [
        {
            "metric": table.metrics[int(table.metric[row])],
            "start": format_utc(int(table.start_us[row])),
            "width_us": int(table.width_us[row]),
            "count": int(table.count[row]),
            **{name: float(getattr(table, name)[row]) for name in ("mean", "min", "max", "first", "last")},
        }
        for row in range(min(len(table), SAMPLES_SHOWN_MAX))
    ]
