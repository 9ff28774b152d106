"""The detectors of one set of metrics that share a time axis: spikes, level shifts, drift and noise.

    samples ─▶ contrast of 4 samples against 16 before ─▶ residual ─▶ "level"     a step, and what comes back from one
            ├▶ innovation against 4 samples before ─▶ returns? ─▶ "spike"     (short contrasts know no weather)
            └▶ slots of 64 ─▶ contrast of slot means ─▶ residual ─▶ "change"  drift, slower than a step
                           └▶ mean |innovation| against its own past ─▶ "noise"

After a switch or set point has moved, everything that begins within a hold-off is muted until it is quiet again:
a machine that follows its orders is no anomaly.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.detectors.contrast import PEAK_FADE, PEAK_RISE, WARMUP, Contrasts
from headwater.detectors.episode import Edge, Episodes
from headwater.detectors.roster import Array
from headwater.detectors.trailing import is_full, level_contrasts, means_of_four
from headwater.errors import CorruptStateError
from headwater.frame import Float64, Int64
from headwater.instant import US_PER_S
from headwater.metric import Metric

Bool = npt.NDArray[np.bool_]

SLOT = 64
HISTORY = 96  # A slot and what the contrasts and innovations of its first sample look back on.
RECENT, BEFORE = 4, 16  # Samples that a level contrast compares.
TAUGHT = np.arange(HISTORY - SLOT + 7, HISTORY, 8)  # Samples of a slot whose contrasts are learnt.
SCALES = ((2, 1, 5), (3, 3, 10))  # Slots that a change contrast compares: recent, left out, before.
RING = sum(SCALES[-1])
SPIKE_MAX = 3  # A spike is at most so many samples long.
RETURNED = 0.5  # Back within this share of the excursion: it was a spike.
NOISE_MEMORY = 128  # Weight of a new slot in the scale is at least 1 / NOISE_MEMORY.
ROUGH_RISE, ROUGH_FADE = 0.25, 0.004
DEVIATION_PER_MEAN = 1.2533  # Standard deviation of a normal variable over its mean absolute deviation.
JUMP_NORMAL = 3.8
ALARM_SLOTS_MAX = 20
ECHO_MAX = 3.0
LINGER = 0.5  # An episode lasts while the score is above this.
HOLD_SAMPLES, LEARN_SAMPLES = 24, 40
FALTER = 192
LITTLE_LEVEL, LITTLE_CHANGE = 1.0, 5.0
LITTLE = 100.0  # After n samples the limits of spikes are wider by LITTLE / n: rare peaks are not yet known.
HOLD_US = 90 * US_PER_S
SETTLE_US = 120 * US_PER_S
HOLD_SLOW_US = 1_300 * US_PER_S  # Longer than it takes to fill the ring of slots again.
LEARN_AFTER_US = 1_800 * US_PER_S
CLEAR_SAMPLES, CLEAR_SLOTS = 24, 2
DETECTORS = ("spike", "level", "change", "noise")


class Hit(NamedTuple):
    """An edge that people should hear of: where, which detector, how strong, and the band it left."""

    edge: Edge
    detector: str
    score: float
    value: float
    expected: float
    reach: float


class Lane:
    """State of m metrics; `step` takes pieces that end at or before the end of a slot.

    Args:
        metrics: their descriptions, in the order of the rows.
        limits: the detectors' limits for a sampling interval in microseconds.
    """

    def __init__(self, metrics: Sequence[Metric], limits: Callable[[int], dict[str, float]]) -> None:
        m = len(metrics)
        self._limits_for = limits
        self._limits = limits(US_PER_S)
        self._usable = np.array([not metric.is_state for metric in metrics])
        floor = np.array([max(0.25 * metric.resolution, 1e-12) for metric in metrics])
        self.level = Contrasts(self._usable, floor, LITTLE_LEVEL)
        self.changes = [Contrasts(self._usable, floor, LITTLE_CHANGE) for _ in SCALES]
        self.state: dict[str, Array] = {
            "history": np.full((m, HISTORY), np.nan),
            "ring": np.full((m, RING), np.nan),
            "peak": np.zeros(m),  # Largest |level residual| of this slot.
            "position": np.zeros(1, np.int64),
            "every_us": np.zeros(1, np.int64),  # Sampling interval, from the first slot.
            "start_us": np.zeros(1, np.int64),
            "alarmed": np.zeros(1, np.int64),  # Slots in a row with an alarm.
            "scale": np.zeros(m),  # Mean |innovation|.
            "jump": np.full(m, JUMP_NORMAL),  # Largest |innovation| of a slot, in scales.
            "rough": np.ones(m),  # Largest ordinary ratio of a slot's |innovation| to the scale.
            "before": np.full(m, np.nan),
            "hole": np.full(1, -SLOT, np.int64),  # The newest sample at which a metric had none.
            "released": np.full(len(DETECTORS), -FALTER, np.int64),  # Where the last muted episode cleared.
            "muted": np.zeros((len(DETECTORS), m), np.bool_),
        }
        self.episodes = {
            name: Episodes(CLEAR_SLOTS if name in {"change", "noise"} else CLEAR_SAMPLES) for name in DETECTORS
        }
        for episodes in self.episodes.values():
            episodes.grow(m)

    def step(self, time_us: Int64, value: Float64, present: Bool | None, since_us: Int64) -> list[Hit]:
        """Takes float64 (m, k) samples of at most one slot; `since_us` (k,) is the time since a state last moved.

        Everything is elementwise or of a fixed shape, so that the cut into pieces can't change a bit.
        """
        state, k = self.state, value.shape[1]
        value = self._filled(value, present)
        tail = np.concatenate([state["history"], value], axis=1)
        state["history"] = tail[:, -HISTORY:]
        # Sums of four for what the newest k samples look back on: the last of them ends at the newest sample.
        recent = tail[:, -(k + BEFORE + RECENT - 1) :]
        pair = recent[:, 1:] + recent[:, :-1]
        four: Float64 = pair[:, 2:] + pair[:, :-2]
        end = four.shape[1]

        def ended(ago: int, width: int = k) -> Float64:
            """Sums of four that ended `ago` samples before each of the newest `width` ones."""
            return four[:, end - ago - width : end - ago]

        before = (ended(4) + ended(8) + ended(12) + ended(16)) / BEFORE
        contrast = ended(0) / RECENT - before
        contrast = np.where(np.isnan(contrast), 0.0, contrast)
        size, lone = np.abs(self.level.residuals(contrast)), np.abs(self.level.lone_residuals(contrast))
        if (holes := self._holes(present, k)) is not None:
            # Metrics that hold an old value can't explain the others.
            size = np.where(holes, lone, size)
        np.maximum(state["peak"], size.max(axis=1), out=state["peak"])
        state["before"] = before[:, -1]
        limit = self.level.limits(self._limits["level"])
        reach = limit * self.level.deviation
        hits = self._judge("level", size / limit[:, None], since_us, HOLD_US, value, before, reach, lone)
        hits += self._spikes(tail, four, k, since_us)
        if not state["position"][0]:
            state["start_us"][0] = time_us[0]
        state["position"][0] += k
        if state["position"][0] == SLOT:
            state["every_us"][0] = max(1, (time_us[-1] - state["start_us"][0]) // (SLOT - 1))
            self._limits = self._limits_for(int(state["every_us"][0]))
        if state["position"][0] % SLOT == 0:
            hits += [hit._replace(edge=hit.edge._replace(column=k - 1)) for hit in self._end_slot(since_us[-1:])]
        return hits

    def arrays(self) -> dict[str, Array]:
        """Everything learnt, by name."""
        found = dict(self.state)
        for name, contrasts in self._contrasts():
            found |= {f"{name}/{key}": array for key, array in contrasts.state().items()}
        for name, episodes in self.episodes.items():
            found |= {f"{name}/{key}": column for key, column in episodes.table.columns().items()}
        return found

    def reach(self) -> Float64:
        """Returns float64 (m,): how far the next readings may lie from `state["before"]`."""
        return np.asarray(self.level.limits(self._limits["level"]) * self.level.deviation)

    def _contrasts(self) -> list[tuple[str, Contrasts]]:
        return [("level", self.level), *((f"change{i}", contrasts) for i, contrasts in enumerate(self.changes))]

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Takes over what `arrays` returned for the same metrics.

        Raises:
            CorruptStateError: it is not that.
        """
        own = self.arrays()
        for name, array in own.items():
            if name not in arrays or arrays[name].shape != array.shape or arrays[name].dtype != array.dtype:
                raise CorruptStateError(f"the snapshot of the detectors has no fitting {name}")
        self.state = {name: np.array(arrays[name]) for name in self.state}
        self._limits = self._limits_for(int(self.state["every_us"][0]) or US_PER_S)
        for name, contrasts in self._contrasts():
            contrasts.load({key: arrays[f"{name}/{key}"] for key in contrasts.state()})
        for name, episodes in self.episodes.items():
            episodes.table.load({key: arrays[f"{name}/{key}"] for key in episodes.table.columns()})

    def _filled(self, value: Float64, present: Bool | None) -> Float64:
        """Puts the reading before into every hole."""
        if present is None:
            return value
        last = self.state["history"][:, -1:]
        at = np.maximum.accumulate(np.where(present, np.arange(value.shape[1]), -1), axis=1)
        return np.asarray(np.where(at < 0, last, np.take_along_axis(value, np.maximum(at, 0), axis=1)))

    def _holes(self, present: Bool | None, k: int) -> Bool | None:
        """Tells, bool (k,), at which samples a contrast looks back on a hole of some metric; None for none of them."""
        position, last = int(self.state["position"][0]), self.state["hole"]
        if present is None:
            if position - int(last[0]) > BEFORE + RECENT:
                return None
            at = np.full(k, last[0])
        else:
            hole = ~present[self._usable].all(axis=0)
            at = np.maximum(np.maximum.accumulate(np.where(hole, position + np.arange(k), -SLOT)), last[0])
            last[0] = at[-1]
        return np.asarray(position + np.arange(k) - at < BEFORE + RECENT)

    def _judge(
        self,
        detector: str,
        score: Float64,
        since_us: Int64,
        hold_us: int,
        value: Float64,
        expected: Float64,
        reach: Float64,
        lone: Float64 | None = None,
    ) -> list[Hit]:
        """Turns scores (1 = at the limit) into edges; of metrics beyond it at one time the worst speaks for all.

        While one speaks, another whose contrasts are usual for itself (`lone`) only echoes it.
        """
        which = DETECTORS.index(detector)
        episodes, muted, released = self.episodes[detector], self.state["muted"][which], self.state["released"][which]
        at = int(self.state["position"][0])
        hit = score > 1.0
        everyone = slice(None)
        if hit.any():
            hit &= score == score.max(axis=0)
        elif not episodes.active(everyone).any():
            return []
        hits: list[Hit] = []
        hold_us = max(hold_us, HOLD_SAMPLES * int(self.state["every_us"][0]))
        speaking = np.array(episodes.active(everyone)) & ~muted
        edges = sorted(episodes.step(everyone, hit, score > LINGER), key=lambda edge: edge.column)
        for edge in edges:
            row, column = edge.row, edge.column
            if edge.is_onset:
                # While one metric still follows an order, others may join in late, and it may falter.
                follows = bool(muted.any()) or at + column - int(released) < FALTER
                muted[row] = since_us[column] < hold_us or (follows and since_us[column] < LEARN_AFTER_US)
                if lone is not None and speaking.any():
                    muted[row] |= lone[row, column] < ECHO_MAX
            speaking[row] = edge.is_onset and not muted[row]
            if not muted[row]:
                hits.append(
                    Hit(
                        edge,
                        detector,
                        float(score[row, column]),
                        float(value[row, column]),
                        float(expected[row, column]),
                        float(reach[row]),
                    )
                )
            elif not edge.is_onset:
                released = self.state["released"][which] = at + column
            if not edge.is_onset:
                muted[row] = False
        return hits

    def _spikes(self, tail: Float64, four: Float64, k: int, since_us: Int64) -> list[Hit]:
        """Finds excursions of at most SPIKE_MAX samples, at the sample that has returned."""
        scale, end, width = self.state["scale"], four.shape[1], k + SPIKE_MAX
        little = 1.0 + LITTLE / max(1, int(self.state["position"][0]) // SLOT * SLOT)
        limit = (
            little
            * self._limits["spike"]
            * DEVIATION_PER_MEAN
            * scale
            * np.maximum(1.0, self.state["jump"] / JUMP_NORMAL)
        )
        before = four[:, end - 1 - width : end - 1] / 4
        newest = tail[:, tail.shape[1] - width :]
        excursion = np.where(scale[:, None] > 0, newest - before, 0.0)
        score, base = np.zeros((len(scale), k)), before[:, SPIKE_MAX:]
        if not (np.abs(excursion) > limit[:, None]).any():
            return self._judge("spike", score, since_us, HOLD_US, newest[:, SPIKE_MAX:], base, limit)
        for long in range(1, SPIKE_MAX + 1):
            start = slice(SPIKE_MAX - long, SPIKE_MAX - long + k)
            first, level = excursion[:, start], before[:, start]
            size = np.abs(first)
            found = (size > limit[:, None]) & (np.abs(newest[:, SPIKE_MAX:] - level) < RETURNED * size)
            for inner in range(1, long):
                middle = newest[:, SPIKE_MAX - long + inner : SPIKE_MAX - long + inner + k] - level
                found &= middle * np.sign(first) > RETURNED * size
            better = found & (size / np.maximum(limit, 1e-300)[:, None] > score)
            score = np.where(better, size / np.maximum(limit, 1e-300)[:, None], score)
            base = np.where(better, level, base)
        return self._judge("spike", score, since_us, HOLD_US, newest[:, SPIKE_MAX:], base, limit)

    def _end_slot(self, since_us: Int64) -> list[Hit]:
        """Judges drift and noise, then learns from the slot if it was quiet."""
        state = self.state
        newest = state["history"][:, -SLOT:]
        mean = newest.mean(axis=1)
        innovation = np.abs(newest - means_of_four(state["history"], SLOT))
        rough, jump = innovation.mean(axis=1), innovation.max(axis=1)
        scale = state["scale"]
        with np.errstate(divide="ignore", invalid="ignore"):
            clipped = np.minimum(innovation, 6 * scale[:, None]).mean(axis=1)
            ratio = np.where(scale > 0, clipped / scale, 0.0)
        warm = bool(self.level.count[0] >= WARMUP)
        limit = self._limits["noise"] * state["rough"]
        score = (ratio / limit)[:, None] * (warm & self._usable)[:, None]
        hits = self._judge(
            "noise", score, since_us, HOLD_SLOW_US, rough[:, None], scale[:, None], limit * scale - scale
        )

        state["ring"] = np.concatenate([state["ring"][:, 1:], mean[:, None]], axis=1)
        if since_us[0] < max(SETTLE_US, 2 * int(state["every_us"][0])):
            state["ring"][:] = np.nan  # What was before an order is nothing to compare with.
        drifts = [self._drift(*scale) for scale in SCALES]
        sizes = [np.abs(c.residuals(drift[:, None])[:, 0]) for c, (drift, _) in zip(self.changes, drifts, strict=True)]
        limits = [c.limits(self._limits["change"]) for c in self.changes]
        scores = np.array([size / limit for size, limit in zip(sizes, limits, strict=True)])
        score = scores.max(axis=0)
        expected = drifts[int(scores.max(axis=1).argmax())][1]
        reach = limits[0] * self.changes[0].deviation
        lone = np.abs([c.lone_residuals(drift[:, None]) for c, (drift, _) in zip(self.changes, drifts, strict=True)])
        hits += self._judge(
            "change",
            score[:, None],
            since_us,
            HOLD_SLOW_US,
            mean[:, None],
            expected[:, None],
            reach,
            lone.max(axis=0),
        )
        self._learn([drift for drift, _ in drifts], sizes, ratio, rough, jump, int(since_us[0]))
        state["peak"][:] = 0.0
        return hits

    def _drift(self, recent: int, lag: int, before: int) -> tuple[Float64, Float64]:
        """Returns (contrast of slot means, mean of the slots before), 0 and NaN where slots are missing."""
        ring = self.state["ring"]
        expected = ring[:, RING - recent - lag - before : RING - recent - lag].mean(axis=1)
        drift = ring[:, RING - recent :].mean(axis=1) - expected
        return np.where(np.isnan(drift), 0.0, drift), expected

    def _learn(
        self,
        drifts: Sequence[Float64],
        sizes: Sequence[Float64],
        ratio: Float64,
        rough: Float64,
        jump: Float64,
        since_us: int,
    ) -> None:
        state = self.state
        if not is_full(state["history"], self._usable):
            return
        speaking = any(
            bool((np.asarray(episodes.active(slice(None))) & ~state["muted"][i]).any())
            for i, episodes in enumerate(self.episodes.values())
        )
        state["alarmed"][0] = state["alarmed"][0] + 1 if speaking else 0
        is_quiet = not 0 < state["alarmed"][0] <= ALARM_SLOTS_MAX
        samples_us = LEARN_SAMPLES * int(state["every_us"][0])
        if since_us >= max(LEARN_AFTER_US, samples_us):
            self._learn_tails(sizes if is_quiet else [], jump)
        if not is_quiet:
            return  # An anomaly teaches no more, unless it goes on for so long that it has become the rule.
        count = int(self.level.count[0])
        weight = max(1.0 / (count + 1), 1.0 / NOISE_MEMORY)
        finite = np.isfinite(rough)
        rough = np.where(finite, rough, 0.0)
        first = (state["scale"] == 0) & finite
        known = np.where(first, rough, state["scale"])
        if count >= WARMUP:
            state["rough"] += np.where(ratio > state["rough"], ROUGH_RISE, ROUGH_FADE) * (
                np.clip(ratio, 1.0, 2 * state["rough"]) - state["rough"]
            )
            rough = np.minimum(rough, 2 * known)
        state["scale"] = np.where(finite, known + weight * (rough - known), known)
        if since_us >= max(HOLD_US, samples_us):
            self.level.learn(level_contrasts(state["history"], TAUGHT, RECENT, BEFORE))
        for contrasts, drift, scale in zip(self.changes, drifts, SCALES, strict=True):
            if since_us >= max(LEARN_AFTER_US, samples_us) and is_full(
                state["ring"][:, RING - sum(scale) :], self._usable
            ):
                contrasts.learn(drift[:, None])

    def _learn_tails(self, sizes: Sequence[Float64], jump: Float64) -> None:
        """Lets the limits follow the largest residuals and jumps of the slot."""
        state = self.state
        self.level.learn_tail(state["peak"])
        for contrasts, size in zip(self.changes, sizes, strict=False):
            contrasts.learn_tail(size)
        if self.level.count[0] >= WARMUP:
            scale = state["scale"]
            jumps = np.where(np.isfinite(jump) & (scale > 0), jump / np.where(scale > 0, scale, 1.0), state["jump"])
            step = np.minimum(jumps, 2 * state["jump"]) - state["jump"]
            state["jump"] += np.where(step > 0, PEAK_RISE, PEAK_FADE) * step
