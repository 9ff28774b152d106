"""Holds a store against the devices' own ledgers: nothing lost, doubled, altered or invented (docs/ledger.md).

It shares no code with the pipeline: it reads the SQLite file by the description in docs/store.md, with a decoder of
its own, and the ledgers line by line.

    python scripts/check_ledger.py --ledger DIR --store store.db [--log log.db] [--spool DIR] [--drained] [--json]

Stores of processors that share a log are one: give `--store` again for each.

Exit code 0: all accounted for; 1: something is lost, duplicated, corrupt or a phantom; 2: can't read the evidence.
"""

import argparse
import json
import sqlite3
import struct
import sys
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

EXAMPLES_MAX = 10
SEQ_BITS = 40
UNSIGNED = 1 << 64
LOG_TOPIC_SHIFT = 44 + 12  # A record id is topic, partition (12 bits) and offset (44 bits).

Key = tuple[str, str, int, int]  # site, device, epoch, seq


class EvidenceError(Exception):
    """The ledger or the store can't be read as documented."""


@dataclass(frozen=True)
class Content:
    """What a frame holds: number of readings, number of summaries, CRC-32 of the canonical readings."""

    readings: int
    summaries: int
    crc: int


@dataclass
class Ledger:
    """What the devices say."""

    offered: dict[Key, set[Content]] = field(default_factory=lambda: defaultdict(set))
    accepted: dict[Key, set[Content]] = field(default_factory=lambda: defaultdict(set))
    torn_lines: int = 0


@dataclass
class Stored:
    """What the store says."""

    frames: dict[Key, list[Content]] = field(default_factory=lambda: defaultdict(list))
    broken: dict[Key, str] = field(default_factory=dict)
    foreign: int = 0
    letters: dict[Key, int] = field(default_factory=lambda: defaultdict(int))
    letters_total: int = 0
    gaps: dict[tuple[str, str, int], list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))


def read_ledger(folder: Path) -> Ledger:
    """Reads every *.jsonl below the folder."""
    ledger = Ledger()
    files = sorted(folder.rglob("*.jsonl"))
    if not files:
        raise EvidenceError(f"no *.jsonl in {folder}")
    for path in files:
        *lines, rest = path.read_bytes().split(b"\n")
        ledger.torn_lines += bool(rest)
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                entry = json.loads(line)
                key = (entry["site"], entry["device"], int(entry["epoch"]), entry["seq"])
                content = Content(entry["readings"], entry["summaries"], entry["crc"])
                book = {"offered": ledger.offered, "accepted": ledger.accepted}[entry["e"]]
            except (ValueError, KeyError, TypeError) as error:
                # A restarted device may go on in the same file after a torn line: two objects share a line then.
                if _is_torn(line):
                    ledger.torn_lines += 1
                    continue
                raise EvidenceError(f"{path}:{number}: {error!r}") from error
            book[key].add(content)
    return ledger


def _is_torn(line: bytes) -> bool:
    return line.count(b'{"e":') > 1


def varints(data: bytes | None) -> list[int]:
    """Zigzag LEB128, one byte after another."""
    numbers, number, shift = [], 0, 0
    for byte in data or b"":
        number |= (byte & 127) << shift
        if byte & 128:
            shift += 7
        else:
            numbers.append(number >> 1 if not number & 1 else -(number >> 1) - 1)
            number = shift = 0
    if shift:
        raise ValueError("a varint is cut")
    return numbers


def frame_readings(
    start_us: int, runs: bytes | None, times: bytes | None, scaled: bytes | None, exact: bytes | None
) -> list[tuple[int, list[int], list[float]]]:
    """Decodes the runs of a frame: (metric number, times, values) each."""
    heads, steps, numbers = iter(varints(runs)), iter(varints(times)), iter(varints(scaled))
    floats = iter(struct.iter_unpack("<d", exact or b""))
    found, metric, axis = [], 0, []
    for relative in heads:
        metric += relative
        size_and_same = next(heads)
        places = next(heads)
        size = size_and_same >> 1
        if not size_and_same & 1:
            axis = [start_us + next(steps)]
            step = 0
            for _ in range(size - 1):
                step += next(steps)
                axis.append(axis[-1] + step)
        if len(axis) != size:
            raise ValueError("a run has another length than the time axis that it shares")
        if places == 255:
            values = [next(floats)[0] for _ in range(size)]
        else:
            total, power, values = 0, 10.0**places, []
            for _ in range(size):
                total += next(numbers)
                values.append(total / power)
        found.append((metric, axis, values))
    for rest in (steps, numbers, floats):
        if next(rest, None) is not None:
            raise ValueError("there is more than the runs say")
    return found


def canonical_crc(readings: dict[bytes, list[tuple[int, int, int]]]) -> int:
    """CRC-32 of {metric: [(time, bits of the value, quality)]} as docs/ledger.md has it."""
    crc = 0
    for name in sorted(readings):
        rows = sorted(readings[name])
        count = len(rows)
        crc = zlib.crc32(name + b"\0", crc)
        crc = zlib.crc32(struct.pack(f"<{count}q", *(row[0] for row in rows)), crc)
        crc = zlib.crc32(struct.pack(f"<{count}Q", *(row[1] for row in rows)), crc)
        crc = zlib.crc32(bytes(row[2] for row in rows), crc)
    return crc


