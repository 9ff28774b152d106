"""Error bounds and conservation of the reducers, on readings that hypothesis makes up."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.reduce import Reducer
from headwater.frame import Block
from headwater.metric import Metric
from headwater.quality import BAD_MIN, MISSING

START_US = 1_700_000_000_000_000


def signal(rng, kind, n, size):
    if kind == "walk":
        return np.cumsum(rng.normal(0, 0.3, n)) * size
    if kind == "noise":
        return rng.normal(0, 1, n) * size
    if kind == "steps":
        return np.repeat(rng.integers(-3, 4, n // 7 + 1), 7)[:n] * size
    if kind == "sine":
        return np.sin(np.arange(n) / rng.integers(3, 60)) * size + rng.normal(0, 0.02, n)
    return rng.choice([0.0, 1e-9, -1.5, 1e6, 1e15, -1e200, 1.7e308, 3.25], n)


def reconstruct(kind, times, kept_us, kept, quality_bad):
    if kind == "deadband":
        return kept[np.searchsorted(kept_us, times, side="right") - 1]
    return np.interp((times - START_US).astype(float), (kept_us - START_US).astype(float), kept)


def collect(outs):
    points: dict[str, dict[int, tuple[float, int]]] = {}
    for out in outs:
        for block in out.blocks:
            assert (np.diff(block.time_us) > 0).all()
            for i, name in enumerate(block.metrics):
                mine = points.setdefault(name, {})
                for k, time_us in enumerate(block.time_us.tolist()):
                    code = 0 if block.quality is None else int(block.quality[i, k])
                    if code == MISSING:
                        continue
                    assert time_us not in mine, "a reading came twice"
                    assert not mine or time_us > max(mine), "a metric's readings ascend"
                    mine[time_us] = (float(block.value[i, k]), code)
    return points


def push_all(metrics, times, value, quality, cuts, keep=()):
    reducer = Reducer(metrics)
    names = tuple(metric.name for metric in metrics)
    outs, at = [], 0
    for cut in [*sorted(cuts), len(times)]:
        if cut > at:
            part = slice(at, cut)
            code = None if quality is None else quality[:, part]
            outs.append(reducer.push(Block(names, times[part], np.ascontiguousarray(value[:, part]), code), keep))
            at = cut
    pushed = value.size if quality is None else int((quality != MISSING).sum())
    held = sum(b.reading_count for out in outs for b in out.blocks) + sum(o.suppressed + o.aggregated for o in outs)
    assert held + reducer.pending == pushed
    outs.append(reducer.flush(int(times[-1]) + 1))
    assert reducer.pending == 0
    sent = sum(block.reading_count for out in outs for block in out.blocks)
    assert sent + sum(out.suppressed + out.aggregated for out in outs) == pushed
    return reducer, outs


@given(
    seed=st.integers(0, 2**32),
    kinds=st.lists(st.sampled_from(["walk", "noise", "steps", "sine", "wild"]), min_size=4, max_size=4),
    n=st.integers(2, 500),
    epsilon=st.sampled_from([1e-3, 0.05, 0.3, 2.0]),
    size=st.sampled_from([0.1, 1.0, 50.0]),
    holes=st.sampled_from([0.0, 0.02, 0.5]),
    bad=st.sampled_from([0.0, 0.02]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_raw_reading_is_further_than_epsilon_from_what_is_reconstructed(seed, kinds, n, epsilon, size, holes, bad):
    rng = np.random.default_rng(seed)
    metrics = [
        Metric("swing", reduction=f"swing:{epsilon}"),
        Metric("dead", reduction=f"deadband:{epsilon}"),
        Metric("swing2", reduction=f"swing:{3 * epsilon}"),
        Metric("pane", reduction="summary:10s"),
    ]
    value = np.array([signal(rng, kind, n, size) for kind in kinds])
    times = START_US + np.cumsum(rng.integers(1, 3, n) * 500_000)
    quality = np.zeros((4, n), np.uint8)
    quality[rng.random((4, n)) < bad] = 65
    quality[rng.random((4, n)) < holes] = MISSING
    keep = [(int(times[n // 3]), int(times[n // 3]) + 5_000_000)]
    cuts = rng.integers(0, n + 1, rng.integers(0, 12)).tolist()
    reducer, outs = push_all(metrics, times, value, quality, cuts, keep)
    points = collect(outs)
    for row, (name, kind) in enumerate([("swing", "swing"), ("dead", "deadband"), ("swing2", "swing")]):
        there = quality[row] != MISSING
        if not there.any():
            continue
        kept_us = np.array(list(points[name]), np.int64)
        kept = np.array([v for v, _ in points[name].values()])
        error_max, promised, _, _ = reducer.audit()[name]
        assert error_max <= promised
        for k in np.flatnonzero(there & (quality[row] >= BAD_MIN)):
            assert points[name][int(times[k])] == (value[row, k], int(quality[row, k]))
        for k in np.flatnonzero(there & (times >= keep[0][0]) & (times < keep[0][1])):
            assert points[name][int(times[k])][0] == value[row, k]
        if kinds[row] == "wild":
            continue  # Interpolation in float64 is itself off by more than ε there; the audit stands for it.
        rebuilt = reconstruct(kind, times[there], kept_us, kept, None)
        assert np.abs(rebuilt - value[row][there]).max() <= promised


@given(seed=st.integers(0, 2**32), n=st.integers(2, 400))
@settings(max_examples=40, deadline=None)
def test_the_cut_into_blocks_changes_nothing(seed, n):
    rng = np.random.default_rng(seed)
    metrics = [Metric(f"m{i}", reduction=r) for i, r in enumerate(["swing:0.2", "deadband:0.2", "raw", "swing:1"])]
    value = np.cumsum(rng.normal(0, 0.2, (4, n)), axis=1)
    quality = (rng.random((4, n)) < 0.05).astype(np.uint8) * 255
    times = START_US + np.arange(n) * 1_000_000
    whole = collect(push_all(metrics, times, value, quality, [])[1])
    pieces = collect(push_all(metrics, times, value, quality, rng.integers(0, n, 9).tolist())[1])
    single = collect(push_all(metrics, times, value, quality, range(1, n))[1])
    assert whole == pieces == single


@pytest.mark.parametrize("reduction", ["swing:0.05", "deadband:0.05"])
def test_the_bound_holds_over_a_million_samples(reduction):
    rng = np.random.default_rng(7)
    n, rows = 65_000, 8
    metrics = [Metric(f"m{i}", reduction=reduction) for i in range(rows)]
    scale = np.logspace(-3, -1, rows)[:, None]
    value = np.cumsum(rng.normal(0, 1, (rows, n)) * scale, axis=1) + rng.normal(0, 1, (rows, n)) * scale
    times = START_US + np.arange(n) * 1_000_000
    reducer, _ = push_all(metrics, times, value, None, range(500, n, 500))
    audit = reducer.audit()
    assert sum(seen for _, _, _, seen in audit.values()) == rows * n
    assert all(error <= epsilon for error, epsilon, _, _ in audit.values())
    assert max(error for error, _, _, _ in audit.values()) > 0.8 * 0.05, "the bound is used, not avoided"
