"""Draws every screen of the live page at 1280 and 360 px, light and dark, from the demo: `make screenshots`.

It runs `headwater demo` on a folder that is thrown away, breaks a machine and cuts a network so that there is
something to see, waits, and writes `screenshots/<screen>-<width>-<theme>.png`. It fails on a complaint in the
browser's console, a request that leaves the page, or a screen that is wider than the window.
"""

import argparse
import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
WIDTHS = (1280, 360)
THEMES = ("light", "dark")
HEIGHT_MAX = 4000
README_SIZE = (1280, 860)
START_S = 60.0


@contextlib.contextmanager
def demo(devices: int) -> Iterator[str]:
    """Runs the demo and yields the page's address."""
    command = [str(Path(sys.executable).with_name("headwater")), "demo", "--port", "0", "--devices", str(devices)]
    with tempfile.TemporaryDirectory(prefix="headwater-screenshots-") as folder:
        log = Path(folder) / "demo.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [*command, "--data", str(Path(folder) / "data")],
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        try:
            yield address(process, log)
        finally:
            if process.poll() is not None:
                print(log.read_text(encoding="utf-8", errors="replace")[-4000:], file=sys.stderr)
            process.send_signal(signal.SIGINT)
            process.wait(60)


def address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Waits until the demo says where its page is."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"page\s+(http://\S+?)/?\s", log.read_text(encoding="utf-8", errors="replace"))
        if found:
            return found[1]
        time.sleep(0.2)
    raise SystemExit(f"the demo did not start:\n{log.read_text(encoding='utf-8', errors='replace')}")


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    """GET, or POST with a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def make_trouble(url: str) -> tuple[str, str]:
    """Breaks a machine and returns its name: the one whose screen is drawn."""
    fleet = ask(f"{url}/api/v1/fleet")["devices"]
    chosen = next((row for row in fleet if row["device"].startswith("pump")), fleet[0])
    names = list(ask(f"{url}/api/v1/devices/{chosen['site']}/{chosen['device']}")["row"]["metrics"])
    metric = next((name for name in names if "temp" in name), names[0])
    machine = {"site": chosen["site"], "device": chosen["device"]}
    bias = {"kind": "bias", "metric": metric, "severity": 9, "duration_us": 40_000_000}
    ask(f"{url}/api/v1/simulator/inject", machine | bias)
    return chosen["site"], chosen["device"]


def draw(page: Page, url: str, path: str, target: Path, width: int, wait_s: float) -> list[str]:
    """Draws one screen in full height; returns complaints."""
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(url + path)
    page.wait_for_selector(".live-state .ok")
    page.wait_for_timeout(wait_s * 1000)
    if path == "/anomalies" and page.locator(".events summary").count():
        page.locator(".events summary").first.click()
        page.wait_for_timeout(800)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": width, "height": max(800, min(HEIGHT_MAX, height))})
    page.wait_for_timeout(400)
    page.screenshot(path=target)
    print(target)
    return [f"{target.name} is {wide} px too wide"] if wide > 0 else []


def listen(page: Page, url: str, complaints: list[str]) -> None:
    """Notes what the console complains of and every request that leaves."""
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith((url, "data:")) else complaints.append(r.url))


def draw_all(url: str, folder: Path, site: str, device: str) -> list[str]:
    """Draws every screen in every width and theme; returns complaints."""
    screens = {
        "fleet": ("/", 2.5), "device": (f"/device/{site}/{device}", 2.5), "anomalies": ("/anomalies", 1.5),
        "pipeline": ("/pipeline", 4.0), "simulator": ("/simulator", 3.0),
    }  # fmt: skip
    complaints: list[str] = []
    chromium = shutil.which("chromium") or "/usr/bin/chromium"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width, theme in itertools.product(WIDTHS, THEMES):
            context = browser.new_context(color_scheme=theme)
            page = context.new_page()
            listen(page, url, complaints)
            for name, (path, wait_s) in screens.items():
                complaints += draw(page, url, path, folder / f"{name}-{width}-{theme}.png", width, wait_s)
            context.close()
        browser.close()
    return complaints


def draw_for_readme(url: str, site: str, device: str) -> None:
    """Writes the README's pictures as SVG: text files that hold a compressed screenshot, so that no binary is kept."""
    folder = ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    width, height = README_SIZE
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        for name, path in {"fleet": "/", "device": f"/device/{site}/{device}"}.items():
            page.goto(url + path)
            page.wait_for_timeout(4000)
            data = base64.b64encode(page.screenshot(type="jpeg", quality=80)).decode()
            picture = f'<image width="{width}" height="{height}" href="data:image/jpeg;base64,{data}"/>'
            head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
            (folder / f"{name}.svg").write_text(f"{head}{picture}</svg>\n", encoding="ascii")
        browser.close()


def main() -> int:
    """Returns 1 if a screen complained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=30)
    parser.add_argument("--warm-up", type=float, default=150, metavar="SECONDS", help="time before the first picture")
    parser.add_argument("--folder", type=Path, default=ROOT / "screenshots")
    parser.add_argument("--url", help="draw a demo that runs already, such as http://127.0.0.1:8000")
    parser.add_argument("--readme", action="store_true", help="also write the README's pictures, docs/images/*.svg")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext(options.url) if options.url else demo(options.devices) as url:
        time.sleep(options.warm_up / 2)
        site, device = make_trouble(url)
        time.sleep(options.warm_up / 2)
        sites = [one["site"] for one in ask(f"{url}/api/v1/simulator")["state"]["sites"] if one["site"] != site]
        if sites:
            ask(f"{url}/api/v1/simulator/network", {"site": sites[-1], "online": False})
            time.sleep(15)
        if options.readme:
            draw_for_readme(url, site, device)
        complaints = draw_all(url, options.folder, site, device)
    for complaint in complaints:
        print(f"complaint: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
