"""Regular expressions of RE2's syntax in time linear in the text: what a person types can't make them slow.

A pattern becomes a program of states (Thompson's construction); a text moves a set of states, and moves already made
are kept, so it soon runs as an automaton. There are no backreferences and no lookarounds, as in InfluxDB.

    pattern ─▶ tree ─▶ program ─▶ {(states, what came before, character): states}
"""

from dataclasses import dataclass

from dashboards.influxql.regex_tree import (
    Assertion,
    Choice,
    Node,
    Repeat,
    Sequence,
    Set,
    parse_pattern,
)

STATES_MAX = 10_000
MOVES_MAX = 20_000


@dataclass(slots=True)
class _State:
    """One instruction: "set" takes a character, "split" goes both ways, "assert" asks about the place, "done"."""

    kind: str
    payload: object = None
    first: int = -1
    second: int = -1


class Regex:
    """A compiled pattern.

    >>> Regex("^pump-[0-9]+$").search("pump-12"), Regex("a|b").search("xyz")
    (True, False)

    Raises:
        ValueError: the pattern isn't in RE2's syntax, or too large; the text is that of Go's regexp.
    """

    def __init__(self, pattern: str) -> None:
        self._states: list[_State] = []
        last = self._add(_State("done"))
        self._start = self._compile(parse_pattern(pattern), last)
        self._moves: dict[tuple[frozenset[int], str, str], frozenset[int] | None] = {}

    def search(self, text: str) -> bool:
        """Tells whether the pattern matches anywhere in the text."""
        states: frozenset[int] = frozenset((self._start,))
        before = ""
        for character in (*text, ""):
            key = (states, before, character)
            moved = self._moves[key] if key in self._moves else self._move(key)
            if moved is None:
                return True
            states, before = moved, character
        return False

    def _move(self, key: tuple[frozenset[int], str, str]) -> frozenset[int] | None:
        states, before, character = key
        stack, seen = list(states), set(states)
        following = {self._start}
        matched = False
        while stack and not matched:
            state = self._states[stack.pop()]
            targets: tuple[int, ...] = ()
            match state.kind:
                case "done":
                    matched = True
                case "split":
                    targets = (state.first, state.second)
                case "assert":
                    assert isinstance(state.payload, Assertion)
                    targets = (state.first,) if state.payload.holds(before, character) else ()
                case _:
                    assert isinstance(state.payload, Set)
                    if character and state.payload.holds(character):
                        following.add(state.first)
            fresh = [target for target in targets if target not in seen]
            seen.update(fresh)
            stack += fresh
        if len(self._moves) >= MOVES_MAX:
            self._moves.clear()
        moved = None if matched else frozenset(following)
        self._moves[key] = moved
        return moved

    def _add(self, state: _State) -> int:
        if len(self._states) >= STATES_MAX:
            raise ValueError("error parsing regexp: expression too large")
        self._states.append(state)
        return len(self._states) - 1

    def _compile(self, node: Node, after: int) -> int:
        """Returns the state where `node` begins, when what follows it begins at `after`."""
        match node:
            case Set():
                return self._add(_State("set", node, after))
            case Assertion():
                return self._add(_State("assert", node, after))
            case Sequence(parts):
                for part in reversed(parts):
                    after = self._compile(part, after)
                return after
            case Choice(options):
                start = self._compile(options[-1], after)
                for option in reversed(options[:-1]):
                    start = self._add(_State("split", None, self._compile(option, after), start))
                return start
            case Repeat(inner, least, most):
                return self._repeat(inner, least, most, after)
        raise AssertionError(node)

    def _repeat(self, inner: Node, least: int, most: int | None, after: int) -> int:
        if most is None:
            loop = self._add(_State("split", None, -1, after))
            self._states[loop].first = self._compile(inner, loop)
            start = loop
        else:
            start = after
            for _ in range(most - least):
                start = self._add(_State("split", None, self._compile(inner, start), after))
        for _ in range(least):
            start = self._compile(inner, start)
        return start


def check_pattern(pattern: str) -> None:
    """Checks that a pattern can be compiled.

    Raises:
        ValueError: it can't.
    """
    Regex(pattern)
