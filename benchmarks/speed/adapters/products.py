"""Only the matrix products that a network of this shape needs, in JAX, for comparison.

Matrix products for feed-forward weights and for weight gradients are computed for many steps at once. Matrix products
with recurrent weights are computed once per step, forward and backward through time. The gradient of the hidden
activity is computed if a later weight needs it. There is no leak, threshold or reset. Steps are processed in pieces and
only sums are kept, because storing all results would take longer than the matrix products.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.speed.adapters import xla
from benchmarks.speed.cases import CASES, Problem
from benchmarks.speed.contract import Adapter, Calls, Offer

__all__ = ["ADAPTER"]


def _build(problem: Problem, device: str) -> Calls:
    import jax
    import jax.numpy as jnp

    kind = xla.check_device(device)
    size, rng = problem.size, np.random.default_rng(0)
    weights = {name: jnp.asarray(w) for name, w in problem.weights.items()}
    if problem.is_recurrent:
        # With this scale, recurrent activity neither grows nor decays to denormal numbers, which would be slow.
        weights["w_rec"] = jnp.asarray(rng.normal(0, 0.3 / np.sqrt(size.n), (size.n, size.n)), jnp.float32)
    xs, of_out = jnp.asarray(problem.x), jnp.asarray(problem.pattern)
    spikes = jnp.asarray(rng.random((size.T, size.B, size.n)) < 0.05, jnp.float32)
    of_hidden = jnp.asarray(rng.normal(0, 1, (size.T, size.B, size.n)), jnp.float32)

    length = next(k for k in range(max(1, 2**19 // (size.B * size.n)), 0, -1) if size.T % k == 0)

    def rows(a: Any) -> Any:
        return a.reshape(-1, a.shape[-1])

    def rounds(w: Any, h: Any, given: Any) -> Any:
        def one(h: Any, x: Any) -> Any:
            h = x + h @ w
            return h, h

        return jax.lax.scan(one, h, given)

    def one_piece(weights: Any, backward: bool) -> Any:
        def piece(carry: Any, parts: Any) -> Any:
            seen, h, of_h, gradients = carry
            xs, spikes, of_out, of_hidden = parts
            out = (rows(xs) @ weights["w_in"]).reshape(length, size.B, size.n)
            if "w_rec" in weights:
                h, out = rounds(weights["w_rec"], h, out)
            seen = seen + out.sum(0)
            if "w_out" in weights:
                h = h + (rows(spikes) @ weights["w_out"]).max()
            if backward:
                if "w_out" in weights:
                    of_hidden = (rows(of_out) @ weights["w_out"].T).reshape(spikes.shape)
                if "w_rec" in weights:
                    of_h, of_hidden = rounds(weights["w_rec"].T, of_h, of_hidden)
                factors = {"w_in": (xs, of_hidden), "w_rec": (spikes, of_hidden), "w_out": (spikes, of_out)}
                gradients = {k: g + rows(factors[k][0]).T @ rows(factors[k][1]) for k, g in gradients.items()}
            return (seen, h, of_h, gradients), None

        return piece

    def run(weights: Any, *parts: Any, backward: bool = False) -> Any:
        nothing = jnp.zeros((size.B, size.n))
        start = nothing, nothing, nothing, jax.tree.map(jnp.zeros_like, weights)
        cut = [part.reshape(-1, length, *part.shape[1:]) for part in parts]
        return jax.lax.scan(one_piece(weights, backward), start, tuple(cut))[0]

    def both(weights: Any, *parts: Any) -> Any:
        return run(weights, *parts, backward=True)

    def step(weights: Any, state: Any, x: Any) -> Any:
        h = x @ weights["w_in"]
        if "w_rec" in weights:
            h = h + state @ weights["w_rec"]
        return h, h @ weights["w_out"] if "w_out" in weights else h

    forward, forward_and_back, one = jax.jit(run), jax.jit(both), jax.jit(step)
    forward_args = both_args = (weights, xs, spikes, of_out, of_hidden)
    x, held = jnp.asarray(problem.x[0, :1]), [jnp.zeros((1, size.n))]

    def stream() -> None:
        held[0], out = one(weights, held[0], x)
        jax.block_until_ready(out)

    return Calls(
        forward=lambda: jax.block_until_ready(forward(*forward_args)),
        both=lambda: jax.block_until_ready(forward_and_back(*both_args)),
        step=stream,
        temp_bytes={
            "forward": lambda: forward.lower(*forward_args).compile().memory_analysis().temp_size_in_bytes,
            "both": lambda: forward_and_back.lower(*both_args).compile().memory_analysis().temp_size_in_bytes,
        },
        device_peak=xla.device_peak,
        device=kind,
    )


ADAPTER = Adapter(
    "products",
    ("jax",),
    "pip install jax",
    {case: Offer() for case in CASES},
    _build,
    note="only the matrix products of such a network, for comparison",
)
