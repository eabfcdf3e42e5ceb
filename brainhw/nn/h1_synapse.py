"""The dense synapse of the H1 chips: spikes in, charge out."""

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
from brainhw.nn.charge_sum import charge_sum, charge_sums
from brainhw.nn.effective import EffectiveWeight
from brainhw.nn.family import chip_of_family
from brainhw.nn.parameter import weight_state
from brainhw.nn.preparation import MismatchSizes
from brainhw.nn.protocols import Slot
from brainhw.nn.sequence import SequenceSynapse
from brainhw.nn.tap import tap_wire

__all__ = ["H1Synapse", "H1v1Synapse", "H1v2Synapse"]


class H1Synapse(SequenceSynapse, brainstate.nn.Module):
    r"""Dense chip synapse; use :class:`H1v1Synapse` or :class:`H1v2Synapse`, which name the family.

    .. math:: Q_j = \sum_i x_i\, q_{ij}

    with :math:`q_{ij}` the charge that the chip makes of the weight (:class:`~brainhw.nn.EffectiveWeight`), computed
    once per batch by :func:`brainhw.prepare_net`.

    Parameters
    ----------
    in_size, out_size : int
        Number of inputs and of target neurons.
    chip : ChipSpec, optional
        The chip; default the preset of the family.
    weight_init : callable or array, optional
        Initializer called with ``(in_size, out_size)``, or the weights themselves; dimensionless.
        Default ``braintools.init.KaimingNormal()``; :func:`brainhw.init.fluct_init` does better.
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
        Master weights ``[in_size, out_size]``, dimensionless. The chip takes ``chip.weight_limit`` at most; training
        may go beyond, :func:`brainhw.train.weight_magnitude_loss` brings them back.

    Raises
    ------
    TypeError, ValueError
        If a size, the weights or the chip do not fit; the message names the argument.
    """

    family: str
    preset: ChipSpec

    def __init__(
        self,
        in_size: int,
        out_size: int,
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
        n_in = _arguments.size(in_size, call=call, name="in_size")
        n_out = _arguments.size(out_size, call=call, name="out_size")
        self.in_size, self.out_size = (n_in,), (n_out,)
        init = braintools.init.KaimingNormal() if weight_init is None else weight_init
        self.weight = weight_state(init, (n_in, n_out), call=call, name="weight_init")
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
        """Return the weight."""
        return Slot(self.weight, limit=self.chip.weight_limit, grid=self.effective.grid)

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context without rounding and sign annealing."""
        return self.effective.unrounded()

    def update(self, x: jax.Array) -> u.Quantity:
        """Return the charge that the input brings to each target neuron.

        Parameters
        ----------
        x : jax.Array
            Spikes or dimensionless analog values, ``[..., in_size]``: one step or a whole sequence.

        Returns
        -------
        Quantity
            ``[..., out_size]`` in fC.
        """
        given, x = x, _arguments.step_input(x, self.in_size[-1], call=f"{type(self).__name__}.update")
        charge = charge_sum(x, self.effective.of(self.weight))
        tap_wire(self, given, charge, before={})
        return charge

    def update_sequence(self, xs: jax.Array) -> u.Quantity:
        """Return what :meth:`update` returns at each step, ``[T, ..., out_size]``, as one matrix product."""
        xs = _arguments.step_input(xs, self.in_size[-1], call=f"{type(self).__name__}.update_sequence")
        return charge_sums(xs, self.effective.of(self.weight))


class H1v1Synapse(H1Synapse):
    """Dense synapse of the H1v1 family: nonlinear charge curve, weights in [-0.9, 0.9], synaptic mismatch.

    Parameters, attributes and errors as in :class:`H1Synapse`.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> synapse = bh.nn.H1v1Synapse(2, 1, weight_init=jnp.array([[0.9], [-0.9]]))
    >>> bh.prepare_net(synapse)
    >>> print(f"{float(synapse(jnp.array([1.0, 0.0])).mantissa[0]):.3f} fC")
    0.860 fC
    """

    family = "H1v1"
    preset = H1V1


class H1v2Synapse(H1Synapse):
    """Dense synapse of the H1v2 family: linear charge curve, weights in [-1.66, 1.66], no synaptic mismatch.

    Parameters, attributes and errors as in :class:`H1Synapse`.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> synapse = bh.nn.H1v2Synapse(2, 1, weight_init=jnp.array([[1.0], [-1.0]]))
    >>> bh.prepare_net(synapse)
    >>> print(f"{float(synapse(jnp.array([1.0, 0.0])).mantissa[0]):.3f} fC")
    0.450 fC
    """

    family = "H1v2"
    preset = H1V2
