"""Which shards a processor takes, written by people: "0-5", "0,3,7-11" or "" for all."""


def parse_shards(text: str, partitions: int) -> tuple[int, ...]:
    """Returns the shards that `text` names, rising; all of them for "".

    Raises:
        ValueError: it is not a list of shards and ranges of shards below `partitions`.

    >>> parse_shards("0-2, 5", 12), parse_shards("", 3)
    ((0, 1, 2, 5), (0, 1, 2))
    """
    if not text.strip():
        return tuple(range(partitions))
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not all(piece.isascii() and piece.isdigit() for piece in (first, last if dash else first)):
            raise ValueError(f'shards = {text!r}: write "0-5" or "0,3,7-11"')
        low, high = int(first), int(last if dash else first)
        if not low <= high < partitions:
            raise ValueError(
                f"shards = {text!r}: there are shards 0 to {partitions - 1}, and {part.strip()} is not of them"
            )
        found.update(range(low, high + 1))
    return tuple(sorted(found))
