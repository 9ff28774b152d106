"""Takes some frames out of a batch, with everything that belongs to them."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from headwater.batch import Batch
from headwater.frame import Int64
from headwater.summary_rows import take_summaries


def select_frames(batch: Batch, keep: npt.NDArray[np.bool_]) -> Batch:
    """Returns the batch with the frames where `keep` (k,) is True, in order; the same object if all are.

    Dead letters and statuses stay: they belong to the batch, not to a frame.
    """
    if keep.all():
        return batch
    readings = np.repeat(keep, np.diff(batch.reading_start))
    panes = np.repeat(keep, np.diff(batch.summary_start))
    row = np.cumsum(keep) - 1
    return replace(
        batch,
        device=batch.device[keep],
        epoch=batch.epoch[keep],
        seq=batch.seq[keep],
        received_us=batch.received_us[keep],
        created_us=batch.created_us[keep],
        clock=batch.clock[keep],
        oldest_seq=batch.oldest_seq[keep],
        reading_start=_starts(batch.reading_start, keep),
        metric=batch.metric[readings],
        time_us=batch.time_us[readings],
        value=batch.value[readings],
        quality=batch.quality[readings],
        summary_start=_starts(batch.summary_start, keep),
        ledger=batch.ledger[keep],
        payload_bytes=batch.payload_bytes[keep],
        summaries=take_summaries(batch.summaries, panes),
        anomalies=tuple((int(row[i]), anomaly) for i, anomaly in batch.anomalies if keep[i]),
        gaps=tuple((int(row[i]), gap) for i, gap in batch.gaps if keep[i]),
    )


def _starts(start: Int64, keep: npt.NDArray[np.bool_]) -> Int64:
    return np.concatenate([[0], np.cumsum(np.diff(start)[keep])]).astype(np.int64)
