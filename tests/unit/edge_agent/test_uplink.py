"""The uplink against a gateway in memory: order, window, what frees a frame, what sends it again."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge_agent.pack import Draft, Lane
from edge_agent.spool import Spool
from edge_agent.testing import MemoryGateway, MemoryLink
from edge_agent.traffic import UplinkLimits
from edge_agent.uplink import Uplink
from headwater.ack import Ack
from headwater.frame import Block
from headwater.mqtt_link import LinkDown, LinkMessage
from headwater.names import mqtt_topic
from headwater.reasons import ClockQuality, GapReason
from headwater.status import Status, parse_status

NOW = 1_700_000_000_000_000
LIMITS = UplinkLimits(in_flight_max=8, unacked_max=64, ack_timeout_us=10_000_000, reconnect_min_us=1_000_000)


def draft(number: int = 0, lane: Lane = Lane.NORMAL) -> Draft:
    block = Block(("m",), np.array([NOW + number]), np.array([[number * 0.5]]))
    return Draft(NOW + number, ClockQuality.SYNCED, lane, (block,))


class Bench:
    """A spool, an uplink and a gateway, with time in the test's hand."""

    def __init__(self, path: Path, limits: UplinkLimits = LIMITS, receive_maximum: int = 100) -> None:
        self.spool = Spool(path / "spool.db", site="north", device="pump", now_us=NOW)
        self.gateway = MemoryGateway(receive_maximum=receive_maximum)
        self.time_us = 0
        self.control: list[tuple[str, bytes]] = []
        self.uplink = Uplink(
            self.spool,
            self.gateway.connect,
            lambda online: Status(online, self.spool.epoch, self.spool.assigned),
            lambda: 0.5,
            limits,
            lambda leaf, payload: self.control.append((leaf, payload)),
        )

    @property
    def link(self) -> MemoryLink:
        return self.gateway.links[-1]

    def store(self, count: int, lane: Lane = Lane.NORMAL) -> None:
        self.spool.append([draft(number, lane) for number in range(count)], NOW)

    def step(self, after_us: int = 0, times: int = 1) -> None:
        for _ in range(times):
            self.time_us += after_us
            self.uplink.step(self.time_us, NOW + self.time_us)

    def come_up(self) -> None:
        self.step()
        self.step(600_000)

    def settle(self) -> None:
        """Sends and acknowledges until nothing is left."""
        for _ in range(50):
            self.step(10_000)
            self.gateway.send_ack(self.gateway.ack(self.spool.epoch))
            if not self.spool.buffered:
                return

    def seqs(self) -> list[int]:
        return [frame.seq for frame in self.gateway.frames]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.spool.close()


def test_it_says_that_it_is_online_and_leaves_a_will(bench: Bench) -> None:
    bench.come_up()
    assert parse_status(bench.gateway.statuses[0]).online
    assert not parse_status(bench.link.will.payload).online
    assert bench.link.subscribed == tuple(mqtt_topic("north", "pump", leaf) for leaf in ("ack", "config", "command"))


def test_frames_go_in_order_and_only_a_durable_ack_frees_them(bench: Bench) -> None:
    bench.store(5)
    bench.come_up()
    bench.step(times=3)
    assert bench.seqs() == [1, 2, 3, 4, 5]
    assert bench.spool.buffered == 5, "a PUBACK frees nothing"
    bench.gateway.send_ack(Ack(bench.spool.epoch, 3, (), "store", "l"))
    bench.step()
    assert bench.spool.buffered == 2


def test_it_waits_a_moment_for_the_retained_ack_before_sending_a_backlog(bench: Bench) -> None:
    bench.store(3)
    bench.step()
    bench.step(100_000)
    assert bench.seqs() == []
    bench.gateway.send_ack(Ack(bench.spool.epoch, 2, (), "store", "l"))
    bench.step()
    bench.step()
    assert bench.seqs() == [3], "what is durable already is not sent again"


def test_never_more_is_in_flight_than_the_settings_and_the_broker_allow(tmp_path: Path) -> None:
    for number, (own, theirs, most) in enumerate([(8, 100, 8), (50, 5, 5)]):
        folder = tmp_path / str(number)
        bench = Bench(folder, replace(LIMITS, in_flight_max=own), receive_maximum=theirs)
        bench.gateway.answers = False
        bench.store(40)
        bench.come_up()
        bench.step(times=3)
        # The status message counts too, but its PUBACK has come.
        assert bench.link.in_flight_most <= most
        assert len(bench.gateway.frames) <= most
        bench.spool.close()


def test_the_window_of_unacknowledged_frames_is_bounded(tmp_path: Path) -> None:
    bench = Bench(tmp_path, replace(LIMITS, unacked_max=20))
    bench.store(100)
    bench.come_up()
    bench.step(times=50)
    assert len(bench.gateway.frames) <= 20
    bench.settle()
    assert sorted(set(bench.seqs())) == list(range(1, 101))
    assert bench.spool.buffered == 0
    bench.spool.close()


