"""`headwater agent install`: the systemd unit of this device's agent, printed or written."""

import argparse
import os
import sys
from pathlib import Path

from edge_agent.settings import AgentSettings
from edge_agent.unit import NAME, UnitPlan, unit_text
from headwater.cli.shared import DEFAULT_FILE, say
from headwater.errors import SettingsError

SYSTEM_FOLDER = Path("/etc/systemd/system")
HOMES = ("/home", "/root")
SECRETS = ("password_file", "key_file", "command_key_file")


def install(options: argparse.Namespace, agent: AgentSettings) -> int:
    """Prints the unit, or writes it and says what to call next.

    Raises:
        SettingsError: there is no settings file, or the unit can't be written.
    """
    settings = Path(options.config or DEFAULT_FILE).resolve()
    if not settings.is_file():
        raise SettingsError(
            f"{settings}: the unit needs a settings file; `headwater config > {settings}` writes a sample"
        )
    needed = [settings, *(Path(part).resolve() for part in (sys.executable, sys.prefix, __file__))]
    if not options.user_unit and any(path.is_relative_to("/root") for path in needed):
        say(
            "The unit's own user can't read below /root: install Headwater elsewhere, such as python3 -m venv /opt/headwater"
        )
    text = unit_text(
        UnitPlan(
            python=sys.executable,
            settings=str(settings),
            source=options.source or agent.source,
            secrets=() if options.user_unit else _secrets(agent),
            reads_home=any(path.is_relative_to(home) for path in needed for home in HOMES),
            is_user=options.user_unit,
        )
    )
    if not options.write and not options.unit_file:
        print(text, end="")
        return 0
    path = Path(options.unit_file) if options.unit_file else _folder(is_user=options.user_unit) / NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; without root: --user-unit, or print it and copy it") from error
    user = " --user" if options.user_unit else ""
    say(f"{path} is written. Now: systemctl{user} daemon-reload && systemctl{user} enable --now {path.name}")
    if options.user_unit:
        say("It ends when you log out, unless: loginctl enable-linger")
    return 0


def _secrets(agent: AgentSettings) -> tuple[tuple[str, str], ...]:
    paths = {key: str(getattr(agent, key)) for key in SECRETS}
    return tuple((key, str(Path(path).resolve())) for key, path in paths.items() if path)


def _folder(*, is_user: bool) -> Path:
    if not is_user:
        return SYSTEM_FOLDER
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"
