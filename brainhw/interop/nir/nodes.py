"""The nodes of a graph, made module by module with the factors that turn steps into differential equations."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import numpy as np

from brainhw.interop.nir.metadata import SECTION
from brainhw.interop.nir.neurons import Leaky, leaky_of, synaptic_shares
from brainhw.interop.nir.parts import IFLayer, Integrator
from brainhw.interop.nir.synapses import is_synapse, stored_codes, weights_of
from brainhw.interop.nir.wiring import INPUT, Wiring, told_class
from brainhw.nn import ALIFLayer, H1Synapse, LeakyReadout, MultiSynapseLayer
from brainhw.nn.parameter import current_value

__all__ = ["GraphBuilder", "Options"]


class Options(NamedTuple):
    """How a graph is written; as the arguments of ``to_nir``."""

    dt: u.Quantity
    millivolts: float
    how: str
    reset: str
    gain: str
    weights: str


class GraphBuilder:
    """Makes the nodes and edges of one network, each module once and each synapse once for every layer it feeds."""

    def __init__(self, nir: Any, wiring: Wiring, options: Options) -> None:
        self.nir, self.wiring, self.options = nir, wiring, options
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.names: dict[str, str] = {}
        self.shape_given = np.array([u.get_mantissa(wiring.given).shape[-1]])

    def graph(self, notes: dict[str, Any]) -> Any:
        """Return the whole graph."""
        self.nodes[INPUT] = self.nir.Input(input_type={"input": self.shape_given})
        self.names[INPUT] = INPUT
        for path, call in self.wiring.calls.items():
            if not is_synapse(told_class(call.module)):
                self._neurons(path, call.module)
        last = self._source(self.wiring.output, None, 1.0, self._stands_for(self.wiring.returned_unit))
        shape = self.wiring.calls[self.wiring.output].module.out_size[-1]
        self.nodes["output"] = self.nir.Output(output_type={"output": np.array([shape])})
        self.edges.append((last, "output"))
        return self.nir.NIRGraph(nodes=self.nodes, edges=self.edges, metadata=notes)

    def _stands_for(self, value: Any) -> float:
        """Return what 1 in the graph stands for where the net has such a value or unit, in mV if it is a voltage."""
        return self.options.millivolts if u.have_same_dim(value, u.mV) else 1.0

    def _free(self, path: str) -> str:
        """Return a name for a node, made of a path: without the dots and slashes that readers stumble over."""
        base = re.sub(r"\W", "_", path) or "net"
        base = base if base not in (INPUT, "output") else f"{base}_layer"
        name, count = base, 2
        while name in self.nodes:
            name, count = f"{base}_{count}", count + 1
        return name

    def _add(self, name: str, node: Any, source: str | None, **notes: Any) -> str:
        node.metadata = {SECTION: {key: value for key, value in notes.items() if value is not None}}
        self.nodes[name] = node
        if source is not None:
            self.edges.append((source, name))
        return name

    def _source(self, path: str, target: Any, factor: np.ndarray | float, unit: float) -> str:
        """Return the node that gives ``factor`` times what the module at ``path`` gives, in units of ``unit`` mV."""
        call = self.wiring.calls.get(path)
        if call is None:
            return self._scaled(self.names[path], factor * (self._stands_for(self.wiring.given) / unit))
        if not is_synapse(told_class(call.module)):
            return self._scaled(self.names[path], factor)
        module = call.module
        weights = weights_of(call, target)
        factor = np.broadcast_to(np.asarray(factor) / unit, (module.out_size[-1],))
        # What 1 stands for in the node that feeds this one.
        before = self._stands_for(call.takes)
        notes = {"path": path, "kind": type(module).__name__, **weights.notes}
        if weights.matrix.ndim == 1:
            source = self._source(call.source, module, weights.matrix * factor * before, before)
            return source if weights.bias is None else self._shifted(source, weights.bias * factor)
        source = self._source(call.source, module, 1.0, before)
        if isinstance(module, H1Synapse) and self.options.weights == "codes":
            codes = stored_codes(module, target)
            assert not isinstance(codes, str)
            linear = self._add(self._free(path), self.nir.Linear(weight=codes.numbers), source, **notes)
            return self._add(
                self._free(f"{path}_step"), self.nir.Scale(scale=codes.step * factor * before), linear, path=path
            )
        matrix = weights.matrix * (factor * before)[:, None]
        if weights.bias is None:
            return self._add(self._free(path), self.nir.Linear(weight=matrix), source, **notes)
        node = self.nir.Affine(weight=matrix, bias=weights.bias * factor)
        return self._add(self._free(path), node, source, **notes)

    def _scaled(self, source: str, factor: np.ndarray | float) -> str:
        # A factor that is one up to rounding is what an imported gain and its neuron make together.
        if np.all(np.abs(np.asarray(factor) - 1) <= np.finfo(brainstate.environ.dftype()).eps):
            return source
        shape = tuple(next(iter(self.nodes[source].output_type.values())))
        scale = np.broadcast_to(np.asarray(factor, float), shape).copy()
        return self._add(self._free(f"{source}_gain"), self.nir.Scale(scale=scale), source)

    def _shifted(self, source: str, bias: np.ndarray) -> str:
        node = self.nir.Affine(weight=np.eye(len(bias)), bias=bias)
        return self._add(self._free(f"{source}_bias"), node, source)

    def _neurons(self, path: str, module: Any) -> None:
        """Add the nodes of a layer or readout, and what feeds it."""
        leaky = leaky_of(module, self.options.dt, self.options.how)
        notes = {"path": path, "kind": type(module).__name__, "per_neuron": _per_neuron(module)}
        if isinstance(module, MultiSynapseLayer):
            self._current_based(path, module, leaky, notes)
        elif isinstance(module, (LeakyReadout, Integrator)):
            self._readout(path, module, leaky, notes)
        else:
            self._spiking(path, module, leaky, notes)

    def _gains(self, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the factor of the weights and ``R`` of neurons that keep ``beta`` over a step."""
        factor = 1 / (1 - beta)
        return (np.ones_like(beta), factor) if self.options.gain == "R" else (factor, np.ones_like(beta))

    def _spiking(self, path: str, module: Any, leaky: Leaky, notes: dict[str, Any]) -> None:
        millivolts, nir = self.options.millivolts, self.nir
        assert leaky.V_th is not None
        zeros, V_th = np.zeros_like(leaky.beta), leaky.V_th / millivolts
        if isinstance(module, IFLayer):
            seconds = float(self.options.dt.to(u.second).mantissa)
            factor, r = np.full_like(zeros, 1 / seconds), np.ones_like(zeros)
            if self.options.gain == "R":
                factor, r = r, factor
            node = nir.IF(r=r, v_threshold=V_th, v_reset=zeros)
        else:
            factor, r = self._gains(leaky.beta)
            if module.reset == "none":
                node = nir.LI(tau=leaky.tau.copy(), r=r, v_leak=zeros)
            else:
                node = nir.LIF(tau=leaky.tau.copy(), r=r, v_leak=zeros, v_threshold=V_th, v_reset=zeros.copy())
        source = self._source(self.wiring.calls[path].source, module, factor, millivolts)
        name = self._free(path)
        if module.topology == "RC":
            returned = module.to_voltage(module.recurrent_matrix()).to(u.mV).mantissa
            weight = np.asarray(returned, float).T * (factor / millivolts)[:, None]
            node.metadata = {SECTION: {key: value for key, value in {**notes, "reset": module.reset}.items() if value}}
            self.names[path] = self._add(name, self._recurrent(node, weight), source, reset=module.reset, **notes)
            return
        self.names[path] = self._add(name, node, source, reset=module.reset, **notes)
        if module.reset == "none":
            threshold = nir.Threshold(threshold=V_th)
            self.names[path] = self._add(self._free(f"{path}_threshold"), threshold, name, path=path)

    def _recurrent(self, node: Any, weight: np.ndarray) -> Any:
        """Return neurons with recurrent weights in the four nodes that other readers know."""
        shape = np.array([len(weight)])
        nodes = {
            "input": self.nir.Input(input_type={"input": shape}),
            "lif": node,
            "w_rec": self.nir.Linear(weight=weight),
            "output": self.nir.Output(output_type={"output": shape}),
        }
        edges = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
        return self.nir.NIRGraph(nodes=nodes, edges=edges)

    def _readout(self, path: str, module: Any, leaky: Leaky, notes: dict[str, Any]) -> None:
        factor, r = self._gains(leaky.beta)
        zeros, call = np.zeros_like(leaky.beta), self.wiring.calls[path]
        node = self.nir.LI(tau=leaky.tau.copy(), r=r, v_leak=zeros)
        if isinstance(module, Integrator):
            node.v_leak = np.asarray(module.bias, float) / (1 - leaky.beta)
            source = self._source(call.source, module, np.asarray(module.gain, float) * factor, 1.0)
            self.names[path] = self._add(self._free(path), node, source, **notes)
            return
        matrix = np.asarray(module.weight.value, float).T * factor[:, None]
        bias = None if module.bias is None else np.asarray(module.bias.value, float) * factor
        linear = self.nir.Linear(weight=matrix) if bias is None else self.nir.Affine(weight=matrix, bias=bias)
        source = self._source(call.source, module, 1.0, 1.0)
        name = self._add(self._free(f"{path}_weight"), linear, source, path=path, kind=type(module).__name__)
        self.names[path] = self._add(self._free(path), node, name, **notes)

    def _current_based(self, path: str, module: Any, leaky: Leaky, notes: dict[str, Any]) -> None:
        """Add synapses as LI, each before the LIF: the current moves first and is then held, as the layer does it."""
        millivolts, nir, n_syn = self.options.millivolts, self.nir, module.n_synapses
        assert leaky.V_th is not None
        zeros = np.zeros_like(leaky.beta)
        into, r = self._gains(leaky.beta)
        bias = np.broadcast_to(np.asarray(current_value(module.bias).to(u.mV).mantissa, float), zeros.shape)
        neuron = nir.LIF(
            tau=leaky.tau.copy(),
            r=r,
            v_leak=bias / (1 - leaky.beta) / millivolts,
            v_threshold=leaky.V_th / millivolts,
            v_reset=zeros,
        )
        name = self._add(self._free(path), neuron, None, reset="subtract", **notes)
        self.names[path] = name
        shares = synaptic_shares(module, self.options.dt, self.options.how)
        synapses = []
        for k in range(n_syn):
            factor, r_syn = self._gains(shares[k].beta)
            current = nir.LI(
                tau=shares[k].tau.copy(),
                r=r_syn * (shares[k].beta if self.options.gain == "R" else 1),
                v_leak=zeros.copy(),
            )
            if self.options.gain != "R":
                factor = factor * shares[k].beta
            source = self._columns(path, module, k, factor * into)
            free = self._free(f"{path}_syn{k}" if n_syn > 1 else f"{path}_syn")
            synapse = self._add(free, current, source, path=path)
            self.edges.append((synapse, name))
            synapses.append((synapse, factor * into / millivolts))
        # The nodes stand in the order in which they step, which some readers rely on.
        self.nodes[name] = self.nodes.pop(name)
        for k, (synapse, factor) in enumerate(synapses):
            if module.w_rec is not None:
                weight = np.asarray(module.recurrent_weight().to(u.mV).mantissa, float)[:, k::n_syn].T
                node = nir.Linear(weight=weight * factor[:, None])
                back = self._add(self._free(f"{synapse}_rec"), node, name, path=path)
                self.edges.append((back, synapse))
        if isinstance(module, ALIFLayer):
            ahp = shares[-1]
            factor, r_ahp = self._gains(ahp.beta)
            w_ahp = np.asarray(current_value(module.w_ahp).to(u.mV).mantissa, float) * ahp.beta / millivolts
            scale = self._add(self._free(f"{path}_w_ahp"), nir.Scale(scale=w_ahp * factor * into), name, path=path)
            node = nir.LI(tau=ahp.tau.copy(), r=r_ahp, v_leak=zeros.copy())
            self.edges.append((self._add(self._free(f"{path}_ahp"), node, scale, path=path), name))

    def _columns(self, path: str, module: Any, k: int, factor: np.ndarray) -> str:
        """Return what feeds synapse ``k`` of every neuron: its columns of the synapse before."""
        n_syn, source = module.n_synapses, self.wiring.calls[path].source
        if n_syn == 1:
            return self._source(source, module, factor, self.options.millivolts)
        spread = np.zeros(len(factor) * n_syn)
        spread[k::n_syn] = factor
        chosen = np.zeros((len(factor), len(spread)))
        chosen[np.arange(len(factor)), np.arange(len(factor)) * n_syn + k] = 1
        wide = self._source(source, module, spread, self.options.millivolts)
        node = self.nodes[wide]
        if (
            isinstance(node, (self.nir.Linear, self.nir.Affine))
            and node.metadata.get(SECTION, {}).get("path") == source
        ):
            # The synapse was made for this layer alone: only its rows of this synapse are needed.
            rows = {"weight": node.weight[k::n_syn]}
            kind = self.nir.Linear if isinstance(node, self.nir.Linear) else self.nir.Affine
            if kind is self.nir.Affine:
                rows["bias"] = node.bias[k::n_syn]
            metadata = node.metadata
            self.nodes[wide] = kind(**rows)
            self.nodes[wide].metadata = metadata
            return wide
        return self._add(self._free(f"{path}_pick{k}"), self.nir.Linear(weight=chosen), wide, path=path)


def _per_neuron(module: Any) -> str | None:
    """Return which of the numbers of a layer are held one a neuron although they may all be the same."""
    held = [name for name in ("tau", "V_th") if np.ndim(u.get_mantissa(current_value(getattr(module, name, 0.0)))) > 0]
    return " ".join(held) or None
