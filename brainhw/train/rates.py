"""Losses on firing rates and spike counts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.kernel.lengths import check_lengths, zero_padding
from brainhw.kernel.precision import for_sums

__all__ = ["balanced_population_mse", "firing_rate_target_mse_loss"]

_FIND = "find their source with brainhw.rollout(..., check_finite=True)"

_MOST_PER_STEP = 10.0


def firing_rate_target_mse_loss(
    spikes_list: Sequence[jax.Array],
    offsets: Sequence[Any],
    multipliers: Sequence[Any],
    *,
    lengths: jax.Array | None = None,
) -> jax.Array:
    r"""Penalise the deviation of each layer's mean rate from a target.

    .. math:: L = \sum_i \big((r_i - o_i)\, m_i\big)^2

    Parameters
    ----------
    spikes_list : sequence of jax.Array
        Spikes of each layer, time first, ``[T, ..., N]``.
    offsets : sequence of Quantity or float
        Target rate :math:`o_i` of each layer, either a Quantity such as ``20 * u.Hz`` or a plain number of spikes per
        step. For a Quantity, ``dt`` is read from ``brainstate.environ``.
    multipliers : sequence of Quantity or float
        Weight :math:`m_i` of each layer. For an offset in Hz, the multiplier is a time: with ``50 * u.ms``, a
        difference of 20 Hz adds 1 to the loss. For a plain offset, the multiplier is a plain number.
    lengths : jax.Array, optional
        Number of steps of each sample without padding. Its shape is that of the spikes without the first and the last
        axis. Rates are averaged over these steps. Default: all steps.

    Returns
    -------
    jax.Array
        A dimensionless scalar.

    Raises
    ------
    ValueError, TypeError
        If the lists differ in length, a list is empty, or the units of offset and multiplier do not cancel.

    Warns
    -----
    UserWarning
        If a plain offset is above 10 spikes per step. It is then most likely a rate in hertz without its unit.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> spikes = jnp.ones((10, 4, 3)) * jnp.array([1.0, 0.0, 0.5])
    >>> float(bh.train.firing_rate_target_mse_loss([spikes], [0.25], [2.0]))
    0.25
    """
    call = "firing_rate_target_mse_loss"
    given = {"spikes_list": spikes_list, "offsets": offsets, "multipliers": multipliers}
    listed = [
        _arguments.several(value, call=call, name=name, of="values, one per layer,", flat=False)
        for name, value in given.items()
    ]
    numbers = tuple(len(values) for values in listed)
    if len(set(numbers)) > 1 or not numbers[0]:
        raise ValueError(
            f"{call}: spikes_list, offsets and multipliers must have the same length, one entry per layer; "
            f"got lengths {numbers}."
        )
    terms = []
    for i, (one, offset, multiplier) in enumerate(zip(*listed, strict=True)):
        spikes = counted(one, call=call, name=f"spikes_list[{i}]")
        if spikes.ndim < 2 or not spikes.size:
            raise ValueError(
                f"{call}: spikes_list[{i}] must be [T, ..., N], with at least one step, sample and neuron; "
                f"got shape {spikes.shape}."
            )
        # As in the vendor's loss, this is the mean rate of the layer, so silent and very active neurons can cancel.
        rate = jnp.mean(mean_over_steps(spikes, lengths, call=call))
        names = f"offsets[{i}]", f"multipliers[{i}]"
        if isinstance(offset, u.Quantity):
            target = _arguments.quantity(offset, u.Hz, call=call, name=names[0], shapes=[()], nonnegative=True).mantissa
            weight = _arguments.quantity(multiplier, u.second, call=call, name=names[1], shapes=[()]).mantissa
            rate = rate / _arguments.time_step(call=call).to(u.second).mantissa
        else:
            target = _arguments.number(offset, call=call, name=names[0], nonnegative=True)
            # A neuron that can fire several times per step fires a few spikes per step. A rate in hertz without its
            # unit is far larger.
            if target > _MOST_PER_STEP:
                warnings.warn(
                    f"{call}: {names[0]} is a plain number, which means {target:g} spikes per step; for a rate pass "
                    f"{target:g} * u.Hz, with a time such as 50 * u.ms in multipliers.",
                    UserWarning,
                    stacklevel=2,
                )
            weight = _arguments.number(multiplier, call=call, name=names[1])
        terms.append(((rate - target) * weight) ** 2)
    return jnp.sum(jnp.stack(terms))


def balanced_population_mse(
    spikes: jax.Array,
    labels: jax.Array,
    n_classes: int,
    *,
    high: float,
    low: float = 0.0,
    lengths: jax.Array | None = None,
) -> jax.Array:
    r"""Mean squared error between each output neuron's spike count and a target count.

    .. math:: L = \frac1{BN} \sum_{b,j} (n_{bj} - t_{bj})^2,
              \quad t_{bj} = \text{high if neuron } j \text{ belongs to class } y_b \text{, otherwise low}

    Each class has :math:`N / n_\text{classes}` consecutive output neurons.

    Parameters
    ----------
    spikes : jax.Array
        Output spikes ``[T, B, N]``, where ``N`` is a multiple of ``n_classes``.
    labels : jax.Array
        Class of each sample, ``[B]`` ints.
    n_classes : int
        Number of classes.
    high, low : float
        Target spike counts over the whole sequence: ``high`` for the neurons of the labelled class, ``low`` for all
        other neurons.
    lengths : jax.Array, optional
        Number of steps of each sample without padding, ``[B]``. Spikes after these steps are ignored. Default: all
        steps.

    Returns
    -------
    jax.Array
        A dimensionless scalar.

    Raises
    ------
    ValueError
        If ``N`` is not a multiple of ``n_classes``, or a shape is invalid.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> spikes = jnp.ones((5, 1, 2))
    >>> float(bh.train.balanced_population_mse(spikes, jnp.array([0]), 2, high=5, low=1))
    8.0
    """
    call = "balanced_population_mse"
    high = _arguments.number(high, call=call, name="high", nonnegative=True, traced=True)
    low = _arguments.number(low, call=call, name="low", nonnegative=True, traced=True)
    if _arguments.is_concrete((low, high)) and low > high:
        raise ValueError(f"{call}: low must not exceed high; got {low:g} and {high:g}. Swap them.")
    spikes, labels, size = check_populations(spikes, labels, n_classes, lengths, call=call)
    # Consecutive neurons form a population, as in `accuracy_population`.
    right = jnp.repeat(jax.nn.one_hot(labels, n_classes), size, axis=-1)
    target = low + (high - low) * right
    return jnp.mean((jnp.sum(for_sums(spikes), axis=0) - target) ** 2)


def mean_over_steps(spikes: jax.Array, lengths: Any, *, call: str) -> jax.Array:
    """Return the mean spike count per step of each neuron, ``[N]``; padded steps are not counted."""
    axes = tuple(range(spikes.ndim - 1))
    if lengths is None:
        return jnp.mean(for_sums(spikes), axis=axes)
    lengths = check_lengths(lengths, spikes.shape[0], spikes.shape[1:-1], call=call)
    return jnp.sum(zero_padding(for_sums(spikes), lengths), axis=axes) / jnp.sum(lengths)


def check_populations(
    spikes: Any, labels: Any, n_classes: int, lengths: Any, *, call: str
) -> tuple[jax.Array, jax.Array, int]:
    """Check output spikes and labels, and return them with the number of neurons per class.

    The spikes are ``[T, B, N]``, set to zero after the length of each sample. The labels are ``[B]``.
    """
    n_classes = _arguments.positive_int(n_classes, call=call, name="n_classes")
    spikes, labels = check_output(spikes, labels, n_classes, lengths, call=call)
    return spikes, labels, equal_populations(spikes.shape[-1], n_classes, call=call)


def counted(spikes: Any, *, call: str, name: str) -> jax.Array:
    """Return spike counts as a float array. Raise if a value is not finite; traced values are not checked."""
    array = jnp.asarray(_arguments.as_array(spikes, call=call, name=name))
    _arguments.check_finite(array, call=call, name=name, fix=_FIND)
    # uint8 sums would wrap at 256, and bfloat16 cannot represent 301.
    wide = jnp.promote_types(array.dtype, jnp.float32) if jnp.issubdtype(array.dtype, jnp.floating) else float
    return array.astype(jnp.result_type(wide))


def equal_populations(n: int, n_classes: int, *, call: str) -> int:
    """Return the number of neurons per class. Raise if ``n`` output neurons cannot be divided among the classes."""
    n_classes = _arguments.positive_int(n_classes, call=call, name="n_classes")
    if n % n_classes:
        raise ValueError(
            f"{call}: {n} output neurons cannot form equal populations for {n_classes} classes. "
            f"Use a multiple of {n_classes}."
        )
    return n // n_classes


def output_spikes(spikes: Any, lengths: Any, *, call: str) -> jax.Array:
    """Return output spikes ``[T, B, N]``, set to zero after the length of each sample.

    Raise ValueError if the number of axes is not three, or an axis has length 0.
    """
    spikes = counted(spikes, call=call, name="spikes")
    if spikes.ndim != 3:
        raise ValueError(f"{call}: spikes must be [T, B, N]; got shape {spikes.shape}.")
    if not spikes.size:
        raise ValueError(f"{call}: spikes must contain at least one step, sample and neuron; got shape {spikes.shape}.")
    if lengths is None:
        return spikes
    return zero_padding(spikes, check_lengths(lengths, spikes.shape[0], spikes.shape[1:2], call=call))


def check_output(
    spikes: Any, labels: Any, n_classes: int | None, lengths: Any, *, call: str
) -> tuple[jax.Array, jax.Array]:
    """Return ``spikes [T, B, N]`` and class ``labels [B]`` as arrays. Raise if a shape, a dtype or a label is invalid.

    Labels must be from 0 to ``n_classes - 1``. If ``n_classes`` is ``None``, there are ``N`` classes. The range of
    traced labels is not checked.
    """
    spikes = output_spikes(spikes, lengths, call=call)
    labels = _arguments.as_array(labels, call=call, name="labels")
    shape, label_shape = spikes.shape, jnp.shape(labels)
    if label_shape != shape[1:2]:
        raise ValueError(f"{call}: spikes must be [T, B, N] and labels [B]; got shapes {shape} and {label_shape}.")
    if not jnp.issubdtype(jnp.asarray(labels).dtype, jnp.integer):
        raise TypeError(f"{call}: labels must be integers; got {_arguments.describe(labels)}.")
    n_classes = shape[-1] if n_classes is None else n_classes
    numbers = np.asarray(labels) if _arguments.is_concrete(labels) else np.zeros(0)
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < n_classes):
        raise ValueError(
            f"{call}: labels must be between 0 and {n_classes - 1}; got {numbers.min()} to {numbers.max()}."
        )
    return spikes, jnp.asarray(labels)
