"""Adapter of SpikingJelly: ``LIFNode`` with backend torch, in multi-step mode or, if recurrent, single-step mode.

Recurrent networks run in a Python loop. The matrix products of the input and of the readout are computed once, before
and after the time loop.
"""

from __future__ import annotations

from typing import Any

from benchmarks.speed.adapters import torches
from benchmarks.speed.cases import BETA, Problem
from benchmarks.speed.contract import Adapter, Calls, Offer

__all__ = ["ADAPTER"]

TAU_STEPS = 1 / (1 - BETA)
"""Time constant in steps. The decay factor of SpikingJelly is ``1 - 1 / tau``."""


def _build(problem: Problem, device: str) -> Calls:
    import torch
    from spikingjelly.activation_based import functional, neuron, surrogate

    place, size = torches.chosen_device(device), problem.size
    # The readout node of SpikingJelly multiplies the input by 1 / tau, so multiply its weights by tau.
    scales = {name: TAU_STEPS if name == "w_out" else 1.0 for name in problem.weights}
    weights = {name: torches.weight(problem, name, place, scale=scale) for name, scale in scales.items()}

    def nodes(mode: str) -> Any:
        return neuron.LIFNode(
            tau=TAU_STEPS,
            decay_input=False,
            v_reset=None,
            # The derivative of the soft sign is that of the fast sigmoid of the same slope, times half the slope.
            surrogate_function=surrogate.SoftSign(alpha=2.0),
            detach_reset=True,
            step_mode=mode,
        ).to(place)

    linear = torch.nn.functional.linear
    whole, single = nodes("m"), nodes("s")
    readout = neuron.NonSpikingLIFNode(tau=TAU_STEPS).to(place)

    def spikes_of(currents: Any, last: Any = None) -> Any:
        out = []
        for current in currents:
            last = single(current if last is None else current + linear(last, weights["w_rec"]))
            out.append(last)
        return torch.stack(out)

    def run(xs: Any) -> Any:
        for module in (whole, single):
            functional.reset_net(module)
        currents = linear(xs, weights["w_in"])
        out = spikes_of(currents) if problem.is_recurrent else whole(currents)
        if not size.n_out:
            return out
        return torch.stack(readout(linear(out, weights["w_out"])))

    def step(state: Any, x: Any) -> tuple[Any, Any]:
        if state is None:
            functional.reset_net(single)
        current = linear(x, weights["w_in"])
        if problem.is_recurrent and state is not None:
            current = current + linear(state, weights["w_rec"])
        out = single(current)
        return out, out

    # The readout node starts from rest in each call, so a network with a readout cannot run step by step.
    return torches.calls(problem, place, run, weights, None if size.n_out else step, scales=scales)


ADAPTER = Adapter(
    "spikingjelly",
    ("spikingjelly", "torch"),
    "pip install spikingjelly torch",
    {case: Offer() for case in ("lif_ff", "lif_rc", "readout")},
    _build,
    note="multi-step mode (if recurrent, single-step mode in a loop); matrix products outside of the loop",
)
