"""Leaky integrate-and-fire neurons over a whole sequence, with a backward pass that keeps one array.

The membranes before the reset are all that is kept: spikes and resets follow from them. What the neurons are driven by
is not needed again, the gradient of recurrent weights is one product after the loop, and that of a time constant or a
threshold is only formed where somebody asks for it.
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
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero

from brainhw.kernel.gathered import gathered
from brainhw.kernel.reset import Firing

__all__ = ["KEPT", "LeakyParameters", "LeakyRules", "LeakyState", "LeakyTrace", "run"]

# What a surrounding `jax.checkpoint` may save of a run, so that nothing of it is computed twice.
KEPT = "brainhw_leaky_membrane"


class LeakyRules(NamedTuple):
    """What is fixed about the neurons: how they fire, and what a drive adds to the membrane, which must be linear."""

    firing: Firing
    to_voltage: Callable[[jax.Array], jax.Array]


class LeakyParameters(NamedTuple):
    """Numbers of the neurons: ``decay`` and ``V_th`` scalar or ``[N]``, ``recurrent [N, N]`` in units of the drive.

    ``read`` is what the spike function reads beside the membrane, such as a scheduled slope; :func:`run` fills it in.
    """

    decay: jax.Array
    V_th: jax.Array
    recurrent: jax.Array | None
    read: tuple[jax.Array, ...] = ()


class LeakyState(NamedTuple):
    """Membrane after the reset and spikes, ``[..., N]``."""

    V: jax.Array
    spk: jax.Array


class LeakyTrace(NamedTuple):
    """Spikes and membranes before the reset, ``[T, ..., N]``."""

    spk: jax.Array
    V_pre: jax.Array


def run(
    rules: LeakyRules, parameters: LeakyParameters, state: LeakyState, drives: jax.Array
) -> tuple[LeakyState, LeakyTrace]:
    """Return the state after ``drives [T, ..., N]``, and what happened at each step."""
    # A spike function may read states. As arguments they can be told apart from pass to pass, and be learnt.
    example = (state.V - parameters.V_th) / parameters.V_th
    rules.firing.spk_fun(example)  # brainstate binds a state where it is first read, which must not be inside the next
    # A new function each time: JAX remembers what one that it has seen was made of, with values of another pass.
    spk_fun, read = jax.closure_convert(lambda x: jnp.asarray(rules.firing.spk_fun(x)), example)
    if read:
        rules = rules._replace(firing=rules.firing._replace(spk_fun=spk_fun))
        parameters = parameters._replace(read=tuple(read))
    runner = jax.custom_vjp(partial(_steps, rules))
    runner.defvjp(partial(_forward, rules), partial(_backward, rules), symbolic_zeros=True)
    return runner(parameters, state, drives)


def _firing(rules: LeakyRules, read: tuple[jax.Array, ...]) -> Firing:
    if not read:
        return rules.firing
    return rules.firing._replace(spk_fun=lambda x: rules.firing.spk_fun(x, *read))


def _spikes(rules: LeakyRules, parameters: LeakyParameters, V_pre: jax.Array) -> jax.Array:
    """Return the spikes of membranes ``[T, ..., N]``, the function seeing those of one step at a time."""
    firing = _firing(rules, parameters.read)
    return jax.vmap(lambda V: firing.spikes(V, parameters.V_th))(V_pre)


def _steps(
    rules: LeakyRules, parameters: LeakyParameters, state: LeakyState, drives: jax.Array
) -> tuple[LeakyState, LeakyTrace]:
    firing, V_th = _firing(rules, parameters.read), parameters.V_th

    def step(state: LeakyState, drive: jax.Array) -> tuple[LeakyState, LeakyTrace]:
        if parameters.recurrent is not None:
            drive = drive + state.spk @ parameters.recurrent
        V_pre = firing.held(parameters.decay * state.V + rules.to_voltage(drive))
        spk = firing.spikes(V_pre, V_th)
        return LeakyState(firing.after(V_pre, spk, V_th), spk), LeakyTrace(spk, V_pre)

    return jax.lax.scan(step, state, drives)


def _forward(rules: LeakyRules, *arguments: Any) -> tuple[Any, Any]:
    parameters, state, drives = _each(lambda leaf: leaf.value, arguments)
    given = arguments[0]
    extra = ("V_th",) * given.V_th.perturbed + ("read",) * any(leaf.perturbed for leaf in given.read)
    recurrent = given.recurrent is not None and given.recurrent.perturbed
    final, trace = _steps(rules, parameters, state, drives)
    V_pre = checkpoint_name(trace.V_pre, KEPT)
    # Not the spikes of the loop: those that follow from the membranes need not be kept beside them.
    spk = _spikes(rules, parameters, V_pre)
    return (final, LeakyTrace(spk, V_pre)), (
        parameters,
        _Wanted(given.decay.perturbed, recurrent, extra),
        state,
        V_pre,
    )


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Wanted:
    """Which gradients somebody asks for."""

    decay: bool
    recurrent: bool
    extra: tuple[str, ...]  # of the parameters that only firing depends on


class _Later(NamedTuple):
    """Gradients that a step hands to the one before it; ``None`` where nobody asks."""

    V: jax.Array
    spk: jax.Array | None
    charged: jax.Array | None  # of the membrane that the later step reached, for the sum below
    decay: jax.Array | None
    extra: dict[str, Any]


def _backward(rules: LeakyRules, kept: Any, cotangents: Any) -> Any:
    parameters, wanted, state, V_pre = kept
    (of_V, of_spk), of_trace = cotangents
    decay, recurrent = parameters.decay, parameters.recurrent
    nothing = jnp.zeros_like(state.V)
    of_drive_from = jax.linear_transpose(rules.to_voltage, nothing)
    # One threshold a neuron and sample, so that their gradients are summed over the batch after the loop, not in it.
    every = {"V_th": jnp.broadcast_to(parameters.V_th, nothing.shape), "read": parameters.read}
    extra = {name: every[name] for name in wanted.extra}

    def fire(V_pre: jax.Array, extra: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
        firing, V_th = _firing(rules, extra.get("read", parameters.read)), extra.get("V_th", parameters.V_th)
        spk = firing.spikes(V_pre, V_th)
        return firing.after(V_pre, spk, V_th), spk

    def step(later: _Later, incoming: tuple[Any, Any, Any]) -> tuple[_Later, jax.Array]:
        V_pre, of_spk, of_V_pre = incoming
        (V, _), pull = jax.vjp(fire, V_pre, extra)
        of_charged, of_extra = pull((later.V, _sum(later.spk, of_spk, nothing)))
        of_charged = _sum(of_charged, of_V_pre)
        if rules.firing.clamped:
            of_charged = jnp.where(V_pre > 0, of_charged, 0)
        (of_drive,) = of_drive_from(of_charged)
        earlier = _Later(
            V=decay * of_charged,
            spk=None if recurrent is None else of_drive @ recurrent.T,
            charged=of_charged if wanted.decay else None,
            decay=later.decay + later.charged * V if wanted.decay else None,
            extra=jax.tree.map(jnp.add, later.extra, of_extra),
        )
        return earlier, of_drive

    start = _Later(
        V=_filled(of_V),
        spk=None if recurrent is None else _filled(of_spk),
        charged=nothing if wanted.decay else None,
        decay=nothing if wanted.decay else None,
        extra=jax.tree.map(jnp.zeros_like, extra),
    )
    given = [None if isinstance(g, SymbolicZero) else g for g in of_trace]
    if recurrent is None and not isinstance(of_spk, SymbolicZero):
        # The last spikes are also the state: without recurrence nothing else carries their gradient.
        last = jnp.zeros_like(V_pre).at[-1].set(of_spk)
        given[0] = last if given[0] is None else given[0] + last
    first, of_drives = jax.lax.scan(step, start, (V_pre, *given), reverse=True)

    found = jax.tree.map(jnp.zeros_like, parameters)._replace(**first.extra)
    if wanted.decay:
        found = found._replace(decay=gathered(first.decay + first.charged * state.V, jnp.shape(decay)))
    if "V_th" in extra:
        found = found._replace(V_th=gathered(first.extra["V_th"], jnp.shape(parameters.V_th)))
    if wanted.recurrent:
        found = found._replace(recurrent=_of_recurrent(rules, parameters, state, V_pre, of_drives))
    of_state = LeakyState(first.V, nothing if first.spk is None else first.spk)
    return found, of_state, of_drives


def _of_recurrent(
    rules: LeakyRules, parameters: LeakyParameters, state: LeakyState, V_pre: jax.Array, of_drives: jax.Array
) -> jax.Array:
    """Return the gradient of the recurrent weights: one product over all steps."""
    before = jnp.concatenate([state.spk[None], _spikes(rules, parameters, V_pre[:-1])])
    n = before.shape[-1]
    return before.reshape(-1, n).T @ of_drives.reshape(-1, n)


def _each(function: Callable[[Any], Any], tree: Any) -> Any:
    return jax.tree.map(function, tree, is_leaf=lambda leaf: isinstance(leaf, CustomVJPPrimal))


def _sum(*terms: jax.Array | None) -> jax.Array:
    """Return the sum of the terms that are there."""
    return functools.reduce(operator.add, [term for term in terms if term is not None])


def _filled(gradient: Any) -> jax.Array:
    return jnp.zeros(gradient.shape, gradient.dtype) if isinstance(gradient, SymbolicZero) else gradient
