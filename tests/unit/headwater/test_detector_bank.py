import numpy as np
import pytest

from headwater.detectors.bank import DetectorBank
from headwater.detectors.episode import Episodes
from headwater.errors import CorruptStateError
from headwater.frame import Block
from headwater.metric import Metric
from headwater.quality import MISSING
from headwater.reasons import Severity

START_US = 1_700_000_000_000_000
METRICS = (
    Metric("running", is_state=True, every_us=1_000_000),
    Metric("flow", every_us=1_000_000),
    Metric("pressure", every_us=1_000_000),
    Metric("room", every_us=1_000_000),
)
NAMES = tuple(metric.name for metric in METRICS)
N = 6_000


def machine(n=N, seed=5):
    """A machine whose flow and pressure share their unrest; nothing is wrong with it."""
    rng = np.random.default_rng(seed)
    shared = np.convolve(rng.normal(0, 1, n + 9), np.ones(10) / 3, "valid")
    value = np.array(
        [
            np.ones(n),
            100 + shared + rng.normal(0, 0.3, n),
            5 - 0.05 * shared + rng.normal(0, 0.02, n),
            20 + np.sin(np.arange(n) / 9_000) + rng.normal(0, 0.05, n),
        ]
    )
    return value.round(3)


def onsets(value, quality=None, step=500, bank=None):
    bank = bank or DetectorBank(METRICS)
    found = []
    for at in range(0, value.shape[1], step):
        part = slice(at, at + step)
        times = START_US + (np.arange(value.shape[1])[part]) * 1_000_000
        code = None if quality is None else quality[:, part]
        found += bank.process(Block(NAMES, times, np.ascontiguousarray(value[:, part]), code))
    return [(a.metric, a.detector, (a.time_us - START_US) // 1_000_000) for a in found if a.is_onset]


def test_a_sound_machine_is_left_in_peace():
    assert onsets(machine(20_000)) == []


def test_a_spike_is_seen_when_it_has_returned():
    value = machine()
    value[1, 4_000] += 20
    found = onsets(value)
    assert ("flow", "spike", 4_001) in found or ("flow", "level", 4_000) in found
    assert all(4_000 <= at <= 4_010 for _, _, at in found)


def test_a_step_of_one_metric_is_seen_within_seconds():
    value = machine()
    value[2, 4_000:4_200] += 0.8
    first = min(onsets(value), key=lambda item: item[2])
    assert first[0] == "pressure"
    assert first[2] - 4_000 < 8


def test_a_slow_drift_is_seen_before_it_ends():
    value = machine(9_000)
    value[3, 7_000:7_600] += np.linspace(0, 1.2, 600)
    found = [item for item in onsets(value) if item[0] == "room"]
    assert found
    assert 7_000 < found[0][2] < 7_600


def test_growing_noise_is_seen():
    value = machine()
    value[3, 4_000:4_400] += np.random.default_rng(1).normal(0, 0.3, 400)
    assert any(metric == "room" and 4_000 <= at < 4_400 for metric, _, at in onsets(value))


def test_what_follows_an_order_is_no_anomaly():
    value = machine(12_000)
    stop = slice(6_000, 7_500)
    value[0, stop] = 0
    decay = np.exp(-np.arange(1_500) / 8)
    value[1, stop] = 100 * decay
    value[2, stop] = 5 * decay
    value[1, 7_500:] = 100 - 100 * np.exp(-np.arange(4_500) / 8) + (value[1, 7_500:] - 100)
    assert onsets(value) == []


def test_the_same_jumps_without_an_order_are_anomalies():
    value = machine()
    value[1, 4_000:] -= 60
    assert onsets(value)


def test_a_metric_that_stops_beside_others_drops_out_and_comes_back():
    value, quality = machine(4_000), np.zeros((4, 4_000), np.uint8)
    quality[2, 3_000:3_020] = MISSING
    value[2, 3_000:3_020] = np.nan
    assert onsets(value, quality) == [("pressure", "dropout", 3_002)]


def test_a_device_that_falls_silent_drops_out_once_per_silence():
    bank = DetectorBank(METRICS)
    onsets(machine(100), bank=bank)
    end = START_US + 99_000_000
    assert bank.silence(end + 5_000_000) == []
    assert sorted(a.metric for a in bank.silence(end + 7_000_000)) == sorted(NAMES)
    assert bank.silence(end + 60_000_000) == []
    times = np.array([end + 100_000_000])
    back = bank.process(Block(NAMES, times, machine(1)))
    assert [a.is_onset for a in back] == [False] * 4


def test_the_interval_of_a_metric_that_declares_none_is_learnt():
    bank = DetectorBank()
    times = START_US + np.arange(50) * 60_000_000
    bank.process(Block(("slow",), times, np.arange(50.0)[None, :]))
    assert bank.silence(int(times[-1]) + 5 * 60_000_000) == []
    assert len(bank.silence(int(times[-1]) + 7 * 60_000_000)) == 1


def test_readings_of_bad_quality_are_not_looked_at():
    value, quality = machine(), np.zeros((4, N), np.uint8)
    value[1, 4_000:4_002] = 1e9
    quality[1, 4_000:4_002] = 65
    assert onsets(value, quality) == []


def test_the_expected_band_holds_the_readings():
    bank, value = DetectorBank(METRICS), machine()
    assert np.isnan(bank.expected("flow")[0])
    onsets(value, bank=bank)
    expected, lo, hi = bank.expected("flow")
    assert lo < expected < hi
    assert lo < value[1, -1] < hi
    assert hi - lo < 20


def test_an_anomaly_tells_where_it_should_have_been():
    value = machine()
    value[2, 4_000:4_200] += 0.8
    bank = DetectorBank(METRICS)
    times = START_US + np.arange(N) * 1_000_000
    anomaly = next(a for a in bank.process(Block(NAMES, times, value)) if a.is_onset)
    assert anomaly.lo < anomaly.expected < anomaly.hi
    assert anomaly.score > 1
    assert anomaly.severity in {Severity.WARNING, Severity.CRITICAL}
    assert "pressure" in anomaly.message


def test_a_restored_bank_goes_on_as_if_nothing_had_happened():
    value = machine()
    value[2, 5_000:5_200] += 0.8
    whole = onsets(value)
    bank = DetectorBank(METRICS)
    first = onsets(value[:, :4_500], bank=bank)
    again = DetectorBank(METRICS)
    again.restore(bank.snapshot())
    assert again.snapshot() == bank.snapshot()
    rest = []
    for at in range(4_500, N, 100):
        times = START_US + np.arange(at, at + 100) * 1_000_000
        rest += again.process(Block(NAMES, times, np.ascontiguousarray(value[:, at : at + 100])))
    rest = [(a.metric, a.detector, (a.time_us - START_US) // 1_000_000) for a in rest if a.is_onset]
    assert first + rest == whole


def test_a_damaged_snapshot_is_refused():
    bank = DetectorBank(METRICS)
    onsets(machine(200), bank=bank)
    data = bytearray(bank.snapshot())
    data[len(data) // 2] ^= 1
    with pytest.raises(CorruptStateError):
        DetectorBank(METRICS).restore(bytes(data))
    with pytest.raises(CorruptStateError, match="other metrics"):
        DetectorBank((Metric("else"),)).restore(bank.snapshot())


def test_a_metric_that_never_moved_may_begin_to_without_an_alarm():
    bank = DetectorBank()
    value = np.zeros((1, 3_000))
    value[0, 2_500:] = 1.0
    times = START_US + np.arange(3_000) * 1_000_000
    assert bank.process(Block(("constant",), times, value)) == []


def test_episodes_follow_their_definition_however_they_are_cut():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, clear_after = 60, int(rng.integers(1, 6))
        strong = rng.random((2, n)) < rng.choice([0.02, 0.1, 0.4])
        weak = strong | (rng.random((2, n)) < 0.1)
        expected = []
        for row in range(2):
            active, quiet = False, 0
            for column in range(n):
                if not active and strong[row, column]:
                    active, quiet = True, 0
                    expected.append((row, column, True))
                elif active:
                    quiet = 0 if weak[row, column] else quiet + 1
                    if quiet == clear_after:
                        active = False
                        expected.append((row, column, False))
        for cuts in ([], range(1, n), sorted(rng.integers(0, n, 5).tolist())):
            episodes = Episodes(clear_after)
            episodes.grow(2)
            found, at = [], 0
            for cut in [*cuts, n]:
                edges = episodes.step(slice(None), strong[:, at:cut], weak[:, at:cut])
                found += [(edge.row, edge.column + at, edge.is_onset) for edge in edges]
                at = cut
            assert sorted(found) == sorted(expected)
