"""Flatten a NIR graph, check it, and sort its nodes in execution order."""

from __future__ import annotations

import graphlib
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from brainhw.interop.nir.errors import Problems
from brainhw.interop.nir.node_kinds import NODES, Shape, check_node, kind_of, scale_times
from brainhw.interop.nir.scalars import spread_scalars
from brainhw.interop.nir.shapes import infer_shapes

__all__ = ["Feed", "FlatGraph", "read_graph"]

# The name of a source node, and whether its value arrives one step later.
Feed = tuple[str, bool]
Edge = tuple[str, str]
# Largest depth of nested graphs. Without a limit, a crafted file could exhaust the stack.
_DEEPEST = 64


class FlatGraph(NamedTuple):
    """A graph without nested graphs: its nodes in execution order and the sources of each node.

    ``input`` and ``output`` are the names of the input and output nodes. ``shapes`` contains the input shape and the
    output shape of every node.
    """

    nodes: dict[str, Any]
    feeds: dict[str, list[Feed]]
    input: str
    output: str
    shapes: dict[str, tuple[Shape, Shape]]
    warnings: tuple[str, ...]
    # The number of targets of each node.
    fan_out: dict[str, int]

    def feeds_one(self, name: str) -> bool:
        """Return whether a node has exactly one target."""
        return self.fan_out[name] == 1


class _Parts:
    """Nodes and edges that are collected from a graph and its nested graphs."""

    def __init__(self, problems: Problems) -> None:
        self.nodes: dict[str, Any] = {}
        # A dict, because it keeps the order of the edges and finds an edge fast.
        self.edges: dict[Edge, None] = {}
        # Nodes at an invalid edge that is already reported. They must not be reported as unconnected too.
        self.reported: set[str] = set()
        self.problems = problems


def read_graph(graph: Any, problems: Problems, stretch: float = 1.0) -> FlatGraph:
    """Flatten and check a graph, and multiply its time constants and delays by ``stretch``.

    Raise a `NIRError` that lists all problems found if the graph has a problem.
    """
    parts = _Parts(problems)
    first, last = _flatten(graph, "", parts, ())
    warnings = _remove_unconnected(parts, first, last)
    nodes = parts.nodes
    # A node of an edge may be in a nested graph that was not read.
    edges = [(a, b) for a, b in parts.edges if a in nodes and b in nodes]
    spread = spread_scalars(nodes, edges, problems)
    if spread:
        listed = _listed([f"{name} ({kind_of(nodes[name])})" for name in spread])
        warnings.append(f"{listed}: scalar parameters, as in old files, are broadcast to all neurons.")
    for name, node in nodes.items():
        check_node(name, node, problems)
    shapes = infer_shapes(nodes, edges, problems)
    _check_edges(parts, edges, shapes, first, last)
    # Raised before the search for cycles, which would report false problems for invalid nodes or edges.
    problems.raise_any()
    assert first is not None
    assert last is not None
    if stretch != 1.0:
        nodes = {name: scale_times(node, stretch) for name, node in nodes.items()}
    _splice(nodes, edges, (first, last))
    late = _late_edges(nodes, edges, problems)
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter({name: [] for name in nodes})
    for a, b in edges:
        if (a, b) not in late:
            sorter.add(b, a)
    problems.raise_any()
    try:
        order = list(sorter.static_order())
    except graphlib.CycleError as error:
        cycle = ", ".join(dict.fromkeys(error.args[1]))
        problems.add(f"the cycle {cycle}", "feedback", "bypasses the firing neuron; brainhw cannot run such a cycle.")
        order = []
    problems.raise_any()
    feeds: dict[str, list[Feed]] = {name: [] for name in order}
    fan_out = dict.fromkeys(order, 0)
    for a, b in edges:
        feeds[b].append((a, (a, b) in late))
        fan_out[a] += 1
    return FlatGraph({name: nodes[name] for name in order}, feeds, first, last, shapes, tuple(warnings), fan_out)


