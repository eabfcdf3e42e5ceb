"""Detect layers that meet the target of ``fluct_init`` only with weights far below the epsilon of a normalisation."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from brainhw.init.circuit import WiredCircuit
from brainhw.init.pair import Draw, PairInitializer

__all__ = ["normalisation_warning"]

_USUAL = 0.1  # size of typical weights without a normalisation, as a fraction of the weight limit or the threshold
_TINY = 10.0  # check only weights that are smaller than typical ones by more than this factor
_LEAST_SHARE = 0.5  # if typical weights reach less than this fraction of a linear response, the path is normalised


def normalisation_warning(solver: PairInitializer, draw: Draw) -> str:
    """Return the text of a warning if only weights far below the epsilon of a normalisation meet the target.

    Otherwise return an empty string.
    """
    circuit = solver.circuit
    # A nonlinear charge curve also responds less to large weights, and other inputs would mask the effect of the
    # weights. So check neither case.
    if not isinstance(circuit, WiredCircuit) or circuit.has_nonlinear_charge or np.any(solver.rest_variance):
        return ""
    drawn = float(np.std(draw.weight))
    times = _USUAL * min(circuit.weight_limit, float(circuit.threshold().min())) / max(drawn, 1e-30)
    if times < _TINY:
        return ""
    try:
        small, large = (solver.meter.feedforward_moments(jnp.asarray(n * draw.weight))[1] for n in (1, times))
    finally:
        circuit.store(draw.weight, draw.recurrent)
    responds = small > 0
    ratio = float(np.median(large[responds] / small[responds])) if responds.any() else times
    if ratio > _LEAST_SHARE * times:
        return ""
    return (
        f"only very small weights (standard deviation {drawn:.2g}) meet the target. Weights {times:.3g} times as large "
        f"change the membrane potentials only {ratio:.2g} times as much. The cause is an operation between synapse and "
        "layer, such as a normalisation whose epsilon is larger than these values. After training, this operation and "
        "not the weights determines the size of the layer's input. Scale the output of the operation, or remove it."
    )
