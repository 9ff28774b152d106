"""What a gateway that starts again reads from the log, so that it neither forgets orders nor acknowledges wrongly."""

from collections.abc import Iterator

from gateway.frontiers import FrontierBook
from gateway.retained import RetainedMessages
from headwater import log_topics
from headwater.batch_arrow import batch_from_arrow
from headwater.names import mqtt_topic
from headwater.ports import FrontierRow, Log, LogRecord

TAIL_RECORDS = 256
_READ_MAX = 64


def restore_configurations(log: Log, partitions: int, retained: RetainedMessages) -> int:
    """Puts the latest retained configuration of every device back; returns how many there were."""
    count = 0
    for partition in range(partitions):
        for record in _records(log, log_topics.DEVICES, partition, log.start(log_topics.DEVICES, partition)):
            site, _, rest = record.key.decode().partition("/")
            device, _, leaf = rest.partition("/")
            if leaf == "config":
                retained.put(mqtt_topic(site, device, leaf), record.value, 1)
                count += 1
    return count


def restore_frontiers(log: Log, partitions: int, book: FrontierBook) -> list[FrontierRow]:
    """Notes the frames at the tail of the log and returns what is durable of their devices.

    The tail is enough: a frame says which older ones its device has been told of, so what lies further back is either
    below that mark or comes again, which costs a duplicate and never an ack of a frame that is not here.
    """
    rows: dict[tuple[str, str, int], FrontierRow] = {}
    for partition in range(partitions):
        end = log.end(log_topics.READINGS, partition)
        start = max(log.start(log_topics.READINGS, partition), end - TAIL_RECORDS)
        for record in _records(log, log_topics.READINGS, partition, start):
            for row in book.note([batch_from_arrow(record.value)]):
                rows[row.site, row.device, row.epoch] = row
    return list(rows.values())


def _records(log: Log, log_topic: str, partition: int, offset: int) -> Iterator[LogRecord]:
    while True:
        records = log.read(log_topic, partition, offset, _READ_MAX)
        if not records:
            return
        yield from records
        offset = records[-1].offset + 1
