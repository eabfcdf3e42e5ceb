"""Import rules of NIR nodes. The input weights of a neuron are multiplied by the factors that its equation requires."""

from __future__ import annotations

import keyword
import re
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import numpy as np

from brainhw.interop.nir.errors import Problems
from brainhw.interop.nir.graph import Feed, FlatGraph
from brainhw.interop.nir.image_import import fold_kernel, is_kernel, largest_output
from brainhw.interop.nir.net import NIRNet, Step
from brainhw.interop.nir.node_kinds import MATRICES, NODES, kind_of, notes_of, register_import, unused_name
from brainhw.interop.nir.parts import BiasedSynapse, Comparator, CubaCurrent, Gain, IFLayer, Integrator, WholeDelay
from brainhw.interop.nir.steps import CUBA_ORDERS, Options, above, cuba_current, decay_per_step
from brainhw.kernel.leaky import Reset
from brainhw.nn import LeakyReadout, LIFLayer, LIFSynapse

__all__ = ["NetBuilder"]

_INTEGRATORS = ("LI", "I")
# A classifier decides within some tens of steps. A neuron that needs more steps to fire, even if every input is 1, is
# in practice silent.
_SILENT_STEPS = 50
# Largest number of values that one Delay node may store. Without a limit, a small array in a file could fill the
# memory.
_MOST_DELAYED = 10**8
# Names that a node may not have as an attribute of the network: attributes of NIRNet itself, and attributes that
# brainhw looks up in every module.
_NET_ATTRIBUTES = ("program", "takes", "returns", "millivolts", "dt", "in_size", "out_size")
_HOOKS = ("prepare", "pin_chip", "init_state", "reset_state", "update_sequence")
# The first member of each protocol. If a node had such a name, brainhw would take the network for a single layer.
_PROTOCOLS = ("weight_slot", "subthreshold", "recurrent_slot", "quiet", "steps_left")
_MODULE_ATTRIBUTES = ("chip", "family", "effective", "clamped", "spk_fun", "recurrent_weight")
_RESERVED = frozenset((*_NET_ATTRIBUTES, *_HOOKS, *_PROTOCOLS, *_MODULE_ATTRIBUTES))


class _FoldedMatrix(NamedTuple):
    """A matrix node whose matrix is merged into the weights of a neuron.

    ``matrix [out, in]`` and ``bias`` are already multiplied by the Scale node after it, if there is one. ``source``
    feeds the node.
    """

    name: str
    matrix: np.ndarray
    bias: np.ndarray | None
    source: Feed


