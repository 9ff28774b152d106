"""Which operators a shard's task is made of."""

from cloud_processor.alerts import AlertLimits, Alerts
from cloud_processor.anomalies import AnomalyRows
from cloud_processor.health import Health, HealthModel
from cloud_processor.pipeline_rows import PipelineRows
from cloud_processor.settings import ProcessorSettings
from cloud_processor.twin import Twin
from headwater.pane_windows import PaneWindows
from headwater.series_windows import SeriesWindows
from headwater.task import Operator, Task, TaskLimits
from headwater.window import AlignedWindower, Count, Cumulative, Global, Session, Sliding, Tumbling, parse_windower


def build_task(settings: ProcessorSettings, shard: int) -> Task:
    """Builds the task of one shard; equal settings give equal tasks."""
    limits = TaskLimits(
        out_of_orderness_us=settings.out_of_orderness_us,
        allowed_lateness_us=settings.allowed_lateness_us,
        max_offline_us=settings.max_offline_us,
        future_us=settings.future_us,
    )
    operators: list[Operator] = [
        *window_operators(settings),
        AnomalyRows(),
        Health(health_model(settings)),
        Twin(offline_after_us=settings.offline_after_us, report_every_us=settings.twin_every_us),
        Alerts(alert_limits(settings)),
        PipelineRows(shard, every_us=settings.pipeline_every_us),
    ]
    return Task(shard, operators, limits)


def health_model(settings: ProcessorSettings) -> HealthModel:
    """What health is judged by; it reads the narrowest tumbling window."""
    tumbling = [w for w in map(parse_windower, settings.windows) if isinstance(w, Tumbling)]
    narrow = min(tumbling, key=lambda w: w.size_us, default=Tumbling(10_000_000))
    return HealthModel(
        window=narrow.label,
        window_us=narrow.size_us,
        baseline=settings.health_baseline,
        report_every_us=settings.health_every_us,
        horizon_h=settings.lead_us / 3_600_000_000,
        components={name: tuple(parts) for name, parts in settings.health_components.items()},
        regime=tuple(settings.health_regime),
    )


def alert_limits(settings: ProcessorSettings) -> AlertLimits:
    """When alerts fire."""
    return AlertLimits(
        offline_after_us=settings.offline_alert_us,
        hold_us=settings.alert_hold_us,
        forget_us=settings.alert_forget_us,
        health_lo=settings.health_lo,
        health_hi=settings.health_hi,
        lead_h=settings.lead_us / 3_600_000_000,
    )


def window_operators(settings: ProcessorSettings) -> list[Operator]:
    """The operators that report the windows of the settings."""
    windowers = [parse_windower(text) for text in settings.windows]
    aligned: list[AlignedWindower] = [w for w in windowers if isinstance(w, Tumbling | Sliding | Cumulative)]
    operators: list[Operator] = []
    if aligned:
        operators.append(
            PaneWindows(aligned, allowed_lateness_us=settings.allowed_lateness_us, quantiles=settings.quantiles)
        )
    kept = [w for w in windowers if isinstance(w, Session | Count | Global)]
    operators += [SeriesWindows(w, allowed_lateness_us=settings.allowed_lateness_us) for w in kept]
    return operators
