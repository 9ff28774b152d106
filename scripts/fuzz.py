"""Feeds every decoder with damaged and random bytes and checks that only its own errors come out.

    python scripts/fuzz.py --inputs 1000000 [--seed 1] [--target frame] [--workers 2]

An input fails if it raises anything else, takes longer than a second, or makes the process grow by more than 64 MiB.
Failing inputs are kept in a folder whose name is printed. `TARGETS` is the table to add a decoder to.
"""

import argparse
import multiprocessing
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from fuzz_targets import TARGETS, Target

SECONDS_MAX = 1.0
GROWTH_MAX_BYTES = 64 * 1024 * 1024
CHUNK = 1_000
KEPT_MAX = 20


@dataclass
class Tally:
    """What came of some inputs of one target."""

    target: str
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, bytes]] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    growth_bytes: int = 0


def on_alarm(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError("an input took longer than ten seconds")


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_LOADED: dict[str, Target] = {}


def fuzz(job: tuple[str, int, int]) -> Tally:
    """Runs one chunk of inputs; the same (target, seed, count) gives the same inputs."""
    name, seed, count = job
    target = _LOADED.get(name) or _LOADED.setdefault(name, TARGETS[name]())
    draw = random.Random(seed)
    tally = Tally(name)
    warnings.simplefilter("error")
    signal.signal(signal.SIGALRM, on_alarm)
    for _ in range(count):
        data = target.mutate(draw, target.seeds)
        before = peak_bytes()
        signal.alarm(10)
        start = time.perf_counter()
        wrong = ""
        try:
            result = target.run(data)
            outcome = result if isinstance(result, str) else "read"
        except target.allowed as error:
            outcome = str(getattr(error, "reason", type(error).__name__))
        except Exception as error:  # noqa: BLE001 - finding these is what the script is for; each is kept and counted
            outcome = wrong = f"{type(error).__name__}: {error}"[:200]
        taken = time.perf_counter() - start
        signal.alarm(0)
        growth = peak_bytes() - before
        tally.seconds += taken
        tally.slowest_s = max(tally.slowest_s, taken)
        tally.growth_bytes = max(tally.growth_bytes, growth)
        if not wrong and taken > SECONDS_MAX:
            wrong = f"took {taken:.1f} s"
        if not wrong and growth > GROWTH_MAX_BYTES:
            wrong = f"grew by {growth >> 20} MiB"
        tally.outcomes["FAILED" if wrong else outcome] += 1
        if wrong:
            tally.failed += 1
            if len(tally.failures) < KEPT_MAX:
                tally.failures.append((wrong, data))
    return tally


def jobs_for(names: list[str], inputs: int, seed: int) -> list[tuple[str, int, int]]:
    """Chunks of all targets in turn, so that a run that is cut short has seen every one."""
    jobs = []
    for round_ in range(-(-inputs // (len(names) * CHUNK))):
        for place, name in enumerate(names):
            left = inputs * (place + 1) // len(names) - inputs * place // len(names) - round_ * CHUNK
            if left > 0:
                jobs.append((name, seed * 1_000_003 + round_ * 101 + place, min(CHUNK, left)))
    return jobs


def available(wanted: list[str]) -> list[str]:
    """The targets whose package is here."""
    names = []
    for name in wanted:
        try:
            TARGETS[name]()
            names.append(name)
        except ImportError as error:
            print(f"{name}: skipped ({error})")
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="over all targets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=sorted(TARGETS), action="append")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    names = available(options.target or list(TARGETS))
    jobs = jobs_for(names, options.inputs, options.seed)
    total = {name: Tally(name) for name in names}
    start, done = time.monotonic(), 0
    print_at = start + 10
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for tally in pool.imap_unordered(fuzz, jobs):
            whole = total[tally.target]
            whole.outcomes += tally.outcomes
            whole.failures += tally.failures
            whole.failed += tally.failed
            whole.seconds += tally.seconds
            whole.slowest_s = max(whole.slowest_s, tally.slowest_s)
            whole.growth_bytes = max(whole.growth_bytes, tally.growth_bytes)
            done += tally.outcomes.total()
            if time.monotonic() > print_at:
                print_at = time.monotonic() + 10
                rate = done / (time.monotonic() - start)
                print(f"{done:>10,} of {options.inputs:,} inputs, {rate:,.0f} a second", flush=True)
    return report(total, done, time.monotonic() - start)


def report(total: dict[str, Tally], done: int, seconds: float) -> int:
    failed = 0
    for name, tally in total.items():
        count = tally.outcomes.total()
        print(
            f"{name}: {count:,} inputs, {tally.seconds / max(count, 1) * 1e6:.0f} µs each, slowest "
            f"{tally.slowest_s * 1e3:.1f} ms, largest growth {tally.growth_bytes / 1e6:.1f} MB"
        )
        print("    " + ", ".join(f"{outcome} {number:,}" for outcome, number in tally.outcomes.most_common(16)))
        failed += tally.failed
    if failed:
        folder = Path(tempfile.mkdtemp(prefix="headwater-fuzz-"))
        for name, tally in total.items():
            for number, (wrong, data) in enumerate(tally.failures[:KEPT_MAX]):
                (folder / f"{name}-{number}.bin").write_bytes(data)
                print(f"{name}-{number}: {wrong}")
        print(f"failing inputs are in {folder}")
    print(f"{done - failed} passed, {failed} failed in {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
