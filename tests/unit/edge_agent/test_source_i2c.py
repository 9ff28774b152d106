import struct
from importlib.util import find_spec

import pytest

from edge_agent.sources import bme280
from edge_agent.sources.i2c import I2cSource
from headwater.errors import ConnectError, SettingsError
from headwater.io.i2c_smbus2 import I2cSmbus2
from headwater.testing import ManualClock

CALIBRATION = bme280.Calibration(
    (27504, 26435, -1000), (36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000), (75, 370, 0, 313, 50, 30)
)


class FakeChip:
    """The registers of a BME280 that has just been powered."""

    def __init__(self, chip_id=0x60, raw=(519888, 415148, 30000)):
        t, p, h = CALIBRATION.t, CALIBRATION.p, CALIBRATION.h
        self.registers = bytearray(256)
        self.registers[0xD0] = chip_id
        self.registers[0x88:0xA0] = struct.pack("<HhhHhhhhhhhh", *t, *p)
        self.registers[0xA1] = h[0]
        nibbles = (h[3] & 0x0F) | ((h[4] & 0x0F) << 4)
        self.registers[0xE1:0xE8] = struct.pack("<hBbBbb", h[1], h[2], h[3] >> 4, nibbles, h[4] >> 4, h[5])
        self.raw = raw
        self.written = []
        self.busy = False
        self.is_open = False

    def open(self):
        self.is_open = True

    def read(self, register, count):
        self.registers[0xF3] = 8 if self.busy else 0
        t, p, h = self.raw
        self.registers[0xF7:0xFF] = bytes(
            [p >> 12, p >> 4 & 255, (p & 15) << 4, t >> 12, t >> 4 & 255, (t & 15) << 4, h >> 8, h & 255]
        )
        return bytes(self.registers[register : register + count])

    def write(self, register, value):
        self.written.append((register, value))

    def close(self):
        self.is_open = False


def make(chip, **options):
    clock = ManualClock()
    source = I2cSource(options, clock, chip)
    source.open()
    return source, clock


def test_the_calibration_survives_the_registers():
    chip = FakeChip()
    assert bme280.parse_calibration(chip.read(0x88, 26), chip.read(0xE1, 7)) == CALIBRATION


def test_negative_trimming_values_of_twelve_bits_are_read():
    second = struct.pack("<hBbBbb", 1, 2, -3, 0x2B, -1, -128)
    found = bme280.parse_calibration(bytes(26), second)
    assert found.h == (0, 1, 2, (-3 << 4) | 0xB, (-1 << 4) | 0x2, -128)


def test_the_float_formulas_agree_with_the_integer_formulas_of_the_data_sheet():
    for raw_t in (300_000, 519_888, 600_000):
        for raw_h in (15_000, 30_000, 45_000):
            degrees, hpa, humidity = bme280.compensate(CALIBRATION, (raw_t, 415_148, raw_h))
            t_fine = integer_fine(raw_t)
            assert degrees == pytest.approx(((t_fine * 5 + 128) >> 8) / 100, abs=0.006)
            assert hpa == pytest.approx(integer_pressure(t_fine, 415_148) / 25_600, abs=0.02)
            assert humidity == pytest.approx(integer_humidity(t_fine, raw_h) / 1024, abs=0.03)


def integer_fine(raw):
    t1, t2, t3 = CALIBRATION.t
    first = (((raw >> 3) - (t1 << 1)) * t2) >> 11
    second = (((((raw >> 4) - t1) * ((raw >> 4) - t1)) >> 12) * t3) >> 14
    return first + second


def integer_pressure(fine, raw):
    p1, p2, p3, p4, p5, p6, p7, p8, p9 = CALIBRATION.p
    a = fine - 128000
    b = a * a * p6 + ((a * p5) << 17) + (p4 << 35)
    a = ((a * a * p3) >> 8) + ((a * p2) << 12)
    a = (((1 << 47) + a) * p1) >> 33
    p = (((1048576 - raw) << 31) - b) * 3125 // a
    first = (p9 * (p >> 13) * (p >> 13)) >> 25
    return ((p + first + ((p8 * p) >> 19)) >> 8) + (p7 << 4)


def integer_humidity(fine, raw):
    h1, h2, h3, h4, h5, h6 = CALIBRATION.h
    x = fine - 76800
    left = ((raw << 14) - (h4 << 20) - h5 * x + 16384) >> 15
    right = (((((((x * h6) >> 10) * (((x * h3) >> 11) + 32768)) >> 10) + 2097152) * h2) + 8192) >> 14
    x = left * right
    x -= ((((x >> 15) * (x >> 15)) >> 7) * h1) >> 4
    return min(max(x, 0), 419430400) >> 12


def test_a_sample_is_started_by_one_read_and_fetched_by_a_later_one():
    chip = FakeChip()
    source, clock = make(chip)
    begun_us = clock.now_us()
    assert source.read(begun_us) == []
    assert chip.written == [(0xF2, 1), (0xF4, 0b00100101)]
    clock.advance(10_000)
    (block,) = source.read(clock.now_us())
    assert block.metrics == ("bme280/temperature_cel", "bme280/pressure_hpa", "bme280/humidity_pct")
    assert block.time_us.tolist() == [begun_us]
    assert block.value[:2, 0].tolist() == [25.08, 1006.53]
    assert 20 < block.value[2, 0] < 60
    assert source.read(clock.now_us()) == []
    assert len(chip.written) == 2


def test_a_chip_that_still_converts_is_asked_again_later():
    chip = FakeChip()
    source, clock = make(chip)
    source.read(clock.now_us())
    chip.busy = True
    clock.advance(20_000)
    assert source.read(clock.now_us()) == []
    chip.busy = False
    assert len(source.read(clock.now_us())) == 1


def test_what_was_not_converted_is_no_reading():
    source, clock = make(FakeChip(raw=(519888, 0x80000, 0x8000)))
    source.read(clock.now_us())
    clock.advance(10_000)
    assert source.read(clock.now_us())[0].reading_count == 1


def test_another_chip_is_refused():
    with pytest.raises(ConnectError, match="0x58"):
        make(FakeChip(chip_id=0x58))


def test_options_are_checked():
    with pytest.raises(SettingsError, match="address"):
        I2cSource({"address": 0x99}, ManualClock(), FakeChip())


def test_without_the_extra_the_error_says_what_to_install():
    if find_spec("smbus2") is None:
        with pytest.raises(SettingsError, match=r"headwater\[i2c\]"):
            I2cSmbus2(1, 0x76)
    else:
        with pytest.raises(ConnectError, match="bus 250"):
            I2cSmbus2(250, 0x76).open()
