"""What happens when a membrane reaches its threshold."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

__all__ = ["RESETS", "Firing"]

RESETS = ("subtract", "zero", "none")


class Firing(NamedTuple):
    """How neurons fire, on plain arrays: one definition for a step and for a whole sequence.

    Attributes
    ----------
    spk_fun : callable
        Spike function of ``(V - V_th) / V_th``.
    reset : {'subtract', 'zero', 'none'}
        A spike leaves ``V - spk * V_th``, ``V * (1 - spk)``, or ``V`` unchanged.
    detach : bool
        Stop the gradient through the spikes of the reset: with a steep surrogate it can grow without bound.
    clamped : bool
        The membrane is never negative, neither before the reset nor after it.
    """

    spk_fun: Callable[[jax.Array], jax.Array]
    reset: str
    detach: bool
    clamped: bool

    def held(self, V: jax.Array) -> jax.Array:
        """Return the membrane before the reset, given what leak and drive make of it."""
        return jax.nn.relu(V) if self.clamped else V

    def spikes(self, V: jax.Array, V_th: jax.Array) -> jax.Array:
        """Return the spikes of a membrane before the reset."""
        return self.spk_fun((V - V_th) / V_th)

    def after(self, V: jax.Array, spk: jax.Array, V_th: jax.Array) -> jax.Array:
        """Return the membrane after the reset."""
        if self.detach:
            spk = jax.lax.stop_gradient(spk)
        if self.reset == "subtract":
            return self.held(V - spk * V_th)
        return V * (1 - spk) if self.reset == "zero" else V
