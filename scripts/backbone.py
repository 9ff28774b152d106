"""Five minutes of `headwater up` between a real Mosquitto and a real Kafka, with guests that are not ours.

    python scripts/backbone.py                              500 devices for 5 minutes, tasks hosted by our processor
    python scripts/backbone.py --processor flink            the same with Apache Flink (`headwater flink install` first)

    headwater simulate ─┐
    mosquitto_pub ──────┼─▶ Mosquitto ─▶ headwater up ─▶ Kafka ─▶ processor, or Flink and a sink ─▶ SQLite store
    pysparkplug node ───┤
    Home Assistant kind ┘

The guests: JSON by mosquitto_pub, a Sparkplug B node by pysparkplug, and a device that announces itself as Home Assistant's MQTT
discovery has it. When all is drained the independent checker holds the store against the devices' ledger; every value that
a guest sent has to be in the store once. Every figure is printed; the exit code is 1 if one is not as it should be.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos import Broker, last_object
from crash import ROOT, judge, start, stop
from kafka import Cluster, install

from headwater.errors import ConnectError
from headwater.io.flink_cluster import ClusterSizes, FlinkCluster
from headwater.io.flink_environment import FlinkEnvironment
from headwater.io.store_sqlite_query import StoreReader

sys.path.insert(0, str(ROOT / "tests" / "integration"))

from sparkplug_peer import Peer

GUEST_VALUES = 50
PATIENCE_S = 120.0
DISCOVERY = (
    "homeassistant/sensor/porch/temp/config",
    json.dumps({"stat_t": "porch/climate", "val_tpl": "{{ value_json.temp }}"}),
)
GUESTS = {
    "mosquitto_pub": ("guest", "esp-1", "temp"),
    "pysparkplug": ("plant_a", "press_1", "Speed"),
    "home_assistant": ("home", "porch", "temp"),
}


def publish(port: int, topic: str, payload: str, *options: str) -> None:
    """Publishes by mosquitto_pub, QoS 1."""
    command = ["mosquitto_pub", "-V", "5", "-p", str(port), "-q", "1", "-t", topic, "-m", payload, *options]
    subprocess.run(command, check=True)


def send_as_guests(port: int, node: Peer, number: int) -> None:
    """One value of each guest; value and number are the same."""
    publish(port, "hw/1/guest/esp-1/json", json.dumps({"temp": float(number)}))
    publish(port, "porch/climate", json.dumps({"temp": float(number), "mode": "auto"}))
    node.call("update", [["Speed", "DOUBLE", float(number)]])


def wait_for(holds: Callable[[], bool], what: str | Callable[[], str]) -> None:
    """Asks until it holds; ends the script if it never does."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline_s:
            sys.exit(f"waited {PATIENCE_S:.0f} s for {what() if callable(what) else what}")
        time.sleep(0.2)


def guests_stored(data: Path) -> dict[str, int]:
    """{guest: how many of its values are in the store, once each}."""
    reader = StoreReader(data / "store.db")
    found = {}
    try:
        for guest, series in GUESTS.items():
            values = [float(value) for value in reader.raw(*series, 0, 1 << 62, 10 * GUEST_VALUES)["value"]]
            found[guest] = sum(values.count(float(number)) == 1 for number in range(1, GUEST_VALUES + 1))
    except ConnectError:  # The store is not there yet.
        return dict.fromkeys(GUESTS, 0)
    finally:
        reader.close()
    return found


def be_guests(data: Path, port: int, seconds: float) -> None:
    """Sends the guests' values over the time and waits until the store has them."""
    with Peer() as node:
        node.call("node_up", port, "Plant A", "Press 1", [["Speed", "DOUBLE", 0.0]], {})
        publish(port, *DISCOVERY, "-r")
        began_s = time.monotonic()
        for number in range(1, GUEST_VALUES + 1):
            time.sleep(max(began_s + number * seconds / (GUEST_VALUES + 2) - time.monotonic(), 0.01))
            send_as_guests(port, node, number)
            if sys.stderr.isatty():
                print(f"\r{time.monotonic() - began_s:4.0f} of {seconds:.0f} s", end="", file=sys.stderr, flush=True)
        wait_for(
            lambda: set(guests_stored(data).values()) == {GUEST_VALUES}, lambda: f"the guests: {guests_stored(data)}"
        )


