"""A few lines of MQTT 5 server for tests of clients and networks: it acknowledges, remembers and echoes."""

import asyncio
import contextlib

import mqtt5


async def until(is_so, seconds=10.0):
    """Waits until something is so."""
    for _ in range(int(seconds / 0.005)):
        if is_so():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about in time")


class ToyBroker:
    """Accepts everything; `published` holds what came, `answers` turns PUBACKs off when False."""

    def __init__(self, *, receive_max=65_535, refuse=False, keep_alive=None):
        self.published = []
        self.duplicates = 0
        self.connects = 0
        self.answers = True
        self.unacked = []
        self.receive_max = receive_max
        self.refuse = refuse
        self.keep_alive = keep_alive
        self.wills = []
        self._server = None
        self._writers = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.cut()
        await asyncio.sleep(0)

    def cut(self):
        for writer in list(self._writers):
            writer.transport.abort()

    def send(self, topic, payload):
        for writer in self._writers:
            writer.write(mqtt5.PublishPacket(topic, payload).write())

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        buffer = bytearray()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                buffer += data
                used = 0
                with contextlib.suppress(IndexError):
                    while used < len(buffer):
                        packet, size = mqtt5.read(memoryview(bytes(buffer))[used:])
                        used += size
                        self._answer(packet, writer)
                del buffer[:used]
        self._writers.discard(writer)
        writer.close()

    def _answer(self, packet, writer):
        match packet:
            case mqtt5.ConnectPacket():
                self.connects += 1
                self.wills.append(packet.will)
                code = mqtt5.ConnAckReasonCode.NOT_AUTHORIZED if self.refuse else mqtt5.ConnAckReasonCode.SUCCESS
                reply = mqtt5.ConnAckPacket(
                    reason_code=code, receive_max=self.receive_max, server_keep_alive=self.keep_alive
                )
                writer.write(reply.write())
            case mqtt5.SubscribePacket():
                codes = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE for _ in packet.topic_filters]
                writer.write(mqtt5.SubAckPacket(packet.packet_id, codes).write())
            case mqtt5.PublishPacket():
                self.published.append((packet.topic, packet.payload))
                self.duplicates += packet.duplicate
                self.unacked.append(packet.packet_id)
                if self.answers:
                    writer.write(mqtt5.PubAckPacket(self.unacked.pop()).write())
            case mqtt5.PingReqPacket():
                if self.answers:
                    writer.write(mqtt5.PingRespPacket().write())
            case mqtt5.DisconnectPacket():
                writer.close()
