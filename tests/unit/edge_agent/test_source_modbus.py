import struct

import pytest

from edge_agent.sources.modbus import ModbusSource, Register, Span, spans
from headwater.errors import ConnectError, RejectedError, SettingsError
from headwater.testing import ManualClock


class FakeMaster:
    def __init__(self, words=None, bits=None):
        self.words, self.bits = words or {}, bits or {}
        self.asked = []
        self.broken = False
        self.refuses = set()

    def connect(self):
        if self.broken:
            raise ConnectError("no line")

    def read(self, kind, address, count, unit):
        self.asked.append((kind, address, count, unit))
        if self.broken:
            raise ConnectError("no line")
        if address in self.refuses:
            raise RejectedError("no such register", reason="modbus")
        table = self.bits if kind in {"coil", "discrete"} else self.words
        return [table.get(address + i, 0) for i in range(count)]

    def close(self):
        self.asked.append("closed")


def words(fmt, value):
    return list(struct.unpack(f">{struct.calcsize(fmt) // 2}H", struct.pack(fmt, value)))


def make(master, registers, **options):
    clock = ManualClock()
    source = ModbusSource({"registers": registers, **options}, clock, master)
    source.open()
    return source, clock


def test_registers_of_every_type_are_read():
    memory = {}
    for address, fmt, value in (
        (0, ">H", 215), (1, ">h", -3), (2, ">I", 70_000), (4, ">i", -70_000), (6, ">f", 1.5), (8, ">d", -2.25)
    ):  # fmt: skip
        memory |= {address + i: word for i, word in enumerate(words(fmt, value))}
    low = words(">I", 70_001)
    memory |= {20: low[1], 21: low[0]}
    registers = [
        {"metric": "a", "address": 0, "scale": 0.1, "unit": "Cel"},
        {"metric": "b", "address": 1, "type": "i16", "offset": 10},
        {"metric": "c", "address": 2, "type": "u32"},
        {"metric": "d", "address": 4, "type": "i32"},
        {"metric": "e", "address": 6, "type": "f32"},
        {"metric": "f", "address": 8, "type": "f64"},
        {"metric": "g", "address": 20, "type": "u32", "word_order": "little"},
        {"metric": "h", "address": 3, "kind": "coil", "type": "bit"},
    ]
    source, clock = make(FakeMaster(memory, {3: 1}), registers, unit=7)
    (block,) = source.read(clock.now_us())
    assert block.value[:, 0].tolist() == [21.5, 7, 70_000, -70_000, 1.5, -2.25, 70_001, 1]
    assert source.metrics[0].unit == "Cel"
    assert source.metrics[0].resolution == 0.1
    assert source.metrics[-1].is_state


def test_neighbours_share_a_request_and_the_protocols_limit_is_kept():
    registers = [Register(metric=f"m{i}", address=i * 2, type="f32") for i in range(100)]
    found = spans(registers)
    assert found == [Span("holding", 0, 120), Span("holding", 120, 80)]


def test_a_refused_request_costs_its_readings_only():
    master = FakeMaster({0: 5, 500: 6})
    master.refuses = {500}
    source, clock = make(master, [{"metric": "a", "address": 0}, {"metric": "b", "address": 500}])
    (block,) = source.read(clock.now_us())
    assert block.reading_count == 1
    assert source.refused == 1


def test_a_float_that_is_no_number_is_no_reading():
    memory = dict(enumerate(words(">f", float("nan"))))
    source, clock = make(FakeMaster(memory), [{"metric": "a", "type": "f32"}])
    assert source.read(clock.now_us()) == []


def test_a_lost_line_is_a_connection_error():
    master = FakeMaster()
    source, clock = make(master, [{"metric": "a"}])
    master.broken = True
    with pytest.raises(ConnectError):
        source.read(clock.now_us())
    assert master.asked[-1] == "closed"


def test_it_samples_no_more_often_than_asked():
    master = FakeMaster()
    source, clock = make(master, [{"metric": "a"}], every="10s")
    for _ in range(21):
        source.read(clock.now_us())
        clock.advance(1_000_000)
    assert len(master.asked) == 3


@pytest.mark.parametrize(
    ("register", "says"),
    [
        ({"metric": ""}, "metric"),
        ({"metric": "a", "kind": "coil"}, "type bit"),
        ({"metric": "a", "adress": 3}, "did you mean|unknown option"),
        ({"metric": "a", "type": "u8"}, "type"),
    ],
)
def test_a_register_that_makes_no_sense_is_refused(register, says):
    with pytest.raises(SettingsError, match=says):
        ModbusSource({"registers": [register]}, ManualClock(), FakeMaster())
