"""Dead letters in two forms: short ones inside a batch, full ones as log records; many of one kind lose their bytes."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from gateway.limits import TokenBucket
from headwater import log_topics
from headwater.batch import DeadLetter
from headwater.names import shard_of
from headwater.ports import LogRecord

IN_BATCH_MAX_BYTES = 1024
SOURCES_MAX = 10_000


class LetterBook:
    """Decides which dead letters are kept whole.

    Every letter is kept with its reason and identity. A source that sends more than `letters_max` a second (twice that
    at once) keeps its place in the batch and the log, but its bytes are left out and the record says so.
    """

    def __init__(self, letters_max: int) -> None:
        self._letters_max = letters_max
        self._buckets: dict[tuple[str, str], TokenBucket] = {}
        self.by_reason: Counter[str] = Counter()

    def admit(self, letters: Iterable[DeadLetter]) -> tuple[list[DeadLetter], list[DeadLetter]]:
        """Counts letters; returns the ones to keep whole and the ones that lose their bytes."""
        whole: list[DeadLetter] = []
        bare: list[DeadLetter] = []
        for letter in letters:
            self.by_reason[letter.reason] += 1
            source = (letter.site, letter.device)
            bucket = self._buckets.get(source)
            if bucket is None:
                if len(self._buckets) >= SOURCES_MAX:
                    self._buckets.clear()
                bucket = TokenBucket(self._letters_max, 2 * self._letters_max, letter.at_us)
                self._buckets[source] = bucket
            (whole if bucket.take(1, letter.at_us) else bare).append(letter)
        return whole, bare


def shortened(letter: DeadLetter) -> DeadLetter:
    """Returns the letter as it stands in a batch: with at most `IN_BATCH_MAX_BYTES` of payload."""
    if len(letter.payload) <= IN_BATCH_MAX_BYTES:
        return letter
    return replace(letter, payload=letter.payload[:IN_BATCH_MAX_BYTES])


def bundle(letters: list[DeadLetter], partitions: int) -> list[LogRecord]:
    """Writes letters without bytes as one record per device and reason, with their number and the seqs known."""
    kinds: dict[tuple[str, str, str], list[DeadLetter]] = {}
    for letter in letters:
        kinds.setdefault((letter.site, letter.device, letter.reason), []).append(letter)
    records = []
    for alike in kinds.values():
        last = alike[-1]
        more = {"count": str(len(alike)), "bytes": "left out: too many"}
        seqs = [f"{letter.epoch}:{letter.seq}" for letter in alike if letter.seq]
        if seqs:
            more["seqs"] = " ".join(seqs[:1000])
        records.append(letter_record(replace(last, payload=b""), partitions, more))
    return records


def letter_record(letter: DeadLetter, partitions: int, more: dict[str, str] | None = None) -> LogRecord:
    """Writes a letter for `headwater.dead-letters`: the original bytes as the value, the rest as headers."""
    headers = {
        "reason": str(letter.reason),
        "stage": letter.stage,
        "source": letter.source,
        "detail": letter.detail,
        "site": letter.site,
        "device": letter.device,
        "epoch": str(letter.epoch),
        "seq": str(letter.seq),
        "readings": str(letter.readings),
    } | (more or {})
    key = f"{letter.site}/{letter.device}".encode()
    shard = shard_of(letter.site, letter.device, partitions)
    return LogRecord(log_topics.DEAD_LETTERS, shard, key, letter.payload, letter.at_us, headers)
