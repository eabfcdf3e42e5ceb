"""Time loop of leaky integrate-and-fire neurons, with a backward pass that needs only one stored array.

The forward pass stores the membrane potentials before the reset. From these, the backward pass recomputes the spikes
and the resets. It does not need the drives. The gradient of recurrent weights is one matrix product after the loop over
time. The gradient of a time constant or a threshold is computed only if it is requested.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero

from brainhw import _arguments
from brainhw.kernel import fused
from brainhw.kernel.backward_fused import gradients_of_leaky, step_derivatives
from brainhw.kernel.events import event_outer
from brainhw.kernel.numba_calls import call_loop
from brainhw.kernel.precision import as_dtype
from brainhw.kernel.recorded import Recorded, membrane_after, substitute

__all__ = [
    "RESETS",
    "SAVED_NAME",
    "Firing",
    "LeakyParameters",
    "LeakyRules",
    "LeakyState",
    "LeakyTrace",
    "convert_closure",
    "instantiate_zeros",
    "map_primals",
    "per_sample",
    "run",
    "sum_over_samples",
    "sum_terms",
]

Reset = Literal["subtract", "zero", "none"]
RESETS: tuple[Reset, ...] = get_args(Reset)


class Fired(NamedTuple):
    """Result of one step: potential before the reset, spikes, potential after the reset, remaining refractory steps."""

    V_pre: jax.Array
    spk: jax.Array
    V: jax.Array
    wait: jax.Array | None


@dataclass(frozen=True)
class Firing:
    """Rules for spikes and reset, used both for single steps and for whole sequences.

    To implement a different reset, derive a class from this one and override :meth:`after`. In the layer, override
    :meth:`brainhw.nn.SpikingLayer.firing` so that it returns an instance of the new class.

    Parameters
    ----------
    spk_fun : callable
        Spike function, called with ``(V - V_th) / V_th``.
    reset : {'subtract', 'zero', 'none'}
        The membrane potential after a spike is ``V - spk * V_th`` for ``'subtract'``, ``V * (1 - spk)`` for ``'zero'``,
        and ``V`` for ``'none'``.
    detach : bool
        Whether to stop the gradient through the spikes in the reset. With a steep surrogate, this gradient can grow
        without bound.
    clamped : bool
        Whether to clamp the membrane potential so that it is never below zero, before and after the reset.
    refractory : int, optional
        Number of steps after a spike during which the neuron ignores its drive, keeps its membrane potential and does
        not fire. This is the absolute refractory period (Gerstner et al., Neuronal Dynamics, 2014, chapter 1.3).
        Default 0.

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
    reset: Reset
    detach: bool
    clamped: bool
    refractory: int = 0

    def __post_init__(self) -> None:
        # A layer creates this object in each step, so valid arguments must pass without slow function calls.
        flags = type(self.detach) is type(self.clamped) is bool
        whole = type(self.refractory) is int and self.refractory >= 0
        known = isinstance(self.reset, str) and self.reset in RESETS
        if flags and whole and known and callable(self.spk_fun) and not isinstance(self.spk_fun, type):
            return
        call = type(self).__name__
        _arguments.function(self.spk_fun, call=call, name="spk_fun")
        _arguments.choice(self.reset, RESETS, call=call, name="reset")
        _arguments.flag(self.detach, call=call, name="detach")
        _arguments.flag(self.clamped, call=call, name="clamped")
        _arguments.whole_number(self.refractory, call=call, name="refractory")

    def clamp(self, V: jax.Array) -> jax.Array:
        """Return the membrane potential, with negative values set to zero if ``clamped`` is True."""
        return jax.nn.relu(V) if self.clamped else V

    def spikes(self, V: jax.Array, V_th: jax.Array) -> jax.Array:
        """Return the spikes for a membrane potential before the reset."""
        # Divide by the threshold, so that the slope of a surrogate has the same meaning for every threshold.
        V_th = per_sample(V_th, V)
        return self.spk_fun((V - V_th) / V_th)

    def after(self, V: jax.Array, spk: jax.Array, V_th: jax.Array) -> jax.Array:
        """Return the membrane potential after the reset."""
        if self.detach:
            spk = jax.lax.stop_gradient(spk)
        if self.reset == "subtract":
            return self.clamp(V - spk * per_sample(V_th, V))
        return V * (1 - spk) if self.reset == "zero" else V

    def _fire_and_reset(
        self, V_pre: jax.Array, V_th: jax.Array, recorded: Recorded = ()
    ) -> tuple[jax.Array, jax.Array]:
        """Return the membrane potential after the reset, and the spikes, for a potential before the reset.

        ``recorded`` contains spikes, and optionally membrane potentials after the reset. They replace the computed
        values.
        """
        spk = jnp.asarray(self.spikes(V_pre, V_th))
        if recorded:
            spk = substitute(spk, recorded[0])
        V = self.after(V_pre, spk, V_th)
        return (membrane_after(recorded, V, V_th) if recorded else V), spk

    def advance(
        self,
        V: jax.Array,
        charged: jax.Array,
        V_th: jax.Array,
        wait: jax.Array | None = None,
        recorded: Recorded = (),
    ) -> Fired:
        """Compute spikes and reset of a step in which leak and drive changed the potential from ``V`` to ``charged``.

        ``wait`` is the number of remaining refractory steps of each neuron, or ``None`` without a refractory period.
        ``recorded`` contains spikes, and optionally membrane potentials after the reset. They replace the computed
        values.
        """
        V_pre = self.clamp(charged)
        if wait is None:
            V_after, spk = self._fire_and_reset(V_pre, V_th, recorded)
            return Fired(V_pre, spk, V_after, None)
        waits = wait > 0
        V_pre = jnp.where(waits, V, V_pre)
        spk = jnp.where(waits, 0, self.spikes(V_pre, V_th))
        if recorded:
            spk = substitute(spk, recorded[0])
            # A recorded spike resets the neuron even if the model is still refractory.
            waits = waits & (spk == 0)
        # Do not reset refractory neurons, because a custom reset may change the potential even without a spike.
        V_after = self.after(V_pre, spk, V_th)
        V_after = jnp.where(waits, V, membrane_after(recorded, V_after, V_th) if recorded else V_after)
        if len(recorded) > 1:
            V_after = substitute(V_after, recorded[1])
        wait = jnp.where(spk > 0, jnp.asarray(self.refractory, wait.dtype), jnp.maximum(wait - 1, 0))
        return Fired(V_pre, spk, V_after, wait)


