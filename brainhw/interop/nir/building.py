"""Builder of a NIR graph, and the interface of export rules. Each rule converts one class of modules to NIR nodes."""

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
from brainhw.interop.nir.node_kinds import metadata, notes_of, scale_times, unused_name
from brainhw.interop.nir.steps import Options
from brainhw.interop.nir.wiring import INPUT, Call, Wiring

__all__ = ["Codes", "Export", "GraphBuilder", "Linear", "Weights", "register_export"]

# Largest number of values that a permutation matrix may reorder. A larger matrix would take up most of the file.
MOST_REORDERED = 4096


class Codes(NamedTuple):
    """Quantised weights of a synapse: an integer array ``[out, in]``, and the quantisation step.

    The step is in the unit of the weights. The weights are the integers multiplied by the step.
    """

    numbers: np.ndarray
    step: float


@dataclass(frozen=True)
class Weights:
    """Weights of a synapse or another stateless module, as its export rule returns them.

    Parameters
    ----------
    matrix : numpy.ndarray
        Weights ``[out, in]``, or ``[out]`` for a one-to-one connection, in :attr:`Export.weight_unit`. The builder
        multiplies them by the factor that the next layer requires.
    bias : numpy.ndarray, optional
        Bias ``[out]`` in the unit of the output. Default: none.
    notes : dict, optional
        Metadata of the node. Default: none.
    codes : Codes, optional
        The same matrix as integers. The file then contains a ``Linear`` node with the integers, followed by a
        ``Scale``. Default: none.
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
    """A stateless linear operation that is not stored as a matrix ``[out, in]``.

    A rule may return it instead of ``Weights``.
    """

    @abc.abstractmethod
    def add(self, at: Export, factor: np.ndarray) -> str:
        """Add nodes that compute the output of the module times ``factor``, and return the name of the last node.

        ``factor`` is a scalar, or an array with the shape that the output has in the file.
        """


class _RefusedError(Exception):
    """Raised to stop the creation of nodes after a module of the network was rejected."""


class Export:
    """Export of one module. A rule uses it to read the options, and to add nodes or reject the module.

    Attributes
    ----------
    path : str
        Dotted path of the module.
    call : Call
        The call of the module in a time step. ``source`` is the path of the module that provides the input. ``takes``
        and ``gives`` are the units of the input and the output.
    target : brainstate.nn.Module or None
        A module that receives the output, or ``None`` if the output is the output of the network. A synapse is exported
        once for each target.
    options : Options
        The options of the export: ``dt``, ``seconds``, ``millivolts`` (the number of millivolts that 1 in the graph
        represents), ``how`` (``'exact'`` or ``'euler'``), ``reset`` (``'exact'`` or ``'continuous'``), ``gain``
        (``'weights'`` or ``'R'``), ``weights`` (``'float'`` or ``'codes'``), ``cuba_order``, ``if_input`` and
        ``if_seconds`` (the factor by which the importing library multiplies the input of an ``IF`` node in each step).
    nir : module
        The package ``nir``.
    seconds : float
        Time step of the network in seconds. A rule computes all time constants and delays from this time step. When all
        nodes exist, the builder multiplies ``tau``, ``tau_mem``, ``tau_syn`` and ``delay`` of each node by
        ``as_dt/dt``.
    refused : bool
        Whether :meth:`refuse` was called.
    channels_last : bool
        Whether images in the network have their channels on the last axis. In the file, channels are the first axis.
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
        """Unit of a weight: the unit of the output divided by the unit of the input. Voltages are in mV."""
        return self.call.gives / self.call.takes

    @property
    def source_module(self) -> Any:
        """Module that provides the input, or ``None`` for the input of the network."""
        call = self._builder.wiring.calls.get(self.call.source)
        return None if call is None else call.module

    @property
    def targets(self) -> list[Any]:
        """Modules that receive the output; ``None`` stands for the output of the network."""
        return self._builder.wiring.targets(self.path)

    def refuse(self, why: str) -> None:
        """Reject the module. One error reports all rejected modules.

        ``why`` completes a sentence that starts with the name of the module. It states the reason and ends with the
        fix.
        """
        self.refused = True
        self._builder.problems.add(self.path, type(self.call.module).__name__, why)

    def per_neuron(self, values: Any) -> np.ndarray:
        """Return one value per neuron of the module, in the axis order of the file: images have channels first.

        Parameters
        ----------
        values : float or numpy.ndarray
            Scalar, or an array that broadcasts to the ``out_size`` of the module.
        """
        size = self.call.module.out_size
        # Copied, because the broadcast view of a scalar is read-only.
        return to_file(np.broadcast_to(np.asarray(values, float), size), self.channels_last).copy()

    def check_clamp(self) -> None:
        """Request a check that clamping the membrane potential has no effect.

        The check runs the network on ``sample``.
        """
        self._builder.clamped[self.path] = self.call.module

    def gains(self, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the factor for the input weights of a neuron, and the parameter ``R`` of the node of the neuron.

        ``beta`` is the decay factor of the neuron per step.
        """
        # An importing library adds (1 - beta) R I in each step, but brainhw adds the input itself. To compensate for
        # this, one of the two returned values is 1/(1 - beta).
        factor = 1 / (1 - beta)
        return (np.ones_like(beta), factor) if self.options.gain == "R" else (factor, np.ones_like(beta))

    def source(self, factor: Any = 1.0, *, voltage: bool = False, rows: slice | None = None) -> str:
        """Return the name of a node whose output is ``factor`` times the input of the module.

        Parameters
        ----------
        factor : float or numpy.ndarray, optional
            Scalar, or one value per channel. Default 1.
        voltage : bool, optional
            Whether the input of the module is a voltage, or a charge that causes a voltage. ``factor`` then applies to
            voltages in units of ``options.millivolts`` mV. Default False: the input is a plain number.
        rows : slice, optional
            Channels of the input to use. Default: all.
        """
        unit = self.options.millivolts if voltage else 1.0
        return self._builder.source(self.call.source, self.call.module, factor, unit, rows)

    def columns(self, matrix: np.ndarray) -> tuple[np.ndarray, str]:
        """Reorder the columns of a matrix ``[out, in]`` to match the order of the input channels in the file.

        Return the reordered matrix, and the name of the node that provides the input.
        """
        return self._builder.columns(self.call.source, self.call.module, matrix, 1.0)

    def scaled(self, source: str, factor: Any) -> str:
        """Add a ``Scale`` node after the node ``source`` and return its name.

        If ``factor`` is 1, add no node and return ``source``.
        """
        return self._builder.scaled(source, factor)

    def reordered(self, order: np.ndarray) -> None:
        """Declare that entry ``i`` of the flattened output in the file is entry ``order[i]`` in the network."""
        self._builder.orders[self.path] = order

    def add(self, node: Any, source: str | None = None, *, suffix: str = "", **notes: Any) -> str:
        """Add a node, connect it to ``source`` and return its name.

        ``suffix`` is appended to the names of additional nodes of the same module. ``notes`` are written to the
        metadata of the node, except those that are ``None``.
        """
        kind = None if suffix else type(self.call.module).__name__
        notes = {"path": self.path, "kind": kind, **notes}
        return self._builder.add(f"{self.path}_{suffix}" if suffix else self.path, node, source, **notes)

    def connect(self, source: str, target: str) -> None:
        """Add an edge between two nodes."""
        self._builder.edges.append((source, target))

    def move_to_end(self, name: str) -> None:
        """Move a node to the end of the node list of the graph.

        Some libraries execute the nodes in the order of this list.
        """
        self._builder.nodes[name] = self._builder.nodes.pop(name)


@functools.singledispatch
def _export_rule(module: Any, at: Export) -> str | Weights | Linear | None:
    if "conv" in type(module).__name__.lower():
        at.refuse(
            "is a convolution whose class has no export rule; use Conv1d or Conv2d of brainstate.nn, or register a "
            "rule for the class with brainhw.interop.nir.register_export."
        )
        return None
    at.refuse(
        "has no export rule. Register a rule for the class with brainhw.interop.nir.register_export, or use the "
        "synapses, layers and readouts of brainhw that have one, or Linear, Conv1d, Conv2d, AvgPool2d and Flatten of "
        "brainstate.nn."
    )
    return None


Rule = Callable[[Any, Export], "str | Weights | Linear | None"]
# Rules that support modules whose input or output has several axes.
_IMAGE_RULES: set[Rule] = set()


def register_export(cls: type, *, images: bool = False) -> Callable[[Rule], Rule]:
    """Register the export rule for a class of modules; use it as a decorator.

    The rule is called as ``rule(module, at)``, where ``at`` is an :class:`Export`. For a synapse, the rule returns
    :class:`Weights`. For other modules, it returns the name of the node whose output is the output of the module. To
    reject a module, the rule calls ``at.refuse(why)`` and returns ``None``. The rule must call ``at.refuse`` before it
    calls ``at.source``, because ``at.source`` stops the rule if any module was rejected.

    Parameters
    ----------
    cls : type
        Subclass of ``brainstate.nn.Module``. The rule also applies to subclasses that do not override a member of
        ``cls``. Other subclasses are rejected until they are registered themselves. A second rule for a class replaces
        the first.
    images : bool, optional
        Whether the rule supports modules whose input or output has several axes, such as images. Such a rule gets its
        arrays from :meth:`Export.per_neuron`. Default False: such modules are rejected.

    Returns
    -------
    callable
        The decorator, which returns the rule unchanged.

    Raises
    ------
    TypeError
        If ``cls`` is not a subclass of ``brainstate.nn.Module``, or ``images`` is not a bool.

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
            _IMAGE_RULES.add(rule)
        return _export_rule.register(cls)(rule)

    return register


def _rule_of(module: Any) -> Rule | None:
    """Return the export rule for a module.

    Return ``None`` if the module overrides a member of the class for which the rule was registered.
    """
    own = type(module)
    # A method that was replaced on the instance, as in `layer.to_voltage = ...`, also counts as overridden.
    changed = {name for name, value in vars(module).items() if callable(value) and callable(getattr(own, name, None))}
    for kind in own.__mro__:
        # Subclasses inside brainhw may override members, because the tests cover them with the rule of their base
        # class.
        if kind in _export_rule.registry or kind.__module__.split(".")[0] == "brainhw":
            return None if any(hasattr(kind, name) for name in changed) else _export_rule.dispatch(kind)
        changed |= {name for name in vars(kind) if not name.startswith(("__", "_abc_"))}
    return None


class GraphBuilder:
    """Builds the nodes and edges of the NIR graph of one network.

    Each layer becomes a node. Each synapse becomes one node for each layer that it drives.
    """

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
        """Convert a shape in the network to the axis order of the file."""
        return np.array([size[-1], *size[:-1]] if self.channels_last else size)

    def apply_rules(self) -> None:
        """Export every module; record each rejected module as a problem."""
        # The modules are in execution order, so the synapses of a layer are known before the layer.
        for call in self.wiring.calls.values():
            rule = _rule_of(call.module)
            if rule is None:
                self.problems.add(
                    call.path,
                    type(call.module).__name__,
                    "overrides a member of the class that has an export rule, so the rule does not apply; use that "
                    "class itself, or register a rule for this class with brainhw.interop.nir.register_export.",
                )
                continue
            images = [size for size in (call.size_in, call.size_out) if len(size) > 1]
            if images and rule not in _IMAGE_RULES and rule is not _export_rule.registry[object]:
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
                        f"that it added; got {_arguments.describe(made)}. To reject a module, call at.refuse(why)."
                    )
                # A layer gets one node for all its targets. A synapse gets a node for each target, with the factors of
                # that target.
                self._names[call.path] = str(made)
                break

    def graph(self, chip: str | None) -> Any:
        """Return the NIR graph with all nodes and edges.

        Its metadata contains the options of the export. Other libraries do not need this metadata.
        """
        last = self.source(self.wiring.output, None, 1.0, self._unit_scale(self.wiring.returned.unit))
        if self.options.weights == "codes" and not self.wrote_codes:
            words = "has no synapse with quantised chip weights; pass weights='float'."
            self.problems.add("the network", "weights='codes'", words)
            self.problems.raise_any()
        self.nodes["output"] = self.nir.Output(output_type={"output": self._file_shape(self.wiring.size_out)})
        self.edges.append((last, "output"))
        orders = {str(notes_of(node)["order"]) for node in self.nodes.values() if "order" in notes_of(node)}
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
        nodes = {name: scale_times(node, factor) for name, node in self.nodes.items()}
        return self.nir.NIRGraph(nodes=nodes, edges=self.edges, metadata=notes)

    def _unit_scale(self, unit: u.Unit) -> float:
        """Return the number of millivolts that 1 in the graph represents for a voltage unit, and 1 for other units."""
        return self.options.millivolts if u.have_same_dim(unit, u.mV) else 1.0

    def add(self, named: str, node: Any, source: str | None, **notes: Any) -> str:
        """Add a node, connect it to ``source`` and return its name, which is based on ``named``."""
        # Importing libraries use names as attributes and paths, in which dots and slashes have a special meaning.
        base = re.sub(r"\W", "_", named) or "net"
        name = unused_name(f"{base}_layer" if base in (INPUT, "output") else base, self.nodes)
        node.metadata = metadata(**notes)
        self.nodes[name] = node
        if source is not None:
            self.edges.append((source, name))
        return name

    def source(self, path: str, target: Any, factor: Any, unit: float, rows: slice | None = None) -> str:
        """Return the name of a node whose output is ``factor`` times the output of the module at ``path``.

        1 in the graph represents ``unit`` mV.
        """
        if self.problems.found:  # no graph will be returned, and the input node may be missing
            raise _RefusedError
        weights = self._weights.get((path, id(target)))
        if isinstance(weights, Weights) and weights.matrix.ndim == 2:
            return self._matrix(self.wiring.calls[path], weights, factor, unit, rows)
        if rows is not None:
            return self._select_channels(path, target, factor, unit, rows)
        if isinstance(weights, Linear):
            return weights.add(Export(self, self.wiring.calls[path], target), np.asarray(factor) / unit)
        if weights is None:
            return self._scaled_output(path, factor, unit)
        # The factors of a gain are multiplied into the matrix before it, if there is one, so no separate node is
        # needed.
        call = self.wiring.calls[path]
        factor = np.broadcast_to(np.asarray(factor) / unit, weights.matrix.shape)
        before = self._unit_scale(call.takes)
        name = self.source(call.source, call.module, weights.matrix * factor * before, before)
        if weights.bias is None:
            return name
        # NIR has no node that only adds a constant.
        node = self.nir.Affine(weight=np.eye(len(factor)), bias=weights.bias * factor)
        return self.add(f"{name}_bias", node, name)

    def columns(self, path: str, target: Any, matrix: np.ndarray, unit: float) -> tuple[np.ndarray, str]:
        """Reorder the columns of a matrix to match the output node of ``path``. Return the matrix and the node name."""
        order = self.orders.get(path)
        if order is None or self.problems.found:
            return matrix, self.source(path, target, 1.0, unit)
        return matrix[:, order], self.scaled(self._names[path], self._output_scale(path) / unit)

    def _scaled_output(self, path: str, factor: Any, unit: float) -> str:
        """Return the name of a node whose output is ``factor`` times the output of a module.

        The axis order of the output is that of the network.
        """
        factor, order = factor * self._output_scale(path) / unit, self.orders.get(path)
        if order is None:
            return self.scaled(self._names[path], factor)
        n = len(order)
        if n > MOST_REORDERED:
            why = (
                f"returns {n} values with channels last, but the file requires channels first. Without weights after "
                f"it, reordering the values requires a permutation matrix {n} x {n}; the limit is {MOST_REORDERED} "
                "values. Add a synapse or a readout after it."
            )
            self.problems.add(path, type(self.wiring.calls[path].module).__name__, why)
            raise _RefusedError
        matrix = np.zeros((n, n))
        matrix[order, np.arange(n)] = np.broadcast_to(factor, (n,))[order]
        name = self._names[path]
        return self.add(f"{name}_order", self.nir.Linear(weight=matrix), name, path=path)

    def _output_scale(self, path: str) -> float:
        """Return the number of mV that 1 represents at the output of ``path``, or 1 if the output is not a voltage."""
        # The unit is that of the module output: a unit attached after it, as in `x * u.mV`, does not change the
        # values.
        return self._unit_scale(self.wiring.given.unit if path == INPUT else self.wiring.calls[path].gives)

    def _refuse_images(self, call: Call, size: tuple[int, ...]) -> None:
        why = (
            f"has an input or output of shape {size}, but NIR supports several axes only for neurons, convolution, "
            "pooling and Flatten; add brainstate.nn.Flatten before it."
        )
        self.problems.add(call.path, type(call.module).__name__, why)

    def _matrix(self, call: Call, weights: Weights, factor: Any, unit: float, rows: slice | None) -> str:
        matrix = weights.matrix if rows is None else weights.matrix[rows]
        bias = weights.bias if rows is None or weights.bias is None else weights.bias[rows]
        factor = np.broadcast_to(np.asarray(factor) / unit, (len(matrix),))
        before = self._unit_scale(call.takes)
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

    def _select_channels(self, path: str, target: Any, factor: Any, unit: float, rows: slice) -> str:
        """Add a matrix node that selects some input channels of a layer, and return its name.

        The node is needed if no weight matrix drives the layer.
        """
        width = target.in_size[-1] if path == INPUT else self.wiring.calls[path].module.out_size[-1]
        # NIR can select channels only with a matrix.
        chosen = np.eye(width)[rows]
        wide = self.source(path, target, chosen.T @ np.broadcast_to(factor, (len(chosen),)), unit)
        return self.add(f"{path}_pick{rows.start}", self.nir.Linear(weight=chosen), wide, path=path)

    def scaled(self, source: str, factor: Any) -> str:
        """Add a ``Scale`` node after the node ``source`` and return its name.

        If ``factor`` is 1, add no node and return ``source``.
        """
        # The tolerance is needed because an imported gain and the factor of its neuron multiply to 1 only up to
        # rounding.
        if np.all(np.abs(np.asarray(factor) - 1) <= np.finfo(brainstate.environ.dftype()).eps):
            return source
        shape = tuple(next(iter(self.nodes[source].output_type.values())))
        scale = np.broadcast_to(np.asarray(factor, float), shape).copy()
        return self.add(f"{source}_gain", self.nir.Scale(scale=scale), source)
