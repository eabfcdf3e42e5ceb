"""Adapter of snnTorch: ``Leaky`` and ``RLeaky`` in an eager Python loop over the steps.

The matrix products of the input and of the readout are computed once, before and after the loop. ``snntorch`` uses the
default options. ``snntorch_immediate`` uses ``reset_delay=False``.
"""

from __future__ import annotations

import functools
from typing import Any

from benchmarks.speed.adapters import torches
from benchmarks.speed.cases import BETA, Definition, Problem
from benchmarks.speed.contract import Adapter, Calls, Offer

__all__ = ["ADAPTER", "IMMEDIATE"]


def _build(problem: Problem, device: str, *, delay: bool) -> Calls:
    import snntorch as snn
    import torch
    from snntorch import surrogate

    place, size = torches.chosen_device(device), problem.size
    weights = {name: torches.weight(problem, name, place) for name in problem.weights}
    options = {"spike_grad": surrogate.fast_sigmoid(slope=problem.definition.slope), "reset_delay": delay}
    if problem.is_recurrent:
        neurons = snn.RLeaky(beta=BETA, linear_features=size.n, **options).to(place)
        neurons.recurrent.bias = None
        neurons.recurrent.weight = weights["w_rec"]
    else:
        neurons = snn.Leaky(beta=BETA, **options).to(place)
    readout = snn.Leaky(beta=BETA, reset_mechanism="none").to(place) if size.n_out else None

    def advance(state: Any, current: Any) -> tuple[Any, Any]:
        out = neurons(current, *state)
        return out[0], out if problem.is_recurrent else out[1:]

    def rest(like: Any) -> Any:
        return (torch.zeros_like(like),) * (1 + problem.is_recurrent)

    def run(xs: Any) -> Any:
        currents = torch.nn.functional.linear(xs, weights["w_in"])
        state, spikes = rest(currents[0]), []
        for current in currents:
            s, state = advance(state, current)
            spikes.append(s)
        out = torch.stack(spikes)
        if readout is None:
            return out
        drives, y, ys = torch.nn.functional.linear(out, weights["w_out"]), None, []
        y = torch.zeros_like(drives[0])
        for drive in drives:
            _, y = readout(drive, y)
            ys.append(y)
        return torch.stack(ys)

    def step(state: Any, x: Any) -> tuple[Any, Any]:
        current = torch.nn.functional.linear(x, weights["w_in"])
        neuron_state, y = (rest(current), torch.zeros(1, size.n_out, device=place)) if state is None else state
        out, neuron_state = advance(neuron_state, current)
        if readout is not None:
            _, y = readout(torch.nn.functional.linear(out, weights["w_out"]), y)
            out = y
        return out, (neuron_state, y)

    return torches.calls(problem, place, run, weights, step)


_CASES = ("lif_ff", "lif_rc", "readout")
_INSTALL = (("snntorch", "torch"), "pip install snntorch torch")

ADAPTER = Adapter(
    "snntorch",
    *_INSTALL,
    {
        case: Offer(Definition(late=True), "a spike lowers the membrane potential in the next step, after the leak")
        for case in _CASES
    },
    functools.partial(_build, delay=True),
    note="default options, eager loop; matrix products of input and readout outside of the loop",
)
IMMEDIATE = Adapter(
    "snntorch_immediate",
    *_INSTALL,
    {
        case: Offer(
            Definition(detach=False),
            "the gradient flows through the reset; if the membrane potential is still above the threshold after the "
            "reset, it is lowered again before the next spike is determined",
        )
        for case in _CASES
    },
    functools.partial(_build, delay=False),
    note="reset_delay=False, eager loop; matrix products of input and readout outside of the loop",
)
