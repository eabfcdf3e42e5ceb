"""A convolution synapse: a module outside brainhw, in one file that imports public names only."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import brainstate
import brainunit as u
import jax

from brainhw.nn.protocols import Slot

__all__ = ["ConvolutionSynapse"]


class ConvolutionSynapse(brainstate.nn.Module):
    r"""Convolution of images of spikes: each spike adds a patch of weights, in mV, to the membranes behind it.

    .. math:: x_{ijo} = \sum_{klc} s_{i+k, j+l, c} W_{klco}

    Parameters
    ----------
    in_size : tuple of int
        Height, width and channels of the input.
    channels : int
        Channels of the output.
    kernel : int, optional
        Height and width of the patch. Default 3.

    Attributes
    ----------
    weight : brainstate.ParamState
        ``[kernel, kernel, in, out]`` in mV.
    """

    # No state: nothing to record, and any piece of a sequence can be processed by itself.
    sequence_records: ClassVar[tuple[str, ...]] = ()
    can_be_cut: ClassVar[bool] = True

    def __init__(self, in_size: tuple[int, int, int], channels: int, *, kernel: int = 3) -> None:
        super().__init__()
        self.in_size = tuple(in_size)
        # Without padding every neuron has the same number of inputs, so one spread of weights suits them all.
        self.out_size = (in_size[0] - kernel + 1, in_size[1] - kernel + 1, channels)
        shape = (kernel, kernel, in_size[2], channels)
        scale = 1 / math.sqrt(kernel * kernel * in_size[2])
        self.weight = brainstate.ParamState(scale * brainstate.random.normal(size=shape) * u.mV)

    def weight_slot(self) -> Slot:
        """Return the weight; its last axis is the channel of the target."""
        return Slot(self.weight, unit=u.mV)

    def update(self, x: jax.Array) -> u.Quantity:
        """Return the drive ``[..., *out_size]`` in mV for spikes ``[..., H, W, C]``."""
        images = x.reshape(-1, *self.in_size)
        drive = jax.lax.conv_general_dilated(
            images, self.weight.value.to(u.mV).mantissa, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return drive.reshape(*x.shape[:-3], *self.out_size) * u.mV

    def gains_from_sequence(self) -> bool:
        """Return False: the layer behind it decides."""
        return False

    def update_sequence(self, xs: Any) -> u.Quantity:
        """Return the drives of all steps ``[T, ..., H, W, C]`` as one convolution: time is one more leading axis."""
        return self.update(xs)
