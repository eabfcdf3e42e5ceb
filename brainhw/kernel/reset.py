"""Firing of neurons: spikes, reset and refractory time, on plain arrays in millivolt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["RESETS", "Fired", "Firing"]

RESETS = ("subtract", "zero", "none")


class Fired(NamedTuple):
    """Result of one step: membrane before the reset, spikes, membrane after it, and steps still to wait."""

    V_pre: jax.Array
    spk: jax.Array
    V: jax.Array
    wait: jax.Array | None


@dataclass(frozen=True)
class Firing:
    """Rules by which neurons fire; one step and a whole sequence both call them.

    A layer with another reset derives from this class, overrides :meth:`after`, and returns its own from
    :meth:`brainhw.nn.SpikingLayer.firing`.

    Parameters
    ----------
    spk_fun : callable
        Spike function of ``(V - V_th) / V_th``.
    reset : {'subtract', 'zero', 'none'}
        A spike leaves ``V - spk * V_th``, ``V * (1 - spk)``, or ``V`` unchanged.
    detach : bool
        Stop the gradient through the spikes of the reset: with a steep surrogate it can grow without bound.
    clamped : bool
        Keep the membrane at zero or above, before the reset and after it.
    refractory : int, optional
        Steps after a spike in which a neuron ignores its drive, keeps its membrane and does not fire (absolute
        refractory time; Gerstner et al., Neuronal Dynamics, 2014, chapter 1.3). Default 0.

    Examples
    --------
    A reset to 0.2 mV:

    >>> from dataclasses import dataclass
    >>> import brainhw as bh, jax.numpy as jnp
    >>> @dataclass(frozen=True)
    ... class ToRest(bh.kernel.Firing):
    ...     V_reset: float = 0.2
    ...     def after(self, V, spk, V_th):
    ...         return jnp.where(spk > 0, self.V_reset, V)
    >>> firing = ToRest(bh.surrogate.fast_sigmoid(), "zero", True, False)
    >>> print(firing.advance(jnp.zeros(2), jnp.array([0.5, 1.5]), 1.0).V)
    [0.5 0.2]
    """

    spk_fun: Callable[[jax.Array], jax.Array]
    reset: str
    detach: bool
    clamped: bool
    refractory: int = 0

    def held(self, V: jax.Array) -> jax.Array:
        """Return the membrane before the reset, from the membrane after leak and drive."""
        return jax.nn.relu(V) if self.clamped else V

    def spikes(self, V: jax.Array, V_th: jax.Array) -> jax.Array:
        """Return the spikes of a membrane before the reset."""
        # Dimensionless: the slope of a surrogate means the same for every threshold.
        return self.spk_fun((V - V_th) / V_th)

    def after(self, V: jax.Array, spk: jax.Array, V_th: jax.Array) -> jax.Array:
        """Return the membrane after the reset."""
        if self.detach:
            spk = jax.lax.stop_gradient(spk)
        if self.reset == "subtract":
            return self.held(V - spk * V_th)
        return V * (1 - spk) if self.reset == "zero" else V

    def advance(self, V: jax.Array, charged: jax.Array, V_th: jax.Array, wait: jax.Array | None = None) -> Fired:
        """Finish a step that leak and drive have brought from membrane ``V`` to ``charged``.

        ``wait`` holds the refractory steps that each neuron has left; ``None`` without a refractory time.
        """
        V_pre = self.held(charged)
        if wait is None:
            spk = self.spikes(V_pre, V_th)
            return Fired(V_pre, spk, self.after(V_pre, spk, V_th), None)
        waits = wait > 0
        V_pre = jnp.where(waits, V, V_pre)
        spk = jnp.where(waits, 0, self.spikes(V_pre, V_th))
        # No reset while a neuron waits: a reset that moves the membrane without a spike would act on it otherwise.
        V_after = jnp.where(waits, V, self.after(V_pre, spk, V_th))
        wait = jnp.where(spk > 0, jnp.asarray(self.refractory, wait.dtype), jnp.maximum(wait - 1, 0))
        return Fired(V_pre, spk, V_after, wait)
