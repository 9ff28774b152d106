"""The systemd unit of an edge agent as a text: restarted, watched, confined."""

from collections.abc import Iterator
from dataclasses import dataclass

from headwater.errors import SettingsError

NAME = "headwater-agent.service"
WATCHDOG_S = 30
# Sources that need a device file: what they may open, and the group that it belongs to on Raspberry Pi OS and Debian.
DEVICES = {
    "i2c": (("char-i2c",), "i2c"),
    "modbus": (("char-ttyUSB", "char-ttyACM", "char-ttyAMA", "char-ttyS"), "dialout"),
}


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """What the unit is made of.

    Attributes:
        python: absolute path of the interpreter that has Headwater.
        settings: absolute path of headwater.toml; it must be readable for everybody, secrets stand in files of their own.
        source: the agent's source, which decides what devices it may open.
        secrets: (key of `[agent]`, absolute path) of files that only root can read: systemd hands them to the agent.
        reads_home: the interpreter or the settings lie below a home folder, so that must stay readable.
        is_user: a unit of the user's own manager, without root and with less confinement.
    """

    python: str
    settings: str
    source: str = "host"
    secrets: tuple[tuple[str, str], ...] = ()
    reads_home: bool = False
    is_user: bool = False


def unit_text(plan: UnitPlan) -> str:
    """Returns the unit.

    Wrong settings (exit code 78) are not tried again. The spool lies in the unit's state folder, which outlives updates.

    Raises:
        SettingsError: a path is not absolute or holds a control character.

    >>> "WatchdogSec=30" in unit_text(UnitPlan("/opt/headwater/bin/python", "/etc/headwater/headwater.toml"))
    True
    """
    for path in (plan.python, plan.settings, *(path for _, path in plan.secrets)):
        if not path.startswith("/") or any(ord(sign) < 32 for sign in path):
            raise SettingsError(f"unit: {path!r} is no absolute path")
    lines = ["[Unit]", "Description=Headwater edge agent", "Documentation=man:systemd.service(5)"]
    # No wait for the network or the time: the spool holds what can't be sent, and frames say how good the clock was.
    lines += ["After=network.target", "StartLimitIntervalSec=0", "", "[Service]", *_service(plan), ""]
    lines += ["[Install]", f"WantedBy={'default' if plan.is_user else 'multi-user'}.target"]
    return "\n".join(lines) + "\n"


def _service(plan: UnitPlan) -> Iterator[str]:
    yield "Type=notify"
    command = f"{_quoted(plan.python)} -m headwater agent --config {_quoted(plan.settings)} --data %S/headwater"
    yield f"ExecStart={command}" + "".join(f" --set agent.{key}=%d/{key}" for key, _ in plan.secrets)
    yield "Restart=always"
    yield "RestartSec=5"
    yield "RestartPreventExitStatus=78"
    yield f"WatchdogSec={WATCHDOG_S}"
    yield "TimeoutStopSec=45"
    yield "StateDirectory=headwater"
    yield "StateDirectoryMode=0700"
    yield "UMask=0077"
    yield "Environment=PYTHONUNBUFFERED=1"
    for key, path in plan.secrets:
        yield f"LoadCredential={key}:{path.replace('%', '%%')}"
    yield "NoNewPrivileges=yes"
    yield "LockPersonality=yes"
    yield "RestrictRealtime=yes"
    yield "RestrictSUIDSGID=yes"
    yield "SystemCallArchitectures=native"
    yield "MemoryMax=256M"
    if not plan.is_user:
        yield from _confined(plan)


def _confined(plan: UnitPlan) -> Iterator[str]:
    """What only the system's manager can grant: a user that exists while the agent runs, and a world made read-only."""
    yield "DynamicUser=yes"
    yield "CapabilityBoundingSet="
    yield "ProtectSystem=strict"
    yield f"ProtectHome={'read-only' if plan.reads_home else 'yes'}"
    yield "PrivateTmp=yes"
    yield "ProtectKernelTunables=yes"
    yield "ProtectKernelModules=yes"
    yield "ProtectKernelLogs=yes"
    yield "ProtectControlGroups=yes"
    yield "ProtectHostname=yes"
    yield "RestrictNamespaces=yes"
    yield "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"
    # adjtimex only asks whether the clock is synchronised: without CAP_SYS_TIME nothing can be set. ProtectClock would
    # forbid the question, and every frame would say that nobody knows.
    yield "SystemCallFilter=@system-service adjtimex"
    yield "SystemCallFilter=~@privileged @resources"
    yield "SystemCallErrorNumber=EPERM"
    if plan.source in DEVICES:
        files, group = DEVICES[plan.source]
        yield "DevicePolicy=closed"
        yield from (f"DeviceAllow={name} rw" for name in files)
        yield f"SupplementaryGroups={group}"
    else:
        yield "PrivateDevices=yes"


def _quoted(path: str) -> str:
    r"""Writes a path as one word of a command line; "%" and "$" lose their meaning.

    >>> _quoted("/opt/my py/50%")
    '"/opt/my py/50%%"'
    """
    text = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if text != path or " " in path else path
