"""Checks of every call on a whole network, and the modules of a network in the order of registration."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import brainstate
import jax

from brainhw import _arguments
from brainhw.nn.protocols import StepLimited, fulfils

__all__ = ["as_key", "check_module", "dotted", "first_reason", "registered_modules", "step_limit"]


def check_module(net: Any, *, call: str) -> None:
    """Raise unless ``net`` is a module."""
    if not isinstance(net, brainstate.nn.Module):
        raise TypeError(f"{call}: net must be a brainstate.nn.Module; got {_arguments.describe(net)}.")


def dotted(path: tuple[Any, ...]) -> str:
    """Return the path of a module as text."""
    return ".".join(str(part) for part in path)


def first_reason(error: BaseException) -> BaseException:
    """Return the original error: containers such as ``Sequential`` wrap it in a printout of the module."""
    while type(error) is brainstate.BrainStateError and error.__cause__ is not None:
        error = error.__cause__
    return error


def step_limit(net: brainstate.nn.Module, call: str) -> Any | None:
    """Return the module that can take the fewest further steps (``StepLimited``); ``None`` if no module counts."""
    counting = [module for module in net.nodes().values() if fulfils(module, StepLimited, call=call)]
    return min(counting, key=lambda module: module.steps_left, default=None)


def as_key(key: Any, call: str) -> jax.Array | None:
    """Return a random key from a key or a whole number; ``None`` stays ``None``."""
    if key is None:
        return None
    if isinstance(key, jax.Array) and (key.ndim or jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)):
        if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) and not key.ndim:
            return key
        if key.dtype == "uint32" and key.shape == jax.random.key_data(jax.random.key(0)).shape:  # an old-style key
            return key
        raise ValueError(f"{call}: key must be one key; got {_arguments.describe(key)}.")
    try:
        number = operator.index(key)
        if isinstance(key, bool):
            raise TypeError
    except TypeError:
        raise TypeError(
            f"{call}: key must be a whole number or a jax.random.key; got {_arguments.describe(key)}."
        ) from None
    if not 0 <= number < 2**32:
        # JAX would wrap it, and two numbers would be one chip.
        raise ValueError(f"{call}: key must be a whole number from 0 to 2**32 - 1; got {number}.")
    return jax.random.key(number)


def registered_modules(net: brainstate.nn.Module, *, skip: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    """Return every module of ``net`` once, as ``(path, module)``, in registration order.

    brainstate's own traversal is alphabetical. The path is the dotted one that ``net.nodes()`` and the names in
    ``rollout(record=...)`` use; that of ``net`` itself is empty. Attributes named in ``skip`` are not followed.
    """
    paths = {id(node): ".".join(str(part) for part in path) for path, node in net.nodes().items()}
    return [(paths[id(module)], module) for module in _walk(net, set(), skip) if id(module) in paths]


def _walk(value: Any, seen: set[int], skip: tuple[str, ...]) -> Iterator[brainstate.nn.Module]:
    if isinstance(value, brainstate.graph.Node):
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, brainstate.nn.Module):
            yield value
        hidden = {*value.graph_invisible_attrs, *skip}
        children = [child for name, child in vars(value).items() if name not in hidden]
    elif isinstance(value, dict):
        children = list(value.values())  # jax would sort the keys
    elif isinstance(value, (list, tuple)):
        children = list(value)
    else:
        leaves = jax.tree.leaves(value, is_leaf=lambda leaf: isinstance(leaf, brainstate.graph.Node))
        children = [leaf for leaf in leaves if isinstance(leaf, brainstate.graph.Node)]
    for child in children:
        yield from _walk(child, seen, skip)
