"""Plausibility checks of recorded membrane potentials: detect a wrong unit, and readings before the reset."""

from __future__ import annotations

import numpy as np

__all__ = ["fault_of_membranes"]

# Membrane potentials have a wrong unit if one exceeds ``_MOST`` thresholds, or if all are below ``1 / _MOST``
# thresholds.
_MOST = 100
# After a reset the membrane potential is zero, or the excess over the threshold. The excess is rarely larger than this
# fraction of the threshold.
_MAX_AFTER_RESET = 0.8
_LEAST_SPIKES = 20
# Checking this many values is usually enough. Checking a whole batch takes a third of the time of a training step.
_N_CHECKED = 50_000


def fault_of_membranes(path: str, V: np.ndarray, spikes: np.ndarray, V_th: float) -> tuple[str, bool]:
    """Return a message about implausible membrane potentials, and whether the caller must raise an error.

    The membrane potentials ``V`` and the threshold ``V_th`` are in mV. The message is empty if they are plausible.
    """
    low, high = float(V.min()), float(V.max())
    largest = max(-low, high)
    if largest > _MOST * V_th:
        return (
            f"membranes of {path!r} must lie within {_MOST} times the threshold of {V_th:g} mV; got {low:g} to "
            f"{high:g} mV. Pass them with their unit, or omit them. If the input is far too large, scale it down.",
            True,
        )
    fired = spikes.reshape(-1).view(bool)  # the bytes are 0 or 1, and NumPy counts bools ten times faster
    n_spikes = int(np.count_nonzero(fired))
    rate = n_spikes / fired.size
    # If neurons fire in most steps, low membrane potentials are plausible, because most readings follow a reset.
    if largest < V_th / _MOST and 0 < rate < 0.5:
        return (
            f"the membranes of {path!r} stay within {largest:.3g} mV although its neurons fire at a threshold of "
            f"{V_th:g} mV. Check their unit, or omit them.",
            False,
        )
    if rate < 0.5 and n_spikes >= _LEAST_SPIKES:
        where = np.flatnonzero(fired[:_N_CHECKED])
        if where.size < _LEAST_SPIKES:
            where = np.flatnonzero(fired)
        at_spikes = float(np.median(V.reshape(-1)[where]))
        if at_spikes > _MAX_AFTER_RESET * V_th:
            return (
                f"membranes of {path!r} must be read after the reset; in the steps with a spike their "
                f"median is {at_spikes:.4g} mV, and the threshold is {V_th:g} mV. Read them after the reset, or omit "
                "them.",
                True,
            )
    return "", False
