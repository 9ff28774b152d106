"""A frame in Sparkplug's words: what they can say, what they leave out, and their size."""

import numpy as np
from sparkplug_bench import NOW

from edge_agent.sparkplug_frame import speak
from headwater.codec import encode_frame
from headwater.frame import Anomaly, Block, Frame
from headwater.quality import Quality
from headwater.reasons import ClockQuality, Severity
from headwater.sparkplug_codec import SparkplugPayload, encode_payload


def test_what_sparkplug_has_no_word_for_is_counted() -> None:
    anomaly = Anomaly("a", NOW, "level", Severity.WARNING, True, 2.0, 5.0, 1.0, 0.0, 3.0)
    wave = Block(("w",), NOW + np.arange(4) * 1_000, np.ones((1, 4)), rate_hz=1000.0)
    fast = Block(("a",), NOW + np.arange(4) * 400, np.arange(4.0)[None])
    quality = np.array([[Quality.BAD_RANGE, Quality.MISSING, Quality.UNCERTAIN]], np.uint8)
    judged = Block(("b",), NOW + np.arange(3) * 1_000, np.arange(3.0)[None], quality)
    frame = Frame("n", "d", 7, 1, NOW, ClockQuality.SYNCED, blocks=(wave, fast, judged), anomalies=(anomaly,))
    spoken = speak(frame, {"a": 1, "b": 2, "w": 3}, is_historical=False)
    assert [(m.alias, m.raw, m.quality) for m in spoken.metrics] == [
        (1, 2.0, None),
        (2, 0.0, 0),
        (1, 3.0, None),
        (2, 2.0, None),
    ]
    assert (spoken.left_out, spoken.unsaid) == (6, 1)
    assert frame.reading_count == len(spoken.metrics) + spoken.left_out
    times = [m.time_ms for m in spoken.metrics]
    assert times == sorted(times, key=lambda ms: ms or 0)


def test_the_native_frame_beside_ten_samples_of_ten_metrics_is_a_tenth_more() -> None:
    names = tuple(f"metric/{n}" for n in range(10))
    walk = np.round(np.cumsum(np.random.default_rng(1).normal(0, 0.02, (10, 10)), axis=1) + 20, 2)
    block = Block(names, NOW + 1_000_000 * np.arange(10), walk)
    frame = Frame("north", "pump-1", 7, 3, NOW, ClockQuality.SYNCED, blocks=(block,))
    aliases = {name: n + 1 for n, name in enumerate(names)}
    metrics = speak(frame, aliases, is_historical=False).metrics
    assert len(encode_frame(frame)) < 0.1 * len(encode_payload(SparkplugPayload(5, 0, metrics)))
