"""How values look in Grafana: units, thresholds, words for numbers, and the text where nothing is."""

from dataclasses import dataclass

from grafana_foundation_sdk.models import dashboard as model

RED, ORANGE, GREEN, BLUE, GREY = "red", "orange", "green", "blue", "#8e8e8e"


@dataclass(frozen=True, slots=True)
class Look:
    """How the values of a panel or of one column look.

    Attributes:
        unit: Grafana's name of a unit; "" for a plain number.
        decimals: digits after the point; None lets Grafana choose.
        low, high: ends of the scale; None for what the data have.
        steps: (from value on, colour), ascending; the first from None. () draws without thresholds.
        words: {value: (word, colour)}.
        nothing: what stands where the answer is empty.
    """

    unit: str = ""
    decimals: int | None = None
    low: float | None = None
    high: float | None = None
    steps: tuple[tuple[float | None, str], ...] = ()
    words: tuple[tuple[str, str, str], ...] = ()
    nothing: str = "no data in this range"

    def defaults(self, custom: object = None) -> model.FieldConfig:
        """Returns it as the defaults of a panel; `custom` are the options that only its kind has."""
        config = model.FieldConfig(
            unit=self.unit or None,
            decimals=self.decimals,
            min_val=self.low,
            max_val=self.high,
            no_value=self.nothing,
            custom=custom,
            mappings=[_words(self.words)] if self.words else [],
            color=model.FieldColor(
                mode=model.FieldColorModeId.THRESHOLDS if self.steps else model.FieldColorModeId.PALETTE_CLASSIC
            ),
        )
        config.thresholds = model.ThresholdsConfig(
            mode=model.ThresholdsMode.ABSOLUTE,
            steps=[model.Threshold(value, colour) for value, colour in self.steps or ((None, GREEN),)],
        )
        return config

    def properties(self) -> list[model.DynamicConfigValue]:
        """Returns it as the properties of one column, where they differ from nothing."""
        found: list[tuple[str, object]] = []
        if self.unit:
            found.append(("unit", self.unit))
        if self.decimals is not None:
            found.append(("decimals", self.decimals))
        found += [(name, value) for name, value in (("min", self.low), ("max", self.high)) if value is not None]
        if self.words:
            found.append(("mappings", [_words(self.words)]))
        if self.steps:
            steps = [model.Threshold(value, colour) for value, colour in self.steps]
            found.append(("thresholds", model.ThresholdsConfig(mode=model.ThresholdsMode.ABSOLUTE, steps=steps)))
        return [model.DynamicConfigValue(id_val=name, value=value) for name, value in found]


def _words(words: tuple[tuple[str, str, str], ...]) -> model.ValueMap:
    return model.ValueMap(
        options={
            value: model.ValueMappingResult(text=word, color=colour, index=place)
            for place, (value, word, colour) in enumerate(words)
        }
    )


# The words and limits are those of the live page and of the processor's rules (`cloud_processor.twin`, `.alerts`).
STATE = Look(words=(("0", "offline", RED), ("1", "online", GREEN), ("2", "degraded", ORANGE)), nothing="never heard of")
HEALTH = Look(decimals=0, low=0, high=100, steps=((None, RED), (40, ORANGE), (60, GREEN)), nothing="no baseline yet")
LIFE = Look(unit="h", decimals=0, steps=((None, RED), (24, ORANGE), (168, GREEN)), nothing="no trend: no end in sight")
CHANCE = Look(unit="percentunit", decimals=0, low=0, high=1, steps=((None, GREEN), (0.2, ORANGE), (0.5, RED)))
NONE_IS_GOOD = Look(decimals=0, steps=((None, GREEN), (1, RED)), nothing="0")
COUNT = Look(decimals=0, nothing="0")
SEVERITY_COLOURS = {"critical": RED, "warning": ORANGE, "info": BLUE}