def frame_content(row: tuple, names: dict[int, bytes]) -> Content:
    """Decodes one row of `frame`."""
    start_us, count, runs, times, scaled, exact, quality, summaries = row
    readings: dict[bytes, list[tuple[int, int, int]]] = defaultdict(list)
    at = 0
    for metric, axis, values in frame_readings(start_us, runs, times, scaled, exact):
        codes = quality[at : at + len(axis)] if quality else bytes(len(axis))
        bits = struct.unpack(f"<{len(values)}Q", struct.pack(f"<{len(values)}d", *values))
        readings[names[metric]] += zip(axis, bits, codes, strict=True)
        at += len(axis)
    if at != count or (quality and len(quality) != at):
        raise ValueError(f"{at} readings, but the row says {count}")
    panes = int.from_bytes(zlib.decompress(summaries)[:4], "little") if summaries else 0
    return Content(at, panes, canonical_crc(readings))


def read_stores(paths: list[Path]) -> Stored:
    """Reads frames, gaps and dead letters of all stores; a frame that two of them have is there twice."""
    stored = Stored()
    for path in paths:
        read_store(path, stored)
    return stored


def read_store(path: Path, stored: Stored) -> None:
    """Adds frames, gaps and dead letters of one store."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        names = {number: text.encode() for number, text in connection.execute("SELECT id, text FROM name")}
        devices = {row[0]: row[1:] for row in connection.execute("SELECT id, site, device FROM device_name")}
        streams = {row[0]: row[1:] for row in connection.execute("SELECT id, device_id, epoch, seq_high FROM stream")}
        for number, *row in connection.execute(
            "SELECT id, start_us, readings, runs, times, scaled, exact, quality, summaries FROM frame"
        ):
            device, epoch, high = streams[number >> SEQ_BITS]
            if epoch == 0:
                stored.foreign += 1
                continue
            key = (*devices[device], epoch % UNSIGNED, (high << SEQ_BITS) | (number & ((1 << SEQ_BITS) - 1)))
            try:
                stored.frames[key].append(frame_content(tuple(row), names))
            except (ValueError, StopIteration, RuntimeError, KeyError, zlib.error, struct.error) as error:
                stored.broken[key] = repr(error)
        for site, device, epoch, seq, readings in connection.execute(
            "SELECT site, device, epoch, seq, readings FROM dead_letter"
        ):
            stored.letters_total += 1
            if device and seq:
                stored.letters[site, device, epoch % UNSIGNED, seq] += readings
        for device, epoch, first, last in connection.execute("SELECT device_id, epoch, from_seq, to_seq FROM gap"):
            stored.gaps[(*devices[device], epoch % UNSIGNED)].append((first, last or (1 << 63)))
    except sqlite3.Error as error:
        raise EvidenceError(f"{path}: {error}") from error
    finally:
        connection.close()


def read_log(path: Path) -> set[Key]:
    """Identities of all frames that the log holds (needs pyarrow, as the log's records are Arrow streams)."""
    import pyarrow as pa  # noqa: PLC0415 — only who asks for the log needs it.

    found: set[Key] = set()
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        # Readings are the log's first topic; the topic's number stands in the highest bits of a record's id.
        readings = connection.execute("SELECT deflated, value FROM records WHERE id >> ? = 1", (LOG_TOPIC_SHIFT,))
        for deflated, value in readings:
            try:
                table = pa.ipc.open_stream(zlib.decompress(value) if deflated else value).read_all()
            except (pa.ArrowInvalid, OSError, zlib.error) as error:
                raise EvidenceError(f"{path}: a record of the log can't be read: {error}") from error
            if {"site", "device", "epoch", "seq"} <= set(table.column_names):
                columns = (table.column(name).to_pylist() for name in ("site", "device", "epoch", "seq"))
                found.update(zip(*columns, strict=True))
    except sqlite3.Error as error:
        raise EvidenceError(f"{path}: {error}") from error
    finally:
        connection.close()
    return found


@dataclass
class Findings:
    """Frames by what became of them, with examples."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def note(self, kind: str, key: Key, why: str = "") -> None:
        """Counts one frame and keeps it as an example while there are few."""
        self.counts[kind] += 1
        if len(self.examples[kind]) < EXAMPLES_MAX:
            self.examples[kind].append(f"{key[0]}/{key[1]} epoch {key[2]} seq {key[3]}{': ' if why else ''}{why}")


def check_accepted(
    ledger: Ledger,
    stored: Stored,
    logged: set[Key],
    spooled: set[tuple[int, int]] | None,
    found: Findings,
    *,
    drained: bool,
) -> None:
    """Every accepted frame is in one of the three places, or on its way unless `drained`.

    On its way is what the log or a spool holds; without a look at the spools, what is newer than all that ended.
    """
    ends: dict[tuple[str, str, int], int] = defaultdict(int)
    for key in (*stored.frames, *stored.letters):
        ends[key[:3]] = max(ends[key[:3]], key[3])
    for key, contents in ledger.accepted.items():
        found.counts["accepted"] += 1
        found.counts["readings_accepted"] += max(content.readings for content in contents)
        in_gap = any(first <= key[3] <= last for first, last in stored.gaps.get(key[:3], ()))
        if key in stored.frames or key in stored.broken:
            found.counts["gaps_but_stored"] += in_gap
        elif key in stored.letters:
            found.counts["dead_lettered"] += 1
        elif in_gap:
            found.counts["in_gaps"] += 1
        elif not drained and (key in logged or (key[3] > ends[key[:3]] if spooled is None else key[2:] in spooled)):
            found.note("in_flight", key)
        else:
            found.note("lost", key)


def check_stored(ledger: Ledger, stored: Stored, found: Findings) -> None:
    """Every stored frame is there once, was offered, and holds what the device says."""
    for key, why in stored.broken.items():
        found.note("corrupt", key, why)
    for key, contents in stored.frames.items():
        found.counts["stored"] += 1
        found.counts["readings_stored"] += contents[0].readings
        found.counts["stored_unconfirmed"] += key not in ledger.accepted
        allowed = ledger.accepted.get(key) or ledger.offered.get(key)
        if len(contents) > 1:
            found.note("duplicated", key, f"{len(contents)} times")
        if not allowed:
            found.note("phantom", key)
        elif contents[0] not in allowed and not _is_partial(contents[0], allowed, stored.letters.get(key, 0)):
            found.note("corrupt", key, f"stored {contents[0]}, ledger {sorted(map(str, allowed))}")


def read_spools(folder: Path) -> set[tuple[int, int]]:
    """(epoch, seq) of all frames that the devices' spools still hold."""
    held: set[tuple[int, int]] = set()
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                continue
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if not {"meta", "frames", "strays"} <= tables:
                continue
            epoch = int(connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0])
            held.update((epoch, seq) for (seq,) in connection.execute("SELECT seq FROM frames"))
            held.update((int(old), seq) for old, seq in connection.execute("SELECT epoch, seq FROM strays"))
        except sqlite3.Error as error:
            raise EvidenceError(f"{path}: {error}") from error
        finally:
            connection.close()
    return held


