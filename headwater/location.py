"""Where a device stands, as its settings or the device itself say: latitude and longitude in degrees (WGS 84)."""

from dataclasses import dataclass

LAT_MAX, LON_MAX = 90.0, 180.0


@dataclass(frozen=True, slots=True)
class Location:
    """A point on the earth.

    Attributes:
        lat: degrees north, −90 to 90.
        lon: degrees east, −180 to 180.
    """

    lat: float
    lon: float


def read_location(lat: object, lon: object) -> Location | None:
    """Returns the location that somebody told, None where neither number is there.

    >>> read_location(47.5, -8), read_location(None, None)
    (Location(lat=47.5, lon=-8.0), None)

    Raises:
        ValueError: one is there without the other, is no number, or lies out of range.
    """
    if lat is None and lon is None:
        return None
    return Location(_degrees("latitude", lat, LAT_MAX), _degrees("longitude", lon, LON_MAX))


def _degrees(name: str, value: object, limit: float) -> float:
    # A NaN compares as false, and a huge integer is never made a float.
    if type(value) not in (int, float) or not -limit <= value <= limit:  # type: ignore[operator]
        raise ValueError(f"{name} must be a number from {-limit:g} to {limit:g}, and come with the other one")
    return float(value)  # type: ignore[arg-type]
