"""A BME280 on an I²C bus: temperature, pressure and humidity."""

from typing import Any, Literal, Protocol

import numpy as np
from pydantic import Field

from edge_agent.sources import bme280
from edge_agent.sources.options import read_options
from headwater.errors import ConnectError
from headwater.frame import Block
from headwater.instant import US_PER_S
from headwater.io.i2c_smbus2 import I2cSmbus2
from headwater.metric import Metric
from headwater.ports import Clock
from headwater.quality import MISSING, Quality
from headwater.settings import DurationUs, Table


class Bus(Protocol):
    """Registers of one device; `headwater.io.i2c_smbus2.I2cSmbus2` is one."""

    def open(self) -> None:
        """Opens the bus; ConnectError."""

    def read(self, register: int, count: int) -> bytes:
        """Reads registers; ConnectError."""

    def write(self, register: int, value: int) -> None:
        """Writes one register; ConnectError."""

    def close(self) -> None:
        """Closes the bus."""


class I2cOptions(Table):
    """Options of the source `i2c`."""

    sensor: Literal["bme280"] = Field("bme280", description="which chip")
    bus: int = Field(1, ge=0, description="number of the bus: 1 is /dev/i2c-1")
    address: int = Field(0x76, ge=0x03, le=0x77, description="address of the chip: 0x76 or 0x77")
    every_us: DurationUs = Field(US_PER_S, ge=20_000, description="how often to sample")
    prefix: str = Field("bme280", description="first part of the metrics' names")
    reduction: str = Field("raw", description="how all metrics are reduced")


class I2cSource:
    """Implements `headwater.ports.Source` for one chip.

    A read returns the conversion that the read before it started, and starts the next: it never waits.
    """

    def __init__(self, options: dict[str, Any], clock: Clock, bus: Bus | None = None) -> None:
        self._options = read_options(I2cOptions, options, "i2c")
        self._clock = clock
        self._bus = bus or I2cSmbus2(self._options.bus, self._options.address)
        self._calibration: bme280.Calibration | None = None
        self._started_us = -1  # Wall time of the conversion under way.
        self._ready_us = 0
        self._due_us = 0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Temperature, pressure and humidity, with the chip's limits."""
        chosen = self._options

        def metric(name: str, unit: str, lo: float, hi: float, resolution: float) -> Metric:
            return Metric(
                f"{chosen.prefix}/{name}",
                unit,
                lo,
                hi,
                resolution=resolution,
                every_us=chosen.every_us,
                reduction=chosen.reduction,
            )

        return (
            metric("temperature_cel", "Cel", -40.0, 85.0, 0.01),
            metric("pressure_hpa", "hPa", 300.0, 1100.0, 0.01),
            metric("humidity_pct", "%", 0.0, 100.0, 0.01),
        )

    @property
    def is_exhausted(self) -> bool:
        """Never."""
        return False

    def open(self) -> None:
        """Finds the chip and reads its calibration.

        Raises:
            ConnectError: the bus or the chip doesn't answer, or it is another chip.
        """
        self._bus.open()
        found = self._bus.read(bme280.REGISTER_ID, 1)[0]
        if found != bme280.CHIP_ID:
            raise ConnectError(f"I2C device {self._options.address:#x} has id {found:#x}; a BME280 has 0x60")
        self._calibration = bme280.parse_calibration(
            self._bus.read(bme280.REGISTER_CALIBRATION_1, bme280.CALIBRATION_1_BYTES),
            self._bus.read(bme280.REGISTER_CALIBRATION_2, bme280.CALIBRATION_2_BYTES),
        )
        self._started_us, self._due_us = -1, 0

    def read(self, now_us: int) -> list[Block]:
        """Returns the sample whose conversion has ended, if one has."""
        assert self._calibration is not None, "open comes first"
        monotonic_us = self._clock.monotonic_us()
        blocks: list[Block] = []
        if self._started_us >= 0 and monotonic_us >= self._ready_us:
            if self._bus.read(bme280.REGISTER_STATUS, 1)[0] & bme280.MEASURING:
                return []
            raw = bme280.parse_data(self._bus.read(bme280.REGISTER_DATA, bme280.DATA_BYTES))
            values = bme280.compensate(self._calibration, raw)
            value = np.array([[round(number, 2)] for number in values])
            quality = np.where(np.isfinite(value), np.uint8(Quality.GOOD), np.uint8(MISSING))
            times = np.array([self._started_us], np.int64)
            names = tuple(metric.name for metric in self.metrics)
            if bool((quality != MISSING).any()):
                blocks.append(Block(names, times, value, quality if quality.any() else None))
            self._started_us = -1
        if self._started_us < 0 and monotonic_us >= self._due_us:
            self._bus.write(bme280.REGISTER_CTRL_HUM, bme280.HUMIDITY_ONCE)
            self._bus.write(bme280.REGISTER_CTRL_MEAS, bme280.FORCED_ONCE)
            self._started_us, self._ready_us = now_us, monotonic_us + bme280.CONVERSION_US
            self._due_us = max(self._due_us + self._options.every_us, monotonic_us + self._options.every_us // 2)
        return blocks

    def close(self) -> None:
        """Closes the bus."""
        self._bus.close()
