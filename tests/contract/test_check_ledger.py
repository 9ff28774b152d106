"""The independent checker finds what it is meant to find, and nothing else."""

import importlib.util
import json
import sqlite3
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import store_writes

from headwater.batch import Batch, DeadLetter
from headwater.batch_arrow import batch_to_arrow
from headwater.batch_build import take_frames
from headwater.frame import Gap
from headwater.io.log_sqlite import SqliteLog
from headwater.io.store_sqlite import SqliteStore
from headwater.log_topics import READINGS
from headwater.points import StoreWrite
from headwater.ports import LogRecord
from headwater.reasons import GapReason

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_ledger", ROOT / "scripts" / "check_ledger.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_ledger"] = module
    spec.loader.exec_module(module)
    return module


def crc(batch: Batch, row: int) -> int:
    lo, hi = int(batch.reading_start[row]), int(batch.reading_start[row + 1])
    metric, result = batch.metric[lo:hi], 0
    for name in sorted(batch.metrics[code] for code in set(metric.tolist())):
        mine = np.flatnonzero(metric == batch.metrics.index(name)) + lo
        mine = mine[np.lexsort((batch.quality[mine], batch.value[mine].view(np.uint64), batch.time_us[mine]))]
        result = zlib.crc32(name.encode() + b"\0", result)
        for column in (batch.time_us, batch.value, batch.quality):
            result = zlib.crc32(column[mine].tobytes(), result)
    return result


def lines(batch: Batch, *events: str) -> list[bytes]:
    found = []
    for row in range(len(batch)):
        site, device = batch.devices[batch.device[row]]
        entry = {
            "site": site, "device": device, "epoch": str(batch.epoch[row]), "seq": int(batch.seq[row]),
            "readings": int(np.diff(batch.reading_start)[row]), "summaries": int(np.diff(batch.summary_start)[row]),
            "crc": crc(batch, row),
        }  # fmt: skip
        found += [json.dumps({"e": event, **entry}, separators=(",", ":")).encode() + b"\n" for event in events]
    return found


def native(seed: int, frames: int = 40) -> Batch:
    rng = np.random.default_rng(seed)
    batch = store_writes.batch(rng, {}, frames)
    return replace(
        batch,
        device=np.zeros(frames, np.int32),
        epoch=np.full(frames, (1 << 64) - 9, np.uint64),
        seq=np.arange(1, frames + 1),
        gaps=(),
    )


class Case:
    def __init__(self, folder: Path, checker: ModuleType) -> None:
        self.ledger = folder / "ledger"
        self.ledger.mkdir()
        self.path = folder / "store.db"
        self._checker = checker

    def tell(self, entries: list[bytes]) -> None:
        with (self.ledger / "a.jsonl").open("ab") as file:
            file.writelines(entries)

    def store(self, *writes: StoreWrite) -> None:
        store = SqliteStore(self.path)
        for write in writes:
            store.write(write)
        store.close()

    def check(self, capsys: pytest.CaptureFixture[str], *flags: str) -> dict:
        arguments = ["--ledger", str(self.ledger), "--store", str(self.path), "--json", *flags]
        code = self._checker.main(arguments)
        result = json.loads(capsys.readouterr().out)
        assert code == (0 if result["ok"] else 1)
        return result


@pytest.fixture
def case(tmp_path: Path, checker: ModuleType) -> Case:
    return Case(tmp_path, checker)


@pytest.mark.parametrize("seed", range(5))
def test_a_store_that_holds_all_is_found_whole(case: Case, capsys: pytest.CaptureFixture[str], seed: int) -> None:
    batch = native(seed)
    case.tell(lines(batch, "offered", "accepted"))
    case.store(StoreWrite((batch,)), StoreWrite((batch,)))
    result = case.check(capsys, "--drained")
    assert result["ok"], result["examples"]
    assert result["accepted"] == result["stored"] == len(batch)
    assert result["readings_accepted"] == result["readings_stored"] == batch.reading_count > 0


