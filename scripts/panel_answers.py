"""Every query of every dashboard on what a plant wrote into a real InfluxDB that was dead meanwhile, and on SQLite.

    python scripts/panel_answers.py                              200 devices, 5 minutes, InfluxDB dead for 2 of them
    python scripts/panel_answers.py --devices 20 --minutes 0.5   the small form

    headwater simulate, headwater agent ─▶ headwater up ─▶ InfluxDB 1.6, kill -9 and back after two fifths of the time
                                             │ log.db
                                             └─▶ headwater processor ─▶ store.db ─▶ headwater page

When all is drained: no frame is unknown or stored twice, and the devices' ledgers, the log and InfluxDB hold the same
readings. Each query of panels, variables, annotations and alert rules gives what its panel shows, or nothing where SQL
finds that there is none; and the page gives the same answers from the SQLite store that a second processor made of the
same log. Every figure is printed; the exit code is 1 if anything is not so.
"""

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from crash import ROOT, free_port, judge, start, stop

sys.path.insert(0, str(ROOT / "tests" / "integration"))
from influx_pipeline import ended, prepare, simulate, stored_readings, told_by, up, url_of
from influx_server import Influx1, http
from panel_queries import DASHBOARDS, RULES, Database, Series, View, all_asked, complaint, differs, query_of

from dashboards.grafana.contents import Asked
from headwater.batch_arrow import batch_from_arrow
from headwater.instant import parse_duration_us
from headwater.io.log_sqlite import SqliteLogReader
from headwater.io.store_sqlite_query import StoreReader
from headwater.log_topics import PARTITIONS_DEFAULT, READINGS

AGENTS = 4
HISTORY_S = 1_800  # Event time that a run holds at the least: what health needs to find a trend.
DRAIN_S = 600.0
EXACT_DEVICES = 12
POINTS_PER_PANEL = 1_000
# A trend of health within half an hour, as in the demo; half an hour of an agent's history comes the anomalies first.
SETTINGS = ["processor.health_baseline=20", "processor.health_every=10s", "processor.allowed_lateness=1h"]
SETTINGS = [text for setting in SETTINGS for text in ("--set", setting)]
WEAR = 2_000
# Asked of the books: rows about the host are of one run of one process, so a replay has others.
OF_HOST = ('"Lag of the log"', '"Latency, ', '"Errors"', '"Retries"', '"Lag grows"', "variable instance")
ZERO = ('"Unknown frames"', '"Dead letters"')
_LATEST = "FROM (SELECT *, max(time_us) FROM {} GROUP BY {}) WHERE "
_STATES, _PARTS = _LATEST.format("device", "site, device"), _LATEST.format("health", "site, device, component")
# What a plant may have none of: then SQL on the other store must find none, and else the answer must have some.
MAYBE = {
    '"Offline"': (_STATES + "state = 0", "no device is offline"),
    '"Degraded"': (_STATES + "state = 2", "no device is degraded"),
    '"Critical"': ("FROM anomaly WHERE severity = 'critical'", "no anomaly was critical"),
    '"Critical anomaly"': ("FROM anomaly WHERE severity = 'critical'", "no anomaly was critical"),
    '"Warning"': ("FROM anomaly WHERE severity = 'warning'", "no anomaly was a warning"),
    '"Info"': ("FROM anomaly WHERE severity = 'info'", "no anomaly was for information only"),
    '"Health below 40"': (_PARTS + "health < 40", "no component is that bad"),
    '"Due within a day"': (_PARTS + "rul_lo < 24", "no component is due"),
    '"Due within a week"': (_PARTS + "rul_lo < 168", "no component is due"),
    '"Shortest life"': (_PARTS + "rul_lo IS NOT NULL", "no component has a trend to an end"),
    '"Remaining life"': ("FROM health WHERE rul_h IS NOT NULL", "no component had a trend to an end"),
    '"Remaining life short"': ("FROM health WHERE health < 80 AND rul_lo IS NOT NULL", "no such component had one"),
    '"Lag grows"': ("FROM (SELECT DISTINCT time_us / 60000000 FROM pipeline WHERE stage = 'log' LIMIT -1 OFFSET 1)", "told in one minute only"),
    '"Chance of failing"': ("FROM health WHERE p_fail IS NOT NULL", "no component had a trend to an end"),
}  # fmt: skip


