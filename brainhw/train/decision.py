"""Decision of a classifier: the class of each recording, from the spikes of its output neurons."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainhw.kernel.precision import for_sums
from brainhw.train.rates import equal_populations, output_spikes

__all__ = ["Decision", "choose_class", "decide"]


class Decision(NamedTuple):
    """Decision for each recording, ``[B]`` each.

    Attributes
    ----------
    predicted : jax.Array
        Predicted class, whole numbers.
    tied : jax.Array
        Whether several classes share the largest spike count; the class with the earlier spikes is then chosen.
    undecided : jax.Array
        Whether these spikes are equally early as well; the first class is then chosen, without any evidence.
    silent : jax.Array
        Whether no output neuron fired; such a recording is also tied and undecided.
    """

    predicted: jax.Array
    tied: jax.Array
    undecided: jax.Array
    silent: jax.Array


def decide(spikes: jax.Array, n_classes: int | None = None, *, lengths: jax.Array | None = None) -> Decision:
    r"""Return the class of each recording: the output population with the most spikes.

    With :math:`n_c = \sum_t s_{tc}` the spikes of class :math:`c`, the class with the largest :math:`n_c` is chosen; in
    a tie, the one of them with the smallest :math:`\sum_t t\,s_{tc}`. Both can be computed for a chip that outputs only
    spikes.

    Parameters
    ----------
    spikes : jax.Array
        Output spikes ``[T, B, N]``; the ``N`` neurons form equal, consecutive populations.
    n_classes : int, optional
        Number of classes; ``N`` is a multiple of it. Default: one neuron per class.
    lengths : jax.Array, optional
        Number of true steps of each sample, ``[B]``; spikes after them (padding) are ignored. Default: all.

    Returns
    -------
    Decision
        Class of each recording, and whether it was tied.

    Raises
    ------
    TypeError, ValueError
        If a shape does not fit.

    Examples
    --------
    Both classes fire once, the second one earlier.

    >>> import brainhw as bh, jax.numpy as jnp
    >>> decision = bh.train.decide(jnp.array([[[0.0, 1.0]], [[1.0, 0.0]]]))
    >>> decision.predicted.tolist(), decision.tied.tolist(), decision.undecided.tolist()
    ([1], [True], [False])
    """
    call = "decide"
    spikes = output_spikes(spikes, lengths, call=call)
    n_classes = spikes.shape[-1] if n_classes is None else n_classes
    return choose_class(spikes, n_classes, equal_populations(spikes.shape[-1], n_classes, call=call))


def choose_class(spikes: jax.Array, n_classes: int, size: int) -> Decision:
    """Return the decision for checked spikes ``[T, B, n_classes * size]``."""
    spikes = for_sums(spikes)
    steps = jnp.arange(len(spikes), dtype=spikes.dtype)

    def of_class(of_neuron: jax.Array) -> jax.Array:
        return of_neuron.reshape(spikes.shape[1], n_classes, size).sum(axis=-1)

    # Sums of integers, which float32 holds exactly up to 2**24.
    counts, times = of_class(spikes.sum(axis=0)), of_class(jnp.einsum("t,tbn->bn", steps, spikes))
    most = counts == counts.max(axis=-1, keepdims=True)
    late = jnp.where(most, times, jnp.inf)
    earliest = late == late.min(axis=-1, keepdims=True)
    return Decision(
        # argmax returns the first True: the first of the undecided classes.
        predicted=jnp.argmax(earliest, axis=-1),
        tied=most.sum(axis=-1) > 1,
        undecided=earliest.sum(axis=-1) > 1,
        silent=jnp.all(spikes == 0, axis=(0, 2)),
    )
