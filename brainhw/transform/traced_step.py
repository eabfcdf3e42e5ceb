"""What it takes to look at one step of a network by tracing it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import brainstate

__all__ = ["in_one_line", "put_back_on_failure", "replaced_on_instance"]


@contextlib.contextmanager
def put_back_on_failure(net: brainstate.nn.Module) -> Iterator[None]:
    """Give every state its value back if the block fails: brainstate leaves what was traced in those of such a step."""
    held = [(state, state._value) for state in (*net.states().values(), brainstate.random.DEFAULT)]
    try:
        yield
    except BaseException:
        for state, value in held:
            state._value = value
        raise


def replaced_on_instance(module: Any) -> set[str]:
    """Return the names of methods that were put on the module itself, before those of its class."""
    own = type(module)
    return {name for name, value in vars(module).items() if callable(value) and callable(getattr(own, name, None))}


def in_one_line(error: BaseException) -> str:
    """Return what went wrong, in one line."""
    # Containers such as Sequential wrap it in a printout of the module; the reason is what helps.
    while type(error) is brainstate.BrainStateError and error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
