"""The parser of regular expressions: RE2's syntax without Unicode classes, as a tree."""

import string
from dataclasses import dataclass, replace

LENGTH_MAX = 4096
REPEATS_MAX = 1000
DEPTH_MAX = 50

_WORD = frozenset(string.ascii_letters + string.digits + "_")
_CLASSES = {
    "d": frozenset(string.digits),
    "w": _WORD,
    "s": frozenset("\t\n\f\r "),
    "alnum": frozenset(string.ascii_letters + string.digits),
    "alpha": frozenset(string.ascii_letters),
    "ascii": frozenset(map(chr, range(128))),
    "blank": frozenset("\t "),
    "cntrl": frozenset([*map(chr, range(32)), "\x7f"]),
    "digit": frozenset(string.digits),
    "graph": frozenset(map(chr, range(33, 127))),
    "lower": frozenset(string.ascii_lowercase),
    "print": frozenset(map(chr, range(32, 127))),
    "punct": frozenset(string.punctuation),
    "space": frozenset("\t\n\v\f\r "),
    "upper": frozenset(string.ascii_uppercase),
    "word": _WORD,
    "xdigit": frozenset(string.hexdigits),
}
_CONTROLS = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}


@dataclass(frozen=True, slots=True)
class Set:
    """One character out of ranges and classes, or none of them.

    Attributes:
        ranges: inclusive pairs.
        classes: (characters, is it the rest that counts).
        is_negated: all others match.
        ignores_case: letters match in either case.
    """

    ranges: tuple[tuple[str, str], ...] = ()
    classes: tuple[tuple[frozenset[str], bool], ...] = ()
    is_negated: bool = False
    ignores_case: bool = False

    def holds(self, character: str) -> bool:
        """Tells whether it takes the character."""
        forms = {character, character.lower(), character.upper()} if self.ignores_case else (character,)
        inside = any(low <= form <= high for form in forms for low, high in self.ranges) or any(
            (form in members) != is_rest for form in forms for members, is_rest in self.classes
        )
        return inside != self.is_negated


@dataclass(frozen=True, slots=True)
class Assertion:
    r"""A place: "^" and "$" of a line, "A" and "z" of the text, "b" and "B" of words."""

    kind: str

    def holds(self, before: str, after: str) -> bool:
        """Tells whether a place between two characters is of this kind; "" is the text's edge."""
        match self.kind:
            case "A":
                return before == ""
            case "z":
                return after == ""
            case "^":
                return before in ("", "\n")
            case "$":
                return after in ("", "\n")
        is_edge = (before in _WORD) != (after in _WORD)
        return is_edge == (self.kind == "b")


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of them."""

    options: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`least` to `most` times; None is without end."""

    inner: "Node"
    least: int
    most: int | None


Node = Set | Assertion | Sequence | Choice | Repeat


@dataclass(frozen=True, slots=True)
class _Flags:
    """(?i), (?m) and (?s); U changes which match is found, not whether."""

    i: bool = False
    m: bool = False
    s: bool = False
    U: bool = False


def _bad(what: str, piece: str) -> ValueError:
    return ValueError(f"error parsing regexp: {what}: `{piece}`")


def parse_pattern(pattern: str) -> Node:
    """Returns the tree of a pattern.

    >>> parse_pattern("a{2}")
    Repeat(inner=Set(ranges=(('a', 'a'),), classes=(), is_negated=False, ignores_case=False), least=2, most=2)

    Raises:
        ValueError: it is too long, or not in the syntax.
    """
    if len(pattern) > LENGTH_MAX:
        raise ValueError("error parsing regexp: expression too large")
    parser = _Parser(pattern)
    tree = parser.choice(_Flags(), 0)
    if parser.at < len(pattern):
        raise _bad("unexpected )", pattern)
    return tree


