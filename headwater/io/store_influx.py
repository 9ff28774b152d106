"""The store on InfluxDB: readings, windows and events as line protocol, and the books beside them (docs/influxdb.md).

    StoreWrite ─▶ lines, a list of bodies a bucket ─▶ POST, one after the other ─▶ books: one transaction, fsync
                        ▲                                  │
                        └── same bytes again ◀── no answer, 429, 5xx          4xx ─▶ halves … ─▶ dead letters

InfluxDB takes no transactions. A write that broke off half-way is written again whole, by the processor or after a
crash from its log; a point is known by measurement, tags and time, so that changes nothing. The books come last: what
they call stored, and so what devices are told, is in InfluxDB.
"""

import re
import threading
from collections import deque
from dataclasses import asdict, dataclass, field, replace

from headwater.batch import DeadLetter
from headwater.breaker import Breaker
from headwater.errors import ConnectError
from headwater.instant import US_PER_S
from headwater.io.store_check import check_write
from headwater.io.store_influx_http import Answer, InfluxHttp, pack, unpack
from headwater.io.store_influx_options import InfluxOptions
from headwater.io.store_sqlite import SqliteStore
from headwater.line_protocol import cut_lines, point_lines, telemetry_lines
from headwater.points import StoreWrite
from headwater.ports import Clock
from headwater.reasons import DeadLetterReason

FAILURES_MAX = 3
PAUSE_US = US_PER_S
PAUSE_US_MAX = 10 * US_PER_S

_REFUSED = frozenset({400, 413, 422})
_LATER = frozenset({408, 425, 429})
_DROPPED = re.compile(r"\bdropped[= ](\d+)")
_EXPIRED = re.compile(r"(beyond|outside) retention policy")
_TOO_OLD = "older than what the bucket keeps"
WORDS_MAX = 400
_TAG = re.compile(rb",(site|device)=((?:\\.|[^, \\])*)")


@dataclass(slots=True)
class Sent:
    """What an InfluxStore did since it was opened.

    Attributes:
        points: stored.
        bytes: sent, compressed, repeats included.
        requests: sent.
        retries: how often one failed and is sent again.
        refused: points that became dead letters.
    """

    points: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    refused: int = 0


@dataclass(slots=True)
class _Work:
    """A write under way: the bodies that InfluxDB has not yet taken, as (bucket, packed lines, how many), and what it refused."""

    write: StoreWrite
    bodies: deque[tuple[str, bytes, int]]
    letters: list[DeadLetter] = field(default_factory=list)


