"""What the gateway speaks beside frames and JSON, as the settings ask for it: Sparkplug B, Home Assistant."""

from gateway.home_assistant_in import AnnouncedDevices
from gateway.home_assistant_out import HomeAssistant
from gateway.intake import Intake
from gateway.settings import GatewaySettings
from gateway.sparkplug_host import SparkplugHost, SparkplugLimits


def teach(intake: Intake, settings: GatewaySettings) -> None:
    """Gives an intake the hosts of foreign devices that the settings turn on."""
    letter_max_bytes, partitions = settings.dead_letter_max_bytes, settings.partitions
    if settings.sparkplug:
        limits = SparkplugLimits(
            settings.sparkplug_nodes_max, settings.sparkplug_reorder_us, settings.sparkplug_rebirth_every_us
        )
        intake.sparkplug = SparkplugHost(
            settings.sparkplug_host,
            limits,
            intake.presence,
            partitions=partitions,
            letter_max_bytes=letter_max_bytes,
        )
    if settings.admits_announced:
        intake.announced = AnnouncedDevices(
            settings.home_assistant_prefix,
            settings.home_assistant_site,
            settings.home_assistant_sensors_max,
            intake.presence,
            partitions=partitions,
            letter_max_bytes=letter_max_bytes,
        )


def home_assistant(settings: GatewaySettings) -> HomeAssistant | None:
    """Makes what tells Home Assistant of our devices, None if that is off."""
    if not settings.home_assistant:
        return None
    return HomeAssistant(
        settings.home_assistant_prefix, settings.home_assistant_every_us, settings.home_assistant_forget_us
    )


def counters(intake: Intake, home: HomeAssistant | None) -> dict[str, int]:
    """Numbers of all of them, by names of the form `dialect_noun`."""
    found: dict[str, int] = {}
    if intake.sparkplug is not None:
        found |= {f"sparkplug_{name}": count for name, count in intake.sparkplug.sizes().items()}
    if intake.announced is not None:
        found |= {f"announced_{name}": count for name, count in intake.announced.sizes().items()}
    if home is not None:
        found |= {f"home_assistant_{name}": count for name, count in home.counters.items()}
    return found
