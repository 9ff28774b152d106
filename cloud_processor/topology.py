"""Which operators a shard's task is made of."""

from cloud_processor.settings import ProcessorSettings
from headwater.pane_windows import PaneWindows
from headwater.task import Operator, Task, TaskLimits
from headwater.window import AlignedWindower, Cumulative, Sliding, Tumbling, parse_windower


def build_task(settings: ProcessorSettings, shard: int) -> Task:
    """Builds the task of one shard; equal settings give equal tasks."""
    limits = TaskLimits(
        out_of_orderness_us=settings.out_of_orderness_us,
        allowed_lateness_us=settings.allowed_lateness_us,
        max_offline_us=settings.max_offline_us,
        future_us=settings.future_us,
    )
    return Task(shard, window_operators(settings), limits)


def window_operators(settings: ProcessorSettings) -> list[Operator]:
    """The operators that report the windows of the settings."""
    windowers = [parse_windower(text) for text in settings.windows]
    aligned: list[AlignedWindower] = [w for w in windowers if isinstance(w, Tumbling | Sliding | Cumulative)]
    operators: list[Operator] = []
    if aligned:
        operators.append(
            PaneWindows(aligned, allowed_lateness_us=settings.allowed_lateness_us, quantiles=settings.quantiles)
        )
    return operators
