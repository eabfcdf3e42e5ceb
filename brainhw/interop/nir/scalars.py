"""Broadcasting of scalar parameters in NIR nodes to one value per neuron, for old files and some exporters."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

from brainhw.interop.nir.errors import Problems
from brainhw.interop.nir.node_kinds import MATRICES, NODES, Shape, kind_of
from brainhw.interop.nir.shapes import infer_shapes

__all__ = ["spread_scalars"]

# Largest number of neurons to broadcast to. Without a limit, a file with one value and a huge Input shape could fill
# the memory.
_MOST_NEURONS = 10**7


def spread_scalars(nodes: dict[str, Any], edges: list[tuple[str, str]], problems: Problems) -> list[str]:
    """Replace nodes with scalar parameters by copies with one value per neuron. Return the names of these nodes.

    The scalars get the shape of the other parameters of the node. If all parameters are scalars, they get the shape of
    a neighbouring node.
    """
    waiting = [name for name, node in nodes.items() if _scalars(node)]
    spread: list[str] = []
    changed = True
    while waiting and changed:
        changed = False
        # Infer the shapes again in each pass, because a broadcast node may determine the shapes of the nodes after it.
        # Problems are discarded here, because they are reported later.
        shapes = infer_shapes(nodes, edges, Problems(""))
        for name in waiting:
            shape = _own_shape(nodes[name]) or _shape_beside(name, shapes, edges)
            if not shape:
                continue
            if math.prod(shape) > _MOST_NEURONS:
                words = f"has scalar parameters for {math.prod(shape)} neurons; store each as an array."
                problems.add(name, kind_of(nodes[name]), words)
                return spread
            nodes[name] = _spread(nodes[name], shape)
            shapes[name] = shape, shape
            spread.append(name)
            changed = True
        waiting = [name for name in waiting if name not in spread]
    return spread


def _scalars(node: Any) -> list[str]:
    """Return the names of the scalar parameters of a node."""
    kind = kind_of(node)
    if kind not in NODES or kind in MATRICES:
        return []
    return [field for field in NODES[kind].arrays if _is_scalar(getattr(node, field, None))]


def _is_scalar(value: Any) -> bool:
    held = isinstance(value, (np.ndarray, np.generic)) and np.ndim(value) == 0
    return held and np.asarray(value).dtype.kind in "fiub"


def _own_shape(node: Any) -> Shape:
    """Return the shape of the first parameter with more than one value, or ``None`` if there is none."""
    shapes: list[tuple[int, ...]] = [np.shape(getattr(node, field, 0)) for field in NODES[kind_of(node)].arrays]
    return next((shape for shape in shapes if math.prod(shape) > 1), None)


def _shape_beside(name: str, shapes: dict[str, tuple[Shape, Shape]], edges: list[tuple[str, str]]) -> Shape:
    """Return the output shape of a node before the node ``name``, or the input shape of a node after it.

    Return ``None`` if the shapes of all these nodes are unknown.
    """
    for a, b in edges:
        if b == name and a != name and (shape := shapes[a][1]):
            return shape
        if a == name and b != name and (shape := shapes[b][0]):
            return shape
    return None


def _spread(node: Any, shape: tuple[int, ...]) -> Any:
    spread = copy.copy(node)  # do not change the graph of the caller
    for field in NODES[kind_of(node)].arrays:
        value = getattr(node, field, None)
        if isinstance(value, (np.ndarray, np.generic)) and np.size(value) == 1:
            setattr(spread, field, np.full(shape, np.ravel(value)[0]))
    return spread
