"""A second layer with the weights of the first and states of its own."""

from __future__ import annotations

import copy
from typing import Any

import brainstate

from brainhw import _arguments

__all__ = ["twin"]


def twin(module: brainstate.nn.Module) -> Any:
    """Return a module like ``module`` that shares its parameters and has hidden states of its own.

    For a network that uses the same weights in two places of one step: a layer called twice in a step would move its
    states on twice, which :func:`brainhw.rollout` refuses.

    Parameters
    ----------
    module : brainstate.nn.Module
        A layer, a synapse or a network.

    Returns
    -------
    brainstate.nn.Module
        A copy whose every ``ParamState`` is that of ``module``: learnt, saved and counted once. Hidden states, the chip
        in place and all that is fixed, such as a time constant, are copies.

    Raises
    ------
    TypeError
        If ``module`` is no module.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u
    >>> layer = bh.nn.LIFLayer(3, tau=10 * u.ms, topology="RC")
    >>> other = bh.nn.twin(layer)
    >>> other.recurrent_weight is layer.recurrent_weight, other.V is layer.V
    (True, False)
    """
    _arguments.check_module(module, call="twin", name="module")
    copied = copy.deepcopy(module)
    for path, state in module.states(brainstate.ParamState).items():
        owner: Any = copied
        for part in path[:-1]:
            owner = owner[part] if isinstance(owner, (list, tuple, dict)) else getattr(owner, part)
        # brainstate's copy makes every state anew, whatever the memo of `copy.deepcopy` says.
        if isinstance(owner, (list, dict)):
            owner[path[-1]] = state
        else:
            setattr(owner, path[-1], state)
    return copied
