"""The whole chain on random signals: every sample has one fate, no reading is sent twice, the promised error holds."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.chain import Chain, ChainLimits
from edge_agent.outline import numbered
from edge_agent.pack import Draft, Lane
from headwater.codec import decode_frame
from headwater.frame import Block
from headwater.metric import Metric
from headwater.quality import MISSING
from headwater.reasons import ClockQuality

START = 1_700_000_000_000_000
METRICS = (
    Metric("raw", every_us=1_000_000),
    Metric("swing", every_us=1_000_000, reduction="swing:0.5"),
    Metric("hold", every_us=1_000_000, reduction="deadband:0.4"),
    Metric("mean", every_us=1_000_000, reduction="summary:10s"),
)
EPSILON = {"swing": 0.5, "hold": 0.4}


def signal(seed: int, samples: int, jumps: int, holes: float) -> tuple[np.ndarray, np.ndarray]:
    """Four noisy walks with jumps (onsets of anomalies), values that are no numbers, and missing cells."""
    rng = np.random.default_rng(seed)
    value = 20 + np.cumsum(rng.normal(0, 0.02, (4, samples)), axis=1) + rng.normal(0, 0.1, (4, samples))
    for _ in range(jumps):
        row, at = rng.integers(4), rng.integers(samples)
        value[row, at : at + int(rng.integers(1, 60))] += rng.choice((-9.0, 6.0))
    value = np.round(value, 2)
    value[rng.random(value.shape) < holes / 3] = np.nan
    quality = np.where(rng.random(value.shape) < holes, MISSING, 0).astype(np.uint8)
    return value, quality


def run(seed: int, samples: int, jumps: int, holes: float, sizes: list[int], before_s: int) -> None:
    value, quality = signal(seed, samples, jumps, holes)
    time_us = START + np.arange(samples) * 1_000_000
    names = tuple(metric.name for metric in METRICS)
    chain = Chain(METRICS, ChainLimits(burst_before_us=before_s * 1_000_000))
    drafts: list[Draft] = []
    at = turn = 0
    while at < samples:
        size = sizes[turn % len(sizes)]
        part = slice(at, min(samples, at + size))
        codes = quality[:, part]
        chain.push(
            Block(names, time_us[part], np.ascontiguousarray(value[:, part]), codes.copy() if codes.any() else None)
        )
        if turn % 3 == 2:
            drafts += chain.seal(int(time_us[part][-1]), ClockQuality.SYNCED)
        at, turn = at + size, turn + 1
    drafts += chain.finish(int(time_us[-1]), ClockQuality.SYNCED)

    sent: dict[str, dict[int, float]] = {name: {} for name in names}
    fates: Counter[str] = Counter()
    for frame, payload in numbered(drafts, "a", "b", 1):
        held = decode_frame(payload)
        ledger = held.ledger
        assert ledger.acquired == held.reading_count + ledger.suppressed + ledger.aggregated + sum(
            ledger.dropped.values()
        )
        fates.update(acquired=ledger.acquired, sent=held.reading_count, aggregated=ledger.aggregated)
        fates.update(suppressed=ledger.suppressed, dropped=sum(ledger.dropped.values()))
        fates["panes"] += int(held.summaries.count.sum())
        for block in held.blocks:
            for row, name in enumerate(block.metrics):
                there = slice(None) if block.quality is None else block.quality[row] != MISSING
                for t, v in zip(block.time_us[there].tolist(), block.value[row][there].tolist(), strict=True):
                    assert t not in sent[name], f"{name} at {t} was sent twice"
                    sent[name][t] = v
        assert frame.reading_count == held.reading_count

    delivered = int(np.count_nonzero(quality != MISSING))
    finite = np.isfinite(value) & (quality != MISSING)
    assert fates["acquired"] == delivered
    assert fates["dropped"] == delivered - np.count_nonzero(finite)
    assert fates["sent"] + fates["suppressed"] + fates["aggregated"] + fates["dropped"] == delivered
    assert fates["panes"] == fates["aggregated"]
    counters = chain.counters
    assert (counters.acquired, counters.kept, counters.suppressed, counters.aggregated) == (
        delivered,
        fates["sent"],
        fates["suppressed"],
        fates["aggregated"],
    )
    judge(sent, time_us, value, finite)


def judge(sent: dict[str, dict[int, float]], time_us: np.ndarray, value: np.ndarray, finite: np.ndarray) -> None:
    for row, metric in enumerate(METRICS):
        if metric.name == "raw":
            assert sent["raw"] == dict(
                zip(time_us[finite[row]].tolist(), value[row][finite[row]].tolist(), strict=True)
            )
        if metric.name not in EPSILON or not finite[row].any():
            continue
        at = np.array(sorted(sent[metric.name]))
        known = np.array([sent[metric.name][t] for t in at.tolist()])
        times = time_us[finite[row]]
        if metric.name == "swing":
            rebuilt = np.interp(times - START, at - START, known)
        else:
            rebuilt = known[np.searchsorted(at, times, side="right") - 1]
        assert np.abs(rebuilt - value[row][finite[row]]).max() <= EPSILON[metric.name] * (1 + 1e-9)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    jumps=st.integers(0, 6),
    holes=st.sampled_from([0.0, 0.0, 0.05, 0.4]),
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=5),
    before_s=st.sampled_from([0, 1, 5, 40]),
)
def test_every_sample_has_one_fate_and_the_error_holds(
    seed: int, jumps: int, holes: float, sizes: list[int], before_s: int
) -> None:
    run(seed, 500, jumps, holes, sizes, before_s)


def test_the_last_frame_tells_what_was_left_out_even_when_no_reading_goes_with_it() -> None:
    run(5738, 500, 0, 0.4, [6], 1)


@pytest.mark.parametrize("seed", [1])
def test_it_holds_sample_by_sample_with_many_anomalies(seed: int) -> None:
    run(seed, 400, 8, 0.0, [1], 20)


def test_an_anomaly_makes_an_urgent_frame_with_the_raw_samples_before_and_after() -> None:
    rng = np.random.default_rng(4)
    chain = Chain(METRICS, ChainLimits(burst_before_us=5_000_000, burst_after_us=5_000_000))
    value = np.round(20 + rng.normal(0, 0.05, (4, 700)), 2)
    value[1, 600:] += 5
    names = tuple(metric.name for metric in METRICS)
    sent: set[int] = set()
    lanes: list[Lane] = []
    for second in range(700):
        now_us = START + second * 1_000_000
        urgent = chain.push(Block(names, np.array([now_us]), value[:, second : second + 1].copy()))
        drafts = chain.seal(now_us, ClockQuality.SYNCED)
        if urgent and second >= 600:
            assert drafts[0].lane is Lane.URGENT
            assert drafts[0].anomalies
            assert "burst" in drafts[0].blocks[0].reductions, "the raw samples come first"
        lanes += [draft.lane for draft in drafts]
        for block in (block for draft in drafts for block in draft.blocks if "swing" in block.metrics):
            sent |= {(t - START) // 1_000_000 for t in block.time_us.tolist()}
    onset = min(second for second in range(595, 610) if set(range(second, second + 6)) <= sent)
    assert onset <= 600
    assert set(range(onset, 605)) <= sent
    assert Lane.NORMAL in lanes
