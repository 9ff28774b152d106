"""InfluxDB's endpoints on the page: what Grafana asks, who may ask, and what is refused."""

import base64
import json
from typing import Any
from urllib.parse import quote, urlencode

import anyio
import pytest
from asgi_calls import TOKEN, Answer, Page
from plain_points import PlainPoints

from dashboards.influxql.errors import QueryError
from headwater.errors import ConnectError

QUERY = "/query?db=headwater&epoch=s&q="


class Page1(Page):
    def __init__(self, **settings: Any) -> None:
        super().__init__(points=settings.pop("points", None) or PlainPoints(), **settings)

    def query(self, text: str, **headers: str) -> Answer:
        return self.get(QUERY + quote(text), **headers)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("token", ["", TOKEN])
def test_ping_is_answered_and_tells_a_version(method: str, token: str) -> None:
    answer = Page1(token=token).ask(method, "/ping")
    assert answer.status == 204
    assert answer.headers["x-influxdb-version"].startswith("1.6.7-headwater-")
    assert answer.body == b""


def test_a_query_is_answered_as_influxdb_answers_it() -> None:
    answer = Page1().query("select v from m limit 1; show databases")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "results": [
            {"statement_id": 0, "series": [{"name": "m", "columns": ["time", "v"], "values": [[10, 1.0]]}]},
            {"statement_id": 1, "series": [{"name": "databases", "columns": ["name"], "values": [["headwater"]]}]},
        ]
    }


@pytest.mark.parametrize(
    ("epoch", "time"),
    [
        ("ns", 10 * 10**9),
        ("u", 10 * 10**6),
        ("ms", 10_000),
        ("s", 10),
        ("m", 0),
        ("h", 0),
        ("", "1970-01-01T00:00:10Z"),
    ],
)
def test_times_come_in_the_unit_that_was_asked_for(epoch: str, time: Any) -> None:
    path = f"/query?db=headwater&epoch={epoch}&q={quote('select v from m limit 1')}"
    assert Page1().get(path).json()["results"][0]["series"][0]["values"] == [[time, 1.0]]


def test_a_post_may_carry_the_query_in_its_form_and_parameters() -> None:
    fields = {"q": "select v from m where a = $a limit 1", "params": json.dumps({"a": "y"}), "chunked": "true"}
    answer = Page1().post("/query?db=headwater&epoch=s", urlencode(fields).encode())
    assert answer.json()["results"][0]["series"][0]["values"] == [[15, 10.0]]


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/query", 400, 'missing required parameter "q"'),
        ("/query?q=;%20;", 400, 'missing required parameter "q"'),
        (QUERY + "SELECT", 400, "error parsing query: found EOF, expected identifier, string, number, bool at line 1, char 8"),
        (QUERY + "DROP%20DATABASE%20x", 400, "error parsing query: DROP is refused: this endpoint only reads, use SELECT or SHOW"),
        ("/query?q=show+databases&epoch=fortnight", 400, "epoch must be one of ns, u, ms, s, m, h"),
        ("/query?q=show+databases&params=[]", 400, "error parsing query parameters: they must be a JSON object"),
    ],
)  # fmt: skip
def test_a_bad_request_is_one_error(path: str, status: int, error: str) -> None:
    answer = Page1().get(path)
    assert (answer.status, answer.json()) == (status, {"error": error})


def test_a_bad_statement_is_an_error_among_the_results() -> None:
    answer = Page1().query("select foo(v) from m")
    assert (answer.status, answer.json()["results"]) == (
        200,
        [{"statement_id": 0, "error": "undefined function foo()"}],
    )


def test_a_long_body_and_one_that_is_no_text_are_refused() -> None:
    assert Page1().post("/query?db=headwater", b"q=" + b"x" * 300_000).status == 413
    assert Page1().post("/query?db=headwater", b"q=\xff\xfe").status == 400
    assert Page1().post("/query?db=headwater", b"&".join([b"a=b"] * 1000)).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Token {TOKEN}"},
        {"authorization": f"Token grafana:{TOKEN}"},
        {"authorization": f"Bearer {TOKEN}"},
        {"authorization": "Basic " + base64.b64encode(f"grafana:{TOKEN}".encode()).decode()},
    ],
)
def test_the_token_is_taken_in_each_way_that_grafana_knows(headers: dict[str, str]) -> None:
    assert Page1(token=TOKEN).query("show databases", **headers).status == 200
    assert Page1(token=TOKEN).get(f"{QUERY}show+databases&u=grafana&p={TOKEN}").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Token wrong"},
        {"authorization": "Basic " + base64.b64encode(b"grafana:wrong").decode()},
        {"authorization": "Basic %%%"},
        {"authorization": "Basic " + base64.b64encode(b"\xff\xfe:x").decode()},
        {"authorization": "Digest x"},
    ],
)
def test_without_the_token_nothing_is_told(headers: dict[str, str]) -> None:
    answer = Page1(token=TOKEN).query("show databases", **headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Basic realm="InfluxDB"'
    assert set(answer.json()) == {"error"}


def test_guesses_are_few_in_these_ways_too() -> None:
    page = Page1(token=TOKEN)
    for _ in range(5):
        assert page.get(f"{QUERY}show+databases&u=x&p=wrong").status == 401
    assert page.query("show databases", authorization=f"Token {TOKEN}").status == 429


def test_these_ways_open_nothing_else() -> None:
    page = Page1(token=TOKEN)
    basic = "Basic " + base64.b64encode(f"x:{TOKEN}".encode()).decode()
    for headers in ({"authorization": f"Token {TOKEN}"}, {"authorization": basic}):
        assert page.get("/api/v1/fleet", **headers).status == 401
    assert page.get(f"/api/v1/fleet?p={TOKEN}").status == 401


def test_other_hosts_and_other_origins_are_refused_as_everywhere() -> None:
    assert Page1().query("show databases", host="evil.example").status == 421
    assert Page1().post("/query?q=show+databases", b"", origin="http://evil.example").status == 403


def test_where_the_store_is_an_influxdb_grafana_is_sent_there() -> None:
    answer = Page().get(QUERY + "show+databases")
    assert (answer.status, set(answer.json())) == (404, {"error"})


def test_a_store_that_cant_be_read_is_503() -> None:
    class Away(PlainPoints):
        def schemas(self) -> Any:
            raise ConnectError("there is no store yet")

    answer = Page1(points=Away()).query("select v from m")
    assert (answer.status, answer.json()) == (503, {"error": "the store can't be read now: there is no store yet"})


def test_a_query_ends_when_who_asked_has_gone() -> None:
    ended: list[str] = []

    class Endless(PlainPoints):
        def points(self, *arguments: Any) -> Any:
            take_points = arguments[-1]
            try:
                while True:
                    take_points(0)
            except QueryError as error:
                ended.append(str(error))
                raise

    page = Page1(points=Endless())
    path = (QUERY + quote("select v from m")).partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path[0],
        "raw_path": path[0].encode(), "query_string": path[2].encode(), "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000")], "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8000),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_message: Any) -> None:
        pass

    anyio.run(page.app, scope, receive, send)
    assert [text.partition(":")[0] for text in ended] == ["query interrupted"]


def test_a_statement_ends_when_its_time_is_up() -> None:
    page = Page1()

    class Slow(PlainPoints):
        def series(self, measurement: str, series_max: int) -> Any:
            page.clock.advance(11_000_000)
            return super().series(measurement, series_max)

    page = Page1(points=Slow())
    (result,) = page.query("select v from m").json()["results"]
    assert result["error"].startswith("query interrupted")