def _flatten(graph: Any, prefix: str, parts: _Parts, outer: tuple[int, ...]) -> tuple[str | None, str | None]:
    """Add the nodes and edges of a graph and of its nested graphs to ``parts``.

    Return the names of the input node and the output node of the graph.
    """
    problems, nodes = parts.problems, parts.nodes
    if id(graph) in outer or len(outer) >= _DEEPEST:
        why = "contains itself" if id(graph) in outer else f"is nested more than {_DEEPEST} graphs deep"
        problems.add(prefix.removesuffix("."), "NIRGraph", f"{why}; move its nodes to the enclosing graph.")
        return None, None
    inner: dict[str, tuple[str | None, str | None]] = {}
    for name, node in graph.nodes.items():
        path = f"{prefix}{name}"
        if kind_of(node) == "NIRGraph":
            inner[name] = _flatten(node, f"{path}.", parts, (*outer, id(graph)))
        elif path in nodes:
            problems.add(path, kind_of(node), "has the same path as a node of a nested graph; rename it.")
        else:
            nodes[path] = node
    for edge in graph.edges:
        where = f"the edge {' -> '.join(map(str, edge))}"
        missing = [str(name) for name in edge if name not in graph.nodes]
        if len(edge) != 2 or missing:
            fault = f"names {', '.join(missing)}, which is not in the graph" if missing else "is not a pair of names"
            problems.add(where, "dangling", f"{fault}; remove it.")
            for name in edge:
                ends = inner.get(name, (f"{prefix}{name}",))
                parts.reported.update(end for end in ends if end is not None)
            continue
        a, b = edge
        source = inner[a][1] if a in inner else f"{prefix}{a}"
        target = inner[b][0] if b in inner else f"{prefix}{b}"
        if source is None or target is None:
            parts.reported.update(end for end in (source, target) if end is not None)
            continue
        if (source, target) in parts.edges:
            problems.add(where, "duplicate", "is in the graph twice, so its signal would be added twice; remove one.")
            continue
        parts.edges[source, target] = None
    return _end(graph, "Input", prefix, parts), _end(graph, "Output", prefix, parts)


def _end(graph: Any, kind: str, prefix: str, parts: _Parts) -> str | None:
    """Return the name of the only input node or the only output node in a graph.

    ``kind`` is ``'Input'`` or ``'Output'``. If the graph does not contain exactly one node of this kind, add a problem
    and return ``None``.
    """
    own = [f"{prefix}{name}" for name, node in graph.nodes.items() if kind_of(node) == kind]
    if len(own) == 1:
        return own[0]
    # Without the input or output node, its neighbours are also unconnected. Do not report further problems for them.
    parts.reported.update(own or (f"{prefix}{name}" for name in graph.nodes))
    listed = f" ({_listed(own)})" if own else ""
    # A graph with several inputs or outputs does not define their order as arguments of a network.
    fix = "add one" if not own else f"keep one {kind}" if kind == "Input" else "keep one Output, or read one at a time"
    words = f"has {len(own)} {kind} nodes{listed}; brainhw requires exactly one: {fix}."
    parts.problems.add(prefix.removesuffix(".") or "the graph", "NIRGraph", words)
    return None


