"""What can be wrong with a query, said as InfluxDB says it."""


class ParseError(ValueError):
    """The text is no query; the whole request is answered with 400 and `error parsing query: …`."""


class QueryError(ValueError):
    """One statement can't be answered; it stands in that statement's result, the others are answered."""


def found(what: str, expected: tuple[str, ...], line: int, char: int) -> ParseError:
    """Returns the error of a token that doesn't fit; `line` and `char` count from 1.

    >>> str(found("x", ("integer",), 1, 23))
    'found x, expected integer at line 1, char 23'
    """
    return ParseError(f"found {what}, expected {', '.join(expected)} at line {line}, char {char}")
