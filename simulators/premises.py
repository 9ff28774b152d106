"""Where the machines of a plant stand: sites spread over a region, machines within a few hundred metres of their site's gate."""

from math import cos, hypot, pi, radians, sin, sqrt

from headwater.location import Location
from simulators.noise import draw, key_of

# Sites, and where they lie about the middle of the region: km north and east of it.
SITES = {
    "north-works": (28.0, -4.0),
    "south-works": (-24.0, 6.0),
    "harbour": (2.0, -22.0),
    "hill-quarry": (-12.0, 24.0),
    "river-plant": (12.0, 10.0),
    "east-yard": (8.0, 38.0),
}
MIDDLE = Location(47.2, 8.9)
JITTER_M, SITE_M = 6_000.0, 250.0
DEGREE_M = 111_195.0  # One degree of latitude on a sphere of 6371 km.


def location_of(seed: int, site: str, device: str) -> Location:
    """Returns where a machine of one of the SITES stands; the same for the same seed and names.

    >>> one, other = (location_of(1, "harbour", device) for device in ("pump-001", "pump-002"))
    >>> one != other, one == location_of(1, "harbour", "pump-001"), distance_m(one, other) < 2.1 * SITE_M
    (True, True, True)
    """
    north_km, east_km = SITES[site]
    gate = _near(_moved(MIDDLE, north_km * 1_000, east_km * 1_000), JITTER_M, key_of(seed, site, "gate"))
    return _near(gate, SITE_M, key_of(seed, site, device, "place"))


def distance_m(one: Location, other: Location) -> float:
    """Returns how far two locations of a region are apart in metres, as if the earth were flat between them.

    >>> round(distance_m(Location(47.0, 8.0), Location(47.0, 9.0)) / 1_000)
    76
    """
    return DEGREE_M * hypot(one.lat - other.lat, (one.lon - other.lon) * cos(radians((one.lat + other.lat) / 2)))


def _near(middle: Location, radius_m: float, key: int) -> Location:
    """Returns a point of the disc around `middle`, all equally likely."""
    away_m, angle = radius_m * sqrt(draw(key, 0)), 2 * pi * draw(key, 1)
    return _moved(middle, away_m * cos(angle), away_m * sin(angle))


def _moved(start: Location, north_m: float, east_m: float) -> Location:
    """Returns where that many metres lead, to 1e-6 degrees: a tenth of a metre."""
    lon = start.lon + east_m / (DEGREE_M * cos(radians(start.lat)))
    return Location(round(start.lat + north_m / DEGREE_M, 6), round(lon, 6))
