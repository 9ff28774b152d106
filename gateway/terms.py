"""How a gateway subscribes at a broker: who it is there, and which topic filters it asks for with which options.

No two filters match the same topic, so that a message comes once.
"""

from dataclasses import dataclass

import mqtt5

from gateway.home_assistant_config import COMPONENT
from headwater.names import MQTT_PREFIX
from headwater.sparkplug_topic import NAMESPACE, Verb

LEAVES = ("frame", "json", "status")
# A retained "online" is wanted once, with a new session; retained data never: it was taken when it was new.
_RETAIN = {"status": mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS}


@dataclass(frozen=True, slots=True)
class Terms:
    """How to subscribe; see the settings of the same names.

    Attributes:
        sites: only these; empty for all.
        password: None for none.
        claim: says at the broker whose the session is; see `gateway.claim`.
        sparkplug: whether Sparkplug B nodes are wanted too.
    """

    client_id: str
    sites: tuple[str, ...]
    username: str
    password: str | None
    session_expiry_us: int
    keepalive_us: int
    receive_max: int
    packet_max_bytes: int
    letter_max_bytes: int
    claim: bytes = b""
    sparkplug: bool = False

    def connect(self, will: tuple[str, bytes] | None) -> mqtt5.ConnectPacket:
        """Returns what to say first; the broker publishes `will`, (MQTT topic, payload), retained, when the connection breaks.

        It names no maximum packet size: a broker drops without a word what exceeds it, and here it becomes a dead letter.
        """
        return mqtt5.ConnectPacket(
            self.client_id,
            username=self.username or None,
            password=None if self.password is None else self.password.encode(),
            clean_start=False,
            will=None
            if will is None
            else mqtt5.Will(will[0], payload=will[1], qos=mqtt5.QoS.AT_LEAST_ONCE, retain=True),
            keep_alive=min(self.keepalive_us // 1_000_000, 65_535),
            session_expiry_interval=min(self.session_expiry_us // 1_000_000, 0xFFFF_FFFF),
            receive_max=self.receive_max,
        )


def patterns(site: str) -> list[str]:
    """Returns the topic filters for a site, "+" for all; no two of them match the same topic.

    >>> patterns("north")
    ['hw/1/north/+/frame', 'hw/1/north/+/json', 'hw/1/north/+/status']
    """
    return [f"{MQTT_PREFIX}/{site}/+/{leaf}" for leaf in LEAVES]


def sparkplug_patterns(site: str) -> list[str]:
    """Returns the topic filters for the Sparkplug nodes of a group that is spelled like the site, "+" for all.

    >>> sparkplug_patterns("+")[::5]
    ['spBv1.0/+/NBIRTH/+', 'spBv1.0/+/DDEATH/+/+']
    """
    return [
        f"{NAMESPACE}/{site}/{verb}/{'+/+' if verb.is_of_device else '+'}"
        for verb in Verb
        if verb is not Verb.STATE and not verb.is_command
    ]


def announcement_patterns(prefix: str) -> list[str]:
    """Returns the topic filters for what devices announce in Home Assistant's way: of sensors only, nothing else is read.

    >>> announcement_patterns("homeassistant")
    ['homeassistant/sensor/+/config', 'homeassistant/sensor/+/+/config']
    """
    return [f"{prefix}/{COMPONENT}/{levels}/config" for levels in ("+", "+/+")]


def filter_of(pattern: str) -> mqtt5.TopicFilter:
    """How to ask for what our own devices and Sparkplug nodes say."""
    return mqtt5.TopicFilter(
        pattern,
        max_qos=mqtt5.QoS.AT_LEAST_ONCE,
        retain_as_published=True,
        retain_handling=_RETAIN.get(pattern.rpartition("/")[2], mqtt5.RetainHandling.SEND_NEVER),
    )


def announcement_filter(pattern: str) -> mqtt5.TopicFilter:
    """How to ask for announcements: all that are retained, on every connection, and not what we published ourselves."""
    return mqtt5.TopicFilter(
        pattern,
        max_qos=mqtt5.QoS.AT_LEAST_ONCE,
        no_local=True,
        retain_as_published=False,
        retain_handling=mqtt5.RetainHandling.SEND_ALWAYS,
    )


def announced_filter(mqtt_topic: str, *, has_values: bool) -> mqtt5.TopicFilter:
    """How to ask for a topic that a device announced: what is retained comes with RETAIN, and what is new without.

    Whether a device is available is asked on every connection, because who said so at QoS 0 may not have been heard. A
    retained value comes once, with a new subscription: it would be another reading each time.
    """
    once, always = mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS, mqtt5.RetainHandling.SEND_ALWAYS
    return mqtt5.TopicFilter(
        mqtt_topic,
        max_qos=mqtt5.QoS.AT_LEAST_ONCE,
        retain_as_published=False,
        retain_handling=once if has_values else always,
    )
