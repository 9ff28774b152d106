"""The other end of the gateway benchmark, a process of its own: `python _mqtt_load.py publish|serve PACKETS [PORT]`.

Only the standard library, so that it starts at once. PACKETS is a pickle: packets to say hello with, whole PUBLISH
packets after that. It says `ready` (and as a server its port) on stdout, begins at a line on stdin, keeps at most
WINDOW messages unacknowledged, and ends when all are acknowledged with four bytes each.
"""

import pickle
import socket
import sys
from pathlib import Path

WINDOW = 2000
_RECEIVE_BYTES = 65_536


def pour(connection: socket.socket, packets: list[bytes]) -> None:
    """Sends packets with the window and waits for all PUBACKs."""
    print("ready", flush=True)
    sys.stdin.readline()
    count = len(packets)
    sent = acked = acked_bytes = 0
    while acked < count:
        room = min(count, acked + WINDOW)
        if sent < room:
            connection.sendall(b"".join(packets[sent:room]))
            sent = room
        got = connection.recv(_RECEIVE_BYTES)
        if not got:
            sys.exit(f"the peer hung up after {acked} of {count} messages")
        acked_bytes += len(got)
        acked = acked_bytes // 4


def publish(hello: list[bytes], packets: list[bytes], port: int) -> None:
    """Plays one device: CONNECT, then frames."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(hello[0])
        connection.recv(_RECEIVE_BYTES)
        pour(connection, packets)


def serve(hello: list[bytes], packets: list[bytes]) -> None:
    """Plays a broker with one subscriber: CONNACK, SUBACK, then frames."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            for answer in hello:
                connection.recv(_RECEIVE_BYTES)
                connection.sendall(answer)
            pour(connection, packets)
            connection.recv(_RECEIVE_BYTES)


if __name__ == "__main__":
    # The file is the benchmark's own, written a moment ago.
    greeting, messages = pickle.loads(Path(sys.argv[2]).read_bytes())
    if sys.argv[1] == "publish":
        publish(greeting, messages, int(sys.argv[3]))
    else:
        serve(greeting, messages)
