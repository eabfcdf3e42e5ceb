"""Checks of one traced step of a network. A step that fails a check would silently give wrong results."""

from __future__ import annotations

import contextlib
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import brainstate
import brainunit as u
import jax
import numpy as np
from brainstate._state import TRACE_CONTEXT

__all__ = ["StepRuleError", "StepRules", "wrapped_updates"]


class StepRuleError(ValueError):
    """Error for a step that would silently give wrong results, both layer by layer and step by step."""


class StepRules:
    """Check the states, layers and plain attributes of a traced step. ``modules`` are pairs ``(path, module)``."""

    def __init__(self, net: brainstate.nn.Module, modules: list[tuple[str, Any]], *, call: str) -> None:
        self._call = call
        self._modules = modules
        self._owned = list(net.states().values())
        self._attributes = _PlainAttributes(modules)
        self._counts: dict[int, int] = {}

    @contextlib.contextmanager
    def watching(self, is_active: Callable[[], bool]) -> Iterator[None]:
        """Count the calls to each module while one step runs, and detect which plain attributes the step writes.

        Calls are not counted while ``is_active()`` is False, for example in the body of a loop.
        """
        try:
            with _counted_calls([module for _, module in self._modules], is_active) as self._counts:
                yield
        except Exception:
            # A layer that the network does not own is not prepared and raises a shape error. Report the cause instead.
            used = [s for s in TRACE_CONTEXT.state_stack[-1].states if isinstance(s, brainstate.HiddenState)]
            _check_ownership(self._owned, used, used, call=self._call)
            raise
        finally:
            self._attributes.restore()

    def check(self, touched: Iterable[brainstate.State], written: Iterable[brainstate.State]) -> None:
        """Raise if the watched step would give wrong results. ``touched`` are the states that it read or wrote."""
        written = list(written)
        self._attributes.check(call=self._call)
        _check_ownership(self._owned, touched, written, call=self._call)
        _check_used_once(self._counts, self._modules, written, call=self._call)


def _check_ownership(
    owned: Iterable[brainstate.State],
    touched: Iterable[brainstate.State],
    written: Iterable[brainstate.State],
    *,
    call: str,
) -> None:
    """Raise or warn if a step uses a state that the network does not own.

    The function raises for a hidden state that the step writes. It warns for a parameter, or any other written state.

    brainstate does not find a module that is stored in a plain object or captured by a function. The states of such a
    module are never reset, and its parameters are never trained, saved or put on a chip.
    """
    known = {id(state) for state in owned}
    unowned = [s for s in touched if id(s) not in known and not isinstance(s, brainstate.random.RandomState)]
    changed = {id(state) for state in written}
    for state in unowned:
        if isinstance(state, (brainstate.HiddenState, brainstate.ShortTermState)) and id(state) in changed:
            raise StepRuleError(
                f"{call}: the step uses a {type(state).__name__} of shape {_shape(state)} that the network does not "
                "own, so it is never reset. Its layer is stored in a plain object or captured by a function. Make the "
                "layer an attribute of the module that calls it, or an entry of a list or dict of that module."
            )
    lost = [s for s in unowned if isinstance(s, brainstate.ParamState) or id(s) in changed]
    if lost:
        kinds = ", ".join(f"{type(state).__name__} of shape {_shape(state)}" for state in lost[:3])
        warnings.warn(
            f"{call}: the step uses {len(lost)} state(s) that the network does not own ({kinds}), so they are never "
            "trained, saved or put on a chip. Make their module an attribute of the module that calls it.",
            UserWarning,
            stacklevel=2,
        )


def _check_used_once(
    counts: dict[int, int],
    modules: Iterable[tuple[str, Any]],
    written: Iterable[brainstate.State],
    *,
    call: str,
) -> None:
    """Raise if a module with hidden states was called more than once in a step."""
    changed = {id(state) for state in written}
    for path, module in modules:
        times = counts.get(id(module), 0)
        if times > 1 and any(id(state) in changed for state in module.states(brainstate.HiddenState).values()):
            raise StepRuleError(
                f"{call}: the {type(module).__name__} at {path!r} is called {times} times in one step, so its states "
                f"advance by {times} steps, and the calls share them. Use a separate layer for each call. "
                "brainhw.nn.twin(layer) creates a layer that shares the weights."
            )


