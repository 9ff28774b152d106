"""Any tree that is printed is read as the same tree; regexes answer as Python's do where both know the syntax."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.influxql.errors import ParseError
from dashboards.influxql.expressions import PRECEDENCE
from dashboards.influxql.parser import parse
from dashboards.influxql.printer import print_statement
from dashboards.influxql.regex import Regex
from dashboards.influxql.scanner import KEYWORDS
from dashboards.influxql.syntax import (
    Binary,
    Boolean,
    Call,
    Duration,
    Expr,
    Field,
    Fill,
    Integer,
    Measurement,
    Number,
    Pattern,
    Ref,
    Select,
    Show,
    Star,
    Text,
)

NAMES = st.one_of(
    st.sampled_from(["value", "time", "from", "Select", "a b", 'a"b', "a\\b", "a\nb", "é", "1a", "fill", "tz"]),
    st.text(min_size=1, max_size=6).filter(lambda text: "." not in text),
)
TEXTS = st.text(max_size=8)
PATTERNS = st.sampled_from(["a", "a/b", "^(x|y)$", ".*", "", "\\.", "[^/]+"]).map(Pattern)
CASTS = st.sampled_from(["", "float", "integer", "string", "boolean", "field", "tag"])
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
DURATIONS = st.integers(-(1 << 62), 1 << 62).map(Duration)
LITERALS = st.one_of(
    st.builds(Text, TEXTS),
    st.builds(Integer, st.integers(-(1 << 63), (1 << 63) - 1)),
    st.builds(Number, NUMBERS),
    DURATIONS,
    st.builds(Boolean, st.booleans()),
)
LEAVES = st.one_of(LITERALS, st.builds(Ref, NAMES, CASTS), st.builds(Star, st.sampled_from(["", "tag", "field"])))
FUNCTIONS = st.sampled_from(["mean", "derivative", "now", "distinct", "x1"])


def _sums(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    calls = st.builds(Call, FUNCTIONS, st.lists(st.one_of(inner, PATTERNS), max_size=2).map(tuple))
    return st.one_of(calls, st.builds(Binary, st.sampled_from(list("+-*/%")), inner, inner))


def _larger(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    plain = sorted(set(PRECEDENCE) - {"=~", "!~", "<>"})
    calls = st.builds(Call, FUNCTIONS, st.lists(st.one_of(inner, PATTERNS), max_size=2).map(tuple))
    binaries = st.builds(Binary, st.sampled_from(plain), inner, inner)
    matches = st.builds(Binary, st.sampled_from(["=~", "!~"]), inner, PATTERNS)
    return st.one_of(calls, binaries, matches)


EXPRS = st.recursive(LEAVES, _larger, max_leaves=8)
SHOWN = st.recursive(LEAVES, _sums, max_leaves=8)
MEASUREMENTS = st.one_of(
    st.builds(Measurement, NAMES),
    st.builds(Measurement, NAMES, st.just(""), NAMES),
    st.builds(Measurement, NAMES, NAMES, st.one_of(st.just(""), NAMES)),
    st.builds(Measurement, PATTERNS),
    st.builds(Measurement, PATTERNS, st.one_of(st.just(""), NAMES), NAMES),
)
FILLS = st.one_of(
    st.sampled_from([Fill(kind) for kind in ("null", "none", "previous", "linear")]),
    st.builds(Fill, st.just("number"), st.one_of(st.integers(-99, 99), NUMBERS)),
)
LIMITS = st.integers(0, 99)
ORDERS = st.sampled_from(["", "ASC", "DESC"])


def _selects(sources: st.SearchStrategy[Measurement] | st.SearchStrategy[Select]) -> st.SearchStrategy[Select]:
    return st.builds(
        Select,
        st.lists(st.builds(Field, st.one_of(SHOWN, PATTERNS), st.one_of(st.just(""), NAMES)), min_size=1, max_size=3).map(tuple),
        st.lists(sources, min_size=1, max_size=2).map(tuple),
        st.one_of(st.none(), EXPRS),
        st.lists(st.one_of(EXPRS, PATTERNS), max_size=2).map(tuple),
        FILLS, ORDERS, LIMITS, LIMITS, LIMITS, LIMITS,
        st.sampled_from(["", "UTC", "Europe/Berlin"]),
    )  # fmt: skip


SELECTS = _selects(MEASUREMENTS)
KEYS = st.one_of(
    st.tuples(st.just("IN"), st.lists(NAMES, min_size=1, max_size=3).map(tuple)),
    st.tuples(st.sampled_from(["=", "!="]), NAMES.map(lambda name: (name,))),
    st.tuples(st.sampled_from(["=~", "!~"]), PATTERNS),
)
SHOWS = st.builds(
    lambda key, *rest: Show("TAG VALUES", rest[0], rest[1], *key, *rest[2:]),
    KEYS,
    st.one_of(st.just(""), NAMES),
    st.lists(MEASUREMENTS, max_size=2).map(tuple),
    st.one_of(st.none(), EXPRS),
    ORDERS,
    LIMITS,
    LIMITS,
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(SELECTS, _selects(SELECTS), SHOWS))
def test_what_is_printed_is_read_as_the_same(statement: Select | Show) -> None:
    assert parse(print_statement(statement)) == (statement,)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from([*sorted(KEYWORDS), *"()*,;/'\"$.:=<>!~+-%", "x", "1", "5m", " "]), TEXTS),
        max_size=20,
    )
)
def test_any_text_is_read_or_refused(pieces: list[str]) -> None:
    text = " ".join(pieces)
    try:
        statements = parse(text)
    except ParseError:
        return
    assert parse("; ".join(map(print_statement, statements))) == statements


ATOMS = st.sampled_from(
    ["a", "b", ".", "[ab]", "[^a]", "\\d", "\\W", "\\.", "(a|bc)", "(?:b)", "^", "$", "\\b", "[a-c_]"]
)
SUFFIXES = st.sampled_from(["", "", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?"])
PIECES = st.tuples(ATOMS, SUFFIXES).map(lambda pair: pair[0] + (pair[1] if pair[0] not in ("^", "$", "\\b") else ""))
REGEXES = st.lists(st.lists(PIECES, max_size=4).map("".join), min_size=1, max_size=3).map("|".join)


@settings(max_examples=200, deadline=None)
@given(REGEXES, st.text("abc.1_ -", max_size=8))
def test_a_regex_finds_what_pythons_finds(pattern: str, text: str) -> None:
    assert Regex(pattern).search(text) == bool(re.search(pattern.replace("$", "\\Z"), text, re.ASCII))


def test_a_regex_that_would_explode_elsewhere_is_quick() -> None:
    text = "a" * 5_000
    assert not Regex("^(a+)+(a*)*(a|aa)+$").search(text + "b")
    assert Regex("(x+x+)+y|a$").search(text)
