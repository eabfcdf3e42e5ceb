"""Copy of a layer that shares its weights and has its own states."""

from __future__ import annotations

import copy
from typing import Any

import brainstate

from brainhw import _arguments

__all__ = ["twin"]


def twin(module: brainstate.nn.Module) -> Any:
    """Return a copy of ``module`` that shares its parameters and has its own hidden states.

    Use it for a network that applies the same weights twice in one step. A layer that is called twice in a step would
    advance its states twice, which :func:`brainhw.rollout` refuses.

    Parameters
    ----------
    module : brainstate.nn.Module
        A layer, a synapse or a network.

    Returns
    -------
    brainstate.nn.Module
        A copy that shares every ``ParamState`` with ``module``, so that weights are learnt, saved and counted once.
        Hidden states, the current chip and fixed values, such as a time constant, are copied.

    Raises
    ------
    TypeError
        If ``module`` is not a module.

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
        # brainstate's copy creates new states, whatever the memo of `copy.deepcopy` contains.
        if isinstance(owner, (list, dict)):
            owner[path[-1]] = state
        else:
            setattr(owner, path[-1], state)
    return copied
