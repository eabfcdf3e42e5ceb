"""The modules of a network in the order in which the user registered them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import brainstate
import jax

__all__ = ["registered_modules"]


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
