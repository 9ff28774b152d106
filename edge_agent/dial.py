"""Where the agent's settings meet files and the MQTT client."""

import itertools
from collections.abc import Callable
from pathlib import Path

from edge_agent.memory import Memory
from edge_agent.settings import AgentSettings
from edge_agent.sparkplug_link import SEQ_COUNT, SparkplugEdge
from edge_agent.spool import Spool
from headwater.errors import SettingsError
from headwater.instant import US_PER_S
from headwater.io.mqtt_broker import Broker, parse_broker
from headwater.mqtt_link import MqttLink, Will
from headwater.ports import Clock

KEY_MIN_BYTES = 16


def read_key(file: str) -> bytes:
    """Reads the key that signs commands; b"" if none is set."""
    if not file:
        return b""
    try:
        key = Path(file).read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"agent.command_key_file {file}: {error.strerror}: name a file that can be read") from error
    if len(key) < KEY_MIN_BYTES:
        raise SettingsError(f"agent.command_key_file {file}: a key of {len(key)} bytes is too short: use 32")
    return key


def paho_connect(settings: AgentSettings, site: str, device: str) -> Callable[[Will], MqttLink]:
    """Returns what makes links to `settings.gateway`; the address is checked now, paho is imported now."""
    from headwater.io.mqtt_paho import PahoLink  # noqa: PLC0415 a dry run needs no client

    parse_broker(settings.gateway)
    broker = Broker(
        settings.gateway,
        settings.username,
        settings.password_file,
        settings.ca_file,
        settings.cert_file,
        settings.key_file,
        settings.connect_timeout_us / US_PER_S,
        max(5, settings.keepalive_us // US_PER_S),
    )
    return lambda will: PahoLink(broker, f"{site}.{device}", will)


def sparkplug_edge(
    settings: AgentSettings, dial: Callable[[Will], MqttLink], spool: Spool, clock: Clock
) -> SparkplugEdge:
    """Returns what makes links that speak Sparkplug; its bdSeq stands in a file beside the spool and goes 0 … 255."""
    memory = Memory(Path(f"{spool.path}.bdseq"))
    kept = memory.load()
    drawn = itertools.count((kept[0] + 1) if kept else 0)

    def next_bdseq() -> int:
        bdseq = next(drawn) % SEQ_COUNT
        memory.save(bytes((bdseq,)))
        return bdseq

    named = settings.model_copy(update={"site": spool.site, "device": spool.device})
    return SparkplugEdge(named, lambda: (spool.epoch, spool.oldest), dial, next_bdseq, clock.now_us)
