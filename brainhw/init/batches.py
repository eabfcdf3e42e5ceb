"""Input batches from whatever a user iterates over, and where a network stands when they have been used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import brainstate
import numpy as np

from brainhw import _arguments
from brainhw.nn import EffectiveWeight

__all__ = ["states_restored", "take_batches"]


def take_batches(dataloader: Iterable[Any], n_batches: Any, *, n_in: int, call: str) -> np.ndarray:
    """Return the first batches as one array ``[B, T, n_in]`` of float32.

    Parameters
    ----------
    dataloader : iterable
        Batches ``[B, T, n_in]``, or tuples whose first element is that: torch, numpy or jax arrays.
    n_batches : int
        How many to take; fewer if the loader ends before.
    n_in : int
        Channels that the network takes.
    call : str
        The call to name in errors.

    Raises
    ------
    RuntimeError
        If it is called inside ``jit``.
    TypeError, ValueError
        If there is no batch, or one has another shape, does not fit the others, or is not finite.
    """
    wanted = _arguments.positive_int(n_batches, call=call, name="n_batches")
    if _arguments.inside_jit():
        raise RuntimeError(f"{call}: it looks at data and weights, which jit hides; call it outside of jit, before it.")
    try:
        batches = iter(dataloader)
    except TypeError:
        raise TypeError(
            f"{call}: dataloader must be an iterable of batches [B, T, N]; got {_arguments.describe(dataloader)}."
        ) from None
    taken = []
    for batch in batches:
        taken.append(_checked(batch, n_in, call))
        if len(taken) == wanted:
            break
    if not taken:
        raise ValueError(f"{call}: the dataloader gave no batch; give at least one of shape [B, T, N].")
    if len({array.shape[1:] for array in taken}) > 1:
        shapes = ", ".join(str(array.shape) for array in taken)
        raise ValueError(f"{call}: batches must share T and N to be used together; got {shapes}. Use n_batches=1.")
    return np.concatenate(taken)


def _checked(batch: Any, n_in: int, call: str) -> np.ndarray:
    first = batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch
    if hasattr(first, "detach"):  # a torch tensor, which may carry a gradient or lie on a GPU
        first = first.detach().cpu().numpy()
    array = np.asarray(_arguments.as_array(first, call=call, name="a batch"))
    if array.ndim != 3:
        raise ValueError(
            f"{call}: a batch must have shape [B, T, N]; got shape {array.shape}. For one array, pass [array]."
        )
    if 0 in array.shape:
        raise ValueError(f"{call}: a batch must hold at least one sample and one step; got shape {array.shape}.")
    _arguments.check_last_axis(array, n_in, call=call, name="a batch", ndims=(3,))
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is named
        array = array.astype(np.float32)
    _arguments.check_finite(array, call=call, name="a batch")
    return array


@contextlib.contextmanager
def states_restored(net: brainstate.nn.Module, *, keep_weights: bool) -> Iterator[None]:
    """Put every state back as it was when the block ends; with ``keep_weights`` not the weights, unless it fails."""
    before = [(state, state.value) for state in net.states().values()]
    # Which weights the charges belong to goes with them, else a prepared network would have to be prepared again.
    charges = [(node, node._source) for node in net.nodes().values() if isinstance(node, EffectiveWeight)]
    try:
        yield
    except BaseException:
        keep_weights = False
        raise
    finally:
        for state, value in before:
            if not (keep_weights and isinstance(state, brainstate.ParamState)):
                state.value = value
        for node, source in charges:
            node._source = source
