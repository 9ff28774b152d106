"""Registers of Modbus devices as readings."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, Literal, Protocol, Self

import numpy as np
from pydantic import Field, model_validator

from edge_agent.sources.options import read_options
from headwater.errors import ConnectError, RejectedError
from headwater.frame import Block
from headwater.instant import US_PER_S
from headwater.io.modbus_pymodbus import ModbusPymodbus
from headwater.metric import Metric
from headwater.names import check_metric
from headwater.ports import Clock
from headwater.quality import MISSING, Quality
from headwater.settings import DurationUs, Table

WORDS = {"u16": 1, "i16": 1, "u32": 2, "i32": 2, "f32": 2, "u64": 4, "i64": 4, "f64": 4, "bit": 1}
_FORMATS = {"u16": ">H", "i16": ">h", "u32": ">I", "i32": ">i", "f32": ">f", "u64": ">Q", "i64": ">q", "f64": ">d"}
SPAN_MAX = 120  # Registers of one request; the protocol allows 125.
HOLE_MAX = 8  # Registers nobody asked for that are read along to save a request.


class Master(Protocol):
    """What reads registers; `headwater.io.modbus_pymodbus.ModbusPymodbus` is one."""

    def connect(self) -> None:
        """Connects; ConnectError."""

    def read(self, kind: str, address: int, count: int, unit: int) -> list[int]:
        """Returns registers or bits; ConnectError, RejectedError."""

    def close(self) -> None:
        """Closes the connection."""


class Register(Table):
    """One metric: where its value lies and what it means."""

    metric: str = Field("", description="the metric's name")
    address: int = Field(0, ge=0, le=65_535, description="protocol address, from 0")
    kind: Literal["holding", "input", "coil", "discrete"] = Field("holding", description="which table")
    type: Literal["u16", "i16", "u32", "i32", "f32", "u64", "i64", "f64", "bit"] = Field("u16", description="coding")
    word_order: Literal["big", "little"] = Field("big", description="which register of several comes first")
    scale: float = Field(1.0, description="value = register * scale + offset")
    offset: float = Field(0.0, description="see scale")
    unit: str = Field("", description="unit of the value")
    lo: float = Field(-inf, description="readings below are of bad quality")
    hi: float = Field(inf, description="readings above are of bad quality")
    reduction: str = Field("raw", description="how it is reduced")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_metric(self.metric)
        if (self.kind in {"coil", "discrete"}) != (self.type == "bit"):
            raise ValueError(f"{self.metric}: a {self.kind} has type {'bit' if self.kind != 'holding' else 'u16, …'}")
        return self


class ModbusOptions(Table):
    """Options of the source `modbus`."""

    url: str = Field("tcp://127.0.0.1:502", description="tcp://host:port or serial:///dev/ttyUSB0?baud=9600")
    unit: int = Field(1, ge=0, le=255, description="unit id of the device")
    every_us: DurationUs = Field(US_PER_S, ge=10_000, description="how often to sample")
    timeout_us: DurationUs = Field(US_PER_S, ge=10_000, description="how long an answer may take")
    registers: list[Register] = Field([], description="what to read")


@dataclass(frozen=True, slots=True)
class Span:
    """One request: neighbouring registers of one table."""

    kind: str
    address: int
    count: int


class ModbusSource:
    """Implements `headwater.ports.Source` for one Modbus device.

    A span that the device refuses gives no readings (counted in `refused`); a lost connection raises ConnectError.
    """

    def __init__(self, options: dict[str, Any], clock: Clock, master: Master | None = None) -> None:
        self._options = read_options(ModbusOptions, options, "modbus")
        self._clock = clock
        self._master = master or ModbusPymodbus(self._options.url, self._options.timeout_us / US_PER_S)
        self._spans = spans(self._options.registers)
        self._due_us = 0
        self.refused = 0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """One per register of the options."""
        return tuple(
            Metric(
                register.metric,
                register.unit,
                register.lo,
                register.hi,
                resolution=0.0 if register.type in {"f32", "f64"} else abs(register.scale),
                every_us=self._options.every_us,
                reduction=register.reduction,
                is_state=register.type == "bit",
            )
            for register in self._options.registers
        )

    @property
    def is_exhausted(self) -> bool:
        """Never."""
        return False

    def open(self) -> None:
        """Connects."""
        self._master.connect()
        self._due_us = 0

    def read(self, now_us: int) -> list[Block]:
        """Returns one sample if one is due."""
        monotonic_us = self._clock.monotonic_us()
        if monotonic_us < self._due_us or not self._spans:
            return []
        self._due_us = max(self._due_us + self._options.every_us, monotonic_us + self._options.every_us // 2)
        words: dict[tuple[str, int], int] = {}
        for span in self._spans:
            try:
                found = self._master.read(span.kind, span.address, span.count, self._options.unit)
            except RejectedError:
                self.refused += 1
                continue
            except ConnectError:
                self._master.close()
                raise
            words.update({(span.kind, span.address + i): word for i, word in enumerate(found)})
        registers = self._options.registers
        value = np.array([[_decode(register, words)] for register in registers])
        quality = np.where(np.isfinite(value), np.uint8(Quality.GOOD), np.uint8(MISSING))
        if bool((quality == MISSING).all()):
            return []
        names = tuple(register.metric for register in registers)
        return [Block(names, np.array([now_us], np.int64), value, quality if quality.any() else None)]

    def close(self) -> None:
        """Closes the connection."""
        self._master.close()


def spans(registers: Sequence[Register]) -> list[Span]:
    """Gathers registers into as few requests as the protocol allows.

    >>> spans([Register(metric="a", address=0), Register(metric="b", address=3), Register(metric="c", address=500)])
    [Span(kind='holding', address=0, count=4), Span(kind='holding', address=500, count=1)]
    """
    found: list[Span] = []
    for register in sorted(registers, key=lambda register: (register.kind, register.address)):
        end = register.address + WORDS[register.type]
        last = found[-1] if found else None
        if (
            last is not None
            and last.kind == register.kind
            and register.address <= last.address + last.count + HOLE_MAX
            and end - last.address <= SPAN_MAX
        ):
            found[-1] = Span(last.kind, last.address, max(last.count, end - last.address))
        else:
            found.append(Span(register.kind, register.address, end - register.address))
    return found


def _decode(register: Register, words: dict[tuple[str, int], int]) -> float:
    """Returns the value of a register; NaN if it was not read or is no number."""
    some = [words.get((register.kind, register.address + i)) for i in range(WORDS[register.type])]
    if None in some:
        return float("nan")
    known = [word for word in some if word is not None]
    if register.type == "bit":
        return float(known[0])
    if register.word_order == "little":
        known.reverse()
    (number,) = struct.unpack(_FORMATS[register.type], struct.pack(f">{len(known)}H", *known))
    value = float(number) * register.scale + register.offset
    # A decimal scale leaves binary dust (201 * 0.1); the decimal that was meant packs far better.
    value = float(f"{value:.12g}")
    return value if isfinite(value) else float("nan")
