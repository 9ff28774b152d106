"""Blocks joined and divided; drafts within the limits of a frame."""

import numpy as np

from edge_agent.pack import CELLS_MAX, Lane, columns, drafts, joined, portions
from headwater.codec import encode_frame
from headwater.frame import RAW_BYTES_MAX, Block, Frame, Ledger, Summaries
from headwater.quality import MISSING
from headwater.reasons import ClockQuality


def block(metrics: str, times: list[int], reductions: tuple[str, ...] = ()) -> Block:
    values = np.arange(len(metrics) * len(times), dtype=float).reshape(len(metrics), len(times))
    return Block(tuple(metrics), np.array(times), values, None, reductions)


def test_ticks_of_the_same_metrics_become_one_block() -> None:
    (one,) = joined([block("ab", [1]), block("ab", [2]), block("ab", [3])])
    assert one.time_us.tolist() == [1, 2, 3]
    assert one.value.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_blocks_that_run_backwards_are_not_joined() -> None:
    assert [part.time_us.tolist() for part in joined([block("a", [5]), block("a", [3]), block("a", [6])])] == [
        [5],
        [3, 6],
    ]


def test_different_reductions_stand_side_by_side_but_not_one_after_the_other() -> None:
    found = joined([block("a", [1], ("burst",)), block("a", [2], ("swing:1",)), block("b", [2], ("burst",))])
    assert [(part.metrics, part.reductions, part.time_us.tolist()) for part in found] == [
        (("a",), ("burst",), [1]),
        (("a", "b"), ("swing:1", "burst"), [2]),
    ]


def test_a_waveform_keeps_its_rate() -> None:
    wave = Block(("v",), np.arange(4) * 100, np.zeros((1, 4)), rate_hz=10_000.0)
    assert joined([wave, block("a", [1])])[0].rate_hz == 10_000.0


def test_columns_leave_out_samples_that_the_chosen_metrics_lack() -> None:
    quality = np.array([[0, MISSING, 0], [MISSING, 0, 0]], np.uint8)
    whole = Block(("a", "b"), np.array([1, 2, 3]), np.zeros((2, 3)), quality)
    part = columns(whole, [0])
    assert part is not None
    assert part.time_us.tolist() == [1, 3]
    assert part.quality is None
    assert columns(whole, []) is None


def test_even_the_worst_frame_is_below_the_limit_in_bytes() -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.integers(1, 1 << 40, 40_000))
    wild = Block(("a",), times, rng.normal(size=(1, 40_000)) * 10.0 ** rng.integers(-300, 300, (1, 40_000)), None)
    parts = portions([wild])
    assert sum(part.value.size for portion in parts for part in portion) == 40_000
    for portion in parts:
        assert sum(part.value.size for part in portion) <= CELLS_MAX
        assert len(encode_frame(Frame("s", "d", 1, 1, 0, ClockQuality.SYNCED, blocks=portion))) <= RAW_BYTES_MAX


def test_each_draft_balances_and_the_first_carries_the_rest() -> None:
    wide = Block(("a",), np.arange(CELLS_MAX + 10), np.zeros((1, CELLS_MAX + 10)))
    made = drafts(
        created_us=1,
        clock=ClockQuality.SYNCED,
        lane=Lane.NORMAL,
        blocks=[wide],
        summaries=Summaries.empty(),
        anomalies=[],
        ledger=Ledger(6, 3, 1, {"not_finite": 2}),
    )
    assert [draft.ledger.acquired for draft in made] == [CELLS_MAX + 6, 10]
    assert made[0].ledger.suppressed == 3
    assert made[1].ledger.dropped == {}
