"""Where simulated machines stand."""

from itertools import combinations, pairwise

import pytest

from headwater.instant import US_PER_S
from headwater.location import Location
from headwater.testing import ManualClock
from simulators.plant import Machine, Plant
from simulators.premises import MIDDLE, SITES, distance_m
from simulators.source import SimulatedSource

START_US = 1_700_000_000 * US_PER_S


def by_site(plant: Plant) -> dict[str, list[Machine]]:
    return {site: [machine for machine in plant.machines if machine.site == site] for site in plant.sites}


@pytest.mark.parametrize("seed", [1, 7, 42])
def test_machines_stand_together_in_their_site_and_sites_lie_apart(seed: int) -> None:
    sites = by_site(Plant(seed, 120, start_us=START_US))
    assert sites.keys() == SITES.keys()
    for machines in sites.values():
        apart = [distance_m(one.location, other.location) for one, other in combinations(machines, 2)]
        assert max(apart) < 501
        assert max(apart) > 100
        assert len({machine.location for machine in machines}) == len(machines)
    gates = {site: machines[0].location for site, machines in sites.items()}
    for one, other in combinations(gates.values(), 2):
        assert distance_m(one, other) > 3_000
    assert max(distance_m(gate, MIDDLE) for gate in gates.values()) < 50_000
    assert gates["north-works"].lat > gates["south-works"].lat
    assert gates["east-yard"].lon > gates["harbour"].lon


def test_locations_are_the_same_for_the_same_seed_however_many_machines_there_are() -> None:
    few, many, other = Plant(5, 48, start_us=0), Plant(5, 480, start_us=START_US), Plant(6, 48, start_us=0)
    known = {(machine.site, machine.device): machine.location for machine in many.machines}
    assert all(known[machine.site, machine.device] == machine.location for machine in few.machines)
    assert all(one.location != two.location for one, two in zip(few.machines, other.machines, strict=True))


def test_the_simulated_source_knows_where_its_machine_stands() -> None:
    sources = [
        SimulatedSource({"seed": 5, "devices": 8, "index": index, "start_us": 0}, ManualClock()) for index in range(3)
    ]
    assert [source.location for source in sources] == [
        machine.location for machine in Plant(5, 8, start_us=0).machines[:3]
    ]


def test_distances_are_those_on_the_ground() -> None:
    # A degree of a meridian is 111.2 km; on the 60th parallel one of longitude is half of that.
    assert distance_m(Location(10, 5), Location(11, 5)) == pytest.approx(111_195)
    assert distance_m(Location(60, 5), Location(60, 6)) == pytest.approx(55_597, rel=1e-4)
    steps = [Location(47.0, lon) for lon in (8.0, 8.1, 8.2)]
    assert sum(distance_m(*pair) for pair in pairwise(steps)) == pytest.approx(distance_m(steps[0], steps[2]))
