"""Supported NIR nodes: their import rules, checks of their arrays, and the metadata that brainhw adds to nodes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container
from typing import Any, NamedTuple

import numpy as np

from brainhw import _arguments
from brainhw.interop.nir.errors import Problems
from brainhw.interop.nir.windows import conv_shapes, flatten_shapes, pool_shapes

__all__ = [
    "MATRICES",
    "NODES",
    "SHAPED_BY_INPUT",
    "Shape",
    "check_node",
    "kind_of",
    "metadata",
    "notes_of",
    "register_import",
    "scale_times",
    "shapes_of",
    "unused_name",
]

Shape = tuple[int, ...] | None
ImportRule = Callable[[Any, str, Any], None]
ShapeRule = Callable[[Any, Shape], tuple[Shape, Shape]]


class NodeKind(NamedTuple):
    """Import rule and properties of a supported class of NIR nodes; see :func:`register_import`.

    The first array in ``arrays`` determines the shape of a node.
    """

    rule: ImportRule
    arrays: tuple[str, ...]
    fires: bool
    folds: bool


NODES: dict[str, NodeKind] = {}
MATRICES = ("Linear", "Affine")
# Functions that compute the shapes of a node from its input shape, for classes whose arrays do not determine them. A
# function raises a ValueError for an invalid node.
SHAPED_BY_INPUT: dict[str, ShapeRule] = {
    **dict.fromkeys(("Conv1d", "Conv2d"), conv_shapes),
    **dict.fromkeys(("SumPool2d", "AvgPool2d"), pool_shapes),
    "Flatten": flatten_shapes,
}
_SECTION = "brainhw"
_TIME_FIELDS = ("tau", "tau_mem", "tau_syn", "delay")


def register_import(
    kind: str, *, arrays: tuple[str, ...] = (), fires: bool = False, folds: bool = False
) -> Callable[[ImportRule], ImportRule]:
    """Register the import rule for a class of NIR nodes; use it as a decorator.

    The rule is called as ``rule(builder, name, node)``. The rule either adds one module with ``builder.put(name,
    module)`` or rejects the node with ``builder.problems.add(name, kind, why)``. The module receives the sum of all
    inputs of the node and returns the output of the node. ``builder.reading`` contains the options of the import:
    ``dt``, ``seconds`` (``dt`` in seconds as a number), ``millivolts`` (the number of millivolts that 1 in the graph
    represents), ``how`` and ``reset``.

    Parameters
    ----------
    kind : str
        Name of the class of nodes. A second rule for a name replaces the first.
    arrays : tuple of str, optional
        Names of the arrays of the node. The arrays must be finite and have the same shape: ``[n]``, or the shape of an
        image. Default: none.
    fires : bool, optional
        Whether the node fires. Each cycle of a graph must contain such a node. The module of the node must store the
        spikes in the state ``spk``. Default False.
    folds : bool, optional
        Whether the rule converts matrices that feed only this node to synapses in mV, with ``builder.drives(name,
        feeds, gain, constant)``. Default False: these matrices become separate dimensionless modules.

    Returns
    -------
    callable
        The decorator, which returns the rule unchanged.

    Raises
    ------
    TypeError
        If ``kind`` is not a string, ``arrays`` is not a sequence of nonempty strings, or ``fires`` or ``folds`` is not
        a bool.
    ValueError
        If ``kind`` is not a valid Python identifier.

    Examples
    --------
    >>> from brainhw.interop.nir import register_import
    >>> @register_import("Ramp", arrays=("slope",))
    ... def ramp(builder, name, node):
    ...     builder.problems.add(name, "Ramp", "is not supported yet; remove it.")
    """
    if not isinstance(kind, str):
        raise TypeError(f"register_import: kind must be the name of a node class; got {kind!r}. Pass cls.__name__.")
    if not kind.isidentifier():
        raise ValueError(f"register_import: kind must be the name of a node class; got {kind!r}. Pass cls.__name__.")
    names = _arguments.several(arrays, call="register_import", name="arrays", of="names")
    arrays = tuple(_arguments.text(one, call="register_import", name="arrays", some=True) for one in names)
    _arguments.flag(fires, call="register_import", name="fires")
    _arguments.flag(folds, call="register_import", name="folds")

    def register(rule: ImportRule) -> ImportRule:
        NODES[kind] = NodeKind(rule, tuple(arrays), fires, folds)
        return rule

    return register


def kind_of(node: Any) -> str:
    """Return the name of the node's class in NIR."""
    return type(node).__name__


def metadata(**notes: Any) -> dict[str, Any]:
    """Return the metadata of a node or graph: a dict with brainhw's section, which contains the ``notes``.

    Notes with the value ``None`` are omitted.
    """
    # A file cannot store None: nir.write raises a TypeError.
    return {_SECTION: {key: value for key, value in notes.items() if value is not None}}


def notes_of(node: Any) -> dict[str, Any]:
    """Return the notes that brainhw stored in the metadata of a node or graph, or an empty dict."""
    held = getattr(node, "metadata", None)
    found = held.get(_SECTION) if isinstance(held, dict) else None
    return found if isinstance(found, dict) else {}


