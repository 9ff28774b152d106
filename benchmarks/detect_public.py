"""The edge's detectors on public data sets, causal and with the limits of the product: nothing is tuned on labels.

SKAB: a row counts as in alarm from an anomaly's onset to its clearing; printed are FAR, MAR and Youden's
J = 1 − FAR − MAR over all rows after the first 400 of each file (the line to beat is 0: always or never firing).
NAB: the share of labelled windows with an onset inside, and onsets outside per 1000 rows, after each file's first 15 %.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.quality import QualityCheck
from edge_agent.sources.csv_file import CsvSource
from headwater.detectors.bank import DetectorBank
from headwater.frame import Anomaly, Block
from headwater.testing import ManualClock

SKAB_TRAIN_ROWS = 400
NAB_PROBATION = 0.15


def load(path: Path, exclude: list[str]) -> Block:
    """Reads a whole file as one block."""
    clock = ManualClock()
    source = CsvSource({"path": str(path), "speed": 0, "rebase": False, "exclude": exclude}, clock)
    source.open()
    blocks = []
    while not source.is_exhausted:
        blocks += source.read(clock.now_us())
    order = np.argsort(np.concatenate([block.time_us for block in blocks]), kind="stable")
    times = np.concatenate([block.time_us for block in blocks])[order]
    value = np.concatenate([block.value for block in blocks], axis=1)[:, order]
    fresh = np.flatnonzero(np.diff(times, prepend=times[0] - 1) > 0)
    return Block(blocks[0].metrics, times[fresh], np.ascontiguousarray(value[:, fresh]))


def events(block: Block) -> list[Anomaly]:
    """Runs the chain over a block; returns beginnings and endings."""
    check, bank = QualityCheck(), DetectorBank()
    found = []
    for at in range(0, len(block.time_us), 64):
        part = slice(at, at + 64)
        piece = Block(block.metrics, block.time_us[part], np.ascontiguousarray(block.value[:, part]))
        checked = check.check(piece)
        found += checked.events + bank.process(checked.block)
    return found


def skab(folder: Path) -> dict[str, float]:
    """Returns FAR, MAR, J and F1 over all labelled files."""
    counts = np.zeros(4)  # True and false alarms, missed and rightly quiet rows.
    for path in sorted(folder.glob("*/*.csv")):
        whole = load(path, ["changepoint"])
        if "anomaly" not in whole.metrics:
            continue
        label = whole.value[whole.metrics.index("anomaly")] > 0
        rows = [i for i, name in enumerate(whole.metrics) if name != "anomaly"]
        names = tuple(whole.metrics[i] for i in rows)
        alarmed = np.zeros(len(label), np.int64)
        for event in events(Block(names, whole.time_us, np.ascontiguousarray(whole.value[rows]))):
            alarmed[np.searchsorted(whole.time_us, event.time_us) :] += 1 if event.is_onset else -1
        alarm, label = alarmed[SKAB_TRAIN_ROWS:] > 0, label[SKAB_TRAIN_ROWS:]
        counts += [(alarm & label).sum(), (alarm & ~label).sum(), (~alarm & label).sum(), (~alarm & ~label).sum()]
    hit, false, missed, quiet = counts.tolist()
    far, mar = false / max(1.0, false + quiet), missed / max(1.0, hit + missed)
    f1 = 2 * hit / max(1.0, 2 * hit + false + missed)
    return {
        "rows": counts.sum(),
        "far": round(far, 3),
        "mar": round(mar, 3),
        "j": round(1 - far - mar, 3),
        "f1": round(f1, 3),
    }


def nab(folder: Path) -> dict[str, float]:
    """Returns the share of windows found and false onsets per 1000 rows."""
    windows_of = json.loads((folder / "labels" / "combined_windows.json").read_text())
    windows = found = false = rows = 0
    for name, spans in windows_of.items():
        path = folder / "data" / name
        if not path.exists():
            continue
        block = load(path, [])
        start_us = int(block.time_us[int(len(block.time_us) * NAB_PROBATION)])
        onsets = np.array([e.time_us for e in events(block) if e.is_onset and e.time_us >= start_us], np.int64)
        outside = np.ones(len(onsets), np.bool_)
        for first, last in spans:
            lo, hi = (int(np.datetime64(text, "us").astype(np.int64)) for text in (first, last))
            inside = (onsets >= lo) & (onsets <= hi)
            windows, found = windows + 1, found + bool(inside.any())
            outside &= ~inside
        false += int(outside.sum())
        rows += len(block.time_us)
    return {
        "rows": rows,
        "windows": windows,
        "windows_found": round(found / max(1, windows), 3),
        "false_onsets_per_1000_rows": round(1_000 * false / max(1, rows), 3),
    }


def run(*, quick: bool = False, folder: Path | None = None) -> dict[str, Any]:
    """Returns the figures of what lies in `folder` (subfolders skab and nab); nothing without one."""
    figures: dict[str, Any] = {}
    if folder is not None and (folder / "skab").exists():
        figures["skab"] = skab(folder / "skab")
    if folder is not None and (folder / "nab").exists() and not quick:
        figures["nab"] = nab(folder / "nab")
    return {"figures": figures, "ratios": {}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    print(json.dumps(run(folder=parser.parse_args().folder), indent=1))