class _Parser:
    """A place in a pattern that moves on."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def _next(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def choice(self, flags: _Flags, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise _bad("expression nests too deeply", self.pattern)
        options, parts = [], list[Node]()
        while self._next() not in ("", ")"):
            if self._next() == "|":
                self.at += 1
                options.append(Sequence(tuple(parts)))
                parts = []
                continue
            if self.pattern.startswith("(?", self.at):
                changed = self._flags(flags)
                if changed is not None:
                    flags = changed
                    continue
            part = self._atom(flags, depth)
            parts.append(self._repeated(part))
        options.append(Sequence(tuple(parts)))
        alone = options[0].parts if len(options) == 1 else ()
        return alone[0] if len(alone) == 1 else options[0] if len(options) == 1 else Choice(tuple(options))

    def _flags(self, flags: _Flags) -> _Flags | None:
        """Moves over `(?flags)`; returns None, and stays, before a group."""
        end, changed, value = self.at + 2, flags, True
        while (letter := self.pattern[end : end + 1]) and letter in "imsU-":
            if letter == "-":
                value = False
            else:
                changed = replace(changed, **{letter: value})
            end += 1
        if self.pattern[end : end + 1] != ")" or end == self.at + 2:
            return None
        self.at = end + 1
        return changed

    def _atom(self, flags: _Flags, depth: int) -> Node:
        character = self._next()
        if character == "(":
            return self._group(flags, depth)
        if character == "[":
            return self._set(flags)
        if character == "\\":
            return self._escape(flags)
        if character in "*+?":
            raise _bad("missing argument to repetition operator", character)
        self.at += 1
        if character == ".":
            return Set(is_negated=True) if flags.s else Set((("\n", "\n"),), is_negated=True)
        if character == "^":
            return Assertion("^" if flags.m else "A")
        if character == "$":
            return Assertion("$" if flags.m else "z")
        return Set(((character, character),), ignores_case=flags.i)

    def _group(self, flags: _Flags, depth: int) -> Node:
        start = self.at
        self.at += 1
        if self._next() == "?":
            flags = self._group_head(flags, start)
        inner = self.choice(flags, depth + 1)
        if self._next() != ")":
            raise _bad("missing closing )", self.pattern)
        self.at += 1
        return inner

    def _group_head(self, flags: _Flags, start: int) -> _Flags:
        """Moves over `?:`, `?P<name>` or `?flags:`."""
        self.at += 1
        if self.pattern.startswith("P<", self.at):
            end = self.pattern.find(">", self.at)
            name = self.pattern[self.at + 2 : end]
            if end < 0 or not name or not set(name) <= _WORD:
                raise _bad("invalid named capture", self.pattern[start:])
            self.at = end + 1
            return flags
        value = True
        while (letter := self._next()) != ":":
            if letter not in "imsU-" or not letter:
                raise _bad("invalid or unsupported Perl syntax", self.pattern[start : self.at + 1])
            if letter == "-":
                value = False
            else:
                flags = replace(flags, **{letter: value})
            self.at += 1
        self.at += 1
        return flags

    def _repeated(self, part: Node) -> Node:
        start = self.at
        bounds = self._bounds()
        if bounds is None:
            return part
        if self._next() == "?":
            self.at += 1
        again = self.at
        if self._next() in ("*", "+", "?") or self._bounds() is not None:
            self.at = again
            raise _bad("invalid nested repetition operator", self.pattern[start : again + 1])
        return Repeat(part, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._next())
        if simple is not None:
            self.at += 1
            return simple
        if self._next() != "{":
            return None
        end = self.pattern.find("}", self.at)
        low, comma, high = self.pattern[self.at + 1 : max(end, self.at)].partition(",")
        is_number = low.isascii() and low.isdigit() and (not high or (high.isascii() and high.isdigit()))
        if end < 0 or not is_number:
            return None
        shown = self.pattern[self.at : end + 1]
        if max(len(low), len(high)) > 4 or int(low) > REPEATS_MAX or int(high or 0) > REPEATS_MAX:
            raise _bad("invalid repeat count", shown)
        most = int(high) if high else (None if comma else int(low))
        if most is not None and most < int(low):
            raise _bad("invalid repeat count", shown)
        self.at = end + 1
        return int(low), most

    def _escape(self, flags: _Flags) -> Node:
        letter = self.pattern[self.at + 1 : self.at + 2]
        if letter in ("A", "z", "b", "B") and letter:
            self.at += 2
            return Assertion(letter)
        if letter == "Q":
            end = self.pattern.find("\\E", self.at)
            literal = self.pattern[self.at + 2 : end if end >= 0 else len(self.pattern)]
            self.at = end + 2 if end >= 0 else len(self.pattern)
            return Sequence(tuple(Set(((c, c),), ignores_case=flags.i) for c in literal))
        if letter.lower() in ("d", "s", "w") and letter:
            self.at += 2
            return Set((), ((_CLASSES[letter.lower()], letter.isupper()),))
        character = self._escaped()
        return Set(((character, character),), ignores_case=flags.i)

    def _escaped(self) -> str:
        """Moves over an escape of one character and returns that."""
        letter = self.pattern[self.at + 1 : self.at + 2]
        if not letter:
            raise ValueError("error parsing regexp: trailing backslash at end of expression: ``")
        if letter in _CONTROLS:
            self.at += 2
            return _CONTROLS[letter]
        if letter == "x":
            is_long = self.pattern[self.at + 2 : self.at + 3] == "{"
            end = self.pattern.find("}", self.at) if is_long else self.at + 4
            digits = self.pattern[self.at + (3 if is_long else 2) : max(end, 0)]
            is_hex = 0 < len(digits) <= 8 and set(digits) <= set(string.hexdigits) and (is_long or len(digits) == 2)
            if not is_hex or int(digits, 16) > 0x10FFFF:
                raise _bad("invalid escape sequence", self.pattern[self.at : max(end, self.at + 2)])
            self.at = end + is_long
            return chr(int(digits, 16))
        if letter.isascii() and not letter.isalnum():
            self.at += 2
            return letter
        raise _bad("invalid escape sequence", f"\\{letter}")

    def _set(self, flags: _Flags) -> Node:
        start = self.at
        self.at += 1
        is_negated = self._next() == "^"
        self.at += is_negated
        ranges: list[tuple[str, str]] = []
        classes: list[tuple[frozenset[str], bool]] = []
        is_first = True
        while self._next() != "]" or is_first:
            is_first = False
            if not self._next():
                raise _bad("missing closing ]", self.pattern[start:])
            found = self._class()
            if found is not None:
                classes.append(found)
                continue
            low = self._set_character()
            high = low
            if self._next() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                high = self._set_character()
                if high < low:
                    raise _bad("invalid character class range", f"{low}-{high}")
            ranges.append((low, high))
        self.at += 1
        return Set(tuple(ranges), tuple(classes), is_negated, flags.i)

    def _class(self) -> tuple[frozenset[str], bool] | None:
        letter = self.pattern[self.at + 1 : self.at + 2]
        if self._next() == "\\" and letter and letter in "dswDSW":
            self.at += 2
            return _CLASSES[letter.lower()], letter.isupper()
        if not self.pattern.startswith("[:", self.at):
            return None
        end = self.pattern.find(":]", self.at)
        if end < 0:
            return None
        name = self.pattern[self.at + 2 : end]
        plain = name.removeprefix("^")
        if plain not in _CLASSES or len(plain) < 4:
            raise _bad("invalid character class range", self.pattern[self.at : end + 2])
        self.at = end + 2
        return _CLASSES[plain], name != plain

    def _set_character(self) -> str:
        character = self._next()
        if not character:
            raise _bad("missing closing ]", self.pattern)
        if character == "\\":
            return self._escaped()
        self.at += 1
        return character