class NetBuilder:
    """Builds the network for a NIR graph: the modules, and the program that runs them in order."""

    def __init__(self, graph: FlatGraph, reading: Options, problems: Problems) -> None:
        self.graph, self.reading, self.problems = graph, reading, problems
        self.parts: dict[str, Any] = {}
        self.program: list[Step] = []
        self.attributes: dict[str, str] = {}
        # For each node that feeds a neuron: the matrix that becomes the weights of that neuron.
        self.folded: dict[str, _FoldedMatrix] = {}
        # For each neuron: the Scale node before it, whose factor is multiplied into the gain of the neuron.
        self.scales: dict[str, str] = {}
        # Convolutions that the rule of a neuron makes, with the gain of the neuron multiplied into the kernel.
        self.kernels: set[str] = set()
        # For each IF node that hardly ever fires: the smallest number of steps that it needs to fire.
        self.silent: dict[str, float] = {}

    def net(self) -> NIRNet:
        """Build and return the network. Raise a `NIRError` that lists all problems if a node has a problem."""
        nodes = self.graph.nodes
        for name in nodes:
            self._choose_folds(name)
        merged = {*self.folded, *(folded.name for folded in self.folded.values()), *self.scales.values()}
        for name, node in nodes.items():
            if name not in merged and name != self.graph.input:
                NODES[kind_of(node)].rule(self, name, node)
        self.problems.raise_any()
        return NIRNet(
            self.parts,
            self.program,
            takes=self.graph.input,
            returns=self.graph.output,
            dt=self.reading.dt,
            in_size=self.graph.shapes[self.graph.input][1] or (),
            out_size=self.graph.shapes[self.graph.output][1] or (),
            millivolts=self.reading.millivolts,
        )

    def _choose_folds(self, name: str) -> None:
        """Choose the matrix, convolution and ``Scale`` nodes to merge into the input weights of the node ``name``.

        A node with more than one target is not merged.
        """
        kind, feeds = kind_of(self.graph.nodes[name]), self.graph.feeds[name]
        # The inputs of an integrator with several inputs are not scaled, so nothing is merged.
        if not NODES[kind].folds or (kind in _INTEGRATORS and len(feeds) > 1):
            return
        rest = []
        for source, late in feeds:
            folded = None if late else self._as_matrix(source)
            if folded is None:
                rest.append((source, late))
            else:
                self.folded[source] = folded
        if kind in _INTEGRATORS:
            return
        self.kernels |= {source for source, late in rest if is_kernel(self.graph, source, late)}
        if len(rest) != 1:
            return
        source, late = rest[0]
        if not late and kind_of(self.graph.nodes[source]) == "Scale" and self.graph.feeds_one(source):
            self.scales[name] = source

    def _as_matrix(self, name: str) -> _FoldedMatrix | None:
        """Return a matrix node, or a Scale node merged with the matrix before it.

        Return ``None`` for other nodes, and for nodes with several targets or sources.
        """
        node, feeds = self.graph.nodes[name], self.graph.feeds[name]
        if not self.graph.feeds_one(name) or len(feeds) != 1:
            return None
        if kind_of(node) in MATRICES:
            bias = _floats(node.bias) if kind_of(node) == "Affine" else None
            return _FoldedMatrix(name, np.asarray(node.weight, float), bias, feeds[0])
        before, late = feeds[0]
        if kind_of(node) != "Scale" or late or kind_of(self.graph.nodes[before]) not in MATRICES:
            return None
        inner = self._as_matrix(before)
        if inner is None:
            return None
        scale = _floats(node.scale)
        bias = None if inner.bias is None else inner.bias * scale
        return _FoldedMatrix(inner.name, inner.matrix * scale[:, None], bias, inner.source)

    def _attribute(self, name: str) -> str:
        """Return the name of the network attribute for the module of a node."""
        if name not in self.attributes:
            base = re.sub(r"\W", "_", name)
            taken = keyword.iskeyword(base) or base in _RESERVED or hasattr(NIRNet, base)
            # brainstate stores its own attributes of a module under names that start with "_".
            if taken or base.startswith("_") or not base.isidentifier():
                base = f"node_{base}"
            self.attributes[name] = unused_name(base, self.attributes.values())
        return self.attributes[name]

    def put(self, name: str, part: Any, takes: list[Feed] | None = None) -> None:
        """Add the module ``part`` for a node. If ``part`` is ``None``, the node passes its input on unchanged.

        The input of the module is the sum of the sources of the node, or the sum of ``takes`` if given (see
        :meth:`drives`).
        """
        feeds = self.graph.feeds[name] if takes is None else takes
        # A value from the previous step comes from a layer that may not exist yet, but the attribute name of this layer
        # is already known.
        found = [(self._attribute(source) if late else source, late) for source, late in feeds]
        attribute = None if part is None else self._attribute(name)
        if attribute is not None:
            self.parts[attribute] = part
        self.program.append(Step(name, attribute, tuple(found)))

    def _refuse(self, name: str, why: str) -> None:
        self.problems.add(name, kind_of(self.graph.nodes[name]), why)

    def _tau(self, name: str, tau: np.ndarray, field: str = "tau") -> Any:
        """Return the time constant of a layer as a scalar or an array.

        Reject values that are too short for forward Euler.
        """
        dt = self.reading.seconds
        if self.reading.how == "euler" and np.any(tau <= dt):
            self._refuse(
                name,
                f"has a minimum {field} of {tau.min():g} s, which must be longer than dt = "
                f"{self.reading.seconds * 1000:g} ms for forward Euler; pass a shorter dt or discretisation='exact'.",
            )
            return 1.0 * u.ms
        if self.reading.how == "euler":
            # A layer computes its decay factor as exp(-dt/tau). With this time constant it equals the factor of forward
            # Euler.
            tau = -dt / np.log1p(-dt / tau)
        return _scalar_if_equal(self.graph.nodes[name], "tau", tau * 1000) * u.ms

    def _check_decay(self, name: str, decay: Any, size: tuple[int, ...]) -> np.ndarray:
        beta = np.broadcast_to(np.asarray(decay).astype(float), size)
        if np.any(beta >= 1):
            self._refuse(
                name,
                f"has a time constant so long that its decay factor for dt = {self.reading.dt} is rounded to 1; pass a "
                "longer dt, or use an IF or I node.",
            )
        return beta

    def _decay_of(self, name: str, tau: np.ndarray) -> np.ndarray:
        """Return the decay factor per step of an integrator, in the precision of the network."""
        beta = decay_per_step(tau, self.reading.seconds, self.reading.how).astype(brainstate.environ.dftype())
        return self._check_decay(name, beta, tau.shape)

    def _lif(self, name: str, tau: Any, V_th: np.ndarray, recurrent: Any = None) -> tuple[LIFLayer, np.ndarray]:
        """Return a layer for the node ``name``, and the decay factor of its membrane potential per step."""
        layer = LIFLayer(
            V_th.shape,
            tau,
            _scalar_if_equal(self.graph.nodes[name], "V_th", V_th) * u.mV,
            reset=self._reset(name),
            topology="FF" if recurrent is None else "RC",
            recurrent_init=recurrent,
        )
        # The weights use the same float32 decay factor as the layer, so that the steady state for a constant current is
        # R I + v_leak. With two different factors the steady state was wrong: in one case 10.0 instead of 0.5.
        return layer, self._check_decay(name, layer.decay(self.reading.dt), V_th.shape)

    def _reset(self, name: str) -> Reset:
        """Return the reset that the caller requested, otherwise the one in brainhw's metadata, otherwise ``'zero'``."""
        noted_reset = notes_of(self.graph.nodes[name]).get("reset")
        return "subtract" if (self.reading.reset or noted_reset) == "subtract" else "zero"

    def _threshold(self, name: str) -> np.ndarray:
        """Return the thresholds in mV. Neurons fire at or above them."""
        node = self.graph.nodes[name]
        V_th = _floats(node.v_threshold) * self.reading.millivolts
        # A neuron that subtracts its threshold must subtract the value in the file, not the next larger float. Such
        # a reset is not part of NIR, so the rule of NIR to fire strictly above the threshold does not apply: libraries
        # that subtract from IF neurons fire at the threshold.
        return V_th if self.reading.reset == "subtract" and not notes_of(node) else above(V_th)

    def integrator(self, name: str, node: Any) -> None:
        """Make a readout for an ``LI`` node whose only input is a matrix, if the readout can represent ``v_leak``.

        Otherwise make an integrator of the sum of the inputs of the node.
        """
        feeds, r = self.graph.feeds[name], _floats(node.r)
        folded = self.folded.get(feeds[0][0])
        if kind_of(node) == "I":
            beta, gain, bias = np.ones_like(r), r * self.reading.file_seconds, np.zeros_like(r)
        else:
            tau, v_leak = _floats(node.tau), _floats(node.v_leak)
            # A readout has no v_leak. It can only add v_leak to the bias of its matrix, if there is a bias.
            if folded is not None and (folded.bias is not None or not np.any(v_leak)):
                self._readout(name, folded, tau, r, v_leak)
                return
            self._tau(name, tau)  # for its check
            beta = self._decay_of(name, tau)
            gain, bias = (1 - beta) * r, (1 - beta) * v_leak
        if folded is not None:
            self.put(feeds[0][0], _dense(folded.matrix, folded.bias), [folded.source])
        self.put(name, Integrator(beta, gain, bias))

    def _readout(self, name: str, folded: _FoldedMatrix, tau: np.ndarray, r: np.ndarray, v_leak: np.ndarray) -> None:
        n_out, n_in = folded.matrix.shape
        weight, bias = np.zeros((n_in, n_out)), folded.bias is not None
        readout = LeakyReadout(n_in, n_out, self._tau(name, tau), weight_init=weight, bias=bias)
        beta = self._check_decay(name, u.math.exp(-self.reading.dt / readout.tau), (n_out,))
        gain = (1 - beta) * r
        readout.weight.value = _with_type_of(readout.weight.value, (folded.matrix * gain[:, None]).T)
        if readout.bias is not None and folded.bias is not None:
            readout.bias.value = _with_type_of(readout.bias.value, folded.bias * gain + (1 - beta) * v_leak)
        self.put(name, readout, [folded.source])

    def firing(self, name: str, node: Any) -> None:
        """Make a layer for an ``IF`` or ``LIF`` node, and the synapses and gains that drive it."""
        feeds, millivolts, r = self.graph.feeds[name], self.reading.millivolts, _floats(node.r)
        V_th = self._threshold(name)
        recurrence = self._recurrent(name, feeds)
        # The recurrent weights depend on the leak of the layer, so the layer is made with zeros first.
        recurrent = None if recurrence is None else np.zeros((len(r), len(r))) * u.mV
        if kind_of(node) == "IF":
            layer: LIFLayer = IFLayer(V_th * u.mV, recurrent, self._reset(name))
            gain, constant = r * self.reading.if_seconds, np.zeros_like(r)
            self._note_silence(name, feeds, gain * millivolts / V_th)
        else:
            layer, beta = self._lif(name, self._tau(name, _floats(node.tau)), V_th, recurrent)
            gain, constant = (1 - beta) * r, (1 - beta) * _floats(node.v_leak)
        if recurrence is not None:
            weight = (recurrence.matrix * (gain * millivolts)[:, None]).T
            layer.recurrent_weight.value = _with_type_of(layer.recurrent_weight.value, weight)
            feeds = [feed for feed in feeds if feed[0] != recurrence.name]
            constant = constant if recurrence.bias is None else constant + recurrence.bias * gain
        self.put(name, layer, self.drives(name, feeds, gain, constant))

    def _note_silence(self, name: str, feeds: list[Feed], gain: np.ndarray) -> None:
        """Record the ``IF`` node ``name`` if it is nearly silent only because its input is multiplied by ``dt``."""
        if self.reading.if_input is not None:
            return
        most = np.zeros_like(gain)
        for source, _ in feeds:
            folded = self.folded.get(source)
            if source in self.kernels:
                most += largest_output(self.graph.nodes[source], gain.ndim)
            elif folded is None:
                most += 1
            else:
                most += np.maximum(folded.matrix, 0).sum(1) + (0 if folded.bias is None else np.maximum(folded.bias, 0))
        fraction = float(np.max(gain * most, initial=0.0))
        if 0 < fraction < 1 / _SILENT_STEPS <= fraction / self.reading.if_seconds:
            self.silent[name] = 1 / fraction

    def _recurrent(self, name: str, feeds: list[Feed]) -> _FoldedMatrix | None:
        """Return the recurrent matrix of a layer. Return ``None`` if the layer has no such matrix or no other input."""
        # If the recurrent matrix is the only input, it becomes an ordinary synapse, because a layer needs an input.
        if len(feeds) < 2:
            return None
        for source, _ in feeds:
            folded = self.folded.get(source)
            if folded is not None and folded.name == source and folded.source == (name, True):
                return folded
        return None

    def drives(self, name: str, feeds: list[Feed], gain: np.ndarray, constant: np.ndarray) -> list[Feed]:
        """Make the modules that drive a layer, and return them as the sources of the layer. Their outputs are in mV.

        Together these modules add ``gain * x + constant`` to the membrane potential in each step, in units of the
        graph. Matrices become synapses whose weights include the gain. All other sources share one ``Gain`` module.
        """
        millivolts = self.reading.millivolts
        # The constant becomes part of the first bias, so that it is added only once.
        unassigned = constant if np.any(constant) else None
        drives: list[Feed] = []
        rest: list[Feed] = []
        for source, late in feeds:
            folded = self.folded.get(source)
            if folded is None:
                if source in self.kernels and fold_kernel(self, source, gain, unassigned):
                    drives.append((source, False))
                    unassigned = None
                else:
                    rest.append((source, late))
                continue
            bias = None if folded.bias is None else folded.bias * gain
            if unassigned is not None:
                bias, unassigned = unassigned if bias is None else bias + unassigned, None
            weight = (folded.matrix * (gain * millivolts)[:, None]).T * u.mV
            if bias is None:
                part = LIFSynapse(*weight.shape, weight_init=weight)
            else:
                part = BiasedSynapse(weight, bias * millivolts * u.mV)
            self.put(folded.name, part, [folded.source])
            drives.append((folded.name, False))
        if rest:
            for source, _ in rest:
                if source in self.kernels:  # make it now, without the factors of this neuron in its kernel
                    self.kernels.discard(source)
                    NODES[kind_of(self.graph.nodes[source])].rule(self, source, self.graph.nodes[source])
            if name in self.scales:
                scale = self.scales[name]
                gain, rest = gain * _floats(self.graph.nodes[scale].scale), self.graph.feeds[scale]
            key = unused_name(f"{name}.in", self.graph.nodes)
            bias = None if unassigned is None else unassigned * millivolts
            self.put(key, Gain(gain * millivolts, bias, u.mV), rest)
            drives.append((key, False))
        return drives

    def current_based(self, name: str, node: Any) -> None:
        """Make the modules for the current and the membrane potential of a current-based neuron."""
        n, millivolts = np.shape(node.r), self.reading.millivolts
        r, w_in, v_leak = _floats(node.r), _floats(node.w_in), _floats(node.v_leak)
        tau_mem, tau_syn = _floats(node.tau_mem), _floats(node.tau_syn)
        tau = self._tau(name, tau_mem, "tau_mem")
        self._tau(name, tau_syn, "tau_syn")  # for its check
        order = self._cuba_order(name)
        fires = kind_of(node) == "CubaLIF"
        last: LIFLayer | Integrator
        if fires:
            last, alpha = self._lif(name, tau, self._threshold(name))
        else:
            alpha = self._decay_of(name, tau_mem)
            last = Integrator(alpha, np.ones(n), np.zeros(n))
        beta, current_factor = cuba_current(tau_mem, tau_syn, r, self.reading.seconds, self.reading.how, order)
        # `alpha` is the decay factor that the layer uses in its own precision, unlike the float64 factor inside
        # `current_factor`.
        direct = (1 - alpha) * r - current_factor if order == "together" else np.zeros(n)
        factor, unit = (millivolts, u.mV) if fires else (1.0, u.UNITLESS)
        constant = (1 - alpha) * v_leak * factor
        key = unused_name(f"{name}.current", self.graph.nodes)
        part = CubaCurrent(beta, w_in, current_factor * factor, direct * w_in * factor, constant, unit, order, r)
        self.put(key, part, self.graph.feeds[name])
        self.put(name, last, [(key, False)])

    def _cuba_order(self, name: str) -> str:
        """Return the order in which a step solves the two equations of a ``CubaLIF`` or ``CubaLI`` node.

        This is the order that the caller requested, or else the order in brainhw's metadata, or else the default.
        """
        default = "together" if self.reading.how == "exact" else "current-first"
        order = self.reading.cuba_order or notes_of(self.graph.nodes[name]).get("order") or default
        if order not in CUBA_ORDERS or (order == "together" and self.reading.how == "euler"):
            fix = "pass cuba_order='current-first' or 'old-current'"
            self._refuse(name, f"has the order {order!r}, invalid for discretisation={self.reading.how!r}; {fix}.")
            return default
        return str(order)


