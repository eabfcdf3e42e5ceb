"""Decision of a classifier: the class of each recording, from the spikes of its output neurons."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainhw.kernel.precision import for_sums
from brainhw.train.rates import equal_populations, output_spikes

__all__ = ["Decision", "choose_class", "decide"]


class Decision(NamedTuple):
    """Predicted class of each recording; each field has the shape ``[B]``.

    Attributes
    ----------
    predicted : jax.Array
        Index of the predicted class.
    tied : jax.Array
        Whether several classes share the largest spike count. The class with the earlier spikes is then predicted.
    undecided : jax.Array
        Whether the spikes of the tied classes are also equally early. The first of these classes is then predicted,
        which is an arbitrary choice.
    silent : jax.Array
        Whether no output neuron fired. Such a recording is also tied and undecided.
    """

    predicted: jax.Array
    tied: jax.Array
    undecided: jax.Array
    silent: jax.Array


def decide(spikes: jax.Array, n_classes: int | None = None, *, lengths: jax.Array | None = None) -> Decision:
    r"""Return the predicted class of each recording: the class whose output neurons have the most spikes.

    The spike count of class :math:`c` is :math:`n_c = \sum_t s_{tc}`. The class with the largest :math:`n_c` is
    predicted. If several classes share the largest count, the class with the smallest sum of spike times,
    :math:`\sum_t t\,s_{tc}`, is predicted. Both sums can be computed for a chip that outputs only spikes.

    Parameters
    ----------
    spikes : jax.Array
        Output spikes ``[T, B, N]``. Each class has ``N / n_classes`` consecutive neurons.
    n_classes : int, optional
        Number of classes. ``N`` must be a multiple of this number. Default: ``N``, one neuron per class.
    lengths : jax.Array, optional
        Number of steps of each sample without padding, ``[B]``. Spikes after these steps are ignored. Default: all
        steps.

    Returns
    -------
    Decision
        Class of each recording, and whether the recording was tied, undecided or silent.

    Raises
    ------
    TypeError, ValueError
        If a shape is invalid.

    Examples
    --------
    Each class has one neuron, which fires once. The neuron of the second class fires earlier.

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
    """Return the decision for spikes ``[T, B, n_classes * size]`` that were already checked."""
    # A number of classes may be an array without axes, which cannot be hashed.
    return _choose_class(spikes, int(n_classes), size)


# Outside jit, JAX would compile each operation for each shape.
@partial(jax.jit, static_argnums=(1, 2), inline=True)
def _choose_class(spikes: jax.Array, n_classes: int, size: int) -> Decision:
    spikes = for_sums(spikes)
    steps = jnp.arange(len(spikes), dtype=spikes.dtype)

    def of_class(of_neuron: jax.Array) -> jax.Array:
        return of_neuron.reshape(spikes.shape[1], n_classes, size).sum(axis=-1)

    # These are sums of integers, which are exact in float32 up to 2**24.
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
