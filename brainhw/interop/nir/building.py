"""Builder of a NIR graph, and the contract of export rules: one rule turns one class of modules into nodes."""

from __future__ import annotations

import abc
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import numpy as np

from brainhw import _arguments, _records
from brainhw._version import __version__
from brainhw.interop.nir.errors import Problems
from brainhw.interop.nir.layouts import channels_last, to_file
from brainhw.interop.nir.node_kinds import metadata, noted, stretched, unused
from brainhw.interop.nir.steps import Options
from brainhw.interop.nir.wiring import INPUT, Call, Wiring

__all__ = ["Codes", "Export", "GraphBuilder", "Linear", "Weights", "register_export"]

# A matrix that only puts numbers into another order; of more than this it would be the largest part of a file.
MOST_REORDERED = 4096


class Codes(NamedTuple):
    """Weights as whole numbers ``[out, in]``, and the size of the number 1 in the unit of the weights."""

    numbers: np.ndarray
    step: float


@dataclass(frozen=True)
class Weights:
    """Weights of a synapse; the export rule of a module without a state returns them.

    Parameters
    ----------
    matrix : numpy.ndarray
        ``[out, in]``, or ``[out]`` for a one-to-one connection, in :attr:`Export.weight_unit`. The builder multiplies
        it by the factor of the layer behind it.
    bias : numpy.ndarray, optional
        ``[out]`` in the unit of the output. Default none.
    notes : dict, optional
        Metadata of the node. Default none.
    codes : Codes, optional
        The same matrix as whole numbers, to write before a ``Scale``. Default none.
    """

    matrix: np.ndarray
    bias: np.ndarray | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    codes: Codes | None = None

    def __post_init__(self) -> None:
        array = _records.numbers(ndims=(1, 2), some=True)
        _records.check_fields(
            self,
            matrix=array,
            bias=_records.optional(_records.numbers(ndims=(1,), some=True)),
            notes=_records.is_a(dict),
            codes=_records.optional(_records.is_a(Codes)),
        )


class Linear(abc.ABC):
    """A linear module without a state and without a matrix ``[out, in]``; a rule may return it in place of weights."""

    @abc.abstractmethod
    def add(self, at: Export, factor: np.ndarray) -> str:
        """Add nodes that give ``factor`` times the output, and return the name of the last one.

        ``factor`` is one number, or has the shape of the output in the file.
        """


class _RefusedError(Exception):
    """A module of the network was refused, so no further node is made."""


