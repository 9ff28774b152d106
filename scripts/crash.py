"""kill -9 at random moments, restart on the same data, then let the independent checker judge.

    python scripts/crash.py --rounds 20                      the demo, separate processes, and a real Mosquitto between
    python scripts/crash.py --what stages --rounds 5 --seed 7

Every figure is printed; the last line counts passed and failed campaigns; the exit code is 1 if one failed.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HEADWATER = [sys.executable, "-m", "headwater"]
AGENTS = 3
# Every reading travels, in small frames, so that a kill finds many of them on their way.
BUSY = ["--set", 'agent.metrics={"*"={reduction="raw"}}', "--set", "agent.flush_every=500ms"]


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(arguments: list[str], messages: Path) -> subprocess.Popen[bytes]:
    """Starts a headwater command as a process group of its own; what it says goes to a file."""
    with messages.open("ab") as sink:
        return subprocess.Popen(HEADWATER + arguments, stdout=sink, stderr=sink, cwd=ROOT, start_new_session=True)


def kill(process: subprocess.Popen[bytes]) -> bool:
    """SIGKILL to this very process; False if it had ended by itself, which is a failure of its own."""
    alive = process.poll() is None
    if alive:
        process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


def stop(process: subprocess.Popen[bytes], timeout_s: float) -> int:
    """SIGTERM and a patient wait; returns the exit code."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return -signal.SIGKILL


def judge(data: Path, ledger: Path, spools: Path, *, with_log: bool = True) -> dict[str, Any]:
    """Runs the independent checker over the data folder, with its SQLite log or without, and returns its report."""
    command = [sys.executable, str(ROOT / "scripts" / "check_ledger.py"), "--ledger", str(ledger)]
    command += ["--store", str(data / "store.db"), "--spool", str(spools), "--drained", "--json"]
    command += ["--log", str(data / "log.db")] if with_log else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        report = {"error": done.stderr[-2000:]}
    return report | {"exit": done.returncode}


def demo_campaign(data: Path, rounds: int, devices: int, chance: random.Random) -> dict[str, Any]:
    """kill -9 of the whole demo, again and again; the last run ends by itself and drains."""
    messages = data / "messages.txt"
    common = ["demo", "--devices", str(devices), "--port", "0", "--data", str(data), "--json", *BUSY]
    early = 0
    for turn in range(rounds):
        process = start(common, messages)
        wait_s = chance.uniform(1.0, 8.0)
        time.sleep(wait_s)
        early += not kill(process)
        print(f"  round {turn + 1}/{rounds}: killed after {wait_s:.1f} s", flush=True)
    done = subprocess.run(
        [*HEADWATER, *common, "--for", "10s"], capture_output=True, text=True, cwd=ROOT, timeout=180, check=False
    )
    if done.returncode:
        return {"error": f"the last run ended with {done.returncode}: {done.stderr[-2000:]}"}
    summary = json.loads(done.stdout)
    keys = ("assigned", "stored", "dead_letters", "gaps", "in_flight", "unknown", "duplicates")
    return {
        "ended_early": early,
        **{key: summary[key] for key in keys},
        **judge(data, data / "truth" / "ledger", data / "spools"),
    }


def stage_commands(data: Path, port: int, devices: int, *, has_broker: bool = False) -> dict[str, list[str]]:
    """The command line of each stage as a process of its own; `port` is the gateway's or the broker's."""
    common = ["--data", str(data)]
    mqtt = f"mqtt://127.0.0.1:{port}"
    commands = {
        "gateway": ["gateway", *common, *(["--mqtt", mqtt] if has_broker else ["--set", f"gateway.port={port}"])],
        "processor": ["processor", *common],
    }
    for index in range(devices):
        commands[f"agent-{index}"] = [
            "agent", *common, "--ledger", str(data / "truth" / "ledger"), "--set", f"agent.gateway={mqtt}",
            "--set", "agent.site=crash-site", "--set", f"agent.device=machine-{index}", *BUSY,
            "--source", "simulated", "--option", f"index={index}", "--option", "seed=11", "--option", f"devices={devices}",
        ]  # fmt: skip
    return commands


