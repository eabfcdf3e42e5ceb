"""Copy a layer so that the original and the copy share their weights but have separate states."""

from __future__ import annotations

import copy
from typing import Any

import brainstate

from brainhw import _arguments

__all__ = ["twin"]


def twin(module: brainstate.nn.Module) -> Any:
    """Return a copy of ``module`` that shares its parameters but has separate hidden states.

    Use it in a network that applies the same weights twice in one step. If the same layer were called twice in a step,
    its states would advance twice, and :func:`brainhw.rollout` would raise an error.

    Parameters
    ----------
    module : brainstate.nn.Module
        A layer, a synapse or a network.

    Returns
    -------
    brainstate.nn.Module
        A copy that shares every ``ParamState`` with ``module``, so that each weight is trained, saved and counted once.
        Hidden states, the values of the current chip and fixed values such as time constants are copied.

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
        # Share the states here, because brainstate creates new states when it copies a module, even if the memo of
        # `copy.deepcopy` contains the old ones.
        if isinstance(owner, (list, dict)):
            owner[path[-1]] = state
        else:
            setattr(owner, path[-1], state)
    return copied
