"""InfluxQL as text: what is read, what is refused and in which words, and that printing is the way back."""

import pytest

from dashboards.influxql.errors import ParseError
from dashboards.influxql.parser import parse
from dashboards.influxql.printer import print_statement
from dashboards.influxql.syntax import (
    Binary,
    Call,
    Duration,
    Field,
    Fill,
    Integer,
    Measurement,
    Pattern,
    Ref,
    Select,
    Show,
    Text,
)

OPERAND = "identifier, string, number, bool"


def test_what_grafana_sends_is_read() -> None:
    query = (
        'SELECT mean("value") FROM "telemetry" WHERE ("device" =~ /^(pump\\/1|b)$/ AND "metric" = \'x\') '
        'AND time >= 1700000000000ms and time <= 1700000060000ms GROUP BY time(10s), "device" fill(null)'
    )
    (select,) = parse(query)
    moments = [
        Binary(">=", Ref("time"), Duration(1_700_000_000 * 10**9)),
        Binary("<=", Ref("time"), Duration(1_700_000_060 * 10**9)),
    ]
    tags = Binary("AND", Binary("=~", Ref("device"), Pattern("^(pump/1|b)$")), Binary("=", Ref("metric"), Text("x")))
    assert select == Select(
        (Field(Call("mean", (Ref("value"),))),),
        (Measurement("telemetry"),),
        Binary("AND", Binary("AND", tags, moments[0]), moments[1]),
        (Call("time", (Duration(10 * 10**9),)), Ref("device")),
    )


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("select V from m", "SELECT V FROM m"),
        ('select "v" as "a b" from "x y".."m"', 'SELECT v AS "a b" FROM "x y"..m'),
        ("SELECT v FROM db.rp./m.*/ -- a comment", "SELECT v FROM db.rp./m.*/"),
        ("SELECT v /* why */ FROM rp.m", "SELECT v FROM rp.m"),
        ("SELECT a + b * c - (d - e) FROM m", "SELECT a + b * c - (d - e) FROM m"),
        ("SELECT (a + b) * -c FROM m", "SELECT (a + b) * (-1 * c) FROM m"),
        ("SELECT v FROM m WHERE a <> 1 OR b = 2 AND c = 3", "SELECT v FROM m WHERE a != 1 OR b = 2 AND c = 3"),
        ("SELECT v FROM m WHERE (a = 1 OR b = 2) AND c = 3", "SELECT v FROM m WHERE (a = 1 OR b = 2) AND c = 3"),
        ("SELECT v FROM m WHERE time > now() - 90m", "SELECT v FROM m WHERE time > now() - 90m"),
        ("SELECT distinct v FROM m", "SELECT distinct(v) FROM m"),
        ("SELECT *::field FROM m LIMIT 5 OFFSET 1 SLIMIT 2 SOFFSET 3", "SELECT *::field FROM m LIMIT 5 OFFSET 1 SLIMIT 2 SOFFSET 3"),
        ("SELECT v FROM m ORDER BY time", "SELECT v FROM m ORDER BY time ASC"),
        ("SELECT mean(v) FROM m GROUP BY time(1h30m, -4s), *, /a/ fill(-1.5)", "SELECT mean(v) FROM m GROUP BY time(90m, -4s), *, /a/ fill(-1.5)"),
        ("SELECT v FROM m WHERE s = 'it\\'s' tz('Europe/Berlin')", "SELECT v FROM m WHERE s = 'it\\'s' tz('Europe/Berlin')"),
        ("SELECT max(x) FROM (SELECT last(v) AS x FROM m GROUP BY a)", "SELECT max(x) FROM (SELECT last(v) AS x FROM m GROUP BY a)"),
        ("show tag values from m with key in (a, \"b c\") where c != 'd' limit 2", "SHOW TAG VALUES FROM m WITH KEY IN (a, \"b c\") WHERE c != 'd' LIMIT 2"),
        ("SHOW TAG VALUES WITH KEY =~ /a\\/b/", "SHOW TAG VALUES WITH KEY =~ /a\\/b/"),
        ("SHOW MEASUREMENTS ON db WITH MEASUREMENT =~ /x/ WHERE a = 'b' LIMIT 1", "SHOW MEASUREMENTS ON db WITH MEASUREMENT =~ /x/ WHERE a = 'b' LIMIT 1"),
        ("SHOW RETENTION POLICIES ON db", "SHOW RETENTION POLICIES ON db"),
    ],
)  # fmt: skip
def test_printing_is_the_way_back(text: str, printed: str) -> None:
    (statement,) = parse(text)
    assert print_statement(statement) == printed
    assert parse(printed) == (statement,)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("SELECT", f"found EOF, expected {OPERAND} at line 1, char 8"),
        ("SELECT v", "found EOF, expected FROM at line 1, char 10"),
        ("SELECT v FROM", "found EOF, expected identifier at line 1, char 15"),
        ("SELECT v FROM m GROUP", "found EOF, expected BY at line 1, char 23"),
        ("SELECT v FROM m LIMIT x", "found x, expected integer at line 1, char 23"),
        ("SELECT v FROM m LIMIT -1", "found -, expected integer at line 1, char 23"),
        ("SELECT v FROM m ORDER BY v", "only ORDER BY time supported at this time"),
        ("SELECT v FROM m WHERE a = 'x", f"found x, expected {OPERAND} at line 1, char 26"),
        ("SELECT v FROM m WHERE a =~ 'x'", "found x, expected regex at line 1, char 27"),
        ("SELECT v FROM m WHERE a =~ /(/", "error parsing regexp: missing closing ): `(` at line 1, char 27"),
        ("SELECT v FROM m WHERE a =~ /(?=x)/", "error parsing regexp: invalid or unsupported Perl syntax: `(?=` at line 1, char 27"),
        ("SELECT v FROM m WHERE a =~ /\\1/", "error parsing regexp: invalid escape sequence: `\\1` at line 1, char 27"),
        ("SELECT v,, FROM m", f"found ,, expected {OPERAND} at line 1, char 10"),
        ("SELECT mean(v FROM m", "found FROM, expected ) at line 1, char 15"),
        ("SELECT v FROM m FROM k", "found FROM, expected ; at line 1, char 17"),
        ("SELECT v FROM x.y.z.w", 'too many segments in "x"."y"."z".w at line 1, char 1'),
        ("SELECT v\nfrom\n m wher", "found wher, expected ; at line 3, char 4"),
        ("SELECT mean(v) FROM m fill()", "fill requires an argument, e.g.: 0, null, none, previous, linear"),
        ("SELECT mean(v) FROM m tz('Nowhere')", "unable to find time zone Nowhere"),
        ("SELECT mean(v) FROM m tz('../../etc/passwd')", "unable to find time zone ../../etc/passwd"),
        ("SELECT v FROM m WHERE time > 5x", "invalid duration"),
        ("SELECT v::foo FROM m", "found foo, expected float, integer, unsigned, string, boolean, field, tag at line 1, char 11"),
        ("SHOW TAG VALUES", "found EOF, expected WITH at line 1, char 17"),
        ("SHOW TAG VALUES WITH KEY 5", "found 5, expected IN, =, =~ at line 1, char 26"),
        ("FOO", "found FOO, expected SELECT, DELETE, SHOW, CREATE, DROP, EXPLAIN, GRANT, REVOKE, ALTER, SET, KILL at line 1, char 1"),
        ("SELECT $x FROM m", "missing parameter: x"),
        ("SELECT 2 = v FROM m", "invalid operator = in SELECT clause at line 1, char 8; operator is intended for WHERE clause"),
    ],
)  # fmt: skip
def test_errors_are_worded_as_influxdb_words_them(text: str, error: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    "text",
    [
        "DROP DATABASE headwater", "DELETE FROM telemetry", "CREATE DATABASE x", "SELECT v INTO x FROM m", "ALTER x",
        "DROP SERIES FROM m", "KILL QUERY 1", "GRANT ALL TO me", "EXPLAIN SELECT v FROM m", "SET PASSWORD FOR me = 'x'",
        "SELECT v FROM m; DROP MEASUREMENT m", "select v from (select v into y from m)",
    ],
)  # fmt: skip
def test_whatever_writes_is_refused_by_the_grammar(text: str) -> None:
    with pytest.raises(ParseError, match="is refused: this endpoint only reads"):
        parse(text)


