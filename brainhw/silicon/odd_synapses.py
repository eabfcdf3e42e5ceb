"""Find synapses of a charge table that are dead or inverted, and check whether shared codes link the synapses."""

from __future__ import annotations

import numpy as np

__all__ = ["cell_means", "odd_synapses", "shares_codes"]

# The synapses of a chip vary by a few percent to some 10 percent. Outside these limits, a synapse is broken or wrongly
# wired.
_LEAST, _MOST = 0.2, 3.0
_SURE = 3.0
# With fewer shared codes, a gain cannot be estimated.
_LEAST_SHARED = 3


def odd_synapses(code: np.ndarray, synapse: np.ndarray, charge: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Find outlier synapses. Return a mask ``[R]``, which is false for their rows, and a note for each outlier.

    The charge of each synapse is compared with the median over the synapses, at the codes that it shares with other
    synapses. A synapse is an outlier if its charge is less than a fifth of the median or more than three times the
    median. The charge must be outside these limits by more than three standard errors.
    """
    codes, k = np.unique(code, return_inverse=True)
    synapses, s = np.unique(synapse, return_inverse=True)
    mean, count = cell_means(k, s, charge)
    shared = (count > 0) & ((count > 0).sum(1, keepdims=True) > 1)
    if synapses.size == 2:
        # With two synapses, the synapse with the larger slope is the reference, because the median would be the mean of
        # the two synapses.
        slopes = [_slope(codes, mean[:, place]) for place in range(2)]
        reference = mean[:, int(np.argmax(slopes))]
    else:
        reference = np.array([np.median(row[there > 0]) for row, there in zip(mean, count, strict=True)])
    kept, notes = np.ones(synapses.size, bool), []
    for place, number in enumerate(synapses):
        use = shared[:, place] & np.isfinite(reference)
        x, y = reference[use], mean[use, place]
        power = float((x**2).sum())
        if use.sum() < _LEAST_SHARED or not power > 0:
            continue
        gain = float((x * y).sum()) / power
        error = float(np.sqrt(((y - gain * x) ** 2).sum() / (use.sum() - 1) / power))
        if gain + _SURE * error < _LEAST or gain - _SURE * error > _MOST:
            kept[place] = False
            small = "its sign is inverted" if gain < -_LEAST else "it may be dead"
            why = small if gain < _LEAST else "check its weight"
            notes.append(f"synapse {number} is excluded: its charge is {gain:.2f} times that of the others; {why}")
    if kept.sum() < kept.size / 2:
        # If more than half of the synapses are outliers, keep all. The fit then accepts or rejects the table.
        return np.ones(code.size, bool), []
    return kept[s], notes


def cell_means(k: np.ndarray, s: np.ndarray, charge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean charge and the number of readings for each pair of code and synapse, both ``[K, S]``.

    ``k`` and ``s`` contain the indices of the code and of the synapse of each reading. Without readings, the mean is
    NaN.
    """
    count = np.zeros((k.max() + 1, s.max() + 1))
    np.add.at(count, (k, s), 1.0)
    total = np.zeros_like(count)
    np.add.at(total, (k, s), charge)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0), count


def shares_codes(count: np.ndarray) -> bool:
    """Return whether shared codes link all synapses, so that their gains can be compared.

    ``count [K, S]`` contains the number of readings for each code and synapse.
    """
    reached = np.zeros(count.shape[1], bool)
    reached[0] = True
    for _ in range(count.shape[1]):
        linked = (count[(count[:, reached] > 0).any(1)] > 0).any(0) | reached
        if (linked == reached).all():
            break
        reached = linked
    return bool(reached.all())


def _slope(codes: np.ndarray, charge: np.ndarray) -> float:
    there = np.isfinite(charge)
    middle = codes[there] - codes[there].mean()
    return float((middle * charge[there]).sum() / max(float((middle**2).sum()), 1e-300))
