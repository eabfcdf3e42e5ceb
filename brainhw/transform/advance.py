"""One step of a network, in whose errors the reason stands first."""

from __future__ import annotations

from typing import Any

import brainstate

__all__ = ["advance"]


def advance(net: brainstate.nn.Module, x: Any) -> Any:
    """Return ``net(x)``.

    Containers such as ``Sequential`` wrap what went wrong in a printout of the module; here the reason is raised.
    """
    try:
        return net(x)
    except brainstate.BrainStateError as error:
        reason: BaseException = error
        while type(reason) is brainstate.BrainStateError and reason.__cause__ is not None:
            reason = reason.__cause__
        raise reason from None
