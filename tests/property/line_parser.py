"""A plain reader and a plain writer of line protocol, a point at a time: what the column encoder is held against."""

import math
import re
from typing import Any

Point = tuple[str, dict[str, str], dict[str, Any], int]


def split(text: str, separator: str, *, quotes: bool = False, once: bool = False) -> list[str]:
    """Splits at separators that are neither escaped by a backslash nor, with `quotes`, inside a string."""
    pieces, piece, is_quoted, at = [], "", False, 0
    while at < len(text):
        letter = text[at]
        if letter == "\\" and text[at + 1 : at + 2] in (tuple('"\\') if is_quoted else (" ", ",", "=")):
            piece += text[at : at + 2]
            at += 2
            continue
        is_quoted ^= quotes and letter == '"'
        if letter == separator and not is_quoted:
            if once:
                return [piece, text[at + 1 :]]
            pieces.append(piece)
            piece = ""
        else:
            piece += letter
        at += 1
    assert not is_quoted
    return [*pieces, piece]


def plain_tag(text: str) -> str:
    return re.sub(r"\\([ ,=])", r"\1", text)


def value(text: str) -> Any:
    if text.startswith('"'):
        return re.sub(r'\\(["\\])', r"\1", text[1:-1])
    if text in ("t", "f"):
        return text == "t"
    return int(text[:-1]) if text.endswith("i") else float(text)


def parse(line: str) -> Point:
    head, rest = split(line, " ", once=True)
    fields, time_ns = split(rest, " ", quotes=True)
    measurement, *tags = split(head, ",")
    pairs = [split(tag, "=") for tag in tags]
    told = [field.partition("=") for field in split(fields, ",", quotes=True)]
    return (
        measurement,
        {name: plain_tag(text) for name, text in pairs},
        {name: value(text) for name, _, text in told},
        int(time_ns),
    )


def parse_all(data: bytes) -> list[Point]:
    assert not data or data.endswith(b"\n")
    return [parse(line) for line in data.decode().split("\n")[:-1]]


def number(value: float) -> str:
    return repr(value).removesuffix(".0")


def line(measurement: str, tags: dict[str, str], fields: dict[str, Any], time_ns: int) -> str:
    """One line, the plain way."""
    escaped = {name: re.sub(r"([ ,=])", r"\\\1", text) for name, text in tags.items() if text}
    head = measurement + "".join(f",{name}={text}" for name, text in escaped.items())
    told = []
    for name, cell in fields.items():
        if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
            continue
        if isinstance(cell, bool):
            told.append(f"{name}={'t' if cell else 'f'}")
        elif isinstance(cell, int):
            told.append(f"{name}={cell}i")
        elif isinstance(cell, float):
            told.append(f"{name}={number(cell)}")
        else:
            told.append('{}="{}"'.format(name, cell.replace("\\", "\\\\").replace('"', '\\"')))
    return f"{head} {','.join(told)} {time_ns}\n" if told else ""
