"""Import rules of convolution, pooling and flatten nodes.

The kernel of a convolution is multiplied by the factors that the equation of the next neuron requires.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import brainstate
import brainunit as u
import numpy as np

from brainhw.interop.nir.image_parts import Convolution, Pooling
from brainhw.interop.nir.layouts import per_channel
from brainhw.interop.nir.node_kinds import kind_of, register_import
from brainhw.interop.nir.windows import conv_window, flatten_axes, pool_window

__all__ = ["fold_kernel", "is_kernel", "largest_output"]

KERNELS = ("Conv1d", "Conv2d")


class _Kernel(NamedTuple):
    """Parameters of a convolution: weights ``[out, in/groups, *kernel]``, and a bias ``[out]`` or None."""

    weight: np.ndarray
    bias: np.ndarray | None


def is_kernel(graph: Any, name: str, late: bool) -> bool:
    """Return whether a neuron's factors can be merged into a node. The node must be a convolution with one target."""
    return kind_of(graph.nodes[name]) in KERNELS and not late and graph.feeds_one(name)


def fold_kernel(builder: Any, name: str, gain: np.ndarray, constant: np.ndarray | None) -> bool:
    """Make a convolution that returns ``gain`` times the output of the node ``name`` plus ``constant``, as a voltage.

    ``gain`` and ``constant`` are in units of the graph. If one of them has different values within a channel, make no
    module and return False, because a kernel cannot represent these values.
    """
    channel_values = [None if values is None else per_channel(values, len(values)) for values in (gain, constant)]
    if channel_values[0] is None or (constant is not None and channel_values[1] is None):
        return False
    kernel, factor = _kernel_of(builder.graph.nodes[name]), channel_values[0]
    bias = None if kernel.bias is None else kernel.bias * factor
    if channel_values[1] is not None:
        bias = channel_values[1] if bias is None else bias + channel_values[1]
    weight = kernel.weight * factor.reshape(-1, *(1,) * (kernel.weight.ndim - 1))
    millivolts = builder.reading.millivolts
    _put_convolution(builder, name, _Kernel(weight * millivolts, None if bias is None else bias * millivolts), u.mV)
    return True


def largest_output(node: Any, axes: int) -> np.ndarray:
    """Return the largest possible output of each channel for inputs between 0 and 1.

    The result has ``axes`` axes, ``[channels, 1, ...]``.
    """
    weight = np.asarray(node.weight, float)
    largest = np.maximum(weight, 0).reshape(len(weight), -1).sum(1) + np.maximum(node.bias, 0)
    return largest.reshape(-1, *(1,) * (axes - 1))


def _kernel_of(node: Any) -> _Kernel:
    bias = np.asarray(node.bias, float)
    # A NIR convolution always has a bias array. If all its values are zero, the module gets no bias.
    return _Kernel(np.asarray(node.weight, float), bias if np.any(bias) else None)


def _put_convolution(builder: Any, name: str, kernel: _Kernel, unit: u.Unit) -> None:
    node, (before, _) = builder.graph.nodes[name], builder.graph.shapes[name]
    groups = int(np.ravel(node.groups)[0])
    builder.put(name, Convolution(kernel.weight, kernel.bias, before, conv_window(node), groups, unit))


@register_import("Conv1d")
@register_import("Conv2d")
def convolution(builder: Any, name: str, node: Any) -> None:
    """Make a dimensionless convolution, unless a neuron's rule makes it with the neuron's factors in the kernel."""
    if name not in builder.kernels:
        _put_convolution(builder, name, _kernel_of(node), u.UNITLESS)


@register_import("SumPool2d")
@register_import("AvgPool2d")
def pooling(builder: Any, name: str, node: Any) -> None:
    """Make a module that computes the sum or the mean over each window."""
    before, _ = builder.graph.shapes[name]
    builder.put(name, Pooling(before, pool_window(node), mean=kind_of(node) == "AvgPool2d"))


@register_import("Flatten")
def flatten(builder: Any, name: str, node: Any) -> None:
    """Make a module that joins axes, or no module if the shape would not change."""
    before, after = builder.graph.shapes[name]
    if before == after:
        builder.put(name, None)
        return
    first, last = flatten_axes(node, len(before))
    builder.put(name, brainstate.nn.Flatten(first, last, in_size=before))
