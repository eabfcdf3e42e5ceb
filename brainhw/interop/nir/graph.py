"""A NIR graph made flat, checked, and put in the order in which its nodes step."""

from __future__ import annotations

import graphlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from brainhw.interop.nir.errors import Problems
from brainhw.interop.nir.node_kinds import NODES, check_node, kind_of, shapes_of

__all__ = ["FlatGraph", "read_graph"]


class FlatGraph(NamedTuple):
    """Nodes without nesting, and what feeds what.

    Attributes
    ----------
    nodes : dict
        Every node by name, in the order in which they step; the input first.
    feeds : dict
        For every node what feeds it: ``(name, late)``, late where it arrives one step later.
    size_in : int
        Numbers that come in.
    input, output : str
        Names of those two nodes.
    """

    nodes: dict[str, Any]
    feeds: dict[str, list[tuple[str, bool]]]
    size_in: int
    input: str
    output: str

    def consumers(self, name: str) -> list[str]:
        """Return the nodes that ``name`` feeds."""
        return [other for other, sources in self.feeds.items() if any(source == name for source, _ in sources)]


def read_graph(graph: Any, problems: Problems) -> FlatGraph | None:
    """Flatten and check a graph; what is wrong becomes problems, with ``None`` if it cannot be run."""
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    _flatten(graph, "", nodes, edges, problems)
    ends: dict[str, str] = {}
    for kind in ("Input", "Output"):
        own = [name for name in graph.nodes if kind_of(graph.nodes[name]) == kind and name in nodes]
        if len(own) != 1:
            words = "has no" if not own else f"has {len(own)}: {', '.join(own)}; brainhw runs graphs with one"
            problems.add("the graph", "NIRGraph", f"{words} {kind} node{'; add one' if not own else ''}.")
        else:
            ends[kind] = own[0]
    for name, node in nodes.items():
        check_node(name, node, problems)
    _check_edges(nodes, edges, ends, problems)
    if problems.found:
        return None
    _splice(nodes, edges, graph)
    late = _late_edges(nodes, edges, problems)
    order = _order(nodes, edges, late, problems)
    if order is None or problems.found:
        return None
    feeds = {name: [(a, (a, b) in late) for a, b in edges if b == name] for name in order}
    size = math.prod(shapes_of(nodes[ends["Input"]])[1] or ())
    return FlatGraph({name: nodes[name] for name in order}, feeds, size, ends["Input"], ends["Output"])


def _flatten(graph: Any, prefix: str, nodes: dict[str, Any], edges: list[Any], problems: Problems) -> None:
    inner: dict[str, tuple[str | None, str | None]] = {}
    for name, node in graph.nodes.items():
        path = f"{prefix}{name}"
        if kind_of(node) != "NIRGraph":
            if path in nodes:
                problems.add(path, kind_of(node), "has the same path as a node in a graph inside the graph; rename it.")
            nodes.setdefault(path, node)
            continue
        _flatten(node, f"{path}.", nodes, edges, problems)
        ends = []
        for kind in ("Input", "Output"):
            own = [other for other, found in node.nodes.items() if kind_of(found) == kind]
            if len(own) != 1:
                problems.add(path, "NIRGraph", f"has {len(own)} {kind} nodes; a graph inside another needs one.")
            ends.append(f"{path}.{own[0]}" if len(own) == 1 else None)
        inner[name] = (ends[0], ends[1])
    for edge in graph.edges:
        if len(edge) != 2 or any(name not in graph.nodes for name in edge):
            missing = [str(name) for name in edge if name not in graph.nodes]
            where = f"the edge {' -> '.join(map(str, edge))}"
            problems.add(where, "dangling", f"names {', '.join(missing)}, which is no node of the graph; remove it.")
            continue
        a, b = edge
        source = inner[a][1] if a in inner else f"{prefix}{a}"
        target = inner[b][0] if b in inner else f"{prefix}{b}"
        if source is None or target is None:
            continue
        if (source, target) in edges:
            problems.add(f"the edge {a} -> {b}", "twice", "stands in the graph twice; a signal would count double.")
            continue
        edges.append((source, target))


