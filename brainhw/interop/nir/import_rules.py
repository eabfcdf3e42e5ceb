"""The modules of an imported graph: each node with its factors folded into the weights before it."""

from __future__ import annotations

import keyword
import math
import re
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import numpy as np

from brainhw.interop.nir.errors import Problems
from brainhw.interop.nir.graph import FlatGraph
from brainhw.interop.nir.metadata import noted
from brainhw.interop.nir.net import NIRNet, Step
from brainhw.interop.nir.node_kinds import NODES, kind_of, register_import
from brainhw.interop.nir.parts import BiasedSynapse, Comparator, CubaCurrent, Gain, IFLayer, Integrator, WholeDelay
from brainhw.interop.nir.steps import above, cuba_current, kept, tau_to_run
from brainhw.nn import LeakyReadout, LIFLayer, LIFSynapse

__all__ = ["NetBuilder", "Reading"]

_MATRICES = ("Linear", "Affine")
# What a network holds itself, and what others look for in any module: hooks, the chip and its parts.
_OWN = ("program", "takes", "returns", "millivolts", "dt", "in_size", "out_size")
_HOOKS = ("prepare", "pin_chip", "init_state", "reset_state", "update_sequence")
# The first members of protocols: a node of such a name would make the network look like one layer.
_PROTOCOLS = ("weight_slot", "subthreshold", "recurrent_slot", "quiet", "steps_left")
_LOOKED_FOR = ("chip", "family", "effective", "clamped", "spk_fun", "recurrent_weight")
_RESERVED = frozenset((*_OWN, *_HOOKS, *_PROTOCOLS, *_LOOKED_FOR))


class Reading(NamedTuple):
    """How a graph is read; as the arguments of ``from_nir``, with ``dt`` in seconds as well."""

    dt: u.Quantity
    seconds: float
    millivolts: float
    how: str
    reset: str | None


class _Folded(NamedTuple):
    """A matrix ``[out, in]`` with its bias, the scale after it taken in, and the node that feeds it."""

    name: str
    matrix: np.ndarray
    bias: np.ndarray | None
    source: tuple[str, bool]


