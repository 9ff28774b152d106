"""The store on InfluxDB: readings, windows and events as line protocol, and the books beside them (docs/influxdb.md).

    StoreWrite ─▶ lines, a list of bodies a bucket ─▶ POST, one after the other ─▶ books: one transaction, fsync
                        ▲                                  │
                        └── same bytes again ◀── no answer, 429, 5xx          4xx ─▶ halves … ─▶ dead letters
                                      └── 5xx for minutes on the same body ─▶ halves … ─▶ a line on which it alone fails

InfluxDB takes no transactions. A write that broke off half-way is written again whole, by the processor or after a
crash from its log; a point is known by measurement, tags and time, so that changes nothing. The books come last: what
they call stored, and so what devices are told, is in InfluxDB.
"""

import threading
from collections import deque
from dataclasses import asdict, dataclass, field, replace

from headwater.batch import DeadLetter
from headwater.breaker import Breaker
from headwater.errors import ConnectError
from headwater.instant import US_PER_S
from headwater.io.store_check import check_write
from headwater.io.store_influx_http import Answer, InfluxHttp, pack, unpack
from headwater.io.store_influx_letters import FAILING_MIN, WORDS_MAX, doomed, letter_of
from headwater.io.store_influx_options import InfluxOptions
from headwater.io.store_sqlite import SqliteStore
from headwater.line_protocol import cut_lines, point_lines, telemetry_lines
from headwater.patience import Patience
from headwater.points import StoreWrite
from headwater.ports import Clock

FAILURES_MAX = 3
PAUSE_US = US_PER_S
PAUSE_US_MAX = 10 * US_PER_S
# A body on which the server failed so often and for so long is searched for lines that make it fail; where such a line
# was found within the hour, the next is looked for sooner.
SEARCH_FAILURES_MIN = 8
SEARCH_AFTER_US = 300 * US_PER_S
SEARCH_AGAIN_AFTER_US = 20 * US_PER_S
FOUND_US_MAX = 3600 * US_PER_S
# A line is given up when the server failed on it alone so often, and each time took another line right after.
TRIALS = 3
# More such lines in a body are the server's trouble and not theirs.
FOUND_MAX = 8
FOUND_PERCENT_MAX = 10

_REFUSED = frozenset({400, 413, 422})
_LATER = frozenset({408, 425, 429})


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
        self._patience = Patience(SEARCH_FAILURES_MIN, SEARCH_AFTER_US)
        self._found_us = -FOUND_US_MAX
        self._taken: dict[str, bytes] = {}
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
                self._patience.restart()
            work = self._work
            while work.bodies:
                bucket, body, lines = work.bodies[0]
                letters = self._deliver(bucket, body, lines)
                self.sent.points += lines - len(letters)
                self.sent.refused += len(letters)
                work.letters += letters
                work.bodies.popleft()
                self._patience.restart()
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

    def _deliver(self, bucket: str, body: bytes, count: int) -> list[DeadLetter]:
        """Sends a body until the server has taken all but the lines that it refuses one by one; returns these.

        Where it has failed on the body for too long, also those on which it fails one by one.
        """
        level, now_us = self._options.gzip_level, self._clock.monotonic_us()
        has_found = now_us - self._found_us < FOUND_US_MAX
        self._patience.span_us = SEARCH_AGAIN_AFTER_US if has_found else SEARCH_AFTER_US
        is_search = self._patience.is_over(now_us) and not self._breaker.wait_us(now_us)
        if is_search:
            self._patience.restart()  # Where it finds nothing, the next search is as far away as this one was.
        letters: list[DeadLetter] = []
        suspects: list[bytes] = []
        pieces = [body]
        while pieces:
            piece = pieces.pop()
            answer = self._post(bucket, piece, is_search=is_search)
            if answer.is_good:
                self._taken[bucket] = piece
                continue
            if piece is body and answer.status in _REFUSED:
                self._check_request(bucket)
            lines = unpack(piece, level).splitlines(keepends=True)
            if answer.status >= FAILING_MIN and len(lines) == 1:
                suspects.append(piece)
                if len(suspects) > min(FOUND_MAX, 1 + count * FOUND_PERCENT_MAX // 100):
                    raise self._troubled(bucket, answer)
                continue
            gone = doomed(lines, answer)
            if gone is not None:
                letters += [letter_of(line, answer) for line in gone]
                continue
            half = len(lines) // 2
            pieces += [pack(b"".join(part), level) for part in (lines[half:], lines[:half])]
        letters += [self._try(bucket, line) for line in suspects]
        if suspects:
            self._found_us = now_us
        return letters

    def _try(self, bucket: str, line: bytes) -> DeadLetter:
        """Returns the dead letter of a line on which the server fails each time, and each time right after it took another.

        The other one is what the bucket took last, so it is the same point with the same values. Raises in all other
        cases: then the server's failing says nothing about the line, and the body is sent again.
        """
        level = self._options.gzip_level
        answer = self._post(bucket, line, is_search=True)
        for _ in range(TRIALS):
            if answer.status < FAILING_MIN or bucket not in self._taken:
                raise self._troubled(bucket, answer)
            other = unpack(self._taken[bucket], level).splitlines(keepends=True)[-1]
            control = self._post(bucket, pack(other, level), is_search=True)
            if not control.is_good:
                raise self._troubled(bucket, control)
            answer = self._post(bucket, line, is_search=True)
        return letter_of(unpack(line, level), answer)

    def _post(self, bucket: str, body: bytes, *, is_search: bool) -> Answer:
        """Returns an answer of the kind "stored" or "refused", in a search also "failed"; everything else raises ConnectError."""
        wait_us = self._breaker.wait_us(self._clock.monotonic_us())
        if wait_us:
            raise ConnectError(f"{self._trouble}; tried again in {wait_us / US_PER_S:.1f} s")
        self.sent.requests += 1
        self.sent.bytes += len(body)
        try:
            answer = self._http.write(bucket, body)
        except ConnectError as error:
            self._patience.restart()
            self._note_trouble(str(error))
            raise
        if answer.is_good or answer.status in _REFUSED:
            self._breaker.succeeded()
        elif answer.status < FAILING_MIN:
            self._patience.restart()
            raise self._troubled(bucket, answer)
        elif not is_search:
            self._patience.failed(self._clock.monotonic_us())
            raise self._troubled(bucket, answer)
        return answer

    def _check_request(self, bucket: str) -> None:
        """Raises if the server refuses our requests and not our lines: then none of these may be given up."""
        try:
            refusal = self._http.refusal(bucket)
        except ConnectError as error:
            self._note_trouble(str(error))
            raise
        if refusal is not None:
            raise self._troubled(bucket, refusal)

    def _troubled(self, bucket: str, answer: Answer) -> ConnectError:
        """Counts an answer for the breaker and returns what to raise."""
        self._note_trouble(self._trouble_of(bucket, answer), answer.wait_us)
        return ConnectError(self._trouble)

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
