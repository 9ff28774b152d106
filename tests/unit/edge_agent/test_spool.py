"""The spool: what it promises of frames, seqs, epochs, its size and its file."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from edge_agent.pack import Draft, Lane
from edge_agent.spool import Room, Spool, SpoolUnavailableError
from edge_agent.spool_rows import Key
from headwater.codec import decode_frame
from headwater.errors import SettingsError
from headwater.frame import Block, Frame, Gap
from headwater.reasons import ClockQuality, GapReason

NOW = 1_700_000_000_000_000
ALL = 1 << 60


def draft(number: int = 0, samples: int = 1, lane: Lane = Lane.NORMAL) -> Draft:
    generator = np.random.default_rng(number)
    block = Block(("m",), NOW + number + np.arange(samples), generator.normal(size=(1, samples)))
    return Draft(NOW + number, ClockQuality.SYNCED, lane, (block,))


def opened(folder: Path, room: Room | None = None) -> Spool:
    return Spool(folder / "spool.db", site="north", device="pump", room=room, now_us=NOW)


def frames(spool: Spool) -> list[Frame]:
    rows = spool.strays(Key(0, 0), 10_000, NOW)
    rows += [row for lane in Lane for row in spool.following(lane, 0, ALL, 10_000, NOW)]
    return [decode_frame(row.payload) for row in rows]


def gaps(spool: Spool) -> list[Gap]:
    return [gap for frame in frames(spool) for gap in frame.gaps]


def test_frames_come_back_as_they_were_stored_with_their_identity(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    stored, refused = spool.append([draft(1), draft(2)], NOW)
    assert not refused
    assert [(frame.seq, frame.epoch, frame.site, frame.device) for frame in frames(spool)] == [
        (1, spool.epoch, "north", "pump"),
        (2, spool.epoch, "north", "pump"),
    ]
    assert [one.payload for one in stored] == [row.payload for row in spool.following(Lane.NORMAL, 0, ALL, 9, NOW)]
    spool.close()


def test_a_reopened_spool_goes_on_where_it_was(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([draft(number) for number in range(5)], NOW)
    spool.acknowledge(spool.epoch, 5, NOW)
    spool.settle(NOW)
    epoch = spool.epoch
    spool.close()
    spool = opened(tmp_path)
    assert (spool.epoch, spool.assigned, spool.buffered) == (epoch, 5, 0)
    spool.append([draft()], NOW)
    assert spool.assigned == 6, "a seq is never used again, even when everything was freed"
    spool.close()


def test_what_the_hooks_see_is_offered_before_and_stored_after(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    offered: list[tuple[int, int]] = []
    stored, _ = spool.append([draft()], NOW, on_offered=lambda frame, _: offered.append((frame.seq, spool.assigned)))
    assert offered == [(1, 0)]
    assert stored[0].frame.seq == spool.assigned == 1
    spool.close()


def test_oldest_seq_tells_what_the_spool_still_holds(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([draft(number) for number in range(4)], NOW)
    spool.acknowledge(spool.epoch, 2, NOW)
    spool.append([draft()], NOW)
    assert [frame.oldest_seq for frame in frames(spool)] == [1, 1, 3]
    spool.acknowledge(spool.epoch, 5, NOW)
    spool.append([draft()], NOW)
    assert frames(spool)[-1].oldest_seq == 6
    spool.close()


def test_a_full_spool_drops_the_oldest_and_the_same_frame_declares_them(tmp_path: Path) -> None:
    spool = opened(tmp_path, Room(20_000, drops_oldest=True))
    for number in range(40):
        stored, refused = spool.append([draft(number, 100)], NOW)
        assert not refused
        assert spool.size_bytes <= 20_000
    held = {frame.seq for frame in frames(spool)}
    declared: set[int] = set()
    for gap in gaps(spool):
        assert gap.reason is GapReason.SPOOL_FULL
        assert gap.readings == 100 * (gap.to_seq - gap.from_seq + 1)
        declared |= set(range(gap.from_seq, gap.to_seq + 1))
    assert held | declared == set(range(1, 41)), "declarations survive the frames that carried them"
    assert not held & declared
    assert stored[0].frame.oldest_seq == min(held)
    spool.close()


def test_a_full_spool_can_keep_the_oldest_and_refuse(tmp_path: Path) -> None:
    spool = opened(tmp_path, Room(20_000, drops_oldest=False))
    refused = [one for number in range(40) for one in spool.append([draft(number, 100)], NOW)[1]]
    assert refused
    assert [frame.seq for frame in frames(spool)] == list(range(1, 41 - len(refused)))
    assert spool.counters.refused == len(refused)
    spool.acknowledge(spool.epoch, spool.assigned, NOW)
    assert not spool.append([draft(1, 100)], NOW)[1], "it takes frames again when there is room"
    spool.close()


def test_a_second_agent_is_refused_with_a_reason(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(SettingsError, match="in use by another agent"):
        opened(tmp_path)
    spool.close()
    opened(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_told_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"agent\.spool"):
        opened(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"garbage" * 1_000, b"SQLite format 3\0" + bytes(5_000)])
def test_a_file_that_is_no_spool_is_set_aside_and_declared(tmp_path: Path, content: bytes) -> None:
    spool = opened(tmp_path)
    spool.append([draft(number) for number in range(3)], NOW)
    former = spool.epoch
    spool.close()
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"spool.db{suffix}").unlink(missing_ok=True)
    (tmp_path / "spool.db").write_bytes(content)
    spool = opened(tmp_path)
    assert spool.epoch != former
    assert (tmp_path / "spool.db.damaged-1").exists()
    assert spool.has_gaps_due
    spool.append([draft()], NOW)
    assert [(gap.epoch, gap.from_seq, gap.to_seq, gap.reason) for gap in gaps(spool)] == [
        (former, 1, 0, GapReason.SPOOL_DAMAGED)
    ]
    assert not spool.has_gaps_due
    spool.close()


def test_a_deleted_file_is_declared_because_the_lock_remembers_its_epoch(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([draft()], NOW)
    former = spool.epoch
    spool.close()
    for path in tmp_path.glob("spool.db*"):
        if path.suffix != ".lock":
            path.unlink()
    spool = opened(tmp_path)
    spool.append([draft()], NOW)
    assert [gap.epoch for gap in gaps(spool)] == [former]
    spool.close()


def test_one_damaged_row_costs_one_frame_and_is_declared(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([draft(number) for number in range(5)], NOW)
    spool.close()
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        payload = bytearray(connection.execute("SELECT payload FROM frames WHERE seq = 3").fetchone()[0])
        payload[10] ^= 4
        connection.execute("UPDATE frames SET payload = ? WHERE seq = 3", (bytes(payload),))
    connection.close()
    spool = opened(tmp_path)
    assert [frame.seq for frame in frames(spool)] == [1, 2, 4, 5]
    spool.append([draft()], NOW)
    assert [(gap.epoch, gap.from_seq, gap.to_seq) for gap in gaps(spool)] == [(spool.epoch, 3, 3)]
    assert spool.buffered == 5
    spool.close()


def test_frames_of_a_damaged_file_that_can_be_read_are_sent_under_their_old_names(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([draft(number, 50) for number in range(60)], NOW)
    spool.acknowledge(spool.epoch, 7, NOW)
    spool.settle(NOW)
    former = spool.epoch
    spool.close()
    path = tmp_path / "spool.db"
    content = bytearray(path.read_bytes())
    page = 4096
    middle = len(content) // page // 2 * page
    content[middle : middle + page] = bytes(page)
    path.write_bytes(content)
    spool = opened(tmp_path)
    kept = {frame.seq for frame in frames(spool) if frame.epoch == former}
    spool.append([draft()], NOW)
    declared: set[int] = set()
    for gap in gaps(spool):
        assert gap.epoch == former
        declared |= set(range(gap.from_seq, (gap.to_seq or 200) + 1))
    assert kept
    assert min(kept) > 7
    assert set(range(8, 61)) <= kept | declared
    assert spool.acknowledge(former, 60, NOW)
    assert {frame.epoch for frame in frames(spool)} == {spool.epoch}
    spool.close()


def test_damage_found_while_running_starts_a_new_epoch_and_goes_on(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([draft(number, 50) for number in range(60)], NOW)
    former = spool.epoch
    spool._connection.execute("DROP TABLE gaps_due")
    with pytest.raises(SpoolUnavailableError, match="new epoch"):
        spool.append([draft()], NOW)
    assert spool.epoch != former
    stored, _ = spool.append([draft()], NOW)
    assert stored[0].frame.gaps
    assert len(frames(spool)) == 61
    spool.close()


def test_a_full_disk_changes_nothing_and_the_next_try_works(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([draft()], NOW)
    pages = spool._connection.execute("PRAGMA page_count").fetchone()[0]
    spool._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SpoolUnavailableError, match="full"):
        spool.append([draft(number, 2_000) for number in range(20)], NOW)
    assert (spool.assigned, spool.buffered) == (1, 1)
    spool._connection.execute("PRAGMA max_page_count = 1000000")
    stored, _ = spool.append([draft(1)], NOW)
    assert stored[0].frame.seq == 2
    spool.close()


def test_a_forgetful_disk_costs_no_frame_that_is_still_there(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([draft(number) for number in range(3)], NOW)
    spool.close()
    spool = opened(tmp_path)
    former = spool.epoch
    spool.append([draft(7), draft(8)], NOW)
    assert not spool.acknowledge(former, 50, NOW)
    assert spool.rotate(50, NOW)
    assert [(frame.epoch == former, frame.seq) for frame in frames(spool)] == [
        (True, 1),
        (True, 2),
        (True, 3),
        (False, 1),
        (False, 2),
    ]
    assert not spool.rotate(60, NOW)
    spool.append([draft()], NOW)
    assert [(gap.epoch, gap.from_seq, gap.to_seq, gap.reason) for gap in gaps(spool)] == [
        (former, 51, 0, GapReason.LYING_DISK)
    ]
    spool.close()