# Import rules, one per class of nodes


@register_import("Input")
@register_import("Output")
def pass_through(builder: NetBuilder, name: str, node: Any) -> None:
    """Add no module, because the node passes its input on unchanged."""
    builder.put(name, None)


@register_import("Affine", arrays=("weight", "bias"))
@register_import("Linear", arrays=("weight",))
def matrix(builder: NetBuilder, name: str, node: Any) -> None:
    """Make a dimensionless linear module."""
    bias = _floats(node.bias) if hasattr(node, "bias") else None
    builder.put(name, _dense(np.asarray(node.weight, float), bias))


@register_import("Scale", arrays=("scale",))
def scale(builder: NetBuilder, name: str, node: Any) -> None:
    """Make a `Gain` module, which multiplies each channel by its factor."""
    builder.put(name, Gain(_floats(node.scale)))


@register_import("Threshold", arrays=("threshold",))
def threshold(builder: NetBuilder, name: str, node: Any) -> None:
    """Make a `Comparator`, which spikes if its input exceeds the threshold of the node."""
    builder.put(name, Comparator(above(_floats(node.threshold))))


@register_import("Delay", arrays=("delay",))
def delay(builder: NetBuilder, name: str, node: Any) -> None:
    """Make a `WholeDelay` module. Reject a delay that is not an integer multiple of the time step, or is too long."""
    steps = np.asarray(node.delay, float) / builder.reading.seconds
    whole = np.round(steps)
    # A delay in float32 seconds has a relative error of up to 6e-8.
    if np.any(np.abs(steps - whole) > 1e-6):
        first = float(np.ravel(node.delay)[np.argmax(np.abs(steps - whole))])  # argmax returns a flat index
        dt = builder.reading.seconds * 1000
        why = f"has a delay of {first:g} s, which is not an integer multiple of dt = {dt:g} ms."
        builder.problems.add(name, "Delay", why)
    elif np.max(whole, initial=0) * whole.size > _MOST_DELAYED:
        why = f"delays {whole.size} channels by up to {np.max(whole):g} steps; shorten the delay or pass a longer dt."
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


