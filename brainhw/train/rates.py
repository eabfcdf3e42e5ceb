"""Losses on firing rates and spike counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.kernel.precision import for_sums

__all__ = ["balanced_population_mse", "firing_rate_target_mse_loss"]


def firing_rate_target_mse_loss(
    spikes_list: Sequence[jax.Array], offsets: Sequence[Any], multipliers: Sequence[Any]
) -> jax.Array:
    r"""Pull the mean rate of each layer towards a target.

    .. math:: L = \sum_i \big((r_i - o_i)\, m_i\big)^2

    Parameters
    ----------
    spikes_list : sequence of jax.Array
        Spikes of each layer, time first, ``[T, ..., N]``.
    offsets : sequence of Quantity or float
        Target rate :math:`o_i` of each layer: a Quantity (such as ``20 * u.Hz``; ``dt`` is then read from
        ``brainstate.environ``) or a plain number of spikes per step.
    multipliers : sequence of Quantity or float
        Weight :math:`m_i`: a time for offsets in Hz (with ``50 * u.ms`` a difference of 20 Hz counts 1), a plain number
        for plain offsets.

    Returns
    -------
    jax.Array
        A dimensionless scalar.

    Raises
    ------
    ValueError, TypeError
        If the lengths differ, a list is empty, or offset and multiplier do not cancel to a plain number.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> spikes = jnp.ones((10, 4, 3)) * jnp.array([1.0, 0.0, 0.5])
    >>> float(bh.train.firing_rate_target_mse_loss([spikes], [0.25], [2.0]))
    0.25
    """
    call = "firing_rate_target_mse_loss"
    lengths = len(spikes_list), len(offsets), len(multipliers)
    if len(set(lengths)) > 1 or not lengths[0]:
        raise ValueError(f"{call}: give one offset and one multiplier for each layer's spikes; got lengths {lengths}.")
    terms = []
    for i, (spikes, offset, multiplier) in enumerate(zip(spikes_list, offsets, multipliers, strict=True)):
        # The mean of the layer, as the vendor defines it: silent and busy neurons may cancel.
        rate = jnp.mean(for_sums(_arguments.as_array(spikes, call=call, name=f"spikes_list[{i}]")))
        names = f"offsets[{i}]", f"multipliers[{i}]"
        if isinstance(offset, u.Quantity):
            target = _arguments.quantity(offset, u.Hz, call=call, name=names[0], shapes=[()]).mantissa
            weight = _arguments.quantity(multiplier, u.second, call=call, name=names[1], shapes=[()]).mantissa
            rate = rate / _arguments.time_step(call=call).to(u.second).mantissa
        else:
            target = _arguments.number(offset, call=call, name=names[0])
            weight = _arguments.number(multiplier, call=call, name=names[1])
        terms.append(((rate - target) * weight) ** 2)
    return jnp.sum(jnp.stack(terms))


def balanced_population_mse(
    spikes: jax.Array, labels: jax.Array, n_classes: int, *, high: float, low: float = 0.0
) -> jax.Array:
    r"""Mean squared error between each output neuron's spike count and a target count.

    .. math:: L = \frac1{BN} \sum_{b,j} (n_{bj} - t_{bj})^2,
              \quad t_{bj} = \text{high if neuron } j \text{ belongs to class } y_b \text{, otherwise low}

    The :math:`N` output neurons form equal, consecutive populations, one for each class.

    Parameters
    ----------
    spikes : jax.Array
        Output spikes ``[T, B, N]``; ``N`` a multiple of ``n_classes``.
    labels : jax.Array
        Class of each sample, ``[B]`` ints.
    n_classes : int
        Number of classes.
    high, low : float
        Target counts over the whole sequence.

    Returns
    -------
    jax.Array
        A dimensionless scalar.

    Raises
    ------
    ValueError
        If ``N`` is not a multiple of ``n_classes`` or a shape does not fit.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> spikes = jnp.ones((5, 1, 2))
    >>> float(bh.train.balanced_population_mse(spikes, jnp.array([0]), 2, high=5, low=1))
    8.0
    """
    call = "balanced_population_mse"
    size = population_size(spikes, labels, n_classes, call=call)
    # Consecutive neurons form a population, as in `accuracy_population`.
    right = jnp.repeat(jax.nn.one_hot(labels, n_classes), size, axis=-1)
    target = low + (high - low) * right
    return jnp.mean((jnp.sum(for_sums(spikes), axis=0) - target) ** 2)


def population_size(spikes: Any, labels: Any, n_classes: int, *, call: str) -> int:
    """Return the neurons per class of output spikes ``[T, B, N]`` with ``labels`` ``[B]``, or raise."""
    check_output(spikes, labels, _arguments.positive_int(n_classes, call=call, name="n_classes"), call=call)
    return equal_populations(spikes.shape[-1], n_classes, call=call)


def equal_populations(n: int, n_classes: int, *, call: str) -> int:
    """Return the neurons per class of ``n`` output neurons, or raise."""
    n_classes = _arguments.positive_int(n_classes, call=call, name="n_classes")
    if n % n_classes:
        raise ValueError(
            f"{call}: {n} output neurons cannot form equal populations for {n_classes} classes; "
            f"use a multiple of {n_classes}."
        )
    return n // n_classes


def check_output(spikes: Any, labels: Any, n_classes: int | None = None, *, call: str) -> None:
    """Raise unless ``spikes`` is ``[T, B, N]`` and ``labels [B]`` are classes, by default 0 to ``N - 1``.

    The numbers of traced labels are not checked.
    """
    shape, label_shape = jnp.shape(spikes), jnp.shape(labels)
    if len(shape) != 3 or label_shape != shape[1:2]:
        raise ValueError(f"{call}: spikes must be [T, B, N] and labels [B]; got shapes {shape} and {label_shape}.")
    if not jnp.issubdtype(jnp.asarray(labels).dtype, jnp.integer):
        raise TypeError(f"{call}: labels must be whole numbers; got {_arguments.describe(labels)}.")
    n_classes = shape[-1] if n_classes is None else n_classes
    numbers = np.asarray(labels) if _arguments.is_concrete(labels) else np.zeros(0)
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < n_classes):
        raise ValueError(
            f"{call}: labels must lie between 0 and {n_classes - 1}; got {numbers.min()} to {numbers.max()}."
        )
