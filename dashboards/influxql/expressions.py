"""The parser's lower half: a cursor over the text, and expressions by operator precedence (grammar: docs/influxql.md)."""

from collections.abc import Mapping

from dashboards.influxql.errors import ParseError
from dashboards.influxql.regex import check_pattern
from dashboards.influxql.scanner import END, Token, at_place, scan, scan_regex, unexpected
from dashboards.influxql.syntax import (
    Binary,
    Boolean,
    Call,
    Duration,
    Expr,
    Integer,
    Number,
    Pattern,
    Ref,
    Star,
    Text,
)

PRECEDENCE = {
    "OR": 1, "AND": 2, "=": 3, "!=": 3, "<>": 3, "=~": 3, "!~": 3, "<": 3, "<=": 3, ">": 3, ">=": 3,
    "+": 4, "-": 4, "*": 5, "/": 5, "%": 5,
}  # fmt: skip
UNITS_NS = {
    "ns": 1, "u": 1_000, "µ": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000,
    "h": 3_600_000_000_000, "d": 86_400_000_000_000, "w": 604_800_000_000_000,
}  # fmt: skip
INT64_MAX = (1 << 63) - 1
DEPTH_MAX = 24
# Chains lean to the left, and those who walk the tree go down once per operator.
OPERATORS_MAX = 200
SEGMENTS_MAX = 3
_CASTS = ("float", "integer", "unsigned", "string", "boolean", "field", "tag")
_OPERAND = ("identifier", "string", "number", "bool")


