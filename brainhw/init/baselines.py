"""Baseline initialisers for comparison. These rules for non-spiking networks ignore threshold and time constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import jax
import numpy as np

from brainhw import _arguments
from brainhw.init.circuit import Circuit
from brainhw.init.stages import discover_stages
from brainhw.transform.prepare import states_restored

__all__ = ["kaiming_init"]


def kaiming_init(
    net: brainstate.nn.Module,
    initializer: Callable[..., Any] | None = None,
    *,
    key: jax.Array | int = 0,
) -> None:
    """Draw the weights of every dense (synapse, layer) pair with a braintools initializer, in place.

    This is a baseline for :func:`fluct_init`. It replaces the same weight arrays that
    ``fluct_init(net, ..., families="any")`` replaces, including recurrent ones. If weights are voltages, the drawn
    values are multiplied by the mean ``V_th`` of the layer.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.
    initializer : callable, optional
        A braintools initializer. It is called with ``(n_in, n_out)`` and ``rng``, and returns a dimensionless array.
        Default ``braintools.init.KaimingNormal()``, which has the variance 2 / (number of inputs).
    key : jax.Array or int, optional
        PRNG key or seed. Default 0; the same key draws the same weights.

    Raises
    ------
    TypeError
        If ``net`` is not a module, if ``initializer`` is not callable or does not accept a shape and ``rng``, or if
        ``key`` is not a key.
    ValueError
        If the network has no dense (synapse, layer) pair or mixes chip families, if the initializer does not return
        finite values of the requested shape, or if the transform of recurrent weights cannot represent the drawn
        values. The weights are then unchanged.

    Examples
    --------
    >>> import brainhw as bh, brainstate, braintools, brainunit as u
    >>> net = brainstate.nn.Sequential(bh.nn.H1v1Synapse(200, 100), bh.nn.H1v1Layer(100, tau=20 * u.ms))
    >>> bh.init.kaiming_init(net)
    >>> print(f"{net.layers[0].weight.value.std():.2f}")
    0.10
    >>> bh.init.kaiming_init(net, braintools.init.XavierUniform(), key=1)
    """
    call = "kaiming_init"
    _arguments.check_module(net, call=call)
    stages = discover_stages(net, families="any", call=call)
    random_key = _arguments.some_key(key, call)
    rule = braintools.init.KaimingNormal() if initializer is None else initializer
    if not callable(rule):
        raise TypeError(
            f"{call}: initializer must be callable, such as a braintools initializer; got {_arguments.describe(rule)}."
        )
    drawn = []
    for index, pair in enumerate(stages.pairs, start=1):
        circuit = Circuit(*pair)
        if not circuit.slot.trainable:
            continue
        unit = 1.0 if circuit.chip is not None else float(circuit.threshold().mean())
        of_input, of_layer = jax.random.split(jax.random.fold_in(random_key, index))
        weight = unit * _draw(rule, (circuit.n_in, circuit.n_columns), of_input, call)
        recurrent = None
        if circuit.recurrent is not None:
            recurrent = unit * _draw(rule, circuit.recurrent.shape, of_layer, call)
        drawn.append((circuit, weight, recurrent))
    with states_restored(net, keep_weights=True):
        for circuit, weight, recurrent in drawn:
            circuit.store(weight, recurrent)
            circuit.check_recurrent(recurrent, call=call)


def _draw(rule: Callable[..., Any], shape: tuple[int, int], key: jax.Array, call: str) -> jax.Array:
    try:
        drawn = rule(shape, rng=brainstate.random.RandomState(key))
    except TypeError as error:
        raise TypeError(
            f"{call}: initializer must accept a shape and rng=, as braintools initializers do; got "
            f"{_arguments.describe(rule)} ({error})."
        ) from error
    weight = _arguments.as_array(drawn, call=call, name="the result of initializer")
    if np.shape(weight) != shape:
        raise ValueError(f"{call}: initializer returned shape {np.shape(weight)} (expected {shape}).")
    _arguments.check_finite(weight, call=call, name="the result of initializer", fix="use a different initializer")
    return jax.numpy.asarray(weight, brainstate.environ.dftype())