def test_parameters_are_values_and_never_text() -> None:
    (select,) = parse("SELECT v FROM m WHERE a = $a AND n > $n", {"a": "x' OR 'a' = 'a", "n": 5})
    assert select == Select(
        (Field(Ref("v")),),
        (Measurement("m"),),
        Binary("AND", Binary("=", Ref("a"), Text("x' OR 'a' = 'a")), Binary(">", Ref("n"), Integer(5))),
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("SELECT v FROM m WHERE " + "(" * 1000 + "a = 1" + ")" * 1000, "nested more than"),
        ("SELECT v FROM m WHERE " + " OR ".join(["a = 1"] * 1000), "more than 200 operators"),
        ("SELECT v FROM " + "(SELECT v FROM " * 50 + "m" + ")" * 50, "expected identifier"),
        ("SELECT " + "f(" * 500 + "v" + ")" * 500 + " FROM m", "nested more than"),
        ("SELECT v FROM m" + " " * 70_000, "longer than"),
        ("SHOW DATABASES;" * 1000, "more than 200 statements"),
        ("SELECT v FROM m WHERE a =~ /" + "(" * 2000 + "/", "nests too deeply"),
        ("SELECT v FROM m WHERE a =~ /((a{1000}){1000}){1000}/", "expression too large"),
        ("SELECT " + "9" * 5000 + " * v FROM m", "unable to parse integer"),
        ("SELECT v FROM m WHERE time > " + "9" * 5000 + "w", "invalid duration"),
    ],
)
def test_what_would_cost_too_much_is_refused(text: str, error: str) -> None:
    with pytest.raises(ParseError, match=error):
        parse(text)


def test_several_statements_and_empty_ones() -> None:
    assert parse(";; SHOW DATABASES ;; SHOW MEASUREMENTS ;") == (Show("DATABASES"), Show("MEASUREMENTS"))
    assert parse("  ") == ()


def test_fill_takes_each_form() -> None:
    forms = {"null": Fill(), "none": Fill("none"), "previous": Fill("previous"), "linear": Fill("linear")}
    for word, fill in {**forms, "0": Fill("number", 0), "-2.5": Fill("number", -2.5)}.items():
        (select,) = parse(f"SELECT mean(v) FROM m GROUP BY time(1s) fill({word})")
        assert isinstance(select, Select)
        assert select.fill == fill
