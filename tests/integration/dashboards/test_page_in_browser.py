"""The live page in headless Chromium, at both widths: quiet, moving, by keyboard, and deaf to markup in data."""

import os
import shutil
from collections.abc import Iterator

import pytest

from dashboards.app import make_app
from dashboards.sample import SamplePlant
from dashboards.server import PageServer
from dashboards.settings import DashboardSettings
from headwater.io.clock_system import SystemClock

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install headwater[test]")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="needs Chromium: apt install chromium"),
]

WIDTHS = (1280, 360)
DEVICE = "/device/harbour/pump-01"
SCREENS = {
    "/": ".tile .spark-line[d^=M]",
    DEVICE: ".chart canvas",
    "/anomalies": ".events summary",
    "/pipeline": ".verdict",
    "/simulator": ".switch button",
}
TOKEN = "a-token-of-fair-length"
CORPUS = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    '"><svg/onload=window.pwned=1>',
    "</span><iframe srcdoc='<script>parent.pwned=1</script>'>",
    "javascript:window.pwned=1",
    "{{constructor.constructor('window.pwned=1')()}}",
    "<a href='//evil.example'>click</a>",
    "\u202egnp.exe & ]]> <!--",
)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Served:
    """The page over a made-up plant on a free port."""

    def __init__(self, *, message: str = "", **settings) -> None:
        clock = SystemClock()
        self.plant = SamplePlant(clock, devices=9, message=message)
        app = make_app(
            self.plant,
            counters=self.plant.counters,
            simulator=self.plant,
            settings=DashboardSettings(**settings),
            clock=clock,
        )
        self.server = PageServer(app, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.start()}"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    one = Served()
    one.plant.inject("harbour", "pump-01", "", "spike", 1.0, 60_000_000)
    yield one
    one.server.stop()


@pytest.fixture
def opened(browser, served) -> Iterator:
    """Opens pages that note every complaint and every request that leaves."""
    contexts = []

    def open_page(path: str, *, width: int = 1280, url: str = "", theme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on(
            "console",
            lambda message: page.complaints.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith((url or served.url, "data:")) or page.complaints.append(request.url),
        )
        page.on("dialog", lambda dialog: page.complaints.append(dialog.message))
        page.goto((url or served.url) + path)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (360, "dark")])
def test_every_screen_draws_quietly_and_fits(opened, served, width: int, theme: str) -> None:
    page = opened("/", width=width, theme=theme)
    for path, drawn in SCREENS.items():
        page.goto(served.url + path)
        page.wait_for_selector(drawn, state="attached")
        page.wait_for_selector(".live-state .ok")
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, path
        assert page.complaints == []


NEWEST = """() => document.querySelector(".chart canvas").toDataURL()"""


@pytest.mark.parametrize("width", WIDTHS)
def test_the_charts_of_a_device_move(opened, width: int) -> None:
    page = opened(DEVICE, width=width)
    page.wait_for_function("() => document.querySelector('.chart-read')?.textContent.match(/\\d/)")
    page.get_by_role("button", name="5 min", exact=True).click()
    page.wait_for_timeout(500)
    before, read = page.evaluate(NEWEST), page.inner_text(".chart-read")
    page.wait_for_function("one => document.querySelector('.chart-read').textContent !== one", arg=read, timeout=8000)
    page.wait_for_timeout(1500)
    assert page.evaluate(NEWEST) != before
    assert page.complaints == []


def test_the_cursor_is_shared_by_all_charts_and_moves_by_keys(opened) -> None:
    page = opened("/device/quarry/pump-01")
    page.wait_for_function("() => document.querySelectorAll('.chart-read').length >= 3")
    page.wait_for_timeout(800)
    page.focus(".chart canvas")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    page.wait_for_timeout(200)
    reads = page.locator(".charts .chart-read").all_inner_texts()
    times = {read.split()[-1] for read in reads if read.strip()}
    assert len(times) == 1
    assert "Arrow keys" in page.get_attribute(".chart canvas", "aria-label")
    assert page.complaints == []


def test_points_keep_the_newest_refuse_the_old_and_tell_gaps(opened) -> None:
    page = opened("/")
    found = page.evaluate(
        """async () => {
          const { Points } = await import("/static/js/points.js");
          const ring = new Points(8);
          for (let i = 0; i < 20; i += 1) ring.push(i, i * 10);
          const regular = new Points(64);
          for (let i = 0; i < 40; i += 1) regular.push(i, 0);
          regular.push(100, 0);
          return {
            kept: [...ring.t.subarray(0, ring.length)], old: ring.push(5, 0), nearest: ring.t[ring.nearest(17.4)],
            from: ring.t[ring.from(16.5)], gap: regular.gap(0), few: new Points(4).gap(0) === Infinity, none: new Points(4).nearest(1),
          };
        }"""
    )
    assert found["kept"] == list(range(20 - len(found["kept"]), 20))
    assert 6 <= len(found["kept"]) <= 8
    assert (found["old"], found["nearest"], found["from"], found["none"]) == (False, 17, 17, -1)
    assert 1 < found["gap"] < 60
    assert found["few"]


def test_ticks_are_round_and_inside(opened) -> None:
    page = opened("/")
    ticks = page.evaluate("""async () => {
      const { roundTicks } = await import("/static/js/chart.js");
      return [roundTicks(0, 10, 5), roundTicks(-0.31, 0.29, 3), roundTicks(5, 5, 3), roundTicks(1e9, 2e9, 4)];
    }""")
    assert ticks[0] == [0, 2, 4, 6, 8, 10]
    assert [round(tick, 6) for tick in ticks[1]] == [-0.2, 0, 0.2]
    assert ticks[2] == []
    assert all(1e9 <= tick <= 2e9 for tick in ticks[3])