def test_a_missing_frame_is_lost_and_the_newest_ones_may_be_in_flight(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = native(1)
    case.tell(lines(batch, "offered", "accepted"))
    case.store(StoreWrite((batch,)))
    case.store()
    with sqlite3.connect(case.path) as connection:
        connection.execute("DELETE FROM frame WHERE id & 1099511627775 IN (7, 39, 40)")
    connection.close()
    result = case.check(capsys)
    assert (result["lost"], result["in_flight"], result["ok"]) == (1, 2, False)
    assert "seq 7" in result["examples"]["lost"][0]
    assert case.check(capsys, "--drained")["lost"] == 3


def test_a_dead_letter_or_a_declared_gap_accounts_for_a_frame(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    batch = native(2)
    case.tell(lines(batch, "offered", "accepted"))
    epoch, (site, device) = int(batch.epoch[0]), batch.devices[0]
    letter = DeadLetter(1, "schema", "gateway", "x", "no", site, device, epoch, 5, 3)
    kept = replace(batch, gaps=((20, Gap(epoch, 8, 9, GapReason.SPOOL_FULL, -1, 1)),))
    case.store(StoreWrite((kept,), dead_letters=(letter,)))
    with sqlite3.connect(case.path) as connection:
        connection.execute("DELETE FROM frame WHERE id & 1099511627775 IN (5, 8, 9)")
    connection.close()
    result = case.check(capsys, "--drained")
    assert (result["ok"], result["dead_lettered"], result["in_gaps"]) == (True, 1, 2)


def test_a_changed_reading_is_corrupt(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    batch = native(3)
    case.tell(lines(batch, "offered", "accepted"))
    value = batch.value.copy()
    value[17] = np.nextafter(value[17], 1e300)
    case.store(StoreWrite((replace(batch, value=value),)))
    result = case.check(capsys)
    assert (result["corrupt"], result["ok"]) == (1, False)


def test_a_frame_that_nobody_offered_is_a_phantom(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    batch = native(4)
    case.tell(lines(batch, "offered", "accepted")[:-2])
    case.store(StoreWrite((batch,)))
    result = case.check(capsys)
    assert (result["phantom"], result["ok"]) == (1, False)


def test_a_frame_stored_before_its_acceptance_was_written_is_no_phantom(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = native(5)
    case.tell(lines(batch, "offered"))
    case.store(StoreWrite((batch,)))
    result = case.check(capsys)
    assert (result["ok"], result["stored_unconfirmed"]) == (True, len(batch))


def test_a_torn_last_line_is_ignored_and_other_nonsense_is_not(
    case: Case, checker: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = native(6)
    case.tell([*lines(batch, "offered", "accepted"), b'{"e":"offered","si'])
    case.store(StoreWrite((batch,)))
    result = case.check(capsys)
    assert (result["ok"], result["torn_lines"]) == (True, 1)
    case.tell([b"nonsense\n"])
    assert checker.main(["--ledger", str(case.ledger), "--store", str(case.path)]) == 2
    assert "a.jsonl:" in capsys.readouterr().err


def test_the_checker_shares_no_code_with_the_pipeline() -> None:
    text = (ROOT / "scripts" / "check_ledger.py").read_text()
    assert "import headwater" not in text
    assert "from headwater" not in text
    assert "from simulators" not in text


def test_frames_in_the_log_or_in_a_spool_are_in_flight(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    batch = native(7)
    case.tell(lines(batch, "offered", "accepted"))
    case.store(StoreWrite((batch,)))
    with sqlite3.connect(case.path) as connection:
        connection.execute("DELETE FROM frame WHERE id & 1099511627775 IN (3, 4, 5, 40)")
    connection.close()
    folder = case.path.parent
    log = SqliteLog(folder / "log.db")
    rows = np.isin(batch.seq, [3])
    log.append([LogRecord(READINGS, 0, b"0", batch_to_arrow(take_frames(batch, rows)), 0)])
    log.close()
    (folder / "spools").mkdir()
    (folder / "spools" / "notes.txt").write_text("not a spool")
    with sqlite3.connect(folder / "spools" / "a.db") as spool:
        spool.execute("CREATE TABLE meta (key TEXT, value TEXT)")
        spool.execute("CREATE TABLE frames (seq INTEGER)")
        spool.execute("CREATE TABLE strays (epoch TEXT, seq INTEGER)")
        spool.execute("INSERT INTO meta VALUES ('epoch', '77')")
        spool.execute("INSERT INTO strays VALUES (?, 4)", (str(batch.epoch[0]),))
    spool.close()
    evidence = ("--log", str(folder / "log.db"), "--spool", str(folder / "spools"))
    result = case.check(capsys, *evidence)
    assert (result["in_flight"], result["lost"]) == (2, 2)
    assert {line.split()[-1] for line in result["examples"]["lost"]} == {"5", "40"}
    assert case.check(capsys, *evidence, "--drained")["lost"] == 4


def test_several_stores_are_one_and_a_frame_in_two_of_them_is_doubled(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = native(8), replace(native(9), epoch=np.full(40, 12, np.uint64))
    case.tell([*lines(first, "offered", "accepted"), *lines(second, "offered", "accepted")])
    case.store(StoreWrite((first,)))
    other = SqliteStore(tmp_path / "other.db")
    other.write(StoreWrite((second,)))
    both = ("--store", str(tmp_path / "other.db"), "--drained")
    assert case.check(capsys, "--drained")["lost"] == 40
    assert (case.check(capsys, *both)["ok"], case.check(capsys, *both)["stored"]) == (True, 80)
    other.write(StoreWrite((first,)))
    other.close()
    assert case.check(capsys, *both)["duplicated"] == 40
