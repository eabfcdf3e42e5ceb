"""Features of a recording: means over its parts, and statistics that do not depend on the position in time."""

from __future__ import annotations

import numpy as np

__all__ = ["WINDOWS", "position_means", "statistics"]

WINDOWS = (1, 2, 4, 8, 16, 32, 64)
_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
# Added to a value before its logarithm, so that the logarithm of zero is finite.
_LEAST = 1e-3


def position_means(recording: np.ndarray, n_parts: int) -> np.ndarray:
    """Return the means of ``recording [T, C]`` over ``n_parts`` parts of equal length, ``[n_parts, C]``.

    If a part begins or ends within a step, the step is weighted by its fraction inside the part.
    """
    sums, n_steps = _cumulative_sums(recording), len(recording)
    borders = np.linspace(0, n_steps, n_parts + 1)
    whole = np.minimum(np.floor(borders).astype(int), n_steps)
    after = np.minimum(whole + 1, n_steps)
    at_borders = sums[whole] + (borders - whole)[:, None] * (sums[after] - sums[whole])
    return np.diff(at_borders, axis=0) * n_parts / n_steps


def statistics(recording: np.ndarray, windows: tuple[int, ...]) -> np.ndarray:
    """Return statistics of each channel of ``recording [T, C]``, in an array ``[n_statistics, C]``.

    The statistics are the mean, the standard deviation, quantiles, and one change for each window length. This change
    is the mean absolute difference between the means of two consecutive windows. The standard deviation and the changes
    are returned as logarithms.
    """
    spread = np.log(recording.std(axis=0) + _LEAST)
    found = [recording.mean(axis=0), spread, *np.quantile(recording, _QUANTILES, axis=0)]
    sums = _cumulative_sums(recording)
    for window in windows:
        means = (sums[window:] - sums[:-window]) / window
        changes = np.abs(means[window:] - means[:-window])
        change = changes.mean(axis=0) if len(changes) else np.zeros(recording.shape[1])
        found.append(np.log(change + _LEAST))
    return np.stack(found)


def _cumulative_sums(recording: np.ndarray) -> np.ndarray:
    """Return the sums of ``recording [T, C]`` over the first 0, 1, ..., T steps, ``[T + 1, C]``."""
    return np.concatenate([np.zeros((1, recording.shape[1])), np.cumsum(recording, axis=0)])