@dataclass
class Logged:
    """What the log holds, each frame once, counted without any operator of ours.

    Attributes:
        counts: readings by (site, device, metric).
        anomalies: by (site, device).
        span_us: the oldest and the newest event time.
        exact: bits of the value by (metric, time in ns) of some devices.
    """

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    anomalies: Counter[tuple[str, str]] = field(default_factory=Counter)
    span_us: tuple[int, int] = (1 << 62, 0)
    exact: dict[tuple[str, str], dict[tuple[str, int], bytes]] = field(default_factory=dict)


def read_log(path: Path, exact: set[tuple[str, str]]) -> Logged:
    """Reads all of it."""
    found, seen = Logged(exact={key: {} for key in exact}), set()
    with closing(SqliteLogReader(path)) as log:
        for record in _records(log):
            batch = batch_from_arrow(record.value)
            frames = list(zip(batch.device.tolist(), batch.epoch.tolist(), batch.seq.tolist(), strict=True))
            keys = [(batch.devices[code], epoch, seq) for code, epoch, seq in frames]
            new = np.array([key not in seen for key in keys], bool)
            seen.update(keys)
            for row, anomaly in batch.anomalies:
                found.anomalies[keys[row][0]] += bool(new[row] and anomaly.is_onset)
            rows = np.flatnonzero(new[batch.frame_of_reading])
            if not len(rows):
                continue
            device, metric, at = batch.device[batch.frame_of_reading[rows]], batch.metric[rows], batch.time_us[rows]
            found.span_us = (min(found.span_us[0], int(at.min())), max(found.span_us[1], int(at.max())))
            places, counts = np.unique(device * len(batch.metrics) + metric, return_counts=True)
            for place, count in zip(places.tolist(), counts.tolist(), strict=True):
                code, name = divmod(place, len(batch.metrics))
                found.counts[*batch.devices[code], batch.metrics[name]] += count
            for code in set(device.tolist()):
                if (kept := found.exact.get(batch.devices[code])) is not None:
                    for row in rows[device == code].tolist():
                        name, time_ns = batch.metrics[batch.metric[row]], int(batch.time_us[row]) * 1_000
                        kept[name, time_ns] = batch.value[row].tobytes()
    return found


def _records(log: SqliteLogReader) -> Iterator[Any]:
    for partition in range(PARTITIONS_DEFAULT):
        offset = log.start(READINGS, partition)
        while records := log.read(READINGS, partition, offset, 256):
            yield from records
            offset = records[-1].offset + 1