def test_the_device_screen_says_where_the_device_stands_if_that_is_known(opened) -> None:
    page = opened("/device/north/pump-01")
    page.wait_for_selector(".live-state .ok")
    page.wait_for_selector(".device-place:not(:empty)")
    assert page.inner_text(".device-place") == "33.85900° S, 151.20000° E"
    page.goto(page.url.replace("north", "harbour"))
    page.wait_for_selector(".device-state .ok")
    assert page.inner_text(".device-place") == ""
    places = page.evaluate(
        """async () => {
            const { location } = await import("/static/js/format.js");
            return [[47.5, 8], [0, -0.5], [null, 8], [47.5, undefined], [NaN, 1]].map(([lat, lon]) => location(lat, lon));
        }"""
    )
    assert places == ["47.50000° N, 8.00000° E", "0.00000° N, 0.50000° W", "", "", ""]
    assert page.complaints == []


def test_dragging_zooms_and_a_double_click_goes_back_to_live(opened) -> None:
    page = opened(DEVICE)
    page.wait_for_function("() => document.querySelector('.chart-read')?.textContent.match(/\\d/)")
    box = page.locator(".chart canvas").first.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 150, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 350, y, steps=4)
    page.mouse.up()
    page.wait_for_selector(".chip.live:visible")
    page.mouse.dblclick(box["x"] + 200, y)
    page.wait_for_selector(".chip.live", state="hidden")
    assert page.complaints == []


def test_keys_search_help_and_screens(opened) -> None:
    page = opened("/anomalies")
    page.wait_for_selector(".events summary")
    page.keyboard.press("1")
    page.wait_for_selector(".tile")
    page.keyboard.press("/")
    page.keyboard.type("pump-01")
    page.wait_for_function("() => [...document.querySelectorAll('.tile')].filter((one) => !one.hidden).length === 3")
    page.keyboard.press("Enter")
    page.wait_for_selector(".chart canvas")
    assert page.url.endswith("/pump-01")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.go_back()
    page.wait_for_selector(".tile")
    assert page.complaints == []


def test_every_control_of_a_screen_is_reached_by_tab_and_shows_its_focus(opened) -> None:
    page = opened("/simulator")
    page.wait_for_selector(".switch button")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        name, ring = page.evaluate(
            "(() => { const at = document.activeElement; return [at.tagName, getComputedStyle(at).outlineStyle]; })()"
        )
        reached.add(name)
        assert name in ("BODY", "HTML") or ring != "none", name
    assert {"A", "BUTTON", "SELECT", "INPUT", "CANVAS"} <= reached


def test_a_network_can_be_cut_and_restored_and_the_spool_is_seen_to_fill(opened) -> None:
    page = opened("/simulator")
    switch = page.locator(".switch", has_text="quarry")
    switch.get_by_role("button", name="Cut network").click()
    switch.get_by_text("cut off").wait_for()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.switch-waiting')].some((one) => Number(one.textContent) > 3)"
    )
    switch.get_by_role("button", name="Restore network").click()
    switch.get_by_text("connected").wait_for()
    assert page.complaints == []


def test_an_injected_fault_appears_in_the_list(opened) -> None:
    page = opened("/simulator")
    page.wait_for_function("() => document.querySelector('select[name=device]').options.length > 0")
    page.select_option("select[name=device]", "north/fan-02")
    page.select_option("select[name=kind]", "drift")
    page.get_by_role("button", name="Inject fault").click()
    page.locator(".table tr", has_text="fan-02").get_by_text("drift").wait_for()
    assert "drift has begun" in page.inner_text(".notice")
    assert page.complaints == []


@pytest.mark.parametrize("path", ["/", "/anomalies", DEVICE])
def test_what_a_device_says_is_never_markup(opened, path: str) -> None:
    hostile = Served(message=" ".join(CORPUS))
    hostile.plant.inject("harbour", "pump-01", "", "spike", 1.0, 60_000_000)
    try:
        page = opened(path, url=hostile.url)
        page.locator(".news-text").first.wait_for()
        for summary in page.locator(".events summary").all()[:3]:
            summary.click()
        text = page.inner_text("main")
        for payload in CORPUS:
            assert payload.split("\u202e")[-1] in text
        assert page.evaluate("window.pwned") is None
        assert page.locator("main :is(script, iframe, img, [onerror], [onload], a[href*=evil])").count() == 0
        assert page.complaints == []
    finally:
        hostile.server.stop()


def test_the_login_form_opens_the_page_it_was_asked_for(opened) -> None:
    guarded = Served(token=TOKEN)
    try:
        page = opened("/pipeline", url=guarded.url)
        page.fill("input[name=token]", "wrong-wrong-wrong-wrong")
        page.keyboard.press("Enter")
        page.get_by_text("not right").wait_for()
        page.goto(guarded.url + "/pipeline")
        page.fill("input[name=token]", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector(".verdict")
        assert page.url == guarded.url + "/pipeline"
        assert page.complaints == []
    finally:
        guarded.server.stop()


def test_a_page_that_lost_its_server_says_so(opened) -> None:
    short = Served()
    page = opened("/", url=short.url)
    page.wait_for_selector(".live-state .ok")
    short.server.stop()
    page.wait_for_selector(".live-state .critical")
