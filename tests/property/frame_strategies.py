"""Frames as hypothesis draws them, and how two of them or two batches are compared bit for bit."""

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from headwater.frame import Anomaly, Block, Frame, Gap, Ledger, Summaries
from headwater.frame_schema import DROP_REASONS, GAP_REASONS, SEVERITIES
from headwater.reasons import ClockQuality
from headwater.summary import summarize

T0 = 1_700_000_000_000_000
NAMES = ("flow_m3h", "pressure", "m/1:x.y-z", "T", "9")

any_float = st.floats(width=64)
plain_float = st.one_of(
    st.decimals(-10_000, 10_000, places=2).map(float),
    st.integers(-5, 5).map(float),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1e300, 5e-324, float("inf"), float("nan")]),
)
time_step = st.one_of(st.just(1_000_000), st.integers(1, 50), st.integers(1, 1 << 40))


@st.composite
def blocks(draw: st.DrawFn, *, finite: bool = False) -> Block:
    metrics = tuple(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)))
    rows = draw(st.integers(1, 12))
    rate_hz = draw(st.none() | st.floats(0.01, 1e6))
    start_us = T0 + draw(st.integers(-(1 << 40), 1 << 40))
    if rate_hz is None:
        regular = draw(st.booleans())
        step = draw(time_step)
        steps = [step] * rows if regular else draw(st.lists(time_step, min_size=rows, max_size=rows))
        time_us = start_us + np.concatenate(([0], np.cumsum(steps[1:], dtype=np.int64))).astype(np.int64)
    else:
        time_us = start_us + np.floor(np.arange(rows) * 1e6 / rate_hz).astype(np.int64)
    column = st.lists(draw(st.sampled_from([plain_float, any_float])), min_size=rows, max_size=rows)
    value = np.array([draw(column) for _ in metrics], np.float64)
    if finite:
        value = np.nan_to_num(value, nan=1.25, posinf=2.5, neginf=-2.5)
    quality = None
    if draw(st.booleans()):
        code = st.sampled_from([0, 0, 0, 1, 65, 200, 255])
        quality = np.array([draw(st.lists(code, min_size=rows, max_size=rows)) for _ in metrics], np.uint8)
    reductions = draw(st.sampled_from([(), ("raw",) * len(metrics), ("swing:0.05",) * len(metrics)]))
    return Block(metrics, time_us, value, quality, reductions, rate_hz)


@st.composite
def summaries(draw: st.DrawFn) -> Summaries:
    count = draw(st.integers(0, 12))
    if count == 0:
        return Summaries.empty()
    metrics = tuple(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)))
    metric = np.array(draw(st.lists(st.integers(0, len(metrics) - 1), min_size=count, max_size=count)), np.int32)
    time_us = T0 + np.array(draw(st.lists(st.integers(0, 50), min_size=count, max_size=count)), np.int64)
    value = np.array(draw(st.lists(st.floats(-1e100, 1e100), min_size=count, max_size=count)))
    width_us = draw(st.integers(1, 30))
    return summarize(metrics, metric, time_us, value, width_us=width_us, with_sketch=draw(st.booleans()))


anomalies = st.builds(
    Anomaly,
    metric=st.sampled_from(NAMES),
    time_us=st.integers(T0 - 1000, T0 + 1000),
    detector=st.sampled_from(["level", "stuck"]),
    severity=st.sampled_from(SEVERITIES),
    is_onset=st.booleans(),
    score=st.floats(0, 10),
    value=any_float,
    expected=any_float,
    lo=any_float,
    hi=any_float,
    message=st.text(st.characters(codec="utf-8"), max_size=20),
)
gaps = st.builds(
    Gap,
    epoch=st.integers(1, (1 << 64) - 1),
    from_seq=st.integers(1, 5),
    to_seq=st.just(0) | st.integers(5, 1 << 40),
    reason=st.sampled_from(GAP_REASONS),
    readings=st.integers(-1, 1 << 40),
    declared_us=st.integers(0, 1 << 52),
)
ledgers = st.builds(
    Ledger,
    st.integers(0, 1 << 50),
    st.integers(0, 1 << 50),
    st.integers(0, 1 << 50),
    st.dictionaries(st.sampled_from([str(reason) for reason in DROP_REASONS]), st.integers(0, 1 << 50)),
)


@st.composite
def frames(draw: st.DrawFn, *, finite: bool = False) -> Frame:
    seq = draw(st.integers(1, 1 << 40))
    return Frame(
        site=draw(st.sampled_from(["north", "s"])),
        device=draw(st.sampled_from(["pump-1", "d_2"])),
        epoch=draw(st.integers(1, (1 << 64) - 1)),
        seq=seq,
        created_us=T0 + draw(st.integers(-(1 << 40), 1 << 40)),
        clock=draw(st.sampled_from(ClockQuality)),
        oldest_seq=draw(st.integers(1, seq)),
        blocks=tuple(draw(st.lists(blocks(finite=finite), max_size=3))),
        summaries=draw(summaries()),
        anomalies=tuple(draw(st.lists(anomalies, max_size=2))),
        gaps=tuple(draw(st.lists(gaps, max_size=2))),
        ledger=draw(ledgers),
    )


def exact(thing: Any) -> Any:
    """Turns anything that holds arrays and floats into something that == compares bit for bit."""
    if is_dataclass(thing) and not isinstance(thing, type):
        return {field.name: exact(getattr(thing, field.name)) for field in fields(thing)}
    if isinstance(thing, np.ndarray):
        return (thing.dtype.str, thing.shape, thing.tobytes())
    if isinstance(thing, float):
        return np.float64(thing).tobytes()
    if isinstance(thing, tuple | list):
        return [exact(item) for item in thing]
    if isinstance(thing, dict):
        return {str(key): exact(value) for key, value in thing.items()}
    return thing


def without_what_is_missing(frame: Frame) -> Frame:
    """The frame with NaN under MISSING and no quality table where all is good: what decoding gives."""
    changed = []
    for block in frame.blocks:
        quality = None if block.quality is None or not block.quality.any() else block.quality
        value = block.value if quality is None else np.where(quality == 255, np.nan, block.value)
        changed.append(Block(block.metrics, block.time_us, value, quality, block.reductions, block.rate_hz))
    return Frame(**{field.name: getattr(frame, field.name) for field in fields(frame)} | {"blocks": tuple(changed)})
