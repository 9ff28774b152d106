"""The tables inside of results, format 1: points of a measurement, accounts and dead letters as Arrow columns and back."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.batch import DeadLetter
from headwater.errors import DecodeError
from headwater.points import MEASUREMENT_FIELDS, MEASUREMENT_TAGS, DeviceAccount, PointTable, TagColumn
from headwater.reasons import DeadLetterReason

MEASUREMENT_KEY: Final = b"headwater.measurement"
TAG: Final = pa.dictionary(pa.int32(), pa.string())
_KINDS: Final = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "string": pa.string()}
_DTYPES: Final[dict[str, npt.DTypeLike]] = {"float": np.float64, "int": np.int64, "bool": np.bool_, "string": object}

Record = TypeVar("Record", DeviceAccount, DeadLetter)
_RANGES: Final = pa.list_(pa.list_(pa.int64(), 2))
_COLUMNS: Final = {str: pa.string(), int: pa.int64(), bytes: pa.binary()}


def _record_schema(record: type[DeviceAccount | DeadLetter]) -> Any:
    kinds = {name: _COLUMNS.get(kind, _RANGES) for name, kind in record.__annotations__.items()} | {
        "epoch": pa.uint64()
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])


ACCOUNTS: Final = _record_schema(DeviceAccount)
DEAD_LETTERS: Final = _record_schema(DeadLetter)


def points_to_arrow(table: PointTable) -> tuple[Any, list[Any]]:
    """Returns the schema and the columns of the rows of one measurement: time_us, its tags, its fields."""
    kinds = MEASUREMENT_FIELDS[table.measurement]
    arrays = [pa.array(table.time_us, pa.int64())]
    for tag in table.tags.values():
        names = pa.array(tag.dictionary, pa.string())
        arrays.append(pa.DictionaryArray.from_arrays(pa.array(tag.code, pa.int32()), names, safe=False))
    for name, column in table.fields.items():
        assert column.dtype == np.dtype(_DTYPES[kinds[name]]), f"{table.measurement}.{name} is {column.dtype}"
        # NaN means "no such field" and stays NaN: a null would be another thing.
        arrays.append(pa.array(column, _KINDS[kinds[name]], from_pandas=False))
    return _points_schema(table.measurement, tuple(table.fields)), arrays


@lru_cache(maxsize=64)
def _points_schema(measurement: str, names: tuple[str, ...]) -> Any:
    kinds = MEASUREMENT_FIELDS[measurement]
    columns = [pa.field("time_us", pa.int64(), nullable=False)]
    columns += [pa.field(tag, TAG, nullable=False) for tag in MEASUREMENT_TAGS[measurement]]
    columns += [pa.field(name, _KINDS[kinds[name]], nullable=False) for name in names]
    return pa.schema(columns, {MEASUREMENT_KEY: measurement.encode()})


def points_from_arrow(schema: Any, batch: Any) -> PointTable:
    """Reads one measurement's rows; the same arrays, bit for bit, that were written.

    Raises:
        DecodeError: SCHEMA.
    """
    measurement = (schema.metadata or {}).get(MEASUREMENT_KEY, b"").decode(errors="replace")
    tags = MEASUREMENT_TAGS.get(measurement)
    if tags is None or measurement == "telemetry":
        raise DecodeError(DeadLetterReason.SCHEMA, f"points of a measurement {measurement[:40]!r}")
    names = tuple(schema.names[1 + len(tags) :])
    kinds = MEASUREMENT_FIELDS[measurement]
    if not set(names) <= kinds.keys() or len(set(names)) != len(names):
        raise DecodeError(DeadLetterReason.SCHEMA, f"unknown fields of {measurement}")
    _check_columns(schema, batch, _points_schema(measurement, names))
    columns = batch.columns
    fields = {}
    for name, column in zip(names, columns[1 + len(tags) :], strict=True):
        if kinds[name] == "string":
            fields[name] = np.array([*column.to_pylist(), None], object)[:-1]
        else:
            fields[name] = column.to_numpy(zero_copy_only=False)
    return PointTable(
        measurement,
        columns[0].to_numpy(),
        {tag: _tag(column) for tag, column in zip(tags, columns[1:], strict=False)},
        fields,
    )


def _tag(column: Any) -> TagColumn:
    names = column.dictionary.to_pylist()
    if any(name is None for name in names):
        raise DecodeError(DeadLetterReason.SCHEMA, "a dictionary of tags has a null")
    return TagColumn(tuple(names), column.indices.to_numpy())


def record_columns(schema: Any, records: Sequence[DeviceAccount | DeadLetter]) -> list[Any]:
    """Returns accounts or dead letters as the columns of ACCOUNTS or DEAD_LETTERS."""
    return [pa.array([getattr(record, field.name) for record in records], field.type) for field in schema]


def records_of(expected: Any, record: type[Record], schema: Any, batch: Any) -> list[Record]:
    """Reads accounts or dead letters back.

    Raises:
        DecodeError: SCHEMA.
    """
    _check_columns(schema, batch, expected)
    columns = [column.to_pylist() for column in batch.columns]
    if "ranges" in expected.names:
        at = expected.get_field_index("ranges")
        columns[at] = [tuple((low, high) for low, high in ranges) for ranges in columns[at]]
    return [record(*row) for row in zip(*columns, strict=True)]


def _check_columns(schema: Any, batch: Any, expected: Any) -> None:
    if not schema.equals(expected) or any(column.null_count for column in batch.columns):
        raise DecodeError(DeadLetterReason.SCHEMA, "the columns of a table of results are not those that belong there")
