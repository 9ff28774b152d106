"""The house rules that a machine can hold: dependency direction, who may do IO, sizes, broad excepts."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = ("edge_agent", "gateway", "cloud_processor", "simulators", "dashboards")
PACKAGES = ("headwater", *STAGES)
LINES_PER_MODULE_MAX = 400
LINES_PER_FUNCTION_MAX = 70

# Modules that may do IO, read a clock, draw random numbers, start threads or log, besides the adapters in headwater.io
# and the composition roots, which exist for it. Everything else is pure.
SHELLS = frozenset((ROOT / "tests" / "architecture" / "shells.txt").read_text().split())
COMPOSITION_ROOTS = ("headwater.cli", "headwater.embedded", "headwater.__main__")
# Host loops that go on after any failure of a part: they log it and count it or keep it as a dead letter.
HOST_LOOPS = frozenset({"dashboards.feed", "gateway.bridge"})

# What a pure module may not import or call.
IMPURE_MODULES = frozenset(
    {
        "asyncio", "fcntl", "glob", "http", "logging", "multiprocessing", "os", "pathlib", "random", "secrets",
        "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile",
        "threading", "time", "urllib", "uuid", "paho", "aiomqtt", "starlette", "uvicorn", "anyio",
        "pymodbus", "smbus2", "confluent_kafka",
    }
)  # fmt: skip
IMPURE_CALLS = frozenset(
    {"open", "input", "print", "datetime.now", "datetime.utcnow", "date.today", "np.random.default_rng"}
)

# Third-party clients stand in adapters; the gateway's protocol shell and the page's server are adapters by nature.
CLIENTS = {
    "paho": ("headwater.io.",),
    "aiomqtt": ("headwater.io.", "headwater.cli"),
    "mqtt5": ("headwater.io.", "gateway."),
    "confluent_kafka": ("headwater.io.log_kafka",),
    "starlette": ("dashboards.",),
    "uvicorn": ("dashboards.",),
    "pyarrow": ("headwater.batch_arrow", "headwater.results_arrow"),
    "google": (
        "headwater.frame_schema",
        "headwater.codec",
        "headwater.codec_batch",
        "headwater.frame_read",
        "headwater.frame_write",
        "headwater.sparkplug_schema",
    ),
    "pydantic": ("headwater.settings", "edge_agent.", "gateway.", "cloud_processor.", "simulators.", "dashboards."),
    "influxdb_client": ("headwater.io.",),
    "urllib3": ("headwater.io.",),
    "grafana_client": ("headwater.io.",),
    "grafana_foundation_sdk": ("dashboards.grafana.",),
    "sqlite3": ("headwater.io.", "edge_agent.spool"),
    "cryptography": ("headwater.io.",),
}


@functools.cache
def modules() -> dict[str, tuple[Path, ast.Module]]:
    """{dotted name: (path, tree)} of every module of the packages."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = (path, ast.parse(path.read_text(encoding="utf-8")))
    return found


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module that a tree imports, at the top or inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            yield node.module or ""


def layer(name: str) -> int:
    """0 core, 1 ports, 2 adapters, 3 stages, 4 composition roots."""
    if name.startswith(COMPOSITION_ROOTS):
        return 4
    if name.split(".", maxsplit=1)[0] in STAGES:
        return 3
    if name.startswith("headwater.io"):
        return 2
    return 1 if name == "headwater.ports" else 0


def may_do_io(name: str) -> bool:
    """Tells whether a module is a shell."""
    return name in SHELLS or layer(name) in {2, 4}


def named(tree: ast.AST) -> Iterator[str]:
    """The dotted names of all calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_go_downwards_and_stages_never_meet(name: str) -> None:
    for target in imports(modules()[name][1]):
        if target.split(".")[0] not in PACKAGES:
            continue
        if layer(name) == 3 and target.split(".")[0] in STAGES:
            assert target.split(".")[0] == name.split(".", maxsplit=1)[0], (
                f"{name} imports {target}: stages talk through data"
            )
        assert layer(target) <= layer(name), f"{name} imports {target}: against the direction"
        if layer(name) == 3 and target.startswith("headwater.io"):
            assert may_do_io(name), f"{name} imports {target}: only a shell holds an adapter"


@pytest.mark.parametrize("name", sorted(modules()))
def test_only_shells_do_io(name: str) -> None:
    if may_do_io(name):
        return
    tree = modules()[name][1]
    for target in imports(tree):
        assert target.split(".")[0] not in IMPURE_MODULES, f"{name} imports {target} and is not in shells.txt"
    for call in named(tree):
        assert call not in IMPURE_CALLS, f"{name} calls {call} and is not in shells.txt"
    for node in ast.walk(tree):
        assert not isinstance(node, ast.AsyncFunctionDef), f"{name} is async and is not in shells.txt"


def test_the_list_of_shells_names_real_modules_that_need_to_be_there() -> None:
    unknown = SHELLS - modules().keys()
    assert not unknown, f"shells.txt names modules that don't exist: {sorted(unknown)}"
    for name in SHELLS:
        tree = modules()[name][1]
        does_io = any(
            target.split(".")[0] in IMPURE_MODULES or target.startswith("headwater.io") for target in imports(tree)
        )
        does_io |= any(call in IMPURE_CALLS for call in named(tree))
        does_io |= any(isinstance(node, ast.AsyncFunctionDef) for node in ast.walk(tree))
        assert does_io, f"{name} does no IO: take it off shells.txt"


@pytest.mark.parametrize("name", sorted(modules()))
def test_third_party_clients_stay_in_their_adapters(name: str) -> None:
    for target in imports(modules()[name][1]):
        allowed = CLIENTS.get(target.split(".")[0])
        assert allowed is None or name.startswith((*allowed, *COMPOSITION_ROOTS)), f"{name} imports {target}"


@pytest.mark.parametrize("name", sorted(modules()))
def test_modules_and_functions_are_small(name: str) -> None:
    path, tree = modules()[name]
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LINES_PER_MODULE_MAX, f"{path.relative_to(ROOT)} has {lines} lines"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or 0) - node.lineno + 1
            assert size <= LINES_PER_FUNCTION_MAX, f"{name}.{node.name} has {size} lines"


def test_scripts_tests_and_benchmarks_are_small() -> None:
    paths = [path for folder in ("scripts", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    sizes = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in paths}
    assert {path: lines for path, lines in sizes.items() if lines > LINES_PER_MODULE_MAX} == {}


@pytest.mark.parametrize("name", sorted(modules()))
def test_broad_excepts_stand_only_in_host_loops_and_never_swallow(name: str) -> None:
    for node in ast.walk(modules()[name][1]):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = [] if node.type is None else [ast.unparse(part) for part in getattr(node.type, "elts", [node.type])]
        if node.type is None or {"Exception", "BaseException"} & set(caught):
            raises = isinstance(node.body[-1], ast.Raise)
            logs = name in HOST_LOOPS and any("_log.exception" in call for call in named(node))
            assert raises or logs, (
                f"{name}:{node.lineno} has a broad except that neither raises again nor is a host loop"
            )
        silent = all(isinstance(inner, ast.Pass) for inner in node.body)
        assert not silent, f"{name}:{node.lineno} passes over {caught}: say with contextlib.suppress why it is harmless"


@pytest.mark.parametrize("name", sorted(modules()))
def test_every_module_says_what_it_is(name: str) -> None:
    assert ast.get_docstring(modules()[name][1]), f"{name} has no docstring"


def test_names_of_modules_say_something() -> None:
    catch_all = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc", "core", "v2"}
    assert not [name for name in modules() if name.rsplit(".", 1)[-1] in catch_all]
