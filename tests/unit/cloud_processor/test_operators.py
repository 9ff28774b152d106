"""Twin, anomalies, alerts and pipeline rows, driven by records as a shard gives them."""

from dataclasses import replace
from typing import Any

import numpy as np

from cloud_processor.alerts import AlertLimits, Alerts
from cloud_processor.anomalies import AnomalyRows
from cloud_processor.event_rows import event_table
from cloud_processor.pipeline_rows import PipelineRows
from cloud_processor.twin import DEGRADED, OFFLINE, ONLINE, Twin
from headwater.arrivals import Arrivals, Progress
from headwater.batch import Batch, DeviceStatus
from headwater.batch_build import batch_from_frames
from headwater.frame import Anomaly, Block, Frame
from headwater.frontier import RANGES_MAX
from headwater.location import Location
from headwater.points import PointTable
from headwater.reasons import ClockQuality, Severity
from headwater.snapshot import pack, unpack
from headwater.task import Task

S = 1_000_000
T0 = 1_700_000_000 * S


class Given:
    """Stands for the operators before alerts: gives the tables that a test wants."""

    name = "given"

    def __init__(self) -> None:
        self.tables: list[PointTable] = []

    def process(self, arrivals: Arrivals) -> list[PointTable]:
        return []

    def advance(self, progress: Progress, tables: Any) -> list[PointTable]:
        return self.tables

    def snapshot(self) -> bytes:
        return b""

    def restore(self, data: bytes) -> None:
        pass


class Shard:
    """A task of one device whose records a test writes by hand."""

    def __init__(self) -> None:
        self.given = Given()
        self.twin = Twin(offline_after_us=60 * S, report_every_us=600 * S)
        alerts = Alerts(AlertLimits(offline_after_us=120 * S, hold_us=30 * S, forget_us=600 * S))
        self.task = Task(0, [self.given, AnomalyRows(), self.twin, alerts, PipelineRows(0, every_us=10 * S)])
        self.seq = 0

    def frame(self, at_s: int, *anomalies: Anomaly, quality: int = 0) -> dict[str, list[tuple]]:
        self.seq += 1
        block = Block(("temp",), np.array([T0 + at_s * S]), np.array([[20.0 + at_s]]), np.array([[quality]], np.uint8))
        created = T0 + at_s * S
        frame = Frame(
            "north", "pump-1", 9, self.seq, created, ClockQuality.SYNCED, blocks=(block,), anomalies=anomalies
        )
        return self.step(batch_from_frames([(frame, created + 250_000, 50)], shard=0, made_us=created + S))

    def heartbeat(self, at_s: int, *statuses: DeviceStatus) -> dict[str, list[tuple]]:
        return self.step(replace(batch_from_frames([], shard=0, made_us=T0 + at_s * S), statuses=statuses))

    def step(self, batch: Batch) -> dict[str, list[tuple]]:
        found: dict[str, list[tuple]] = {}
        for table in self.task.step(batch, 0).tables:
            tags = zip(*(tag.strings() for tag in table.tags.values()), strict=True)
            fields = [
                dict(zip(table.fields, row, strict=True))
                for row in zip(*(c.tolist() for c in table.fields.values()), strict=True)
            ]
            found.setdefault(table.measurement, []).extend(zip(tags, table.time_us.tolist(), fields, strict=True))
        return found


def anomaly(at_s: int, *, onset: bool = True, severity: Severity = Severity.WARNING) -> Anomaly:
    return Anomaly("temp", T0 + at_s * S, "level", severity, onset, 1.5, 61.0, 50.0, 45.0, 55.0, "too warm")


def status(at_s: int, *, online: bool) -> DeviceStatus:
    return DeviceStatus("north", "pump-1", T0 + at_s * S, online, 9, 1, 4, "1.2")


def alerts_of(found: dict[str, list[tuple]]) -> list[tuple[str, str]]:
    return [(tags[2], fields["state"]) for tags, _, fields in found.get("alert", [])]


