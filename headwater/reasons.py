"""Closed sets of reasons: why bytes are dead letters, readings are dropped, frames are given up.

They are labels of counters too, so they stay few, short and without data in them.
"""

from enum import IntEnum, StrEnum


class DeadLetterReason(StrEnum):
    """Why the gateway or the processor could not admit something."""

    TOO_LARGE = "too_large"
    INFLATE = "inflate"
    PARSE = "parse"
    VERSION = "version"
    CHECKSUM = "checksum"
    SCHEMA = "schema"
    LIMIT = "limit"
    NAME = "name"
    IDENTITY = "identity"
    TOPIC = "topic"
    NOT_FINITE = "not_finite"
    TIME_RANGE = "time_range"
    REFUSED = "refused"  # The store's server took the frame but not this point, and would not take it later.
    EXPIRED = "expired"  # The same, because the point is older than what the server keeps.
    ALIAS = "alias"  # Sparkplug: no birth says what this metric is.
    LATE = "late"  # A note only: these readings are stored, but came too late for their windows.


class LeftOutReason(StrEnum):
    """Why a metric of an admitted Sparkplug message became no reading; counted, not kept."""

    TEXT = "text"
    KIND = "kind"  # Data sets, templates, arrays, files, bytes, dates: neither a number nor text.
    NULL = "null"
    CONTROL = "control"  # bdSeq and the Node Control and Device Control metrics.
    NAME = "name"  # Its birth was told that this name is taken or impossible.
    FRAME = "frame"  # The message carries the native frame that its metrics were made of; that is admitted.
    REPEAT = "repeat"  # The newest reading once more, as a birth after a birth says it.


class DropReason(StrEnum):
    """Why the device gave up a reading before it was accepted into the spool."""

    NOT_FINITE = "not_finite"
    CLOCK_REGRESS = "clock_regress"
    DUPLICATE_TIME = "duplicate_time"
    OVERLOAD = "overload"
    SPOOL_REFUSED = "spool_refused"


class GapReason(StrEnum):
    """Why accepted frames were given up; always declared by a sequenced record."""

    SPOOL_FULL = "spool_full"
    SPOOL_DAMAGED = "spool_damaged"
    MAX_AGE = "max_age"
    LYING_DISK = "lying_disk"
    PURGED = "purged"


class ClockQuality(IntEnum):
    """How far a device's clock could be trusted when it made a frame (contracts §4)."""

    UNSYNCED = 0
    HOLDOVER = 1
    CORRECTED = 2
    SYNCED = 3


class Severity(StrEnum):
    """How much an anomaly or alert asks of people."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"
