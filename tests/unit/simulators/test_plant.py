import itertools

import numpy as np
import pytest

from headwater.instant import US_PER_S
from headwater.names import is_metric, is_name
from headwater.quality import MISSING
from simulators import duty
from simulators.catalogue import KINDS
from simulators.environment import ambient_cel
from simulators.faults import Fault
from simulators.plant import Plant

START_US = 1_700_000_000_000_000
START_S = START_US // US_PER_S
HOUR_US = 3_600 * US_PER_S


def quiet(devices=8, **options):
    return Plant(5, devices, start_us=START_US, faults_per_day=0.0, **options)


def values(plant, machine, start_s, stop_s, live=()):
    (block,) = plant.process_values(machine, start_s * US_PER_S, stop_s * US_PER_S, live)
    return dict(zip(block.metrics, block.value, strict=True))


def test_names_are_valid_and_unique_and_every_kind_of_machine_is_there():
    plant = quiet(100)
    assert len(plant.by_name) == 100
    assert {machine.kind for machine in plant.machines} == set(KINDS)
    assert all(is_name(machine.site) and is_name(machine.device) for machine in plant.machines)
    assert all(is_metric(metric.name) for machine in plant.machines for metric in machine.metrics)
    assert 3 <= len(plant.sites) <= 6


def test_every_machine_delivers_at_least_eight_values_a_second_and_vibration_where_a_shaft_turns():
    plant = quiet()
    for machine in plant.machines:
        blocks = plant.readings(machine, START_US, START_US + 60 * US_PER_S)
        assert blocks[0].value.shape == (8, 60)
        assert (len(blocks) == 2) == (KINDS[machine.kind].rotor is not None)
        assert [name for block in blocks for name in block.metrics] == [metric.name for metric in machine.metrics]


def test_values_are_the_doubles_nearest_to_multiples_of_the_resolution():
    plant = quiet()
    for machine in plant.machines:
        columns = values(plant, machine, START_S, START_S + 600)
        for metric in machine.metrics:
            if metric.name in columns:
                column = columns[metric.name]
                assert np.abs(column / metric.resolution - np.rint(column / metric.resolution)).max() < 1e-6
                assert all(value == float(f"{value:.3f}") for value in column)
                assert (column >= metric.lo).all()
                assert (column <= metric.hi).all()


def test_units_of_one_kind_differ():
    plant = quiet(24)
    pumps = [machine for machine in plant.machines if machine.kind == "pump"]
    temperatures = [values(plant, pump, START_S, START_S + 600)["speed_rpm"].mean() for pump in pumps]
    assert len({round(value) for value in temperatures}) > len(pumps) // 2

    day = range(0, 86_400, 600)
    north = ambient_cel(1, "north-works", START_S, START_S + 86_400)[list(day)]
    again = ambient_cel(1, "north-works", START_S, START_S + 86_400)[list(day)]
    other = ambient_cel(1, "harbour", START_S, START_S + 86_400)[list(day)]
    assert (north == again).all()
    assert np.corrcoef(north, other)[0, 1] < 0.99
    assert north.max() - north.min() > 5.0


def test_the_set_point_leads_and_the_flow_follows():
    plant = quiet(duty_slot_s=1_200)
    pump = plant.machines[0]
    for slot in duty.slots_between(plant.seed, pump.device, 1_200, START_S, START_S + 40_000):
        if slot.level != slot.level_before:
            columns = values(plant, pump, slot.change_s - 100, slot.change_s + 100)
            moved = np.flatnonzero(np.diff(columns["setpoint_flow_m3h"]))
            assert abs(int(moved[0]) - 99) <= 1
            before, after = columns["flow_m3h"][:90].mean(), columns["flow_m3h"][-30:].mean()
            assert abs((after - before) - 120 * (slot.level - slot.level_before)) < 6.0
            return
    pytest.fail("no set point changed in 40 000 s")


