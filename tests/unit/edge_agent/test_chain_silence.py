"""When a source counts as silent: by what it delivers, not by what its clock says."""

import numpy as np

from edge_agent.chain import Chain
from headwater.frame import Block
from headwater.metric import Metric

SECOND_US = 1_000_000
START_US = 1_700_000_000 * SECOND_US


def run(seconds: int, behind_s: int, silent_from: int | None = None) -> int:
    """Feeds a metric at 1 Hz whose clock is behind; returns how many events came."""
    chain = Chain([Metric("flow", every_us=SECOND_US)])
    for second in range(seconds):
        now_us = START_US + second * SECOND_US
        if silent_from is None or second < silent_from:
            value = 20.0 + 0.01 * (second * 7 % 13)
            chain.push(Block(("flow",), np.array([now_us - behind_s * SECOND_US]), np.array([[value]])))
        chain.listen(now_us)
    return chain.counters.anomalies


def test_a_source_whose_clock_is_behind_is_not_silent() -> None:
    assert run(300, behind_s=120) == 0


def test_a_source_that_stops_is_silent_once_whatever_its_clock_says() -> None:
    assert run(300, behind_s=0, silent_from=200) == 1
    assert run(300, behind_s=120, silent_from=200) == 1
