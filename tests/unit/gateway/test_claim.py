"""A look at whose session it is: the answer, and the ways not to get one."""

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.claim import Look, claim_topic
from gateway.stage import Stage

SUBACK = mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode(0)]).write()
PONG = mqtt5.PingRespPacket().write()
CONNACK = mqtt5.ConnAckPacket().write()


def fed(*packets: bytes) -> Look:
    look = Look("gw", "hub", "secret")
    look.take_output()
    for packet in packets:
        look.feed(packet, 0)
    return look


def test_it_looks_under_another_name_and_leaves_no_session() -> None:
    packet, _ = mqtt5.read(memoryview(Look("gw", "hub", "secret").take_output()))
    assert isinstance(packet, mqtt5.ConnectPacket)
    assert (packet.client_id, packet.clean_start, packet.session_expiry_interval) == ("gw.look", True, 0)


@pytest.mark.parametrize("claim", [b"", b"other"])
def test_the_answer_is_what_is_retained_or_nothing(claim: bytes) -> None:
    kept = [mqtt5.PublishPacket(claim_topic("gw"), claim, retain=True).write()] if claim else []
    stray = mqtt5.PublishPacket("hw/gateway/else", b"no").write()
    look = fed(CONNACK, SUBACK[:3], SUBACK[3:] + stray + b"".join(kept))
    assert look.claim is None
    if claim:
        look.feed(PONG, 0)
        assert look.claim is None, "it asks once more after something that was retained"
    look.feed(PONG, 0)
    assert (look.claim, look.stage) == (claim, Stage.CLOSED)


@pytest.mark.parametrize(
    "said",
    [
        mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED).write(),
        CONNACK + mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SERVER_SHUTTING_DOWN).write(),
        b"\x00\x00",
        b"\x20\xff\xff\x7f",
    ],
)
def test_a_broker_that_does_not_tell_is_a_failed_look(said: bytes) -> None:
    look = fed(said)
    assert look.stage is Stage.CLOSED
    assert look.claim is None
    assert look.why


@given(st.lists(st.binary(max_size=30), max_size=6))
def test_no_bytes_make_it_fail(pieces: list[bytes]) -> None:
    assert fed(CONNACK, *pieces).stage in Stage
