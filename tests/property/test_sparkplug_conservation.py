"""Whatever order, gaps, repeats and deaths: every message comes out once, every metric is accounted for once."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "gateway"))

from sessions import NOW_US
from sparkplug_messages import NOW_MS, arrived, bdseq, by_alias, number, payload

from gateway.sparkplug_node import WAITING_MAX, Arrived, SparkplugNode, Taken
from headwater.reasons import DeadLetterReason
from headwater.sparkplug_codec import SparkplugMetric
from headwater.sparkplug_topic import Verb

REORDER_US = 1_000


@st.composite
def metrics(draw: st.DrawFn) -> tuple[SparkplugMetric, ...]:
    found = []
    for _ in range(draw(st.integers(0, 4))):
        value = draw(st.sampled_from([1.0, 2.0, float("nan"), float("inf")]))
        time_ms = draw(st.sampled_from([NOW_MS, NOW_MS + 1, 5, None]))
        alias = draw(st.one_of(st.none(), st.integers(0, 3)))
        if draw(st.booleans()):
            found.append(
                number(draw(st.sampled_from(["a", "b b", "b_b", "°", "bdSeq"])), value, alias, time_ms=time_ms)
            )
        else:
            found.append(by_alias(alias or 0, value, time_ms=time_ms, is_null=draw(st.booleans())))
    return tuple(found)


@st.composite
def messages(draw: st.DrawFn, at: int) -> Arrived[int]:
    verb = draw(
        st.sampled_from([Verb.NBIRTH, Verb.NDATA, Verb.NDATA, Verb.DBIRTH, Verb.DDATA, Verb.DDEATH, Verb.NDEATH])
    )
    seq = None if verb is Verb.NDEATH else draw(st.one_of(st.integers(0, 12), st.sampled_from([None, 128, 255])))
    told = payload(seq, (*draw(metrics()), bdseq(draw(st.integers(0, 1)))), NOW_MS + draw(st.integers(0, 3)))
    device = draw(st.sampled_from(["d", "e"])) if verb.is_of_device else ""
    return arrived(verb, told, device, NOW_US + at, at)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_every_message_comes_out_once_and_every_metric_is_accounted_for(data: st.DataObject) -> None:
    node: SparkplugNode[Any] = SparkplugNode(REORDER_US, Counter())
    out: list[Any] = []
    sent: list[Arrived[int]] = []
    for at in range(data.draw(st.integers(0, 25))):
        match data.draw(st.integers(0, 9)):
            case 0:
                out += node.due(NOW_US + at + data.draw(st.sampled_from([0, REORDER_US])))
            case 1:
                out += node.lose()
            case 2 if sent:
                again = data.draw(st.sampled_from(sent))
                sent.append(again)
                out += node.take(again)
            case _:
                sent.append(data.draw(messages(at)))
                out += node.take(sent[-1])
        assert node.waiting <= WAITING_MAX
    out += node.due(NOW_US + 10 * REORDER_US)
    taken = [one for one in out if isinstance(one, Taken)]
    assert Counter(one.arrived.origin for one in taken) == Counter(one.origin for one in sent)
    for one in taken:
        refused = sum(count for count, _ in one.values.refused.values())
        assert one.values.count == len(one.arrived.payload.metrics)
        assert one.values.count == one.values.reading_count + one.values.left_out.total() + refused


@given(st.permutations(list(range(1, 13))), st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_any_order_within_the_time_gives_what_the_right_order_gives(order: list[int], first: int) -> None:
    node: SparkplugNode[Any] = SparkplugNode(REORDER_US, Counter())
    node.take(arrived(Verb.NBIRTH, payload(first, (number("a", 0.0, 1),))))
    out: list[Any] = []
    for step in order:
        told = payload((first + step) % 256, (by_alias(1, step, time_ms=NOW_MS + step),))
        out += node.take(arrived(Verb.NDATA, told, received_us=NOW_US, origin=step))
    assert [one.arrived.origin for one in out] == list(range(1, 13))
    assert all(not one.values.refused and not one.values.qualities for one in out)
    assert (node.wants, node.waiting) == ("", 0)


@given(st.sets(st.integers(1, 30), min_size=1, max_size=29))
@settings(max_examples=60, deadline=None)
def test_any_loss_loses_only_what_was_lost_and_asks_for_a_birth(lost: set[int]) -> None:
    node: SparkplugNode[Any] = SparkplugNode(REORDER_US, Counter())
    node.take(arrived(Verb.NBIRTH, payload(0, (number("a", 0.0, 1),))))
    out: list[Any] = []
    for step in range(1, 31):
        if step not in lost:
            told = payload(step, (by_alias(1, step, time_ms=NOW_MS + step),))
            out += node.take(arrived(Verb.NDATA, told, received_us=NOW_US, origin=step))
    out += node.due(NOW_US + REORDER_US)
    assert [one.arrived.origin for one in out] == [step for step in range(1, 31) if step not in lost]
    assert not any(DeadLetterReason.ALIAS in one.values.refused for one in out)
    has_hole = any(step < max(set(range(1, 31)) - lost) for step in lost)
    assert (node.wants == "gap") == has_hole
