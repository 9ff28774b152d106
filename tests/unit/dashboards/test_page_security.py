"""Who may see the page, from where, and what the browser is told to refuse."""

import re

import pytest
from asgi_calls import TOKEN, Page

from dashboards.app import read_token, safe_path
from dashboards.server import PageServer
from dashboards.sessions import Sessions
from dashboards.settings import DashboardSettings, check_exposure
from headwater.errors import SettingsError

MINUTE_US = 60_000_000


@pytest.mark.parametrize("path", ["/", "/api/v1/fleet", "/static/js/main.js", "/nothing", "/api/v1/events?channels="])
def test_every_answer_keeps_the_browser_strict(path: str) -> None:
    headers = Page().get(path).headers
    policy = headers["content-security-policy"]
    for part in ("default-src 'self'", "script-src 'self'", "style-src 'self'", "object-src 'none'", "base-uri 'none'"):
        assert part in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "a b", "x@127.0.0.1"]
)
def test_a_foreign_host_name_is_refused(host: str) -> None:
    assert Page().get("/api/v1/fleet", host=host).status == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "192.168.1.7", "plant.example"])
def test_addresses_localhost_and_named_hosts_are_answered(host: str) -> None:
    assert Page(allowed_hosts=("Plant.Example",)).get("/api/v1/fleet", host=host).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
    ],
)
def test_only_the_page_itself_may_change_something(headers: dict[str, str], status: int) -> None:
    answer = Page().post("/api/v1/simulator/network", {"site": "north", "online": True}, **headers)
    assert answer.status == status


def test_beyond_loopback_the_page_refuses_to_start_without_a_token() -> None:
    with pytest.raises(SettingsError, match="no token is set"):
        Page(host="0.0.0.0")
    with pytest.raises(SettingsError, match="at least 16"):
        Page(host="0.0.0.0", token="short")
    with pytest.raises(SettingsError, match="no token is set"):
        PageServer(Page().app, "0.0.0.0", 0)
    check_exposure("0.0.0.0", TOKEN)
    check_exposure("127.0.0.1", "")


def test_the_token_can_stand_in_a_file(tmp_path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n", encoding="utf-8")
    assert read_token(DashboardSettings(token_file=str(file))) == TOKEN
    with pytest.raises(SettingsError, match="can't be read"):
        read_token(DashboardSettings(token_file=str(tmp_path / "nothing")))


def test_the_token_is_not_shown_with_the_settings() -> None:
    assert TOKEN not in repr(DashboardSettings(token=TOKEN))


def test_with_a_token_the_api_asks_for_it_and_the_page_shows_the_form() -> None:
    page = Page(token=TOKEN)
    assert page.get("/api/v1/fleet").status == 401
    assert page.get("/api/v1/fleet", authorization="Bearer wrong").status == 401
    assert page.get("/api/v1/fleet", authorization=f"Bearer {TOKEN}").status == 200
    answer = page.get("/device/north/pump-01")
    assert (answer.status, answer.headers["location"]) == (303, "/login?next=/device/north/pump-01")
    assert page.get("/login").status == 200
    assert page.get("/static/css/page.css").status == 200


def log_in(page: Page, token: str) -> str:
    answer = page.post(
        "/login", f"token={token}&next=/pipeline".encode(), content_type="application/x-www-form-urlencoded"
    )
    assert answer.status == 303
    return answer.headers.get("set-cookie", answer.headers["location"])


def test_the_form_gives_a_cookie_that_scripts_and_other_sites_cant_use() -> None:
    page = Page(token=TOKEN)
    cookie = log_in(page, TOKEN)
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    key = cookie.partition(";")[0]
    assert page.get("/api/v1/fleet", cookie=key).status == 200
    assert page.get("/api/v1/fleet", cookie="headwater_session=guess").status == 401
    page.post("/logout", b"", cookie=key)
    assert page.get("/api/v1/fleet", cookie=key).status == 401


def test_a_session_ends_when_nobody_uses_it() -> None:
    page = Page(token=TOKEN, session_idle_us=10 * MINUTE_US)
    key = log_in(page, TOKEN).partition(";")[0]
    for _ in range(3):
        page.clock.advance(9 * MINUTE_US)
        assert page.get("/api/v1/fleet", cookie=key).status == 200
    page.clock.advance(11 * MINUTE_US)
    assert page.get("/api/v1/fleet", cookie=key).status == 401


def test_guesses_are_limited_and_even_the_right_token_waits_then() -> None:
    page = Page(token=TOKEN)
    for _ in range(5):
        assert log_in(page, "guess-guess-guess").endswith("why=wrong")
    assert log_in(page, TOKEN).endswith("why=wait")
    assert page.get("/api/v1/fleet", authorization=f"Bearer {TOKEN}").status == 429
    page.clock.advance(MINUTE_US)
    assert "HttpOnly" in log_in(page, TOKEN)


def test_sessions_and_failures_stay_bounded() -> None:
    sessions = Sessions(TOKEN, tries_max=2, idle_us=MINUTE_US, sessions_max=3)
    for number in range(10):
        sessions.start(f"key-{number}", number)
    assert [number for number in range(10) if sessions.is_live(f"key-{number}", 10)] == [7, 8, 9]
    assert not sessions.is_token("")
    assert not Sessions("", tries_max=2, idle_us=1, sessions_max=1).is_token("")


@pytest.mark.parametrize(
    "path", ["//evil.example", "https://evil.example", "/\\evil.example", "/a?b", "", "/" + "a" * 300]
)
def test_after_the_login_nobody_is_sent_elsewhere(path: str) -> None:
    assert safe_path(path) == "/"


STATIC = __import__("dashboards.app", fromlist=["STATIC"]).STATIC
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|javascript:|setTimeout\(['\"]"
)


@pytest.mark.parametrize("path", sorted(STATIC.rglob("*.js")), ids=lambda path: path.name)
def test_no_script_can_turn_text_into_markup(path) -> None:
    found = SINKS.search(path.read_text(encoding="utf-8"))
    assert found is None, f"{path.name} uses {found}"


def test_no_page_holds_inline_scripts_or_styles() -> None:
    for path in STATIC.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", text), path.name


def test_nothing_is_fetched_from_elsewhere_and_all_of_it_is_light() -> None:
    files = [path for path in STATIC.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000
    for path in files:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//cdn", text), path.name


def test_the_chart_and_every_other_script_stay_small() -> None:
    for path in STATIC.rglob("*.js"):
        assert path.read_text(encoding="utf-8").count("\n") <= 400, path.name
