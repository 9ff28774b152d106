r"""The lexer: one token at a place of the text, because only the parser knows where a slash begins a regex.

identifier  [A-Za-z_][A-Za-z0-9_]*  or  "…" with \" \\ \n      keyword   an identifier of KEYWORDS, any case
string      '…' with \' \\ \n                                  regex     /…/ with \/, where the parser asks
integer     digits        number  digits.digits                    duration  (digits unit)+, units ns u µ ms s m h d w
operator    + - * / % = != <> < <= > >= =~ !~ ( ) , ; . :: $name   comment   -- to the end of line, /* … */
"""

import re
from dataclasses import dataclass

from dashboards.influxql.errors import ParseError, found

KEYWORDS = frozenset(
    [
        "ALL",
        "ALTER",
        "ANALYZE",
        "ANY",
        "AS",
        "ASC",
        "BEGIN",
        "BY",
        "CARDINALITY",
        "CREATE",
        "CONTINUOUS",
        "DATABASE",
        "DATABASES",
        "DEFAULT",
        "DELETE",
        "DESC",
        "DESTINATIONS",
        "DIAGNOSTICS",
        "DISTINCT",
        "DROP",
        "DURATION",
        "END",
        "EVERY",
        "EXACT",
        "EXPLAIN",
        "FIELD",
        "FOR",
        "FROM",
        "GRANT",
        "GRANTS",
        "GROUP",
        "GROUPS",
        "IN",
        "INF",
        "INSERT",
        "INTO",
        "KEY",
        "KEYS",
        "KILL",
        "LIMIT",
        "MEASUREMENT",
        "MEASUREMENTS",
        "NAME",
        "OFFSET",
        "ON",
        "ORDER",
        "PASSWORD",
        "POLICY",
        "POLICIES",
        "PRIVILEGES",
        "QUERIES",
        "QUERY",
        "READ",
        "REPLICATION",
        "RESAMPLE",
        "RETENTION",
        "REVOKE",
        "SELECT",
        "SERIES",
        "SET",
        "SHOW",
        "SHARD",
        "SHARDS",
        "SLIMIT",
        "SOFFSET",
        "STATS",
        "SUBSCRIPTION",
        "SUBSCRIPTIONS",
        "TAG",
        "TO",
        "USER",
        "USERS",
        "VALUES",
        "WHERE",
        "WITH",
        "WRITE",
        "TRUE",
        "FALSE",
        "AND",
        "OR",
    ]
)
_SPACE = re.compile(r"(?:[ \t\r\n]+|--[^\n]*|/\*.*?\*/)*", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"[0-9]*\.[0-9]+|[0-9]+")
_DURATION = re.compile(r"(?:[0-9]+(?:ns|ms|[a-zA-Zµ]))+[0-9]*[a-zA-Zµ]*")
_OPERATOR = re.compile(r"=~|!~|!=|<>|<=|>=|::|[-+*/%=<>(),;.:]")
_IS_COUNTED_ONCE = re.compile(r"""[-+*/%=<>"'](?<![=!]~)\Z""")
_ESCAPES = {"n": "\n", "\\": "\\", '"': '"', "'": "'"}
END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text.

    Attributes:
        kind: "identifier", "string", "integer", "number", "duration", "parameter", END, "bad", or for a keyword or an
            operator itself, keywords in capitals.
        text: what it says, quotes and escapes undone.
        start, end: its place.
        is_apart: there is white space or a comment before it.
    """

    kind: str
    text: str
    start: int
    end: int
    is_apart: bool = False

    @property
    def shown(self) -> str:
        """How errors show it."""
        return "EOF" if self.kind == END else self.text


def scan(text: str, at: int) -> Token:
    """Returns the token at or after `at`; END at the end, "bad" where nothing fits.

    >>> [scan("SELECT x", 0).kind, scan("SELECT x", 6).text, scan("12ms", 0).kind]
    ['SELECT', 'x', 'duration']
    """
    space = _SPACE.match(text, at)
    start = space.end() if space else at
    is_apart = start > at
    if start >= len(text):
        return Token(END, "", start, start, is_apart)
    character = text[start]
    if word := _WORD.match(text, start):
        name = word.group()
        kind = name.upper() if name.upper() in KEYWORDS else "identifier"
        return Token(kind, name.upper() if kind != "identifier" else name, start, word.end(), is_apart)
    if character in "\"'":
        return _quoted(text, start, is_apart)
    if duration := _DURATION.match(text, start):
        return Token("duration", duration.group(), start, duration.end(), is_apart)
    if number := _NUMBER.match(text, start):
        kind = "number" if "." in number.group() else "integer"
        return Token(kind, number.group(), start, number.end(), is_apart)
    if character == "$":
        name_match = _WORD.match(text, start + 1)
        end = name_match.end() if name_match else start + 1
        return Token("parameter", text[start + 1 : end], start, end, is_apart)
    if operator := _OPERATOR.match(text, start):
        return Token(operator.group(), operator.group(), start, operator.end(), is_apart)
    return Token("bad", character, start, start + 1, is_apart)


def _quoted(text: str, start: int, is_apart: bool) -> Token:
    quote, at = text[start], start + 1
    out: list[str] = []
    kind = "identifier" if quote == '"' else "string"
    while at < len(text) and text[at] != "\n":
        character = text[at]
        if character == quote:
            return Token(kind, "".join(out), start, at + 1, is_apart)
        if character == "\\":
            if text[at + 1 : at + 2] not in _ESCAPES or at + 1 >= len(text):
                return Token("bad", text[at : at + 2], start, at, is_apart)
            character, at = _ESCAPES[text[at + 1]], at + 1
        out.append(character)
        at += 1
    return Token("bad", "".join(out), start, at, is_apart)


def scan_regex(text: str, at: int) -> Token | None:
    """Returns the regex at or after `at` as a token "regex"; None where no slash begins.

    Raises:
        ParseError: it has no end.
    """
    space = _SPACE.match(text, at)
    start = space.end() if space else at
    if text[start : start + 1] != "/":
        return None
    out, place = [], start + 1
    while place < len(text) and text[place] != "\n":
        if text.startswith("\\/", place):
            out.append("/")
            place += 2
        elif text[place] == "/":
            return Token("regex", "".join(out), start, place + 1)
        else:
            out.append(text[place])
            place += 1
    raise at_place("bad regex: ", text, start, is_quoted=True)


def place_of(text: str, at: int, *, is_quoted: bool = False) -> tuple[int, int]:
    """Returns line and character of a place, from 1, in InfluxDB's way of counting.

    What stands in quotes or slashes counts one less. The end is two behind the last character, or one behind an
    operator or a quote.

    >>> place_of("SELECT", 6), place_of("a 'b'", 2, is_quoted=True)
    ((1, 8), (1, 2))
    """
    line = text.count("\n", 0, at)
    if at >= len(text):
        ending = text.rstrip()
        at = len(ending) + (not _IS_COUNTED_ONCE.search(ending))
    char = at - (text.rfind("\n", 0, at) + 1)
    return line + 1, char + 1 - is_quoted


def at_place(message: str, text: str, at: int, *, is_quoted: bool = False) -> ParseError:
    """Returns an error that says where."""
    line, char = place_of(text, at, is_quoted=is_quoted)
    return ParseError(f"{message} at line {line}, char {char}")


def unexpected(text: str, token: Token, *expected: str) -> ParseError:
    """Returns the error of a token that doesn't fit."""
    is_quoted = text[token.start : token.start + 1] in ('"', "'", "/") and token.kind != "/"
    return found(token.shown, expected, *place_of(text, token.start, is_quoted=is_quoted))