def _check_edges(nodes: dict[str, Any], edges: list[tuple[str, str]], ends: dict[str, str], problems: Problems) -> None:
    for name, node in nodes.items():
        kind = kind_of(node)
        if name != ends.get("Input") and not any(b == name for _, b in edges):
            problems.add(name, kind, "is fed by nothing; connect it or remove it.")
        if name == ends.get("Input") and any(b == name for _, b in edges):
            problems.add(name, kind, "is fed by another node; remove that edge.")
        if name != ends.get("Output") and not any(a == name for a, _ in edges):
            problems.add(name, kind, "feeds nothing; connect it or remove it.")
    for a, b in edges:
        gives, takes = shapes_of(nodes[a])[1], shapes_of(nodes[b])[0]
        if gives is not None and takes is not None and gives != takes:
            what = f"{kind_of(nodes[a])} -> {kind_of(nodes[b])}"
            problems.add(f"the edge {a} -> {b}", what, f"joins shape {gives} to shape {takes}; they must be the same.")


def _splice(nodes: dict[str, Any], edges: list[tuple[str, str]], graph: Any) -> None:
    """Take out the inputs and outputs of graphs inside the graph: what goes in there comes out unchanged."""
    for name in [name for name in nodes if kind_of(nodes[name]) in ("Input", "Output") and name not in graph.nodes]:
        before = [a for a, b in edges if b == name]
        after = [b for a, b in edges if a == name]
        edges[:] = [edge for edge in edges if name not in edge]
        edges += [(a, b) for a in before for b in after]
        del nodes[name]


def _reached(start: str, edges: list[tuple[str, str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        for b in (b for a, b in edges if a == name and b not in found):
            found.add(b)
            waiting.append(b)
    return found


def _late_edges(nodes: dict[str, Any], edges: list[tuple[str, str]], problems: Problems) -> set[tuple[str, str]]:
    """Return the edges along which spikes go back: those of the one firing node of each cycle."""
    reach = {name: _reached(name, edges) for name in nodes}
    late: set[tuple[str, str]] = set()
    for circle in _circles(nodes, reach):
        firing = [name for name in circle if NODES[kind_of(nodes[name])].fires]
        if len(firing) == 1:
            late |= {(a, b) for a, b in edges if a == firing[0] and b in circle}
            for a, b in edges:
                if a in circle and a != firing[0] and b not in circle:
                    words = (
                        f"lies in the cycle {', '.join(circle)} and feeds {b} outside of it, so that the delay of one "
                        f"step in the cycle would act there too; feed {b} from a copy of {a} that {firing[0]} feeds."
                    )
                    problems.add(a, kind_of(nodes[a]), words)
            continue
        why = (
            "holds no neuron that fires, so that nothing in it says what comes one step later"
            if not firing
            else f"runs through more than one layer that fires ({', '.join(firing)}), so that NIR does not say where "
            "the delay of one step lies"
        )
        problems.add(f"the cycle {', '.join(circle)}", "feedback", f"{why}; brainhw runs cycles with one such layer.")
    return late


def _circles(nodes: dict[str, Any], reach: dict[str, set[str]]) -> Iterator[list[str]]:
    seen: set[str] = set()
    for name in nodes:
        if name in reach[name] and name not in seen:
            circle = [other for other in nodes if other in reach[name] and name in reach[other]]
            seen |= set(circle)
            yield circle


def _order(
    nodes: dict[str, Any], edges: list[tuple[str, str]], late: set[tuple[str, str]], problems: Problems
) -> list[str] | None:
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter({name: [] for name in nodes})
    for a, b in edges:
        if (a, b) not in late:
            sorter.add(b, a)
    try:
        return list(sorter.static_order())
    except graphlib.CycleError as error:
        if not problems.found:
            circle = ", ".join(dict.fromkeys(error.args[1]))
            problems.add(
                f"the cycle {circle}", "feedback", "passes by the neuron that fires; brainhw runs no such cycle."
            )
        return None
