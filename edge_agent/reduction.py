"""How a metric's readings are reduced: the text of `Metric.reduction`, taken apart."""

from dataclasses import dataclass
from math import isfinite

from headwater.errors import SettingsError
from headwater.instant import parse_duration_us

KINDS = ("raw", "deadband", "swing", "summary")


@dataclass(frozen=True, slots=True)
class Reduction:
    """A parsed reduction.

    Attributes:
        kind: one of KINDS.
        epsilon: largest distance of a reconstructed from the raw reading (deadband and swing).
        width_us: width of a pane (summary).
        with_sketch: whether panes carry a quantile sketch.
    """

    kind: str
    epsilon: float = 0.0
    width_us: int = 0
    with_sketch: bool = False

    @property
    def epsilon_bounded(self) -> bool:
        """True for those that promise an error."""
        return self.kind in {"deadband", "swing"}


def parse_reduction(text: str) -> Reduction:
    """Reads "raw", "deadband:0.5", "swing:0.05", "summary:10s" or "summary:10s:sketch".

    >>> parse_reduction("swing:0.05")
    Reduction(kind='swing', epsilon=0.05, width_us=0, with_sketch=False)

    Raises:
        SettingsError: the text is none of these.
    """
    kind, _, argument = text.strip().partition(":")
    if kind == "raw" and not argument:
        return Reduction("raw")
    if kind in {"deadband", "swing"}:
        try:
            epsilon = float(argument)
        except ValueError:
            epsilon = -1.0
        if not isfinite(epsilon) or epsilon < 0 or (kind == "swing" and epsilon == 0):
            raise SettingsError(f'reduction {text!r}: write the largest error after the colon, such as "{kind}:0.05"')
        return Reduction(kind, epsilon=epsilon)
    if kind == "summary":
        width, _, option = argument.partition(":")
        width_us = parse_duration_us(width)
        if width_us > 0 and option in {"", "sketch"}:
            return Reduction("summary", width_us=width_us, with_sketch=option == "sketch")
        raise SettingsError(
            f'reduction {text!r}: write a width above zero, such as "summary:10s" or "summary:10s:sketch"'
        )
    raise SettingsError(f'reduction {text!r} is unknown: write "raw", "deadband:0.5", "swing:0.05" or "summary:10s"')
