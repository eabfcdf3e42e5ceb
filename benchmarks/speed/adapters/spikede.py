"""Adapter of spikeDE: fractional LIF in ``SNNWrapper`` with the Gruenwald-Letnikov solver and full memory."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

import numpy as np

from benchmarks.speed import cases
from benchmarks.speed.adapters import torches
from benchmarks.speed.cases import Problem
from benchmarks.speed.contract import Adapter, Calls, Offer

__all__ = ["ADAPTER"]


def _build(problem: Problem, device: str) -> Calls:
    os.environ["TORCHDYNAMO_DISABLE"] = "1"  # compilation takes seconds and gains nothing
    import torch
    from spikeDE import LIFNeuron, SNNWrapper

    place, size = torches.chosen_device(device), problem.size
    linear = torch.nn.Linear
    base = torch.nn.Sequential(
        linear(size.n_in, size.n, bias=False),
        LIFNeuron(tau=cases.FRACTIONAL_TAU, threshold=1.0),
        linear(size.n, size.n_out, bias=False),
    )
    with contextlib.redirect_stdout(io.StringIO()):
        net = SNNWrapper(base, integrator="fdeint", alpha=cases.ALPHA)
        net._set_neuron_shapes(input_shape=(1, size.n_in))
    net = net.to(place)
    layers = [module for module in net.modules() if isinstance(module, linear)]
    weights = {name: layer.weight for name, layer in zip(("w_in", "w_out"), layers, strict=True)}
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(torch.as_tensor(np.ascontiguousarray(problem.weights[name].T)))
    times = torch.arange(size.T, device=place) * cases.FRACTIONAL_DT

    def run(xs: Any) -> Any:
        return net(xs, times, method="gl")

    return torches.calls(problem, place, run, weights, None)


ADAPTER = Adapter(
    "spikede",
    ("spikeDE", "torch"),
    "install PhysAGI/spikeDE and kangqiyu/torchfde from GitHub with pip, and pip install torch torchdiffeq",
    {"fractional": Offer()},
    _build,
    note="SNNWrapper with the solver gl, without torch.compile; it cannot run step by step",
)
