"""The frontend of the H1 chips: sixteen filter channels, each wired to its own neuron."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax

from brainhw import _arguments
from brainhw.chip import H1V1, H1V2, ChipSpec
from brainhw.nn.effective import EffectiveWeight
from brainhw.nn.family import chip_of_family
from brainhw.nn.parameter import weight_state
from brainhw.nn.preparation import MismatchSizes
from brainhw.nn.protocols import Slot
from brainhw.nn.sequence import SequenceSynapse
from brainhw.nn.tap import tap_wire

__all__ = ["H1Frontend", "H1v1Frontend", "H1v2Frontend"]


class H1Frontend(SequenceSynapse, brainstate.nn.Module):
    r"""One-to-one synapse from the filter channels to as many neurons; use the class that names the family.

    .. math:: Q_i = x_i\, q(w_i)

    The chip has no fan-in or fan-out here: the 16 x 16 synapse is diagonal, so only the diagonal is kept. A layer of
    ``chip.frontend_channels`` neurons follows it. A channel fires only if its input is strong enough: with
    the H1v1 preset, the default weights, tau = 10 ms and dt = 1 ms, a steady value of about 2.1 is the least.

    Parameters
    ----------
    chip : ChipSpec, optional
        The chip; default the preset of the family.
    weight_init : callable or array, optional
        Initializer called with ``(channels,)``, or the diagonal itself; dimensionless.
        Default: half the weight limit on every channel.
    weight_bits : int, 'chip' or None, optional
        Round the applied weights to a grid of so many bits over the chip's range; ``'chip'`` takes the chip's own
        number. Default ``None``: no rounding. The master weights are never rounded, so small updates add up.
    rounding : {'nearest', 'stochastic'}, optional
        ``'stochastic'`` rounds up or down at random, once per preparation, inside
        ``brainstate.environ.context(fit=True)``; outside it, as by default, to the nearest level.
    name : str, optional
        Name of the module.

    Attributes
    ----------
    weight : brainstate.ParamState
        Diagonal of the synapse, ``[channels]``, dimensionless.

    Raises
    ------
    TypeError, ValueError
        If the weights or the chip do not fit; the message names the argument.
    """

    family: str
    preset: ChipSpec

    def __init__(
        self,
        *,
        chip: ChipSpec | None = None,
        weight_init: Callable[..., Any] | jax.Array | None = None,
        weight_bits: int | str | None = None,
        rounding: str = "nearest",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        call = type(self).__name__
        self.chip = chip_of_family(chip, self, call=call)
        self.in_size = self.out_size = (self.chip.frontend_channels,)
        init = braintools.init.Constant(0.5 * self.chip.weight_limit) if weight_init is None else weight_init
        self.weight = weight_state(init, (self.chip.frontend_channels,), call=call, name="weight_init")
        self.effective = EffectiveWeight(self.weight, self.chip, owner=call, weight_bits=weight_bits, rounding=rounding)

    @property
    def master(self) -> brainstate.ParamState:
        """The learnt weights."""
        return self.weight

    def prepare(self, key: jax.Array | None = None) -> None:
        """Recompute the charges from the weights; ``key`` samples a chip, ``None`` is the one in place."""
        self.effective.refresh(self.weight, key)

    def pin_chip(self, key: jax.Array | None, sizes: MismatchSizes) -> None:
        """Put the chip of ``key`` in place, or with ``None`` the nominal one."""
        self.effective.pin(key, sizes.synapse)

    def weight_slot(self) -> Slot:
        """Return the weight, one-to-one."""
        return Slot(self.weight, limit=self.chip.weight_limit, grid=self.effective.grid, out_axis=None)

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context without rounding and sign annealing."""
        return self.effective.unrounded()

    def update(self, x: jax.Array) -> u.Quantity:
        """Return the charge that each channel brings to its neuron.

        Parameters
        ----------
        x : jax.Array
            Filter bank output, dimensionless, ``[..., channels]``: one step or a whole sequence.

        Returns
        -------
        Quantity
            ``[..., channels]`` in fC.
        """
        given, x = x, _arguments.step_input(x, self.in_size[-1], call=f"{type(self).__name__}.update")
        charge = x * self.effective.of(self.weight)
        tap_wire(self, given, charge, before={})
        return charge

    def update_sequence(self, xs: jax.Array) -> u.Quantity:
        """Return what :meth:`update` returns at each step, ``[T, ..., channels]``."""
        return self.update(xs)


class H1v1Frontend(H1Frontend):
    """Frontend of the H1v1 family. Parameters, attributes and errors as in :class:`H1Frontend`.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> frontend = bh.nn.H1v1Frontend()
    >>> bh.prepare_net(frontend)
    >>> frontend(jnp.ones((100, 8, 16))).shape
    (100, 8, 16)
    """

    family = "H1v1"
    preset = H1V1


class H1v2Frontend(H1Frontend):
    """Frontend of the H1v2 family. Parameters, attributes and errors as in :class:`H1Frontend`.

    Examples
    --------
    >>> import brainhw as bh
    >>> bh.nn.H1v2Frontend().weight.value.shape
    (16,)
    """

    family = "H1v2"
    preset = H1V2
