"""Loss of a classifier whose output neurons vote with their spikes, each neuron for its class."""

from __future__ import annotations

from collections.abc import Callable

import braintools
import jax
import jax.numpy as jnp
import optax

from brainhw import _arguments
from brainhw.train.accuracy import population_votes
from brainhw.train.batch import Batch, lengths_of

__all__ = ["classifier_loss"]


def classifier_loss(
    n_classes: int, *, floor: float = 1.0, ceiling: float = 0.3, scale: float = 1.0
) -> Callable[[jax.Array, Batch], jax.Array]:
    r"""Return a loss for :func:`fit`: the cross-entropy of votes, plus penalties for too few and too many spikes.

    .. math:: L = \frac1B \sum_b \Big[-\log \mathrm{softmax}(a v_b)_{y_b}
              + \max\big(f - \max_c v_{bc}, 0\big)^2
              + \max\big(\bar v_b - g T_b, 0\big)^2\Big]

    where the vote :math:`v_{bc}` is the spike count of class :math:`c`, averaged over its neurons, :math:`\bar v_b` is
    the mean vote of all classes, and :math:`T_b` is the number of steps of the recording without padding. The floor
    :math:`f` penalises recordings in which no class is active; their cross-entropy may have no gradient. The ceiling
    :math:`g` penalises recordings in which all classes are active.

    Parameters
    ----------
    n_classes : int
        Number of classes. Each class has an equal number of consecutive output neurons.
    floor : float, optional
        Lower limit :math:`f` of the largest vote in each recording. Default 1.
    ceiling : float, optional
        Upper limit :math:`g` of the mean vote of all classes, in spikes per step. Default 0.3.
    scale : float, optional
        Factor :math:`a` by which the votes are multiplied in the softmax. Default 1.

    Returns
    -------
    callable
        ``loss(outputs, batch)`` for output spikes ``[T, B, N]`` and a :class:`Batch`. ``batch.y`` contains class
        indices ``[B]`` or the class probabilities of a teacher, ``[B, n_classes]``.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid. The returned loss raises ValueError if ``N`` is not a multiple of ``n_classes``.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> loss = bh.train.classifier_loss(2)
    >>> batch = bh.train.Batch(jnp.ones((4, 1, 3)), jnp.array([0]), jnp.array([4]), None)
    >>> round(float(loss(jnp.ones((4, 1, 2)) * jnp.array([1.0, 0.0]), batch)), 3)
    0.658
    """
    call = "classifier_loss"
    n_classes = _arguments.positive_int(n_classes, call=call, name="n_classes")
    floor = _arguments.number(floor, call=call, name="floor", nonnegative=True)
    ceiling = _arguments.number(ceiling, call=call, name="ceiling", positive=True)
    scale = _arguments.number(scale, call=call, name="scale", positive=True)

    def loss(outputs: jax.Array, batch: Batch) -> jax.Array:
        lengths = lengths_of(outputs, batch)
        votes = population_votes(outputs, n_classes, lengths=lengths)
        if jnp.issubdtype(batch.y.dtype, jnp.integer):
            error = braintools.metric.softmax_cross_entropy_with_integer_labels(scale * votes, batch.y)
        else:
            error = optax.losses.softmax_cross_entropy(scale * votes, batch.y)
        too_few = jax.nn.relu(floor - votes.max(axis=-1))
        too_many = jax.nn.relu(votes.mean(axis=-1) - ceiling * (len(outputs) if lengths is None else lengths))
        return jnp.mean(error + too_few**2 + too_many**2)

    return loss
