"""Adapter of Norse: LIF with box current lifted over time, and ``LIFRecurrent`` for recurrent cases, both eager.

In the feed-forward case, the matrix product of the input is computed once, before the time loop. ``LIFRecurrent``
computes it in each step.
"""

from __future__ import annotations

from typing import Any

from benchmarks.speed import cases
from benchmarks.speed.adapters import torches
from benchmarks.speed.cases import BETA, Definition, Problem
from benchmarks.speed.contract import Adapter, Calls, Offer

__all__ = ["ADAPTER"]

DT_S = cases.DT_MS * 1e-3
SCALE = 1 / (1 - BETA)
"""Factor on the weights. Norse multiplies the input by ``dt / tau``, set to ``1 - beta``; the factor compensates it."""


def _build(problem: Problem, device: str) -> Calls:
    import torch
    from norse.torch.functional.lif import LIFParameters
    from norse.torch.functional.lif_box import (
        LIFBoxFeedForwardState,
        LIFBoxParameters,
        lif_box_feed_forward_step,
    )
    from norse.torch.functional.lift import lift
    from norse.torch.functional.reset import reset_subtract
    from norse.torch.module.lif import LIFRecurrent

    place, size = torches.chosen_device(device), problem.size
    weights = {name: torches.weight(problem, name, place, scale=SCALE) for name in problem.weights}
    scales = dict.fromkeys(weights, SCALE)

    def number(value: float) -> Any:
        return torch.as_tensor(value, device=place)

    common = {"tau_mem_inv": number((1 - BETA) / DT_S), "v_leak": number(0.0), "v_th": number(1.0)}
    common |= {"v_reset": number(0.0), "method": "super"}
    if problem.is_recurrent:
        # A current that lasts for one step acts like a voltage step.
        layer = LIFRecurrent(
            size.n_in,
            size.n,
            LIFParameters(tau_syn_inv=number(1 / DT_S), **common),
            input_weights=weights["w_in"],
            recurrent_weights=weights["w_rec"],
            autapses=True,
            dt=DT_S,
        ).to(place)
        return torches.calls(
            problem, place, lambda xs: layer(xs)[0], weights, lambda state, x: layer(x[None], state), scales=scales
        )
    lifted = lift(lif_box_feed_forward_step, LIFBoxParameters(reset_method=reset_subtract, **common))

    def layer_from(state: Any, xs: Any) -> tuple[Any, Any]:
        currents = torch.nn.functional.linear(xs, weights["w_in"])
        state = LIFBoxFeedForwardState(v=torch.zeros_like(currents[0])) if state is None else state
        return lifted(currents, state=state)

    return torches.calls(
        problem,
        place,
        lambda xs: layer_from(None, xs)[0],
        weights,
        lambda state, x: layer_from(state, x[None]),
        scales=scales,
    )


_SURROGATE = "its fast sigmoid has slope 1 for any requested slope"

ADAPTER = Adapter(
    "norse",
    ("norse", "torch"),
    "pip install norse torch",
    {
        "lif_ff": Offer(Definition(detach=False, slope=1.0), f"the gradient flows through the reset; {_SURROGATE}"),
        "lif_rc": Offer(
            Definition(reset="zero", slope=1.0), f"a spike resets the membrane potential to zero; {_SURROGATE}"
        ),
    },
    _build,
    note="lift(lif_box_feed_forward_step) with the matrix product of the input outside of the loop, or "
    "LIFRecurrent; eager",
)