def test_urgent_goes_first_then_live_then_backlog_each_in_order(bench: Bench) -> None:
    bench.store(30)
    bench.store(2, Lane.URGENT)
    bench.come_up()
    bench.store(2)
    bench.step(times=30)
    seqs = bench.seqs()
    assert seqs[:2] == [31, 32]
    live = [seqs.index(seq) for seq in (33, 34)]
    assert max(live) < seqs.index(30), "live frames don't wait for the backlog"
    backlog = [seq for seq in seqs if seq <= 30]
    assert backlog == sorted(backlog)


def test_frames_that_an_anomaly_promotes_are_sent_before_the_backlog(bench: Bench) -> None:
    bench.store(40)
    bench.come_up()
    bench.gateway.answers = False
    bench.spool.append([draft(40, Lane.URGENT)], NOW, promote_from_us=NOW + 37)
    bench.uplink.promoted(1)
    bench.gateway.answers = True
    before = len(bench.seqs())
    bench.step(times=2)
    first = bench.seqs()[before : before + 4]
    assert first == [38, 39, 40, 41]


def test_missing_frames_are_sent_again_at_once_but_not_those_on_their_way(bench: Bench) -> None:
    bench.gateway.lost = {2}
    bench.store(4)
    bench.come_up()
    bench.step(2_000_000)
    bench.gateway.send_ack(bench.gateway.ack(bench.spool.epoch))
    bench.step()
    bench.step()
    assert bench.seqs() == [1, 3, 4, 2]
    assert bench.uplink.counters.republished == 1


def test_without_any_ack_everything_goes_again_after_a_growing_time(bench: Bench) -> None:
    bench.store(3)
    bench.come_up()
    bench.step(1_000)
    assert len(bench.seqs()) == 3
    bench.step(14_000_000)
    assert len(bench.seqs()) == 3, "full jitter of one half: 10 s + 5 s"
    bench.step(2_000_000)
    bench.step()
    assert bench.seqs() == [1, 2, 3, 1, 2, 3]
    bench.step(16_000_000)
    assert len(bench.seqs()) == 6, "the second wait is longer"
    bench.step(6_000_000)
    bench.step()
    assert len(bench.seqs()) == 9


@pytest.mark.parametrize("code", [0x10, 0x80, 0x83, 0x87, 0x97, 0x99])
def test_a_puback_that_is_a_failure_is_one(bench: Bench, code: int) -> None:
    bench.gateway.reason_code = code
    bench.store(2)
    bench.come_up()
    bench.step(times=2)
    assert bench.uplink.counters.refused == 2
    assert bench.spool.buffered == 2
    bench.gateway.reason_code = 0
    bench.step(3_000_000)
    bench.step()
    assert bench.seqs() == [1, 2]


def test_after_a_reconnect_everything_unacknowledged_is_sent(bench: Bench) -> None:
    bench.store(3)
    bench.come_up()
    bench.step()
    bench.link.break_off()
    bench.step()
    assert not bench.uplink.is_up
    bench.step(600_000)
    bench.come_up()
    bench.step()
    assert bench.seqs() == [1, 2, 3, 1, 2, 3]
    assert bench.uplink.counters.connects == 2


def test_reconnects_wait_with_full_jitter_up_to_the_cap(bench: Bench) -> None:
    delays = []
    for _ in range(10):
        bench.step()
        bench.link.push(LinkDown("no route"))
        bench.step()
        links = len(bench.gateway.links)
        waited = 0
        while len(bench.gateway.links) == links:
            bench.link.push(LinkDown("no route"))
            bench.step(100_000)
            waited += 100_000
        delays.append(waited)
    assert delays[0] <= 600_000
    assert all(later >= earlier for earlier, later in pairwise(delays))
    assert max(delays) <= 30_100_000, "half of the cap of 60 s"


def test_an_ack_of_another_epoch_frees_nothing(bench: Bench) -> None:
    bench.store(3)
    bench.come_up()
    bench.gateway.send_ack(Ack((bench.spool.epoch + 1) % (1 << 64), 3, (), "store", "l"))
    bench.step()
    assert bench.spool.buffered == 3


