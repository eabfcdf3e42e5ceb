"""The same equations in plain JAX, with one ``jax.lax.scan`` over the steps. ``agree`` uses them as reference.

``jax`` computes everything in the scan. ``jax_ahead`` moves matrix products that do not need spikes of the same layer
out of the scan, as an expert would. The products of the input are computed before the scan, and those of the readout
after it.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from benchmarks.speed import cases
from benchmarks.speed.adapters import xla
from benchmarks.speed.cases import BETA, CASES, Problem
from benchmarks.speed.contract import Adapter, Calls, Offer

__all__ = ["ADAPTER", "AHEAD"]


def _spike_function(definition: cases.Definition) -> Any:
    import jax
    import jax.numpy as jnp

    @jax.custom_jvp
    def spike(distance: Any) -> Any:
        return (distance >= 0).astype(distance.dtype)

    @spike.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (distance,), (tangent,) = primals, tangents
        if definition.surrogate == "step_pwl":
            slope = (distance >= -0.5).astype(distance.dtype)
        else:
            slope = 1 / (definition.slope * jnp.abs(distance) + 1) ** 2
        return spike(distance), slope * tangent

    return spike


def _count_function() -> Any:
    import jax
    import jax.numpy as jnp

    @jax.custom_jvp
    def count(V: Any) -> Any:
        return jnp.where(V >= 1, jnp.floor(V), 0.0)

    @count.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (V,), (tangent,) = primals, tangents
        return count(V), (V >= 0.5).astype(V.dtype) * tangent

    return count


def _lif(problem: Problem, w_rec: Any) -> Any:
    import jax

    d, spike = problem.definition, _spike_function(problem.definition)

    def advance(state: Any, current: Any) -> Any:
        V, s = state
        of_reset = jax.lax.stop_gradient(s) if d.detach else s
        if w_rec is not None:
            current = current + s @ w_rec
        V = BETA * V + current - (of_reset if d.late else 0.0)
        s = spike(V - 1)
        of_reset = jax.lax.stop_gradient(s) if d.detach else s
        if not d.late:
            V = V - of_reset if d.reset == "subtract" else V * (1 - of_reset)
        return (V, s), s

    return advance


def _h1(problem: Problem, w_rec: Any) -> Any:
    import jax

    spike = _spike_function(problem.definition)

    def advance(state: Any, charge: Any) -> Any:
        V, s = state
        # 1 fC on 100 fF is 10 mV. The threshold is 100 mV.
        V = jax.nn.relu(BETA * V + 10 * (charge + s @ w_rec))
        s = spike((V - 100) / 100)
        fired = jax.lax.stop_gradient(s)
        V = V * (1 - fired) if problem.neuron == "h1v1" else jax.nn.relu(V - 100 * fired)
        return (V, s), s

    return advance


def _alif(problem: Problem, w_rec: Any) -> Any:
    count = _count_function()

    def advance(state: Any, current: Any) -> Any:
        V, s, synapse, after = state
        synapse = BETA * (synapse + current + s @ w_rec)
        after = BETA * (after + cases.W_AHP * s)
        V = BETA * V + synapse + after + cases.BIAS
        s = count(V)
        return (V - s, s, synapse, after), s

    return advance


_NEURONS = {"lif": (_lif, 2), "h1v1": (_h1, 2), "h1v2": (_h1, 2), "alif": (_alif, 4)}


def _applied(problem: Problem, weights: dict[str, Any]) -> dict[str, Any]:
    """Return the effective weights. On a chip these are the charges of a spike in fC."""
    import jax.numpy as jnp

    curves = {"h1v1": lambda w: 1.034 * 1.8 * jnp.tanh(w / 1.8), "h1v2": lambda w: 0.45 * w}
    curve = curves.get(problem.neuron, lambda w: w)
    return {name: w if name == "w_out" else curve(w) for name, w in weights.items()}


def _step(problem: Problem, applied: dict[str, Any], *, ahead: bool) -> Any:
    make, _ = _NEURONS[problem.neuron]
    advance = make(problem, applied.get("w_rec"))

    def step(state: Any, x: Any) -> Any:
        neurons, y = state
        neurons, s = advance(neurons, x if ahead else x @ applied["w_in"])
        if "w_out" not in applied or ahead:
            return (neurons, y), s
        y = BETA * y + s @ applied["w_out"]
        return (neurons, y), y

    return step


def _rest(problem: Problem, batch: int) -> Any:
    import jax.numpy as jnp

    _, n_states = _NEURONS[problem.neuron]
    return (jnp.zeros((batch, problem.size.n)),) * n_states, jnp.zeros((batch, problem.size.n_out))


def _build(problem: Problem, device: str, *, ahead: bool) -> Calls:
    import jax
    import jax.numpy as jnp

    if problem.neuron == "fractional":
        return _build_fractional(problem, device)

    def run(weights: Any, xs: Any) -> Any:
        applied = _applied(problem, weights)
        step = _step(problem, applied, ahead=ahead)
        _, out = jax.lax.scan(step, _rest(problem, xs.shape[1]), xs @ applied["w_in"] if ahead else xs)
        if ahead and "w_out" in applied:
            drive = out @ applied["w_out"]
            _, out = jax.lax.scan(lambda y, d: (BETA * y + d,) * 2, jnp.zeros_like(drive[0]), drive)
        if problem.definition.shift:
            out = jnp.concatenate([jnp.zeros_like(out[:1]), out[:-1]])
        return out

    weights = {name: jnp.asarray(w) for name, w in problem.weights.items()}
    applied = _applied(problem, weights)
    return xla.calls(problem, device, run, weights, _step(problem, applied, ahead=False), _rest(problem, 1))


def _build_fractional(problem: Problem, device: str) -> Calls:
    """Return the calls of a fractional network that computes a sum over the whole past in each step."""
    import jax
    import jax.numpy as jnp

    steps, h, tau = problem.size.T, cases.FRACTIONAL_DT, cases.FRACTIONAL_TAU
    binomials = np.cumprod([1.0, *(1 - (1 + cases.ALPHA) / m for m in range(1, steps + 1))])
    # Row k has the weights of all earlier membrane potentials in the sum of step k + 1.
    ages = np.arange(1, steps + 1)[:, None] - np.arange(steps)[None, :]
    table = jnp.asarray(np.where(ages > 0, binomials[np.maximum(ages, 0)], 0.0), jnp.float32)

    @jax.custom_jvp
    def spike(u: Any) -> Any:
        return (u >= 0).astype(u.dtype)

    @spike.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (u,), (tangent,) = primals, tangents
        return spike(u), 2.5 / (1 + (math.pi / 2 * 5 * u) ** 2) * tangent

    def step(weights: Any, state: Any, x: Any) -> Any:
        history, V, k = state
        history = jax.lax.dynamic_update_index_in_dim(history, V, k, 0)
        drift = (x @ weights["w_in"] - V) / tau
        s = spike(V + drift - 1)
        slope = drift - jax.lax.stop_gradient(s) / tau
        V = h**cases.ALPHA * slope - jnp.einsum("t,tbn->bn", table[k], history)
        return (history, V, k + 1), s @ weights["w_out"]

    def rest(batch: int) -> Any:
        return jnp.zeros((steps, batch, problem.size.n)), jnp.zeros((batch, problem.size.n)), jnp.asarray(0)

    def run(weights: Any, xs: Any) -> Any:
        return jax.lax.scan(functools.partial(step, weights), rest(xs.shape[1]), xs)[1]

    weights = {name: jnp.asarray(w) for name, w in problem.weights.items()}
    return xla.calls(problem, device, run, weights, functools.partial(step, weights), rest(1))


_OFFERS = {case: Offer() for case in CASES}
_JAX = (("jax",), "pip install jax")

ADAPTER = Adapter(
    "jax",
    *_JAX,
    _OFFERS,
    functools.partial(_build, ahead=False),
    note="written by hand, everything in one scan; fractional neurons sum over the whole past in every step",
)
AHEAD = Adapter(
    "jax_ahead",
    *_JAX,
    {case: offer for case, offer in _OFFERS.items() if case != "fractional"},
    functools.partial(_build, ahead=True),
    note="written by hand; matrix products that do not need spikes of the same layer are outside of the scan",
)
