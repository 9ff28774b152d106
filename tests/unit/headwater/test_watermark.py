"""Watermarks move with their device only, and wait for what fills a hole."""

import numpy as np

from headwater.series import Directory
from headwater.watermark import ABOVE_HOLE, DUPLICATE, FILLS_HOLE, IN_SEQUENCE, NEVER_US, Watermarks

S = 1_000_000
NOW = 1_700_000_000 * S


def observe(marks: Watermarks, *frames: tuple[int, int, int], made_s: int = 0) -> list[int]:
    """Frames are (device, standing, seconds); returns watermarks before each in seconds, -1 for never."""
    device, standing, seconds = (np.array(column) for column in zip(*frames, strict=True))
    latest = NOW + seconds * S
    received = np.full(len(frames), NOW + 1000 * S)
    before = marks.observe(device, standing.astype(np.uint8), latest, received, NOW + made_s * S, 3)
    return [-1 if us < 0 else (us - NOW) // S for us in before.tolist()]


def marks_s(marks: Watermarks) -> list[int]:
    watermark = marks.progress(Directory(), np.zeros(3, bool), np.zeros(3, np.int64)).watermark_us
    return [-1 if us < 0 else (us - NOW) // S for us in watermark.tolist()]


def new(**changes: int) -> Watermarks:
    return Watermarks(**{"out_of_orderness_us": 5 * S, "max_offline_us": 600 * S, "future_us": 60 * S, **changes})


def test_a_device_moves_its_own_watermark_frame_by_frame() -> None:
    marks = new()
    frames = [
        (0, IN_SEQUENCE, 100),
        (1, IN_SEQUENCE, 7),
        (0, IN_SEQUENCE, 90),
        (0, IN_SEQUENCE, 120),
        (0, IN_SEQUENCE, 1),
    ]
    assert observe(marks, *frames) == [-1, -1, 95, 95, 115]
    assert marks_s(marks) == [115, 2, -1]


def test_duplicates_move_nothing() -> None:
    marks = new()
    observe(marks, (0, IN_SEQUENCE, 100), (0, DUPLICATE, 300))
    assert marks_s(marks)[0] == 95


def test_frames_above_a_hole_wait_for_it_so_that_a_backlog_is_not_late() -> None:
    marks = new()
    observe(marks, (0, IN_SEQUENCE, 100), (0, ABOVE_HOLE, 500))
    assert marks_s(marks)[0] == 95
    assert observe(marks, (0, FILLS_HOLE, 110), (0, ABOVE_HOLE, 510), (0, FILLS_HOLE, 120)) == [95, 105, 105]
    observe(marks, (0, IN_SEQUENCE, 130))
    assert marks_s(marks)[0] == 505


def test_a_hole_that_stays_open_is_waited_for_no_longer_than_max_offline() -> None:
    marks = new()
    observe(marks, (0, IN_SEQUENCE, 100), (0, ABOVE_HOLE, 500))
    observe(marks, (1, IN_SEQUENCE, 1), made_s=601)
    assert marks_s(marks)[0] == 495


def test_one_bad_clock_in_the_future_moves_the_watermark_only_to_its_receipt() -> None:
    marks = new()
    observe(marks, (0, IN_SEQUENCE, 99_999_999))
    assert marks_s(marks)[0] == 1000 + 60 - 5


def test_silence_is_told_by_the_gateways_time() -> None:
    marks = new()
    observe(marks, (0, IN_SEQUENCE, 100))
    assert not marks.progress(Directory(), np.zeros(3, bool), np.zeros(3, np.int64)).is_silent[0]
    observe(marks, (1, IN_SEQUENCE, 100), made_s=1601)
    silent = marks.progress(Directory(), np.zeros(3, bool), np.zeros(3, np.int64)).is_silent
    assert silent[0]
    assert silent[1]


def test_times_far_apart_take_the_slow_way_to_the_same_result() -> None:
    marks = new(future_us=1 << 61)
    device = np.array([0, 1, 0, 1, 0])
    latest = np.array([5, -(1 << 60), 1 << 60, 7, 6])
    received = np.zeros(5, np.int64)
    standing = np.full(5, IN_SEQUENCE, np.uint8)
    before = marks.observe(device, standing, latest, received, 0, 2)
    assert before.tolist() == [NEVER_US, NEVER_US, 5 - 5 * S, -(1 << 60) - 5 * S, (1 << 60) - 5 * S]