def test_an_ack_above_what_was_assigned_frees_nothing_is_counted_and_starts_a_new_epoch(bench: Bench) -> None:
    bench.store(3)
    bench.come_up()
    former = bench.spool.epoch
    bench.gateway.send_ack(Ack(former, 1_000, (), "store", "l"))
    bench.step()
    assert bench.uplink.counters.acks_beyond == 1
    assert bench.spool.epoch != former
    assert bench.spool.buffered == 3
    bench.store(1)
    bench.step(600_000, times=3)
    bench.settle()
    gaps = [gap for frame in bench.gateway.frames for gap in frame.gaps]
    assert [(gap.epoch, gap.from_seq, gap.to_seq, gap.reason) for gap in gaps] == [
        (former, 1_001, 0, GapReason.LYING_DISK)
    ]
    bench.gateway.send_ack(Ack(bench.spool.epoch, 1_000, (), "store", "l"))
    again = bench.spool.epoch
    bench.step()
    assert bench.uplink.counters.acks_beyond == 2
    assert bench.spool.epoch == again, "a liar can't make it turn for ever"


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"\xff", b'{"epoch": "x"}', b"9" * 10_000])
def test_a_malformed_ack_changes_nothing(bench: Bench, payload: bytes) -> None:
    bench.store(2)
    bench.come_up()
    bench.link.push(LinkMessage(mqtt_topic("north", "pump", "ack"), payload))
    bench.step()
    assert bench.spool.buffered == 2
    assert bench.uplink.counters.acks_malformed == 1


def test_messages_for_another_device_are_ignored_and_commands_are_handed_on(bench: Bench) -> None:
    bench.store(2)
    bench.come_up()
    bench.link.push(
        LinkMessage(mqtt_topic("north", "other", "ack"), Ack(bench.spool.epoch, 2, (), "store", "l").to_json())
    )
    bench.link.push(LinkMessage(mqtt_topic("north", "pump", "command"), b"{}"))
    bench.step()
    assert bench.spool.buffered == 2
    assert bench.uplink.counters.acks_foreign == 1
    assert bench.control == [("command", b"{}")]


def test_a_clean_goodbye_says_that_the_device_is_offline(bench: Bench) -> None:
    bench.store(1)
    bench.come_up()
    bench.step()
    bench.uplink.leave()
    bench.step()
    assert bench.uplink.is_gone
    assert not parse_status(bench.gateway.statuses[-1]).online
    bench.uplink.hang_up()
    bench.step(100_000_000)
    assert len(bench.gateway.links) == 1


def test_a_cut_network_stays_cut_until_it_is_mended(bench: Bench) -> None:
    bench.come_up()
    bench.uplink.cut(is_cut=True)
    bench.store(2)
    bench.step(100_000_000)
    assert len(bench.gateway.links) == 1
    bench.uplink.cut(is_cut=False)
    bench.come_up()
    bench.step()
    assert bench.seqs() == [1, 2]


def test_a_missing_frame_that_a_damaged_index_hides_is_found_and_one_that_is_gone_is_declared(bench: Bench) -> None:
    bench.store(6)
    hide = bench.spool._connection.execute
    hide("UPDATE frames SET lane = 7 WHERE seq = 3")
    hide("DELETE FROM frames WHERE seq = 5")
    bench.come_up()
    bench.step(2_000_000)
    assert bench.seqs() == [1, 2, 4, 6]
    bench.gateway.send_ack(bench.gateway.ack(bench.spool.epoch))
    bench.step()
    bench.step()
    assert bench.seqs() == [1, 2, 4, 6, 3]
    assert bench.spool.has_gaps_due
    bench.gateway.send_ack(bench.gateway.ack(bench.spool.epoch))
    bench.store(1)
    bench.step(2_000_000, times=2)
    gaps = [gap for frame in bench.gateway.frames for gap in frame.gaps]
    assert [(gap.from_seq, gap.to_seq, gap.reason) for gap in gaps] == [(5, 5, GapReason.SPOOL_DAMAGED)]
    assert bench.gateway.ack(bench.spool.epoch).contiguous == 7


def test_a_broker_that_lost_what_it_had_taken_is_given_all_of_it_again_at_once(bench: Bench) -> None:
    bench.store(5)
    bench.come_up()
    bench.step(times=3)
    bench.gateway.send_ack(Ack(bench.spool.epoch, 2, (), "store", "l"))
    bench.step()
    bench.gateway.send_ack(Ack(bench.spool.epoch, 2, (), "store", "l", resync=77))
    bench.step(times=3)
    assert bench.seqs() == [1, 2, 3, 4, 5, 3, 4, 5]
    bench.gateway.send_ack(Ack(bench.spool.epoch, 3, (), "store", "l", resync=77))
    bench.step(times=3)
    assert len(bench.seqs()) == 8, "the same loss is told with every ack and acted upon once"
    assert bench.uplink.counters.resyncs == 1
    assert bench.uplink.counters.ack_timeouts == 0


def test_a_loss_from_before_the_connection_asks_for_nothing(bench: Bench) -> None:
    bench.store(3)
    bench.come_up()
    bench.step(times=3)
    bench.gateway.send_ack(Ack(bench.spool.epoch, 1, (), "store", "l", resync=77))
    bench.gateway.send_ack(Ack(bench.spool.epoch, 1, (), "store", "l"))
    bench.gateway.send_ack(Ack(bench.spool.epoch, 1, (), "store", "l", resync=77))
    bench.step(times=3)
    assert bench.seqs() == [1, 2, 3]
    assert bench.uplink.counters.resyncs == 0
