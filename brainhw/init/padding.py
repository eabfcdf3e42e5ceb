"""Initialisation from recordings of different lengths: padded steps do not count."""

from __future__ import annotations

import numpy as np

from brainhw.init.pair import PairInitializer
from brainhw.init.response import MembraneBasis

__all__ = ["PaddedInitializer", "true_steps"]


def true_steps(x: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Return the ``valid`` steps ``[T, B]`` of ``x`` ``[B, T, N]`` as one recording ``[1, n, N]``, or all of ``x``."""
    return x if valid is None else x[valid.T][None]


class PaddedInitializer(PairInitializer):
    """Find the weights of one pair from padded input. ``circuit.valid`` marks the true steps."""

    def _basis(self, x: np.ndarray, direction: np.ndarray | None) -> MembraneBasis:
        valid = self.circuit.valid
        assert valid is not None
        # Covariances are sums over all steps, divided by their number. Padding at the mean of the true steps adds
        # nothing to the sums. The factor corrects the division, which also counts the padded steps.
        mean = true_steps(x, valid).mean(axis=(0, 1), dtype=np.float64)
        factor = np.sqrt(valid.size / valid.sum())
        return super()._basis(np.where(valid.T[..., None], mean + factor * (x - mean), mean), direction)
