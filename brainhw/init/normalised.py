"""Targets that are met only because a normalisation hardly sees weights that small."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from brainhw.init.circuit import WiredCircuit
from brainhw.init.pair import Draw, PairInitializer

__all__ = ["what_is_hidden"]

_USUAL = 0.1  # of the range or the threshold: weights of a plain path
_TINY = 10.0  # by which usual weights are larger than those that the epsilon of a normalisation covers
_LEAST_SHARE = 0.5  # of the answer of a linear path to such weights


def what_is_hidden(solver: PairInitializer, draw: Draw) -> str:
    """Say that the target is met by weights that the epsilon of a normalisation covers; empty if it is not."""
    circuit = solver.circuit
    # A charge curve that bends answers less by itself, and other drives hide what the weights do.
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
        f"{ratio:.2g} times as much, so what lies between synapse and layer, such as a normalisation whose epsilon "
        "covers such small values, sets their size as soon as the weights are trained. Scale what it gives, or remove "
        "it."
    )
