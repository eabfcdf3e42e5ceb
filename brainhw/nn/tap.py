"""Let a recorder see values inside a step that are no states, such as the membrane before the reset.

A module calls ``tap(self, "V_pre", value)`` where the value exists. Nothing happens, and nothing is compiled,
unless somebody listens inside ``listening()``: then the value is handed over as a traced array of the same step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import brainstate
import brainunit as u

__all__ = ["Wire", "Wires", "heard_now", "hidden_values", "is_heard", "listening", "same_value", "tap", "tap_wire"]

# A module asks this before it calls `tap`: in eager steps a call that does nothing still costs.
heard_now: ContextVar[dict[tuple[int, str], Any] | None] = ContextVar("brainhw_heard", default=None)


def tap(module: Any, name: str, value: Any) -> None:
    """Offer ``value`` under ``name`` to whoever listens to ``module`` in this step."""
    heard = heard_now.get()
    if heard is not None:
        heard[id(module), name] = value


def is_heard() -> bool:
    """Whether anybody listens now."""
    return heard_now.get() is not None


@contextlib.contextmanager
def listening(heard: dict[tuple[int, str], Any] | None = None) -> Iterator[dict[tuple[int, str], Any]]:
    """Collect what modules offer while the block runs, keyed by ``(id(module), name)``; into ``heard`` if given."""
    heard = {} if heard is None else heard
    token = heard_now.set(heard)
    try:
        yield heard
    finally:
        heard_now.reset(token)


def hidden_values(module: Any) -> dict[str, Any]:
    """Return what the hidden states of ``module`` hold now, by name."""
    return {name: state.value for name, state in vars(module).items() if isinstance(state, brainstate.HiddenState)}


class Wire(NamedTuple):
    """What went through a module in one step.

    Attributes
    ----------
    given, gave : Any
        Its input and its output: the very values, so that who feeds whom shows in their identity.
    before, after : dict
        Its hidden states by name, before and after the step.
    dt : Quantity or None
        The time step that it ran with.
    """

    given: Any
    gave: Any
    before: dict[str, Any]
    after: dict[str, Any]
    dt: Any

    def is_all(self, module: Any, began: dict[str, Any]) -> bool:
        """Whether nothing else wrote the hidden states of ``module`` since it had those of ``began``."""
        pairs = [(self.before, began), (self.after, hidden_values(module))]
        return all(same_value(ours[name], theirs[name]) for ours, theirs in pairs for name in ours)


def same_value(one: Any, other: Any) -> bool:
    """Whether two are the very same numbers, not only equal ones."""
    return u.get_mantissa(one) is u.get_mantissa(other) and u.get_unit(one) == u.get_unit(other)


def tap_wire(module: Any, given: Any, gave: Any, before: dict[str, Any]) -> None:
    """Offer what went through ``module`` in this step as its :class:`Wire`."""
    if is_heard():
        dt = brainstate.environ.get("dt", default=None)
        tap(module, "wires", Wire(given, gave, before, hidden_values(module), dt))


class Wires(dict[tuple[int, str], Any]):
    """Collects every wire in the order of the calls, one for each call; for :func:`listening`.

    Attributes
    ----------
    calls : list of (int, Wire)
        ``id`` of the module and what went through it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, Wire]] = []

    def __setitem__(self, key: tuple[int, str], value: Any) -> None:
        if key[1] == "wires":
            self.calls.append((key[0], value))
