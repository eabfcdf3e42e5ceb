"""Conversion of NIR graphs to the format of nir 1.0.4, which sinabs 3.1 and Rockpool 3.1 read."""

from __future__ import annotations

import copy
import functools
from typing import Any, Literal

import numpy as np

from brainhw.interop.nir.errors import Problems
from brainhw.interop.nir.node_kinds import kind_of

__all__ = ["OLD_VERSION", "old_graph"]

OldVersion = Literal["1.0.4"]
OLD_VERSION: OldVersion = "1.0.4"
_UNSUPPORTED = ("CubaLI",)


def old_graph(nir: Any, graph: Any, problems: Problems) -> Any:
    """Convert a graph to the format of nir 1.0.4.

    Raise a `NIRError` that lists all nodes that this version does not support.
    """
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    _add(nir, graph, "", nodes, edges, problems)
    problems.raise_any()
    return nir.NIRGraph(nodes=nodes, edges=edges)


def _add(
    nir: Any, graph: Any, prefix: str, nodes: dict[str, Any], edges: list[tuple[str, str]], problems: Problems
) -> tuple[list[str], list[str]]:
    """Add the converted nodes of a graph to ``nodes``, and its edges to ``edges``.

    For a nested graph, return the names of the nodes after its ``Input`` node and before its ``Output`` node.
    """
    # Version 1.0.4 cannot infer shapes through nested graphs. Their nodes are therefore added to the outer graph,
    # without the Input and Output nodes.
    kinds = {name: kind_of(node) for name, node in graph.nodes.items()}
    ends = {name: kind for name, kind in kinds.items() if prefix and kind in ("Input", "Output")}
    inner: dict[str, tuple[list[str], list[str]]] = {}
    for name, node in graph.nodes.items():
        if kind_of(node) == "NIRGraph":
            inner[name] = _add(nir, node, f"{prefix}{name}_", nodes, edges, problems)
        elif name not in ends:
            nodes[f"{prefix}{name}"] = _old_node(nir, f"{prefix}{name}", node, problems)
    inputs: list[str] = []
    outputs: list[str] = []
    for a, b in graph.edges:
        sources = inner[a][1] if a in inner else [f"{prefix}{a}"]
        targets = inner[b][0] if b in inner else [f"{prefix}{b}"]
        if ends.get(a) == "Input":
            inputs += targets
        elif ends.get(b) == "Output":
            outputs += sources
        else:
            edges += [(source, target) for source in sources for target in targets]
    return inputs, outputs


def _old_node(nir: Any, name: str, node: Any, problems: Problems) -> Any:
    kind = kind_of(node)
    if kind in _UNSUPPORTED:
        problems.add(name, kind, f"is not supported by nir {OLD_VERSION}; omit compatible.")
    if kind == "Linear":
        return nir.Affine(weight=node.weight, bias=np.zeros(len(node.weight)))
    old = copy.copy(node)
    old.metadata = {}
    if hasattr(node, "v_reset"):
        old.to_dict = functools.partial(_without_reset, old)
    return old


def _without_reset(node: Any) -> dict[str, Any]:
    """Return the data of a node for the file. ``v_reset`` is omitted, because version 1.0.4 rejects it.

    ``v_reset`` is zero in all exported nodes.
    """
    written: dict[str, Any] = type(node).to_dict(node)
    del written["v_reset"]
    return written
