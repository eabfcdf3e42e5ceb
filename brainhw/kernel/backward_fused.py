"""Backward pass of recurrent neurons in loops compiled by numba. XLA's loops are the reference.

Each neuron must fire and reset independently of the other neurons. The derivatives of spikes and reset are then one
number per neuron and step. They are computed for all steps in parallel, so the compiled loops work with every surrogate
and every reset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from brainhw.kernel import fused
from brainhw.kernel.numba_calls import call_loop

__all__ = ["gradients_of_currents", "gradients_of_leaky", "step_derivatives"]


def step_derivatives(
    fire: Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]],
    V_pre: jax.Array,
    grad_spk: jax.Array | None,
    grad_V_pre: jax.Array | None,
) -> list[jax.Array]:
    """Return ``direct``, ``kept`` and ``through`` of all steps for the functions below, each ``[T, R, N]``.

    Parameters
    ----------
    fire : callable
        Function of one step. It maps the potential before the reset to the potential after the reset, the spikes, and
        the potential before the reset, which it may clamp.
    V_pre : array
        Potential before the reset, ``[T, ..., N]``.
    grad_spk, grad_V_pre : array, optional
        Gradients of the spikes and of the potential before the reset, ``[T, ..., N]``.
    """

    def of_step(V_pre: jax.Array, given: tuple[jax.Array | None, jax.Array | None]) -> tuple[jax.Array, ...]:
        pull = jax.vjp(fire, V_pre)[1]
        one, zero = jnp.ones_like(V_pre), jnp.zeros_like(V_pre)
        direct = pull((zero, *(zero if grad is None else grad for grad in given)))
        return *direct, *pull((one, zero, zero)), *pull((zero, one, zero))

    rows = jax.vmap(of_step)(V_pre, (grad_spk, grad_V_pre))
    return [one.reshape(len(V_pre), -1, V_pre.shape[-1]) for one in rows]


def gradients_of_leaky(*given: jax.Array) -> jax.Array:
    """Return the gradient of the potentials after leak and drive, ``[T, R, N]``.

    The arguments are those of :func:`brainhw.kernel.backward_loops.leaky`, which defines the gradient.
    """

    def loop(*given: jax.Array) -> jax.Array:
        from brainhw.kernel import backward_loops

        return call_loop(backward_loops.leaky, [_like(given[0])], *given)[0]

    return fused.with_reference(loop, _leaky_by_steps)(*given)


def _leaky_by_steps(
    direct: jax.Array,
    kept: jax.Array,
    through: jax.Array,
    grad_V: jax.Array,
    grad_spk: jax.Array,
    decay: jax.Array,
    weights: jax.Array,
) -> jax.Array:
    def step(later: Any, of_step: Any) -> tuple[Any, jax.Array]:
        (grad_V, grad_spk), (direct, kept, through) = later, of_step
        charged = kept * grad_V + through * grad_spk + direct
        return (charged * jnp.broadcast_to(decay, charged.shape), charged @ weights), charged

    return jax.lax.scan(step, (grad_V, grad_spk), (direct, kept, through), reverse=True)[1]


def gradients_of_currents(*given: jax.Array) -> list[jax.Array]:
    """Return the gradients of the inputs, of the initial potential and of the initial after-hyperpolarisation current.

    Their shapes are ``[T, R, M]``, ``[R, N]`` and ``[R, N]``. The arguments are those of
    :func:`brainhw.kernel.backward_loops.currents`, which defines the gradients.
    """

    def loop(*given: jax.Array) -> list[jax.Array]:
        from brainhw.kernel import backward_loops

        direct, _, _, grad_V, grad_current, grad_ahp, *_ = given
        inputs = jax.ShapeDtypeStruct((len(direct), *grad_current.shape), direct.dtype)
        return call_loop(backward_loops.currents, [inputs, _like(grad_V), _like(grad_ahp)], *given)

    return fused.with_reference(loop, _currents_by_steps)(*given)


def _currents_by_steps(
    direct: jax.Array,
    kept: jax.Array,
    through: jax.Array,
    grad_V: jax.Array,
    grad_current: jax.Array,
    grad_ahp: jax.Array,
    grad_spk: jax.Array,
    alpha: jax.Array,
    beta: jax.Array,
    gamma: jax.Array,
    w_ahp: jax.Array,
    weights: jax.Array,
) -> list[jax.Array]:
    n = direct.shape[-1]

    def step(later: Any, of_step: Any) -> tuple[Any, jax.Array]:
        (grad_V, grad_current, grad_ahp, grad_spk), (direct, kept, through) = later, of_step
        charged = kept * grad_V + through * grad_spk + direct
        of_synapses = jnp.repeat(charged, grad_current.shape[-1] // n, axis=-1)
        drive = jnp.broadcast_to(beta, grad_current.shape) * (grad_current + of_synapses)
        ahp = jnp.broadcast_to(gamma, charged.shape) * (grad_ahp + charged)
        grad_spk = drive @ weights + ahp * jnp.broadcast_to(w_ahp, charged.shape)
        return (jnp.broadcast_to(alpha, charged.shape) * charged, drive, ahp, grad_spk), drive

    start = (grad_V, grad_current, grad_ahp, grad_spk)
    first, drives = jax.lax.scan(step, start, (direct, kept, through), reverse=True)
    return [drives, first[0], first[2]]


def _like(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)
