"""Several connections say anything on Sparkplug's topics: the sums are right, and every QoS 1 message is owed one PUBACK."""

import sys
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "gateway"))

import mqtt5
from sessions import LIMITS, NOW_US, Client, make_broker
from sparkplug_messages import NOW_MS, bdseq, by_alias, number, payload

from gateway.identity import ANONYMOUS
from gateway.inbound import Foreign
from gateway.session import Phase
from gateway.sparkplug_host import SparkplugHost, SparkplugLimits
from headwater.sparkplug_codec import encode_payload

TOPICS = [
    f"spBv1.0/{group}/{verb}/{node}"
    for group in ("g", "G")
    for node in ("n", "m")
    for verb in ("NBIRTH", "NDATA", "NDEATH", "NCMD")
] + [f"spBv1.0/g/{verb}/n/{device}" for verb in ("DBIRTH", "DDATA", "DDEATH") for device in ("d", "D", "°")]
TOPICS += ["spBv1.0/STATE/scada", "spBv1.0/STATE/headwater", "spBv1.0/x"]

metrics = st.lists(
    st.one_of(
        st.builds(lambda a, v: by_alias(a, v, time_ms=NOW_MS), st.integers(0, 2), st.sampled_from([1.0, float("nan")])),
        st.builds(lambda n, a: number(n, 1.0, a), st.sampled_from(["a", "b c", "b_c"]), st.integers(0, 2)),
    ),
    max_size=3,
)
payloads = st.one_of(
    st.binary(max_size=12),
    st.builds(
        lambda seq, told, late, bd: encode_payload(payload(seq, (*told, bdseq(bd)), NOW_MS + late)),
        st.one_of(st.none(), st.integers(0, 6), st.just(255)),
        metrics,
        st.integers(0, 2),
        st.integers(0, 1),
    ),
)
steps = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(["publish"] * 12 + ["lose", "wait"]), st.sampled_from(TOPICS), payloads
    ),
    max_size=30,
)


@given(steps)
@settings(max_examples=120, deadline=None)
def test_sums_are_right_and_every_message_is_owed_one_acknowledgement(said: list[tuple[int, str, str, bytes]]) -> None:
    broker = make_broker()
    host = SparkplugHost(
        "headwater", SparkplugLimits(2, 1_000, 1_000_000), broker.presence, partitions=4, letter_max_bytes=100
    )
    broker.sparkplug = host
    clients: dict[int, Client] = {}
    sent = passed_on = 0
    now_us = NOW_US
    for who, what, where, told in said:
        now_us += 10
        client = clients.get(who)
        if client is None or client.session.phase is Phase.CLOSED:
            client = clients[who] = Client(broker, limits=LIMITS)
            will = mqtt5.Will("spBv1.0/g/NDEATH/n", payload=encode_payload(payload(None, (bdseq(0),))))
            client.connect(f"c{who}", ANONYMOUS, will=will)
        client.now_us = now_us
        if what == "lose":
            client.session.lost(now_us)
        elif what == "wait":
            now_us += 2_000
            broker.due(now_us)
        elif client.session.ledger.room:
            sent += 1
            passed_on += where == "spBv1.0/STATE/scada" or "NCMD" in where
            client.publish(where, told, packet_id=sent)
    broker.due(now_us + 10_000)
    counters = host.counters
    left_out = sum(count for name, count in counters.items() if name.startswith("left_out_"))
    assert counters["metrics"] == counters["readings"] + left_out + counters["refused"]
    frames = [note.what for note in broker.notes if isinstance(note.what, Foreign)]
    assert sum(one.frame.reading_count for one in frames) == counters["readings"]
    owed = Counter((id(note.session), note.ticket) for note in broker.notes if note.ticket >= 0)
    assert set(owed.values()) <= {1}
    assert len(owed) == sent - passed_on
