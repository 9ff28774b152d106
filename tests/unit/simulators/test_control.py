import json

import numpy as np
import pytest

from headwater.errors import SettingsError
from headwater.instant import US_PER_S
from headwater.testing import ManualClock
from headwater.vibration import WAVEFORM
from simulators.control import Control
from simulators.plant import Plant
from simulators.source import SimulatedSource


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def plant(clock):
    return Plant(2, 6, start_us=clock.now_us(), faults_per_day=0.0)


def readings(blocks, metric):
    return np.concatenate([b.value[b.metrics.index(metric)] for b in blocks if metric in b.metrics])


def test_state_is_plain_json_and_names_sites_devices_and_kinds(plant, clock):
    control = Control(plant, clock)
    state = json.loads(json.dumps(control.state()))
    assert [site["site"] for site in state["sites"]] == list(plant.sites)
    assert sum(len(site["devices"]) for site in state["sites"]) == 6
    assert "cavitation" in state["kinds"]
    assert state["faults"] == []


def test_an_injected_fault_reaches_the_readings_and_the_state(plant, clock):
    control = Control(plant, clock)
    machine = plant.machines[0]
    source = SimulatedSource({"plant": plant, "index": 0, "control": control}, clock)
    sound = SimulatedSource({"plant": plant, "index": 0}, clock)
    source.open()
    sound.open()
    clock.advance(10 * US_PER_S)
    name = control.inject(machine.site, machine.device, "pressure_bar", "bias", 20.0, 30 * US_PER_S)
    clock.advance(20 * US_PER_S)
    now_us = clock.now_us()
    delta = readings(source.read(now_us), "pressure_bar") - readings(sound.read(now_us), "pressure_bar")
    assert (delta[:10] == 0.0).all()
    assert (delta[-15:] > 0.5).all()
    assert [fault["id"] for fault in control.state()["faults"]] == [name]
    assert [fault.kind for fault in control.injected()] == ["bias"]


def test_faults_of_the_past_leave_the_state_but_not_the_truth(plant, clock):
    control = Control(plant, clock)
    machine = plant.machines[0]
    control.inject(machine.site, machine.device, "", "leak", 8.0, 30 * US_PER_S)
    clock.advance(700 * US_PER_S)
    assert control.state()["faults"] == []
    assert len(control.injected()) == 1


def test_what_does_not_exist_is_refused(plant, clock):
    control = Control(plant, clock)
    machine = plant.machines[0]
    with pytest.raises(KeyError):
        control.inject("nowhere", "pump-001", "", "leak", 8.0, US_PER_S)
    with pytest.raises(KeyError):
        control.inject(machine.site, machine.device, "no_such_metric", "bias", 8.0, US_PER_S)
    with pytest.raises(KeyError):
        control.inject(machine.site, machine.device, "", "haunting", 8.0, US_PER_S)
    with pytest.raises(ValueError, match="severity"):
        control.inject(machine.site, machine.device, "", "leak", 1e9, US_PER_S)
    with pytest.raises(KeyError):
        control.set_online("nowhere", online=False)


def test_a_site_is_cut_through_the_network_it_was_given(plant, clock):
    calls = []
    control = Control(plant, clock, lambda site, online: calls.append((site, online)))
    control.set_online(plant.sites[0], online=False)
    control.set_online(plant.sites[0], online=True)
    assert calls == [(plant.sites[0], False), (plant.sites[0], True)]
    assert all(site["online"] for site in control.state()["sites"])


def test_a_source_delivers_every_sample_once_and_in_order(plant, clock):
    source = SimulatedSource({"plant": plant, "device": plant.machines[1].device}, clock)
    source.open()
    times = []
    for step_us in (400_000, 600_000, 1_500_000, 0, 2_500_000, 7_000_000):
        clock.advance(step_us)
        times += [t for block in source.read(clock.now_us()) if "current_a" in block.metrics for t in block.time_us]
    assert len(times) == 12
    assert (np.diff(times) == US_PER_S).all()


def test_a_long_sleep_is_not_made_up_for(plant, clock):
    source = SimulatedSource({"plant": plant, "index": 0, "catch_up_s": 5}, clock)
    source.open()
    clock.advance(1_000 * US_PER_S)
    assert len(readings(source.read(clock.now_us()), "flow_m3h")) == 5


def test_a_new_plant_may_begin_with_a_past_and_catches_up_at_once(plant, clock):
    source = SimulatedSource({"plant": plant, "index": 0, "history_s": 90}, clock)
    source.open()
    clock.advance(US_PER_S)
    assert len(readings(source.read(clock.now_us()), "flow_m3h")) == 91
    source.open()
    clock.advance(US_PER_S)
    assert len(readings(source.read(clock.now_us()), "flow_m3h")) == 1


def test_a_wall_clock_that_is_set_back_does_not_stop_the_sampling(plant, clock):
    source = SimulatedSource({"plant": plant, "index": 0}, clock)
    source.open()
    clock.advance(10 * US_PER_S)
    assert source.read(clock.now_us())
    clock.step_wall(-3_600 * US_PER_S)
    assert source.read(clock.now_us()) == []
    clock.advance(5 * US_PER_S)
    assert len(readings(source.read(clock.now_us()), "flow_m3h")) == 5


def test_waveforms_are_delivered_on_request(plant, clock):
    source = SimulatedSource({"plant": plant, "index": 0, "vibration": "waveform"}, clock)
    source.open()
    clock.advance(60 * US_PER_S)
    (burst,) = [block for block in source.read(clock.now_us()) if block.rate_hz is not None]
    assert burst.metrics == (WAVEFORM,)
    assert burst.value.shape == (1, 2048)
    assert WAVEFORM in {metric.name for metric in source.metrics}
    expected = burst.time_us[0] + np.floor(np.arange(2048) * 1e6 / burst.rate_hz)
    assert (burst.time_us == expected).all()


@pytest.mark.parametrize(
    "options",
    [
        {"sede": 1},
        {"seed": -1},
        {"device": "pump-999"},
        {"index": 5, "plant": None, "devices": 0},
        {"vibration": "loud"},
        {"wear_speed": 0},
        {"duty_slot_s": 10},
    ],
)
def test_bad_options_are_settings_errors(options, clock):
    with pytest.raises(SettingsError, match="source simulated"):
        SimulatedSource(options, clock)
