"""The step that all leaky integrate-and-fire layers of this package share."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.kernel.leaky_sequence import LeakyParameters, LeakyRules, LeakyState, run
from brainhw.kernel.reset import RESETS, Firing
from brainhw.nn.drive import checked_drive
from brainhw.nn.parameter import zeros
from brainhw.nn.tap import hidden_values, is_heard, tap, tap_wire

__all__ = ["TOPOLOGIES", "SpikingLayer"]

TOPOLOGIES = ("FF", "RC")


class SpikingLayer(brainstate.nn.Dynamics):
    r"""Leaky integration, threshold, reset: what a subclass adds is where the numbers come from.

    One step with drive :math:`x_t`:

    .. math::
        V' &= \beta V_{t-1} + g(x_t + r(s_{t-1})) \quad\text{(at least 0 where the membrane is clamped)} \\
        s_t &= H((V' - V_{th}) / V_{th}) \\
        V_t &= \text{reset}(V', s_t)

    A subclass says what :math:`\beta` (``decay``), :math:`g` (``to_voltage``, linear), the weights of :math:`r`
    (``recurrent_matrix``) and :math:`V_{th}` (``threshold``) are, and whether the membrane is ``clamped``.

    Attributes
    ----------
    V : brainstate.HiddenState
        Membrane after the reset, mV, ``[N]`` or ``[B, N]``. Before the reset it can be recorded as ``V_pre``.
    spk : brainstate.HiddenState
        Spikes of the last step, 0 or 1, same shape.
    """

    drive_unit: u.Unit
    drive_word: str
    clamped: bool
    refractory_steps: int = 0
    wait: brainstate.HiddenState | None

    def __init__(
        self,
        size: int | tuple[int],
        *,
        topology: str,
        reset: str,
        spk_fun: Callable[[jax.Array], jax.Array],
        detach_reset: bool,
        name: str | None,
    ) -> None:
        call = type(self).__name__
        n = _arguments.size(size, call=call, name="size")
        super().__init__((n,), name=name)
        if not callable(spk_fun):
            raise TypeError(
                f"{call}: spk_fun must be a surrogate spike function, for example brainhw.surrogate.fast_sigmoid(); "
                f"got {_arguments.describe(spk_fun)}."
            )
        self.topology = _arguments.choice(topology, TOPOLOGIES, call=call, name="topology")
        self.reset = _arguments.choice(reset, RESETS, call=call, name="reset")
        self.spk_fun = spk_fun
        self.detach_reset = _arguments.flag(detach_reset, call=call, name="detach_reset")
        self.V = brainstate.HiddenState(zeros(n, None, u.mV))
        self.spk = brainstate.HiddenState(zeros(n, None))
        self.wait = brainstate.HiddenState(zeros(n, None)) if self.refractory_steps else None

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return self.in_size[-1]

    @abc.abstractmethod
    def decay(self, dt: u.Quantity) -> jax.Array:
        """Return the factor by which the membrane shrinks in one step, scalar or ``[N]``."""

    @abc.abstractmethod
    def threshold(self) -> u.Quantity:
        """Return the firing threshold in mV, scalar or ``[N]``."""

    @abc.abstractmethod
    def to_voltage(self, drive: u.Quantity) -> u.Quantity:
        """Return the voltage in mV that a drive adds to the membrane."""

    @abc.abstractmethod
    def recurrent_matrix(self) -> u.Quantity:
        """Return what each spike of the previous step brings back, ``[N, N]``; only called for ``topology="RC"``."""

    def recurrent_drive(self, spk: jax.Array) -> u.Quantity:
        """Return the drive that the spikes of the previous step bring back; only called for ``topology="RC"``."""
        return spk @ self.recurrent_matrix()

    def firing(self) -> Firing:
        """Return how the neurons fire, for :mod:`brainhw.kernel`."""
        return Firing(self.spk_fun, self.reset, self.detach_reset, self.clamped, self.refractory_steps)

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        """Create the states at rest, ``[N]`` or ``[batch_size, N]``."""
        self.V = brainstate.HiddenState(zeros(self.n_neurons, batch_size, u.mV))
        self.spk = brainstate.HiddenState(zeros(self.n_neurons, batch_size))
        if self.wait is not None:
            self.wait = brainstate.HiddenState(zeros(self.n_neurons, batch_size))

    def reset_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        """Write the states back to rest, ``[N]`` or ``[batch_size, N]``."""
        self.V.value = zeros(self.n_neurons, batch_size, u.mV)
        self.spk.value = zeros(self.n_neurons, batch_size)
        if self.wait is not None:
            self.wait.value = zeros(self.n_neurons, batch_size)

    def integrate(self, V: u.Quantity, drive: u.Quantity, dt: u.Quantity) -> u.Quantity:
        """Return the membrane one step later as the leak and the drive alone make it: no clamp, spike or reset."""
        return self.decay(dt) * V + self.to_voltage(drive)

    def subthreshold(self, xs: u.Quantity) -> u.Quantity:
        """Return the membrane that a sequence of drives alone would make from rest: no clamp, spike or reset.

        Parameters
        ----------
        xs : Quantity
            The drives, ``[T, ..., N]``.

        Returns
        -------
        Quantity
            ``[T, ..., N]`` in mV, each row after the drive of its step. No state is touched.
        """
        dt = _arguments.time_step(call=f"{type(self).__name__}.subthreshold")

        def one_step(V: u.Quantity, drive: u.Quantity) -> tuple[u.Quantity, jax.Array]:
            V = self.integrate(V, drive, dt)
            return V, V.mantissa

        rest = jnp.zeros(xs.shape[1:], xs.dtype) * u.mV
        return u.Quantity(brainstate.transform.scan(one_step, rest, xs)[1], unit=u.mV)

    def update(self, x: u.Quantity) -> jax.Array:
        """Advance one step and return the spikes.

        Parameters
        ----------
        x : Quantity
            The drive that arrives in this step, ``[N]`` or ``[B, N]``.

        Returns
        -------
        jax.Array
            Spikes, 0 or 1, shape of ``x``.
        """
        drive, dt = self._checked(x, f"{type(self).__name__}.update")
        before = hidden_values(self)
        if self.topology == "RC":
            drive = drive + self.recurrent_drive(jnp.asarray(self.spk.value))
        firing, V_th = self.firing(), self.threshold().mantissa
        charged = self.integrate(self.V.value, drive, dt).to(u.mV).mantissa
        wait = None if self.wait is None else self.wait.value
        V_pre, spk, V, wait = firing.advance(self.V.value.to(u.mV).mantissa, charged, V_th, wait)
        tap(self, "V_pre", V_pre * u.mV)
        self.V.value = u.Quantity(V, unit=u.mV)
        self.spk.value = spk
        if wait is not None:
            self.wait.value = wait
        tap_wire(self, x, spk, before)
        return spk

    sequence_records = ("V", "V_pre", "spk")
    can_be_cut = True

    def gains_from_sequence(self) -> bool:
        """Whether a chain should run layer by layer for this layer: yes, its backward pass keeps one array."""
        return True

    def update_sequence(self, xs: u.Quantity) -> jax.Array:
        """Return what :meth:`update` returns at each step of ``xs [T, ..., N]``, and leave the states as it would."""
        drives, dt = self._checked(xs, f"{type(self).__name__}.update_sequence", steps=True)
        V_th = self.threshold().mantissa
        rules = LeakyRules(self.firing(), self._millivolts)
        recurrent = self.recurrent_matrix().to(self.drive_unit).mantissa if self.topology == "RC" else None
        parameters = LeakyParameters(jnp.asarray(self.decay(dt)), jnp.asarray(V_th), recurrent)
        state = LeakyState(self.V.value.to(u.mV).mantissa, jnp.asarray(self.spk.value))
        if self.wait is not None:
            state = state._replace(wait=self.wait.value)
        state, trace = run(rules, parameters, state, drives.mantissa)
        if is_heard():
            tap(self, "V_pre", trace.V_pre * u.mV)
            tap(self, "V", rules.firing.after(trace.V_pre, trace.spk, V_th) * u.mV)
            tap(self, "spk", trace.spk)
        self.V.value = u.Quantity(state.V, unit=u.mV)
        self.spk.value = state.spk
        if state.wait is not None:
            self.wait.value = state.wait
        return trace.spk

    def _millivolts(self, drive: jax.Array) -> jax.Array:
        return self.to_voltage(u.Quantity(drive, unit=self.drive_unit)).to(u.mV).mantissa

    def _checked(self, x: Any, call: str, *, steps: bool = False) -> tuple[u.Quantity, u.Quantity]:
        dt = _arguments.time_step(call=call)
        drive = checked_drive(
            x,
            self.drive_unit,
            self.drive_word,
            n=self.n_neurons,
            held=np.shape(self.V.value.mantissa),
            call=call,
            source="Send spikes through a synapse of the same family first.",
            steps=steps,
        )
        return drive, dt
