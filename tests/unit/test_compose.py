"""docker-compose.yml and the Dockerfiles, as far as they can be judged without Docker."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headwater.cli import COMMANDS, build_parser
from headwater.cli.shared import table_classes
from headwater.compose_files import SECRETS, compose_files
from headwater.settings import load_settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
ENVIRONMENT = dict(
    line.split("=", 1)
    for line in compose_files("/srv/plant", 1000, 1000, bytes)[".env"].decode().splitlines()
    if not line.startswith("#")
)
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("headwater")]
ON_FLINK = [name for name, service in SERVICES.items() if service.get("profiles") == ["flink"]]
# What the images bring with them, and what is theirs while they run.
IN_IMAGES = ("/opt/", "/tmp")
ONE_SHOT = {"folders", "influx-init", "doctor"}

# The part of the compose specification that the file uses; a key that is not here is a typing error or a new decision.
SERVICE_KEYS = {
    "image": str, "build": dict, "user": str, "restart": str, "init": bool, "read_only": bool, "tmpfs": list, "cap_drop": list,
    "cap_add": list, "security_opt": list, "logging": dict, "network_mode": str, "entrypoint": list, "command": list,
    "environment": dict, "configs": list, "secrets": list, "volumes": list, "depends_on": dict, "ports": list,
    "healthcheck": dict, "stop_grace_period": str, "profiles": list, "working_dir": str,
}  # fmt: skip
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period", "start_interval"}
CONDITIONS = {"service_healthy", "service_completed_successfully"}


def filled(text: str) -> str:
    """Puts variables in as compose does: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `$$`."""

    def put(found: re.Match[str]) -> str:
        name, mark, rest = found[1], found[2], found[3]
        if name in ENVIRONMENT:
            return ENVIRONMENT[name]
        assert mark == "-", f"{name} is not in the .env that init writes"
        return rest

    return re.sub(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}", put, text).replace("$$", "$")


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for below in value.values():
            yield from strings(below)
    elif isinstance(value, list):
        for below in value:
            yield from strings(below)


def words_of(service: dict[str, Any]) -> list[str]:
    """The arguments of `headwater` that a service calls, out of a shell's line too."""
    if "entrypoint" not in service:
        return [filled(word) for word in service["command"]]
    return shlex.split(service["command"][0].split(";")[0])[1:]


def test_the_file_is_of_the_form_that_we_use() -> None:
    known = {"name", "services", "volumes", "configs", "secrets"}
    assert {key for key in COMPOSE if not key.startswith("x-")} == known
    for name, service in SERVICES.items():
        for key, value in service.items():
            assert isinstance(value, SERVICE_KEYS[key]), f"{name}.{key}"
        assert set(service.get("healthcheck", {})) <= HEALTH_KEYS, name
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES, f"{name} waits for {other}"
            assert how["condition"] in CONDITIONS, name
            is_one_shot = other in ONE_SHOT
            assert (how["condition"] == "service_completed_successfully") == is_one_shot, f"{name} waits for {other}"
            assert is_one_shot or "healthcheck" in SERVICES[other], (
                f"{name} waits for {other}, which has no healthcheck"
            )


def test_waiting_has_no_circle() -> None:
    def before(name: str, seen: tuple[str, ...] = ()) -> None:
        assert name not in seen, seen
        for other in SERVICES[name].get("depends_on", {}):
            before(other, (*seen, name))

    for name in SERVICES:
        before(name)


def test_every_variable_is_written_by_init_or_has_a_default() -> None:
    for text in strings(COMPOSE):
        filled(text)


def test_every_image_is_pinned() -> None:
    images = [service["image"] for service in SERVICES.values()]
    for path in (ROOT / "deploy" / "docker").iterdir():
        images += re.findall(r"^FROM (\S+)", path.read_text(), re.MULTILINE)
    for image in images:
        assert re.search(r":\d+\.\d+[\w.-]*$", image), f"{image}: name a version"


def test_every_port_is_of_this_machine_only() -> None:
    ports = [filled(port) for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports), ports
    assert len({port.split(":")[1] for port in ports}) == len(ports)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")
    assert "healthcheck" in service or name in ONE_SHOT | {"demo-device"}
    assert "privileged" not in service
    if name not in {"folders", "kafka"}:  # The one sets rights up; the other has no secrets and its own user.
        assert filled(service["user"]) == "1000:1000"
        assert service["cap_drop"] == ["ALL"]
    if name in OURS:
        assert service["read_only"]


