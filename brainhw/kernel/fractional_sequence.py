"""Time loop of a fractional layer, with a backward pass that does not need the stored past values of each step.

If the reset is a detached current and the spikes are given, the layer is linear in its drive. The backward pass is
therefore the transposed causal convolution: the same scheme, run backwards in time on the incoming gradients. It needs
only the voltage that was compared with the threshold in each step, and one more array per trainable parameter of the
operator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from brainhw.kernel.broadcasting import broadcasting
from brainhw.kernel.fractional_step import NeuronParameters, NeuronRules, NeuronState, past_sums, schemes_of, step
from brainhw.kernel.leaky import instantiate_zeros, map_primals, sum_over_samples

__all__ = ["Trace", "is_linear", "run", "run_steps"]


class Trace(NamedTuple):
    """Spikes, voltages after each step (or ``None``), and voltages compared with the threshold, ``[T, ..., N]``."""

    spk: jax.Array
    V: jax.Array | None
    V_compared: jax.Array


def is_linear(rules: NeuronRules) -> bool:
    """Return whether the voltages depend linearly on the drives for given spikes, as :func:`run` requires."""
    tau_trainable = any(rules.trainable[-2:])
    # With these rules, the step uses the time constant also outside of the coefficients of the scheme.
    outside = rules.looks_ahead or rules.method.remembers_rate
    return rules.reset == "current" and rules.detach_reset and not rules.clears and not (tau_trainable and outside)


def run_steps(
    rules: NeuronRules, parameters: NeuronParameters, state: NeuronState, drives: jax.Array, *, keep_V: bool = False
) -> tuple[NeuronState, Trace]:
    """Run all steps with inputs ``drives [T, ..., N]``. Return the final state and the trace.

    JAX differentiates through all steps.
    """
    return _scan(rules, keep_V, False, parameters, state, drives)[:2]


def run(
    rules: NeuronRules, parameters: NeuronParameters, state: NeuronState, drives: jax.Array, *, keep_V: bool = False
) -> tuple[NeuronState, Trace]:
    """Return the same as :func:`run_steps`, with a backward pass that needs less memory.

    :func:`is_linear` must return True for ``rules``.
    """
    plain = partial(run_steps, rules, keep_V=keep_V)
    runner = jax.custom_vjp(plain)
    runner.defvjp(partial(_forward, rules, keep_V), partial(_backward, rules, plain), symbolic_zeros=True)
    return runner(parameters, state, drives)


def _scan(
    rules: NeuronRules,
    keep_V: bool,
    with_sensitivities: bool,
    parameters: NeuronParameters,
    state: NeuronState,
    drives: jax.Array,
) -> tuple[NeuronState, Trace, tuple[jax.Array, ...]]:
    """Run all steps. Return the final state, the trace and a tuple of derivatives.

    With ``with_sensitivities``, the tuple contains the derivatives of the voltages before the reset with respect to
    each trainable parameter. Otherwise, it is empty.
    """
    schemes = schemes_of(rules, parameters.operator)

    def body(state: NeuronState, drive: jax.Array) -> tuple[NeuronState, Any]:
        state, event = step(rules, parameters, schemes, state, drive, with_sensitivities=with_sensitivities)
        return state, (Trace(event.spk, state.V if keep_V else None, event.V_compared), event.sensitivities)

    final, (trace, sensitivities) = jax.lax.scan(body, state, drives)
    return final, trace, sensitivities


@broadcasting
def _forward(rules: NeuronRules, keep_V: bool, *arguments: Any) -> tuple[Any, Any]:
    parameters, state, drives = map_primals(lambda leaf: leaf.value, arguments)
    state_trainable = any(jax.tree.leaves(map_primals(lambda leaf: leaf.perturbed, arguments[1])))
    final, trace, sensitivities = _scan(rules, keep_V, True, parameters, state, drives)
    # Only the general case of the backward pass needs the state and the drives. XLA drops them if they are not used.
    return (final, trace), (parameters, state, drives, trace, sensitivities, state_trainable)


@broadcasting
def _backward(rules: NeuronRules, plain: Callable[..., Any], saved: Any, cotangents: Any) -> Any:
    parameters, state, drives, trace, sensitivities, state_trainable = saved
    grad_final, grad_trace = cotangents
    through_past = jax.tree.leaves(grad_final._replace(V=None), is_leaf=_is_zero)
    if state_trainable or not all(_is_zero(g) for g in through_past):
        # A gradient with respect to the stored past of the first or the last state is requested. This is rare, so use
        # automatic differentiation.
        return jax.vjp(plain, parameters, state, drives)[1](
            jax.tree.map(instantiate_zeros, cotangents, is_leaf=_is_zero)
        )
    grad_trace = Trace(*(None if g is None or _is_zero(g) else g for g in grad_trace))
    grad_parameters, grad_drives = _gradients(
        rules, parameters, trace, sensitivities, instantiate_zeros(grad_final.V), grad_trace
    )
    return grad_parameters, jax.tree.map(jnp.zeros_like, state), grad_drives


def _is_zero(gradient: Any) -> bool:
    return isinstance(gradient, SymbolicZero)


class _LaterGradients(NamedTuple):
    """Gradients that the backward pass carries from a step to the previous step.

    ``slots`` stores gradients of later steps, on which the transposed convolution acts. ``position`` is the position of
    the next value in ``slots``.
    """

    grad_V: jax.Array  # gradient of the voltage after the step, without the part through the operator
    grad_V_new: jax.Array  # gradient of the voltage of the next step before its reset
    rate: jax.Array  # gradient of the rate that the next step stored
    slots: jax.Array
    position: jax.Array


def _gradients(
    rules: NeuronRules,
    parameters: NeuronParameters,
    trace: Trace,
    sensitivities: tuple[jax.Array, ...],
    grad_last_V: jax.Array,
    grad_trace: Trace,
) -> tuple[NeuronParameters, jax.Array]:
    """Return the gradients of the parameters and of the drives, in one pass backwards in time."""
    operator, V_th, lookahead = parameters
    scheme, *derivatives = schemes_of(rules, operator)
    past, remembers_rate = rules.past, rules.method.remembers_rate
    leaves, structure = jax.tree.flatten(operator)

    def fire(V: jax.Array, V_th: jax.Array) -> jax.Array:
        return rules.spk_fun((V - V_th) / V_th)

    def body(carry: tuple[_LaterGradients, Any], incoming: Any) -> tuple[tuple[_LaterGradients, Any], jax.Array]:
        later, (grad_trainable, grad_V_th) = carry
        spk, V_compared, sensitivities, grad = incoming
        grad_V_compared = jnp.zeros_like(V_compared)
        if grad.spk is not None:
            _, pull = jax.vjp(fire, V_compared, jnp.broadcast_to(V_th, V_compared.shape))
            grad_V_compared, grad_threshold = pull(grad.spk)
            grad_V_th = grad_V_th + grad_threshold
        grad_V_compared = grad_V_compared if grad.V_compared is None else grad_V_compared + grad.V_compared

        rate = -past_sums([past.slot_weights(scheme.weights, later.position)], later.slots)[0]
        after = later.grad_V + scheme.voltage * later.grad_V_new
        after = after - rules.leak / operator.tau * later.rate if remembers_rate else after + rate
        after = after if grad.V is None else after + grad.V
        grad_V_new = after if rules.looks_ahead else after + grad_V_compared

        through_past = rate / operator.tau if remembers_rate else 0.0
        if scheme.before is not None:
            through_past = scheme.before * later.grad_V_new
        grad_drive = scheme.drive * grad_V_new + through_past
        grad_V_th = grad_V_th - spk * (scheme.drive * after + through_past)
        grad_trainable = tuple(
            total + m * grad_V_new - d.drive * spk * V_th * after
            for total, m, d in zip(grad_trainable, sensitivities, derivatives, strict=True)
        )
        grad_V = jnp.zeros_like(grad_V_new)
        if lookahead is not None:
            # The spike was computed from the voltage before the step.
            grad_drive = grad_drive + lookahead * grad_V_compared
            grad_V = (1 - lookahead * rules.leak) * grad_V_compared
        slots = past.push(later.slots, grad_V_new, later.position)
        later = _LaterGradients(grad_V, grad_V_new, rate, slots, past.advance(later.position))
        return (later, (grad_trainable, grad_V_th)), grad_drive

    nothing = jnp.zeros_like(grad_last_V)
    slots = jnp.zeros((past.n_slots, *nothing.shape), nothing.dtype)
    start = _LaterGradients(grad_last_V, nothing, nothing, slots, jnp.zeros((), jnp.int32))
    # Sum over the batch after the loop, because a reduction to a scalar in every step takes longer than the step.
    totals = (tuple(nothing for _ in derivatives), nothing)
    incoming = (trace.spk, trace.V_compared, sensitivities, grad_trace)
    (_, (grad_trainable, grad_V_th)), grad_drives = jax.lax.scan(body, (start, totals), incoming, reverse=True)

    found = iter(grad_trainable)
    grad_leaves = [
        sum_over_samples(next(found), jnp.shape(leaf)) if wanted else jnp.zeros_like(leaf)
        for leaf, wanted in zip(leaves, rules.trainable, strict=True)
    ]
    return NeuronParameters(
        operator=structure.unflatten(grad_leaves),
        V_th=sum_over_samples(grad_V_th, jnp.shape(V_th)),
        lookahead=None if lookahead is None else jnp.zeros_like(lookahead),
    ), grad_drives
