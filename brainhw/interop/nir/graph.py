"""A NIR graph made flat, checked, and put in the order in which its nodes step."""

from __future__ import annotations

import graphlib
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse.csgraph import connected_components

from brainhw.interop.nir.errors import Problems
from brainhw.interop.nir.node_kinds import NODES, Shape, check_node, kind_of
from brainhw.interop.nir.shapes import infer_shapes

__all__ = ["Feed", "FlatGraph", "read_graph"]

# A node that feeds another, and whether it arrives one step later.
Feed = tuple[str, bool]
Edge = tuple[str, str]


class FlatGraph(NamedTuple):
    """Nodes without nesting in the order in which they step, what feeds each, and the names of input and output.

    ``shapes`` holds the shapes of input and output of every node.
    """

    nodes: dict[str, Any]
    feeds: dict[str, list[Feed]]
    input: str
    output: str
    shapes: dict[str, tuple[Shape, Shape]]

    def feeds_one(self, name: str) -> bool:
        """Return whether a node feeds one other node only."""
        return sum(source == name for sources in self.feeds.values() for source, _ in sources) == 1


def read_graph(graph: Any, problems: Problems) -> FlatGraph:
    """Flatten and check a graph, or raise all problems that keep it from being run."""
    nodes: dict[str, Any] = {}
    edges: list[Edge] = []
    first, last = _flatten(graph, "", nodes, edges, problems)
    for name, node in nodes.items():
        check_node(name, node, problems)
    shapes = infer_shapes(nodes, edges, problems)
    _check_edges(nodes, edges, shapes, first, last, problems)
    # Without sound nodes and edges a search for cycles would name problems that are not there.
    problems.raise_any()
    assert first is not None
    assert last is not None
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
        problems.add(f"the cycle {cycle}", "feedback", "passes by the neuron that fires; brainhw runs no such cycle.")
        order = []
    problems.raise_any()
    feeds = {name: [(a, (a, b) in late) for a, b in edges if b == name] for name in order}
    return FlatGraph({name: nodes[name] for name in order}, feeds, first, last, shapes)


def _flatten(
    graph: Any, prefix: str, nodes: dict[str, Any], edges: list[Edge], problems: Problems
) -> tuple[str | None, str | None]:
    """Add the nodes and edges of a graph and of those inside it; return the names of its input and output."""
    inner: dict[str, tuple[str | None, str | None]] = {}
    for name, node in graph.nodes.items():
        path = f"{prefix}{name}"
        if kind_of(node) == "NIRGraph":
            inner[name] = _flatten(node, f"{path}.", nodes, edges, problems)
        elif path in nodes:
            problems.add(path, kind_of(node), "has the same path as a node in a graph inside the graph; rename it.")
        else:
            nodes[path] = node
    for edge in graph.edges:
        where = f"the edge {' -> '.join(map(str, edge))}"
        missing = [str(name) for name in edge if name not in graph.nodes]
        if len(edge) != 2 or missing:
            problems.add(where, "dangling", f"names {', '.join(missing)}, which is not in the graph; remove it.")
            continue
        a, b = edge
        source = inner[a][1] if a in inner else f"{prefix}{a}"
        target = inner[b][0] if b in inner else f"{prefix}{b}"
        if source is None or target is None:
            continue
        if (source, target) in edges:
            problems.add(where, "twice", "is in the graph twice; a signal would count double.")
            continue
        edges.append((source, target))
    return _end(graph, "Input", prefix, problems), _end(graph, "Output", prefix, problems)


def _end(graph: Any, kind: str, prefix: str, problems: Problems) -> str | None:
    """Return the name of the only node of a kind, ``None`` with a problem if there is not one."""
    own = [f"{prefix}{name}" for name, node in graph.nodes.items() if kind_of(node) == kind]
    if len(own) == 1:
        return own[0]
    listed = f" ({', '.join(own)})" if own else ""
    # No name tells which of several inputs, or outputs, is which argument of a network.
    words = f"has {len(own)} {kind} nodes{listed}; brainhw runs graphs with one."
    problems.add(prefix.removesuffix(".") or "the graph", "NIRGraph", words)
    return None


def _check_edges(
    nodes: dict[str, Any],
    edges: list[Edge],
    shapes: dict[str, tuple[Shape, Shape]],
    first: str | None,
    last: str | None,
    problems: Problems,
) -> None:
    for name, node in nodes.items():
        kind, is_fed = kind_of(node), any(b == name for _, b in edges)
        if name != first and not is_fed:
            problems.add(name, kind, "is fed by nothing; connect it or remove it.")
        if name == first and is_fed:
            problems.add(name, kind, "is fed by another node; remove that edge.")
        if name != last and not any(a == name for a, _ in edges):
            problems.add(name, kind, "feeds nothing; connect it or remove it.")
    for a, b in edges:
        gives, takes = shapes[a][1], shapes[b][0]
        if gives is not None and takes is not None and gives != takes:
            what = f"{kind_of(nodes[a])} -> {kind_of(nodes[b])}"
            problems.add(f"the edge {a} -> {b}", what, f"joins shape {gives} to shape {takes}; they must be the same.")


def _splice(nodes: dict[str, Any], edges: list[Edge], keep: tuple[str, str]) -> None:
    """Remove the inputs and outputs of graphs inside the graph: they pass on what they get unchanged."""
    for name in [name for name in nodes if kind_of(nodes[name]) in ("Input", "Output") and name not in keep]:
        before = [a for a, b in edges if b == name]
        after = [b for a, b in edges if a == name]
        edges[:] = [edge for edge in edges if name not in edge]
        edges += [(a, b) for a in before for b in after]
        del nodes[name]


def _late_edges(nodes: dict[str, Any], edges: list[Edge], problems: Problems) -> set[Edge]:
    """Return the edges along which spikes arrive one step later: those of the one firing node of each cycle."""
    late: set[Edge] = set()
    for cycle in _cycles(list(nodes), edges):
        listed = ", ".join(cycle)
        firing = [name for name in cycle if NODES[kind_of(nodes[name])].fires]
        if len(firing) != 1:
            # In steps a cycle needs a delay, which NIR does not note. Recurrent layers delay their spikes, so a single
            # layer that fires tells where it lies.
            why = (
                f"runs through more than one layer that fires ({', '.join(firing)}), so NIR does not tell which of "
                "them is delayed by one step"
                if firing
                else "holds no neuron that fires, so nothing in it can be delayed by one step"
            )
            problems.add(f"the cycle {listed}", "feedback", f"{why}; brainhw runs cycles with one such layer.")
            continue
        late |= {(a, b) for a, b in edges if a == firing[0] and b in cycle}
        for a, b in edges:
            if a in cycle and a != firing[0] and b not in cycle:
                words = (
                    f"lies in the cycle {listed} and feeds {b} outside of it, so that the delay of one step in the "
                    f"cycle would act there too; feed {b} from a copy of {a} that {firing[0]} feeds."
                )
                problems.add(a, kind_of(nodes[a]), words)
    return late


def _cycles(names: list[str], edges: list[Edge]) -> list[list[str]]:
    """Return the strongly connected nodes, in the order of ``names``."""
    place = {name: i for i, name in enumerate(names)}
    joined = np.zeros((len(names), len(names)), bool)
    for a, b in edges:
        joined[place[a], place[b]] = True
    _, labels = connected_components(joined, connection="strong")
    groups: dict[int, list[str]] = {}
    for name, label in zip(names, labels, strict=True):
        groups.setdefault(label, []).append(name)
    return [group for group in groups.values() if len(group) > 1 or (group[0], group[0]) in edges]
