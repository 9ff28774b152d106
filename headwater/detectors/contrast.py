"""How unusual a vector of contrasts is, metric by metric, given what the other metrics of the device did.

A contrast is "recent minus before", one number per metric. Metrics of one machine move together (load, weather), so
each is judged by its residual after regression on the others. All m regressions come from one precision matrix P, the
inverse of the contrasts' covariance: residual_i = (P c)_i / P_ii with variance 1 / P_ii. The covariance is learnt from
quiet times with exponential weights and shrunk towards its diagonal.
"""

import numpy as np

from headwater.detectors.roster import Array
from headwater.frame import Float64

WARMUP = 24  # Contrasts to see before judging any.
MEMORY = 1_024  # Weight of a new contrast is at least 1 / MEMORY.
REFIT_EVERY = 32
PEAK_RISE, PEAK_FADE = 0.25, 0.05
LITTLE_METRICS = 6
TAIL_NORMAL = 2.7  # Largest of some thirty normal residuals, on average and then some.
PRODUCTS_MAX = 20_000  # So many at once stay in the cache and on pages that the process has already.
LEARN_MAX = 3.0  # Residuals beyond so many deviations teach only that much.


class Contrasts:
    """Learns and scores the contrasts of the m metrics of one time axis.

    Args:
        usable: bool (m,), metrics that have a level (states have none).
        floor: float64 (m,), smallest standard deviation to believe in (from the resolution).
        little: a young covariance is too small: after n contrasts limits are wider by little * (m + 6) / n. The more
            the contrasts that are learnt overlap, the larger.
    """

    def __init__(self, usable: Array, floor: Float64, little: float) -> None:
        m = len(usable)
        self._usable = usable
        self._floor = floor
        self._little = little
        self.count = np.zeros(1, np.int64)
        self.covariance = np.zeros((m, m))
        self.peak = np.full(m, TAIL_NORMAL)
        self.weight = np.zeros((m, m))
        self.deviation = np.full(m, np.inf)
        self.alone = np.full(m, np.inf)

    def residuals(self, contrast: Float64) -> Float64:
        """Returns float64 (m, n) residuals in standard deviations; 0 while there is too little experience.

        Products are added metric by metric (numpy does so along an outer axis), not by a matrix product, whose
        rounding would depend on n; a lone column takes the metrics that are added as the outer axis for that reason.
        """
        if self.count[0] < WARMUP:
            return np.zeros(contrast.shape)
        residual: Float64
        if contrast.shape[1] == 1:
            residual = np.add.reduce(np.multiply(self.weight.T, contrast, order="C"), axis=0)
            return residual[:, None]
        residual = np.empty(contrast.shape)
        rows = max(1, PRODUCTS_MAX // contrast.size)
        for at in range(0, len(contrast), rows):
            products = self.weight[at : at + rows, :, None] * contrast[None, :, :]
            np.add.reduce(products, axis=1, out=residual[at : at + rows])
        return residual

    def lone_residuals(self, contrast: Float64) -> Float64:
        """Returns float64 (m, n) contrasts in their own standard deviations: for when the other metrics can't help."""
        return np.asarray(contrast / self.alone[:, None])

    def learn_tail(self, peak: Float64) -> None:
        """Takes float64 (m,) the largest |residual| of each metric in a slot, quiet or not.

        Limits follow it up at once and down slowly: what jumps often by itself has to jump further to be an anomaly,
        and an alarm makes its metric a little harder of hearing for a while (the budget of false alarms).
        """
        if self.count[0] >= WARMUP:
            step = np.where(self._usable, np.minimum(peak, 2 * self.peak) - self.peak, 0.0)
            self.peak += np.where(step > 0, PEAK_RISE, PEAK_FADE) * step

    def learn(self, contrast: Float64) -> None:
        """Takes float64 (m, n) contrasts of a quiet time."""
        before = int(self.count[0])
        count = self.count[0] = before + contrast.shape[1]
        weight = max(contrast.shape[1] / count, contrast.shape[1] / MEMORY)
        if before >= WARMUP:
            variance = self.covariance.diagonal()
            # What never moved yet may take any first step.
            reach = np.where(variance > 0, LEARN_MAX * np.sqrt(variance) + self._floor, np.inf)
            contrast = np.clip(contrast, -reach[:, None], reach[:, None])
        contrast = np.where(self._usable[:, None], contrast, 0.0)
        seen = contrast @ contrast.T / contrast.shape[1]
        moves_first = (self.covariance.diagonal() == 0) & (seen.diagonal() > 0)
        self.covariance += weight * (seen - self.covariance)
        if moves_first.any():  # Its first step is the best guess of how far it goes.
            at = np.flatnonzero(moves_first)
            self.covariance[at, at] = seen[at, at]
        if count >= WARMUP and (before < WARMUP or count // REFIT_EVERY > before // REFIT_EVERY):
            self._refit(count)

    def _refit(self, count: int) -> None:
        variance = np.diag(self.covariance).copy()
        known = self._usable & (variance > 0)
        scale = np.where(known, np.sqrt(np.maximum(variance, 1e-300)), 1.0)
        correlation = self.covariance / scale[:, None] / scale[None, :]
        effective = min(count, 2 * MEMORY)
        shrink = min(0.5, len(variance) / effective)
        correlation *= 1 - shrink
        correlation[np.diag_indices(len(variance))] = 1.0
        precision = np.linalg.inv(correlation)
        own = np.diag(precision)
        # Weights act on contrasts in the metrics' units and give deviations: P_ij / P_ii, rescaled.
        spread = scale / np.sqrt(own)
        self.deviation = np.where(known, np.maximum(spread, self._floor), np.inf)
        self.alone = np.where(known, np.maximum(scale, self._floor), np.inf)
        self.weight = precision / own[:, None] * scale[:, None] / scale[None, :] / self.deviation[:, None]

    def limits(self, normal: float) -> Float64:
        """Returns float64 (m,): the residual to alarm at, `normal` deviations, more where the tails are heavier."""
        little = 1.0 + self._little * (len(self.peak) + LITTLE_METRICS) / max(int(self.count[0]), 1)
        return np.asarray(normal * little * np.maximum(1.0, self.peak / TAIL_NORMAL))

    def state(self) -> dict[str, Array]:
        """Everything learnt, by name."""
        return {name: getattr(self, name) for name in ("count", "covariance", "peak", "weight", "deviation", "alone")}

    def load(self, state: dict[str, Array]) -> None:
        """Takes over what `state` returned."""
        for name, array in state.items():
            setattr(self, name, np.array(array))