@contextlib.contextmanager
def _counted_calls(modules: Iterable[Any], is_active: Callable[[], bool]) -> Iterator[dict[int, int]]:
    """Count the calls to each module, by id, inside the ``with`` block, except while ``is_active()`` is False."""
    counts: dict[int, int] = {}

    def counting(module: Any, update: Callable[..., Any]) -> Callable[..., Any]:
        def counted_update(*given: Any, **options: Any) -> Any:
            if is_active():
                counts[id(module)] = counts.get(id(module), 0) + 1
            return update(*given, **options)

        return counted_update

    with wrapped_updates(modules, counting):
        yield counts


@contextlib.contextmanager
def wrapped_updates(
    modules: Iterable[Any], wrap: Callable[[Any, Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """Replace the ``update`` of each module by ``wrap(module, update)`` while the block runs."""
    modules = list(modules)
    own = [vars(module).get("update") for module in modules]
    try:
        # Wrap the instances, so that other networks with the same classes are not affected.
        for module in modules:
            vars(module)["update"] = wrap(module, module.update)
        yield
    finally:
        for module, update in zip(modules, own, strict=True):
            vars(module).pop("update", None)
            if update is not None:
                vars(module)["update"] = update


class _PlainAttributes:
    """Values of plain attributes of modules (not states) before a step. ``check`` raises if the step wrote one of them.

    A compiled loop traces its step only once. A number in a plain attribute therefore keeps its value from the trace,
    and an array becomes a tracer, which cannot be used after the trace.
    """

    def __init__(self, modules: Iterable[tuple[str, Any]]) -> None:
        self._before = [(path, module, _plain(module)) for path, module in modules]
        self._written: list[str] = []

    def restore(self) -> None:
        """Record which attributes the step has written, and restore their old values."""
        self._written = []
        for path, module, before in self._before:
            after = _plain(module)
            for name in [*before, *(name for name in after if name not in before)]:
                if _was_written(before.get(name), after.get(name)):
                    where = f"{path}.{name}" if path else name
                    self._written.append(f"{where} of {type(module).__name__}")
                    _restore(module, name, before)

    def check(self, *, call: str) -> None:
        """Raise if an attribute was written."""
        if self._written:
            raise StepRuleError(
                f"{call}: the step writes the plain attribute {self._written[0]}, but a time loop carries only states "
                "from step to step. Make it a brainstate.HiddenState, and define a reset_state(batch_size) that resets "
                "it. To inspect a value, return it, or store it in a state and name that state in record=."
            )


def _plain(module: Any) -> dict[str, Any]:
    """Return the plain attributes of a module, each with a copy of its contents if it is a container."""
    return {
        name: (value, _contents(value))
        for name, value in vars(module).items()
        if not isinstance(value, (brainstate.State, brainstate.graph.Node)) and name != "update"
    }


def _contents(value: Any) -> tuple[Any, ...] | None:
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    return tuple(value) if isinstance(value, (list, deque, set)) else None


def _was_written(before: Any, after: Any) -> bool:
    if before is not None and after is not None:
        (old, old_parts), (new, new_parts) = before, after
        same_parts = old_parts is new_parts or (
            old_parts is not None
            and new_parts is not None
            and len(old_parts) == len(new_parts)
            and all(a is b for a, b in zip(old_parts, new_parts, strict=True))
        )
        if old is new and same_parts:
            return False
    new = None if after is None else after[0]
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(new)):
        return True
    # A step may set an attribute for the first time, such as a size. It must not change a number, because the number
    # would carry information from step to step.
    old = None if before is None else before[0]
    return _is_number(old) and _is_number(new) and not _equal(old, new)


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, complex, np.ndarray, np.generic, jax.Array, u.Quantity))


def _equal(old: Any, new: Any) -> bool:
    same_unit = u.get_unit(old) == u.get_unit(new)
    return same_unit and np.array_equal(np.asarray(u.get_mantissa(old)), np.asarray(u.get_mantissa(new)))


def _restore(module: Any, name: str, before: dict[str, Any]) -> None:
    if name not in before:
        del vars(module)[name]
        return
    value, parts = before[name]
    if parts is not None:
        value.clear()
        if isinstance(value, dict):
            half = len(parts) // 2
            value.update(zip(parts[:half], parts[half:], strict=True))
        elif isinstance(value, set):
            value.update(parts)
        else:
            value.extend(parts)
    vars(module)[name] = value


def _shape(state: brainstate.State) -> str:
    shapes = [str(np.shape(u.get_mantissa(leaf))) for leaf in jax.tree.leaves(state._value, is_leaf=u.math.is_quantity)]
    return " and ".join(shapes) or "()"
