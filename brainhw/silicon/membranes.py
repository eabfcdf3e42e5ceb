"""Plausibility checks of recorded membrane potentials: their unit, and reading after the reset."""

from __future__ import annotations

import numpy as np

__all__ = ["fault_of_membranes"]

# Above this many thresholds, or always below the inverse, membrane potentials are in a wrong unit.
_MOST = 100
# After a reset the membrane potential is zero, or the excess over the threshold, which rarely reaches this part of it.
_AFTER_RESET = 0.8
_LEAST_SPIKES = 20
# This sample is usually enough; checking a whole batch takes a third of a training step.
_LOOKED_AT = 50_000


def fault_of_membranes(path: str, V: np.ndarray, spikes: np.ndarray, V_th: float) -> tuple[str, bool]:
    """Return the fault of membrane potentials in mV, and whether it must be an error; empty without a fault."""
    low, high = float(V.min()), float(V.max())
    largest = max(-low, high)
    if largest > _MOST * V_th:
        return (
            f"membranes of {path!r} must lie within {_MOST} thresholds of {V_th:g} mV; got {low:g} to {high:g} mV. "
            "Give them with their own unit, or omit them; if the input is far too large, scale it.",
            True,
        )
    fired = spikes.reshape(-1).view(bool)  # bytes of 0 and 1; NumPy counts bools ten times faster
    n_spikes = int(np.count_nonzero(fired))
    rate = n_spikes / fired.size
    # A neuron that fires in most steps is mostly at its reset.
    if largest < V_th / _MOST and 0 < rate < 0.5:
        return (
            f"the membranes of {path!r} stay within {largest:.3g} mV although its neurons fire at a threshold of "
            f"{V_th:g} mV. Check their unit, or omit them.",
            False,
        )
    if rate < 0.5 and n_spikes >= _LEAST_SPIKES:
        where = np.flatnonzero(fired[:_LOOKED_AT])
        if where.size < _LEAST_SPIKES:
            where = np.flatnonzero(fired)
        at_spikes = float(np.median(V.reshape(-1)[where]))
        if at_spikes > _AFTER_RESET * V_th:
            return (
                f"membranes of {path!r} must be read after the reset; in the steps of its spikes they are at "
                f"{at_spikes:.4g} mV (median), with a threshold of {V_th:g} mV. Read them after it, or omit them.",
                True,
            )
    return "", False
