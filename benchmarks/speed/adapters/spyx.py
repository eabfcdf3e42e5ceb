"""Adapter of Spyx (JAX, flax.nnx): its neurons in ``spyx.nn.run`` under ``jax.jit``.

``spyx`` runs a ``Sequential`` of Spyx as in its quickstart. ``spyx_ahead`` is tuned by hand. It computes the matrix
products of the input and of the readout once, before and after ``run``.
"""

from __future__ import annotations

import functools
from typing import Any

from benchmarks.speed.adapters import xla
from benchmarks.speed.cases import BETA, Definition, Problem
from benchmarks.speed.contract import Adapter, Calls, Offer

__all__ = ["ADAPTER"]


def _build(problem: Problem, device: str, *, ahead: bool) -> Calls:
    import jax.numpy as jnp
    from flax import nnx
    from spyx import axn
    from spyx import nn as snn

    size, rngs = problem.size, nnx.Rngs(0)
    options: dict[str, Any] = {"beta": BETA, "activation": axn.superspike(problem.definition.slope), "rngs": rngs}
    neurons = snn.RLIF((size.n,), **options) if problem.is_recurrent else snn.LIF((size.n,), **options)
    parts = [nnx.Linear(size.n_in, size.n, use_bias=False, rngs=rngs), neurons]
    parts[0].kernel[...] = jnp.asarray(problem.weights["w_in"])
    if problem.is_recurrent:
        neurons.recurrent_w[...] = jnp.asarray(problem.weights["w_rec"])
    if size.n_out:
        parts.append(nnx.Linear(size.n, size.n_out, use_bias=False, rngs=rngs))
        parts[2].kernel[...] = jnp.asarray(problem.weights["w_out"])
        parts.append(snn.LI((size.n_out,), beta=BETA, rngs=rngs))
    net = snn.Sequential(*parts)

    def is_weight(path: Any, value: Any) -> bool:
        return path[-1] in ("kernel", "recurrent_w")

    graph, weights, rest = nnx.split(net, is_weight, ...)

    def run(weights: Any, xs: Any) -> Any:
        net = nnx.merge(graph, weights, rest)
        if not ahead:
            return snn.run(net, xs)[0]
        layers = net.layers
        out, _ = snn.run(layers[1], layers[0](xs))
        if len(layers) > 2:
            out, _ = snn.run(layers[3], layers[2](out))
        return out

    def step(state: Any, x: Any) -> Any:
        out, state = nnx.merge(graph, weights, rest)(x, state)
        return state, out

    def named(gradients: Any) -> dict[str, Any]:
        flat = {tuple(str(part) for part in path): value for path, value in nnx.to_flat_state(gradients)}
        names: dict[tuple[str, ...], str] = {
            ("0", "kernel"): "w_in",
            ("1", "recurrent_w"): "w_rec",
            ("2", "kernel"): "w_out",
        }
        return {names[path[-2:]]: leaf[...] for path, leaf in flat.items()}

    return xla.calls(problem, device, run, weights, step, net.initial_state(1), named=named)


_DEFINITION = Definition(late=True, shift=1, detach=False)
_DIFFERS = (
    "a spike is determined at the start of the next step, so it is emitted one step later and lowers the membrane "
    "potential after the leak; the gradient flows through the reset"
)

_SHARED: tuple[tuple[str, ...], str, dict[str, Offer]] = (
    ("spyx", "flax", "jax", "jaxlib"),
    "pip install spyx",
    {case: Offer(_DEFINITION, _DIFFERS) for case in ("lif_ff", "lif_rc", "readout")},
)

ADAPTER = Adapter(
    "spyx",
    *_SHARED,
    functools.partial(_build, ahead=False),
    note="spyx.nn.run on a Sequential of Spyx under jax.jit, as in its quickstart",
)
AHEAD = Adapter(
    "spyx_ahead",
    *_SHARED,
    functools.partial(_build, ahead=True),
    note="tuned by hand: matrix products of input and readout outside of the time loop",
)
