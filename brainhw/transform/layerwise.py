"""Run a chain of modules layer by layer, each over the whole sequence, where that is faster than step by step."""

from __future__ import annotations

from typing import Any

import brainstate

from brainhw.nn.lif import LIFLayer
from brainhw.nn.readout import LeakyReadout
from brainhw.nn.sequence import SequenceModule

__all__ = ["chain_of", "offers", "run_layerwise"]

_STEPS = ("update", "update_sequence")


def chain_of(net: brainstate.nn.Module) -> list[Any] | None:
    """Return the modules of ``net`` one after the other if it is a chain that gains from running layer by layer.

    Only a ``Sequential`` of modules that are known from inside counts, each in one place and with states of its own: a
    module from elsewhere may look at another one's state, or draw random numbers, whose order would change.
    """
    if type(net) is not brainstate.nn.Sequential:
        return None
    chain: list[Any] = []
    for part in net.layers:
        inner = chain_of(part) if type(part) is brainstate.nn.Sequential else [part]
        chain += inner or list(part.layers)
    if not all(_is_known(part) for part in chain):
        return None
    states = [id(state) for part in chain for state in part.states().values()]
    if len(set(map(id, chain))) < len(chain) or len(set(states)) < len(states):
        return None
    return chain if any(isinstance(part, SequenceModule) and part.gains_from_sequence() for part in chain) else None


def _is_known(part: Any) -> bool:
    kind = type(part)
    if not isinstance(part, SequenceModule):
        return kind in (LIFLayer, LeakyReadout)
    # A subclass that changes the step must also say what it does with a whole sequence.
    where = {name: next(i for i, base in enumerate(kind.__mro__) if name in vars(base)) for name in _STEPS}
    return where["update_sequence"] <= where["update"]


def offers(module: Any, name: str) -> bool:
    """Whether ``name`` can be recorded of ``module`` when it runs over a whole sequence."""
    return isinstance(module, SequenceModule) and name in module.sequence_records


def run_layerwise(chain: list[Any], xs: Any) -> Any:
    """Return what the chain gives for the whole input ``[T, ...]``, leaving the states as the steps would."""
    for part in chain:
        whole = isinstance(part, SequenceModule)
        xs = part.update_sequence(xs) if whole else brainstate.transform.for_loop(part, xs)
    return xs
