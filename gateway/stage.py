"""Where a connection of the gateway to a broker is."""

from enum import Enum, auto


class Stage(Enum):
    """CONNECT is sent, CONNACK has come, over."""

    ASKING = auto()
    OPEN = auto()
    CLOSED = auto()
