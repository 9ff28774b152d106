"""Durable acks: what a device is told and when; frontiers of the log; what a restart reads back."""

import numpy as np

from gateway.acks import EPOCHS_MAX, AckBook
from gateway.frontiers import FrontierBook
from gateway.recovery import restore_configurations, restore_frontiers
from gateway.retained import RetainedMessages
from headwater import log_topics
from headwater.ack import Ack
from headwater.batch import Batch, DeadLetter
from headwater.batch_arrow import batch_to_arrow
from headwater.batch_build import batch_from_frames
from headwater.frame import Block, Frame
from headwater.io.log_memory import MemoryLog
from headwater.ports import FrontierRow, LogRecord
from headwater.reasons import ClockQuality

T_US = 1_700_000_000_000_000
EVERY_US, MISSING_US = 200, 2_000


def make() -> AckBook:
    return AckBook("store", missing_after_us=MISSING_US, every_us=EVERY_US)


def row(contiguous: int, *ranges: tuple[int, int], epoch: int = 7) -> FrontierRow:
    return FrontierRow("n", "d", epoch, contiguous, ranges)


def told(book: AckBook, now_us: int) -> list[Ack]:
    return [ack for _, _, ack in book.due(now_us, "log-1")]


def test_a_change_is_told_once_and_not_too_often() -> None:
    book = make()
    book.note(row(3), T_US)
    assert told(book, T_US) == [Ack(7, 3, (), "store", "log-1")]
    assert told(book, T_US + EVERY_US) == []
    book.note(row(4), T_US + 1)
    assert told(book, T_US + EVERY_US - 1) == []
    assert [ack.contiguous for ack in told(book, T_US + EVERY_US)] == [4]


def test_a_hole_is_named_when_it_is_old_and_again_as_long_as_it_stays() -> None:
    book = make()
    book.note(row(3, (6, 7), (9, 9)), T_US)
    assert [ack.missing for ack in told(book, T_US)] == [()]
    assert told(book, T_US + MISSING_US - 1) == []
    assert [ack.missing for ack in told(book, T_US + MISSING_US)] == [((4, 5), (8, 8))]
    assert told(book, T_US + MISSING_US + EVERY_US) == []
    assert [ack.missing for ack in told(book, T_US + 6 * MISSING_US)] == [((4, 5), (8, 8))]
    book.note(row(9), T_US + 6 * MISSING_US + 1)
    assert [ack.missing for ack in told(book, T_US + 7 * MISSING_US)] == [()]
    assert told(book, T_US + 99 * MISSING_US) == []


def test_a_device_is_told_about_the_epoch_that_it_says_it_has() -> None:
    book = make()
    book.note(row(90, epoch=1), T_US)
    book.note(row(3, epoch=2), T_US)
    book.connected("n", "d", 1)
    assert [(ack.epoch, ack.contiguous) for ack in told(book, T_US)] == [(1, 90)]
    book.note(row(4, epoch=2), T_US)
    assert told(book, T_US + EVERY_US) == []
    book.connected("n", "d", 2)
    assert [(ack.epoch, ack.contiguous) for ack in told(book, T_US + EVERY_US)] == [(2, 4)]


def test_a_device_of_which_nothing_is_durable_is_told_nothing() -> None:
    book = make()
    book.connected("n", "d", 5)
    assert told(book, T_US) == []
    book.note(row(1, epoch=5), T_US)
    assert [ack.contiguous for ack in told(book, T_US)] == [1]


def test_only_the_latest_epochs_are_remembered() -> None:
    book = make()
    for epoch in range(1, EPOCHS_MAX + 3):
        book.note(row(1, epoch=epoch), T_US)
    book.connected("n", "d", 1)
    assert told(book, T_US) == []


def batch(*seqs: int, oldest_seq: int = 1, letters: tuple[int, ...] = ()) -> Batch:
    block = Block(("a",), np.array([T_US]), np.zeros((1, 1)))
    frames = [
        (Frame("n", "d", 7, seq, T_US, ClockQuality.SYNCED, oldest_seq=oldest_seq, blocks=(block,)), T_US, 10)
        for seq in seqs
    ]
    made = batch_from_frames(frames, shard=0, made_us=T_US)
    dead = tuple(DeadLetter(T_US, "time_range", "gateway", "t", "d", "n", "d", 7, seq) for seq in letters)
    object.__setattr__(made, "dead_letters", dead)
    return made


def test_frames_and_dead_letters_in_the_log_move_the_frontier() -> None:
    book = FrontierBook()
    assert book.note([batch(1, 2, 5)]) == [FrontierRow("n", "d", 7, 2, ((5, 5),))]
    assert book.note([batch(letters=(3, 4))]) == [FrontierRow("n", "d", 7, 5, ())]
    assert book.note([batch(2)]) == [FrontierRow("n", "d", 7, 5, ())]


def test_what_a_device_no_longer_holds_is_not_waited_for() -> None:
    assert FrontierBook().note([batch(50, oldest_seq=48)]) == [FrontierRow("n", "d", 7, 47, ((50, 50),))]


def test_a_restart_reads_the_frontiers_back_and_never_claims_more_than_the_log_holds() -> None:
    log = MemoryLog()
    whole = FrontierBook()
    for made in (batch(1, 2, 3), batch(5, 6, oldest_seq=3), batch(9, oldest_seq=5)):
        log.append([LogRecord(log_topics.READINGS, 0, b"0", batch_to_arrow(made), 0)])
        whole.note([made])
    log.forget(log_topics.READINGS, 0, 1)
    (restored,) = restore_frontiers(log, 4, FrontierBook())
    assert (restored.contiguous, restored.ranges) == (6, ((9, 9),))


def test_a_restart_reads_the_latest_configurations_back() -> None:
    log, retained = MemoryLog(), RetainedMessages(10, 1000)
    for key, value in ((b"n/d/config", b"1"), (b"n/d", b"birth"), (b"n/d/config", b"2"), (b"n/e/config", b"")):
        log.append([LogRecord(log_topics.DEVICES, 1, key, value, 0)])
    assert restore_configurations(log, 4, retained) == 3
    kept = retained.get("hw/1/n/d/config")
    assert kept is not None
    assert kept.payload == b"2"
    assert len(retained) == 1
