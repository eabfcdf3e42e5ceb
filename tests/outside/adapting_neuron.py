"""A neuron with an adapting threshold: a module outside brainhw, in one file that imports public names only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

import brainhw as bh

__all__ = ["AdaptingNeuron"]


class _Step(NamedTuple):
    """The numbers of one step, without units."""

    V: jax.Array  # mV
    raised: jax.Array  # mV
    spk: jax.Array


class AdaptingNeuron(brainstate.nn.Dynamics):
    r"""Leaky integrate-and-fire neurons whose threshold rises with each spike and decays back.

    .. math::
        V' &= e^{-\Delta t/\tau} V_{t-1} + x_t \\
        s_t &= H((V' - V_{th} - b_{t-1}) / V_{th}) \\
        V_t &= V' - s_t (V_{th} + b_{t-1}) \\
        b_t &= e^{-\Delta t/\tau_b} b_{t-1} + s_t \delta

    The adaptive threshold of Bellec et al., NeurIPS 2018, equation 2.

    Parameters
    ----------
    size : int or tuple of int
        Shape of the layer.
    tau, tau_b : Quantity
        Time constants of the membrane and of the threshold.
    V_th, rise : Quantity
        Threshold at rest, and the step :math:`\delta` that a spike adds to it; mV.
    spk_fun : callable, optional
        Spike function of a dimensionless argument. Default ``brainhw.surrogate.fast_sigmoid()``.
    """

    # The trace says nothing about single steps to a recorder, so `rollout(record=...)` goes step by step.
    sequence_records: ClassVar[tuple[str, ...]] = ()
    can_be_cut: ClassVar[bool] = True

    def __init__(
        self,
        size: int | tuple[int, ...],
        *,
        tau: u.Quantity,
        tau_b: u.Quantity = 100.0 * u.ms,
        V_th: u.Quantity = 1.0 * u.mV,
        rise: u.Quantity = 0.5 * u.mV,
        spk_fun: Callable[[jax.Array], jax.Array] | None = None,
    ) -> None:
        super().__init__(size)
        self.tau, self.tau_b, self.V_th, self.rise = tau, tau_b, V_th, rise
        self.spk_fun = bh.surrogate.fast_sigmoid() if spk_fun is None else spk_fun
        self.init_state()

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        """Create the states at rest."""
        shape = self.out_size if batch_size is None else (batch_size, *self.out_size)
        self.V = brainstate.HiddenState(jnp.zeros(shape) * u.mV)
        self.raised = brainstate.HiddenState(jnp.zeros(shape) * u.mV)
        self.spk = brainstate.HiddenState(jnp.zeros(shape))

    def reset_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        """Write the states back to rest."""
        shape = self.out_size if batch_size is None else (batch_size, *self.out_size)
        self.V.value = self.raised.value = jnp.zeros(shape) * u.mV
        self.spk.value = jnp.zeros(shape)

    def threshold(self) -> u.Quantity:
        """Return the threshold of a neuron that has not fired yet."""
        return self.V_th

    def subthreshold(self, xs: u.Quantity) -> u.Quantity:
        """Return the membrane ``[T, ..., *size]`` that the drives alone make from rest."""
        decay, drives = self._decay(self.tau), xs.to(u.mV).mantissa

        def one_step(V: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
            V = decay * V + drive
            return V, V

        return jax.lax.scan(one_step, jnp.zeros_like(drives[0]), drives)[1] * u.mV

    def update(self, x: u.Quantity) -> jax.Array:
        """Advance one step and return the spikes, the shape of ``x``."""
        return self._write(self._one_step(self._read(), x.to(u.mV).mantissa))

    def gains_from_sequence(self) -> bool:
        """Return True: the synapse before this layer becomes one matrix product."""
        return True

    def update_sequence(self, xs: u.Quantity) -> jax.Array:
        """Return what ``update`` returns at each step of ``xs [T, ..., *size]``."""

        def one_step(state: _Step, drive: jax.Array) -> tuple[_Step, jax.Array]:
            state = self._one_step(state, drive)
            return state, state.spk

        state, spikes = jax.lax.scan(one_step, self._read(), xs.to(u.mV).mantissa)
        self._write(state)
        return spikes

    def _one_step(self, state: _Step, drive: jax.Array) -> _Step:
        # Both ways through time call this function, so they cannot differ.
        rest, rise = self.V_th.to(u.mV).mantissa, self.rise.to(u.mV).mantissa
        V, level = self._decay(self.tau) * state.V + drive, rest + state.raised
        spk = self.spk_fun((V - level) / rest)
        return _Step(V - spk * level, self._decay(self.tau_b) * state.raised + rise * spk, spk)

    def _read(self) -> _Step:
        return _Step(self.V.value.to(u.mV).mantissa, self.raised.value.to(u.mV).mantissa, jnp.asarray(self.spk.value))

    def _write(self, state: _Step) -> jax.Array:
        self.V.value, self.raised.value, self.spk.value = state.V * u.mV, state.raised * u.mV, state.spk
        return state.spk

    @staticmethod
    def _decay(tau: u.Quantity) -> jax.Array:
        return jnp.exp(-(brainstate.environ.get_dt() / tau))