def test_the_twin_follows_the_device() -> None:
    shard = Shard()
    ((tags, _, fields),) = shard.frame(0)["device"]
    assert tags == ("north", "pump-1")
    assert (fields["state"], fields["online"], fields["skew_ms"]) == (ONLINE, True, 250)
    assert "device" not in shard.frame(10)
    ((_, _, fields),) = shard.heartbeat(20, status(20, online=False))["device"]
    assert (fields["state"], fields["buffered"], fields["firmware"]) == (OFFLINE, 4, "1.2")
    ((_, _, fields),) = shard.frame(30)["device"]
    assert fields["state"] == ONLINE
    ((_, _, fields),) = shard.heartbeat(100)["device"]
    assert fields["state"] == OFFLINE
    assert shard.twin.last(0) == (T0 + 30 * S, 50.0)
    assert shard.twin.last(7) is None


def test_where_a_device_stands_is_in_its_rows_from_the_moment_that_it_says_so() -> None:
    shard = Shard()

    def places(found: dict[str, list[tuple]]) -> list[tuple[float, float]]:
        return [(fields["lat"], fields["lon"]) for _, _, fields in found.get("device", [])]

    assert np.isnan(places(shard.frame(0))).all()
    told = replace(status(5, online=True), location=Location(47.5, 8.25))
    assert places(shard.heartbeat(5, told)) == [(47.5, 8.25)]
    assert places(shard.heartbeat(6, told)) == []
    # A will, and a gateway that only heard it, say nothing of that; neither does a clean goodbye of an older agent.
    assert places(shard.heartbeat(10, replace(status(10, online=False), agent=""))) == [(47.5, 8.25)]
    assert places(shard.heartbeat(20, replace(status(20, online=True), agent=""))) == [(47.5, 8.25)]
    assert places(shard.heartbeat(30, status(30, online=False))) == [(47.5, 8.25)]
    assert places(shard.heartbeat(40, replace(told, at_us=T0 + 40 * S, location=Location(-1.0, 0.0)))) == [(-1.0, 0.0)]
    # An agent that is there and says none has none any more.
    (gone,) = places(shard.heartbeat(50, status(50, online=True)))
    assert np.isnan(gone).all()
    assert places(shard.heartbeat(51, status(51, online=True))) == []
    # What speaks something else than frames may say it too, without an agent's version.
    foreign = replace(told, at_us=T0 + 60 * S, agent="")
    assert places(shard.heartbeat(60, foreign)) == [(47.5, 8.25)]


def test_a_twin_restored_from_before_there_were_locations_goes_on_and_learns_them() -> None:
    shard = Shard()
    shard.frame(0)
    old = unpack(shard.twin.snapshot(), 1)
    del old["location"]
    shard.twin.restore(pack(1, old))
    told = replace(status(5, online=True), location=Location(47.5, 8.25))
    ((_, _, fields),) = shard.heartbeat(5, told)["device"]
    assert (fields["lat"], fields["lon"], fields["state"]) == (47.5, 8.25, ONLINE)
    again = Shard()
    again.frame(0)
    again.twin.restore(shard.twin.snapshot())
    ((_, _, fields),) = again.heartbeat(100)["device"]
    assert (fields["lat"], fields["lon"], fields["state"]) == (47.5, 8.25, OFFLINE)


def test_bad_readings_degrade_the_twin_for_a_while() -> None:
    shard = Shard()
    assert shard.frame(0, quality=65)["device"][0][2]["state"] == DEGRADED
    assert shard.frame(30).get("device") is None
    assert shard.frame(90)["device"][0][2]["state"] == ONLINE


def test_an_anomaly_is_passed_on_with_its_band_and_alerts_once() -> None:
    shard = Shard()
    found = shard.frame(0, anomaly(0))
    ((tags, time, fields),) = found["anomaly"]
    assert (tags, time) == (("north", "pump-1", "temp", "level", "warning"), T0)
    assert fields == {"score": 1.5, "value": 61.0, "expected": 50.0, "lo": 45.0, "hi": 55.0, "message": "too warm"}
    assert alerts_of(found) == [("level:temp", "firing")]
    assert alerts_of(shard.frame(5, anomaly(5))) == []
    assert shard.frame(6, anomaly(6, onset=False)).get("anomaly") is None
    assert alerts_of(shard.frame(20)) == []
    assert alerts_of(shard.frame(25, anomaly(25))) == []
    assert alerts_of(shard.frame(60)) == []
    shard.frame(61, anomaly(61, onset=False))
    assert alerts_of(shard.frame(100)) == [("level:temp", "resolved")]


