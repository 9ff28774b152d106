import numpy as np
import pytest

from headwater.instant import US_PER_S
from simulators import faults
from simulators.catalogue import KINDS
from simulators.faults import Fault
from simulators.plant import Plant
from simulators.vibration import SIGMA_MM_S

START_US = 1_700_000_000_000_000
START_S = START_US // US_PER_S


@pytest.fixture(scope="module")
def plant():
    return Plant(5, 8, start_us=START_US, faults_per_day=0.0)


def change(plant, machine, fault, start_s, stop_s):
    """{metric: values with the fault minus sound values}."""
    sound = plant.process_values(machine, start_s * US_PER_S, stop_s * US_PER_S)[0]
    ill = plant.process_values(machine, start_s * US_PER_S, stop_s * US_PER_S, [fault])[0]
    return dict(zip(sound.metrics, ill.value - sound.value, strict=True)), ill


def channel(machine, metric):
    return next(one for one in KINDS[machine.kind].channels if one.name == metric)


@pytest.mark.parametrize("kind", ["spike", "bias"])
def test_a_step_is_as_large_as_its_severity_says(plant, kind):
    pump = plant.machines[0]
    fault = Fault("f", pump.site, pump.device, "pressure_bar", kind, START_S + 20, START_S + 40, 9.0)
    moved, _ = change(plant, pump, fault, START_S, START_S + 60)
    one = channel(pump, "pressure_bar")
    inside = moved["pressure_bar"][np.abs(moved["pressure_bar"]) > 0]
    assert len(inside) == 20
    assert np.abs(inside - 9.0 * one.sigma).max() <= one.resolution * 1.01
    assert all((delta == 0).all() for name, delta in moved.items() if name != "pressure_bar")


def test_the_sigma_that_severity_counts_is_the_spread_of_the_channel_at_constant_load(plant):
    for machine in plant.machines[:5]:
        for one in KINDS[machine.kind].channels:
            if one.state or one.ambient or one.demand:
                continue
            spreads = []
            for hour in range(40):
                lo = START_S + hour * 3_600
                block = plant.process_values(machine, lo * US_PER_S, (lo + 400) * US_PER_S)[0]
                spreads.append(block.value[block.metrics.index(one.name)].std())
            # Quantisation adds a little, duty changes a few of the hours a lot: the median is robust.
            assert 0.5 * one.sigma < np.median(spreads) < 1.6 * one.sigma, (machine.device, one.name)


def test_a_drift_grows_to_its_severity_and_fades(plant):
    pump = plant.machines[0]
    fault = Fault("f", pump.site, pump.device, "flow_m3h", "drift", START_S, START_S + 400, -10.0)
    moved, _ = change(plant, pump, fault, START_S, START_S + 420)
    delta = moved["flow_m3h"]
    assert abs(delta.min() + 10.0 * channel(pump, "flow_m3h").sigma) < 0.11
    assert abs(int(delta.argmin()) - 299) <= 10
    assert (delta[401:] == 0.0).all()
    assert np.abs(np.diff(delta)).max() < 0.35


def test_a_stuck_sensor_repeats_the_value_before_it_stuck(plant):
    pump = plant.machines[0]
    fault = Fault("f", pump.site, pump.device, "current_a", "stuck", START_S + 30, START_S + 90, 0.0)
    _, ill = change(plant, pump, fault, START_S, START_S + 120)
    column = ill.value[ill.metrics.index("current_a")]
    inside = np.flatnonzero((ill.time_us // US_PER_S >= START_S + 30) & (ill.time_us // US_PER_S < START_S + 90))
    assert (column[inside] == column[inside[0] - 1]).all()
    assert len(set(column[inside[-1] + 1 :].tolist())) > 5


def test_noise_grows_by_its_severity(plant):
    pump = plant.machines[0]
    fault = Fault("f", pump.site, pump.device, "flow_m3h", "noise", START_S, START_S + 2_000, 4.0)
    moved, _ = change(plant, pump, fault, START_S, START_S + 2_000)
    assert abs(moved["flow_m3h"].std() / channel(pump, "flow_m3h").sigma - 4.0) < 0.3


@pytest.mark.parametrize("kind", sorted(faults.PROCESS_EFFECTS))
def test_a_process_fault_shows_in_the_channels_it_belongs_to_and_in_no_other(plant, kind):
    for machine in plant.machines[:7]:
        if kind not in faults.kinds_of(machine.kind):
            continue
        fault = Fault("f", machine.site, machine.device, "", kind, START_S, START_S + 300, 12.0)
        moved, _ = change(plant, machine, fault, START_S, START_S + 300)
        effects = faults.PROCESS_EFFECTS[kind]
        shown = {name for name, delta in moved.items() if np.abs(delta).max() > 0}
        assert shown <= set(effects)
        for name in shown:
            expected = 12.0 * abs(effects[name]) * channel(machine, name).sigma
            reached = abs(np.median(moved[name][150:220]))
            assert reached > 0.5 * expected or kind == "cavitation"
        assert shown or kind == "imbalance"


def test_imbalance_shows_in_the_velocity_of_vibration(plant):
    motor = plant.machines[1]
    fault = Fault("f", motor.site, motor.device, "", "imbalance", START_S, START_S + 3_000, 12.0)

    def rms(live):
        blocks = plant.readings(motor, START_US, START_US + 1_000 * US_PER_S, live)
        return np.array([b.value[0, 0] for b in blocks if b.metrics[0] == "vibration_rms_mm_s"])

    late = slice(-3, None)
    assert rms([fault])[late].mean() > rms([])[late].mean() + 4 * SIGMA_MM_S


def test_at_least_a_fifth_of_the_devices_have_no_fault_and_density_stays_low():
    week_s = 7 * 86_400
    plant = Plant(3, 60, start_us=START_US, has_vibration=False)
    density = []
    for machine in plant.machines:
        some = plant.faults(machine, START_S, START_S + week_s)
        density.append(sum(fault.stop_s - fault.start_s for fault in some) / week_s)
    assert np.mean(np.array(density) == 0.0) >= 0.2
    assert max(density) <= 0.01
    assert np.median(density) <= 0.0025


def test_scheduled_faults_never_lie_on_a_standing_machine():
    plant = Plant(3, 20, start_us=START_US, faults_per_day=40.0, duty_slot_s=1_200, has_vibration=False)
    seen = 0
    for machine in plant.machines:
        drive = plant.drive(machine, START_S, START_S + 20_000)
        for fault in plant.faults(machine, START_S, START_S + 20_000):
            if fault.kind in ("dropout", "clock_jump"):
                continue
            seen += 1
            lo, hi = max(fault.start_s - START_S, 0), fault.stop_s - START_S
            assert (drive.on[lo:hi] == 1.0).all()
    assert seen > 50


def test_faults_are_found_from_any_interval_that_touches_them():
    plant = Plant(3, 4, start_us=START_US, faults_per_day=60.0, has_vibration=False)
    for machine in plant.machines:
        for fault in plant.faults(machine, START_S, START_S + 20_000):
            assert fault in plant.faults(machine, fault.start_s, fault.start_s + 1)
            assert fault in plant.faults(machine, fault.stop_s - 1, fault.stop_s)
            assert fault not in plant.faults(machine, fault.stop_s, fault.stop_s + 1)