def per_sample(value: Any, like: jax.Array) -> jax.Array:
    """Broadcast values ``[*size]`` or a scalar to the shape of ``like [..., *size]``.

    The broadcast is explicit, so that it works if users forbid implicit rank promotion (``jax_numpy_rank_promotion``).
    """
    return jnp.broadcast_to(value, jnp.shape(like))


# Name of the stored array. A surrounding `jax.checkpoint` may save it by this name instead of running the loop again.
SAVED_NAME = "brainhw_leaky_membrane"


class LeakyRules(NamedTuple):
    """Fixed rules of the neurons: rules for spikes and reset, and the conversion from drive to voltage.

    ``to_voltage`` must be linear. ``is_step`` is True if the spike function is known to be the step function: 1 for
    arguments of 0 or more, otherwise 0.
    """

    firing: Firing
    to_voltage: Callable[[jax.Array], jax.Array]
    is_step: bool = False


class LeakyParameters(NamedTuple):
    """Parameters of the neurons.

    ``decay`` and ``V_th`` are scalars or have shape ``[*size]``. ``recurrent`` has shape ``[N, N]`` and the unit of the
    drive. ``read`` contains states that the rules for spikes and reset read, such as a scheduled slope. :func:`run`
    sets this field.
    """

    decay: jax.Array
    V_th: jax.Array
    recurrent: jax.Array | None
    read: tuple[jax.Array, ...] = ()


class LeakyState(NamedTuple):
    """Membrane potential after the reset, spikes, and remaining refractory steps, each ``[..., *size]``.

    ``wait`` is ``None`` without a refractory period.
    """

    V: jax.Array
    spk: jax.Array
    wait: jax.Array | None = None


