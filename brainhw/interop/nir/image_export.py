"""Export rules of convolution, pooling and flatten modules. In NIR, images have channels first."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import numpy as np

from brainhw.interop.nir.building import Export, Linear, register_export
from brainhw.interop.nir.image_parts import Convolution, Pooling
from brainhw.interop.nir.layouts import counted_from_end, flat_order, per_channel
from brainhw.interop.nir.steps import numbers_in
from brainhw.interop.nir.windows import Window

__all__ = ["ImageGain", "image_gain"]


class _Kernel(NamedTuple):
    """The parameters of a convolution node in NIR.

    ``weight`` has the shape ``[out, in/groups, *kernel]``, and ``bias`` has the shape ``[out]``.
    """

    weight: np.ndarray
    bias: np.ndarray
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int


class _Conv(Linear):
    """A convolution whose kernel is multiplied by the factors that the next neurons require."""

    def __init__(self, kernel: _Kernel) -> None:
        self.kernel = kernel

    def add(self, at: Export, factor: np.ndarray) -> str:
        """Add a convolution node, followed by a ``Scale`` node if ``factor`` is not the same for a whole channel."""
        kernel = self.kernel
        channel_factor = per_channel(factor, len(kernel.weight))
        inner = np.ones(len(kernel.weight)) if channel_factor is None else channel_factor
        before = _input_scale(at)
        weight = kernel.weight * (inner * before).reshape(-1, *(1,) * (kernel.weight.ndim - 1))
        one = kernel.weight.ndim == 3
        make = at.nir.Conv1d if one else at.nir.Conv2d
        shape_in, shape_out = _file_size(at, at.call.size_in), _file_size(at, at.call.size_out)

        def field(value: Any) -> Any:
            return value[0] if one and not isinstance(value, str) else value

        node = make(
            input_shape=field(shape_in[1:]),
            weight=weight,
            stride=field(kernel.stride),
            padding=field(kernel.padding),
            dilation=field(kernel.dilation),
            groups=kernel.groups,
            bias=kernel.bias * inner,
        )
        name = at.add(_with_shapes(node, shape_in, shape_out), at.source(voltage=_takes_voltage(at)))
        return name if channel_factor is not None else at.scaled(name, factor)


class ImageGain(Linear):
    """Multiplies an image by one factor per channel and pixel."""

    def __init__(self, factor: np.ndarray) -> None:
        self.factor = factor

    def add(self, at: Export, factor: np.ndarray) -> str:
        """Add a ``Scale`` node, unless it would multiply every value by 1."""
        return at.scaled(at.source(voltage=_takes_voltage(at)), self.factor * _input_scale(at) * factor)


def image_gain(factor: Any, bias: Any, at: Export) -> ImageGain | None:
    """Return an image gain. Reject a bias, because NIR cannot add a constant to an image."""
    if bias is not None:
        at.refuse("adds a constant to an image, for which NIR has no node; use the bias of a convolution.")
        return None
    return ImageGain(at.per_neuron(numbers_in(factor, at.weight_unit)))


@register_export(brainstate.nn.Conv1d, images=True)
@register_export(brainstate.nn.Conv2d, images=True)
def convolution(module: Any, at: Export) -> _Conv | None:
    """Convert a convolution of brainstate, with channels last or first, to a convolution of NIR."""
    if any(n != 1 for n in module.lhs_dilation):
        at.refuse("has an lhs_dilation (transposed convolution), for which NIR has no node; use a plain convolution.")
        return None
    held = module.weight.value
    weight = numbers_in(held["weight"], at.weight_unit)
    if module.w_mask is not None:
        weight = weight * np.asarray(u.get_mantissa(module.w_mask), float)
    kernel = np.moveaxis(weight, (-1, -2), (0, 1))
    bias = np.ravel(numbers_in(held["bias"], at.call.gives)) if "bias" in held else None
    space = _file_size(at, at.call.size_in)[1:]
    pads = _pads(module.padding, space, kernel.shape[2:], tuple(module.stride), tuple(module.rhs_dilation))
    window = Window(kernel.shape[2:], tuple(module.stride), pads, tuple(module.rhs_dilation))
    return _with_nir_padding(kernel, bias, window, module.groups, at)


@register_export(Convolution, images=True)
def imported_convolution(module: Convolution, at: Export) -> _Conv | None:
    """Convert a convolution that ``from_nir`` created to a convolution of NIR."""
    bias = None if module.bias is None else numbers_in(module.bias.value, at.call.gives)
    return _with_nir_padding(numbers_in(module.weight.value, at.weight_unit), bias, module.window, module.groups, at)


@register_export(brainstate.nn.AvgPool2d, images=True)
def mean(module: Any, at: Export) -> str | None:
    """Add an ``AvgPool2d`` node. Reject modules with padding, because brainstate excludes the padding from the mean."""
    size, axis = at.call.size_in, module.channel_axis
    if len(size) != 3 or axis is None or counted_from_end(axis, at.call) not in (-1, -3):
        at.refuse(
            f"has an input of shape {size} with channel_axis={module.channel_axis}, but NIR pools images [channels, "
            "height, width]; pass channel_axis=-1 or -3 and images with three axes."
        )
        return None
    kernel, stride = tuple(module.kernel_size), tuple(module.stride)
    pads = _pads(module.padding, _file_size(at, size)[1:], kernel, stride, (1, 1))
    if any(n for pad in pads for n in pad):
        at.refuse(
            f"excludes its padding {pads} from the mean, but NIR's AvgPool2d includes the zeros; use padding='VALID'."
        )
        return None
    return _pool(at.nir.AvgPool2d, Window(kernel, stride, pads, (1, 1)), at)


@register_export(Pooling, images=True)
def imported_pooling(module: Pooling, at: Export) -> str:
    """Add the node for a pooling module that ``from_nir`` created."""
    return _pool(at.nir.AvgPool2d if module.mean else at.nir.SumPool2d, module.window, at)


@register_export(brainstate.nn.Flatten, images=True)
def flatten(module: Any, at: Export) -> str | None:
    """Add a ``Flatten`` node.

    If the file orders the flattened values differently from the network, declare this order. The builder then reorders
    the weights of the next module.
    """
    before, after = at.call.size_in, at.call.size_out
    if before == after:
        return at.source(voltage=_takes_voltage(at))
    axes = _flattened_axes(module, at)
    if axes is None:
        return None
    first, last = axes
    if at.channels_last and first > 0 and last == len(before) - 1:
        at.refuse(
            f"flattens the axes {first} to {last} of shape {before}, which are not adjacent in a file with "
            "channels first; flatten all axes, or only the spatial axes."
        )
        return None
    # With channels first, as in the file, the index of each spatial axis is higher by one.
    shift = int(at.channels_last and last < len(before) - 1)
    shape_in = _file_size(at, before)
    node = at.nir.Flatten(input_type={"input": np.array(shape_in)}, start_dim=first + shift, end_dim=last + shift)
    if len(after) == 1:
        order = flat_order(before, at.channels_last)
        if order is not None:
            at.reordered(order)
    return at.add(_with_shapes(node, shape_in, _file_size(at, after)), at.source(voltage=_takes_voltage(at)))


@register_export(brainstate.nn.MaxPool1d, images=True)
@register_export(brainstate.nn.MaxPool2d, images=True)
@register_export(brainstate.nn.MaxPool3d, images=True)
def maximum(module: Any, at: Export) -> None:
    """Reject max pooling: NIR has no node for it."""
    at.refuse("is a max pooling, for which NIR has no node; use AvgPool2d, or a convolution with a stride.")


@register_export(brainstate.nn.AvgPool1d, images=True)
@register_export(brainstate.nn.AvgPool3d, images=True)
@register_export(brainstate.nn.Conv3d, images=True)
def unsupported_dimensions(module: Any, at: Export) -> None:
    """Reject the module: NIR supports only 1-D and 2-D convolutions and 2-D pooling."""
    at.refuse("has no NIR node: NIR supports 1-D and 2-D convolutions and 2-D pooling; use Conv2d or AvgPool2d.")


def _flattened_axes(module: Any, at: Export) -> tuple[int, int] | None:
    """Return the first and the last axis that a Flatten joins, counted without the batch axis.

    Reject the module if it joins the batch axis.
    """
    rank = len(at.call.size_in)
    # If the module has no in_size, it counts its axes with the batch axis.
    batch = at.call.batched if getattr(module, "_in_size", None) is None else 0
    first, last = (axis - batch if axis >= 0 else axis + rank for axis in (module.start_axis, module.end_axis))
    if not 0 <= first <= last < rank:
        at.refuse(
            f"flattens axes {module.start_axis} to {module.end_axis}, and thus the batch axis of an input with samples "
            f"of shape {at.call.size_in}; pass in_size=."
        )
        return None
    return first, last


def _pool(make: Any, window: Window, at: Export) -> str:
    padding = np.array([low for low, _ in window.pads])
    node = make(kernel_size=np.array(window.kernel), stride=np.array(window.stride), padding=padding)
    typed = _with_shapes(node, _file_size(at, at.call.size_in), _file_size(at, at.call.size_out))
    return at.add(typed, at.source(voltage=_takes_voltage(at)))


def _with_nir_padding(
    kernel: np.ndarray, bias: np.ndarray | None, window: Window, groups: int, at: Export
) -> _Conv | None:
    """Return a convolution with a padding that NIR supports: equal at both ends of each axis, or ``'same'``.

    For a different padding, add zeros to the kernel. Reject the module if this is impossible.
    """
    stride, dilation = window.stride, window.dilation
    bias = np.zeros(len(kernel)) if bias is None else bias
    total = [d * (k - 1) for k, d in zip(window.kernel, dilation, strict=True)]
    if all(s == 1 for s in stride) and window.pads == tuple((n // 2, n - n // 2) for n in total) and _uneven(window):
        return _Conv(_Kernel(kernel, bias, stride, "same", dilation, groups))
    padding, kernel_padding = [], [(0, 0), (0, 0)]
    for (low, high), d in zip(window.pads, dilation, strict=True):
        if min(low, high) < 0 or (high - low) % d:
            at.refuse(
                f"has padding {window.pads}, but NIR pads both sides of an axis equally; pass padding= "
                "with the same integer before and after each axis."
            )
            return None
        # With zeros at the front of the kernel, the window can start further to the left without using other values.
        kernel_padding.append((max(high - low, 0) // d, max(low - high, 0) // d))
        padding.append(max(low, high))
    return _Conv(_Kernel(np.pad(kernel, kernel_padding), bias, stride, tuple(padding), dilation, groups))


def _uneven(window: Window) -> bool:
    return any(low != high for low, high in window.pads)


def _pads(
    padding: Any, space: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """Convert the padding of a brainstate module to integers ``(before, after)`` per axis."""
    if not isinstance(padding, str):
        return tuple((int(low), int(high)) for low, high in padding)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    return tuple((int(low), int(high)) for low, high in jax.lax.padtype_to_pads(space, reach, stride, padding))


def _takes_voltage(at: Export) -> bool:
    return u.have_same_dim(at.call.takes, u.mV)


def _input_scale(at: Export) -> float:
    """Return the number of mV that 1 in the file represents at the input, or 1 if the input is not a voltage."""
    return at.options.millivolts if _takes_voltage(at) else 1.0


def _file_size(at: Export, size: tuple[int, ...]) -> tuple[int, ...]:
    return (size[-1], *size[:-1]) if at.channels_last else size


def _with_shapes(node: Any, shape_in: tuple[int, ...], shape_out: tuple[int, ...]) -> Any:
    """Set the shapes of a node. nir 1.0.8 infers wrong shapes for groups and for kernels that are not square."""
    node.input_type, node.output_type = {"input": np.array(shape_in)}, {"output": np.array(shape_out)}
    return node
