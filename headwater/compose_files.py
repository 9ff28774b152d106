"""What docker-compose.yml needs beside the plant's own files: secrets of the servers, and the variables of plant/.env."""

import base64
from collections.abc import Callable

# How the broker is called inside of the network, and where the plant's folder lies inside of containers.
BROKER, ROOT = "mosquitto", "/plant"
SECRETS = ("influx-admin.password", "influx-admin.token", "grafana-admin.password")


# Switches docker-compose.yml over: the profile, the cluster, and what the service `processor` runs.
FLINK = ("COMPOSE_PROFILES=flink", "HEADWATER_PROCESSOR=flink://jobmanager:8081", "HEADWATER_STORING=sink")


def compose_files(
    folder: str, uid: int, gid: int, draw: Callable[[int], bytes], *, has_flink: bool = False
) -> dict[str, bytes]:
    """Returns {path below the plant's folder: content}.

    Args:
        folder: absolute path of the plant's folder on this machine.
        uid: whose files the secrets are; all containers run as that user.
        gid: its group.
        draw: random bytes.
        has_flink: Apache Flink hosts the tasks.

    >>> sorted(compose_files("/srv/plant", 1000, 1000, bytes))
    ['.env', 'secrets/grafana-admin.password', 'secrets/influx-admin.password', 'secrets/influx-admin.token']
    """
    # A cluster id is a UUID in base64; Kafka's tools take one that begins with "-" for an option.
    cluster = base64.urlsafe_b64encode(b"\x48" + draw(15)).decode().rstrip("=")
    lines = [
        "# Written by `headwater init --compose`; use it by docker compose --env-file. Secrets are files, not here.",
        f"HEADWATER_PLANT={folder}",
        f"HEADWATER_UID={uid}",
        f"HEADWATER_GID={gid}",
        f"KAFKA_CLUSTER_ID={cluster}",
        "# Where devices reach the broker; 127.0.0.1 lets none in from outside.",
        "HEADWATER_MQTT_ADDRESS=127.0.0.1",
    ]
    if has_flink:
        lines += ["# Apache Flink hosts the tasks; without these lines the processor does.", *FLINK]
    secrets = {f"secrets/{name}": base64.urlsafe_b64encode(draw(33)) + b"\n" for name in SECRETS}
    return {".env": ("\n".join(lines) + "\n").encode(), **secrets}
