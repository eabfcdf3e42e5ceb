"""Leave a network as it was found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import brainstate

__all__ = ["states_restored"]


@contextlib.contextmanager
def states_restored(net: brainstate.nn.Module, *, keep_weights: bool) -> Iterator[None]:
    """Put every state back as it was when the block ends; with ``keep_weights`` not the weights, unless it fails."""
    before = [(state, state.value) for state in net.states().values()]
    # Charges know the weights that they were computed from: else a prepared net would have to be prepared again.
    charges = [(node, node._source) for node in net.nodes().values() if hasattr(node, "_source")]
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