class Cursor:
    """A place in the text that moves on token by token, and the values of `$name` parameters."""

    def __init__(self, text: str, parameters: Mapping[str, object] | None = None) -> None:
        self.text = text
        self.at = 0
        self._parameters = parameters or {}
        self._depth = 0
        self._operators = 0

    def peek(self) -> Token:
        """The next token."""
        return scan(self.text, self.at)

    def take(self) -> Token:
        """Moves over the next token and returns it."""
        token = self.peek()
        self.at = token.end
        return token

    def accept(self, *kinds: str) -> Token | None:
        """Moves over the next token if it is of one of these kinds."""
        token = self.peek()
        if token.kind not in kinds:
            return None
        self.at = token.end
        return token

    def expect(self, kind: str, *expected: str) -> Token:
        """Moves over a token of that kind.

        Raises:
            ParseError: another one stands there.
        """
        token = self.peek()
        if token.kind != kind:
            raise unexpected(self.text, token, *(expected or (kind,)))
        self.at = token.end
        return token

    def accept_word(self, word: str) -> bool:
        """Tells whether an identifier that means something only here comes next, and leaves it there."""
        token = self.peek()
        return token.kind == "identifier" and token.text.lower() == word

    def identifier(self) -> str:
        """Moves over a name."""
        return self.expect("identifier").text

    def pattern(self) -> Pattern | None:
        """Moves over a regex; None if none comes next.

        Raises:
            ParseError: it has no end, or it is no regex of RE2's syntax.
        """
        token = scan_regex(self.text, self.at)
        if token is None:
            return None
        self.at = token.end
        try:
            check_pattern(token.text)
        except ValueError as error:
            raise at_place(str(error), self.text, token.start, is_quoted=True) from error
        return Pattern(token.text)

    def segments(self) -> tuple[str, ...]:
        """Moves over names with points between them; two points leave an empty name.

        Stops after the point before a regex.
        """
        names = [self.identifier()]
        while (token := self.peek()).kind == "." and not token.is_apart:
            self.at = token.end
            following = self.text[self.at : self.at + 1]
            if following == "/":
                break
            names.append("" if following == "." else self.identifier())
        if len(names) > SEGMENTS_MAX:
            shown = ".".join([*(f'"{name}"' for name in names[:-1]), names[-1]])
            raise ParseError(f"too many segments in {shown} at line 1, char 1")
        return tuple(names)

    def expression(self, least: int = 1) -> Expr:
        """Moves over an expression whose operators bind at least as strongly as `least`.

        Raises:
            ParseError: none stands there, or it is too long or too deep.
        """
        left = self._operand()
        while True:
            operator = self.peek().kind
            strength = PRECEDENCE.get(operator, 0)
            if strength < least:
                return left
            self.take()
            self._operators += 1
            if self._operators > OPERATORS_MAX:
                raise ParseError(f"the query has more than {OPERATORS_MAX} operators: use a regex instead of many ORs")
            right: Expr
            if operator in ("=~", "!~"):
                matched = self.pattern()
                if matched is None:
                    raise unexpected(self.text, self.peek(), "regex")
                right = matched
            else:
                right = self.expression(strength + 1)
            left = Binary("!=" if operator == "<>" else operator, left, right)

    def _operand(self) -> Expr:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise ParseError(f"the query is nested more than {DEPTH_MAX} deep")
        try:
            return self._parse_operand()
        finally:
            self._depth -= 1

    def _parse_operand(self) -> Expr:
        token = self.peek()
        match token.kind:
            case "(":
                self.take()
                inner = self.expression()
                self.expect(")")
                return inner
            case "identifier":
                return self._call_or_ref(token)
            case "DISTINCT":
                return self._distinct()
            case "string" | "number" | "integer" | "TRUE" | "FALSE" | "duration":
                return self._literal(self.take())
            case "*":
                self.take()
                return Star(self._star_cast())
            case "parameter":
                return self._parameter(self.take().text)
            case "+" | "-":
                self.take()
                return self._signed(-1 if token.kind == "-" else 1)
        raise unexpected(self.text, token, *_OPERAND)

    def _literal(self, token: Token) -> Expr:
        match token.kind:
            case "string":
                return Text(token.text)
            case "number":
                return Number(float(token.text))
            case "integer":
                return Integer(self._int64(token.text))
            case "duration":
                return Duration(duration_ns(token.text))
        return Boolean(token.kind == "TRUE")

    def _call_or_ref(self, token: Token) -> Expr:
        after = scan(self.text, token.end)
        if after.kind == "(" and not after.is_apart:
            self.at = after.end
            return self.call(token.text.lower())
        name = ".".join(self.segments())
        return Ref(name, self._cast())

    def _cast(self) -> str:
        token = self.peek()
        if token.kind != "::" or token.is_apart:
            return ""
        self.take()
        cast = self.take()
        if cast.text.lower() not in _CASTS:
            raise unexpected(self.text, cast, *_CASTS)
        return cast.text.lower()

    def _star_cast(self) -> str:
        token = self.peek()
        if token.kind != "::" or token.is_apart:
            return ""
        self.take()
        cast = self.take()
        if cast.kind not in ("FIELD", "TAG"):
            raise unexpected(self.text, cast, "field", "tag")
        return cast.kind.lower()

    def _distinct(self) -> Expr:
        self.take()
        token = self.peek()
        if token.kind == "(" and not token.is_apart:
            self.take()
            return self.call("distinct")
        return Call("distinct", (Ref(self.identifier()),))

    def call(self, name: str) -> Call:
        """Moves over the arguments of a function, whose "(" is behind, and its ")"."""
        arguments: list[Expr] = []
        if scan_regex(self.text, self.at) is None and self.accept(")"):
            return Call(name)
        while True:
            arguments.append(self.pattern() or self.expression())
            if not self.accept(","):
                self.expect(")")
                return Call(name, tuple(arguments))

    def _signed(self, sign: int) -> Expr:
        token = self.peek()
        if token.kind not in ("number", "integer", "duration", "(", "identifier"):
            raise unexpected(self.text, token, "identifier", "number", "duration", "(")
        if token.kind == "integer":
            return Integer(self._int64(self.take().text, sign))
        match operand := self._operand():
            case Number(value):
                return Number(sign * value)
            case Duration(ns):
                return Duration(sign * ns)
        return Binary("*", Integer(sign), operand)

    def _int64(self, digits: str, sign: int = 1) -> int:
        value = sign * int(digits) if len(digits) < 20 else 1 << 64
        if not -INT64_MAX - 1 <= value <= INT64_MAX:
            raise at_place("unable to parse integer", self.text, self.at)
        return value

    def _parameter(self, name: str) -> Expr:
        if not name:
            raise ParseError("empty bound parameter")
        if name not in self._parameters:
            raise ParseError(f"missing parameter: {name}")
        match value := self._parameters[name]:
            case bool():
                return Boolean(value)
            case int() if abs(value) <= INT64_MAX:
                return Integer(value)
            case float():
                return Number(value)
            case str():
                return Text(value)
        raise ParseError(f"unable to bind parameter with type {type(value).__name__}")

    def end(self) -> None:
        """Asks that nothing follows.

        Raises:
            ParseError: something does.
        """
        self.expect(END, ";")


def duration_ns(text: str) -> int:
    """Returns the nanoseconds of a duration literal.

    >>> duration_ns("1h30m"), duration_ns("5u")
    (5400000000000, 5000)

    Raises:
        ParseError: it is none, or longer than 292 years.
    """
    total, at = 0, 0
    while at < len(text):
        start = at
        while at < len(text) and text[at].isdigit():
            at += 1
        unit = text[at : at + 2] if text[at : at + 2] in ("ns", "ms") else text[at : at + 1]
        if at == start or unit not in UNITS_NS or at - start > 19:
            raise ParseError("invalid duration")
        total += int(text[start:at]) * UNITS_NS[unit]
        at += len(unit)
    if total > INT64_MAX:
        raise ParseError(f"overflowed duration {text}: choose a smaller duration or INF")
    return total
