"""Layers for neurons of other libraries that no other layer of brainhw represents."""

from __future__ import annotations

from typing import Any, ClassVar

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw.kernel.leaky import Reset
from brainhw.nn import LIFLayer
from brainhw.nn.protocols import Slot, collect_taps, tap
from brainhw.nn.ranges import DECAY, Range
from brainhw.nn.spiking import Topology, drives_over_time, zeros

__all__ = ["CurrentLIFLayer", "DecayLIFLayer"]


class DecayLIFLayer(LIFLayer):
    r"""LIF neurons that store a decay factor instead of a time constant, and can delay the reset by one step.

    .. math:: V' = \beta V_{t-1} + x_t \;(+\; s_{t-1} W_{rec}) \;(-\; s_{t-1} c)

    The decay factor :math:`\beta` may also be 0 or 1. With a ``reset_voltage`` :math:`c`, a spike does not reset the
    neuron immediately. Instead, :math:`c` is subtracted in the next step, after the decay.
    """

    parameter_ranges: ClassVar[dict[str, Range]] = {
        "beta": DECAY,
        **{name: allowed for name, allowed in LIFLayer.parameter_ranges.items() if name != "tau"},
    }

    def __init__(
        self,
        beta: np.ndarray,
        V_th: u.Quantity,
        *,
        reset: Reset,
        recurrent_init: u.Quantity | None,
        reset_voltage: np.ndarray | None = None,
        refractory_steps: int = 0,
    ) -> None:
        n = len(beta)
        self.refractory_steps = refractory_steps
        topology: Topology = "FF" if recurrent_init is None else "RC"
        super().__init__(n, 1.0 * u.ms, V_th, reset=reset, topology=topology, recurrent_init=recurrent_init)
        # The base class requires a time constant, but none exists for beta = 0 or 1.
        del self.tau
        self.beta = _as_array(beta)
        self.reset_voltage = None if reset_voltage is None else _as_array(reset_voltage)
        self._has_recurrent_weight = recurrent_init is not None
        if reset_voltage is not None:
            self.topology = "RC"

    def decay(self, dt: u.Quantity) -> jax.Array:
        """Return the decay factor. It is valid only for the time step for which the network was imported."""
        return self.beta

    def recurrent_matrix(self) -> u.Quantity:
        """Return the sum of the recurrent weights and the delayed reset, ``[N, N]`` in mV."""
        reset = None if self.reset_voltage is None else -jnp.diag(self.reset_voltage) * u.mV
        if not self._has_recurrent_weight:
            return reset
        weight = self.recurrent_weight.value.in_unit(u.mV)
        return weight if reset is None else weight + reset

    def recurrent_slot(self) -> Slot | None:
        """Return a `Slot` for the recurrent weights without the delayed reset.

        Return ``None`` if there are no recurrent weights.
        """
        return Slot(self.recurrent_weight, unit=u.mV) if self._has_recurrent_weight else None


class CurrentLIFLayer(DecayLIFLayer):
    r"""LIF neurons with one synaptic current, which sums the input and the weighted recurrent spikes.

    .. math::
        I_t &= \alpha I_{t-1} + x_t \;(+\; s_{t-1} W_{rec}) \\
        V' &= \beta V_{t-1} + I_t \;(-\; s_{t-1} c)

    As in snnTorch and Norse, the current is updated first, and the new current is added to the membrane potential.
    """

    parameter_ranges: ClassVar[dict[str, Range]] = {"alpha": DECAY, **DecayLIFLayer.parameter_ranges}

    def __init__(self, alpha: np.ndarray, beta: np.ndarray, V_th: u.Quantity, **options: Any) -> None:
        super().__init__(beta, V_th, **options)
        self.alpha = _as_array(alpha)
        # The base class adds the effect of `recurrent_matrix` to the membrane potential. In this class, it contains
        # only the delayed reset, because recurrent weights act on the current.
        self.topology = "FF" if self.reset_voltage is None else "RC"

    def resting_values(self, batch_size: int | None = None) -> dict[str, Any]:
        """Return a dict with the value of each state at rest."""
        return {**super().resting_values(batch_size), "I_syn": zeros(self.in_size, batch_size, u.mV)}

    def recurrent_matrix(self) -> u.Quantity:
        """Return the delayed reset as a diagonal matrix ``[N, N]`` in mV."""
        return -jnp.diag(self.reset_voltage) * u.mV

    def subthreshold(self, xs: u.Quantity) -> u.Quantity:
        """Return the membrane potential ``[T, ..., N]`` in mV for ``xs [T, ..., N]``, from rest and without spikes."""
        xs = drives_over_time(xs, u.mV, size=self.in_size, call=f"{type(self).__name__}.subthreshold")
        return super().subthreshold(self._currents(u.math.zeros_like(xs[0]), xs))

    def _currents(self, current: u.Quantity, xs: u.Quantity) -> u.Quantity:
        """Return the synaptic current after each step, ``[T, ..., N]`` in mV, without recurrent spikes.

        ``current`` is the synaptic current before the first step, and ``xs [T, ..., N]`` is the input.
        """

        def one_step(current: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            current = jnp.broadcast_to(self.alpha, x.shape) * current + x
            return current, current

        return u.Quantity(jax.lax.scan(one_step, current.mantissa, xs.mantissa)[1], unit=u.mV)

    def update_sequence(self, xs: u.Quantity) -> jax.Array:
        """Return the same spikes as :meth:`update` for each step of ``xs [T, ..., N]``.

        The final states are also the same.
        """
        if self._has_recurrent_weight:
            return self._step_by_step(xs)
        drives, _ = self._checked(xs, f"{type(self).__name__}.update_sequence", steps=True)
        currents = self._currents(self.I_syn.value, drives)
        self.I_syn.value = currents[-1]
        return super().update_sequence(currents)

    def _step_by_step(self, xs: u.Quantity) -> jax.Array:
        def one_step(x: u.Quantity) -> tuple[jax.Array, u.Quantity, u.Quantity]:
            with collect_taps() as tapped:
                spk = self.update(x)
            return spk, self.V.value, tapped[id(self), "V_pre"]

        spk, V, V_pre = brainstate.transform.for_loop(one_step, xs)
        for name, value in (("V", V), ("V_pre", V_pre), ("spk", spk)):
            tap(self, name, value)
        return spk

    def update(self, x: u.Quantity) -> jax.Array:
        """Advance one step and return the spikes.

        ``x`` is the input of this step, a voltage with the same shape as the spikes.
        """
        drive, _ = self._checked(x, f"{type(self).__name__}.update")
        if self._has_recurrent_weight:
            spk = jnp.asarray(self.spk.value, self.V.value.dtype)
            drive = drive + spk @ self.recurrent_weight.value.in_unit(u.mV)
        self.I_syn.value = jnp.broadcast_to(self.alpha, drive.shape) * self.I_syn.value + drive
        return super().update(self.I_syn.value)


def _as_array(value: np.ndarray) -> jax.Array:
    return jnp.asarray(value, brainstate.environ.dftype())
