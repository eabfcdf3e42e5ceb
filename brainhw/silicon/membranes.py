"""Whether recorded membranes can be those of a chip: their unit, and that they were read after the reset."""

from __future__ import annotations

import numpy as np

__all__ = ["fault_of_membranes"]

# Membranes beyond this many thresholds are in another unit, and so are those that stay below its inverse.
_MOST = 100
# After a reset a membrane is at zero, or above it by what exceeded the threshold: seldom this part of it.
_AFTER_RESET = 0.8
_LEAST_SPIKES = 20
# So many values are mostly enough for that; all of a batch would cost a third of a training step.
_LOOKED_AT = 50_000


def fault_of_membranes(path: str, V: np.ndarray, spikes: np.ndarray, V_th: float) -> tuple[str, bool]:
    """Return what is wrong with membranes in mV, and whether no chip can have them; empty if nothing is."""
    low, high = float(V.min()), float(V.max())
    largest = max(-low, high)
    if largest > _MOST * V_th:
        return (
            f"membranes of {path!r} must lie within {_MOST} thresholds of {V_th:g} mV; got {low:g} to {high:g} mV. "
            "Give them with their own unit, or use none; if the input is far too large, scale it.",
            True,
        )
    fired = spikes.reshape(-1).view(bool)  # a recording holds bytes of 0 and 1; numpy counts flags ten times faster
    n_spikes = int(np.count_nonzero(fired))
    rate = n_spikes / fired.size
    # A neuron that fires in most steps is mostly at its reset.
    if largest < V_th / _MOST and 0 < rate < 0.5:
        return (
            f"the membranes of {path!r} stay within {largest:.3g} mV while its neurons fire, and the threshold is "
            f"{V_th:g} mV. Check their unit, or use none.",
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
                f"{at_spikes:.4g} mV (median), and the threshold is {V_th:g} mV. Read them after it, or use none.",
                True,
            )
    return "", False