def test_a_stopped_machine_draws_no_current_and_comes_back():
    plant = quiet(duty_slot_s=1_200)
    pump = plant.machines[0]
    slots = duty.slots_between(plant.seed, pump.device, 1_200, START_S, START_S + 60_000)
    slot = next(slot for slot in slots if slot.stop_s < slot.restart_s)
    columns = values(plant, pump, slot.stop_s - 60, slot.restart_s + 120)
    stands = slot.restart_s - slot.stop_s
    still = slice(60 + stands - 30, 60 + stands - 1)
    assert (columns["running"][still] == 0.0).all()
    assert columns["current_a"][still].max() < 2.0
    assert columns["current_a"][-20:].min() > 15.0


def test_wear_moves_the_channels_it_should_until_failure_and_repair_heals():
    plant = quiet(devices=16, wear_speed=2_000.0)
    pump = plant.machines[0]
    lives = plant.lives(pump, START_S, START_S + 200_000)["bearing"]
    life = next(life for life in lives if life.index >= 1 and life.failure_s - life.begin_s > 2_000)
    early = values(plant, pump, life.begin_s + 400, life.begin_s + 600)["bearing_temp_cel"]
    late = values(plant, pump, life.failure_s - 200, life.failure_s)["bearing_temp_cel"]
    assert late.mean() > early.mean() + 10.0
    down = values(plant, pump, life.failure_s + 30, life.repaired_s)["running"]
    assert (down == 0.0).all()
    assert life.damage(life.failure_s) == 1.0
    ages = np.linspace(life.begin_s, life.failure_s, 200)
    assert (np.diff([life.damage(at) for at in ages]) >= 0).all()


def test_lives_follow_each_other_without_a_hole():
    plant = quiet(devices=4, wear_speed=5_000.0)
    for machine in plant.machines:
        for lives in plant.lives(machine, START_S, START_S + 100_000).values():
            assert lives[0].begin_s <= START_S
            assert all(a.repaired_s == b.begin_s for a, b in itertools.pairwise(lives))
            assert all(life.begin_s < life.onset_s < life.failure_s < life.repaired_s for life in lives)


def test_at_the_demo_s_wear_speed_a_few_machines_of_twenty_fail_within_ten_minutes_and_most_do_not():
    failing = set()
    plant = quiet(devices=20, wear_speed=2_000.0)
    for machine in plant.machines:
        for lives in plant.lives(machine, START_S, START_S + 600).values():
            if any(START_S < life.failure_s <= START_S + 600 for life in lives):
                failing.add(machine.device)
    assert 1 <= len(failing) <= 6


def test_a_clock_jump_shifts_the_stamps_and_not_the_values():
    plant = quiet()
    pump = plant.machines[0]
    jump = Fault("j", pump.site, pump.device, "", "clock_jump", START_S + 10, START_S + 20, -5.0, "live")
    sound = plant.process_values(pump, START_US, START_US + 30 * US_PER_S)[0]
    parts = plant.process_values(pump, START_US, START_US + 30 * US_PER_S, [jump])
    assert len(parts) == 3
    assert (np.concatenate([part.value for part in parts], axis=1) == sound.value).all()
    shift = np.concatenate([part.time_us for part in parts]) - sound.time_us
    inside = (sound.time_us // US_PER_S >= START_S + 10) & (sound.time_us // US_PER_S < START_S + 20)
    assert (shift[inside] == -5 * US_PER_S).all()
    assert (shift[~inside] == 0).all()


def test_a_dropout_marks_readings_as_missing():
    plant = quiet()
    pump = plant.machines[0]
    fault = Fault("d", pump.site, pump.device, "flow_m3h", "dropout", START_S + 5, START_S + 8, 0.0, "live")
    (block,) = plant.process_values(pump, START_US, START_US + 20 * US_PER_S, [fault])
    assert block.quality is not None
    row = block.metrics.index("flow_m3h")
    assert np.count_nonzero(block.quality == MISSING) == 3
    assert np.count_nonzero(block.quality[row] == MISSING) == 3


def test_nothing_is_due_in_an_empty_interval():
    plant = quiet()
    assert plant.readings(plant.machines[0], START_US, START_US) == ()
