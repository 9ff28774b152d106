"""Ports for a Kafka on loopback: which are free, and which brokers a node knows, by Kafka's own protocol."""

import contextlib
import random
import socket
import struct

# Below the ports that the system gives to clients, so that nobody takes one while its node is down.
PORTS = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody listens on."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):  # In use: another one, then.
            probe.bind(("127.0.0.1", port))
            found += [] if port in found else [port]
    return found


def brokers_known_at(port: int) -> set[int]:
    """Asks the node for the cluster's metadata and returns the ports of its brokers; empty if it knows no controller.

    Metadata version 4 of Kafka's protocol, about no topic at all.
    """
    head = struct.pack(">hhih", 3, 4, 1, 4) + b"wait"  # API key, version, correlation, length of the client's name.
    request = head + struct.pack(">i?", 0, False)  # No topics, and make none.
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as answer:
                (size,) = struct.unpack(">i", answer.read(4))
                body = answer.read(size)
        count, at, ports = struct.unpack_from(">i", body, 8)[0], 12, set()
        for _ in range(count):
            at += 4  # The node's number.
            at += 2 + struct.unpack_from(">h", body, at)[0]  # Its host.
            ports.add(struct.unpack_from(">i", body, at)[0])
            at += 4
            at += 2 + max(struct.unpack_from(">h", body, at)[0], 0)  # Its rack, -1 for none.
        at += 2 + max(struct.unpack_from(">h", body, at)[0], 0)  # The cluster's id.
        has_controller = struct.unpack_from(">i", body, at)[0] >= 0
    except (OSError, struct.error):
        return set()
    return ports if has_controller else set()