def engines(data: Path, ends: contextlib.ExitStack, processor: str) -> tuple[int, list[str]]:
    """Starts the servers and puts their ends on the stack; returns the broker's port and the options of `headwater up`."""
    install()
    kafka = Cluster(data / "kafka", is_tied=True)
    ends.callback(kafka.stop)
    kafka.start()
    broker = Broker(data / "mosquitto")
    ends.callback(broker.stop)
    options = ["--data", str(data), "--log", kafka.url, "--mqtt", f"mqtt://127.0.0.1:{broker.port}", "--port", "0"]
    options += ["--set", "gateway.home_assistant_devices=true", "--json"]
    if processor == "flink":
        flink = FlinkCluster(data / "flink", FlinkEnvironment(ROOT / ".venv-flink"))
        ends.callback(flink.stop)
        flink.start(ClusterSizes())
        options += ["--processor", flink.url]
    return broker.port, options


def run(data: Path, devices: int, seconds: float, processor: str) -> dict[str, Any]:
    """Runs everything and returns every figure."""
    ledger, said = data / "truth" / "ledger", data / "up.txt"
    with contextlib.ExitStack() as ends:
        port, options = engines(data, ends, processor)
        up = start(["up", *options], said)
        ends.callback(stop, up, 90)
        wait_for(lambda: "connected" in said.read_text(encoding="utf-8"), "the gateway at the broker")
        load = start(
            ["simulate", "--devices", str(devices), "--gateway", f"mqtt://127.0.0.1:{port}", "--for", f"{seconds:.0f}s",
             "--frames-every", "1s", "--connections", "16", "--ledger", str(ledger),
             "--set", f"simulator.drain={PATIENCE_S:.0f}s", "--json"],
            data / "load.txt",
        )  # fmt: skip
        ends.callback(stop, load, 10)
        be_guests(data, port, seconds)
        codes = {"load": load.wait(seconds + 2 * PATIENCE_S)}
        sent = last_object(data / "load.txt")
        wait_for(lambda: stored(data) >= sent["frames"], "all frames in the store")
        codes["up"] = stop(up, 90)
    reader = StoreReader(data / "store.db")
    account, doubled = reader.account_total(), reader.frames_doubled()
    reader.close()
    return {
        "devices": devices,
        "seconds": seconds,
        "processor": processor,
        "bad_exits": {name: code for name, code in codes.items() if code},
        "load": sent,
        "account": account,
        "duplicates": doubled,
        "guests": guests_stored(data),
        **judge(data, ledger, data, with_log=False),
    }


def stored(data: Path) -> int:
    """Frames in the store."""
    reader = StoreReader(data / "store.db")
    try:
        return int(reader.account_total()["stored"])
    finally:
        reader.close()


def main() -> int:
    """Runs it as asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--processor", choices=["ours", "flink"], default="ours")
    parser.add_argument("--keep", action="store_true", help="keep the data folder")
    options = parser.parse_args()
    data = Path(tempfile.mkdtemp(prefix="headwater-backbone-"))
    print(
        f"{options.devices} devices, {options.seconds:.0f} s, processor {options.processor}, data in {data}", flush=True
    )
    report = run(data, options.devices, options.seconds, options.processor)
    print(json.dumps(report, indent=2), flush=True)
    good = (
        report["exit"] == 0
        and not report["bad_exits"]
        and report["account"]["unknown"] == 0 == report["duplicates"]
        and report["accepted"] > 0
        and set(report["guests"].values()) == {GUEST_VALUES}
    )
    print("passed" if good else "failed")
    if good and not options.keep:
        shutil.rmtree(data)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
