"""Cache key of compiled functions: the settings of ``brainstate.environ`` and the chips that they contain as constants.

brainstate compiles a function again if the shape of a state changes, but not if ``dt`` does: a function compiled at
1 ms would return the numbers of 1 ms at 5 ms. Here the settings become a state of the function that holds no array and
whose pytree structure is the settings. For brainstate and JAX another ``dt`` is another structure, so they compile
again; the compiled program has no additional input. The numbers of a chip (charge curve, capacitance) are constants of
a compiled function as well. Each module on a chip therefore has a mark, which changes with its chip and is part of the
same structure.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import brainstate
import brainunit as u
import jax
from brainstate._state import TRACE_CONTEXT

__all__ = ["StandIn", "new_mark", "note_settings"]

_NAMES = ("dt", "fit")
_marks = itertools.count(1)


def new_mark() -> int:
    """Return a unique mark for the chip of a module."""
    return next(_marks)


class StandIn(brainstate.State):  # type: ignore[type-arg]
    """An entry in a trace's list of states that represents no variable and holds no array outside a trace."""

    def __init__(self, trace: Any, value: Any) -> None:
        # `super().__init__` would report a new variable to every collector of states.
        self.__dict__.update(_trace=trace, _value=value, _level=0, _name=None, _been_writen=False, tag=None)

    def __pretty_repr_item__(self, name: str, value: Any) -> Any:
        return None

    def raise_error_with_source_info(self, error: Exception) -> None:
        """Raise ``error`` alone; the line that created a stand-in would not help."""
        raise error

    def chip_changed(self) -> bool:
        """Return whether a module has another chip now than when the function was compiled."""
        return False

    def is_traced(self) -> bool:
        """Return whether the trace of this entry is still running."""
        return any(trace is self._trace for trace in TRACE_CONTEXT.state_stack)


@jax.tree_util.register_pytree_node_class
class _Structure:
    """A pytree without arrays; two of them are equal if their settings are equal."""

    def __init__(self, key: tuple[Any, ...]) -> None:
        self.key = key

    def tree_flatten(self) -> tuple[tuple[()], tuple[Any, ...]]:
        """Return no arrays and the settings."""
        return (), self.key

    @classmethod
    def tree_unflatten(cls, key: tuple[Any, ...], _: Any) -> _Structure:
        """Return the structure with these settings."""
        return cls(key)


class _Settings(StandIn):
    """The settings that one compiled function depends on."""

    def __init__(self, trace: Any, first: tuple[Any, ...]) -> None:
        super().__init__(trace, _Structure(first))
        self.__dict__.update(read={first}, outside=None, both=None, owners={})

    def marks(self) -> tuple[int, ...]:
        """Return the marks that changed since the function was traced; usually none."""
        return tuple(
            now
            for ref, mark in self.owners.values()
            if (owner := ref()) is not None and (now := owner.chip_mark) != mark
        )

    def chip_changed(self) -> bool:
        """Return whether a module has another chip now than when the function was compiled."""
        return bool(self.marks())

    def _read_value(self) -> _Structure:
        """Return the compiled structure, or another one if the present settings would give other numbers."""
        if self.is_traced():
            return self._value
        if changed := self.marks():
            return _Structure(("chips", *changed))
        now = _present()
        if self.outside is None:
            # brainstate reads the states of a function right after tracing, under the settings around the call.
            self.__dict__["outside"] = now
        # A function that sets its own settings inside does not depend on those around it.
        if self.outside not in self.read:
            return self._value
        note_settings()
        return self._value if now == self.outside else _Structure((*now, "changed"))

    @property
    def value(self) -> _Structure:
        """The settings, as a pytree without arrays."""
        # brainstate compares the settings before it reads the values for a call.
        if self.both is None:
            now = self._read_value()
            if self.is_traced() or now is not self._value or self.outside not in self.read:
                return now
            # JAX's key for compiled programs: the settings around the call and those that were read first inside.
            marks = tuple(mark for _, mark in self.owners.values())
            self.__dict__["both"] = _Structure((self.outside, now.key, marks))
        return self.both

    def restore_value(self, v: Any) -> None:
        """Do nothing: settings are read from ``brainstate.environ``."""


def note_settings(owner: Any = None) -> None:
    """Make every function that is being traced depend on the present ``dt`` and ``fit``, and on the chip of ``owner``.

    ``owner`` is a module with a ``chip_mark``, which changes with its chip.
    """
    if not TRACE_CONTEXT.state_stack:
        return
    now = _present()
    for trace in TRACE_CONTEXT.state_stack:
        known = next((state for state in trace.states if type(state) is _Settings), None)
        if known is None:
            trace.read_its_value(known := _Settings(trace, now))
        else:
            known.read.add(now)
        if owner is not None:
            known.owners[id(owner)] = weakref.ref(owner), owner.chip_mark


def _present() -> tuple[Any, ...]:
    """Return the present settings in a comparable and hashable form."""
    global _last  # noqa: PLW0603
    found = [brainstate.environ.get(name, default=None) for name in _NAMES]
    before, plain = _last
    # Every call of a compiled function runs this, and formatting a unit takes 20 us.
    if not all(one is other for one, other in zip(found, before, strict=True)):
        plain = tuple(_plain(one) for one in found)
        _last = found, plain
    return plain


# The settings that were seen last, and their plain form. One pair, so that threads read both or neither.
_last: tuple[list[Any], tuple[Any, ...]] = ([None] * len(_NAMES), (None,) * len(_NAMES))


def _plain(setting: Any) -> Any:
    """Return a setting in a comparable and hashable form."""
    number = u.get_mantissa(setting)
    if isinstance(number, jax.core.Tracer):
        return id(number)
    if hasattr(number, "item") and getattr(number, "size", 0) == 1:
        number = number.item()
    return (number, str(u.get_unit(setting))) if isinstance(setting, u.Quantity) else number
