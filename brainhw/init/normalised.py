"""Detect targets that are met only because the epsilon of a normalisation hides the size of the weights."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from brainhw.init.circuit import WiredCircuit
from brainhw.init.pair import Draw, PairInitializer

__all__ = ["what_is_hidden"]

_USUAL = 0.1  # typical weights without a normalisation, as a share of the weight limit or the threshold
_TINY = 10.0  # check only weights that are more than this factor below typical ones
_LEAST_SHARE = 0.5  # a path that answers typical weights with less than this share of a linear answer is normalised


def what_is_hidden(solver: PairInitializer, draw: Draw) -> str:
    """Return a warning if the target is met only by weights below the epsilon of a normalisation; otherwise empty."""
    circuit = solver.circuit
    # A bent charge curve also answers large weights less, and other drives would mask the effect of the weights.
    if not isinstance(circuit, WiredCircuit) or circuit.bends or np.any(solver.rest_variance):
        return ""
    drawn = float(np.std(draw.weight))
    times = _USUAL * min(circuit.weight_limit, float(circuit.threshold().min())) / max(drawn, 1e-30)
    if times < _TINY:
        return ""
    try:
        small, large = (solver.meter.alone(jnp.asarray(n * draw.weight))[1] for n in (1, times))
    finally:
        circuit.store(draw.weight, draw.recurrent)
    moves = small > 0
    ratio = float(np.median(large[moves] / small[moves])) if moves.any() else times
    if ratio > _LEAST_SHARE * times:
        return ""
    return (
        f"the target is met by weights of {drawn:.2g} alone: {times:.3g} times as large they move the membranes "
        f"{ratio:.2g} times as much. An operation between synapse and layer, such as a normalisation whose epsilon "
        "covers such small values, sets the size of the drive once the weights are trained. Scale its output, or "
        "remove it."
    )