def _listed(names: list[str]) -> str:
    """Join the names with commas. After ten names, give only the number of the remaining names."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


def _remove_unconnected(parts: _Parts, first: str | None, last: str | None) -> list[str]:
    """Remove nodes without edges, which have no effect.

    Return a list with one warning, or an empty list if no node was removed.
    """
    joined = {name for edge in parts.edges for name in edge} | parts.reported | {first, last}
    unconnected = [name for name in parts.nodes if name not in joined]
    for name in unconnected:
        del parts.nodes[name]
    return [f"{_listed(unconnected)}: nodes without edges are ignored."] if unconnected else []


def _check_edges(
    parts: _Parts,
    edges: list[Edge],
    shapes: dict[str, tuple[Shape, Shape]],
    first: str | None,
    last: str | None,
) -> None:
    nodes, problems = parts.nodes, parts.problems
    fed, feeding = {b for _, b in parts.edges}, {a for a, _ in parts.edges}
    for name, node in nodes.items():
        kind = kind_of(node)
        if name not in fed and name != first and name not in parts.reported:
            problems.add(name, kind, "has no input edge; connect it or remove it.")
        if name == first and name in fed:
            problems.add(name, kind, "is fed by another node; remove that edge.")
        if name not in feeding and name != last and name not in parts.reported:
            problems.add(name, kind, "has no output edge; connect it or remove it.")
    for a, b in edges:
        gives, takes = shapes[a][1], shapes[b][0]
        if gives is not None and takes is not None and gives != takes:
            what = f"{kind_of(nodes[a])} -> {kind_of(nodes[b])}"
            problems.add(
                f"the edge {a} -> {b}",
                what,
                f"connects output shape {gives} to input shape {takes}; they must be equal.",
            )


def _splice(nodes: dict[str, Any], edges: list[Edge], keep: tuple[str, str]) -> None:
    """Remove the input and output nodes of nested graphs. These nodes return their input unchanged."""
    inner = [name for name in nodes if kind_of(nodes[name]) in ("Input", "Output") and name not in keep]
    for name in inner:
        before = [a for a, b in edges if b == name]
        after = [b for a, b in edges if a == name]
        edges[:] = [edge for edge in edges if name not in edge]
        edges += [(a, b) for a in before for b in after]
        del nodes[name]


def _late_edges(nodes: dict[str, Any], edges: list[Edge], problems: Problems) -> set[Edge]:
    """Return the feedback edges, on which spikes arrive one step later.

    They lead from the firing node of a cycle to a node of the same cycle.
    """
    late: set[Edge] = set()
    for cycle in _cycles(list(nodes), edges):
        listed = ", ".join(cycle)
        firing = [name for name in cycle if NODES[kind_of(nodes[name])].fires]
        if len(firing) != 1:
            # In discrete time a cycle needs a delay, but NIR does not specify where. Recurrent layers delay their
            # spikes by one step. In a cycle, the spikes of the firing layer are therefore delayed, if there is exactly
            # one such layer.
            why = (
                f"has more than one firing layer ({', '.join(firing)}), so NIR does not determine which of "
                "them is delayed by one step"
                if firing
                else "has no firing neuron, so nothing in it can be delayed by one step"
            )
            problems.add(f"the cycle {listed}", "feedback", f"{why}; brainhw requires one firing layer per cycle.")
            continue
        late |= {(a, b) for a, b in edges if a == firing[0] and b in cycle}
        for a, b in edges:
            if a in cycle and a != firing[0] and b not in cycle:
                words = (
                    f"is part of the cycle {listed} and feeds {b} outside of it, so the one-step delay of the "
                    f"cycle would also apply there; feed {b} from a copy of {a} that {firing[0]} feeds."
                )
                problems.add(a, kind_of(nodes[a]), words)
    return late


def _cycles(names: list[str], edges: list[Edge]) -> list[list[str]]:
    """Return the cycles (strongly connected components) of a graph, in the order of ``names``."""
    place = {name: i for i, name in enumerate(names)}
    rows, columns = [place[a] for a, _ in edges], [place[b] for _, b in edges]
    joined = coo_array((np.ones(len(edges), bool), (rows, columns)), shape=(len(names), len(names)))
    _, labels = connected_components(joined, connection="strong")
    groups: dict[int, list[str]] = {}
    for name, label in zip(names, labels, strict=True):
        groups.setdefault(label, []).append(name)
    known = set(edges)
    return [group for group in groups.values() if len(group) > 1 or (group[0], group[0]) in known]
