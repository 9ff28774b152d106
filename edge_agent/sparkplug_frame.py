"""A native frame's readings as Sparkplug metrics, and what Sparkplug has no word for; pure."""

from dataclasses import dataclass

from headwater.frame import Frame
from headwater.quality import BAD_MIN, MISSING
from headwater.sparkplug_codec import QUALITY_BAD, SparkplugMetric

US_PER_MS = 1_000


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest reading of a metric, for births."""

    time_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a frame becomes.

    Attributes:
        metrics: by alias, in the order of time.
        newest: of each metric, by name.
        left_out: readings that can't be said: of waveforms, and all but the last of one metric in one millisecond.
        unsaid: panes and anomalies, for which there is no form.
    """

    metrics: tuple[SparkplugMetric, ...]
    newest: dict[str, Newest]
    left_out: int
    unsaid: int


def speak(frame: Frame, aliases: dict[str, int], *, is_historical: bool) -> Spoken:
    """Turns a frame's readings into metrics; every name has an alias.

    Bad readings have the property Quality 0; uncertain ones are said like good ones.
    """
    said: dict[tuple[int, str], tuple[float, bool]] = {}
    count = left_out = 0
    for block in frame.blocks:
        if block.rate_hz is not None:
            left_out += block.reading_count
            continue
        times_ms = (block.time_us // US_PER_MS).tolist()
        for row, metric in enumerate(block.metrics):
            values = block.value[row].tolist()
            quality = [0] * len(values) if block.quality is None else block.quality[row].tolist()
            for time_ms, value, code in zip(times_ms, values, quality, strict=True):
                if code != MISSING:
                    said[time_ms, metric] = value, code >= BAD_MIN
                    count += 1
    newest: dict[str, Newest] = {}
    metrics = []
    for (time_ms, metric), (value, is_bad) in sorted(said.items()):
        newest[metric] = Newest(time_ms, value)
        metrics.append(
            SparkplugMetric(
                "",
                aliases[metric],
                time_ms,
                raw=value,
                field="double_value",
                is_historical=is_historical,
                quality=QUALITY_BAD if is_bad else None,
            )
        )
    unsaid = len(frame.summaries) + len(frame.anomalies)
    return Spoken(tuple(metrics), newest, left_out + count - len(metrics), unsaid)
