"""Whatever a broker does with PUBACKs and connections: the spool frees no frame that the broker does not have."""

import sys
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "edge_agent"))

from sparkplug_bench import Bench, Wire

from headwater.codec import decode_frame
from headwater.mqtt_link import LinkDown, LinkPuback

steps = st.lists(
    st.one_of(
        st.tuples(st.just("store"), st.integers(1, 4)),
        st.tuples(st.just("step"), st.integers(1, 3)),
        st.tuples(st.just("puback"), st.integers(0, 5)),
        st.tuples(st.just("refuse"), st.integers(0, 5)),
        st.tuples(st.just("cut"), st.just(0)),
    ),
    max_size=40,
)


class Broker:
    """Notes which frames it said PUBACK to; `settings` of the bench make it hold PUBACKs back."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.has: set[int] = set()

    def answer(self, at: int, reason_code: int) -> None:
        wire: Wire = self.bench.wire
        if not wire.held:
            return
        mid = wire.held.pop(at % len(wire.held))
        wire.waiting.append(LinkPuback(mid, reason_code))
        if reason_code == 0:
            self.has.add(self.seq_of(wire, mid))

    @staticmethod
    def seq_of(wire: Wire, mid: int) -> int:
        # The value of the one reading in each message is the frame's seq.
        return int(float(wire.published[mid - 1][1].metrics[0].raw or 0))


@given(steps)
@settings(max_examples=25, deadline=None)
def test_the_spool_frees_only_what_the_broker_has_and_everything_in_the_end(said: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), answers=False)
        broker = Broker(bench)
        bench.step(1)
        for what, number in said:
            match what:
                case "store":
                    bench.store(*range(bench.spool.assigned + 1, bench.spool.assigned + 1 + number))
                case "step":
                    bench.step(number)
                case "puback":
                    broker.answer(number, 0)
                case "refuse":
                    broker.answer(number, 0x10)
                case "cut":
                    bench.wire.waiting.append(LinkDown("cut"))
                    bench.step(1)
            freed = set(range(1, bench.spool.oldest)) if bench.spool.assigned else set()
            assert freed <= broker.has, f"{sorted(freed - broker.has)} freed, and nobody has them"
        for _ in range(200):
            if not bench.spool.buffered:
                break
            bench.step(2)
            while bench.links and bench.wire.held:
                broker.answer(0, 0)
        assert bench.spool.buffered == 0
        assert broker.has == set(range(1, bench.spool.assigned + 1))
        bench.spool.close()


def test_frames_of_the_bench_hold_their_own_seq() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), sparkplug_release="durable")
        bench.step()
        bench.store(1.0, 2.0)
        bench.step()
        told = [payload for topic, payload, _ in bench.wire.published if "NDATA" in topic]
        assert [decode_frame(one.frame).seq for one in told] == [one.metrics[0].raw for one in told] == [1, 2]
        bench.spool.close()
