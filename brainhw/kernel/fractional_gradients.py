"""Backward pass of a fractional layer: the transposed causal convolution.

If the spikes are given, the layer is linear in its drive. So its gradients are those of the same scheme, run from the
last step to the first on the incoming gradients.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from brainhw.kernel.fractional_fused import is_faster, run_scheme
from brainhw.kernel.fractional_step import (
    NeuronParameters,
    NeuronRules,
    NeuronState,
    Scheme,
    Trace,
    past_sums,
    schemes_of,
)
from brainhw.kernel.fused import with_reference
from brainhw.kernel.leaky import sum_over_samples
from brainhw.kernel.past import LeakySums, expand

__all__ = ["FirstStep", "gradients", "state_gradients"]


class FirstStep(NamedTuple):
    """Gradients of the voltages before the reset and of the compared voltages in the first step, and final slots.

    ``slots`` are the slots of the transposed convolution after it reached the first step.
    """

    grad_new: jax.Array
    grad_compared: jax.Array
    slots: jax.Array


def gradients(
    rules: NeuronRules,
    parameters: NeuronParameters,
    trace: Trace,
    sensitivities: tuple[jax.Array, ...],
    grad_final: NeuronState,
    grad_trace: Trace,
) -> tuple[NeuronParameters, jax.Array, FirstStep]:
    """Return the gradients of the parameters and of the drives, and gradients in the first step.

    In ``grad_final`` and ``grad_trace``, gradients that are zero are ``None``.
    """
    operator, V_th, lookahead = parameters
    scheme, *derivatives = schemes_of(rules, operator)
    leaves, structure = jax.tree.flatten(operator)
    spk, nothing = trace.spk, jnp.zeros_like(trace.V_compared)

    # First, compute the gradients through the spikes, for all steps in parallel.
    grad_compared = nothing if grad_trace.V_compared is None else grad_trace.V_compared
    grad_V_th = nothing
    if grad_trace.spk is not None:
        pull = jax.vjp(rules.fire, trace.V_compared, jnp.broadcast_to(V_th, nothing.shape))[1]
        through_spikes, grad_V_th = pull(grad_trace.spk)
        grad_compared = grad_compared + through_spikes

    # Then, run the scheme backwards. Its inputs are the gradients of the voltages that do not pass through later steps.
    grad_V = nothing if grad_trace.V is None else grad_trace.V
    if grad_final.V is not None:
        grad_V = grad_V.at[-1].add(grad_final.V)
    if grad_final.slots is not None:
        # The final slots contain the voltage of each step.
        decay = cast(LeakySums, rules.past).decay(range(len(spk))[::-1], nothing.dtype)
        grad_V = grad_V + jnp.tensordot(decay, grad_final.slots, 1)
    grad_drives = nothing
    if lookahead is None:
        grad_V = grad_V + grad_compared
    else:
        # The spikes were computed from the voltage before the step, and from the drive.
        grad_V = grad_V.at[:-1].add((1 - lookahead * rules.leak) * grad_compared[1:])
        grad_drives = lookahead * grad_compared
    grad_new, rates, slots = _run_backwards(rules, operator.tau, scheme, grad_V)

    # Last, compute the gradients of drives and parameters, again in parallel. `after` are the gradients of the voltages
    # after the reset.
    after = grad_new if rules.looks_ahead else grad_new - grad_compared
    through_past = nothing
    if rates is not None:
        through_past = rates / operator.tau
    if scheme.before is not None:
        through_past = nothing.at[:-1].set(scheme.before * grad_new[1:])
    grad_drives = grad_drives + scheme.drive * grad_new + through_past
    grad_V_th = grad_V_th - spk * (scheme.drive * after + through_past)
    if grad_final.before is not None:
        # The drive that the final state stores includes the reset.
        grad_drives = grad_drives.at[-1].add(grad_final.before)
        grad_V_th = grad_V_th.at[-1].add(-spk[-1] * grad_final.before)
    found = iter(m * grad_new - d.drive * spk * V_th * after for m, d in zip(sensitivities, derivatives, strict=True))
    grad_leaves = [
        sum_over_samples(next(found), jnp.shape(leaf)) if wanted else jnp.zeros_like(leaf)
        for leaf, wanted in zip(leaves, rules.trainable, strict=True)
    ]
    grad_parameters = NeuronParameters(
        operator=structure.unflatten(grad_leaves),
        V_th=sum_over_samples(grad_V_th, jnp.shape(V_th)),
        lookahead=None if lookahead is None else jnp.zeros_like(lookahead),
    )
    return grad_parameters, grad_drives, FirstStep(grad_new[0], grad_compared[0], slots)


def state_gradients(
    rules: NeuronRules,
    parameters: NeuronParameters,
    first: FirstStep,
    grad_final_slots: jax.Array | None,
    n_steps: int,
) -> NeuronState:
    """Return the gradients of the state before the first step. Its past values must be leaky sums of voltages."""
    operator, _, lookahead = parameters
    scheme = schemes_of(rules, operator)[0]
    grad_V = scheme.voltage * first.grad_new
    if lookahead is not None:
        grad_V = grad_V + (1 - lookahead * rules.leak) * first.grad_compared
    grad_slots = -expand(scheme.weights, first.slots.ndim) * first.slots
    if grad_final_slots is not None:
        decay = cast(LeakySums, rules.past).decay([n_steps], first.slots.dtype)[0]
        grad_slots = grad_slots + expand(decay, first.slots.ndim) * grad_final_slots
    before = None if scheme.before is None else scheme.before * first.grad_new
    return NeuronState(grad_V, None, grad_slots, None, before)


class _LaterGradients(NamedTuple):
    """Gradients that the backward pass carries from a step to the previous step.

    ``slots`` stores gradients of later steps, on which the transposed convolution acts. ``position`` is the position of
    the next value in ``slots``.
    """

    grad_new: jax.Array  # gradient of the voltage of the next step before its reset
    rate: jax.Array  # gradient of the rate that the next step stored
    slots: jax.Array
    position: jax.Array


def _run_backwards(
    rules: NeuronRules, tau: jax.Array, scheme: Scheme, grad_V: jax.Array
) -> tuple[jax.Array, jax.Array | None, jax.Array]:
    """Run the transposed convolution, from the last step to the first.

    ``grad_V [T, ..., N]`` are the gradients of the voltages that do not pass through the operator. The results are the
    gradients of the voltages before the reset, those of the stored rates, or ``None`` if the method stores no rates,
    and the final slots of the convolution.
    """
    remembers_rate = rules.method.remembers_rate
    nothing = jnp.zeros_like(grad_V[0])
    slots = jnp.zeros((rules.past.n_slots, *nothing.shape), nothing.dtype)

    def by_steps(tau: jax.Array, scheme: Scheme, grad_V: jax.Array) -> tuple[jax.Array, jax.Array | None, jax.Array]:
        def body(later: _LaterGradients, grad_V: jax.Array) -> tuple[_LaterGradients, Any]:
            rate = -past_sums([rules.past.slot_weights(scheme.weights, later.position)], later.slots)[0]
            through_past = -rules.leak / tau * later.rate if remembers_rate else rate
            grad_new = grad_V + scheme.voltage * later.grad_new + through_past
            slots = rules.past.push(later.slots, grad_new, later.position)
            later = _LaterGradients(grad_new, rate, slots, rules.past.advance(later.position))
            return later, (grad_new, rate if remembers_rate else None)

        start = _LaterGradients(nothing, nothing, slots, jnp.zeros((), jnp.int32))
        first, (grad_new, rates) = jax.lax.scan(body, start, grad_V, reverse=True)
        return grad_new, rates, first.slots

    def in_one_loop(tau: jax.Array, scheme: Scheme, grad_V: jax.Array) -> tuple[jax.Array, None, jax.Array]:
        transposed = scheme._replace(drive=jnp.ones((), grad_V.dtype), before=None)
        found = run_scheme(rules.past, (transposed,), None, grad_V, nothing, None, slots, reverse=True)
        return found.V_compared, None, found.slots

    run = with_reference(in_one_loop, by_steps) if is_faster(rules, grad_V, slots) else by_steps
    return run(tau, scheme, grad_V)
