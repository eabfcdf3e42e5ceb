"""Time loop of a fractional layer, with a backward pass that does not need the stored past values of each step.

If the reset is a detached current and the spikes are given, the layer is linear in its drive. The backward pass is
therefore the transposed causal convolution: the same scheme, run backwards in time on the incoming gradients. It needs
only the voltage that was compared with the threshold in each step, and one more array per trainable parameter of the
operator. On a CPU and with the extra ``fast``, compiled loops run both passes (:mod:`brainhw.kernel.fractional_fused`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero

from brainhw.kernel.broadcasting import broadcasting
from brainhw.kernel.fractional_fused import FiringRule, is_faster, run_scheme
from brainhw.kernel.fractional_step import (
    NeuronParameters,
    NeuronRules,
    NeuronState,
    Scheme,
    past_sums,
    schemes_of,
    step,
)
from brainhw.kernel.fused import with_reference
from brainhw.kernel.leaky import SAVED_NAME, instantiate_zeros, map_primals, sum_over_samples
from brainhw.kernel.past import LeakySums, expand

__all__ = ["Trace", "is_linear", "passes_state_gradients", "run", "run_steps"]


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


def passes_state_gradients(rules: NeuronRules) -> bool:
    """Return whether the backward pass of :func:`run` includes gradients through the first and the final state.

    Otherwise JAX differentiates each step to compute them.
    """
    return is_linear(rules) and isinstance(rules.past, LeakySums) and not rules.method.remembers_rate


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

    def without_gradients(*given: Any) -> tuple[NeuronState, Trace]:
        return _run(rules, keep_V, False, *given)[:2]

    plain = partial(run_steps, rules, keep_V=keep_V)
    runner = jax.custom_vjp(without_gradients)
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


def _run(
    rules: NeuronRules,
    keep_V: bool,
    with_sensitivities: bool,
    parameters: NeuronParameters,
    state: NeuronState,
    drives: jax.Array,
) -> tuple[NeuronState, Trace, tuple[jax.Array, ...]]:
    """Return the same as :func:`_scan`, from the compiled loop if it is expected to save time."""
    by_steps = partial(_scan, rules, keep_V, with_sensitivities)
    if not rules.is_step or not is_faster(rules, drives, state.slots):
        return by_steps(parameters, state, drives)

    def in_one_loop(parameters: NeuronParameters, state: NeuronState, drives: jax.Array) -> Any:
        schemes = schemes_of(rules, parameters.operator)[: None if with_sensitivities else 1]
        firing = FiringRule(parameters.V_th, parameters.lookahead, rules.leak)
        found = run_scheme(rules.past, schemes, firing, drives, state.V, state.before, state.slots, keep_V=keep_V)
        spk = _fire(rules, found.V_compared, parameters.V_th)
        before = None if state.before is None else drives[-1] - spk[-1] * parameters.V_th
        final = state._replace(V=found.V[-1], slots=found.slots, before=before)
        return final, Trace(spk, found.V if keep_V else None, found.V_compared), found.sensitivities

    return with_reference(in_one_loop, by_steps)(parameters, state, drives)


@broadcasting
def _forward(rules: NeuronRules, keep_V: bool, *arguments: Any) -> tuple[Any, Any]:
    parameters, state, drives = map_primals(lambda leaf: leaf.value, arguments)
    state_trainable = any(jax.tree.leaves(map_primals(lambda leaf: leaf.perturbed, arguments[1])))
    final, trace, sensitivities = _run(rules, keep_V, True, parameters, state, drives)
    V_compared, sensitivities = jax.tree.map(
        lambda array: checkpoint_name(array, SAVED_NAME), (trace.V_compared, sensitivities)
    )
    # To save memory, recompute the spikes from the voltages instead of storing them.
    trace = trace._replace(spk=_fire(rules, V_compared, parameters.V_th), V_compared=V_compared)
    # Only the general case of the backward pass needs the state and the drives. XLA drops them if they are not used.
    return (final, trace), (parameters, state, drives, trace._replace(V=None), sensitivities, state_trainable)


@broadcasting
def _backward(rules: NeuronRules, plain: Callable[..., Any], saved: Any, cotangents: Any) -> Any:
    parameters, state, drives, trace, sensitivities, state_trainable = saved
    grad_final, grad_trace = cotangents
    through_past = jax.tree.leaves(grad_final._replace(V=None), is_leaf=_is_zero)
    through_state = state_trainable or not all(_is_zero(g) for g in through_past)
    if through_state and not passes_state_gradients(rules):
        # This is rare, so use automatic differentiation.
        return jax.vjp(plain, parameters, state, drives)[1](
            jax.tree.map(instantiate_zeros, cotangents, is_leaf=_is_zero)
        )
    given = [None if g is None or _is_zero(g) else g for g in (*grad_final, *grad_trace)]
    grad_final, grad_trace = NeuronState(*given[: len(grad_final)]), Trace(*given[len(grad_final) :])
    grad_parameters, grad_drives, first = _gradients(rules, parameters, trace, sensitivities, grad_final, grad_trace)
    grad_state = jax.tree.map(jnp.zeros_like, state)
    if through_state:
        grad_state = _state_gradients(rules, parameters, first, grad_final.slots, len(drives))
    return grad_parameters, grad_state, grad_drives


def _is_zero(gradient: Any) -> bool:
    return isinstance(gradient, SymbolicZero)


def _fire(rules: NeuronRules, V: jax.Array, V_th: jax.Array) -> jax.Array:
    return rules.spk_fun((V - V_th) / V_th)


def _gradients(
    rules: NeuronRules,
    parameters: NeuronParameters,
    trace: Trace,
    sensitivities: tuple[jax.Array, ...],
    grad_final: NeuronState,
    grad_trace: Trace,
) -> tuple[NeuronParameters, jax.Array, _FirstStep]:
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
        pull = jax.vjp(partial(_fire, rules), trace.V_compared, jnp.broadcast_to(V_th, nothing.shape))[1]
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
    return grad_parameters, grad_drives, _FirstStep(grad_new[0], grad_compared[0], slots)


class _FirstStep(NamedTuple):
    """Gradients of the voltages before the reset and of the compared voltages in the first step, and final slots.

    ``slots`` are the slots of the transposed convolution after it reached the first step.
    """

    grad_new: jax.Array
    grad_compared: jax.Array
    slots: jax.Array


def _state_gradients(
    rules: NeuronRules,
    parameters: NeuronParameters,
    first: _FirstStep,
    grad_final_slots: jax.Array | None,
    n_steps: int,
) -> NeuronState:
    """Return the gradients of the state before the first step, if :func:`passes_state_gradients` returns True."""
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