class LeakyTrace(NamedTuple):
    """Spikes, and membrane potentials before and after the reset, ``[T, ..., *size]``.

    ``V`` is ``None`` without a refractory period, because it can then be computed from ``spk`` and ``V_pre``.
    """

    spk: jax.Array
    V_pre: jax.Array
    V: jax.Array | None = None


# (potential before the reset, threshold, *recorded, *states that the rules read) -> (potential after the reset, spikes)
_Fire = Callable[..., tuple[jax.Array, jax.Array]]


def run(
    rules: LeakyRules, parameters: LeakyParameters, state: LeakyState, drives: jax.Array, recorded: Recorded = ()
) -> tuple[LeakyState, LeakyTrace]:
    """Run all steps with inputs ``drives [T, ..., *size]``. Return the final state and the trace.

    ``recorded`` contains spikes of every step, and optionally membrane potentials after the reset. They replace the
    computed values.
    """
    # The custom backward pass cannot recompute the refractory steps from the potentials, so use plain autodiff here.
    if rules.firing.refractory:
        return _scan(rules, None, parameters, state, drives, recorded)

    def fire_and_reset(V_pre: jax.Array, V_th: jax.Array, *recorded: jax.Array) -> tuple[jax.Array, jax.Array]:
        return rules.firing._fire_and_reset(V_pre, V_th, recorded)

    def all_rules(V: jax.Array, V_th: jax.Array) -> Any:
        return rules.to_voltage(V), fire_and_reset(V, V_th)

    V_th = jnp.broadcast_to(parameters.V_th, state.V.shape)
    all_rules(state.V, V_th)  # brainstate binds a state to the trace of its first read, which must not be a conversion
    fire: _Fire = fire_and_reset
    # Convert both functions in one trace first, because a trace takes time and most rules read no state.
    if convert_closure(all_rules, state.V, V_th)[1]:
        if convert_closure(rules.to_voltage, state.V)[1]:
            # The gradient of a state that `to_voltage` reads needs the drives, which the backward pass does not store.
            return _scan(rules, None, parameters, state, drives, recorded)
        # The rules read states, such as a scheduled slope. Pass these as arguments, because they change between passes
        # and have gradients, and a closure over them would leak tracers into the backward pass.
        converted_fire, read = convert_closure(fire_and_reset, state.V, V_th, *(one[0] for one in recorded))
        parameters, fire = parameters._replace(read=tuple(read)), partial(_broadcast, converted_fire)
    runner = jax.custom_vjp(partial(_scan, rules, fire))
    runner.defvjp(partial(_forward, rules, fire), partial(_backward, rules, fire), symbolic_zeros=True)
    return runner(parameters, state, drives, recorded)


def convert_closure(function: Callable[..., Any], *like: jax.Array) -> tuple[Callable[..., Any], list[jax.Array]]:
    """Return ``function`` with its traced closure values as additional arguments, and a list of these values.

    A custom backward pass must not close over values that JAX traces, because they change between passes and have
    gradients.
    """
    # Do not use `jax.closure_convert`, because its cache keeps 4096 functions and all objects that they refer to, about
    # 25 KiB each. Create a new lambda each time, because JAX caches traces by function identity, and a cached trace
    # would contain values of a different pass.
    closed, shape = jax.make_jaxpr(lambda *given: function(*given), return_shape=True)(*like)  # noqa: PLW0108
    traced = [isinstance(one, jax.core.Tracer) and jnp.issubdtype(one.dtype, jnp.inexact) for one in closed.consts]

    def with_arguments(*arguments: jax.Array) -> Any:
        rest = iter(arguments[len(like) :])
        consts = [next(rest) if moves else one for one, moves in zip(closed.consts, traced, strict=True)]
        out = jax.core.eval_jaxpr(closed.jaxpr, consts, *arguments[: len(like)])
        return jax.tree.structure(shape).unflatten(out)

    return with_arguments, [one for one, moves in zip(closed.consts, traced, strict=True) if moves]


