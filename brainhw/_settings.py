"""Recompile functions if ``dt``, another setting of ``brainstate.environ``, or a chip changes.

brainstate recompiles a function if the shape of a state changes, but not if ``dt`` changes. A function that was
compiled with 1 ms would return the results for 1 ms even if ``dt`` is now 5 ms. This module therefore adds a state to
each compiled function. The state contains no array, and its pytree structure consists of the settings. If ``dt``
changes, the structure changes, and brainstate and JAX compile again. The compiled program gets no additional input.

The parameters of a chip, such as charge curve and capacitance, are also constants of a compiled function. Each module
on a chip therefore has an integer, its chip version, which changes if the module gets a different chip. The chip
versions are part of the same pytree structure.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import brainstate
import brainunit as u
import jax
from brainstate._state import TRACE_CONTEXT

__all__ = ["AuxiliaryState", "next_chip_version", "note_settings"]

_NAMES = ("dt", "fit")
_version_numbers = itertools.count(1)


def next_chip_version() -> int:
    """Return an integer that was not returned before. The caller uses it as the chip version of a module."""
    return next(_version_numbers)


class AuxiliaryState(brainstate.State):  # type: ignore[type-arg]
    """A state that brainhw adds to a trace of brainstate.

    It does not represent a variable of the network, and it contains no array outside of the trace.
    """

    def __init__(self, trace: Any, value: Any) -> None:
        # Do not call `super().__init__`, which would report a new variable to all code that collects states.
        self.__dict__.update(_trace=trace, _value=value, _level=0, _name=None, _been_writen=False, tag=None)

    def __pretty_repr_item__(self, name: str, value: Any) -> Any:
        return None

    def raise_error_with_source_info(self, error: Exception) -> None:
        """Raise ``error`` without the source line that created this state, because that line would not help users."""
        raise error

    def chip_changed(self) -> bool:
        """Return whether the chip of a module has changed since the function was compiled."""
        return False

    def is_traced(self) -> bool:
        """Return whether the trace of this state is still running."""
        return any(trace is self._trace for trace in TRACE_CONTEXT.state_stack)


@jax.tree_util.register_pytree_node_class
class _Structure:
    """A pytree without arrays. Two such pytrees have the same structure if their settings are equal."""

    def __init__(self, key: tuple[Any, ...]) -> None:
        self.key = key

    def tree_flatten(self) -> tuple[tuple[()], tuple[Any, ...]]:
        """Return no arrays, and the settings as static data."""
        return (), self.key

    @classmethod
    def tree_unflatten(cls, key: tuple[Any, ...], _: Any) -> _Structure:
        """Return the pytree with these settings."""
        return cls(key)


class _Settings(AuxiliaryState):
    """The state that is added to a compiled function, with the settings of the function as its pytree structure."""

    def __init__(self, trace: Any, first: tuple[Any, ...]) -> None:
        super().__init__(trace, _Structure(first))
        self.__dict__.update(read={first}, outside=None, both=None, owners={})

    def changed_versions(self) -> tuple[int, ...]:
        """Return the new chip versions of those modules whose chip has changed since the function was traced."""
        return tuple(
            now
            for ref, version in self.owners.values()
            if (owner := ref()) is not None and (now := owner.chip_version) != version
        )

    def chip_changed(self) -> bool:
        """Return whether the chip of a module has changed since the function was compiled."""
        return bool(self.changed_versions())

    def _read_value(self) -> _Structure:
        """Return the same structure as at compilation, or a different one if the function must be recompiled."""
        if self.is_traced():
            return self._value
        if changed := self.changed_versions():
            return _Structure(("chips", *changed))
        now = _present()
        if self.outside is None:
            # brainstate reads the states of a function right after tracing, with the settings outside of the function.
            self.__dict__["outside"] = now
        # A function that sets `dt` or `fit` itself does not depend on the settings outside of it.
        if self.outside not in self.read:
            return self._value
        note_settings()
        return self._value if now == self.outside else _Structure((*now, "changed"))

    @property
    def value(self) -> _Structure:
        """The settings, as a pytree without arrays."""
        # brainstate compares the settings of a call before it reads the values for the call.
        if self.both is None:
            now = self._read_value()
            if self.is_traced() or now is not self._value or self.outside not in self.read:
                return now
            # This is JAX's cache key for the compiled program: the settings outside of the function, the first settings
            # that were read inside it, and the versions of the chips.
            versions = tuple(version for _, version in self.owners.values())
            self.__dict__["both"] = _Structure((self.outside, now.key, versions))
        return self.both

    def restore_value(self, v: Any) -> None:
        """Do nothing, because the settings are read from ``brainstate.environ``."""


def note_settings(owner: Any = None) -> None:
    """Make every function that is being traced depend on the current ``dt`` and ``fit``, and on the chip of ``owner``.

    ``owner`` is a module. The attribute ``chip_version`` of the module changes if the module gets a different chip.
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
            known.owners[id(owner)] = weakref.ref(owner), owner.chip_version


def _present() -> tuple[Any, ...]:
    """Return the current ``dt`` and ``fit`` of ``brainstate.environ`` in a comparable and hashable form."""
    global _last  # noqa: PLW0603
    found = [brainstate.environ.get(name, default=None) for name in _NAMES]
    before, plain = _last
    # Use the stored form if the settings have not changed. Every call to a compiled function runs this code, and
    # formatting a unit takes 20 us.
    if not all(one is other for one, other in zip(found, before, strict=True)):
        plain = tuple(_plain(one) for one in found)
        _last = found, plain
    return plain


# The last settings, and their comparable form. Both are stored as one tuple. Otherwise, another thread could read the
# settings of one call together with the comparable form of another call.
_last: tuple[list[Any], tuple[Any, ...]] = ([None] * len(_NAMES), (None,) * len(_NAMES))


def _plain(setting: Any) -> Any:
    """Return a setting in a comparable and hashable form."""
    number = u.get_mantissa(setting)
    if isinstance(number, jax.core.Tracer):
        return id(number)
    if hasattr(number, "item") and getattr(number, "size", 0) == 1:
        number = number.item()
    return (number, str(u.get_unit(setting))) if isinstance(setting, u.Quantity) else number
