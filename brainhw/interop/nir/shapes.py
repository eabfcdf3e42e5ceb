"""Shape inference for a flat graph. The shapes of convolution, pooling and flatten nodes follow from their input."""

from __future__ import annotations

from typing import Any

from brainhw.interop.nir.errors import Problems
from brainhw.interop.nir.node_kinds import NODES, SHAPED_BY_INPUT, Shape, kind_of, shapes_of

__all__ = ["infer_shapes"]


def infer_shapes(
    nodes: dict[str, Any], edges: list[tuple[str, str]], problems: Problems
) -> dict[str, tuple[Shape, Shape]]:
    """Return the input and output shapes of every node, with ``None`` for unknown shapes.

    Add a problem for each invalid node.
    """
    found = {name: shapes_of(node) for name, node in nodes.items()}
    waiting = {name for name, node in nodes.items() if kind_of(node) in SHAPED_BY_INPUT and kind_of(node) in NODES}

    def try_rule(name: str, before: Shape) -> None:
        kind = kind_of(nodes[name])
        try:
            found[name] = SHAPED_BY_INPUT[kind](nodes[name], before)
        except (ValueError, TypeError, AttributeError) as error:  # a field may be missing or invalid
            problems.add(name, kind, str(error))
        waiting.discard(name)

    # Propagate known shapes along the edges. Nodes that are not reached may still declare their input shape themselves.
    reached = True
    while reached:
        reached = False
        for a, b in edges:
            before = found[a][1]
            if b in waiting and before:  # the shape is () if the parameters are scalars
                try_rule(b, before)
                reached = True
    for name in sorted(waiting):
        try_rule(name, None)
        if found[name][1] is None and not problems.found:
            problems.add(name, kind_of(nodes[name]), "has an unknown shape; specify it in this node or in the Input.")
    return found
