"""Adapter of BrainPy: ``brainpy.state.LIF`` in ``brainstate.transform.for_loop`` under ``brainstate.transform.jit``.

The matrix product of the input and its weights is computed once, before the time loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.speed import cases
from benchmarks.speed.adapters import xla
from benchmarks.speed.cases import BETA, Definition, Problem
from benchmarks.speed.contract import Adapter, Calls, Offer

__all__ = ["ADAPTER"]

SCALE = 1 / (1 - BETA)
"""Factor on the weights. BrainPy multiplies the input current by ``1 - beta``, and this factor compensates for it."""


def _build(problem: Problem, device: str) -> Calls:
    import brainpy
    import brainstate
    import braintools
    import brainunit as u
    import jax
    import jax.numpy as jnp

    kind, size, dt = xla.check_device(device), problem.size, cases.DT_MS * u.ms
    neurons = brainpy.state.LIF(
        size.n,
        tau=cases.TAU_MS * u.ms,
        R=1.0 * u.ohm,
        V_th=1.0 * u.mV,
        spk_fun=braintools.surrogate.InvSquareGrad(alpha=problem.definition.slope),
        spk_reset="soft",
    )
    weights = {
        name: brainstate.ParamState(jnp.asarray(w) * np.float32(SCALE) * u.mA) for name, w in problem.weights.items()
    }
    spikes = brainstate.HiddenState(jnp.zeros((1, size.n)))

    def rest(batch: int) -> None:
        brainstate.nn.init_all_states(neurons, batch)
        spikes.value = jnp.zeros((batch, size.n))

    def one(current: Any) -> Any:
        if problem.is_recurrent:
            current = current + spikes.value @ weights["w_rec"].value
        out = neurons(current)
        if problem.is_recurrent:
            spikes.value = out
        return out

    def run(xs: Any) -> Any:
        with brainstate.environ.context(dt=dt):
            brainstate.nn.reset_all_states(neurons, size.B)
            spikes.value = jnp.zeros((size.B, size.n))
            return brainstate.transform.for_loop(one, xs @ weights["w_in"].value)

    def stream_one(x: Any) -> Any:
        with brainstate.environ.context(dt=dt):
            return one(x @ weights["w_in"].value)

    rest(size.B)
    xs, pattern, x = jnp.asarray(problem.x), jnp.asarray(problem.pattern), jnp.asarray(problem.x[0, :1])
    forward, step = brainstate.transform.jit(run), brainstate.transform.jit(stream_one)
    both = brainstate.transform.jit(
        brainstate.transform.grad(lambda xs, pattern: xla.mean_loss(run(xs), pattern), weights, return_value=True)
    )
    is_single: list[bool] = []

    def stream() -> None:
        if not is_single:
            rest(1)
            is_single.append(True)
        jax.block_until_ready(step(x))

    def gradients() -> dict[str, np.ndarray]:
        return {name: np.asarray(u.get_mantissa(g)) * SCALE for name, g in both(xs, pattern)[0].items()}

    return Calls(
        forward=lambda: jax.block_until_ready(forward(xs)),
        both=lambda: jax.block_until_ready(both(xs, pattern)),
        step=stream,
        outputs=lambda: np.asarray(forward(xs)),
        gradients=gradients,
        temp_bytes={
            "forward": lambda: forward.compile(xs).memory_analysis().temp_size_in_bytes,
            "both": lambda: both.compile(xs, pattern).memory_analysis().temp_size_in_bytes,
        },
        device_peak=xla.device_peak,
        device=kind,
    )


ADAPTER = Adapter(
    "brainpy",
    ("brainpy", "brainstate", "jax", "jaxlib"),
    "pip install brainpy",
    {case: Offer(Definition(detach=False), "the gradient flows through the reset") for case in ("lif_ff", "lif_rc")},
    _build,
    note="brainpy.state.LIF in for_loop and jit of brainstate; matrix product of the input outside of the loop",
)
