"""Time loop of current-based neurons, with a backward pass that needs only one stored array.

The forward pass stores the membrane potentials before the reset. From these, the backward pass recomputes the spikes
and the membrane potentials after the reset. The inputs of the synapses and of the after-hyperpolarisation current are
stored only if their decay is trainable. The gradient of recurrent weights is one matrix product after the loop over
time.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero

from brainhw.kernel import fused
from brainhw.kernel.backward_fused import gradients_of_currents, step_derivatives
from brainhw.kernel.events import event_outer
from brainhw.kernel.leaky import SAVED_NAME, convert_closure, instantiate_zeros, map_primals, per_sample, sum_terms
from brainhw.kernel.numba_calls import call_loop
from brainhw.kernel.precision import as_dtype
from brainhw.kernel.recorded import Recorded, membrane_after, substitute

__all__ = ["CurrentParameters", "CurrentRules", "CurrentState", "CurrentTrace", "run"]


class CurrentRules(NamedTuple):
    """The spike function ``spikes(V_pre, V_th)``, and whether the reset is detached from the gradient.

    ``forward`` names the spike function if the compiled loop supports it. ``'step'`` is one spike where
    ``V_pre >= V_th``; ``'count'`` is ``floor(V_pre / V_th)`` spikes, but at most ``most``. For any other function,
    ``forward`` is ``None``.
    """

    spikes: Callable[[jax.Array, jax.Array], jax.Array]
    detach: bool
    forward: str | None = None
    most: int | None = None


class CurrentParameters(NamedTuple):
    """Parameters of the neurons. Voltages are in mV.

    ``alpha``, ``V_th`` and ``bias`` are scalars or have shape ``[*size]``. ``beta`` broadcasts to ``[*size, S]``.
    ``recurrent`` has shape ``[N, N * S]`` or is ``None``. ``gamma`` and ``w_ahp`` are the decay and the weight of the
    after-hyperpolarisation current, as scalars or with shape ``[*size]``; ``None`` for neurons without this current.
    ``read`` contains the values of the states that the function ``spikes`` reads. :func:`run` sets this field.
    """

    alpha: jax.Array
    beta: jax.Array
    V_th: jax.Array
    bias: jax.Array
    recurrent: jax.Array | None = None
    gamma: jax.Array | None = None
    w_ahp: jax.Array | None = None
    read: tuple[jax.Array, ...] = ()


class CurrentState(NamedTuple):
    """Membrane potential ``V`` after the reset, synaptic currents, spikes, and after-hyperpolarisation current.

    ``current`` has shape ``[..., *size, S]``, the other arrays have shape ``[..., *size]``. ``ahp`` is ``None`` for
    neurons without an after-hyperpolarisation current.
    """

    V: jax.Array
    current: jax.Array
    spk: jax.Array
    ahp: jax.Array | None = None


class CurrentTrace(NamedTuple):
    """Spikes and membrane potentials before the reset, ``[T, ..., *size]``."""

    spk: jax.Array
    V_pre: jax.Array


class _Inputs(NamedTuple):
    """Synaptic currents and after-hyperpolarisation current of one step, both before their decay."""

    synapses: Any
    ahp: Any


# (potential before the reset, threshold, *recorded, *states that the rules read) -> (potential after the reset, spikes)
_Fire = Callable[..., tuple[jax.Array, jax.Array]]


def run(
    rules: CurrentRules, parameters: CurrentParameters, state: CurrentState, drives: jax.Array, recorded: Recorded = ()
) -> tuple[CurrentState, CurrentTrace]:
    """Run all steps with inputs ``drives [T, ..., *size, S]``. Return the final state and the trace.

    ``recorded`` contains spikes of every step, and optionally membrane potentials after the reset. They replace the
    computed values.
    """

    def fire_and_reset(V_pre: jax.Array, V_th: jax.Array, *recorded: jax.Array) -> tuple[jax.Array, jax.Array]:
        spk = jnp.asarray(rules.spikes(V_pre, V_th))
        if recorded:
            spk = substitute(spk, recorded[0])
        V = V_pre - (jax.lax.stop_gradient(spk) if rules.detach else spk) * V_th
        return (membrane_after(recorded, V, V_th) if recorded else V), spk

    V_th = jnp.broadcast_to(parameters.V_th, state.V.shape)
    first = tuple(one[0] for one in recorded)
    fire_and_reset(
        state.V, V_th, *first
    )  # brainstate binds a state to the trace that first reads it; this must not be the trace of the conversion below
    fire: _Fire = fire_and_reset
    converted_fire, read = convert_closure(fire_and_reset, state.V, V_th, *first)
    if read:
        parameters, fire = parameters._replace(read=tuple(read)), converted_fire
    runner = jax.custom_vjp(lambda *given: _scan(rules, fire, _Stored(False, False), *given)[:2])
    runner.defvjp(partial(_forward, rules, fire), partial(_backward, rules, fire), symbolic_zeros=True)
    return runner(parameters, state, drives, recorded)


def _integrate(
    parameters: CurrentParameters, state: CurrentState, drive: jax.Array
) -> tuple[_Inputs, jax.Array, jax.Array | None, jax.Array]:
    """Compute one step up to the reset.

    Return the currents before their decay, the new synaptic currents, the new after-hyperpolarisation current, and the
    membrane potential before the reset.
    """
    inputs, V = state.current + drive, state.V
    if parameters.recurrent is not None:
        inputs = inputs + (state.spk @ parameters.recurrent).reshape(inputs.shape)
    current = per_sample(parameters.beta, inputs) * inputs
    ahp_input = ahp = None
    if parameters.gamma is not None and state.ahp is not None:
        ahp_input = state.ahp + state.spk * per_sample(parameters.w_ahp, V)
        ahp = per_sample(parameters.gamma, V) * ahp_input
    # Add in the same order as Rockpool. A different order rounds differently in float32, and spikes could then differ.
    terms = [current[..., k] for k in range(current.shape[-1])]
    total = functools.reduce(operator.add, terms if ahp is None else [*terms, ahp])
    V_pre = per_sample(parameters.alpha, V) * V + total + per_sample(parameters.bias, V)
    return _Inputs(inputs, ahp_input), current, ahp, V_pre


@dataclass(frozen=True)
class _Stored:
    """Arrays that the forward pass stores for the backward pass, in addition to the membrane potentials.

    If ``synapses`` is True, the synaptic currents before their decay are stored. If ``ahp`` is True, the
    after-hyperpolarisation current before its decay is stored.
    """

    synapses: bool
    ahp: bool


def _scan(
    rules: CurrentRules,
    fire: _Fire,
    stored: _Stored,
    parameters: CurrentParameters,
    state: CurrentState,
    drives: jax.Array,
    recorded: Recorded,
) -> tuple[CurrentState, CurrentTrace, _Inputs]:
    """Run the loop over time. In the returned ``_Inputs``, values that ``stored`` does not request are ``None``."""
    if stored == _Stored(False, False) and _runs_in_one_loop(rules, parameters, recorded, drives, state):
        return *_in_one_loop(rules, fire, parameters, state, drives), _Inputs(None, None)
    return _by_steps(fire, stored, parameters, state, drives, recorded)


def _runs_in_one_loop(
    rules: CurrentRules, parameters: CurrentParameters, recorded: Recorded, drives: jax.Array, state: CurrentState
) -> bool:
    """Return whether a compiled loop supports the rules and is expected to save time."""
    known = rules.forward and not recorded and not parameters.read
    return bool(known) and fused.is_faster(drives, state.V, parameters.recurrent)


def _in_one_loop(
    rules: CurrentRules, fire: _Fire, parameters: CurrentParameters, state: CurrentState, drives: jax.Array
) -> tuple[CurrentState, CurrentTrace]:
    """Run the compiled loop, which runs all steps of one sample before it starts the next sample."""
    V, dtype = state.V, state.V.dtype
    n, m = jnp.shape(parameters.recurrent)
    has_ahp = parameters.gamma is not None
    nothing = jnp.zeros_like(V)
    gamma, w_ahp = (parameters.gamma, parameters.w_ahp) if has_ahp else (nothing, nothing)
    ahp = nothing if state.ahp is None else state.ahp

    def per_neuron(value: Any) -> jax.Array:
        return per_sample(value, V).reshape(-1, n)[0]

    def by_steps(drives: jax.Array, V: jax.Array, current: jax.Array, *rest: jax.Array) -> list[jax.Array]:
        spk, ahp, alpha, beta, V_th, bias, recurrent, gamma, w_ahp = rest
        numbers = CurrentParameters(alpha, beta.reshape(n, -1), V_th, bias, recurrent)
        if has_ahp:
            numbers = numbers._replace(gamma=gamma, w_ahp=w_ahp)
        by_synapse = CurrentState(V, current.reshape(len(V), n, -1), spk, ahp if has_ahp else None)
        split = drives.reshape(len(drives), len(V), n, -1)
        end, trace, _ = _by_steps(fire, _Stored(False, False), numbers, by_synapse, split, ())
        return [trace.V_pre, end.current.reshape(len(V), m), ahp if end.ahp is None else end.ahp]

    def loop(*given: jax.Array) -> list[jax.Array]:
        from brainhw.kernel import fused_loops

        firing = fused_loops.STEP if rules.forward == "step" else fused_loops.COUNT
        chosen = jnp.array([firing, rules.most or 0, has_ahp], jnp.int32)
        rows = len(given[1])
        shapes = (len(drives), rows, n), (rows, m), (rows, n)
        results = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes] + [jax.ShapeDtypeStruct((rows,), jnp.int32)]
        return call_loop(fused_loops.currents, results, *given, chosen)

    given = (
        drives.reshape(len(drives), -1, m),
        V.reshape(-1, n),
        state.current.reshape(-1, m),
        as_dtype(state.spk, dtype).reshape(-1, n),
        ahp.reshape(-1, n),
        per_neuron(parameters.alpha),
        per_sample(parameters.beta, state.current).reshape(-1, m)[0],
        per_neuron(parameters.V_th),
        per_neuron(parameters.bias),
        parameters.recurrent,
        per_neuron(gamma),
        per_neuron(w_ahp),
    )
    V_pre, current, ahp = fused.loop_or_steps(loop, by_steps, 9, *given)
    V_pre = V_pre.reshape(len(drives), *V.shape)
    after, last = fire(V_pre[-1], per_sample(parameters.V_th, V))
    end = CurrentState(after, current.reshape(state.current.shape), last, ahp.reshape(V.shape) if has_ahp else None)
    return end, CurrentTrace(_spikes(fire, parameters, V_pre, ()), V_pre)


def _by_steps(
    fire: _Fire,
    stored: _Stored,
    parameters: CurrentParameters,
    state: CurrentState,
    drives: jax.Array,
    recorded: Recorded,
) -> tuple[CurrentState, CurrentTrace, _Inputs]:
    def step(state: CurrentState, given: tuple[jax.Array, Recorded]) -> tuple[CurrentState, tuple[CurrentTrace, Any]]:
        drive, recorded = given
        inputs, current, ahp, V_pre = _integrate(parameters, state, drive)
        V, spk = fire(V_pre, per_sample(parameters.V_th, V_pre), *recorded, *parameters.read)
        held = (inputs.synapses if stored.synapses else None, inputs.ahp if stored.ahp else None)
        return CurrentState(V, current, spk, ahp), (CurrentTrace(spk, V_pre), held)

    state, (trace, held) = jax.lax.scan(step, state, (drives, recorded))
    return state, trace, _Inputs(*held)


@jax.tree_util.register_static
@dataclass(frozen=True)
class _RequestedGradients:
    """Names of the parameters whose gradients are requested, and the dtype of the drives."""

    names: frozenset[str]
    drive_dtype: Any


def _forward(rules: CurrentRules, fire: _Fire, *arguments: Any) -> tuple[Any, Any]:
    parameters, state, drives, recorded = map_primals(lambda leaf: leaf.value, arguments)
    given = arguments[0]
    names = {name for name in given._fields if name != "read" and _is_perturbed(getattr(given, name))}
    names |= {"read"} if any(leaf.perturbed for leaf in given.read) else set()
    to_store = _Stored("beta" in names, "gamma" in names)
    final, trace, held = _scan(rules, fire, to_store, parameters, state, drives, recorded)
    V_pre, held = jax.tree.map(lambda array: checkpoint_name(array, SAVED_NAME), (trace.V_pre, held))
    # To save memory, recompute the spikes from the membrane potentials instead of storing them.
    spk = _spikes(fire, parameters, V_pre, recorded)
    stored = (parameters, _RequestedGradients(frozenset(names), drives.dtype), state, V_pre, held, recorded)
    return (final, CurrentTrace(spk, V_pre)), stored


def _is_perturbed(leaf: Any) -> bool:
    return leaf is not None and leaf.perturbed


def _spikes(fire: _Fire, parameters: CurrentParameters, V_pre: jax.Array, recorded: Recorded) -> jax.Array:
    """Return the spikes for membrane potentials ``[T, ..., *size]``. ``fire`` is called for single steps."""
    V_th = jnp.broadcast_to(parameters.V_th, V_pre.shape[1:])
    return jax.vmap(lambda V, *step_recorded: fire(V, V_th, *step_recorded, *parameters.read)[1])(V_pre, *recorded)


class _LaterGradients(NamedTuple):
    """Values that the backward pass carries from a step to the previous step.

    ``sums`` contains the gradients of the parameters, summed over the later steps. The other fields are gradients of
    the state. A field that is not needed is ``None``.
    """

    V: jax.Array
    current: jax.Array
    ahp: Any
    spk: jax.Array | None
    charged: Any  # gradient of the potential before the reset; needed for the gradient of alpha
    ahp_input: Any  # gradient of the input to the after-hyperpolarisation current; needed for the gradient of w_ahp
    sums: dict[str, Any]


def _backward(rules: CurrentRules, fire: _Fire, stored: Any, cotangents: Any) -> Any:
    parameters, requested, state, V_pre, held, recorded = stored
    grad_final, grad_trace = cotangents
    names, nothing = requested.names, jnp.zeros_like(state.V)
    alpha, beta = per_sample(parameters.alpha, nothing), per_sample(parameters.beta, state.current)
    # Use one threshold per neuron and sample, so that its gradient is summed over the batch only once, after the loop.
    V_th = per_sample(parameters.V_th, nothing)
    every = {"V_th": V_th, "read": parameters.read}
    extra = {name: value for name, value in every.items() if name in names}

    def step(
        later: _LaterGradients, incoming: tuple[Any, Any, Any, _Inputs, Recorded]
    ) -> tuple[_LaterGradients, jax.Array]:
        V_pre, grad_spk, grad_V_pre, inputs, recorded = incoming

        def fire_with(V_pre: jax.Array, extra: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
            return fire(V_pre, extra.get("V_th", V_th), *recorded, *extra.get("read", parameters.read))

        (V, spk), pull = jax.vjp(fire_with, V_pre, extra)
        grad_charged, grad_extra = pull((later.V, sum_terms(nothing, later.spk, grad_spk)))
        grad_charged = sum_terms(grad_charged, grad_V_pre)
        grad_current = later.current + grad_charged[..., None]
        grad_drive = beta * grad_current
        grad_earlier = grad_ahp = grad_ahp_input = None
        if parameters.recurrent is not None:
            grad_earlier = grad_drive.reshape(*nothing.shape[:-1], -1) @ parameters.recurrent.T
        if parameters.gamma is not None:
            grad_ahp = sum_terms(later.ahp, grad_charged)
            grad_ahp_input = per_sample(parameters.gamma, nothing) * grad_ahp
            grad_earlier = sum_terms(grad_ahp_input * per_sample(parameters.w_ahp, nothing), grad_earlier)
        # The later step started from the membrane potential and the spikes of this step.
        step_gradients = {
            "alpha": lambda: later.charged * V,
            "w_ahp": lambda: later.ahp_input * spk,
            "beta": lambda: grad_current * inputs.synapses,
            "gamma": lambda: grad_ahp * inputs.ahp,
            "bias": lambda: grad_charged,
            "V_th": lambda: grad_extra["V_th"],
            "read": lambda: grad_extra["read"],
        }
        sums = {name: jax.tree.map(jnp.add, total, step_gradients[name]()) for name, total in later.sums.items()}
        charged = grad_charged if "alpha" in names else None
        ahp_input = grad_ahp_input if "w_ahp" in names else None
        earlier = _LaterGradients(
            alpha * grad_charged, grad_drive, grad_ahp_input, grad_earlier, charged, ahp_input, sums
        )
        return earlier, grad_drive

    grad_spk, grad_V_pre = (None if isinstance(g, SymbolicZero) else g for g in grad_trace)
    if not isinstance(grad_final.spk, SymbolicZero):
        # The final state also contains the last spikes. Add the gradient that reaches them through the final state.
        grad_spk = sum_terms(jnp.zeros_like(V_pre).at[-1].set(grad_final.spk), grad_spk)
    start = _start(names, parameters, state, grad_final)
    if names <= {"recurrent"} and _runs_in_one_loop(rules, parameters, recorded, V_pre, state):
        first, grad_drives = _backward_in_one_loop(fire, parameters, start, V_pre, grad_spk, grad_V_pre)
    else:
        first, grad_drives = jax.lax.scan(step, start, (V_pre, grad_spk, grad_V_pre, held, recorded), reverse=True)

    sums = first.sums
    # The first step started from the initial state.
    if "alpha" in names:
        sums["alpha"] = sums["alpha"] + first.charged * state.V
    if "w_ahp" in names:
        sums["w_ahp"] = sums["w_ahp"] + first.ahp_input * state.spk
    found = {"read": sums.pop("read")} if "read" in names else {}
    found |= {name: _sum_over_broadcast(total, jnp.shape(getattr(parameters, name))) for name, total in sums.items()}
    if "recurrent" in names:
        earlier = _spikes(fire, parameters, V_pre[:-1], tuple(one[:-1] for one in recorded))
        before = jnp.concatenate([state.spk[None], earlier])
        n, n_out = parameters.recurrent.shape
        found["recurrent"] = event_outer(before.reshape(-1, n), grad_drives.reshape(-1, n_out))
    grad_state = CurrentState(first.V, first.current, nothing if first.spk is None else first.spk, first.ahp)
    # Recorded values get no gradient.
    grad_drives = grad_drives.astype(requested.drive_dtype)
    return jax.tree.map(jnp.zeros_like, parameters)._replace(**found), grad_state, grad_drives, None


def _backward_in_one_loop(
    fire: _Fire,
    parameters: CurrentParameters,
    last: _LaterGradients,
    V_pre: jax.Array,
    grad_spk: jax.Array | None,
    grad_V_pre: jax.Array | None,
) -> tuple[_LaterGradients, jax.Array]:
    """Return the gradients of the initial state and of the inputs of all steps, computed with the compiled loop.

    ``last`` contains the gradients after the last step.
    """
    n, m = jnp.shape(parameters.recurrent)
    nothing = jnp.zeros_like(V_pre[0])
    has_ahp = parameters.gamma is not None
    gamma, w_ahp = (parameters.gamma, parameters.w_ahp) if has_ahp else (nothing, nothing)

    def fire_alone(V_pre: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return *fire(V_pre, per_sample(parameters.V_th, V_pre)), V_pre

    rows = step_derivatives(fire_alone, V_pre, grad_spk, grad_V_pre)
    state = [nothing if one is None else one for one in (last.V, last.current, last.ahp, last.spk)]
    after = [one.reshape(-1, m if one is last.current else n) for one in state]
    alpha, gamma, w_ahp = (per_sample(one, nothing).reshape(-1, n)[0] for one in (parameters.alpha, gamma, w_ahp))
    beta = per_sample(parameters.beta, last.current).reshape(-1, m)[0]
    weights = jnp.transpose(parameters.recurrent)
    drives, V, ahp = gradients_of_currents(*rows, *after, alpha, beta, gamma, w_ahp, weights)
    spk = drives[0] @ weights + ahp * per_sample(w_ahp, ahp)
    first = last._replace(
        V=V.reshape(nothing.shape),
        current=drives[0].reshape(last.current.shape),
        ahp=ahp.reshape(nothing.shape) if has_ahp else None,
        spk=spk.reshape(nothing.shape),
    )
    return first, drives.reshape(len(V_pre), *last.current.shape)


def _start(
    names: frozenset[str], parameters: CurrentParameters, state: CurrentState, grad_final: Any
) -> _LaterGradients:
    """Return the gradients after the last step, with which the backward pass starts."""
    nothing = jnp.zeros_like(state.V)
    sums: dict[str, Any] = {name: nothing for name in ("alpha", "w_ahp", "gamma", "bias", "V_th") if name in names}
    if "beta" in names:
        sums["beta"] = jnp.zeros_like(state.current)
    if "read" in names:
        sums["read"] = jax.tree.map(jnp.zeros_like, parameters.read)
    has_ahp = parameters.gamma is not None
    return _LaterGradients(
        V=instantiate_zeros(grad_final.V),
        current=instantiate_zeros(grad_final.current),
        ahp=instantiate_zeros(grad_final.ahp) if has_ahp else None,
        spk=nothing if has_ahp or parameters.recurrent is not None else None,
        charged=nothing if "alpha" in names else None,
        ahp_input=nothing if "w_ahp" in names else None,
        sums=sums,
    )


def _sum_over_broadcast(value: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Sum a gradient over the axes along which its parameter was broadcast."""
    value = value.sum(axis=tuple(range(value.ndim - len(shape))))
    same = tuple(i for i, n in enumerate(shape) if n == 1)
    return value.sum(axis=same, keepdims=True)
