"""What a NIR node must be like to be run: known, finite, of one shape, with time constants that are times."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from brainhw.interop.nir.errors import Problems

__all__ = ["check_node", "shapes_of"]

Shape = tuple[int, ...] | None

# For every node that can be run: its arrays, the first of which tells its shape.
ARRAYS: dict[str, tuple[str, ...]] = {
    "Input": (),
    "Output": (),
    "Affine": ("weight", "bias"),
    "Linear": ("weight",),
    "Scale": ("scale",),
    "Flatten": (),
    "Delay": ("delay",),
    "Threshold": ("threshold",),
    "I": ("r",),
    "IF": ("r", "v_threshold", "v_reset"),
    "LI": ("tau", "r", "v_leak"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
}
TIMES = ("tau", "tau_mem", "tau_syn")
REFUSED = {
    **dict.fromkeys(("Conv1d", "Conv2d"), "brainhw has no convolution; unroll it into a Linear node."),
    **dict.fromkeys(("SumPool2d", "AvgPool2d"), "brainhw has no pooling; unroll it into a Linear node."),
}


def shapes_of(node: Any) -> tuple[Shape, Shape]:
    """Return the shapes of what goes into a node and comes out of it, by its arrays; ``None`` where they do not say."""
    kind = type(node).__name__
    if kind in ("Affine", "Linear") and np.ndim(node.weight) == 2:
        return (node.weight.shape[1],), (node.weight.shape[0],)
    if kind in ("Input", "Output", "Flatten"):
        return _declared(node.input_type), _declared(node.output_type)
    arrays = ARRAYS.get(kind, ())
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
    if kind not in ARRAYS:
        problems.add(name, kind, REFUSED.get(kind, "is no node that brainhw knows; replace it by nodes of NIR."))
        return
    found: dict[str, np.ndarray] = {}
    for field in ARRAYS[kind]:
        array = getattr(node, field, None)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            problems.add(name, kind, f"has {field} = {array!r}; it must be a NumPy array of numbers.")
            continue
        found[field] = array
        if (words := _words(field, array)) is not None:
            problems.add(name, kind, words)
    if len(found) < len(ARRAYS[kind]):
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
