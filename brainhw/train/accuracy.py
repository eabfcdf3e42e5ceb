"""Accuracy from spike counts of output neurons."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from brainhw.kernel.precision import for_sums
from brainhw.train.decision import choose_class
from brainhw.train.rates import check_output, check_populations, equal_populations, output_spikes

__all__ = ["accuracy", "accuracy_population", "population_votes"]


def accuracy(spikes: jax.Array, labels: jax.Array, *, lengths: jax.Array | None = None) -> jax.Array:
    """Return the classification accuracy. The class of the most active output neuron is predicted.

    Parameters
    ----------
    spikes : jax.Array
        Output spikes ``[T, B, n_classes]``, one neuron per class. Outputs other than spikes are also summed over time.
    labels : jax.Array
        Class of each sample, ``[B]`` ints.
    lengths : jax.Array, optional
        Number of steps of each sample without padding, ``[B]``. Spikes after these steps are ignored. Default: all
        steps.

    Returns
    -------
    jax.Array
        A scalar in [0, 1]. Ties are broken as in :func:`decide`.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not match, or labels are not integers.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> spikes = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]])
    >>> float(bh.train.accuracy(spikes, jnp.array([0, 1])))
    1.0
    """
    spikes, labels = check_output(spikes, labels, None, lengths, call="accuracy")
    # Compare spike counts instead of rates: their order is the same, and no time step is needed.
    return jnp.mean(choose_class(spikes, spikes.shape[-1], 1).predicted == labels)


def accuracy_population(
    spikes: jax.Array, labels: jax.Array, n_classes: int, *, lengths: jax.Array | None = None
) -> jax.Array:
    """Return the classification accuracy. The class of the most active output population is predicted.

    Parameters
    ----------
    spikes : jax.Array
        Output spikes ``[T, B, N]``. Each class has ``N / n_classes`` consecutive neurons.
    labels : jax.Array
        Class of each sample, ``[B]`` ints.
    n_classes : int
        Number of classes. ``N`` must be a multiple of this number.
    lengths : jax.Array, optional
        Number of steps of each sample without padding, ``[B]``. Spikes after these steps are ignored. Default: all
        steps.

    Returns
    -------
    jax.Array
        A scalar in [0, 1]. Ties are broken as in :func:`decide`.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not match, or labels are not integers.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> spikes = jnp.array([[[1.0, 0.0, 1.0, 1.0]]])
    >>> float(bh.train.accuracy_population(spikes, jnp.array([1]), 2))
    1.0
    """
    spikes, labels, size = check_populations(spikes, labels, n_classes, lengths, call="accuracy_population")
    return jnp.mean(choose_class(spikes, n_classes, size).predicted == labels)


def population_votes(spikes: jax.Array, n_classes: int, *, lengths: jax.Array | None = None) -> jax.Array:
    """Return the spike count of each class, averaged over its neurons, as logits for a cross-entropy loss.

    Parameters
    ----------
    spikes : jax.Array
        Output spikes ``[T, B, N]``. Each class has ``N / n_classes`` consecutive neurons.
    n_classes : int
        Number of classes. ``N`` must be a multiple of this number.
    lengths : jax.Array, optional
        Number of steps of each sample without padding, ``[B]``. Spikes after these steps are ignored. Default: all
        steps.

    Returns
    -------
    jax.Array
        Mean spike counts, ``[B, n_classes]``.

    Raises
    ------
    ValueError, TypeError
        If ``spikes`` is not ``[T, B, N]`` or ``N`` is not a multiple of ``n_classes``.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> spikes = jnp.array([[[1.0, 0.0, 1.0, 1.0]], [[0.0, 0.0, 1.0, 1.0]]])
    >>> bh.train.population_votes(spikes, 2).tolist()
    [[0.5, 2.0]]
    """
    call = "population_votes"
    spikes = output_spikes(spikes, lengths, call=call)
    size = equal_populations(spikes.shape[-1], n_classes, call=call)
    return jnp.sum(for_sums(spikes), axis=0).reshape(spikes.shape[1], n_classes, size).mean(axis=-1)