def until(condition: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    """Waits for something that others do."""
    end_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end_s:
            sys.exit(f"panel_answers: {what}: not within {within_s:.0f} s")
        time.sleep(0.2)


class Campaign:
    """One run: what it wrote, what it found, what was wrong."""

    def __init__(self, folder: Path, server: Influx1, devices: int, minutes: float) -> None:
        self.data, self.replayed, self.ledger = folder / "data", folder / "replayed", folder / "ledger"
        self.server = server
        self.devices, self.seconds = devices, minutes * 60
        self.failures: list[str] = []

    def check(self, what: str, found: object, right: object) -> None:
        """Prints a figure, and keeps it as a failure where it is not what it must be."""
        is_right = found == right
        print(f"{what:<58}{found!s:>14}{'' if is_right else f'   WRONG: must be {right}'}", flush=True)
        if not is_right:
            self.failures.append(what)

    def write(self) -> None:
        """Lets the plant write, with InfluxDB dead in the middle, until everything is drained."""
        port, speed = free_port(), max(1.0, HISTORY_S / self.seconds)
        self.ask = prepare(self.server, self.data)
        with ExitStack() as running:
            pipeline = up(self.data, url_of(self.server), port, more=SETTINGS)
            running.callback(pipeline.kill)
            until(lambda: pipeline.poll() is not None or (self.data / "log.db").exists(), "headwater up has a log")
            fleet = simulate(
                port, self.ledger, self.seconds, f"{DRAIN_S:g}s", devices=self.devices - AGENTS, frames_every="20s",
                speed=speed, more=["--set", f"simulator.wear_speed={WEAR}", "--set", "simulator.resend_after=1m"],
            )  # fmt: skip
            running.callback(fleet.kill)
            agents = [self._agent(port, index) for index in range(AGENTS)]
            for agent in agents:
                running.callback(agent.kill)
            begun_s = time.monotonic()
            for share, act in ((0.3, self.server.kill), (0.7, self.server.start)):
                time.sleep(max(0.0, begun_s + share * self.seconds - time.monotonic()))
                act()
                print(f"after {time.monotonic() - begun_s:.0f} s: InfluxDB {act.__name__}", flush=True)
            sent = ended(fleet, self.seconds + DRAIN_S + 60)
            codes = [stop(agent, 120) for agent in agents]
            told = told_by(self.ledger).total()
            until(lambda: stored_readings(self.data) == told, f"the books hold {told} readings", DRAIN_S)
            print(f"drained after {time.monotonic() - begun_s:.0f} s", flush=True)
            pipeline.terminate()
            counters = ended(pipeline, 120)
        self.check("frames that wait at simulated devices", sent["waiting"], 0)
        self.check("exit codes of agents", codes, [0] * AGENTS)
        for name in ("errors", "frames_duplicate", "received_to_stored_p50_ms", "received_to_stored_p99_ms"):
            print(f"{'processor: ' + name:<58}{counters['processor'].get(name, 0):>14}")
        for name in ("points", "requests", "retries"):
            print(f"{'store: ' + name:<58}{counters['store'][name]:>14}")
        text = 'SELECT max("lag") AS lag, sum("errors") AS errors, sum("retries") AS retries FROM "pipeline" GROUP BY "stage"'
        for row in self.ask("events", text):
            for name in ("lag", "errors", "retries"):
                if row[name] is not None:
                    print(f"{'host: ' + name + ' of stage ' + row['stage']:<58}{row[name]:>14}")
        self.check("store: points refused", counters["store"]["refused"], 0)
        self.check("the processor met a dead store", counters["processor"]["errors"] > 0, True)

    def _agent(self, port: int, index: int) -> subprocess.Popen[bytes]:
        """A device with detectors, whose source has half an hour behind it, with faults."""
        options = {
            "index": index, "seed": 13, "devices": AGENTS, "wear_speed": WEAR, "faults_per_day": 720,
            "history_s": HISTORY_S, "start_us": time.time_ns() // 1_000 - 2 * HISTORY_S * 1_000_000,
        }  # fmt: skip
        command = ["agent", "--data", str(self.data), "--ledger", str(self.ledger), "--source", "simulated"]
        command += ["--set", f"agent.gateway=mqtt://127.0.0.1:{port}", "--set", "agent.site=agents"]
        command += ["--set", f"agent.device=machine-{index}", "--set", 'agent.metrics={"*"={reduction="raw"}}']
        command += [text for name, value in options.items() for text in ("--option", f"{name}={value}")]
        return start(command, self.data.parent / f"agent-{index}.txt")

    def replay(self) -> None:
        """Makes the SQLite store of the same log."""
        log, messages = f"sqlite:///{self.data / 'log.db'}", self.data.parent / "processor.txt"
        command = ["processor", "--data", str(self.replayed), "--log", log, *SETTINGS]
        processor = start(command, messages)
        until(lambda: processor.poll() is not None or b"processor: log" in messages.read_bytes(), "a second processor")
        # Told to end, it finishes what the log holds.
        self.check("exit code of the second processor", stop(processor, DRAIN_S), 0)

    def account(self) -> Logged:
        """Holds ledgers, log, books and InfluxDB against each other."""
        report = judge(self.replayed, self.ledger, self.data, with_log=False)
        for name in ("accepted", "readings_accepted", "stored", "readings_stored"):
            print(f"{'ledger: ' + name:<58}{report.get(name, '–'):>14}")
        for name in ("lost", "duplicated", "corrupt", "phantom", "dead_letters", "gaps"):
            self.check(f"ledger: {name}", report.get(name), 0)
        with closing(StoreReader(self.data / "store.db")) as books:
            total = books.account_total()
        for name in ("unknown", "dead_lettered", "gap", "in_flight"):
            self.check(f"books: frames {name}", total[name], 0)
        self.check("books: frames stored", total["stored"], total["assigned"])
        told = told_by(self.ledger)
        self.check("devices that accepted readings", len(told), self.devices)
        step = max(1, (self.devices - AGENTS) // (EXACT_DEVICES - AGENTS))
        exact = {key for key in told if key[0] == "agents"} | set(sorted(told)[::step])
        logged = read_log(self.data / "log.db", exact)
        self.check("readings in the ledgers", told.total(), report.get("readings_accepted"))
        self.check("readings in the log", logged.counts.total(), told.total())
        self.check("books: readings stored", total["readings_stored"], told.total())
        rows = self.ask(
            "raw", 'SELECT count("value") AS v, count("bad") AS b FROM "telemetry" GROUP BY site, device, metric'
        )
        held = {(row["site"], row["device"], row["metric"]): (row["v"] or 0) + (row["b"] or 0) for row in rows}
        self.check("points of readings in InfluxDB", sum(held.values()), told.total())
        self.check("series whose number of points is not that of the log", _unlike(held, logged.counts), 0)
        unlike = sum(_unlike(self._stored(*key), readings) for key, readings in logged.exact.items())
        self.check(f"readings of {len(exact)} devices that are not the same bits", unlike, 0)
        self.check("anomalies in the log", logged.anomalies.total() > 0, True)
        return logged

    def _stored(self, site: str, device: str) -> dict[tuple[str, int], bytes]:
        text = f"""SELECT "metric", "value", "bad" FROM "telemetry" WHERE "site" = '{site}' AND "device" = '{device}'"""
        return {
            (row["metric"], row["time"]): np.float64(row["bad"] if row["value"] is None else row["value"]).tobytes()
            for row in self.ask("raw", text)
        }

    def answers(self, logged: Logged) -> None:
        """Asks both stores everything that Grafana would."""
        from_ms, to_ms = logged.span_us[0] // 1_000, time.time_ns() // 1_000_000
        (site, device), _ = logged.anomalies.most_common(1)[0]
        print(f"shown: {(to_ms - from_ms) / 60_000:.0f} minutes, device {site}/{device}")
        asked = [(uid, query) for uid, query in all_asked()]
        asked += [("alert rules", Asked(f'rule "{rule["title"]}"', query_of(rule), interval="1m")) for rule in RULES]
        influx, counts = Database(self.server.url, "events"), Counter[str]()
        with ExitStack() as opened:
            page, sql = self._page(self.replayed, opened)
            books = self._page(self.data, opened)
            for uid, query in asked:
                finest_ms = parse_duration_us(query.interval or "1s") // 1_000
                interval_ms = max(finest_ms, 1_000 * round((to_ms - from_ms) / POINTS_PER_PANEL / 1_000))
                view = View(from_ms, to_ms, interval_ms, {"device": device, "window": "10s"})
                text = view.filled(query.text, DASHBOARDS.get(uid, {}))
                is_of_host = any(name in query.place for name in OF_HOST)
                begun_s = time.monotonic()
                first = influx.ask(text)
                between_s = time.monotonic()
                second = (books[0] if is_of_host else page).ask(text)
                spent = (between_s - begun_s, time.monotonic() - between_s)
                verdict = _verdict(query, text, first, second, books[1] if is_of_host else sql)
                size = f"{len(first):>5} series {sum(len(one['values']) for one in first):>7} rows"
                times = " ".join(f"{1e3 * value:>6.0f} ms" for value in spent)
                verdict += " (books)" if is_of_host else ""
                print(
                    f"{uid.removeprefix('headwater-') + ' · ' + query.place:<62}{size} {times}  {verdict}", flush=True
                )
                counts[verdict.partition(":")[0]] += 1
                if verdict.startswith("WRONG"):
                    self.failures.append(f"{uid} {query.place}: {verdict}")
        for verdict, count in counts.items():
            print(f"{'queries: ' + verdict:<58}{count:>14}")

    def _page(self, data: Path, opened: ExitStack) -> tuple[Database, sqlite3.Connection]:
        """A page over the store of a folder, and its SQL."""
        port = free_port()
        page = start(["page", "--data", str(data), "--port", str(port)], self.data.parent / f"page-{data.name}.txt")
        opened.callback(stop, page, 30)
        database = Database(f"http://127.0.0.1:{port}", "headwater")
        until(lambda: page.poll() is not None or _answers(database.url), "headwater page")
        sql = opened.enter_context(closing(sqlite3.connect(f"file:{data / 'store.db'}?mode=ro", uri=True)))
        return database, sql


def _unlike(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> int:
    return sum(one.get(key) != other.get(key) for key in one.keys() | other.keys())


def _answers(url: str) -> bool:
    try:
        return http("GET", f"{url}/ping")[0] == 204
    except OSError:
        return False


def _verdict(query: Asked, text: str, theirs: Series, ours: Series, sql: sqlite3.Connection) -> str:
    """Says "same", or why it may be other than that, or "WRONG" and what."""
    maybe = next((words for name, words in MAYBE.items() if name in query.place), None)
    if maybe is not None and not sql.execute(f"SELECT count(*) {maybe[0]}").fetchone()[0]:
        return f"WRONG: SQL finds none, but {maybe[1]}" if theirs or ours else f"empty: {maybe[1]}"
    for name, answer in (("InfluxDB", theirs), ("page", ours)):
        if lacking := complaint(text, answer):
            return f"WRONG: {name}: {lacking}"
        cells = [cell for one in answer for row in one["values"] for cell in row[1:]]
        if any(zero in query.place for zero in ZERO) and "rule" not in query.place and any(cells):
            return f"WRONG: {name}: must be zero everywhere"
    return "WRONG: the page answers something else" if differs(text, theirs, ours) else "same"


def main() -> int:
    """Runs it and says whether it passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=200, help=f"simulated devices, {AGENTS} of them agents")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long they send")
    parser.add_argument("--keep", action="store_true", help="keep the data")
    options = parser.parse_args()
    if shutil.which("influxd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        sys.exit("panel_answers: influxd is not installed: python scripts/install_servers.py influxdb")
    if options.devices <= AGENTS or options.minutes <= 0:
        sys.exit(f"panel_answers: more than {AGENTS} devices and more than 0 minutes")
    folder = Path(tempfile.mkdtemp(prefix="headwater-panels-"))
    print(f"{options.devices} devices, {options.minutes:g} minutes, data in {folder}", flush=True)
    with Influx1(folder / "influxdb") as server:
        campaign = Campaign(folder, server, options.devices, options.minutes)
        campaign.write()
        campaign.replay()
        campaign.answers(campaign.account())
    for failure in campaign.failures:
        print(f"failed: {failure}")
    if not (campaign.failures or options.keep):
        shutil.rmtree(folder)
    print("failed" if campaign.failures else "passed")
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    sys.exit(main())
