"""One Sparkplug node: births, deaths, sequence numbers, reordering, doubt, and what becomes of every metric."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from sessions import NOW_US
from sparkplug_messages import NOW_MS, arrived, bdseq, by_alias, number, payload

from gateway.sparkplug_node import WAITING_MAX, Born, Died, Phase, SparkplugNode, Taken
from gateway.sparkplug_table import DEVICES_MAX, UNDECLARED_MAX
from gateway.sparkplug_values import Values
from headwater.quality import Quality
from headwater.reasons import DeadLetterReason, LeftOutReason
from headwater.sparkplug_codec import SparkplugMetric
from headwater.sparkplug_schema import DataType
from headwater.sparkplug_topic import Verb

REORDER_US = 2_000_000
NBIRTH, NDATA, NDEATH, DBIRTH, DDATA, DDEATH = (
    Verb.NBIRTH, Verb.NDATA, Verb.NDEATH, Verb.DBIRTH, Verb.DDATA, Verb.DDEATH,
)  # fmt: skip


def make() -> SparkplugNode[Any]:
    return SparkplugNode(REORDER_US, Counter())


def born(*metrics: SparkplugMetric) -> SparkplugNode[Any]:
    """A node after its birth, with Speed as alias 1; the next seq is 1."""
    node = make()
    node.take(arrived(NBIRTH, payload(0, (bdseq(3), number("Speed", 1.0, 1), *metrics))))
    return node


def values(out: list[Any]) -> list[Values]:
    return [one.values for one in out if isinstance(one, Taken)]


def later(ms: int) -> int:
    return NOW_MS + ms


def test_a_birth_defines_and_its_own_values_are_readings() -> None:
    node = make()
    out = node.take(arrived(NBIRTH, payload(0, (bdseq(3), number("Speed", 1.5, 1, unit="rpm")))))
    assert isinstance(out[0], Born)
    (got,) = values(out)
    assert (got.readings, got.left_out) == ({"Speed": {NOW_US: 1.5}}, Counter({LeftOutReason.CONTROL: 1}))
    assert [(d.metric, d.unit) for d in node.table.definitions("")] == [("Speed", "rpm")]
    assert (node.phase, node.wants) == (Phase.BORN, "")


def test_data_is_resolved_by_alias_or_name() -> None:
    node = born(number("Flow", 0.0, 2))
    data = (by_alias(1, 2.0, time_ms=later(1)), number("Flow", 3.0, time_ms=later(1), datatype=DataType.UNKNOWN))
    (got,) = values(node.take(arrived(NDATA, payload(1, data))))
    assert got.readings == {"Speed": {NOW_US + 1000: 2.0}, "Flow": {NOW_US + 1000: 3.0}}
    assert not got.qualities


def test_a_device_has_names_of_its_own_and_aliases_among_the_nodes() -> None:
    node = born()
    node.take(arrived(DBIRTH, payload(1, (number("Speed", 5.0, 9),)), "motor"))
    (got,) = values(node.take(arrived(DDATA, payload(2, (by_alias(9, 6.0, time_ms=later(1)),)), "motor")))
    assert got.readings == {"Speed": {NOW_US + 1000: 6.0}}
    (wrong,) = values(node.take(arrived(NDATA, payload(3, (by_alias(9, 7.0),)))))
    assert wrong.refused.keys() == {DeadLetterReason.ALIAS}


def test_messages_in_the_wrong_order_wait_and_come_out_in_order() -> None:
    node = born()
    out = [node.take(arrived(NDATA, payload(seq, (by_alias(1, seq, time_ms=later(seq)),)))) for seq in (3, 2, 1)]
    assert [len(one) for one in out] == [0, 0, 3]
    assert [one.arrived.payload.seq for one in out[2]] == [1, 2, 3]
    assert node.waiting == 0
    assert (node.wants, node.counters["gaps"]) == ("", 0)


def test_what_is_missing_too_long_is_a_gap_and_readings_by_alias_are_doubted_until_a_birth() -> None:
    node = born()
    node.take(arrived(NDATA, payload(4, (by_alias(1, 4.0), number("Speed", 5.0, time_ms=later(2))))))
    assert node.due(NOW_US + REORDER_US - 1) == []
    (got,) = values(node.due(NOW_US + REORDER_US))
    assert got.readings == {"Speed": {NOW_US: 4.0, NOW_US + 2000: 5.0}}
    assert got.qualities == {("Speed", NOW_US): Quality.UNCERTAIN_GAP}, "named ones are sure"
    assert (node.wants, node.counters["gaps"], node.counters["missing"]) == ("gap", 1, 3)
    node.take(arrived(NBIRTH, payload(0, (bdseq(3), number("Speed", 1.0, 1)), later(3))))
    (sure,) = values(node.take(arrived(NDATA, payload(1, (by_alias(1, 8.0, time_ms=later(4)),)))))
    assert (sure.qualities, node.wants) == ({}, "")


def test_a_clock_that_was_set_back_holds_no_message() -> None:
    node = born()
    node.take(arrived(NDATA, payload(4, (by_alias(1, 4.0),))))
    assert len(values(node.due(NOW_US - 3_600_000_000))) == 1


def test_a_message_that_was_overtaken_by_more_than_the_time_is_late_and_moves_nothing() -> None:
    node = born()
    node.take(arrived(NDATA, payload(2, (by_alias(1, 2.0, time_ms=later(2)),))))
    node.due(NOW_US + REORDER_US)
    assert node.take(arrived(NDATA, payload(1, (by_alias(1, 1.5, time_ms=later(1)),)))) == []
    (late,) = values(node.due(NOW_US + 2 * REORDER_US))
    assert late.readings == {"Speed": {NOW_US + 1000: 1.5}}
    (following,) = values(node.take(arrived(NDATA, payload(3, (by_alias(1, 3.0, time_ms=later(3)),)))))
    assert following.reading_count == 1
    assert node.counters["late"] == 1


def test_the_same_message_again_says_nothing_new() -> None:
    node = born()
    message = arrived(NDATA, payload(1, (by_alias(1, 2.0, time_ms=later(1)),)))
    node.take(message)
    (again,) = values(node.take(message))
    assert (again.reading_count, again.left_out) == (0, Counter({LeftOutReason.REPEAT: 1}))
    ahead = arrived(NDATA, payload(5, (by_alias(1, 5.0, time_ms=later(5)),)))
    assert node.take(ahead) == []
    (waiting,) = values(node.take(ahead))
    assert waiting.left_out == Counter({LeftOutReason.REPEAT: 1})
    assert node.waiting == 1


def test_sequence_numbers_go_round() -> None:
    node = make()
    node.take(arrived(NBIRTH, payload(255, (number("Speed", 1.0, 1),))))
    assert [len(node.take(arrived(NDATA, payload(seq % 256, (), later(seq))))) for seq in range(300)] == [1] * 300
    assert node.waiting == 0


def test_a_birth_that_is_repeated_is_ignored_and_one_that_is_new_begins_again() -> None:
    node = born()
    message = arrived(NBIRTH, payload(0, (bdseq(3), number("Speed", 1.0, 1))))
    (again,) = values(node.take(message))
    assert again.left_out == Counter({LeftOutReason.REPEAT: 2})
    assert len(values(node.take(arrived(NDATA, payload(1, (by_alias(1, 2.0, time_ms=later(1)),)))))) == 1
    out = node.take(arrived(NBIRTH, payload(0, (bdseq(3), number("Speed", 2.0, 7, time_ms=later(1))), later(2))))
    assert values(out)[0].left_out[LeftOutReason.REPEAT] == 1, "the same value at the same time as before"
    (by_old_alias,) = values(node.take(arrived(NDATA, payload(1, (by_alias(1, 3.0),)))))
    assert by_old_alias.refused.keys() == {DeadLetterReason.ALIAS}


def test_messages_that_overtook_their_birth_belong_to_it() -> None:
    node = born()
    assert node.take(arrived(NDATA, payload(7, (by_alias(1, 9.0, time_ms=later(1)),), later(1)))) == []
    assert node.take(arrived(NDATA, payload(2, (by_alias(1, 2.0, time_ms=later(12)),), later(12)))) == []
    out = node.take(arrived(NBIRTH, payload(0, (bdseq(3), number("Flow", 0.0, 1, time_ms=later(10))), later(10))))
    (older, birth) = values(out)
    assert older.readings == {"Speed": {NOW_US + 1000: 9.0}}
    assert birth.readings == {"Flow": {NOW_US + 10_000: 0.0}}
    out = node.take(arrived(NDATA, payload(1, (by_alias(1, 1.0, time_ms=later(11)),), later(11))))
    assert [one.readings for one in values(out)] == [{"Flow": {NOW_US + 11_000: 1.0}}, {"Flow": {NOW_US + 12_000: 2.0}}]


def test_a_death_ends_the_life_it_was_made_for_and_no_other() -> None:
    node = born()
    node.take(arrived(DBIRTH, payload(1, (number("Temp", 5.0, 9),)), "motor"))
    out = node.take(arrived(NDEATH, payload(None, (bdseq(2),))))
    assert [type(one) for one in out] == [Taken]
    assert (node.phase, node.counters["stale_deaths"]) == (Phase.BORN, 1)
    out = node.take(arrived(NDEATH, payload(None, (bdseq(3),))))
    assert [one.device for one in out if isinstance(one, Died)] == ["motor", ""]
    assert node.phase is Phase.DEAD
    assert node.lose() == []


def test_a_connection_that_is_lost_is_a_death_too() -> None:
    node = born()
    node.take(arrived(NDATA, payload(3, (by_alias(1, 2.0, time_ms=later(1)),))))
    out = node.lose()
    assert [type(one) for one in out] == [Taken, Died]
    assert values(out)[0].reading_count == 1


def test_data_before_any_birth_is_read_as_far_as_it_tells_itself_and_a_birth_is_wanted() -> None:
    node = make()
    (got,) = values(node.take(arrived(NDATA, payload(17, (number("Speed", 2.0), by_alias(4, 1.0))))))
    assert got.readings == {"Speed": {NOW_US: 2.0}}
    assert got.refused.keys() == {DeadLetterReason.ALIAS}
    assert node.wants == "unborn"


def test_a_device_that_is_not_born_again_with_its_node_is_dead_after_a_while() -> None:
    node = born()
    node.take(arrived(DBIRTH, payload(1, (number("Temp", 5.0, 9),)), "motor"))
    node.take(arrived(DBIRTH, payload(2, (number("Temp", 5.0, 10),)), "pump"))
    again = node.take(arrived(NBIRTH, payload(0, (bdseq(3),), later(5))))
    assert not [one for one in again if isinstance(one, Died)]
    node.take(arrived(DBIRTH, payload(1, (number("Temp", 5.0, 9),), later(6)), "motor"))
    assert node.due(NOW_US + 5 * REORDER_US) == [Died("pump")]


def test_a_device_dies_by_its_own_death() -> None:
    node = born()
    node.take(arrived(DBIRTH, payload(1, (number("Temp", 5.0, 9),)), "motor"))
    assert Died("motor") in node.take(arrived(DDEATH, payload(2), "motor"))
    (got,) = values(node.take(arrived(DDATA, payload(3, (by_alias(9, 1.0),)), "motor")))
    assert got.refused.keys() == {DeadLetterReason.ALIAS}
    assert node.wants == "unborn"


def test_what_is_no_number_is_left_out_with_its_reason() -> None:
    kinds = (
        SparkplugMetric("label", 2, NOW_MS, DataType.STRING, "", "string_value"),
        SparkplugMetric("table", 3, NOW_MS, DataType.DATA_SET, None, "dataset_value"),
        SparkplugMetric("wave", 4, NOW_MS, DataType.FLOAT_ARRAY, None, "bytes_value"),
        SparkplugMetric("when", 5, NOW_MS, DataType.DATE_TIME, 5, "long_value"),
        SparkplugMetric("none", 6, NOW_MS, DataType.DOUBLE, is_null=True),
        SparkplugMetric("Node Control/Rebirth", None, NOW_MS, DataType.BOOLEAN, False, "boolean_value"),
    )
    node = make()
    (got,) = values(node.take(arrived(NBIRTH, payload(0, kinds))))
    assert got.left_out == Counter(
        {LeftOutReason.TEXT: 1, LeftOutReason.KIND: 3, LeftOutReason.NULL: 1, LeftOutReason.CONTROL: 1}
    )
    assert not got.readings


def test_two_names_that_become_one_are_not_mixed() -> None:
    node = make()
    metrics = (number("Temp A", 1.0, 1), number("Temp_A", 2.0, 2), number("°", 3.0, 3))
    (got,) = values(node.take(arrived(NBIRTH, payload(0, metrics))))
    assert got.readings == {"Temp_A": {NOW_US: 1.0}}
    assert got.left_out == Counter({LeftOutReason.NAME: 2})
    ((number_refused, detail),) = got.refused.values()
    assert (number_refused, "Temp_A" in detail) == (0, True)


def test_an_alias_that_stands_for_two_metrics_stands_for_none() -> None:
    node = make()
    node.take(arrived(NBIRTH, payload(0, (number("a", 1.0, 1), number("b", 2.0, 1)))))
    (got,) = values(node.take(arrived(NDATA, payload(1, (by_alias(1, 5.0),)))))
    assert got.refused.keys() == {DeadLetterReason.ALIAS}


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (by_alias(1, float("nan")), DeadLetterReason.NOT_FINITE),
        (by_alias(1, float("inf")), DeadLetterReason.NOT_FINITE),
        (by_alias(1, 1.0, time_ms=5), DeadLetterReason.TIME_RANGE),
        (by_alias(1, 1.0, time_ms=(1 << 64) - 1), DeadLetterReason.TIME_RANGE),
        (by_alias(1, 1.0, time_ms=later(600_000)), DeadLetterReason.TIME_RANGE),
        (by_alias(2, 1.0), DeadLetterReason.ALIAS),
        (number("", 1.0), DeadLetterReason.ALIAS),
        (number("Speed", 1.0, datatype=DataType.INT8), DeadLetterReason.SCHEMA),
        (SparkplugMetric("", 1, NOW_MS, raw=3, field="int_value"), DeadLetterReason.SCHEMA),
    ],
)
def test_one_bad_metric_is_refused_and_its_neighbours_are_not(
    metric: SparkplugMetric, reason: DeadLetterReason
) -> None:
    node = born(number("Flow", 0.0, 7))
    (got,) = values(node.take(arrived(NDATA, payload(1, (metric, by_alias(7, 2.0, time_ms=later(1)))))))
    assert {why: count for why, (count, _) in got.refused.items()} == {reason: 1}
    assert got.readings == {"Flow": {NOW_US + 1000: 2.0}}


def test_without_a_time_of_its_own_a_metric_has_that_of_its_payload_or_of_receipt() -> None:
    node = born(number("Flow", 0.0, 7))
    (got,) = values(node.take(arrived(NDATA, payload(1, (by_alias(7, 1.0, time_ms=None),), later(3)))))
    assert (got.readings, got.has_own_time) == ({"Flow": {NOW_US + 3000: 1.0}}, True)
    untimed = arrived(NDATA, payload(2, (by_alias(7, 1.0, time_ms=None),), None), received_us=NOW_US + 7)
    (got,) = values(node.take(untimed))
    assert (got.readings, got.has_own_time) == ({"Flow": {NOW_US + 7: 1.0}}, False)


def test_historical_values_keep_their_times_and_do_not_become_the_newest() -> None:
    node = born()
    data = (by_alias(1, 7.0, time_ms=later(-60_000), is_historical=True), by_alias(1, 8.0, time_ms=later(1)))
    (got,) = values(node.take(arrived(NDATA, payload(1, data))))
    assert got.readings == {"Speed": {NOW_US - 60_000_000: 7.0, NOW_US + 1000: 8.0}}
    assert got.historical == 1
    assert node.table.definitions("")[0].value == 8.0


def test_two_values_at_one_time_are_one_or_a_contradiction() -> None:
    node = born()
    data = [by_alias(1, value, time_ms=later(1)) for value in (2.0, 2.0, 3.0)]
    (got,) = values(node.take(arrived(NDATA, payload(1, data))))
    assert got.readings == {"Speed": {NOW_US + 1000: 2.0}}
    assert (got.left_out[LeftOutReason.REPEAT], got.refused[DeadLetterReason.SCHEMA][0]) == (1, 1)


def test_a_metric_that_no_birth_told_of_is_read_if_it_tells_itself_and_bounded() -> None:
    node = born()
    many = [number(f"new{at}", 1.0) for at in range(UNDECLARED_MAX + 5)]
    (got,) = values(node.take(arrived(NDATA, payload(1, many))))
    assert (got.reading_count, got.refused[DeadLetterReason.ALIAS][0]) == (UNDECLARED_MAX, 5)
    assert node.wants == "undeclared"


def test_too_many_devices_are_refused() -> None:
    node = born()
    for at in range(1, DEVICES_MAX):
        node.take(arrived(DBIRTH, payload(at % 256, (number("a", 1.0),)), f"d{at}"))
    (got,) = values(node.take(arrived(DBIRTH, payload(0, (number("a", 1.0),), later(1)), "one-too-many")))
    assert got.refused.keys() == {DeadLetterReason.LIMIT}
    assert not node.table.is_born("one-too-many")


def test_what_waits_is_bounded() -> None:
    node = born()
    out = []
    for seq in range(2, WAITING_MAX + 4):
        out += node.take(arrived(NDATA, payload(seq, (by_alias(1, seq, time_ms=later(seq)),))))
    assert len(values(out)) == WAITING_MAX + 2
    assert (node.waiting, node.counters["gaps"], node.wants) == (0, 1, "gap")


def test_messages_without_a_seq_are_taken_as_they_come() -> None:
    node = born()
    assert len(node.take(arrived(NDATA, payload(None, (by_alias(1, 2.0, time_ms=later(1)),))))) == 1


def test_the_value_of_a_birth_that_comes_once_more_as_data_is_one_reading() -> None:
    node = born()
    newer = (by_alias(1, 9.0, time_ms=later(50)), by_alias(1, 1.0))
    node.take(arrived(NBIRTH, payload(0, (bdseq(3), number("Speed", 1.0, 1)), later(1))))
    (got,) = values(node.take(arrived(NDATA, payload(1, newer))))
    assert (got.readings, got.left_out) == ({"Speed": {NOW_US + 50_000: 9.0}}, Counter({LeftOutReason.REPEAT: 1}))


@pytest.mark.parametrize(("told", "quality"), [(0, Quality.BAD), (500, Quality.UNCERTAIN), (192, None), (7, None)])
def test_the_property_quality_is_the_readings_quality(told: int, quality: Quality | None) -> None:
    node = born()
    (got,) = values(node.take(arrived(NDATA, payload(1, (by_alias(1, 2.0, time_ms=later(1), quality=told),)))))
    assert got.qualities == ({} if quality is None else {("Speed", NOW_US + 1000): quality})


def test_a_native_frame_in_a_message_takes_the_place_of_its_metrics() -> None:
    node = born()
    told = replace(payload(1, (by_alias(1, 2.0, time_ms=later(1)),)), frame=b"frame")
    (taken,) = node.take(arrived(NDATA, told))
    assert isinstance(taken, Taken)
    assert taken.has_frame
    assert (taken.values.reading_count, taken.values.left_out) == (0, Counter({LeftOutReason.FRAME: 1}))
    again = replace(payload(0, (bdseq(3), number("Speed", 7.0, 1)), later(9)), status=b"{}")
    (birth,) = values(node.take(arrived(NBIRTH, again)))
    assert birth.left_out == Counter({LeftOutReason.FRAME: 2})
