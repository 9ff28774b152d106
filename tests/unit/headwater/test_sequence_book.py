"""The book of sequences: duplicates, holes, gaps, dead letters, what is in flight and what is unknown."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.batch import Batch, DeadLetter, DeviceStatus
from headwater.batch_build import batch_from_frames
from headwater.frame import Frame, Gap
from headwater.points import DeviceAccount
from headwater.reasons import ClockQuality, GapReason
from headwater.sequence_book import RANGES_REFUSED_AT, SequenceBook
from headwater.snapshot import pack, unpack
from headwater.watermark import ABOVE_HOLE, DUPLICATE, FILLS_HOLE, IN_SEQUENCE

EPOCH = 9
NAMES = [("north", "pump-1"), ("north", "pump-2")]


def frame(seq: int, *, oldest: int = 1, gaps: tuple[Gap, ...] = (), epoch: int = EPOCH) -> Frame:
    return Frame("north", "pump-1", epoch, seq, 0, ClockQuality.SYNCED, oldest, gaps=gaps)


def batch(*frames: Frame) -> Batch:
    return batch_from_frames([(one, 0, 10) for one in frames], shard=0, made_us=1)


def admit(book: SequenceBook, *frames: Frame, letters: tuple[int, ...] = (), assigned: int = 0) -> list[int]:
    dead = tuple(DeadLetter(0, "parse", "gateway", "t", "d", "north", "pump-1", EPOCH, seq) for seq in letters)
    status = (DeviceStatus("north", "pump-1", 0, online=True, epoch=EPOCH, assigned=assigned),) if assigned else ()
    arrived = replace(batch(*frames), dead_letters=dead, statuses=status)
    return book.admit(arrived, arrived.device.astype(np.int64), [0] * (len(dead) + len(status))).standing.tolist()


def account(book: SequenceBook) -> DeviceAccount:
    (found,) = book.accounts(np.array([0]), NAMES)
    assert found.assigned == found.stored + found.dead_lettered + found.gap + found.in_flight + found.unknown
    return found


def gap(lo: int, hi: int, epoch: int = EPOCH) -> Gap:
    return Gap(epoch, lo, hi, GapReason.SPOOL_FULL, -1, 0)


def test_frames_in_sequence_pass_and_duplicates_don_t() -> None:
    book = SequenceBook()
    assert admit(book, frame(1), frame(2), frame(3)) == [IN_SEQUENCE] * 3
    assert admit(book, frame(2), frame(4), frame(4)) == [DUPLICATE, IN_SEQUENCE, DUPLICATE]
    found = account(book)
    assert (found.contiguous, found.stored, found.duplicates) == (4, 4, 2)


def test_a_hole_is_in_flight_while_the_spool_holds_it() -> None:
    book = SequenceBook()
    assert admit(book, frame(1), frame(4, oldest=2)) == [IN_SEQUENCE, ABOVE_HOLE]
    assert (account(book).in_flight, account(book).unknown, account(book).ranges) == (2, 0, ((4, 4),))
    assert admit(book, frame(2, oldest=2), frame(3, oldest=2)) == [FILLS_HOLE, IN_SEQUENCE]
    assert (account(book).contiguous, account(book).in_flight) == (4, 0)


def test_a_hole_below_what_the_spool_holds_is_unknown_until_explained() -> None:
    book = SequenceBook()
    admit(book, frame(1), frame(4, oldest=4))
    assert (account(book).in_flight, account(book).unknown) == (0, 2)
    assert book.unknown_per_device(2).tolist() == [2, 0]
    admit(book, frame(5, oldest=4, gaps=(gap(2, 2),)), letters=(3,))
    found = account(book)
    assert (found.gap, found.dead_lettered, found.unknown, found.contiguous) == (1, 1, 0, 5)


def test_a_declaration_that_is_in_flight_itself_makes_nothing_unknown() -> None:
    book = SequenceBook()
    admit(book, frame(1), frame(6, oldest=5))
    assert (account(book).unknown, account(book).in_flight) == (0, 4)
    admit(book, frame(5, oldest=5, gaps=(gap(2, 4),)))
    assert (account(book).gap, account(book).contiguous) == (3, 6)


def test_an_open_gap_gives_up_all_that_an_old_epoch_assigned_and_did_not_send() -> None:
    book = SequenceBook()
    admit(book, frame(1), frame(2), assigned=7)
    assert account(book).in_flight == 5
    admit(book, frame(1, epoch=77, gaps=(gap(3, 0),)))
    assert (account(book).gap, account(book).in_flight, account(book).contiguous) == (5, 0, 7)


def test_a_gap_over_frames_that_came_counts_only_those_that_did_not() -> None:
    book = SequenceBook()
    admit(book, frame(1), frame(3), frame(5, gaps=(gap(2, 4),)))
    assert (account(book).gap, account(book).stored, account(book).contiguous) == (2, 3, 5)


def test_foreign_frames_pass_always_and_are_counted_apart() -> None:
    book = SequenceBook()
    assert admit(book, frame(0, epoch=0), frame(0, epoch=0)) == [IN_SEQUENCE] * 2
    found = account(book)
    assert (found.epoch, found.stored, found.in_flight, found.unknown) == (0, 2, 0, 0)


def test_too_many_holes_refuse_a_frame_but_lose_none() -> None:
    book = SequenceBook()
    frames = [frame(2 * i) for i in range(1, RANGES_REFUSED_AT + 1)]
    assert set(admit(book, *frames)) == {ABOVE_HOLE}
    one_more = batch(frame(2 * RANGES_REFUSED_AT + 2))
    admission = book.admit(one_more, one_more.device.astype(np.int64), [])
    assert (admission.refused, admission.standing.tolist()) == ([0], [DUPLICATE])
    assert account(book).duplicates == 0
    admit(book, frame(1))
    assert admit(book, frame(2 * RANGES_REFUSED_AT + 2)) == [ABOVE_HOLE]


@pytest.mark.parametrize("cut", [1, 5])
@given(order=st.permutations(range(1, 13)), repeats=st.lists(st.integers(1, 12), max_size=6))
@settings(max_examples=40, deadline=None)
def test_any_order_with_repeats_ends_contiguous_and_each_frame_passes_once(
    cut: int, order: list[int], repeats: list[int]
) -> None:
    book, passed = SequenceBook(), []
    arriving = [*order, *repeats]
    for at in range(0, len(arriving), cut):
        some = arriving[at : at + cut]
        standing = admit(book, *(frame(seq) for seq in some))
        passed += [seq for seq, how in zip(some, standing, strict=True) if how != DUPLICATE]
        other = SequenceBook()
        other.restore(unpack(pack(1, book.state()), 1))
        book = other
    assert sorted(passed) == list(range(1, 13))
    found = account(book)
    assert (found.contiguous, found.ranges, found.duplicates, found.unknown) == (12, (), len(repeats), 0)