def test_with_flink_the_sink_is_in_the_processors_place_and_never_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def storing() -> list[str]:
        return [name for name in OURS if {"processor", "sink"} & set(words_of(SERVICES[name])[:1])]

    assert ON_FLINK == ["jobmanager", "taskmanager", "job"]
    assert "profiles" not in SERVICES["processor"]
    assert storing() == ["processor"]
    assert words_of(SERVICES["processor"])[0] == "processor"
    files = compose_files("/srv/plant", 1000, 1000, bytes, has_flink=True)
    lines = [line.split("=", 1) for line in files[".env"].decode().splitlines() if not line.startswith("#")]
    for name, value in lines:
        monkeypatch.setitem(ENVIRONMENT, name, value)
    assert ENVIRONMENT["COMPOSE_PROFILES"] == "flink"
    assert storing() == ["processor"]
    assert words_of(SERVICES["processor"])[0] == "sink"
    for name in ("gateway", "processor", "page", "doctor", *ON_FLINK):
        environment = {key: filled(value) for key, value in SERVICES[name]["environment"].items()}
        assert environment["HEADWATER_PIPELINE__PROCESSOR"] == "flink://jobmanager:8081", name
    # None of the others waits for a service of the profile: it would not start without it.
    for name, service in SERVICES.items():
        assert name in ON_FLINK or not set(ON_FLINK) & set(service.get("depends_on", {})), name


def test_secrets_are_files_that_init_makes_and_never_values() -> None:
    made = {"server.key", "gateway.key", "page.token", *SECRETS}
    assert set(COMPOSE["secrets"]) == made
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"${{HEADWATER_PLANT}}/secrets/{name}"}
    used = {
        part if isinstance(part, str) else part["source"]
        for service in SERVICES.values()
        for part in service.get("secrets", ())
    }
    assert used == made
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            secret = re.search(r"PASSWORD|TOKEN|SECRET", key)
            assert not secret or key.endswith("_FILE"), f"{key}={value}"


def test_configs_and_volumes_are_declared_and_used() -> None:
    used = {part["source"] for service in SERVICES.values() for part in service.get("configs", ())}
    assert used == set(COMPOSE["configs"])
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", ())]
    named = {mount.split(":")[0] for mount in mounts if isinstance(mount, str)}
    assert named == set(COMPOSE["volumes"])
    for mount in mounts:
        if isinstance(mount, dict):
            assert mount["read_only"], f"{mount}: data belongs into named volumes"
            if mount["source"].startswith("./"):
                assert (ROOT / mount["source"]).is_dir(), mount


@pytest.mark.parametrize("name", OURS)
def test_our_services_call_commands_that_there_are_with_settings_that_there_are(name: str) -> None:
    service = SERVICES[name]
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert service["tmpfs"] in (["/tmp"], ["/tmp:exec"])
    environment = {key: filled(value) for key, value in service.get("environment", {}).items()}
    tables = load_settings(table_classes(), environment=environment)
    assert tables["pipeline"] is not None
    for key in environment:
        table, field = key.removeprefix("HEADWATER_").lower().split("__")
        names = {model.alias or name for name, model in table_classes()[table].model_fields.items()}
        assert field in names, key
    if name == "folders":
        return
    words = words_of(service)
    assert words[0] in COMMANDS
    build_parser(words[0]).parse_args(words)
    test = service.get("healthcheck", {}).get("test", ["CMD"])
    if test[1:2] == ["headwater"]:
        build_parser(test[2]).parse_args(test[2:])


def test_what_a_service_opens_is_mounted() -> None:
    for name in OURS:
        service = SERVICES[name]
        targets = [
            mount.split(":")[1] if isinstance(mount, str) else mount["target"] for mount in service.get("volumes", ())
        ]
        targets += [
            part["target"] for key in ("configs", "secrets") for part in service.get(key, ()) if isinstance(part, dict)
        ]
        words = shlex.split(" ".join(service["command"]).replace(";", " "))
        places = [text.removeprefix("file://") for text in (*words, *strings(service.get("environment", {})))]
        named = [text for text in places if text.startswith("/") and not text.startswith(IN_IMAGES)]
        for text in named:
            assert any(text == target or text.startswith(f"{target}/") for target in targets), f"{name}: {text}"


def test_dockerfiles_build_in_stages_and_run_without_root() -> None:
    copied = set()
    for path in (ROOT / "deploy" / "docker").iterdir():
        text = path.read_text()
        assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 2, path.name
        assert re.search(r"^USER [1-9]\d*", text.split("FROM")[-1], re.MULTILINE), path.name
        copied |= set(re.findall(r"^COPY (?!--from)((?:\S+ )+)", text, re.MULTILINE))
    names = {name for line in copied for name in line.split()}
    kept = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert names == kept
    assert all((ROOT / name).exists() for name in names)


def test_what_init_draws_is_different_every_time_and_fits_its_use() -> None:
    count = iter(range(1, 99))
    files = compose_files("/srv/plant", 1, 2, lambda size: bytes([next(count)]) * size)
    assert len(set(files.values())) == len(files)
    (cluster,) = re.findall(rb"KAFKA_CLUSTER_ID=(\S+)", files[".env"])
    assert re.fullmatch(rb"[A-Za-z0-9][A-Za-z0-9_-]{21}", cluster)
