"""Population coding: each feature is converted to input currents by overlapping tuning curves."""

from __future__ import annotations

from typing import Any

import numpy as np

from brainhw._arguments import LONGEST_AXIS, number, positive_int
from brainhw.data.features import features

__all__ = ["population_currents"]


def population_currents(
    x: Any, n_neurons: int, *, low: float = 0.0, high: float = 1.0, width: float | None = None
) -> np.ndarray:
    """Encode each feature with ``n_neurons`` inputs, each with a preferred value and a Gaussian tuning curve.

    The preferred values ``c_i`` are evenly spaced from ``low`` to ``high``. The current of input ``i`` is
    ``exp(-((x - c_i) / width)**2 / 2)``. With this encoding, a neuron can respond to values in the middle of the range,
    and small values drive the network as strongly as large ones.

    Parameters
    ----------
    x
        Features ``[..., C]``, which may be negative. Values are clipped to the range ``low`` to ``high``.
    n_neurons
        Number of inputs per feature, at least 2.
    low, high
        Range of the features. Default 0 to 1. For standardised features use -2 to 2.
    width
        Standard deviation of a tuning curve. Default: the distance between neighbouring preferred values.

    Returns
    -------
    numpy.ndarray
        float32 currents between 0 and 1 of shape ``[..., C * n_neurons]``; the inputs of a feature are adjacent.

    Raises
    ------
    TypeError
        If ``x`` is a Quantity or is not an array of numbers, or another argument has the wrong type.
    ValueError
        If ``x`` contains non-finite values, ``n_neurons`` is below 2, or the range or ``width`` is not positive.

    Examples
    --------
    >>> from brainhw.data import population_currents
    >>> population_currents([[0.0, 0.5]], 3).round(2).tolist()
    [[1.0, 0.6100000143051147, 0.14000000059604645, 0.6100000143051147, 1.0, 0.6100000143051147]]
    """
    call = "population_currents"
    array = features(x, call).astype(np.float64)
    n_neurons = positive_int(n_neurons, call=call, name="n_neurons", most=LONGEST_AXIS)
    if n_neurons < 2:
        raise ValueError(f"{call}: n_neurons must be at least 2 for each feature; got {n_neurons}.")
    low = number(low, call=call, name="low")
    high = number(high, call=call, name="high")
    if not low < high:
        raise ValueError(f"{call}: low must be less than high; got low {low:g} and high {high:g}.")
    if width is None:
        width = (high - low) / (n_neurons - 1)
    width = number(width, call=call, name="width", positive=True)
    # braintools.PopulationEncoder is not used, because it draws spikes and moves the axes of the features.
    away = (np.clip(array, low, high)[..., None] - np.linspace(low, high, n_neurons)) / width
    currents = np.exp(-(away**2) / 2).astype(np.float32)
    return currents.reshape(*array.shape[:-1], array.shape[-1] * n_neurons)
