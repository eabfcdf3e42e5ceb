"""Initialisation from recordings of different lengths. Padded steps are ignored."""

from __future__ import annotations

import numpy as np

from brainhw.init.pair import PairInitializer
from brainhw.init.response import MembraneBasis

__all__ = ["PaddedInitializer", "true_steps"]


def true_steps(x: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Return the steps of ``x [B, T, N]`` for which ``valid [T, B]`` is True, as one recording ``[1, n, N]``.

    If ``valid`` is ``None``, return ``x``.
    """
    return x if valid is None else x[valid.T][None]


class PaddedInitializer(PairInitializer):
    """Find the weights of one pair from padded input. ``circuit.valid`` is False for padded steps."""

    def _basis(self, x: np.ndarray, direction: np.ndarray | None) -> MembraneBasis:
        valid = self.circuit.valid
        assert valid is not None
        # Covariances are sums over all steps, divided by the number of steps. If padded steps are set to the mean of
        # the other steps, they add nothing to the sums. The factor corrects the number of steps, which includes the
        # padded ones.
        mean = true_steps(x, valid).mean(axis=(0, 1), dtype=np.float64)
        factor = np.sqrt(valid.size / valid.sum())
        return super()._basis(np.where(valid.T[..., None], mean + factor * (x - mean), mean), direction)
