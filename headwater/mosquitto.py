"""What a Mosquitto between devices and gateway must be told: its configuration, who may do what, its passwords.

A device is known by the name in its certificate, or as a user: `{site}.{device}`. Gateways and operators are `gateway@{name}`
and `operator@{name}`. Each device has lines of its own in the ACL file: who is not in it can do nothing, whatever
certificate it shows, and taking its lines away locks it out.
"""

import base64
import hashlib
from collections.abc import Sequence

from headwater.names import mqtt_topic

# Mosquitto's own (mosquitto_passwd, version 2).
PASSWORD_ROUNDS = 101
PACKET_MAX_BYTES = 2 * 1024 * 1024
QUEUE_MAX_BYTES = 256 * 1024 * 1024


def mosquitto_conf(root: str, port: int, *, user: str, has_passwords: bool) -> str:
    """Writes the configuration of a broker whose files are in the folder `root`, an absolute path.

    >>> "require_certificate true" in mosquitto_conf("/etc/headwater", 8883, user="", has_passwords=False)
    True
    """
    identity = (
        f"password_file {root}/mosquitto/passwd"
        if has_passwords
        else "require_certificate true\nuse_identity_as_username true"
    )
    return f"""# Mosquitto between devices and the gateway; written by `headwater init`.
# Start: mosquitto -c {root}/mosquitto/mosquitto.conf          Read the ACL file again: kill -HUP its process.
{f"user {user}" if user else "# user NAME: whom a Mosquitto started as root becomes; the files here must be that user's."}

listener {port}
cafile {root}/tls/ca.pem
certfile {root}/tls/server.pem
keyfile {root}/secrets/server.key
{identity}
allow_anonymous false
acl_file {root}/mosquitto/acl

# The gateway says how much may be on its way to it (Receive Maximum). What waits for it is bounded by memory, not by
# number; beyond that the broker drops, and devices send again what the gateway never acknowledged.
max_inflight_messages 0
max_queued_messages 0
max_queued_bytes {QUEUE_MAX_BYTES}
max_packet_size {PACKET_MAX_BYTES}
set_tcp_nodelay true

# A restart keeps sessions and queues of the last minute. Nothing relies on it: durability is the gateway's to say.
persistence true
persistence_location {root}/mosquitto/data/
autosave_interval 60
persistent_client_expiration 14d
"""


def device_user(site: str, device: str) -> str:
    """Returns how a broker knows a device.

    >>> device_user("north", "pump-1")
    'north.pump-1'
    """
    return f"{site}.{device}"


def acl_of_device(site: str, device: str) -> str:
    """Writes the lines of a device: it says what it measures and hears what is said to it, as itself only.

    >>> print(acl_of_device("north", "pump-1").splitlines()[1])
    topic write hw/1/north/pump-1/frame
    """
    rights = [f"topic write {mqtt_topic(site, device, leaf)}" for leaf in ("frame", "json", "status")]
    rights += [f"topic read {mqtt_topic(site, device, leaf)}" for leaf in ("ack", "config", "command")]
    return "\n".join([f"user {device_user(site, device)}", *rights, ""])


def acl_of_gateway(name: str) -> str:
    """Writes the lines of a gateway: reads what devices say, writes acks, hosts Sparkplug nodes, tells Home Assistant."""
    return f"""user gateway@{name}
topic read hw/1/+/+/frame
topic read hw/1/+/+/json
topic read hw/1/+/+/status
topic write hw/1/+/+/ack
topic write hw/1/+/+/state
topic write homeassistant/#
topic readwrite hw/gateway/#
topic readwrite spBv1.0/#
"""


def is_foreign_filter(text: str) -> bool:
    r"""Tells whether a text may stand in an ACL as a filter of foreign devices' topics: printable, and not of ours.

    >>> [is_foreign_filter(text) for text in ("zigbee2mqtt/#", "+/sensor/#", "#", "hw/#", "a\ntopic readwrite #", "a+")]
    [True, False, False, False, False, False]
    """
    levels = text.split("/")
    return (
        text.isprintable()
        and text == text.strip()
        and "" not in levels[:1]
        and all(level in {"+", "#"} or {"+", "#"}.isdisjoint(level) for level in levels)
        and "#" not in levels[:-1]
        and levels[0] not in {"+", "#", "hw", "spBv1.0"}
        and not text.startswith("$")
    )


def acl_of_announced(filters: Sequence[str]) -> str:
    """Writes what a gateway reads more where devices announce themselves in Home Assistant's way, after its own lines.

    >>> print(acl_of_announced(["zigbee2mqtt/#"]).splitlines()[2])
    topic read zigbee2mqtt/#

    Args:
        filters: of the topics that such devices name in their announcements.
    """
    read = ["homeassistant/sensor/+/config", "homeassistant/sensor/+/+/config", *filters]
    return "".join(f"topic read {one}\n" for one in read)


def acl_of_operator(name: str) -> str:
    """Writes the lines of an operator: reads everything, sends configurations and commands."""
    return f"""user operator@{name}
topic read hw/#
topic read homeassistant/#
topic read spBv1.0/#
topic write hw/1/+/+/config
topic write hw/1/+/+/command
"""


def password_line(user: str, password: bytes, salt: bytes) -> str:
    """Writes a line of a password file (PBKDF2 with SHA-512), as mosquitto_passwd does.

    >>> password_line("gw", b"x", bytes(12))[:28]
    'gw:$7$101$AAAAAAAAAAAAAAAA$u'
    """
    key = hashlib.pbkdf2_hmac("sha512", password, salt, PASSWORD_ROUNDS)
    return f"{user}:$7${PASSWORD_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}\n"