class NetBuilder:
    """Makes the modules and the program of one graph."""

    def __init__(self, graph: FlatGraph, reading: Reading, problems: Problems) -> None:
        self.graph, self.reading, self.problems = graph, reading, problems
        self.parts: dict[str, Any] = {}
        self.program: list[Step] = []
        self.attributes: dict[str, str] = {}
        # Nodes whose numbers went into the weights of the one that they feed.
        self.taken: set[str] = set()

    def net(self) -> NIRNet | None:
        """Return the network, or ``None`` if something became a problem."""
        for name in reversed(self.graph.nodes):
            self._plan(name)
        for name, node in self.graph.nodes.items():
            if name not in self.taken and name != self.graph.input:
                NODES[kind_of(node)].rule(self, name, node)
        if self.problems.found:
            return None
        n_out = math.prod(self._shape(self.graph.output))
        return NIRNet(
            self.parts,
            self.program,
            takes=self.graph.input,
            returns=self.graph.output,
            dt=self.reading.dt,
            n_in=self.graph.size_in,
            n_out=n_out,
            millivolts=self.reading.millivolts,
        )

    def _shape(self, name: str) -> tuple[int, ...]:
        node = self.graph.nodes[name]
        return tuple(int(n) for n in np.ravel(next(iter(node.output_type.values()))))

    def _plan(self, name: str) -> None:
        """Mark what goes into the weights of a neuron: matrices, and scales before it, that feed nothing else."""
        if not NODES[kind_of(self.graph.nodes[name])].folds:
            return
        feeds = self.graph.feeds[name]
        matrices = [source for source, late in feeds if not late and self._folded(source) is not None]
        if kind_of(self.graph.nodes[name]) in ("LI", "I") and len(feeds) > 1:
            return  # an integrator of several inputs takes them as they are
        for source in matrices:
            self.taken |= {source, *(s for s, _ in self.graph.feeds[source] if self._is_scaled(source))}

    def _is_scaled(self, name: str) -> bool:
        return kind_of(self.graph.nodes[name]) == "Scale"

    def _folded(self, name: str) -> _Folded | None:
        """Return a node as a matrix if it is one, perhaps scaled after, and feeds one node alone."""
        node, feeds = self.graph.nodes[name], self.graph.feeds[name]
        if len(self.graph.consumers(name)) != 1:
            return None
        if kind_of(node) in _MATRICES and len(feeds) == 1:
            bias = np.asarray(node.bias, float) if kind_of(node) == "Affine" else None
            return _Folded(name, np.asarray(node.weight, float), bias, feeds[0])
        if kind_of(node) == "Scale" and len(feeds) == 1 and not feeds[0][1]:
            before = feeds[0][0]
            if kind_of(self.graph.nodes[before]) in _MATRICES and (inner := self._folded(before)) is not None:
                scale = np.ravel(np.asarray(node.scale, float))
                bias = None if inner.bias is None else inner.bias * scale
                return _Folded(inner.name, inner.matrix * scale[:, None], bias, inner.source)
        return None

    def _attribute(self, name: str) -> str:
        """Return the attribute of the network that holds what a node becomes."""
        base = re.sub(r"\W", "_", name)
        taken = keyword.iskeyword(base) or base in _RESERVED or hasattr(NIRNet, base)
        base = f"node_{base}" if taken or base.startswith("_") or not base.isidentifier() else base
        attribute, count = base, 2
        while attribute in self.parts or attribute in self.attributes.values():
            attribute, count = f"{base}_{count}", count + 1
        return attribute

    def _key(self, made: str) -> str:
        """Return a key for what no node stands for: a name that no node has."""
        while made in self.graph.nodes:
            made += "_"
        return made

    def _put(self, name: str, part: Any, takes: list[tuple[str, bool]], makes: str | None = None) -> str:
        attribute = self._attribute(name)
        self.parts[attribute] = part
        self.program.append(Step(name if makes is None else makes, attribute, tuple(takes)))
        return attribute

    def put(self, name: str, part: Any, takes: list[tuple[str, bool]] | None = None) -> None:
        """Add the module that a node becomes; ``None`` hands the input of the node on.

        It takes the sum of what feeds the node, or of what ``takes`` lists (see :meth:`drives`).
        """
        takes = self._takes(self.graph.feeds[name]) if takes is None else takes
        if part is None:
            self.program.append(Step(name, None, tuple(takes)))
            return
        attribute = self._layer_name(name)
        self.parts[attribute] = part
        self.program.append(Step(name, attribute, tuple(takes)))

    def _takes(self, feeds: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
        """Return where the values of nodes lie; those that come late in the layer itself."""
        # What comes late is read from a layer that may be made later on, so its attribute is foreseen.
        return [(self._layer_name(s) if late else s, late) for s, late in feeds]

    def _layer_name(self, name: str) -> str:
        if name not in self.attributes:
            self.attributes[name] = self._attribute(name)
        return self.attributes[name]

    def _tau(self, name: str, node: Any, tau: np.ndarray, field: str = "tau") -> Any:
        """Return a time constant for a layer: one number where all are the same, unless noted otherwise."""
        dt = self.reading.seconds
        if self.reading.how == "euler" and np.any(tau <= dt):
            self.problems.add(
                name,
                kind_of(node),
                f"has {field} down to {tau.min():g} s, which forward Euler cannot step with dt = {self.reading.dt}; "
                "take a shorter dt or discretisation='exact'.",
            )
            return 1.0 * u.ms
        milliseconds = tau_to_run(tau, dt, self.reading.how) * 1000
        return _one_or_all(node, "tau", milliseconds) * u.ms

    def _share(self, name: str, node: Any, share: Any, n: int) -> np.ndarray:
        beta = np.broadcast_to(np.asarray(share).astype(float), (n,))
        if np.any(beta >= 1):
            self.problems.add(
                name,
                kind_of(node),
                f"has a time constant so long that nothing leaks in one step of {self.reading.dt} as numbers of this "
                "precision go; take a longer dt, or an IF or I node.",
            )
        return beta

    def integrator(self, name: str, node: Any) -> None:
        """Make a readout of an integrator behind a matrix alone, else an integrator of the sum of its inputs."""
        feeds = self.graph.feeds[name]
        r = np.ravel(np.asarray(node.r, float))
        if kind_of(node) == "I":
            zeros, ones = np.zeros_like(r), np.ones_like(r)
            self._integrate(name, feeds, ones, r * self.reading.seconds, zeros)
            return
        tau, v_leak = np.ravel(np.asarray(node.tau, float)), np.ravel(np.asarray(node.v_leak, float))
        if len(feeds) == 1 and feeds[0][0] in self.taken and not (np.any(v_leak) and self._has_no_bias(feeds[0][0])):
            folded = self._folded(feeds[0][0])
            assert folded is not None
            n_out, n_in = folded.matrix.shape
            weight = np.zeros((n_in, n_out))
            readout = LeakyReadout(
                n_in, n_out, self._tau(name, node, tau), weight_init=weight, bias=folded.bias is not None
            )
            beta = self._share(name, node, u.math.exp(-self.reading.dt / readout.tau), n_out)
            gain = (1 - beta) * r
            readout.weight.value = _like(readout.weight.value, (folded.matrix * gain[:, None]).T)
            if readout.bias is not None and folded.bias is not None:
                readout.bias.value = _like(readout.bias.value, folded.bias * gain + (1 - beta) * v_leak)
            self._put(name, readout, self._takes([folded.source]))
            return
        beta = kept(tau, self.reading.seconds, self.reading.how).astype(brainstate.environ.dftype())
        beta = self._share(name, node, beta, len(r))
        if self.reading.how == "euler":
            self._tau(name, node, tau)
        self._integrate(name, feeds, beta, (1 - beta) * r, (1 - beta) * v_leak)

    def _has_no_bias(self, name: str) -> bool:
        folded = self._folded(name)
        return folded is None or folded.bias is None

    def _integrate(
        self, name: str, feeds: list[tuple[str, bool]], beta: np.ndarray, gain: np.ndarray, bias: np.ndarray
    ) -> None:
        for source, _ in feeds:
            if source in self.taken:
                folded = self._folded(source)
                assert folded is not None
                self._put(source, _dense(folded.matrix, folded.bias), self._takes([folded.source]))
        self._put(name, Integrator(beta, gain, bias), self._takes(feeds))

    def firing(self, name: str, node: Any) -> None:
        """Make a layer, and the synapses and gains that drive it."""
        feeds = self.graph.feeds[name]
        millivolts, r = self.reading.millivolts, np.ravel(np.asarray(node.r, float))
        n = len(r)
        V_th = above(np.ravel(np.asarray(node.v_threshold, float)) * millivolts)
        back = self._recurrent(name, feeds)
        if kind_of(node) == "IF":
            gain, constant = r * self.reading.seconds, np.zeros(n)
            weight = None if back is None else (back.matrix * (gain * millivolts)[:, None]).T * u.mV
            layer: Any = IFLayer(V_th * u.mV, weight)
        else:
            layer = LIFLayer(
                n,
                self._tau(name, node, np.ravel(np.asarray(node.tau, float))),
                _one_or_all(node, "V_th", V_th) * u.mV,
                reset=self._reset(node),
                topology="FF" if back is None else "RC",
                recurrent_init=None if back is None else np.zeros((n, n)) * u.mV,
            )
            beta = self._share(name, node, layer.decay(self.reading.dt), n)
            gain, constant = (1 - beta) * r, (1 - beta) * np.ravel(np.asarray(node.v_leak, float))
            if back is not None:
                weight = (back.matrix * (gain * millivolts)[:, None]).T
                layer.recurrent_weight.value = _like(layer.recurrent_weight.value, weight)
        if back is not None:
            feeds = [feed for feed in feeds if feed[0] != back.name]
            constant = constant if back.bias is None else constant + back.bias * gain
        self.put(name, layer, self.drives(name, feeds, gain, constant))

    def _reset(self, node: Any) -> str:
        if self.reading.reset is not None:
            return self.reading.reset
        return "subtract" if noted(node).get("reset") == "subtract" else "zero"

    def _recurrent(self, name: str, feeds: list[tuple[str, bool]]) -> _Folded | None:
        """Return the matrix that takes the spikes of a layer back to it alone, if there is one and other input too."""
        if len(feeds) < 2:
            return None
        for source, _ in feeds:
            folded = self._folded(source)
            if folded is not None and folded.source == (name, True) and kind_of(self.graph.nodes[source]) in _MATRICES:
                return folded
        return None

    def drives(
        self, name: str, feeds: list[tuple[str, bool]], gain: np.ndarray, constant: np.ndarray
    ) -> list[tuple[str, bool]]:
        """Make what drives a layer, in mV: synapses with the gain in their weights, and one gain for all the rest.

        A step adds ``gain * x + constant`` in units of the graph.
        """
        millivolts = self.reading.millivolts
        left: np.ndarray | None = constant if np.any(constant) else None
        drives, rest = [], []
        for source, late in feeds:
            folded = self._folded(source) if source in self.taken else None
            if folded is None:
                rest.append((source, late))
                continue
            bias = None if folded.bias is None else folded.bias * gain
            if left is not None:
                bias, left = left if bias is None else bias + left, None
            weight = (folded.matrix * (gain * millivolts)[:, None]).T * u.mV
            part = (
                LIFSynapse(*weight.shape, weight_init=weight)
                if bias is None
                else BiasedSynapse(weight, bias * millivolts * u.mV)
            )
            self._put(folded.name, part, self._takes([folded.source]), makes=source)
            drives.append((source, False))
        if rest:
            factor = gain
            if len(rest) == 1 and not rest[0][1] and self._lone_scale(rest[0][0]):
                # A scale right before neurons goes into their gain: its step is already in the program.
                scale = rest[0][0]
                self._drop(scale)
                factor = gain * np.ravel(np.asarray(self.graph.nodes[scale].scale, float))
                rest = list(self.graph.feeds[scale])
            bias = None if left is None else left * millivolts
            key = self._key(f"{name}.in")
            self._put(f"{name}_in", Gain(factor * millivolts, bias, u.mV), self._takes(rest), makes=key)
            drives.append((key, False))
        return drives

    def _lone_scale(self, name: str) -> bool:
        return kind_of(self.graph.nodes[name]) == "Scale" and len(self.graph.consumers(name)) == 1

    def _drop(self, name: str) -> None:
        (step,) = [step for step in self.program if step.makes == name]
        self.program.remove(step)
        assert step.part is not None
        del self.parts[step.part]

    def current_based(self, name: str, node: Any) -> None:
        """Make the current and the membrane of a current-based neuron."""
        n, millivolts = np.size(node.r), self.reading.millivolts
        r, w_in, v_leak = (np.ravel(np.asarray(getattr(node, field), float)) for field in ("r", "w_in", "v_leak"))
        tau_mem, tau_syn = (np.ravel(np.asarray(getattr(node, field), float)) for field in ("tau_mem", "tau_syn"))
        tau = self._tau(name, node, tau_mem, "tau_mem")
        self._tau(name, node, tau_syn, "tau_syn")
        fires = kind_of(node) == "CubaLIF"
        if fires:
            V_th = above(np.ravel(np.asarray(node.v_threshold, float)) * millivolts)
            last: Any = LIFLayer(n, tau, _one_or_all(node, "V_th", V_th) * u.mV, reset=self._reset(node))
            alpha = self._share(name, node, last.decay(self.reading.dt), n)
        else:
            alpha = kept(tau_mem, self.reading.seconds, self.reading.how).astype(brainstate.environ.dftype())
            alpha = self._share(name, node, alpha, n)
            last = Integrator(alpha, np.ones(n), np.zeros(n))
        current = cuba_current(tau_mem, tau_syn, r, self.reading.seconds, self.reading.how)
        # The share of the layer as it runs, so that a constant input settles where the equations say.
        direct = (1 - alpha) * r - current.held if self.reading.how == "exact" else current.direct
        unit = millivolts if fires else 1.0
        part = CubaCurrent(
            current.beta,
            w_in,
            current.held * unit,
            direct * w_in * unit,
            (1 - alpha) * v_leak * unit,
            u.mV if fires else u.UNITLESS,
        )
        key = self._key(f"{name}.current")
        self._put(f"{name}_current", part, self._takes(self.graph.feeds[name]), makes=key)
        self.put(name, last, [(key, False)])


# Import rules, one for each type of node


@register_import("Input")
@register_import("Output")
@register_import("Flatten")
def hand_on(builder: NetBuilder, name: str, node: Any) -> None:
    """Hand the input on; arrays with several axes are flat anyway."""
    builder.put(name, None)


@register_import("Affine", arrays=("weight", "bias"))
@register_import("Linear", arrays=("weight",))
def matrix(builder: NetBuilder, name: str, node: Any) -> None:
    """Make a matrix of plain numbers, where no layer behind it takes it into its weights."""
    bias = np.asarray(node.bias, float) if hasattr(node, "bias") else None
    builder.put(name, _dense(np.asarray(node.weight, float), bias))


@register_import("Scale", arrays=("scale",))
def scale(builder: NetBuilder, name: str, node: Any) -> None:
    """Make a gain."""
    builder.put(name, Gain(np.ravel(node.scale)))


@register_import("Threshold", arrays=("threshold",))
def threshold(builder: NetBuilder, name: str, node: Any) -> None:
    """Make a comparator."""
    builder.put(name, Comparator(above(np.ravel(node.threshold))))


@register_import("Delay", arrays=("delay",))
def delay(builder: NetBuilder, name: str, node: Any) -> None:
    """Make a delay of whole steps; refuse parts of a step."""
    steps = np.ravel(node.delay) / builder.reading.seconds
    whole = np.round(steps)
    if np.any(np.abs(steps - whole) > 1e-6):
        first = float(np.ravel(node.delay)[np.argmax(np.abs(steps - whole))])
        why = f"has a delay of {first:g} s, which is no whole number of steps of {builder.reading.dt}."
        builder.problems.add(name, "Delay", why)
    else:
        builder.put(name, WholeDelay(whole) if np.any(whole) else None)


register_import("I", arrays=("r",), folds=True)(NetBuilder.integrator)
register_import("LI", arrays=("tau", "r", "v_leak"), folds=True)(NetBuilder.integrator)
register_import("IF", arrays=("r", "v_threshold", "v_reset"), fires=True, folds=True)(NetBuilder.firing)
register_import("LIF", arrays=("tau", "r", "v_leak", "v_threshold", "v_reset"), fires=True, folds=True)(
    NetBuilder.firing
)
register_import("CubaLI", arrays=("tau_syn", "tau_mem", "r", "v_leak", "w_in"))(NetBuilder.current_based)
register_import("CubaLIF", arrays=("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"), fires=True)(
    NetBuilder.current_based
)


def _one_or_all(node: Any, field: str, values: np.ndarray) -> Any:
    """Return one number where all neurons share it, unless brainhw noted that it was held for each."""
    each = str(noted(node).get("per_neuron", "")).split()
    return float(values[0]) if np.all(values == values[0]) and field not in each else values


def _like(held: Any, numbers: np.ndarray) -> Any:
    """Return numbers as an array of the kind that a state holds."""
    unit = u.get_unit(held)
    mantissa = np.asarray(numbers, np.asarray(u.get_mantissa(held)).dtype)
    array = u.math.asarray(mantissa)
    return array if unit == u.UNITLESS else u.Quantity(array, unit=unit)


def _dense(matrix: np.ndarray, bias: np.ndarray | None) -> brainstate.nn.Linear:
    """Return a matrix of plain numbers as a module."""
    n_out, n_in = matrix.shape
    dtype = brainstate.environ.dftype()
    return brainstate.nn.Linear(
        (n_in,), (n_out,), w_init=matrix.T.astype(dtype), b_init=None if bias is None else bias.astype(dtype)
    )
