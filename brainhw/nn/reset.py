"""What a spike does to the membrane."""

from __future__ import annotations

import brainunit as u
import jax

__all__ = ["RESETS", "apply_reset"]

RESETS = ("subtract", "zero", "none")


def apply_reset(V: u.Quantity, spk: jax.Array, V_th: u.Quantity, reset: str, *, detach: bool) -> u.Quantity:
    """Return the membrane after the reset.

    Parameters
    ----------
    V : Quantity
        Membrane before the reset, ``[..., N]``.
    spk : jax.Array
        Spikes of this step, same shape.
    V_th : Quantity
        Threshold, scalar or ``[N]``.
    reset : {'subtract', 'zero', 'none'}
        ``V - spk * V_th``, ``V * (1 - spk)``, or ``V`` unchanged.
    detach : bool
        Stop the gradient through the spikes of the reset: with a steep surrogate it can grow without bound.
    """
    if detach:
        spk = jax.lax.stop_gradient(spk)
    if reset == "subtract":
        return V - spk * V_th
    if reset == "zero":
        return V * (1 - spk)
    return V
