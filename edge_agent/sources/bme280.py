"""The sensor BME280: its registers and the compensation formulas of its data sheet (Bosch BST-BME280-DS001, 4.2.3)."""

import struct
from dataclasses import dataclass

CHIP_ID = 0x60
REGISTER_ID = 0xD0
REGISTER_CTRL_HUM, REGISTER_STATUS, REGISTER_CTRL_MEAS = 0xF2, 0xF3, 0xF4
REGISTER_DATA, DATA_BYTES = 0xF7, 8
REGISTER_CALIBRATION_1, CALIBRATION_1_BYTES = 0x88, 26
REGISTER_CALIBRATION_2, CALIBRATION_2_BYTES = 0xE1, 7
FORCED_ONCE = 0b001_001_01  # Temperature and pressure without oversampling, one conversion, then sleep.
HUMIDITY_ONCE = 0b001
MEASURING = 0b1000  # Of the status register.
CONVERSION_US = 10_000  # 9.3 ms at most for the three without oversampling.
SKIPPED_20, SKIPPED_16 = 0x80000, 0x8000  # What the data registers hold when there was no conversion.


@dataclass(frozen=True, slots=True)
class Calibration:
    """Trimming values that each chip was given: T1..T3, P1..P9, H1..H6."""

    t: tuple[int, int, int]
    p: tuple[int, int, int, int, int, int, int, int, int]
    h: tuple[int, int, int, int, int, int]


def parse_calibration(first: bytes, second: bytes) -> Calibration:
    """Takes the calibration registers 0x88… (26 bytes) and 0xE1… (7 bytes) apart."""
    t1, t2, t3, p1, p2, p3, p4, p5, p6, p7, p8, p9 = struct.unpack("<HhhHhhhhhhhh", first[:24])
    h2, h3 = struct.unpack("<hB", second[:3])
    # H4 and H5 are 12 bits each, signed, and share the byte at 0xE5.
    h4 = (struct.unpack("<b", second[3:4])[0] << 4) | (second[4] & 0x0F)
    h5 = (struct.unpack("<b", second[5:6])[0] << 4) | (second[4] >> 4)
    (h6,) = struct.unpack("<b", second[6:7])
    return Calibration((t1, t2, t3), (p1, p2, p3, p4, p5, p6, p7, p8, p9), (first[25], h2, h3, h4, h5, h6))


def parse_data(data: bytes) -> tuple[int, int, int]:
    """Takes the data registers 0xF7… (8 bytes) apart into raw (temperature, pressure, humidity)."""
    pressure = data[0] << 12 | data[1] << 4 | data[2] >> 4
    temperature = data[3] << 12 | data[4] << 4 | data[5] >> 4
    return temperature, pressure, data[6] << 8 | data[7]


def compensate(calibration: Calibration, raw: tuple[int, int, int]) -> tuple[float, float, float]:
    """Returns (°C, hPa, % relative humidity); NaN for what the chip didn't convert.

    The data sheet's worked example of the family, raw temperature 519888 and pressure 415148:

    >>> example = Calibration((27504, 26435, -1000), (36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000), (0,) * 6)
    >>> [round(value, 2) for value in compensate(example, (519888, 415148, 0x8000))[:2]]
    [25.08, 1006.53]
    """
    temperature, pressure, humidity = raw
    if temperature == SKIPPED_20:
        return float("nan"), float("nan"), float("nan")
    t1, t2, t3 = calibration.t
    fine = (temperature / 16384 - t1 / 1024) * t2 + (temperature / 131072 - t1 / 8192) ** 2 * t3
    return (
        fine / 5120,
        float("nan") if pressure == SKIPPED_20 else _pressure_hpa(calibration, pressure, fine),
        float("nan") if humidity == SKIPPED_16 else _humidity_pct(calibration, humidity, fine),
    )


def _pressure_hpa(calibration: Calibration, raw: int, fine: float) -> float:
    p1, p2, p3, p4, p5, p6, p7, p8, p9 = calibration.p
    a = fine / 2 - 64000
    b = (a * a * p6 / 32768 + a * p5 * 2) / 4 + p4 * 65536
    a = (1 + (p3 * a * a / 524288 + p2 * a) / 524288 / 32768) * p1
    if a == 0:
        return float("nan")
    pressure = (1048576 - raw - b / 4096) * 6250 / a
    return (pressure + (p9 * pressure * pressure / 2147483648 + pressure * p8 / 32768 + p7) / 16) / 100


def _humidity_pct(calibration: Calibration, raw: int, fine: float) -> float:
    h1, h2, h3, h4, h5, h6 = calibration.h
    x = fine - 76800
    x = (raw - (h4 * 64 + h5 / 16384 * x)) * (h2 / 65536 * (1 + h6 / 67108864 * x * (1 + h3 / 67108864 * x)))
    return min(100.0, max(0.0, x * (1 - h1 * x / 524288)))
