"""Adapter of brainhw: layers in a ``Sequential``, run with ``rollout`` under ``jit``, and with ``stream`` for steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.speed import cases
from benchmarks.speed.adapters import xla
from benchmarks.speed.cases import CASES, Problem
from benchmarks.speed.contract import Adapter, Calls, Offer

__all__ = ["ADAPTER"]


def _layers(problem: Problem) -> tuple[list[Any], dict[str, Any]]:
    """Return the modules of the network, and its weights under their names in the problem."""
    import brainunit as u

    import brainhw as bh

    size, w, mV = problem.size, problem.weights, u.mV
    tau, spike = cases.TAU_MS * u.ms, bh.surrogate.fast_sigmoid(slope=problem.definition.slope)
    if problem.neuron == "fractional":
        synapse = bh.nn.LIFSynapse(size.n_in, size.n, weight_init=w["w_in"] * mV)
        options = {"alpha": cases.ALPHA, "tau": cases.FRACTIONAL_TAU * u.ms, **bh.nn.spikede_preset()}
        readout = bh.nn.LIFSynapse(size.n, size.n_out, weight_init=w["w_out"] * mV)
        layers = [synapse, bh.nn.FractionalLIFLayer(size.n, **options), readout]
        return layers, {"w_in": synapse.weight, "w_out": readout.weight}
    if cases.is_chip(problem.case):
        v1 = problem.neuron == "h1v1"
        of_synapse, of_layer = (bh.nn.H1v1Synapse, bh.nn.H1v1Layer) if v1 else (bh.nn.H1v2Synapse, bh.nn.H1v2Layer)
        synapse = of_synapse(size.n_in, size.n, weight_init=w["w_in"])
        layer = of_layer(size.n, tau, topology="RC", recurrent_init=w["w_rec"], spk_fun=spike)
    else:
        synapse = bh.nn.LIFSynapse(size.n_in, size.n, weight_init=w["w_in"] * mV)
        if problem.neuron == "alif":
            layer = bh.nn.ALIFLayer(size.n, w_rec=w["w_rec"] * mV, bias=cases.BIAS * mV, w_ahp=cases.W_AHP * mV)
        elif problem.is_recurrent:
            layer = bh.nn.LIFLayer(size.n, tau, topology="RC", recurrent_init=w["w_rec"] * mV, spk_fun=spike)
        else:
            layer = bh.nn.LIFLayer(size.n, tau, spk_fun=spike)
    layers, named = [synapse, layer], {"w_in": synapse.weight}
    if problem.is_recurrent:
        named["w_rec"] = layer.recurrent_weight
    if size.n_out:
        readout = bh.nn.LeakyReadout(size.n, size.n_out, tau, weight_init=w["w_out"])
        layers.append(readout)
        named["w_out"] = readout.weight
    return layers, named


def _build(problem: Problem, device: str) -> Calls:
    import brainstate
    import brainunit as u
    import jax
    import jax.numpy as jnp

    import brainhw as bh

    bh.keep_memory()
    kind = xla.check_device(device)
    layers, weights = _layers(problem)
    net = brainstate.nn.Sequential(*layers)
    xs, pattern = jnp.asarray(problem.x), jnp.asarray(problem.pattern)
    dt = (cases.FRACTIONAL_DT if problem.neuron == "fractional" else cases.DT_MS) * u.ms
    bh.prepare_net(net, problem.size.B)

    def run(xs: Any) -> Any:
        with brainstate.environ.context(dt=dt):
            return u.get_mantissa(bh.rollout(net, xs)[0])

    forward = brainstate.transform.jit(run)
    both = brainstate.transform.jit(
        brainstate.transform.grad(lambda xs, pattern: xla.mean_loss(run(xs), pattern), weights, return_value=True)
    )
    x = jnp.asarray(problem.x[0, :1])
    streams: list[Any] = []

    def stream() -> None:
        if not streams:
            # Create the stream only now, because it changes the states of the network to the shape of one sample.
            with brainstate.environ.context(dt=dt):
                streams.append(bh.stream(net, 1))
        jax.block_until_ready(u.get_mantissa(streams[0](x)))

    return Calls(
        forward=lambda: jax.block_until_ready(forward(xs)),
        both=lambda: jax.block_until_ready(both(xs, pattern)),
        step=stream,
        outputs=lambda: np.asarray(forward(xs)),
        gradients=lambda: {name: np.asarray(u.get_mantissa(g)) for name, g in both(xs, pattern)[0].items()},
        temp_bytes={
            "forward": lambda: forward.compile(xs).memory_analysis().temp_size_in_bytes,
            "both": lambda: both.compile(xs, pattern).memory_analysis().temp_size_in_bytes,
        },
        device_peak=xla.device_peak,
        device=kind,
    )


ADAPTER = Adapter(
    "brainhw",
    ("brainhw", "brainstate", "brainunit", "braintools", "jax", "jaxlib"),
    "pip install brainhw",
    {case: Offer() for case in CASES},
    _build,
    note="rollout in brainstate.transform.jit after keep_memory(); effective weights in every call; stream for steps",
)
