import numpy as np
import pytest

from edge_agent.sources.host import HostSource
from headwater.errors import ConnectError, SettingsError
from headwater.io.clock_system import SystemClock
from headwater.quality import MISSING
from headwater.testing import ManualClock


@pytest.fixture
def root(tmp_path):
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    (proc / "net").mkdir(parents=True)
    (sys / "block" / "sda").mkdir(parents=True)
    sensor = sys / "class" / "hwmon" / "hwmon0"
    sensor.mkdir(parents=True)
    (sensor / "name").write_text("coretemp\n")
    (sensor / "temp1_label").write_text("Core 0\n")
    (sensor / "temp1_input").write_text("41500\n")
    write(proc, busy=100, idle=900, rx=4_294_960_000, read=1_000)
    (proc / "loadavg").write_text("0.52 0.4 0.3 1/200 1234\n")
    (proc / "meminfo").write_text("MemTotal: 8000 kB\nMemFree: 1 kB\nMemAvailable: 6000 kB\nSwapTotal: 0 kB\n")
    return tmp_path


def write(proc, *, busy, idle, rx, read):
    (proc / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 1 1 1\n")
    (proc / "net" / "dev").write_text(
        "Inter-|   Receive\n face |bytes\n"
        "    lo: 5 0 0 0 0 0 0 0 5 0 0 0 0 0 0 0\n"
        f"  eth0: {rx} 0 0 0 0 0 0 0 700 0 0 0 0 0 0 0\n"
    )
    (proc / "diskstats").write_text(
        f"8 0 sda 1 0 {read} 0 1 0 200 0 0 0 0\n8 1 sda1 1 0 999999 0 1 0 9 0 0 0 0\n7 0 loop0 1 0 5 0 1 0 5 0 0 0 0\n"
    )


def values(block):
    code = np.zeros(block.value.shape, np.uint8) if block.quality is None else block.quality
    return {name: float(block.value[i, 0]) for i, name in enumerate(block.metrics) if code[i, 0] != MISSING}


def test_it_reads_gauges_at_once_and_rates_from_the_second_sample_on(root):
    clock = ManualClock()
    source = HostSource({"root": str(root)}, clock)
    source.open()
    first = values(source.read(clock.now_us())[0])
    assert first["cpu/load1"] == 0.5
    assert first["mem/used_pct"] == 25.0
    assert first["temp/coretemp_core_0_cel"] == 41.5
    assert not {"cpu/load_pct", "net/eth0/rx_bytes_s", "disk/read_bytes_s"} & set(first)
    write(root / "proc", busy=150, idle=1_050, rx=4_294_964_000, read=1_100)
    clock.advance(2_000_000)
    second = values(source.read(clock.now_us())[0])
    assert second["cpu/load_pct"] == 25.0
    assert second["net/eth0/rx_bytes_s"] == 2_000
    assert second["disk/read_bytes_s"] == 100 * 512 / 2


def test_a_counter_that_wraps_goes_on_and_one_that_was_reset_gives_no_reading(root):
    clock = ManualClock()
    source = HostSource({"root": str(root)}, clock)
    source.open()
    source.read(clock.now_us())
    write(root / "proc", busy=100, idle=900, rx=704, read=10)
    clock.advance(1_000_000)
    found = values(source.read(clock.now_us())[0])
    assert found["net/eth0/rx_bytes_s"] == 4_294_967_296 - 4_294_960_000 + 704
    assert "disk/read_bytes_s" not in found


def test_it_samples_no_more_often_than_asked(root):
    clock = ManualClock()
    source = HostSource({"root": str(root), "every": "5s"}, clock)
    source.open()
    taken = []
    for _ in range(21):
        taken += source.read(clock.now_us())
        clock.advance(1_000_000)
    assert len(taken) == 5


def test_a_step_of_the_wall_clock_is_no_rate(root):
    clock = ManualClock()
    source = HostSource({"root": str(root)}, clock)
    source.open()
    source.read(clock.now_us())
    clock.step_wall(-3_600_000_000)
    clock.advance(1_000_000)
    write(root / "proc", busy=150, idle=950, rx=4_294_960_500, read=1_000)
    assert values(source.read(clock.now_us())[0])["net/eth0/rx_bytes_s"] == 500


def test_interfaces_can_be_chosen(root):
    source = HostSource({"root": str(root), "interfaces": "wlan*"}, ManualClock())
    source.open()
    assert not any(metric.name.startswith("net/") for metric in source.metrics)


def test_a_file_that_vanishes_costs_its_readings_only(root):
    clock = ManualClock()
    source = HostSource({"root": str(root)}, clock)
    source.open()
    (root / "sys/class/hwmon/hwmon0/temp1_input").unlink()
    found = values(source.read(clock.now_us())[0])
    assert "temp/coretemp_core_0_cel" not in found
    assert "mem/used_pct" in found
    assert source.unreadable == 1


def test_without_proc_it_says_so(tmp_path):
    with pytest.raises(ConnectError, match="/proc"):
        HostSource({"root": str(tmp_path)}, ManualClock()).open()


def test_an_option_that_is_spelt_wrong_is_refused_with_advice():
    with pytest.raises(SettingsError, match="did you mean 'interfaces'"):
        HostSource({"interface": "eth0"}, ManualClock())


def test_this_machine_has_a_processor_and_memory():
    clock = SystemClock()
    source = HostSource({}, clock)
    source.open()
    found = values(source.read(clock.now_us())[0])
    assert 0 < found["mem/used_pct"] < 100
    assert all(np.isfinite(list(found.values())))