def _floats(array: Any) -> np.ndarray:
    """Return the values of a node in double precision."""
    return np.asarray(array, float)


def _scalar_if_equal(node: Any, field: str, values: np.ndarray) -> Any:
    """Return ``values``, or a scalar if all values are equal and brainhw's metadata does not list the field.

    The metadata lists the fields that the exported layer stored per neuron.
    """
    each = str(notes_of(node).get("per_neuron", "")).split()
    first = values.flat[0]
    return float(first) if np.all(values == first) and field not in each else values


def _with_type_of(held: Any, numbers: np.ndarray) -> Any:
    """Return values as an array with the dtype and unit of the state value ``held``."""
    unit = u.get_unit(held)
    mantissa = np.asarray(numbers, np.asarray(u.get_mantissa(held)).dtype)
    array = u.math.asarray(mantissa)
    return array if unit == u.UNITLESS else u.Quantity(array, unit=unit)


def _dense(matrix: np.ndarray, bias: np.ndarray | None) -> brainstate.nn.Linear:
    """Return a dimensionless linear module with the given matrix and bias."""
    n_out, n_in = matrix.shape
    dtype = brainstate.environ.dftype()
    return brainstate.nn.Linear(
        (n_in,), (n_out,), w_init=matrix.T.astype(dtype), b_init=None if bias is None else bias.astype(dtype)
    )
