"""Which inlet the settings ask for, with its intake: the gateway's own endpoint, or a subscription at a broker."""

from collections.abc import Callable

from gateway.broker import Broker
from gateway.endpoint import Endpoint
from gateway.inlet import Inlet
from gateway.intake import Intake
from gateway.retained import RetainedMessages
from gateway.settings import GatewaySettings
from gateway.subscriber import Subscriber
from headwater.ports import Clock

# Behind a broker, all devices' topics are one sender's.
BROKER_ROUTES_MAX = 200_000


def make_inlet(
    settings: GatewaySettings, clock: Clock, on_input: Callable[[], None], on_open: Callable[[bool], None]
) -> Inlet:
    """Makes the inlet; `on_input` is called after messages came, `on_open` as `Subscriber` says."""
    if settings.mqtt:
        intake = Intake(
            partitions=settings.partitions,
            dead_letter_max_bytes=settings.dead_letter_max_bytes,
            routes_max=BROKER_ROUTES_MAX,
        )
        return Subscriber(settings, intake, clock, on_input, on_open)
    broker = Broker(
        partitions=settings.partitions,
        subscriptions_max=settings.subscriptions_max,
        retained=RetainedMessages(settings.retained_max, settings.retained_max_bytes),
        dead_letter_max_bytes=settings.dead_letter_max_bytes,
    )
    return Endpoint(settings, broker, clock, on_input)