class InfluxStore:
    """Writes InfluxDB and the books; `headwater.ports.KeptStore`. Safe to call from several threads.

    Args:
        options: where and how.
        books: `headwater.io.store_sqlite_books.Books`; closed with the store.
        clock: tells a breaker when a dead server may be tried again.

    Attributes:
        sent: counters.
        set_aside: as that of the books.
    """

    def __init__(self, options: InfluxOptions, books: SqliteStore, clock: Clock) -> None:
        self._options, self._books, self._clock = options, books, clock
        self._http = InfluxHttp(options)
        self._breaker = Breaker(FAILURES_MAX, PAUSE_US, PAUSE_US_MAX)
        self._trouble = ""
        self._lock = threading.Lock()
        self._work: _Work | None = None
        self.sent = Sent()
        self.set_aside = books.set_aside

    def write(self, write: StoreWrite) -> None:
        """Stores all of it, points that the server refuses as dead letters; the same write again changes nothing.

        After a ConnectError the same object goes on where it stopped, with the same bytes.

        Raises:
            ConnectError: the server or the books can't be written now, or the server's settings or rights are wrong,
                which it says.
            RejectedError: see `check_write`.
        """
        check_write(write)
        with self._lock:
            if self._work is None or self._work.write is not write:
                self._work = _Work(write, self._bodies(write))
            work = self._work
            while work.bodies:
                bucket, body, lines = work.bodies[0]
                letters = self._deliver(bucket, body)
                self.sent.points += lines - len(letters)
                self.sent.refused += len(letters)
                work.letters += letters
                work.bodies.popleft()
            tables = tuple(table for table in write.tables if table.measurement != "window")
            self._books.write(replace(write, tables=tables, dead_letters=(*write.dead_letters, *work.letters)))
            self._work = None

    def counters(self) -> dict[str, int]:
        """What it did since it was opened; see `Sent`."""
        return asdict(self.sent)

    def retain(self, now_us: int) -> int:
        """Lets the books go of old events and dead letters; InfluxDB keeps its own retention."""
        return self._books.retain(now_us)

    def close(self) -> None:
        """Closes the connections and the books."""
        with self._lock:
            self._http.close()
            self._books.close()

    def _bodies(self, write: StoreWrite) -> deque[tuple[str, bytes, int]]:
        options = self._options
        chunks: dict[str, list[bytes]] = {}
        for batch in write.telemetry:
            chunks.setdefault(options.raw, []).extend(telemetry_lines(batch))
        for table in write.tables:
            bucket = options.windows if table.measurement == "window" else options.events
            chunks.setdefault(bucket, []).extend(point_lines(table))
        return deque(
            (bucket, pack(piece, options.gzip_level), piece.count(b"\n"))
            for bucket, lines in chunks.items()
            for piece in cut_lines(b"".join(lines), options.lines_max, options.bytes_max)
        )

    def _deliver(self, bucket: str, body: bytes) -> list[DeadLetter]:
        """Sends a body until the server has taken all but the lines that it refuses one by one; returns these."""
        level = self._options.gzip_level
        letters: list[DeadLetter] = []
        pieces = [body]
        while pieces:
            piece = pieces.pop()
            answer = self._post(bucket, piece)
            if answer.status not in _REFUSED:
                continue
            if piece is body:
                self._check_request(bucket)
            lines = unpack(piece, level).splitlines(keepends=True)
            doomed = _doomed(lines, answer)
            if doomed is not None:
                letters += [_letter(line, answer) for line in doomed]
                continue
            half = len(lines) // 2
            pieces += [pack(b"".join(part), level) for part in (lines[half:], lines[:half])]
        return letters

    def _post(self, bucket: str, body: bytes) -> Answer:
        """Returns an answer of the kind "stored" or "refused"; everything else raises ConnectError and counts for the breaker."""
        wait_us = self._breaker.wait_us(self._clock.monotonic_us())
        if wait_us:
            raise ConnectError(f"{self._trouble}; tried again in {wait_us / US_PER_S:.1f} s")
        self.sent.requests += 1
        self.sent.bytes += len(body)
        try:
            answer = self._http.write(bucket, body)
        except ConnectError as error:
            self._note_trouble(str(error))
            raise
        if not 200 <= answer.status < 300 and answer.status not in _REFUSED:
            self._note_trouble(self._trouble_of(bucket, answer), answer.wait_us)
            raise ConnectError(self._trouble)
        self._breaker.succeeded()
        return answer

    def _check_request(self, bucket: str) -> None:
        """Raises if the server refuses our requests and not our lines: then none of these may be given up."""
        try:
            refusal = self._http.refusal(bucket)
        except ConnectError as error:
            self._note_trouble(str(error))
            raise
        if refusal is not None:
            self._note_trouble(self._trouble_of(bucket, refusal), refusal.wait_us)
            raise ConnectError(self._trouble)

    def _note_trouble(self, trouble: str, asked_us: int = 0) -> None:
        self.sent.retries += 1
        self._trouble = trouble
        self._http.forget_version()
        self._breaker.failed(self._clock.monotonic_us(), asked_us)

    def _trouble_of(self, bucket: str, answer: Answer) -> str:
        said = f"{self._http.url} answers {answer.status} {answer.message[:WORDS_MAX]}".rstrip()
        if answer.status in _LATER or answer.status >= 500:
            return said
        if answer.status in {401, 403}:
            return f"{said}: it doesn't let us write {bucket!r}; look at influx.token_file, or run `headwater influx setup`"
        if answer.status == 404:
            return f"{said}: is there a bucket {bucket!r}? `headwater influx setup` makes it"
        return f"{said}: are influx.org and pipeline.store (its version, its ?org=NAME) right?"


def _doomed(lines: list[bytes], answer: Answer) -> list[bytes] | None:
    """Which lines of a refused body the server will never take, as far as its answer tells; None: ask for the halves."""
    if len(lines) == 1:
        return lines
    found = _DROPPED.search(answer.message)
    dropped = int(found[1]) if found else 0
    if dropped == len(lines) and answer.status != 413:
        return lines
    if dropped and _EXPIRED.search(answer.message):
        # All others are stored, and those that are too old are the oldest.
        return sorted(lines, key=_time_us)[:dropped]
    return None


def _time_us(line: bytes) -> int:
    return int(line.rpartition(b" ")[2]) // 1_000


def _letter(line: bytes, answer: Answer) -> DeadLetter:
    """The dead letter of a line; the same for the same line whatever stood beside it and whenever, so a replay adds none."""
    head = line.partition(b" ")[0]
    tags = {name.decode(): text.decode("utf-8", "replace") for name, text in _TAG.findall(head)}
    measurement = head.partition(b",")[0].decode()
    reason, detail = DeadLetterReason.REFUSED, _DROPPED.sub("", answer.message)[:WORDS_MAX].strip()
    if _EXPIRED.search(answer.message):
        # The server's own words name the moment.
        reason, detail = DeadLetterReason.EXPIRED, _TOO_OLD
    return DeadLetter(
        _time_us(line), reason, "store", f"influxdb/{measurement}", detail or f"status {answer.status}",
        tags.get("site", ""), tags.get("device", ""), readings=int(measurement == "telemetry"), payload=line[:65_536],
    )  # fmt: skip