class Export:
    """One module to export: a rule reads the options, adds nodes or refuses.

    Attributes
    ----------
    path : str
        Dotted path of the module.
    call : Call
        ``source`` is the path of the module that feeds it, ``takes`` and ``gives`` are the units of input and output.
    target : brainstate.nn.Module or None
        A module that it feeds; ``None`` is the output of the network. A synapse is exported once for each.
    options : Options
        ``dt``, ``seconds``, ``millivolts`` (what 1 in the graph is), ``how`` (``'exact'`` or ``'euler'``), ``reset``
        (``'exact'`` or ``'continuous'``), ``gain`` (``'weights'`` or ``'R'``), ``weights`` (``'float'`` or
        ``'codes'``), ``cuba_order``, ``if_input`` and ``if_seconds`` (the factor of the input of an ``IF`` node).
    nir : module
        The package ``nir``.
    seconds : float
        The time step of the network in seconds. The graph multiplies ``tau``, ``tau_mem``, ``tau_syn`` and ``delay`` of
        all nodes by ``as_dt/dt`` afterwards.
    refused : bool
        Whether :meth:`refuse` was called.
    channels_last : bool
        Whether the images of the network have their channels last; those of the file have them first.
    """

    def __init__(self, builder: GraphBuilder, call: Call, target: Any) -> None:
        self._builder = builder
        self.path, self.call, self.target = call.path, call, target
        self.options, self.nir = builder.options, builder.nir
        self.seconds = builder.options.seconds
        self.channels_last = builder.channels_last
        self.refused = False

    @property
    def weight_unit(self) -> u.Unit:
        """Unit of a weight: that of the output over that of the input, with mV for voltages."""
        return self.call.gives / self.call.takes

    @property
    def source_module(self) -> Any:
        """The module that feeds this one; ``None`` is the input of the network."""
        call = self._builder.wiring.calls.get(self.call.source)
        return None if call is None else call.module

    @property
    def targets(self) -> list[Any]:
        """Every module that this one feeds; ``None`` is the output of the network."""
        return self._builder.wiring.targets(self.path)

    def refuse(self, why: str) -> None:
        """Refuse the module: ``why`` follows its name and ends with the advice. All reasons are listed."""
        self.refused = True
        self._builder.problems.add(self.path, type(self.call.module).__name__, why)

    def per_neuron(self, values: Any) -> np.ndarray:
        """Return numbers with one entry per neuron of the module, in the shape of the file: an image channels first.

        Parameters
        ----------
        values : float or numpy.ndarray
            Scalar, or an array that broadcasts to the ``out_size`` of the module.
        """
        size = self.call.module.out_size
        # A copy, since the view of a single number is read-only.
        return to_file(np.broadcast_to(np.asarray(values, float), size), self.channels_last).copy()

    def check_clamp(self) -> None:
        """Ask for the check that the clamp of the membrane at zero changes nothing on the sample."""
        self._builder.clamped[self.path] = self.call.module

    def gains(self, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the factor of the weights and ``R`` of neurons that keep the share ``beta`` over a step."""
        # A reader adds (1 - beta) R I in a step, where brainhw adds its input itself.
        factor = 1 / (1 - beta)
        return (np.ones_like(beta), factor) if self.options.gain == "R" else (factor, np.ones_like(beta))

    def source(self, factor: Any = 1.0, *, voltage: bool = False, rows: slice | None = None) -> str:
        """Return the node that gives ``factor`` times the input of the module.

        Parameters
        ----------
        factor : float or numpy.ndarray, optional
            Scalar or one for each channel. Default 1.
        voltage : bool, optional
            Whether the module takes voltages (or charges that make them): ``factor`` then belongs to numbers in
            ``options.millivolts``. Default False: plain numbers.
        rows : slice, optional
            Only these channels of the input. Default all.
        """
        unit = self.options.millivolts if voltage else 1.0
        return self._builder.source(self.call.source, self.call.module, factor, unit, rows)

    def columns(self, matrix: np.ndarray) -> tuple[np.ndarray, str]:
        """Return a matrix ``[out, in]`` for the order in which the file gives the input, and the node that gives it."""
        return self._builder.columns(self.call.source, self.call.module, matrix, 1.0)

    def scaled(self, source: str, factor: Any) -> str:
        """Return the node that gives ``factor`` times the output of a node: a ``Scale``, or the node itself for 1."""
        return self._builder.scaled(source, factor)

    def reordered(self, order: np.ndarray) -> None:
        """Note that the file gives the flat output in another order: its entry ``i`` is our entry ``order[i]``."""
        self._builder.orders[self.path] = order

    def add(self, node: Any, source: str | None = None, *, suffix: str = "", **notes: Any) -> str:
        """Add a node, connect it to ``source`` and return its name.

        ``suffix`` names a further node of the same module. ``notes`` go into the metadata; ``None`` is left out.
        """
        kind = None if suffix else type(self.call.module).__name__
        notes = {"path": self.path, "kind": kind, **notes}
        return self._builder.add(f"{self.path}_{suffix}" if suffix else self.path, node, source, **notes)

    def connect(self, source: str, target: str) -> None:
        """Add an edge between two nodes."""
        self._builder.edges.append((source, target))

    def move_to_end(self, name: str) -> None:
        """Put a node after those added since: some readers step the nodes in their order."""
        self._builder.nodes[name] = self._builder.nodes.pop(name)


@functools.singledispatch
def _export_rule(module: Any, at: Export) -> str | Weights | Linear | None:
    if "conv" in type(module).__name__.lower():
        at.refuse(
            "is a convolution of a class that to_nir has no rule for; use Conv1d or Conv2d of brainstate.nn, or "
            "register its class with brainhw.interop.nir.register_export."
        )
        return None
    at.refuse(
        "has no NIR form; use synapses, layers and readouts of brainhw, or Linear, Conv1d, Conv2d, AvgPool2d and "
        "Flatten of brainstate.nn, or register its class with brainhw.interop.nir.register_export."
    )
    return None


Rule = Callable[[Any, Export], "str | Weights | Linear | None"]
# The rules that know layers of several axes.
_OF_IMAGES: set[Rule] = set()


def register_export(cls: type, *, images: bool = False) -> Callable[[Rule], Rule]:
    """Register the rule by which modules of a class are exported; use it as a decorator.

    The rule is called as ``rule(module, at)`` with an :class:`Export`. It returns :class:`Weights` for a synapse, or
    the name of the node that gives the output of the module. To refuse, it calls ``at.refuse(why)`` and returns
    ``None``. A refusal comes before the first call of ``at.source``, so that every reason is listed.

    Parameters
    ----------
    cls : type
        Subclass of ``brainstate.nn.Module``. The rule holds for subclasses that change no member of ``cls``; others
        are refused until they are registered themselves. A second rule for a class replaces the first.
    images : bool, optional
        Whether the rule takes layers of several axes, with arrays from :meth:`Export.per_neuron`. Default False: such a
        layer is refused.

    Returns
    -------
    callable
        The decorator, which returns the rule unchanged.

    Raises
    ------
    TypeError
        If ``cls`` is not a class of modules, or ``images`` is not True or False.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp, numpy as np
    >>> from brainhw.interop.nir import Weights, register_export, to_nir
    >>> class Double(brainstate.nn.Module):
    ...     in_size = out_size = (2,)
    ...     def update(self, x):
    ...         return 2 * x
    >>> @register_export(Double)
    ... def double(module, at):
    ...     return Weights(np.full(2, 2.0))
    >>> net = brainstate.nn.Sequential(Double(), bh.nn.LeakyReadout(2, 1, tau=5 * u.ms))
    >>> [type(node).__name__ for node in to_nir(net, dt=1 * u.ms).nodes.values()]
    ['Input', 'Scale', 'Linear', 'LI', 'Output']
    """
    if not (isinstance(cls, type) and issubclass(cls, brainstate.nn.Module)):
        raise TypeError(f"register_export: cls must be a subclass of brainstate.nn.Module; got {cls!r}.")
    _arguments.flag(images, call="register_export", name="images")

    def register(rule: Rule) -> Rule:
        if images:
            _OF_IMAGES.add(rule)
        return _export_rule.register(cls)(rule)

    return register


def _rule_of(module: Any) -> Rule | None:
    """Return the rule of a module, ``None`` if its own class changes a member of the registered one."""
    own = type(module)
    # A method that was replaced on the module itself, such as `layer.to_voltage = ...`, counts as well.
    changed = {name for name, value in vars(module).items() if callable(value) and callable(getattr(own, name, None))}
    for kind in own.__mro__:
        # Classes of this package are tested with the rule of their base.
        if kind in _export_rule.registry or kind.__module__.split(".")[0] == "brainhw":
            return None if any(hasattr(kind, name) for name in changed) else _export_rule.dispatch(kind)
        changed |= {name for name in vars(kind) if not name.startswith(("__", "_abc_"))}
    return None


class GraphBuilder:
    """Makes nodes and edges of one network: each layer once, each synapse once for every layer that it feeds."""

    def __init__(self, nir: Any, wiring: Wiring, options: Options, problems: Problems) -> None:
        self.nir, self.wiring, self.options, self.problems = nir, wiring, options, problems
        self.channels_last = channels_last(wiring.calls.values(), problems)
        self.nodes: dict[str, Any] = {INPUT: nir.Input(input_type={"input": self._file_shape(wiring.size_in)})}
        self.edges: list[tuple[str, str]] = []
        self.clamped: dict[str, Any] = {}
        self.wrote_codes = False
        self._names: dict[str, str] = {INPUT: INPUT}
        self._weights: dict[tuple[str, int], Weights | Linear] = {}
        self.orders: dict[str, np.ndarray] = {}

    def _file_shape(self, size: tuple[int, ...]) -> np.ndarray:
        """Return a shape of the network as the file has it."""
        return np.array([size[-1], *size[:-1]] if self.channels_last else size)

    def apply_rules(self) -> None:
        """Export every module; what a rule refuses becomes a problem."""
        # In the order of the step, so that the synapses of a layer are known before the layer.
        for call in self.wiring.calls.values():
            rule = _rule_of(call.module)
            if rule is None:
                self.problems.add(
                    call.path,
                    type(call.module).__name__,
                    "changes the step of its class, so its parameters do not describe it; use the class itself, or "
                    "register this one with brainhw.interop.nir.register_export.",
                )
                continue
            images = [size for size in (call.size_in, call.size_out) if len(size) > 1]
            if images and rule not in _OF_IMAGES and rule is not _export_rule.registry[object]:
                self._refuse_images(call, images[0])
                continue
            for target in self.wiring.targets(call.path):
                at = Export(self, call, target)
                try:
                    made = rule(call.module, at)
                except _RefusedError:
                    break
                if at.refused:
                    continue
                if isinstance(made, (Weights, Linear)):
                    self._weights[call.path, id(target)] = made
                    continue
                if made not in self.nodes:
                    raise TypeError(
                        f"to_nir: the rule for {type(call.module).__name__} must return Weights or the name of a node "
                        f"that it added; got {_arguments.describe(made)}. To refuse a module, call at.refuse(why)."
                    )
                # A layer has one node for all that it feeds; a synapse goes into the nodes of each.
                self._names[call.path] = str(made)
                break

    def graph(self, chip: str | None) -> Any:
        """Return the whole graph, with notes of how it was made; no reader needs them."""
        last = self.source(self.wiring.output, None, 1.0, self._size_of_one(self.wiring.returned.unit))
        if self.options.weights == "codes" and not self.wrote_codes:
            words = "has no synapse whose weights are whole numbers on a chip; pass weights='float'."
            self.problems.add("the network", "weights='codes'", words)
            self.problems.raise_any()
        self.nodes["output"] = self.nir.Output(output_type={"output": self._file_shape(self.wiring.size_out)})
        self.edges.append((last, "output"))
        orders = {str(noted(node)["order"]) for node in self.nodes.values() if "order" in noted(node)}
        notes = metadata(
            version=__version__,
            dt_s=self.options.file_seconds,
            net_dt_s=None if self.options.as_dt is None else self.options.seconds,
            time_unit="s",
            millivolts_per_unit=self.options.millivolts,
            discretisation=self.options.how,
            reset=self.options.reset,
            gain=self.options.gain,
            if_input=self.options.if_input,
            cuba_order=", ".join(sorted(orders)) or None,
            spikes="at the threshold or above; v_threshold is the number below it, since NIR fires above",
            feedback="one step later",
            channels="last in the network, first in this file" if self.channels_last else None,
            chip=chip,
        )
        factor = self.options.file_seconds / self.options.seconds
        nodes = {name: stretched(node, factor) for name, node in self.nodes.items()}
        return self.nir.NIRGraph(nodes=nodes, edges=self.edges, metadata=notes)

    def _size_of_one(self, unit: u.Unit) -> float:
        """Return the size of the number 1 in the graph for values of a unit: in mV for voltages, otherwise 1."""
        return self.options.millivolts if u.have_same_dim(unit, u.mV) else 1.0

    def add(self, named: str, node: Any, source: str | None, **notes: Any) -> str:
        """Add a node, connect it to ``source`` and return its name, which is made of ``named``."""
        # Readers make attributes and paths of names, where dots and slashes have a meaning of their own.
        base = re.sub(r"\W", "_", named) or "net"
        name = unused(f"{base}_layer" if base in (INPUT, "output") else base, self.nodes)
        node.metadata = metadata(**notes)
        self.nodes[name] = node
        if source is not None:
            self.edges.append((source, name))
        return name

    def source(self, path: str, target: Any, factor: Any, unit: float, rows: slice | None = None) -> str:
        """Return the node that gives ``factor`` times the output of the module at ``path``, in units of ``unit`` mV."""
        if self.problems.found:  # there will be no graph, and what feeds this module may not be known
            raise _RefusedError
        weights = self._weights.get((path, id(target)))
        if isinstance(weights, Weights) and weights.matrix.ndim == 2:
            return self._matrix(self.wiring.calls[path], weights, factor, unit, rows)
        if rows is not None:
            return self._picked(path, target, factor, unit, rows)
        if isinstance(weights, Linear):
            return weights.add(Export(self, self.wiring.calls[path], target), np.asarray(factor) / unit)
        if weights is None:
            return self._given(path, factor, unit)
        # A gain becomes no node of its own if the matrix before it can take its factors.
        call = self.wiring.calls[path]
        factor = np.broadcast_to(np.asarray(factor) / unit, weights.matrix.shape)
        before = self._size_of_one(call.takes)
        name = self.source(call.source, call.module, weights.matrix * factor * before, before)
        if weights.bias is None:
            return name
        # NIR has no node that only adds a constant.
        node = self.nir.Affine(weight=np.eye(len(factor)), bias=weights.bias * factor)
        return self.add(f"{name}_bias", node, name)

    def columns(self, path: str, target: Any, matrix: np.ndarray, unit: float) -> tuple[np.ndarray, str]:
        """Return a matrix for the order in which the file gives the output of ``path``, and the node that gives it."""
        order = self.orders.get(path)
        if order is None or self.problems.found:
            return matrix, self.source(path, target, 1.0, unit)
        return matrix[:, order], self.scaled(self._names[path], self._size_of(path) / unit)

    def _given(self, path: str, factor: Any, unit: float) -> str:
        """Return ``factor`` times what the node of a module gives, in the order that the network has it in."""
        factor, order = factor * self._size_of(path) / unit, self.orders.get(path)
        if order is None:
            return self.scaled(self._names[path], factor)
        n = len(order)
        if n > MOST_REORDERED:
            why = (
                f"gives {n} numbers with the channels last, where the file has them first; without weights behind it "
                f"that takes a matrix of {n} x {n} (at most {MOST_REORDERED}). Put a synapse or a readout after it."
            )
            self.problems.add(path, type(self.wiring.calls[path].module).__name__, why)
            raise _RefusedError
        matrix = np.zeros((n, n))
        matrix[order, np.arange(n)] = np.broadcast_to(factor, (n,))[order]
        name = self._names[path]
        return self.add(f"{name}_order", self.nir.Linear(weight=matrix), name, path=path)

    def _size_of(self, path: str) -> float:
        """Return the size of the number 1 that a node of a module, or the input, gives: in mV, otherwise 1."""
        # A unit that is put on between two modules, as in `x * u.mV`, is that of the numbers of the network.
        return self._size_of_one(self.wiring.given.unit if path == INPUT else self.wiring.calls[path].gives)

    def _refuse_images(self, call: Call, size: tuple[int, ...]) -> None:
        why = (
            f"works on values of shape {size}, which NIR knows for neurons, convolution, pooling and Flatten only; put "
            "brainstate.nn.Flatten before it."
        )
        self.problems.add(call.path, type(call.module).__name__, why)

    def _matrix(self, call: Call, weights: Weights, factor: Any, unit: float, rows: slice | None) -> str:
        matrix = weights.matrix if rows is None else weights.matrix[rows]
        bias = weights.bias if rows is None or weights.bias is None else weights.bias[rows]
        factor = np.broadcast_to(np.asarray(factor) / unit, (len(matrix),))
        before = self._size_of_one(call.takes)
        matrix, source = self.columns(call.source, call.module, matrix, before)
        notes = {"path": call.path, "kind": type(call.module).__name__, **weights.notes}
        if weights.codes is not None and rows is None:
            self.wrote_codes = True
            order = self.orders.get(call.source)
            numbers = weights.codes.numbers if order is None else weights.codes.numbers[:, order]
            linear = self.add(call.path, self.nir.Linear(weight=numbers), source, **notes)
            scale = self.nir.Scale(scale=weights.codes.step * factor * before)
            return self.add(f"{call.path}_step", scale, linear, path=call.path)
        matrix = matrix * (factor * before)[:, None]
        node = self.nir.Linear(weight=matrix) if bias is None else self.nir.Affine(weight=matrix, bias=bias * factor)
        return self.add(call.path, node, source, **notes)

    def _picked(self, path: str, target: Any, factor: Any, unit: float, rows: slice) -> str:
        """Return some channels of the input of a layer that no matrix of its own feeds."""
        width = target.in_size[-1] if path == INPUT else self.wiring.calls[path].module.out_size[-1]
        # NIR has no node that selects channels, only matrices.
        chosen = np.eye(width)[rows]
        wide = self.source(path, target, chosen.T @ np.broadcast_to(factor, (len(chosen),)), unit)
        return self.add(f"{path}_pick{rows.start}", self.nir.Linear(weight=chosen), wide, path=path)

    def scaled(self, source: str, factor: Any) -> str:
        """Return the node that gives ``factor`` times the output of a node: a ``Scale``, or the node itself for 1."""
        # A factor that is one up to rounding is what an imported gain and its neuron make together.
        if np.all(np.abs(np.asarray(factor) - 1) <= np.finfo(brainstate.environ.dftype()).eps):
            return source
        shape = tuple(next(iter(self.nodes[source].output_type.values())))
        scale = np.broadcast_to(np.asarray(factor, float), shape).copy()
        return self.add(f"{source}_gain", self.nir.Scale(scale=scale), source)
