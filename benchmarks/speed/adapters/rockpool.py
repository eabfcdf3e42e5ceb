"""Adapter of Rockpool: ``LIFTorch`` for LIF and ``aLIFTorch`` for aLIF, through their public interface.

The matrix product of the input is computed once, before the module runs. Only weights are trained, as in all adapters.
"""

from __future__ import annotations

from typing import Any

from benchmarks.speed import cases
from benchmarks.speed.adapters import torches
from benchmarks.speed.cases import BETA, Definition, Problem
from benchmarks.speed.contract import Adapter, Calls, Offer

__all__ = ["ADAPTER"]

FADED = 2.0**-24
"""Decay factor of the synaptic current of ``LIFTorch``. It is so small that the current vanishes after one step."""


def _build(problem: Problem, device: str) -> Calls:
    import torch
    from rockpool.nn.modules import LIFTorch, aLIFTorch

    place, n = torches.chosen_device(device), problem.size.n
    # LIFTorch multiplies an input by FADED, so divide the weights by it. Powers of two cause no rounding errors.
    scale = 1.0 if problem.neuron == "alif" else 1 / FADED
    weights = {name: torches.weight(problem, name, place, scale=scale, transpose=False) for name in problem.weights}
    common: dict[str, Any] = {"threshold": torch.ones(n), "dt": cases.DT_MS * 1e-3}
    if problem.is_recurrent:
        common |= {"has_rec": True, "w_rec": weights["w_rec"].detach()}
    if problem.neuron == "alif":
        tau = torch.full((n,), cases.TAU_MS * 1e-3)
        module = aLIFTorch(
            (n, n),
            tau_mem=tau,
            tau_syn=tau.reshape(n, 1),
            tau_ahp=tau,
            w_ahp=torch.full((n,), cases.W_AHP),
            bias=torch.full((n,), cases.BIAS),
            **common,
        )
    else:
        module = LIFTorch(
            (n, n),
            leak_mode="decays",
            alpha=torch.full((n,), BETA),
            beta=torch.full((n, 1), FADED),
            bias=torch.zeros(n),
            max_spikes_per_dt=torch.tensor(1.0),
            **common,
        )
    module = module.to(place)
    for parameter in module.parameters().astorch():
        parameter.requires_grad_(False)
    if problem.is_recurrent:
        weights["w_rec"] = module.w_rec.requires_grad_(True)

    def run(xs: Any) -> Any:
        module.reset_state()
        return module(xs @ weights["w_in"])[0]

    def step(state: Any, x: Any) -> tuple[Any, Any]:
        if state is None:
            module.reset_state()
        return module((x @ weights["w_in"])[:, None])[0], True

    return torches.calls(
        problem,
        place,
        run,
        weights,
        step,
        scales=dict.fromkeys(weights, scale),
        transposed=False,
        batch_first=True,
    )


_LIF = Offer(
    Definition(detach=False, surrogate="step_pwl"),
    "it also has a synaptic current, whose time constant is set so short that it vanishes after one step; it uses its "
    "own piecewise linear surrogate; the gradient flows through the reset",
)

ADAPTER = Adapter(
    "rockpool",
    ("rockpool", "torch"),
    "pip install rockpool torch",
    {"lif_ff": _LIF, "lif_rc": _LIF, "alif": Offer()},
    _build,
    note="LIFTorch and aLIFTorch with fixed parameters; the matrix product of the input is computed once",
)
