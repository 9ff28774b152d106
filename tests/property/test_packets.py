"""The packet cutter gives back what went in, whatever the cuts."""

import itertools

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.packets import PacketCutter, duplicate_of, is_publish


@st.composite
def packets(draw):
    kind = draw(st.sampled_from(["publish0", "publish1", "ping", "puback"]))
    if kind == "ping":
        return mqtt5.PingReqPacket().write()
    if kind == "puback":
        return mqtt5.PubAckPacket(draw(st.integers(1, 65_535))).write()
    payload = draw(st.binary(max_size=400))
    if kind == "publish0":
        return mqtt5.PublishPacket("a/b", payload).write()
    return mqtt5.PublishPacket("a/b", payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=draw(st.integers(1, 9))).write()


@given(st.lists(packets(), max_size=12), st.lists(st.integers(0, 3_000), max_size=10))
def test_packets_come_out_whole_and_in_order(sent, cuts):
    stream = b"".join(sent)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    cutter = PacketCutter(1_000)
    received = [p for lo, hi in itertools.pairwise(edges) for p in cutter.feed(stream[lo:hi])]
    assert received == sent


@given(packets())
def test_only_a_publish_is_one_and_its_duplicate_reads_the_same(packet):
    read, size = mqtt5.read(memoryview(packet))
    assert size == len(packet)
    assert is_publish(packet) == isinstance(read, mqtt5.PublishPacket)
    if isinstance(read, mqtt5.PublishPacket):
        again, _ = mqtt5.read(memoryview(duplicate_of(packet)))
        assert again.payload == read.payload
        assert again.packet_id == read.packet_id
        assert again.duplicate == (read.packet_id is not None)


@given(st.binary(max_size=64))
def test_any_bytes_give_packets_or_a_value_error(data):
    cutter = PacketCutter(32)
    try:
        some = cutter.feed(data)
    except ValueError:
        return
    assert data.startswith(b"".join(some))
    assert all(len(packet) <= 32 for packet in some)


def test_a_packet_beyond_the_bound_is_refused_by_its_header_alone():
    with pytest.raises(ValueError, match="allowed"):
        PacketCutter(100).feed(b"\x30\xff\x7f")