def unused_name(base: str, taken: Container[str]) -> str:
    """Return a name that is not in ``taken``: the first of ``base``, ``base_2``, ``base_3`` and so on."""
    name, count = base, 2
    while name in taken:
        name, count = f"{base}_{count}", count + 1
    return name


def scale_times(node: Any, factor: float) -> Any:
    """Return a copy of a node or graph in which all time constants and delays are multiplied by ``factor``."""
    if factor == 1.0:
        return node
    changed = copy.copy(node)  # do not change the graph of the caller
    if kind_of(node) == "NIRGraph":
        changed.nodes = {name: scale_times(inner, factor) for name, inner in node.nodes.items()}
    for field in _TIME_FIELDS:
        if isinstance(getattr(node, field, None), np.ndarray):
            setattr(changed, field, np.asarray(getattr(node, field), float) * factor)
    return changed


def shapes_of(node: Any) -> tuple[Shape, Shape]:
    """Return the input and output shapes that follow from the arrays of a node, or ``None`` for unknown shapes."""
    kind = kind_of(node)
    if kind in MATRICES and np.ndim(node.weight) == 2:
        return (node.weight.shape[1],), (node.weight.shape[0],)
    if kind in ("Input", "Output"):
        return _declared(node.input_type), _declared(node.output_type)
    arrays = NODES[kind].arrays if kind in NODES else ()
    shape = np.shape(getattr(node, arrays[0])) if arrays else None
    return shape, shape


def _declared(types: Any) -> Shape:
    values = list(types.values()) if isinstance(types, dict) else []
    return None if len(values) != 1 or values[0] is None else tuple(int(n) for n in np.ravel(values[0]))


def check_node(name: str, node: Any, problems: Problems) -> None:
    """Add a problem for each reason why a node cannot run."""
    # This check is needed because the classes of nir 1.0.8 accept any values, such as a negative or NaN time constant.
    kind = kind_of(node)
    if kind not in NODES:
        problems.add(name, kind, "is of an unknown node class; replace it by supported NIR nodes.")
        return
    if kind in SHAPED_BY_INPUT:  # infer_shapes checks these nodes
        return
    found: dict[str, np.ndarray] = {}
    fields = [field for field in NODES[kind].arrays if not _is_missing_reset(node, field)]
    for field in fields:
        array = getattr(node, field, None)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            problems.add(name, kind, f"has {field} = {array!r}; it must be a numeric NumPy array.")
            continue
        found[field] = array
        fault = _fault(field, array)
        if fault is not None:
            problems.add(name, kind, fault)
    if len(found) < len(fields):
        return
    shapes = {field: array.shape for field, array in found.items()}
    listed = ", ".join(f"{field} {shape}" for field, shape in shapes.items())
    before, after = shapes_of(node)
    if kind in MATRICES:
        n_out = shapes["weight"][:1]
        if len(shapes["weight"]) != 2 or 0 in shapes["weight"]:
            problems.add(name, kind, f"has a weight of shape {shapes['weight']}; expected [out, in].")
        elif shapes.get("bias", n_out) != n_out:
            problems.add(name, kind, f"has {listed}; the bias must have one value per row of the weight.")
    elif len(set(shapes.values())) > 1:
        problems.add(name, kind, f"has arrays of different shapes ({listed}); all must have one value per neuron.")
    elif found and (not before or 0 in before):
        problems.add(name, kind, "contains no array with a neuron axis; every array must have the shape [n].")
    else:
        _check_shapes(name, kind, before, after, problems)


def _check_shapes(name: str, kind: str, before: Shape, after: Shape, problems: Problems) -> None:
    if before is None or after is None:
        problems.add(name, kind, "has an unknown shape; specify it.")
    elif min((*before, *after), default=1) < 1:
        problems.add(
            name, kind, f"has input shape {before} and output shape {after}; every axis must have length 1 or more."
        )


def _is_missing_reset(node: Any, field: str) -> bool:
    """Return whether the field is ``v_reset`` and the node has no value for it, as in nir 1.0.4 and earlier."""
    return field == "v_reset" and getattr(node, field, None) is None


def _fault(field: str, array: np.ndarray) -> str | None:
    """Return the reason why the values of a field are invalid, or ``None`` if they are valid."""
    if not np.all(np.isfinite(array)):
        return f"has NaN or infinite values in {field}; repair the file."
    least = float(np.min(array)) if array.size else 1.0
    if field in ("tau", "tau_mem", "tau_syn") and least <= 0:
        return f"has a minimum {field} of {least:g} s; time constants must be positive."
    if field == "v_threshold" and least <= 0:
        return f"has a minimum v_threshold of {least:g}; brainhw requires positive thresholds."
    if field == "v_reset" and np.any(array):
        return "has a nonzero v_reset, but brainhw resets to 0; subtract v_reset from all voltages."
    if field == "delay" and least < 0:
        return f"has a minimum delay of {least:g} s; delays must not be negative."
    return None
