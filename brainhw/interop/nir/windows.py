"""Sliding windows and shapes of convolution, pooling and flatten nodes."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "Shape",
    "Window",
    "conv_shapes",
    "conv_window",
    "flatten_axes",
    "flatten_shapes",
    "pool_shapes",
    "pool_window",
]

Shape = tuple[int, ...]

# Largest number of elements of an image. A file of a few bytes may declare any shape, and a step with more elements
# cannot run.
MOST_NUMBERS = 2**31 - 1


class Window(NamedTuple):
    """A window that slides over the last axes of an image.

    Each field has one entry per axis. An entry of ``pads`` contains the numbers of zeros before and after the axis.
    """

    kernel: Shape
    stride: Shape
    pads: tuple[tuple[int, int], ...]
    dilation: Shape

    def places(self, space: Shape) -> Shape:
        """Return the number of window positions along each axis. It is 0 or negative if the window does not fit."""
        return tuple(
            (n + sum(pad) - d * (k - 1) - 1) // s + 1
            for n, k, s, pad, d in zip(space, self.kernel, self.stride, self.pads, self.dilation, strict=True)
        )


def conv_window(node: Any) -> Window:
    """Return the window of a ``Conv1d`` or ``Conv2d`` node. Raise a ValueError if the node is invalid."""
    weight = _numbers(node, "weight")
    axes = 1 if type(node).__name__ == "Conv1d" else 2
    if weight.ndim != axes + 2 or 0 in weight.shape:
        space = "length" if axes == 1 else "height, width"
        raise ValueError(f"has a weight of shape {weight.shape}; expected [out, in, {space}].")
    kernel = weight.shape[2:]
    stride = _each(node, "stride", axes, least=1)
    dilation = _each(node, "dilation", axes, least=1)
    groups = _each(node, "groups", 1, least=1)[0]
    if weight.shape[0] % groups:
        raise ValueError(f"has {groups} groups for {weight.shape[0]} output channels; groups must divide the channels.")
    bias = _numbers(node, "bias")
    if bias.shape != weight.shape[:1]:
        raise ValueError(
            f"has a bias of shape {bias.shape} for {weight.shape[0]} output channels; expected one value per channel."
        )
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if not isinstance(padding, str):
        pads = tuple((p, p) for p in _each(node, "padding", axes, least=0))
    elif padding == "valid":
        pads = ((0, 0),) * axes
    elif padding == "same":
        if any(s > 1 for s in stride):
            raise ValueError(
                f"has padding 'same' with stride {_shown(stride)}, which libraries "
                "implement differently; specify the padding as integers."
            )
        # If the total padding is odd, the additional zero is at the end, as in PyTorch and JAX.
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        pads = tuple((n // 2, n - n // 2) for n in total)
    else:
        raise ValueError(f"has padding {padding!r}; expected 'same', 'valid' or integers.")
    return Window(kernel, stride, pads, dilation)


def conv_shapes(node: Any, before: Shape | None) -> tuple[Shape | None, Shape | None]:
    """Return the input and output shapes of a ``Conv1d`` or ``Conv2d`` node, or ``None`` for unknown shapes."""
    window, groups = conv_window(node), int(np.ravel(node.groups)[0])
    channels = node.weight.shape[1] * groups
    if node.input_shape is not None:
        declared = (channels, *_whole(np.ravel(node.input_shape), "input_shape", least=1))
        if len(declared) != len(window.kernel) + 1:
            raise ValueError(
                f"has input_shape {_shown(declared[1:])} for a kernel of shape {_shown(window.kernel)}; "
                "expected one length per axis of the kernel."
            )
        before = declared
    elif before is not None and (len(before) != len(window.kernel) + 1 or before[0] != channels):
        axes = "length" if len(window.kernel) == 1 else "height, width"
        raise ValueError(f"has an input of shape {before}, expected [{channels}, {axes}] (channels first).")
    if before is None:
        return None, None
    return before, _fitted(window, before, node.weight.shape[0])


def pool_window(node: Any) -> Window:
    """Return the window of a pooling node. Raise a ValueError if the node is invalid."""
    kernel = _each(node, "kernel_size", 2, least=1)
    pads = tuple((p, p) for p in _each(node, "padding", 2, least=0))
    return Window(kernel, _each(node, "stride", 2, least=1), pads, (1, 1))


def pool_shapes(node: Any, before: Shape | None) -> tuple[Shape | None, Shape | None]:
    """Return the input and output shapes of a pooling node, or ``None`` for unknown shapes."""
    window = pool_window(node)
    if before is None:
        return None, None
    if len(before) != 3:
        raise ValueError(f"has an input of shape {before}, expected [channels, height, width].")
    return before, _fitted(window, before, before[0])


def flatten_axes(node: Any, rank: int) -> tuple[int, int]:
    """Return the first and the last axis that a ``Flatten`` node joins. NIR does not count the batch axis."""
    start, end = (_whole(np.ravel(getattr(node, name)), name)[0] for name in ("start_dim", "end_dim"))
    first, last = (axis + rank if axis < 0 else axis for axis in (start, end))
    if not 0 <= first <= last < rank:
        raise ValueError(
            f"has start_dim = {start} and end_dim = {end} for an input with {rank} axes; expected axes of "
            "the input, with start_dim at or before end_dim. NIR does not count the batch axis."
        )
    return first, last


def flatten_shapes(node: Any, before: Shape | None) -> tuple[Shape | None, Shape | None]:
    """Return the input and output shapes of a ``Flatten`` node, or ``None`` for unknown shapes."""
    declared = _declared(node.input_type)
    before = before if declared is None else declared
    if before is None:
        return None, None
    first, last = flatten_axes(node, len(before))
    after = (*before[:first], math.prod(before[first : last + 1]), *before[last + 1 :])
    gives = _declared(node.output_type)
    if gives is not None and gives != after:
        raise ValueError(
            f"has output shape {gives} for input shape {before}, but start_dim and end_dim imply {after}; repair the "
            "file."
        )
    return before, after


def _fitted(window: Window, before: Shape, channels: int) -> Shape:
    after = (channels, *window.places(before[1:]))
    if min(after) < 1:
        raise ValueError(
            f"has a kernel of shape {_shown(window.kernel)} that does not fit into its input of shape {before}; use "
            "a smaller kernel or more padding."
        )
    padded = (before[0], *(n + sum(pad) for n, pad in zip(before[1:], window.pads, strict=True)))
    if max(math.prod(padded), math.prod(after)) > MOST_NUMBERS:
        raise ValueError(
            f"has output shape {after} for input shape {before}, padded to {padded}, but the limit is "
            f"{MOST_NUMBERS} elements per step."
        )
    return after


def _declared(types: Any) -> Shape | None:
    values = list(types.values()) if isinstance(types, dict) else []
    return None if len(values) != 1 or values[0] is None else _whole(np.ravel(values[0]), "shape", least=1)


def _numbers(node: Any, field: str) -> np.ndarray:
    array = getattr(node, field, None)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ValueError(f"has {field} = {array!r}; it must be a numeric NumPy array.")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"has NaN or infinite values in {field}; repair the file.")
    return array


def _each(node: Any, field: str, axes: int, *, least: int) -> Shape:
    """Return the value of a field as one integer per axis. The field may contain a single integer for all axes."""
    held: Any = getattr(node, field, None)
    try:
        given = np.ravel(held)
        found = _whole(given, field, least=least)
    except (TypeError, ValueError):
        found = ()
    if len(found) not in (1, axes):
        numbers = "an integer" if axes == 1 else f"one integer or {axes} integers"
        raise ValueError(f"has {field} = {held!r}; expected {numbers} of at least {least}.")
    return found * axes if len(found) == 1 else found


def _whole(values: Iterable[Any], field: str, least: int | None = None) -> Shape:
    numbers = []
    for value in values:
        # A file written by hand may contain 2.0 instead of 2.
        number = (
            operator.index(int(value)) if isinstance(value, (float, np.floating)) and value == int(value) else value
        )
        number = operator.index(number)
        if least is not None and not least <= number <= MOST_NUMBERS:
            raise ValueError(f"has {number} in {field}; expected integers from {least} to {MOST_NUMBERS}.")
        numbers.append(number)
    return tuple(numbers)


def _shown(numbers: Shape) -> str:
    return ", ".join(map(str, numbers)) if len(numbers) == 1 else str(tuple(numbers))
