"""Any interval of any machine regenerates alone, bit for bit, however it is cut."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.instant import US_PER_S
from simulators.faults import Fault
from simulators.plant import Plant

START_US = 1_700_000_000_000_000
WHOLE_S = 6_000


def make_plant():
    # Fast wear, many faults and short slots: outages, faults and set-point changes all fall into the interval.
    return Plant(11, 8, start_us=START_US, wear_speed=20_000.0, faults_per_day=150.0, duty_slot_s=600)


LIVE = (
    Fault("l1", "", "", "", "stuck", START_US // US_PER_S + 500, START_US // US_PER_S + 900, 0.0, "live"),
    Fault("l2", "", "", "", "clock_jump", START_US // US_PER_S + 1_000, START_US // US_PER_S + 1_100, -7.0, "live"),
    Fault("l3", "", "", "", "imbalance", START_US // US_PER_S + 200, START_US // US_PER_S + 2_000, 9.0, "live"),
)


def series(blocks):
    """{metric: (times, values, qualities)} of blocks in order."""
    columns = {}
    for block in blocks:
        quality = np.zeros(block.value.shape, np.uint8) if block.quality is None else block.quality
        for row, metric in enumerate(block.metrics):
            columns.setdefault(metric, []).append((block.time_us, block.value[row], quality[row]))
    return {
        name: [np.concatenate(part).tobytes() for part in zip(*parts, strict=True)] for name, parts in columns.items()
    }


WHOLE = {}


def whole(index):
    if index not in WHOLE:
        plant = make_plant()
        WHOLE[index] = series(plant.readings(plant.machines[index], START_US, START_US + WHOLE_S * US_PER_S, LIVE))
    return WHOLE[index]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 7), st.lists(st.integers(0, WHOLE_S * US_PER_S), max_size=8), st.randoms(use_true_random=False))
def test_an_interval_is_the_same_in_any_cut_and_order(index, cuts, random):
    plant = make_plant()
    edges = sorted({0, WHOLE_S * US_PER_S, *cuts})
    spans = list(itertools.pairwise(edges))
    random.shuffle(spans)
    pieces = {lo: plant.readings(plant.machines[index], START_US + lo, START_US + hi, LIVE) for lo, hi in spans}
    assert series([block for lo in sorted(pieces) for block in pieces[lo]]) == whole(index)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 7), st.integers(0, WHOLE_S - 1))
def test_a_single_second_is_the_same_alone(index, second):
    plant = make_plant()
    machine = plant.machines[index]
    lo = START_US + second * US_PER_S
    span = plant.process_values(machine, lo - 50 * US_PER_S, lo + 50 * US_PER_S)
    alone = plant.process_values(machine, lo, lo + US_PER_S)
    assert sum(block.value.shape[1] for block in alone) == 1
    times = np.concatenate([block.time_us for block in span])
    values = np.concatenate([block.value for block in span], axis=1)
    same_time = values[:, times == alone[0].time_us[0]]
    assert any(column.tobytes() == alone[0].value[:, 0].tobytes() for column in same_time.T)


def test_blocks_ascend_in_time_and_every_cell_is_finite_or_missing():
    plant = make_plant()
    for machine in plant.machines:
        for block in plant.readings(machine, START_US, START_US + WHOLE_S * US_PER_S, LIVE):
            assert (np.diff(block.time_us) > 0).all()
            assert set(block.metrics) <= {metric.name for metric in machine.metrics}
            good = np.isfinite(block.value)
            assert good.all() if block.quality is None else (good == (block.quality == 0)).all()
