"""Builds a real InfluxDB 2 from its Go module into the user's cache, for tests that use it where it is.

python scripts/influxdb2.py          builds it, or says where it is (Go, Rust and clang must be there; 15 minutes on 2 cores)
python scripts/influxdb2.py --path   only says where it is, or would be

Its library for Flux is Rust; the Go build calls Cargo by way of a pkg-config of InfluxData's.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

MODULE = "github.com/influxdata/influxdb/v2"
VERSION = "v2.7.12"
PKG_CONFIG = "github.com/influxdata/pkg-config@latest"
MAIN = f"{MODULE}/cmd/influxd"

# The default features deny warnings that compilers newer than the module give.
CARGO = """#!/bin/sh
[ "$1" = build ] && exec {cargo} "$@" --no-default-features --features cffi
exec {cargo} "$@"
"""


def folder() -> Path:
    """Where the build stands."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "headwater" / f"influxdb-{VERSION}"


def program() -> Path:
    """The server's program."""
    return folder() / "influxd"


def run(*command: str, environment: dict[str, str], cwd: Path) -> str:
    print("+", " ".join(command), flush=True)
    return subprocess.run(command, env=environment, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


def replacements(module_file: Path) -> str:
    """The replace lines of a go.mod, which count only in the main module, so ours must repeat them."""
    lines = module_file.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line.startswith("replace ") and "=>" in line)


def toolchain() -> str:
    """The default Rust toolchain, by name."""
    found = subprocess.run(["rustup", "default"], capture_output=True, text=True, check=False).stdout.split()
    return found[0] if found else "stable"


def build(home: Path) -> None:
    """Builds the program."""
    cargo = shutil.which("cargo") or str(Path.home() / ".cargo" / "bin" / "cargo")
    wrapper = home / "cargo"
    wrapper.write_text(CARGO.format(cargo=cargo), encoding="utf-8")
    wrapper.chmod(0o755)
    environment = os.environ | {
        "GOFLAGS": "-mod=mod",
        "GOBIN": str(home),
        "PKG_CONFIG": str(home / "pkg-config"),
        "CARGO": str(wrapper),
        # The module pins an old compiler; the default one builds it too.
        "RUSTUP_TOOLCHAIN": os.environ.get("RUSTUP_TOOLCHAIN") or toolchain(),
        # Else the linker meets bitcode that it can't read.
        "CARGO_PROFILE_RELEASE_LTO": "off",
    }
    work = home / "module"
    work.mkdir(exist_ok=True)
    run("go", "install", PKG_CONFIG, environment=environment, cwd=work)
    told = run("go", "mod", "download", "-json", f"{MODULE}@{VERSION}", environment=environment, cwd=work)
    module_file = next(line.split('"')[3] for line in told.splitlines() if '"GoMod"' in line)
    (work / "go.mod").write_text(
        f"module headwater.invalid/influxdb2\n\ngo 1.22\n\nrequire {MODULE} {VERSION}\n\n{replacements(Path(module_file))}\n",
        encoding="utf-8",
    )
    tags = "sqlite_foreign_keys,sqlite_json"
    run("go", "build", "-tags", tags, "-o", str(program()), MAIN, environment=environment, cwd=work)


def main() -> int:
    if "--path" in sys.argv[1:] or program().exists():
        print(program())
        return 0 if program().exists() else 1
    missing = [name for name in ("go", "cargo", "clang") if shutil.which(name) is None]
    if missing:
        print(f"Missing: {', '.join(missing)}.", file=sys.stderr)
        return 1
    folder().mkdir(parents=True, exist_ok=True)
    try:
        build(folder())
    except subprocess.CalledProcessError as error:
        print(f"Not built: {error}", file=sys.stderr)
        return 1
    print(program())
    return 0


if __name__ == "__main__":
    sys.exit(main())
