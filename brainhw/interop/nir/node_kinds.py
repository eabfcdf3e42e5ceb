"""The types of node that can be run, with their import rules, and the checks of their arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from brainhw.interop.nir.errors import Problems

__all__ = ["NODES", "NodeKind", "check_node", "kind_of", "register_import", "shapes_of"]

Shape = tuple[int, ...] | None


class NodeKind(NamedTuple):
    """A type of node that can be run: its arrays, the first of which gives its shape, and how it is made.

    ``fires`` is True for neurons whose spikes may close a cycle; ``folds`` where the matrices before the node go into
    the weights of the layer that it becomes.
    """

    rule: Callable[[Any, str, Any], None]
    arrays: tuple[str, ...]
    fires: bool
    folds: bool


NODES: dict[str, NodeKind] = {}


def register_import(
    kind: str, *, arrays: tuple[str, ...] = (), fires: bool = False, folds: bool = False
) -> Callable[[Any], Any]:
    """Register the rule by which nodes of a type are imported; use it as a decorator.

    The rule is called as ``rule(builder, name, node)``. It adds one module with ``builder.put(name, module)``, which
    gets the sum of what feeds the node and gives its output, or refuses with
    ``builder.problems.add(name, kind, why)``. ``builder.reading`` holds ``dt``, ``seconds`` (the same as a number),
    ``millivolts`` (what 1 in the graph stands for), ``how`` and ``reset``.

    Parameters
    ----------
    kind : str
        Name of the node's class. A second rule for a name replaces the first.
    arrays : tuple of str, optional
        Its arrays, which must be finite and of one shape ``[n]``. Default none.
    fires : bool, optional
        Whether it fires, so that it may close a cycle; its module must then hold its spikes in the state ``spk``.
        Default False.
    folds : bool, optional
        Whether matrices that feed it alone are made by ``builder.drives(name, feeds, gain, constant)``, in mV.
        Default False: they become modules of their own.

    Returns
    -------
    callable
        The decorator, which returns the rule unchanged.

    Raises
    ------
    TypeError
        If ``kind`` is not a string.

    Examples
    --------
    >>> from brainhw.interop.nir import register_import
    >>> @register_import("Ramp", arrays=("slope",))
    ... def ramp(builder, name, node):
    ...     builder.problems.add(name, "Ramp", "is not supported yet; remove it.")
    """
    if not isinstance(kind, str):
        raise TypeError(f"register_import: kind must be the name of a node's class; got {kind!r}. Pass cls.__name__.")

    def register(rule: Callable[[Any, str, Any], None]) -> Callable[[Any, str, Any], None]:
        NODES[kind] = NodeKind(rule, tuple(arrays), fires, folds)
        return rule

    return register


TIMES = ("tau", "tau_mem", "tau_syn")
REFUSED = {
    **dict.fromkeys(("Conv1d", "Conv2d"), "brainhw has no convolution; unroll it into a Linear node."),
    **dict.fromkeys(("SumPool2d", "AvgPool2d"), "brainhw has no pooling; unroll it into a Linear node."),
}


def kind_of(node: Any) -> str:
    """Return the name of the node's class in NIR."""
    return type(node).__name__


def shapes_of(node: Any) -> tuple[Shape, Shape]:
    """Return the shapes of what goes into a node and comes out of it, by its arrays; ``None`` where they do not say."""
    kind = type(node).__name__
    if kind in ("Affine", "Linear") and np.ndim(node.weight) == 2:
        return (node.weight.shape[1],), (node.weight.shape[0],)
    if kind in ("Input", "Output", "Flatten"):
        return _declared(node.input_type), _declared(node.output_type)
    arrays = NODES[kind].arrays if kind in NODES else ()
    shape = np.shape(getattr(node, arrays[0])) if arrays else None
    return shape, shape


def _declared(types: Any) -> Shape:
    values = list(types.values()) if isinstance(types, dict) else []
    return None if len(values) != 1 or values[0] is None else tuple(int(n) for n in np.ravel(values[0]))


def _words(field: str, array: np.ndarray) -> str | None:
    """Return what is wrong with the numbers of a field, ``None`` if nothing is."""
    if not np.all(np.isfinite(array)):
        return f"has {field} with NaN or infinite values; mend the file."
    least = float(np.min(array)) if array.size else 1.0
    short = f"has {field} down to {least:g} s; a time constant must be above zero."
    wrong = {
        "v_threshold": (least <= 0, f"has v_threshold down to {least:g}; brainhw takes thresholds above zero."),
        "v_reset": (np.any(array), "has a v_reset other than 0, where brainhw resets to; shift all voltages by it."),
        "delay": (least < 0, f"has a delay of {least:g} s; nothing arrives before it was sent."),
        **dict.fromkeys(TIMES, (least <= 0, short)),
    }
    holds, words = wrong.get(field, (False, ""))
    return words if holds else None


def check_node(name: str, node: Any, problems: Problems) -> None:
    """Note whatever keeps a node from being run."""
    kind = type(node).__name__
    if kind not in NODES:
        problems.add(name, kind, REFUSED.get(kind, "is no node that brainhw knows; replace it by nodes of NIR."))
        return
    found: dict[str, np.ndarray] = {}
    for field in NODES[kind].arrays:
        array = getattr(node, field, None)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            problems.add(name, kind, f"has {field} = {array!r}; it must be a NumPy array of numbers.")
            continue
        found[field] = array
        if (words := _words(field, array)) is not None:
            problems.add(name, kind, words)
    if len(found) < len(NODES[kind].arrays):
        return
    if kind in ("Affine", "Linear"):
        _check_matrix(name, kind, found, problems)
    elif found:
        shapes = {field: array.shape for field, array in found.items()}
        if len(set(shapes.values())) > 1:
            listed = ", ".join(f"{field} {shape}" for field, shape in shapes.items())
            problems.add(name, kind, f"has arrays of different shapes ({listed}); all must have one value a neuron.")
        elif () in shapes.values() or 0 in next(iter(shapes.values())):
            problems.add(name, kind, "holds no array with an axis of neurons; give every array the shape [n].")
    elif None in shapes_of(node):
        problems.add(name, kind, "does not say its shape; give it one.")
    elif kind == "Flatten" and math.prod(shapes_of(node)[0] or ()) != math.prod(shapes_of(node)[1] or ()):
        before, after = shapes_of(node)
        problems.add(name, kind, f"makes shape {after} of shape {before}; both must hold as many numbers.")


def _check_matrix(name: str, kind: str, found: dict[str, np.ndarray], problems: Problems) -> None:
    weight = found["weight"]
    if weight.ndim != 2 or 0 in weight.shape:
        problems.add(name, kind, f"has a weight of shape {weight.shape}; brainhw takes [out, in].")
    elif "bias" in found and found["bias"].shape != weight.shape[:1]:
        shapes = f"weight {weight.shape} and bias {found['bias'].shape}"
        problems.add(name, kind, f"has {shapes}; the bias must have one value for each row of the weight.")