def compare(
    before: Ledger,
    after: Ledger,
    stored: Stored,
    logged: set[Key],
    spooled: set[tuple[int, int]] | None,
    *,
    drained: bool,
) -> dict:
    """Sorts every frame into one place; `drained` says that nothing may be on its way any more.

    `before` was read before the store and `after` after it, so that the pipeline may go on meanwhile.
    """
    found = Findings()
    check_accepted(before, stored, logged, spooled, found, drained=drained)
    check_stored(after, stored, found)
    kinds = ("accepted", "stored", "lost", "duplicated", "corrupt", "phantom", "dead_lettered", "in_gaps", "in_flight")
    more = ("stored_unconfirmed", "gaps_but_stored", "readings_accepted", "readings_stored")
    result: dict = {kind: found.counts[kind] for kind in (*kinds, *more)}
    result["dead_letters"] = stored.letters_total
    result["gaps"] = sum(len(ranges) for ranges in stored.gaps.values())
    result["foreign"] = stored.foreign
    result["offered"] = len(before.offered)
    result["torn_lines"] = before.torn_lines
    result["ok"] = not any(found.counts[kind] for kind in ("lost", "duplicated", "corrupt", "phantom"))
    result["examples"] = dict(found.examples)
    return result


def _is_partial(content: Content, allowed: set[Content], dead_readings: int) -> bool:
    """A frame that lost some readings to dead letters: the rest is stored, and the numbers add up."""
    return dead_readings > 0 and any(content.readings + dead_readings == other.readings for other in allowed)


def main(arguments: list[str] | None = None) -> int:
    """Compares, prints, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ledger", type=Path, required=True, help="folder of the devices' ledgers")
    parser.add_argument("--store", type=Path, required=True, action="append", help="a SQLite store")
    parser.add_argument("--log", type=Path, help="the SQLite log: frames in it that are not stored are in flight")
    parser.add_argument("--spool", type=Path, help="folder of the devices' spools: frames in them are in flight")
    parser.add_argument("--drained", action="store_true", help="nothing is on its way: what is missing is lost")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        before = read_ledger(options.ledger)
        # A frame moves from spool to log to store: asked in this order, it can't slip through between two looks.
        spooled = read_spools(options.spool) if options.spool else None
        logged = read_log(options.log) if options.log else set()
        stored = read_stores(options.store)
        result = compare(before, read_ledger(options.ledger), stored, logged, spooled, drained=options.drained)
    except (EvidenceError, OSError) as error:
        print(f"check_ledger: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(result))
    else:
        for name, number in result.items():
            if name != "examples":
                print(f"{name:<20}{number:>14}")
        for kind, lines in result["examples"].items():
            for line in lines:
                print(f"{kind}: {line}")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
