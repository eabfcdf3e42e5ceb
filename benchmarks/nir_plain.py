"""NumPy simulation of NIR graphs, independent of brainhw, as a reference for readers.

    python -m benchmarks.nir_plain FOLDER --out docs/results/nir_files.json

compares brainhw with this simulation on every ``.nir`` file of a folder, for random input spikes. The simulation runs
one node after the other in float32. Spikes within a cycle of nodes arrive one step later. The rules are those of
``docs/nir.md``. A step is either exact for an input that is constant within the step, or a forward Euler step in which
the synaptic current is updated first.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

DT_S = 1e-4
N_STEPS = 256
F = np.float32


def kind(node: Any) -> str:
    """Return the name of the node's class."""
    return type(node).__name__


def flat(graph: Any, prefix: str = "") -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the nodes and edges of a graph and its subgraphs.

    Input and Output nodes of a subgraph return their input.
    """
    nodes: dict[str, Any] = {}
    edges = []
    for name, node in graph.nodes.items():
        if kind(node) == "NIRGraph":
            inner_nodes, inner_edges = flat(node, f"{prefix}{name}/")
            nodes |= inner_nodes
            edges += inner_edges
        else:
            nodes[prefix + name] = node
    for a, b in graph.edges:
        ends = []
        for name, end in ((a, "Output"), (b, "Input")):
            node = graph.nodes[name]
            inside = ""
            if kind(node) == "NIRGraph":
                inside = "/" + next(key for key, inner in node.nodes.items() if kind(inner) == end)
            ends.append(prefix + name + inside)
        edges.append((ends[0], ends[1]))
    return nodes, edges


def reaches(a: str, b: str, edges: list[tuple[str, str]]) -> bool:
    """Return True if there is a path from ``a`` to ``b``."""
    seen, waiting = set(), [a]
    while waiting:
        here = waiting.pop()
        if here == b:
            return True
        if here not in seen:
            seen.add(here)
            waiting += [target for source, target in edges if source == here]
    return False


class Plain:
    """A graph with the states of its neurons. ``step`` computes the output of one time step."""

    def __init__(self, graph: Any, dt: float = DT_S, *, euler: bool = True, if_per_step: bool = False) -> None:
        self.nodes, edges = flat(graph)
        fires = {name for name, node in self.nodes.items() if kind(node) in ("LIF", "IF", "CubaLIF")}
        self.late = {(a, b) for a, b in edges if a in fires and reaches(b, a, edges)}
        self.edges, self.dt, self.euler, self.if_per_step = edges, dt, euler, if_per_step
        ready = [edge for edge in edges if edge not in self.late]
        self.order: list[str] = []
        while len(self.order) < len(self.nodes):
            left = [name for name in self.nodes if name not in self.order]
            free = [n for n in left if all(a in self.order for a, b in ready if b == n)]
            assert free, f"these nodes form a cycle without a delay: {left}"
            self.order += free
        self.state: dict[str, list[Any]] = {}
        self.last: dict[str, Any] = {}

    def share(self, tau: Any) -> Any:
        """Return the decay factor of one step for ``tau``."""
        return F(1 - self.dt / tau) if self.euler else F(np.exp(-self.dt / tau))

    def step(self, x: np.ndarray) -> np.ndarray:
        """Advance one time step."""
        now: dict[str, Any] = {}
        for name in self.order:
            node = self.nodes[name]
            fed = [(self.last if (a, b) in self.late else now, a) for a, b in self.edges if b == name]
            total = F(x) if kind(node) == "Input" and not fed else F(0)
            for values, source in fed:
                total = total + values.get(source, F(0))
            now[name] = self.node(name, node, total)
        self.last = now
        return np.asarray(now[next(name for name in self.nodes if self.ends(name))])

    def ends(self, name: str) -> bool:
        """Return True if a node is the output of the whole graph."""
        return kind(self.nodes[name]) == "Output" and not any(a == name for a, _ in self.edges)

    def node(self, name: str, node: Any, x: Any) -> Any:
        """Return the output of one node for its input."""
        what = kind(node)
        if what in ("Input", "Output"):
            return x
        if what in ("Affine", "Linear"):
            y = F(node.weight) @ np.broadcast_to(x, (node.weight.shape[1],))
            return y + F(node.bias) if what == "Affine" else y
        if what == "Scale":
            return F(node.scale) * x
        state = self.state.setdefault(name, [F(0), F(0)])
        if what == "IF":
            v = state[0] + F(node.r) * (F(1) if self.if_per_step else F(self.dt)) * x
        elif what in ("LIF", "LI"):
            beta = self.share(node.tau)
            v = beta * state[0] + (1 - beta) * (F(node.r) * x + F(node.v_leak))
        elif what in ("CubaLIF", "CubaLI"):
            alpha, beta = self.share(node.tau_mem), self.share(node.tau_syn)
            state[1] = beta * state[1] + (1 - beta) * F(node.w_in) * x
            v = alpha * state[0] + (1 - alpha) * (F(node.r) * state[1] + F(node.v_leak))
        else:
            raise ValueError(f"node {name} has type {what}, which is not supported")
        if what in ("LI", "CubaLI"):
            state[0] = v
            return v
        spikes = (v > F(node.v_threshold)).astype(F)
        state[0] = np.where(spikes > 0, F(0), v)
        return spikes


def simulate(graph: Any, xs: np.ndarray, **options: Any) -> np.ndarray:
    """Return the outputs of a graph for the inputs ``xs`` ``[T, n]``."""
    plain = Plain(graph, **options)
    return np.stack([plain.step(x) for x in xs])


def compared(path: Path) -> dict[str, Any]:
    """Return the number of outputs of brainhw that differ from this simulation, or why brainhw rejects the file."""
    import brainstate
    import brainunit as u
    import nir

    import brainhw as bh
    from brainhw.interop.nir import NIRError, from_nir

    row: dict[str, Any] = {"file": path.name}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            net = from_nir(path, dt=DT_S * 1000 * u.ms, discretisation="euler", cuba_order="current-first")
    except NIRError as error:
        return {**row, "refused": "; ".join(error.problems).replace(str(path), path.name)}
    row["warnings"] = [str(one.message) for one in caught]
    xs = (np.random.default_rng(0).random((N_STEPS, *net.in_size)) < 0.3).astype(np.float32)
    with brainstate.environ.context(dt=DT_S * 1000 * u.ms):
        ours = np.asarray(bh.rollout(net, xs)[0])
    theirs = simulate(nir.read(path, type_check=False), xs)
    theirs = np.broadcast_to(theirs, ours.shape)
    spiking = bool(np.all(np.isin(theirs, (0, 1))))
    differ = ours != theirs if spiking else np.abs(ours - theirs) > 1e-5 * np.max(np.abs(theirs))
    return {**row, "differ": int(differ.sum()), "of": int(ours.size), "sum": float(theirs.sum())}


def main() -> None:
    """Run the comparison with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with .nir files")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    from benchmarks.machine import machine

    rows = [compared(path) for path in sorted(arguments.folder.glob("*.nir"))]
    if arguments.out:
        content = {"machine": machine(), "dt_ms": DT_S * 1000, "steps": N_STEPS, "rows": rows}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
