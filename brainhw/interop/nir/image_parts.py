"""Convolution and pooling of images with channels first, as in NIR and PyTorch."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.interop.nir.windows import Window
from brainhw.nn.protocols import SequenceSynapse, Slot

__all__ = ["Convolution", "Pooling"]


class _ImageModule(SequenceSynapse, brainstate.nn.Module):
    """Base class for modules that take images ``[..., channels, *space]`` with any number of leading axes."""

    channels_last = False

    def __init__(self, in_size: tuple[int, ...], channels: int, window: Window) -> None:
        super().__init__()
        self.in_size, self.window = tuple(in_size), window
        self.out_size = (channels, *window.places(self.in_size[1:]))

    def _images(self, x: Any, call: str) -> jax.Array:
        """Return the input as ``[N, channels, *space]``. Raise an error if the input has a different image shape."""
        x = _arguments.step_input(x, self.in_size[-1], call=call)
        axes = len(self.in_size)
        if x.shape[-axes:] != self.in_size:
            raise ValueError(
                f"{call}: the input must have shape [..., {', '.join(map(str, self.in_size))}], with channels first; "
                f"got shape {x.shape}. Move the channel axis to the front of each image."
            )
        return x.reshape(math.prod(x.shape[:-axes]), *self.in_size)

    def _like(self, images: jax.Array, x: Any) -> jax.Array:
        return images.reshape(*jnp.shape(x)[: -len(self.in_size)], *self.out_size)

    def update_sequence(self, xs: Any) -> Any:
        """Return the result of :meth:`update` for each step. Time is an additional leading axis."""
        return self.update(xs)


class Convolution(_ImageModule):
    r"""Convolution of images as in PyTorch: :math:`y_{o p} = b_o + \sum_{c k} W_{o c k} x_{c, s p + d k}`.

    Parameters
    ----------
    weight : numpy.ndarray
        Kernel ``[out, in/groups, *kernel]``.
    bias : numpy.ndarray or None
        One value per output channel, ``[out]``.
    in_size : tuple of int
        ``(in, *space)``: the channels and one or two axes.
    window : Window
        Kernel, stride, padding and dilation.
    groups : int
        Number of groups of channels that are convolved separately.
    unit : Unit
        Unit of the output: mV if the convolution drives neurons.
    """

    # A step does not use this slot. Initialisers and checks use it.
    sequence_hooks: ClassVar[tuple[str, ...]] = ("weight_slot",)

    def __init__(
        self,
        weight: np.ndarray,
        bias: np.ndarray | None,
        in_size: tuple[int, ...],
        window: Window,
        groups: int = 1,
        unit: u.Unit = u.UNITLESS,
    ) -> None:
        super().__init__(in_size, len(weight), window)
        self.groups, self.unit = groups, unit
        self.weight = brainstate.ParamState(self._with_unit(weight))
        self.bias = None if bias is None else brainstate.ParamState(self._with_unit(bias))

    def _with_unit(self, numbers: np.ndarray) -> Any:
        array = jnp.asarray(numbers, brainstate.environ.dftype())
        return array if self.unit == u.UNITLESS else u.Quantity(array, unit=self.unit)

    def weight_slot(self) -> Slot:
        """Return a `Slot` for the kernel, whose first axis is the output channel."""
        return Slot(self.weight, unit=self.unit, out_axis=0)

    def update(self, x: Any) -> Any:
        """Return the convolved images, ``[..., *out_size]``."""
        images = self._images(x, f"{type(self).__name__}.update")
        weight, window = u.get_mantissa(self.weight.value), self.window
        space = "HW"[-len(window.kernel) :]
        y = jax.lax.conv_general_dilated(
            images.astype(weight.dtype),
            weight,
            window.stride,
            window.pads,
            rhs_dilation=window.dilation,
            dimension_numbers=(f"NC{space}", f"OI{space}", f"NC{space}"),
            feature_group_count=self.groups,
        )
        if self.bias is not None:
            y = y + jnp.reshape(u.get_mantissa(self.bias.value), (-1, *(1,) * len(window.kernel)))
        y = self._like(y, x)
        return y if self.unit == u.UNITLESS else u.Quantity(y, unit=self.unit)


class Pooling(_ImageModule):
    """Sum or mean over windows of each channel. The mean includes the padding zeros, as in PyTorch."""

    def __init__(self, in_size: tuple[int, ...], window: Window, *, mean: bool) -> None:
        super().__init__(in_size, in_size[0], window)
        self.mean = mean

    def update(self, x: Any) -> Any:
        """Return the pooled images, ``[..., *out_size]``."""
        images = self._images(x, f"{type(self).__name__}.update")
        dtype = jnp.result_type(images, brainstate.environ.dftype())
        window = self.window
        y = jax.lax.reduce_window(
            images.astype(dtype),
            np.zeros((), dtype),
            jax.lax.add,
            (1, 1, *window.kernel),
            (1, 1, *window.stride),
            ((0, 0), (0, 0), *window.pads),
        )
        return self._like(y / math.prod(window.kernel) if self.mean else y, x)
