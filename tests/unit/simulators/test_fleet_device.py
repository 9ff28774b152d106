import pytest

from headwater.ack import Ack
from headwater.frame import Block
from headwater.instant import US_PER_S
from simulators.fleet_device import FleetDevice, Waiting
from simulators.fleet_report import LATENCIES_MAX, FleetReport, Tally
from simulators.plant import Plant

START_US = 1_700_000_000_000_000


@pytest.fixture
def device():
    plant = Plant(1, 4, start_us=START_US)
    one = FleetDevice(plant.machines[0], 77, 4, 1_000)
    blocks = plant.readings(plant.machines[0], START_US, START_US + US_PER_S)
    for _ in range(4):
        frame = one.next_frame(blocks, START_US)
        one.waiting[frame.seq] = Waiting(frame, b"payload", 0, sends=1)
    return one


def ack(contiguous, missing=(), epoch=77):
    return Ack(epoch, contiguous, missing, "store", "log")


def test_seqs_ascend_and_the_oldest_is_the_first_that_is_not_durable(device):
    assert list(device.waiting) == [1, 2, 3, 4]
    assert [one.frame.oldest_seq for one in device.waiting.values()] == [1, 1, 1, 1]
    device.acknowledge(ack(2), 0)
    assert device.next_frame((), START_US).oldest_seq == 3


def test_an_ack_frees_what_lies_at_and_below_it(device):
    durable, again = device.acknowledge(ack(3), 0)
    assert [one.frame.seq for one in durable] == [1, 2, 3]
    assert again == []
    assert device.has_room


def test_missing_frames_are_sent_again_but_not_before_their_time(device):
    assert device.acknowledge(ack(1, ((2, 3),)), 500)[1] == []
    assert device.acknowledge(ack(1, ((2, 3),)), 1_000)[1] == [2, 3]


def test_an_ack_of_another_epoch_or_of_what_was_never_sent_changes_nothing_it_must_not(device):
    assert device.acknowledge(ack(4, epoch=78), 0) == ([], [])
    assert not device.has_room
    durable, again = device.acknowledge(ack(99, ((100, 200),)), 9_999)
    assert len(durable) == 4
    assert again == []
    assert device.durable == 4


def test_only_what_was_sent_and_waited_long_is_overdue(device):
    device.waiting[3].sends = 0
    device.waiting[4].sent_us = 900
    assert device.overdue(1_500) == [1, 2]


def test_what_was_sent_again_waits_twice_as_long_and_never_longer_than_its_bound(device):
    device.waiting[1].sends = 2
    device.waiting[2].sends = 3
    device.waiting[3].sends = 100
    assert device.overdue(1_999) == [4]
    assert device.overdue(2_000) == [1, 4]
    assert device.overdue(4_000) == [1, 2, 4]
    assert device.overdue(16_000) == [1, 2, 3, 4]


def test_a_frame_accounts_for_its_readings(device):
    frame = device.waiting[1].frame
    assert (
        frame.ledger.acquired
        == frame.reading_count
        == sum(b.reading_count for b in frame.blocks if isinstance(b, Block))
    )


def test_the_report_is_clean_only_when_all_is_durable():
    assert FleetReport(1, 1, frames=2, frames_acked=2).is_clean
    assert not FleetReport(1, 1, frames=2, frames_acked=1, waiting=1).is_clean


def test_the_report_has_quantiles_and_rates():
    tally = Tally(frames=100, readings=800, latencies_us=[n * 1_000 for n in range(1, 101)])
    report = tally.report(1, 1, 1, 0, 2.0)
    assert (report.ack_p50_ms, report.ack_p95_ms) == (50.0, 95.0)
    assert report.as_dict()["readings_per_s"] == 400.0
    assert LATENCIES_MAX > 1_000
