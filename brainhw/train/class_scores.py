"""Accuracy and fractions of silent, tied and undecided recordings, computed with JAX."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainhw.train.decision import choose_class
from brainhw.train.rates import check_populations

__all__ = ["ClassScores", "class_scores"]


class ClassScores(NamedTuple):
    """Fractions of recordings, each a scalar in [0, 1].

    Attributes
    ----------
    accuracy : jax.Array
        Fraction of recordings that were classified correctly.
    silent : jax.Array
        Fraction of recordings without an output spike.
    tied : jax.Array
        Fraction of recordings in which several classes share the largest spike count. Silent recordings are included.
    undecided : jax.Array
        Fraction of recordings that are tied and in which the spikes of the tied classes are also equally early. Silent
        recordings are included.
    """

    accuracy: jax.Array
    silent: jax.Array
    tied: jax.Array
    undecided: jax.Array


def class_scores(
    spikes: jax.Array, labels: jax.Array, n_classes: int | None = None, *, lengths: jax.Array | None = None
) -> ClassScores:
    """Return the accuracy of a classifier, and the fractions of silent, tied and undecided recordings.

    :func:`brainhw.deploy.robustness` accepts the result as a score, and reports all four fractions.

    Parameters
    ----------
    spikes : jax.Array
        Output spikes ``[T, B, N]``. Each class has ``N / n_classes`` consecutive neurons.
    labels : jax.Array
        Class of each sample, ``[B]`` ints.
    n_classes : int, optional
        Number of classes. ``N`` must be a multiple of this number. Default: ``N``, one neuron per class.
    lengths : jax.Array, optional
        Number of steps of each sample without padding, ``[B]``. Spikes after these steps are ignored. Default: all
        steps.

    Returns
    -------
    ClassScores
        Four scalars. :func:`decide` defines silent, tied and undecided recordings.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not match, or labels are not integers.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> spikes = jnp.array([[[1.0, 0.0], [0.0, 0.0]]])
    >>> scores = bh.train.class_scores(spikes, jnp.array([0, 1]))
    >>> float(scores.accuracy), float(scores.silent)
    (0.5, 0.5)
    """
    n_classes = jnp.shape(spikes)[-1] if n_classes is None else n_classes
    spikes, labels, size = check_populations(spikes, labels, n_classes, lengths, call="class_scores")
    decision = choose_class(spikes, n_classes, size)
    parts = (decision.predicted == labels, decision.silent, decision.tied, decision.undecided)
    return ClassScores(*(jnp.mean(part) for part in parts))