def test_an_alert_whose_clearing_never_came_is_forgotten_and_info_never_alerts() -> None:
    shard = Shard()
    assert alerts_of(shard.frame(0, anomaly(0, severity=Severity.INFO))) == []
    shard.frame(10, anomaly(10))
    assert alerts_of(shard.frame(700)) == [("level:temp", "resolved")]


def test_a_device_that_stays_away_alerts_until_it_is_back() -> None:
    shard = Shard()
    shard.frame(0)
    shard.heartbeat(70)
    assert alerts_of(shard.heartbeat(100)) == []
    assert alerts_of(shard.heartbeat(200)) == [("offline", "firing")]
    assert alerts_of(shard.heartbeat(300)) == []
    assert alerts_of(shard.frame(301)) == [("offline", "resolved")]


def test_health_alerts_have_hysteresis_and_short_lives_must_say_so_for_a_while() -> None:
    shard = Shard()

    def judged(at_s: int, health: float, low: float) -> list[tuple[str, str]]:
        fields = {"health": [health], "rul_h": [low * 1.5], "rul_lo": [low], "rul_hi": [low * 2], "p_fail": [0.1]}
        time = T0 + at_s * S
        shard.given.tables = event_table(
            "health", [time], [("north", "pump-1", "bearing")], {**fields, "model": ["linear"]}
        )
        return alerts_of(shard.frame(at_s))

    assert judged(0, 90.0, np.nan) == []
    assert judged(10, 39.0, 20.0) == [("health:bearing", "firing")]
    assert judged(20, 45.0, 20.0) == []
    assert judged(30, 60.0, 20.0) == [("health:bearing", "resolved")]
    assert judged(40, 60.0, 20.0) == [("life:bearing", "firing")]
    assert [judged(at_s, 60.0, np.nan) for at_s in (50, 60, 70)] == [[], [], []]
    assert judged(80, 60.0, 26.0) == []
    assert judged(90, 60.0, 31.0) == [("life:bearing", "resolved")]
    assert [judged(at_s, 60.0, 20.0) for at_s in (100, 110)] == [[], []]


def test_frames_that_nobody_can_explain_alert_until_they_are_explained() -> None:
    shard = Shard()
    shard.frame(0)
    shard.seq = 3
    frame = Frame("north", "pump-1", 9, 5, T0, ClockQuality.SYNCED, oldest_seq=5)
    found = shard.step(batch_from_frames([(frame, T0, 9)], shard=0, made_us=T0 + 2 * S))
    assert ("unknown-frames", "firing") in alerts_of(found)
    assert found["device"][0][2]["unknown"] == 3
    frames = [replace(frame, seq=seq) for seq in (2, 3, 4)]
    found = shard.step(batch_from_frames([(one, T0, 9) for one in frames], shard=0, made_us=T0 + 3 * S))
    assert ("unknown-frames", "resolved") in alerts_of(found)


def test_pipeline_rows_add_up_an_interval() -> None:
    shard = Shard()
    for at_s in range(10):
        shard.frame(at_s)
    ((tags, _, fields),) = shard.frame(10)["pipeline"]
    assert tags == ("processor", "shard-0")
    assert (fields["messages"], fields["readings"], fields["late"]) == (11, 11, 0)
    assert fields["watermark_delay_s"] == 6.0


def test_a_device_with_very_many_holes_alerts_until_they_are_filled() -> None:
    shard = Shard()
    shard.frame(0)
    frames = [Frame("north", "pump-1", 9, 2 * i, T0, ClockQuality.SYNCED) for i in range(2, RANGES_MAX + 2)]
    found = shard.step(batch_from_frames([(one, T0, 9) for one in frames], shard=0, made_us=T0 + 2 * S))
    assert alerts_of(found) == [("sequence-holes", "firing")]
    filling = [(replace(frames[0], seq=seq), T0, 9) for seq in (2, 3)]
    found = shard.step(batch_from_frames(filling, shard=0, made_us=T0 + 3 * S))
    assert alerts_of(found) == [("sequence-holes", "resolved")]