def _broadcast(fire: _Fire, V_pre: jax.Array, V_th: jax.Array, *rest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Broadcast the threshold to the shape of ``V_pre``, for which ``fire`` was converted, and call ``fire``."""
    return fire(V_pre, jnp.broadcast_to(V_th, V_pre.shape), *rest)


def _scan(
    rules: LeakyRules,
    fire: _Fire | None,
    parameters: LeakyParameters,
    state: LeakyState,
    drives: jax.Array,
    recorded: Recorded,
) -> tuple[LeakyState, LeakyTrace]:
    """Run the time loop with the converted rules ``fire``. If ``fire`` is ``None``, JAX differentiates the loop."""
    if fire is not None and len(recorded) > 1:
        return _all_steps(rules, fire, parameters, state, drives, recorded)
    if fire is not None and not recorded and (factors := _factors(rules, parameters, state, drives)) is not None:
        return _in_one_loop(rules, fire, factors, parameters, state, drives)
    return _by_steps(rules, fire, parameters, state, drives, recorded)


def _by_steps(
    rules: LeakyRules,
    fire: _Fire | None,
    parameters: LeakyParameters,
    state: LeakyState,
    drives: jax.Array,
    recorded: Recorded,
) -> tuple[LeakyState, LeakyTrace]:
    def step(state: LeakyState, given: tuple[jax.Array, Recorded]) -> tuple[LeakyState, LeakyTrace]:
        drive, recorded = given
        if parameters.recurrent is not None:
            drive = drive + state.spk @ parameters.recurrent
        charged = per_sample(parameters.decay, state.V) * state.V + rules.to_voltage(drive)
        if fire is None:
            V_pre, spk, V, wait = rules.firing.advance(state.V, charged, parameters.V_th, state.wait, recorded)
            return LeakyState(V, spk, wait), LeakyTrace(spk, V_pre, V)
        V_pre = rules.firing.clamp(charged)
        V, spk = fire(V_pre, parameters.V_th, *recorded, *parameters.read)
        return LeakyState(V, spk), LeakyTrace(spk, V_pre)

    return jax.lax.scan(step, state, (drives, recorded))


def _factors(
    rules: LeakyRules, parameters: LeakyParameters, state: LeakyState, drives: jax.Array
) -> tuple[float, ...] | None:
    """Return the factors by which the compiled loop multiplies a drive.

    Return ``None`` if the compiled loop does not support the rules or would not save time.
    """
    known = rules.is_step and type(rules.firing) is Firing and not parameters.read
    if not known or parameters.recurrent is None or not fused.is_faster(drives, state.V, parameters.recurrent):
        return None
    factors = fused.constant_factors(rules.to_voltage, state.V)
    return factors if factors is not None and len(factors) <= 2 else None


def _in_one_loop(
    rules: LeakyRules,
    fire: _Fire,
    factors: tuple[float, ...],
    parameters: LeakyParameters,
    state: LeakyState,
    drives: jax.Array,
) -> tuple[LeakyState, LeakyTrace]:
    """Run the compiled loop, which runs all steps of one sample before it starts the next sample."""
    V, dtype = state.V, state.V.dtype
    n = V.shape[-1]

    def by_steps(drives: jax.Array, V: jax.Array, spk: jax.Array, *numbers: jax.Array) -> list[jax.Array]:
        return [_by_steps(rules, fire, LeakyParameters(*numbers), LeakyState(V, spk), drives, ())[1].V_pre]

    def loop(*given: jax.Array) -> list[jax.Array]:
        from brainhw.kernel import fused_loops

        codes: dict[str, int] = dict(
            zip(RESETS, (fused_loops.SUBTRACT, fused_loops.ZERO, fused_loops.NO_RESET), strict=True)
        )
        firing = rules.firing
        chosen = jnp.array([codes[firing.reset], firing.clamped, bool(factors)], jnp.int32)
        scale = jnp.array([1.0] * (2 - len(factors)) + list(factors), dtype)
        results = [jax.ShapeDtypeStruct(given[0].shape, dtype), jax.ShapeDtypeStruct(given[1].shape[:1], jnp.int32)]
        return call_loop(fused_loops.leaky, results, *given, scale, chosen)

    def per_neuron(value: jax.Array) -> jax.Array:
        return per_sample(value, V).reshape(-1, n)[0]

    rows = (drives.reshape(len(drives), -1, n), V.reshape(-1, n), as_dtype(state.spk, dtype).reshape(-1, n))
    numbers = per_neuron(parameters.decay), per_neuron(parameters.V_th), parameters.recurrent
    (V_pre,) = fused.loop_or_steps(loop, by_steps, 5, *rows, *numbers)
    V_pre = V_pre.reshape(drives.shape)
    after, last = fire(V_pre[-1], parameters.V_th)
    return LeakyState(after, last), LeakyTrace(_spikes(fire, parameters, V_pre, ()), V_pre)


def _all_steps(
    rules: LeakyRules,
    fire: _Fire,
    parameters: LeakyParameters,
    state: LeakyState,
    drives: jax.Array,
    recorded: Recorded,
) -> tuple[LeakyState, LeakyTrace]:
    """Compute all steps in parallel. This is possible because each step starts from recorded values."""
    spikes, V = (as_dtype(one, state.V.dtype) for one in recorded)
    if parameters.recurrent is not None:
        before = jnp.concatenate([state.spk[None], spikes[:-1]])
        drives = drives + before @ parameters.recurrent
    before = jnp.concatenate([state.V[None], V[:-1]])
    V_pre = rules.firing.clamp(per_sample(parameters.decay, before) * before + jax.vmap(rules.to_voltage)(drives))
    return LeakyState(V[-1], spikes[-1]), LeakyTrace(_spikes(fire, parameters, V_pre, recorded), V_pre)


def _spikes(fire: _Fire, parameters: LeakyParameters, V_pre: jax.Array, recorded: Recorded) -> jax.Array:
    """Return the spikes for membrane potentials ``[T, ..., *size]``. ``fire`` is called for single steps."""
    return jax.vmap(lambda V, *step_recorded: fire(V, parameters.V_th, *step_recorded, *parameters.read)[1])(
        V_pre, *recorded
    )


def _forward(rules: LeakyRules, fire: _Fire, *arguments: Any) -> tuple[Any, Any]:
    parameters, state, drives, recorded = map_primals(lambda leaf: leaf.value, arguments)
    given = arguments[0]
    extra = ("V_th",) * given.V_th.perturbed + ("read",) * any(leaf.perturbed for leaf in given.read)
    recurrent = given.recurrent is not None and given.recurrent.perturbed
    final, trace = _scan(rules, fire, parameters, state, drives, recorded)
    V_pre = checkpoint_name(trace.V_pre, SAVED_NAME)
    # To save memory, recompute the spikes from the membrane potentials instead of storing them.
    spk = _spikes(fire, parameters, V_pre, recorded)
    return (final, LeakyTrace(spk, V_pre)), (
        parameters,
        _RequestedGradients(given.decay.perturbed, recurrent, extra, drives.dtype),
        state,
        V_pre,
        recorded,
    )


@jax.tree_util.register_static
@dataclass(frozen=True)
class _RequestedGradients:
    """Parameters whose gradients are requested, and the dtype of the gradient of the drives."""

    decay: bool
    recurrent: bool
    extra: tuple[str, ...]  # names of requested parameters that affect only spikes and reset
    drive_dtype: Any  # dtype of the drives' gradient; drives may have half precision, but potentials are float32


class _LaterGradients(NamedTuple):
    """Gradients that the backward pass carries from a step to the previous step. A field not needed is ``None``.

    ``decay`` and ``extra`` are the sums of the gradients of parameters over the later steps.
    """

    V: jax.Array
    spk: jax.Array | None
    charged: jax.Array | None  # gradient of the potential after leak and drive in the later step; needed for the decay
    decay: jax.Array | None
    extra: dict[str, Any]


def _backward(rules: LeakyRules, fire: _Fire, saved: Any, cotangents: Any) -> Any:
    parameters, requested, state, V_pre, recorded = saved
    (grad_V, grad_spk, _), grad_trace = cotangents
    decay, recurrent = parameters.decay, parameters.recurrent
    nothing = jnp.zeros_like(state.V)
    transposed_to_voltage = jax.linear_transpose(rules.to_voltage, nothing)
    # Use one threshold per neuron and sample, so that its gradient is summed over the batch only once, after the loop.
    every = {"V_th": jnp.broadcast_to(parameters.V_th, nothing.shape), "read": parameters.read}
    extra = {name: every[name] for name in requested.extra}

    def step(later: _LaterGradients, incoming: tuple[Any, Any, Any, Recorded]) -> tuple[_LaterGradients, jax.Array]:
        V_pre, grad_spk, grad_V_pre, recorded = incoming

        def fire_with(V_pre: jax.Array, extra: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
            return fire(V_pre, extra.get("V_th", parameters.V_th), *recorded, *extra.get("read", parameters.read))

        if spikes_separate:
            V, pull = jax.vjp(lambda *given: fire_with(*given)[0], V_pre, extra)
            grad_charged, grad_extra = pull(later.V)
        else:
            (V, _), pull = jax.vjp(fire_with, V_pre, extra)
            grad_charged, grad_extra = pull((later.V, sum_terms(later.spk, grad_spk, nothing)))
        grad_charged = sum_terms(grad_charged, grad_V_pre)
        if rules.firing.clamped:
            grad_charged = jnp.where(V_pre > 0, grad_charged, 0)
        (grad_drive,) = transposed_to_voltage(grad_charged)
        earlier = _LaterGradients(
            V=per_sample(decay, grad_charged) * grad_charged,
            spk=None if recurrent is None else grad_drive @ recurrent.T,
            charged=grad_charged if requested.decay else None,
            decay=later.decay + later.charged * V if requested.decay else None,
            extra=jax.tree.map(jnp.add, later.extra, grad_extra),
        )
        return earlier, grad_drive

    start = _LaterGradients(
        V=instantiate_zeros(grad_V),
        spk=None if recurrent is None else instantiate_zeros(grad_spk),
        charged=nothing if requested.decay else None,
        decay=nothing if requested.decay else None,
        extra=jax.tree.map(jnp.zeros_like, extra),
    )
    given = [None if isinstance(g, SymbolicZero) else g for g in (grad_trace.spk, grad_trace.V_pre)]
    if recurrent is None and not isinstance(grad_spk, SymbolicZero):
        # The final state also contains the last spikes. Without recurrence only this term includes their gradient.
        last = jnp.zeros_like(V_pre).at[-1].set(grad_spk)
        given[0] = last if given[0] is None else given[0] + last
    spikes_separate = recurrent is None and not extra and len(recorded) > 1 and given[0] is not None
    if spikes_separate:
        # The loop does not add to the gradient of the spikes. So compute the gradient of the membrane potentials
        # through the spikes for all steps in parallel.
        grad_steps = jax.vmap(partial(_gradient_through_spikes, fire, parameters))(V_pre, given[0], *recorded)
        given = [None, sum_terms(grad_steps, given[1])]
    factors = None if extra or recorded else _factors(rules, parameters, state, V_pre)
    if factors is None:
        first, grad_drives = jax.lax.scan(step, start, (V_pre, *given, recorded), reverse=True)
    else:
        grad_charged = _gradient_in_one_loop(rules, fire, factors, parameters, start, V_pre, *given)
        grad_drives = jax.vmap(lambda charged: transposed_to_voltage(charged)[0])(grad_charged)
        first = _LaterGradients(
            V=per_sample(decay, nothing) * grad_charged[0],
            spk=grad_drives[0] @ parameters.recurrent.T,
            charged=grad_charged[0],
            decay=_decay_gradient(fire, parameters, V_pre, grad_charged) if requested.decay else None,
            extra={},
        )

    found = jax.tree.map(jnp.zeros_like, parameters)._replace(**first.extra)
    if requested.decay:
        found = found._replace(decay=sum_over_samples(first.decay + first.charged * state.V, jnp.shape(decay)))
    if "V_th" in extra:
        found = found._replace(V_th=sum_over_samples(first.extra["V_th"], jnp.shape(parameters.V_th)))
    if requested.recurrent:
        found = found._replace(recurrent=_recurrent_gradient(fire, parameters, state, V_pre, grad_drives, recorded))
    grad_state = LeakyState(first.V, nothing if first.spk is None else first.spk)
    # Recorded values get no gradient.
    return found, grad_state, grad_drives.astype(requested.drive_dtype), None


def _gradient_in_one_loop(
    rules: LeakyRules,
    fire: _Fire,
    factors: tuple[float, ...],
    parameters: LeakyParameters,
    last: _LaterGradients,
    V_pre: jax.Array,
    grad_spk: jax.Array | None,
    grad_V_pre: jax.Array | None,
) -> jax.Array:
    """Return the gradient of the potentials after leak and drive in all steps.

    ``last`` contains the gradients after the last step.
    """
    n = V_pre.shape[-1]

    def fire_clamped(charged: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        # The stored potential is already clamped, so this changes only the derivative.
        V_pre = rules.firing.clamp(charged)
        return *fire(V_pre, parameters.V_th), V_pre

    rows = step_derivatives(fire_clamped, V_pre, grad_spk, grad_V_pre)
    weights = functools.reduce(operator.mul, factors, jnp.transpose(parameters.recurrent))
    decay = per_sample(parameters.decay, V_pre[0]).reshape(-1, n)[0]
    after = [instantiate_zeros(one).reshape(-1, n) for one in (last.V, last.spk)]
    return gradients_of_leaky(*rows, *after, decay, weights).reshape(V_pre.shape)


def _decay_gradient(fire: _Fire, parameters: LeakyParameters, V_pre: jax.Array, grad_charged: jax.Array) -> jax.Array:
    """Return the gradient of the decay, summed over all steps except the first, for each neuron and sample."""
    V = jax.vmap(lambda V_pre: fire(V_pre, parameters.V_th)[0])(V_pre[:-1])
    return (grad_charged[1:] * V).sum(axis=0)


def _gradient_through_spikes(
    fire: _Fire, parameters: LeakyParameters, V_pre: jax.Array, grad_spk: jax.Array, *recorded: jax.Array
) -> jax.Array:
    """For one step, return the part of the gradient of the membrane potentials that passes through the spikes."""
    return jax.vjp(lambda V: fire(V, parameters.V_th, *recorded, *parameters.read)[1], V_pre)[1](grad_spk)[0]


def _recurrent_gradient(
    fire: _Fire,
    parameters: LeakyParameters,
    state: LeakyState,
    V_pre: jax.Array,
    grad_drives: jax.Array,
    recorded: Recorded,
) -> jax.Array:
    """Return the gradient of the recurrent weights, as one matrix product over all steps."""
    before = jnp.concatenate(
        [state.spk[None], _spikes(fire, parameters, V_pre[:-1], tuple(one[:-1] for one in recorded))]
    )
    n = before.shape[-1]
    return event_outer(before.reshape(-1, n), grad_drives.reshape(-1, n))


def sum_over_samples(value: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Sum a gradient ``[..., *size]`` over samples, and over neurons if the parameter is a scalar."""
    return value.reshape((-1, *shape)).sum(axis=0) if shape else value.sum()


def map_primals(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to every ``CustomVJPPrimal`` in the arguments of a ``custom_vjp`` with symbolic zeros."""
    return jax.tree.map(function, tree, is_leaf=lambda leaf: isinstance(leaf, CustomVJPPrimal))


def sum_terms(*terms: jax.Array | None) -> jax.Array:
    """Return the sum of the terms that are not ``None``."""
    return functools.reduce(operator.add, [term for term in terms if term is not None])


def instantiate_zeros(gradient: Any) -> jax.Array:
    """Return a gradient as an array. A symbolic zero becomes an array of zeros."""
    return jnp.zeros(gradient.shape, gradient.dtype) if isinstance(gradient, SymbolicZero) else gradient
