"""What the births of one edge node have said: which metrics it and its devices have, and what each alias stands for.

Aliases are the node's, over all of its devices; names are each device's own. The node itself is the device "".
"""

from dataclasses import dataclass, field
from math import nan

from headwater.errors import DecodeError
from headwater.reasons import DeadLetterReason
from headwater.sparkplug_codec import SparkplugMetric, is_number
from headwater.sparkplug_schema import DataType
from headwater.sparkplug_topic import is_control, metric_of

DEVICES_MAX = 256
DEFINITIONS_MAX = 16_384
UNDECLARED_MAX = 256


@dataclass(slots=True)
class Definition:
    """A metric as its birth defines it.

    Attributes:
        name: as the node writes it.
        metric: what it is called here, "" where it can't be kept under a name.
        datatype, unit: as declared.
        time_us, value: its newest reading, -1 and NaN before the first.
        born_as: the reading that its last birth told, which the node may also send as data.
    """

    name: str
    metric: str
    datatype: DataType
    unit: str = ""
    time_us: int = -1
    value: float = nan
    born_as: tuple[int, float] = (-1, nan)


@dataclass(slots=True)
class DeviceTable:
    """One device's metrics; `is_born` from its birth to its death. An alias that stands for two metrics stands for None."""

    is_born: bool = False
    by_name: dict[str, Definition] = field(default_factory=dict)
    by_alias: dict[int, Definition | None] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)

    def define(self, metric: SparkplugMetric, before: Definition | None) -> Definition:
        """Adds or replaces a metric; the name that it gets here goes to the first who asks."""
        called = "" if is_control(metric.name) else metric_of(metric.name)
        if called and self.owners.setdefault(called, metric.name) != metric.name:
            called = ""
        definition = Definition(metric.name, called, metric.datatype, metric.unit)
        if before is not None:
            definition.time_us, definition.value = before.time_us, before.value
            definition.born_as = before.born_as
        self.by_name[metric.name] = definition
        return definition

    def bury(self) -> None:
        """The device died: its aliases stand for nothing; its names stay, to tell a repeated value."""
        self.is_born = False
        self.by_alias.clear()


class NodeTable:
    """All metrics of a node.

    >>> table = NodeTable()
    >>> table.bear("", (SparkplugMetric("Speed", alias=7, datatype=DataType.FLOAT),))
    []
    >>> table.find("", SparkplugMetric("", alias=7)).metric
    'Speed'
    """

    def __init__(self) -> None:
        self._devices: dict[str, DeviceTable] = {}
        self._undeclared = 0

    def __len__(self) -> int:
        return sum(len(table.by_name) for table in self._devices.values())

    def devices(self) -> list[str]:
        """The devices that are born, the node itself among them."""
        return [device for device, table in self._devices.items() if table.is_born]

    def is_born(self, device: str) -> bool:
        """Whether a device is between its birth and its death."""
        return device in self._devices and self._devices[device].is_born

    def definitions(self, device: str) -> list[Definition]:
        """The metrics of a device that can become readings."""
        return [found for found in self._devices[device].by_name.values() if found.metric and is_number(found.datatype)]

    def bear(self, device: str, metrics: tuple[SparkplugMetric, ...]) -> list[str]:
        """Takes a birth; returns what is wrong with single metrics, in words, a sentence each.

        Raises:
            DecodeError: LIMIT, where the node would have too many devices or metrics; the device is then not born.
        """
        before = self._devices.get(device, DeviceTable())
        before.bury()
        if not device:
            self._undeclared = 0
        if len(self) - len(before.by_name) + len(metrics) > DEFINITIONS_MAX or not self._has_place(device):
            detail = f"a node has at most {DEFINITIONS_MAX} metrics and {DEVICES_MAX} devices"
            raise DecodeError(DeadLetterReason.LIMIT, detail)
        table = self._devices[device] = DeviceTable(is_born=True)
        wrong = []
        for metric in metrics:
            if not metric.name:
                wrong.append(f"alias {metric.alias} has no name in its birth")
                continue
            definition = table.define(metric, before.by_name.get(metric.name))
            if not definition.metric and not is_control(metric.name):
                wrong.append(f"{metric.name[:140]!r} can't be a metric's name here, or another one has it")
            if metric.alias is None:
                continue
            other = table.by_alias.setdefault(metric.alias, definition)
            if other is None or other.name != definition.name:
                table.by_alias[metric.alias] = None
                wrong.append(f"alias {metric.alias} of {metric.name[:140]!r} stands for another metric too")
            else:
                table.by_alias[metric.alias] = definition
        return wrong

    def add(self, device: str, metric: SparkplugMetric) -> Definition | None:
        """Takes a metric that no birth told of but that says itself what it is; None if there is no room."""
        if self._undeclared >= UNDECLARED_MAX or not self._has_place(device):
            return None
        self._undeclared += 1
        return self._devices.setdefault(device, DeviceTable()).define(metric, None)

    def _has_place(self, device: str) -> bool:
        return device in self._devices or len(self._devices) < DEVICES_MAX

    def find(self, device: str, metric: SparkplugMetric) -> Definition | None:
        """Returns what a metric of a message is, by its name or else by its alias; None if no birth said."""
        table = self._devices.get(device)
        if table is None:
            return None
        if metric.name:
            return table.by_name.get(metric.name)
        return None if metric.alias is None else table.by_alias.get(metric.alias)

    def bury(self, device: str) -> None:
        """A device died."""
        if device in self._devices:
            self._devices[device].bury()

    def bury_all(self) -> None:
        """The node died, or is about to be born again."""
        for table in self._devices.values():
            table.bury()

    def forget_dead(self) -> None:
        """Lets go of devices that are not born, to make room."""
        self._devices = {device: table for device, table in self._devices.items() if table.is_born}
