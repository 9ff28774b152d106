"""What stands in a batch's metadata: statuses with and without a location, of now and of before, and wrong ones."""

import json
from dataclasses import replace
from typing import Any

import pytest

from headwater.batch import DeviceStatus
from headwater.batch_arrow_schema import FORMAT_KEY, META_KEY, read_meta, write_meta
from headwater.batch_build import batch_from_frames
from headwater.errors import DecodeError
from headwater.location import Location

THERE = DeviceStatus("north", "pump-1", 5, online=True, epoch=7, assigned=3, buffered=2, agent="0.1")
HERE = replace(THERE, device="pump-2", location=Location(47.5, 8.25))
# As it was written before devices could say where they stand.
OLD = {
    "shard": 0, "made_us": 9, "low_watermark_us": -1, "devices": [],
    "statuses": [
        {"site": "north", "device": "pump-1", "at_us": 5, "online": True, "epoch": 7, "assigned": 3, "buffered": 2, "agent": "0.1"}
    ],
}  # fmt: skip


def written(*statuses: DeviceStatus) -> dict[bytes, bytes]:
    batch = replace(batch_from_frames([], shard=0, made_us=9), statuses=statuses)
    return write_meta(batch, [])


def read(meta: dict[str, Any]) -> tuple[DeviceStatus, ...]:
    found: tuple[DeviceStatus, ...] = read_meta({FORMAT_KEY: b"1", META_KEY: json.dumps(meta).encode()})["statuses"]
    return found


def test_statuses_without_a_location_are_written_and_read_as_before() -> None:
    assert json.loads(written(THERE)[META_KEY]) == OLD
    assert read(OLD) == (THERE,)


def test_a_program_of_before_finds_the_fields_that_it_knows() -> None:
    meta = json.loads(written(THERE, HERE)[META_KEY])
    assert meta["statuses"] == [*OLD["statuses"], OLD["statuses"][0] | {"device": "pump-2"}]  # type: ignore[misc, index]
    assert read(meta) == (THERE, HERE)


@pytest.mark.parametrize(
    "locations",
    [
        [[1, 47.5, 8.5]], [[-1, 47.5, 8.5]], [["0", 47.5, 8.5]], [[0.0, 47.5, 8.5]], [[True, 47.5, 8.5]], [[0, 91, 8.5]],
        [[0, 47.5]], [[0, None, 8.5]], [[0, "47", "8"]], [[[], 1, 2]], 7, {"0": [1, 2]}, [0],
    ],
)  # fmt: skip
def test_wrong_locations_are_refused(locations: object) -> None:
    with pytest.raises(DecodeError):
        read(OLD | {"locations": locations})
