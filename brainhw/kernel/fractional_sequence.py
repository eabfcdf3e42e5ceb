"""Time loop of a fractional layer, with a backward pass that does not need the stored past values of each step.

If the reset is a detached current and the spikes are given, the layer is linear in its drive. The backward pass is
therefore the transposed causal convolution: the same scheme, run backwards in time on the incoming gradients. It needs
only the voltage that was compared with the threshold in each step, and one more array per trainable parameter of the
operator. On a CPU and with the extra ``fast``, compiled loops run both passes (:mod:`brainhw.kernel.fractional_fused`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero

from brainhw.kernel.broadcasting import broadcasting
from brainhw.kernel.fractional_fused import FiringRule, is_faster, run_scheme
from brainhw.kernel.fractional_gradients import gradients, state_gradients
from brainhw.kernel.fractional_step import NeuronParameters, NeuronRules, NeuronState, Trace, schemes_of, step
from brainhw.kernel.fused import with_reference
from brainhw.kernel.leaky import SAVED_NAME, instantiate_zeros, map_primals
from brainhw.kernel.past import LeakySums

__all__ = ["is_linear", "passes_state_gradients", "run", "run_steps"]


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
    if not rules.is_step or not is_faster(rules, drives, state.slots, state.V, state.before):
        return by_steps(parameters, state, drives)

    def in_one_loop(parameters: NeuronParameters, state: NeuronState, drives: jax.Array) -> Any:
        schemes = schemes_of(rules, parameters.operator)[: None if with_sensitivities else 1]
        firing = FiringRule(parameters.V_th, parameters.lookahead, rules.leak)
        found = run_scheme(rules.past, schemes, firing, drives, state.V, state.before, state.slots, keep_V=keep_V)
        spk = rules.fire(found.V_compared, parameters.V_th)
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
    trace = trace._replace(spk=rules.fire(V_compared, parameters.V_th), V_compared=V_compared)
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
    grad_parameters, grad_drives, first = gradients(rules, parameters, trace, sensitivities, grad_final, grad_trace)
    grad_state = jax.tree.map(jnp.zeros_like, state)
    if through_state:
        grad_state = state_gradients(rules, parameters, first, grad_final.slots, len(drives))
    return grad_parameters, grad_state, grad_drives


def _is_zero(gradient: Any) -> bool:
    return isinstance(gradient, SymbolicZero)