def stages_campaign(data: Path, rounds: int, devices: int, chance: random.Random) -> dict[str, Any]:
    """kill -9 of agent, gateway and processor in turn while all run as separate processes."""
    commands = stage_commands(data, free_port(), devices)
    running = {name: start(command, data / f"{name}.txt") for name, command in commands.items()}
    early = 0
    time.sleep(4)
    victims = ["gateway", "processor", "agent-0"]
    for turn in range(rounds):
        for victim in chance.sample(victims, len(victims)):
            time.sleep(chance.uniform(0.3, 2.5))
            early += not kill(running[victim])
            time.sleep(chance.uniform(0.0, 1.0))
            running[victim] = start(commands[victim], data / f"{victim}.txt")
        print(f"  round {turn + 1}/{rounds}: killed each of {', '.join(victims)}", flush=True)
    time.sleep(6)
    codes = {name: stop(running[name], 60) for name in running if name.startswith("agent")}
    codes |= {name: stop(running[name], 60) for name in ("gateway", "processor")}
    bad = {name: code for name, code in codes.items() if code}
    return {"ended_early": early, "bad_exits": bad, **judge(data, data / "truth" / "ledger", data)}


def start_mosquitto(data: Path, port: int) -> subprocess.Popen[bytes]:
    """Starts a Mosquitto that keeps nothing but what it has in memory, as its defaults are."""
    conf = data / "mosquitto.conf"
    conf.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n"
    )
    program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
    assert program, "mosquitto is missing: python scripts/install_servers.py mosquitto"
    with (data / "mosquitto.txt").open("ab") as sink:
        return subprocess.Popen([program, "-c", str(conf)], stdout=sink, stderr=sink, start_new_session=True)


def broker_campaign(data: Path, rounds: int, devices: int, chance: random.Random) -> dict[str, Any]:
    """kill -9 of a Mosquitto, which forgets all, and of the gateway that subscribes to it."""
    port = free_port()
    commands = stage_commands(data, port, devices, has_broker=True)
    # A few hundred frames a second, so that a kill always finds some at the broker.
    commands["fleet"] = [
        "simulate", "--gateway", f"mqtt://127.0.0.1:{port}", "--devices", "40", "--frames-every", "1s", "--speed", "5",
        "--for", f"{6 + 4 * rounds}s", "--ledger", str(data / "truth" / "ledger"), "--seed", "12",
        "--set", "simulator.resend_after=3s",
    ]  # fmt: skip
    running = {"mosquitto": start_mosquitto(data, port)}
    running |= {name: start(command, data / f"{name}.txt") for name, command in commands.items()}
    early = 0
    time.sleep(4)
    for turn in range(rounds):
        for victim in chance.sample(["mosquitto", "gateway"], 2):
            time.sleep(chance.uniform(0.5, 2.0))
            early += not kill(running[victim])
            time.sleep(chance.uniform(0.0, 1.0))
            running[victim] = (
                start_mosquitto(data, port)
                if victim == "mosquitto"
                else start(commands[victim], data / f"{victim}.txt")
            )
        print(f"  round {turn + 1}/{rounds}: killed mosquitto and gateway", flush=True)
    codes = {"fleet": running["fleet"].wait(120)}
    codes |= {name: stop(running[name], 60) for name in running if name.startswith("agent")}
    codes |= {name: stop(running[name], 60) for name in ("gateway", "processor", "mosquitto")}
    bad = {name: code for name, code in codes.items() if code}
    return {"ended_early": early, "bad_exits": bad, **judge(data, data / "truth" / "ledger", data)}


def main() -> int:
    """Runs the campaigns that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=["demo", "stages", "broker", "all"], default="all")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--devices", type=int, default=20, help="devices of the demo")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    parser.add_argument("--keep", action="store_true", help="keep the data folders")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    passed = failed = 0
    for what in ["demo", "stages", "broker"] if options.what == "all" else [options.what]:
        data = Path(tempfile.mkdtemp(prefix=f"headwater-crash-{what}-"))
        print(f"{what}: {options.rounds} rounds, seed {options.seed}, data in {data}", flush=True)
        if what == "demo":
            report = demo_campaign(data, options.rounds, options.devices, chance)
        else:
            campaign = stages_campaign if what == "stages" else broker_campaign
            report = campaign(data, options.rounds, AGENTS, chance)
        good = report.get("exit") == 0 and not report.get("ended_early") and not report.get("bad_exits")
        good &= report.get("unknown", 0) == 0 and report.get("accepted", 0) > 0
        print(json.dumps(report, indent=2), flush=True)
        passed, failed = passed + good, failed + (not good)
        if good and not options.keep:
            shutil.rmtree(data)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
