"""The data of a Sparkplug node over a link in memory: how it is sent, what frees its frames, what is historical."""

from pathlib import Path

import numpy as np
from sparkplug_bench import NOW, Bench

from edge_agent.pack import Draft, Lane
from edge_agent.spool import Room, Spool
from headwater.ack import Ack
from headwater.codec import decode_frame
from headwater.frame import Block
from headwater.mqtt_link import LinkDown, LinkMessage, LinkPuback
from headwater.names import mqtt_topic
from headwater.reasons import ClockQuality
from headwater.sparkplug_codec import SparkplugMetric


def test_data_goes_by_alias_with_time_and_without_a_type_and_its_puback_frees_it(bench: Bench) -> None:
    bench.step()
    bench.store(1.5, 2.5)
    bench.step()
    (_, first, qos), (_, second, _) = bench.wire.published[1:]
    assert first.metrics == (SparkplugMetric("", 1, NOW // 1_000, raw=1.5, field="double_value"),)
    assert (first.seq, second.seq, qos) == (1, 2, 1)
    assert bench.spool.buffered == 0


def test_without_a_puback_nothing_is_freed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, answers=False)
    bench.step()
    bench.store(1.0, 2.0, 3.0)
    bench.step()
    assert bench.spool.buffered == 3
    first, second, third = bench.wire.held
    bench.wire.waiting += [LinkPuback(third, 0), LinkPuback(first, 0)]
    bench.step()
    assert bench.spool.buffered == 2, "the second is not there yet"
    bench.wire.waiting.append(LinkPuback(second, 0))
    bench.step()
    assert bench.spool.buffered == 0
    bench.spool.close()


def test_a_message_that_nobody_subscribed_to_is_not_freed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, answers=False)
    bench.step()
    bench.store(1.0)
    bench.step()
    bench.wire.waiting.append(LinkPuback(bench.wire.held[0], 0x10))
    bench.step(1)
    assert bench.spool.buffered == 1
    assert bench.uplink.counters.refused == 1
    bench.spool.close()


def test_what_was_kept_while_it_was_away_is_historical_and_what_is_new_is_not(bench: Bench) -> None:
    bench.step()
    bench.store(1.0)
    bench.step()
    bench.wire.waiting.append(LinkDown("cut"))
    bench.step(1)
    bench.store(2.0, 3.0)
    bench.step()
    bench.store(4.0)
    bench.step()
    birth, *data = bench.said()
    assert birth == ("NBIRTH", [(1, 1.0, False)], 0), "with the newest value that was sent"
    assert sorted(data) == [
        ("NDATA", [(1, 2.0, True)], 1),
        ("NDATA", [(1, 3.0, True)], 1),
        ("NDATA", [(1, 4.0, False)], 1),
    ]
    assert bench.spool.buffered == 0


def test_with_release_durable_the_native_frame_travels_along_and_only_the_gateways_ack_frees(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sparkplug_release="durable")
    bench.step()
    bench.store(1.0, 2.0)
    bench.step()
    _, first, second = [told for _, told, _ in bench.wire.published]
    assert [decode_frame(told.frame).seq for told in (first, second)] == [1, 2]
    assert [m.raw for m in first.metrics] == [1.0]
    assert bench.spool.buffered == 2
    assert mqtt_topic("plant", "press-1", "ack") in bench.wire.subscribed
    ack = Ack(bench.spool.epoch, 2, (), "store", "log")
    bench.wire.waiting.append(LinkMessage(mqtt_topic("plant", "press-1", "ack"), ack.to_json()))
    bench.step()
    assert bench.spool.buffered == 0
    bench.spool.close()


def test_frames_that_were_given_up_do_not_hold_back_the_others(tmp_path: Path) -> None:
    bench = Bench(tmp_path, room=Room(2_000))
    for _ in range(80):
        bench.store(1.0, 2.0, 3.0)
    assert bench.spool.given_up > 0
    for _ in range(40):
        bench.step()
        bench.store(1.0)
    bench.step(10)
    assert bench.spool.buffered == 0
    bench.spool.close()


def test_frames_of_an_earlier_epoch_are_historical_and_freed_as_well(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool.db", site="plant", device="press-1", now_us=NOW)
    block = Block(("Speed",), np.array([NOW]), np.array([[1.0]]))
    first.append([Draft(NOW, ClockQuality.SYNCED, Lane.NORMAL, (block,)) for _ in range(5)], NOW)
    first.rotate(9, NOW)
    first.close()
    bench = Bench(tmp_path)
    assert bench.spool.buffered > 0
    bench.step(8)
    bench.store(2.0)
    bench.step(8)
    assert bench.spool.buffered == 0
    historical = [flag for verb, told, _ in bench.said() if verb == "NDATA" for _, _, flag in told]
    assert historical.count(True) == 5
    bench.spool.close()
