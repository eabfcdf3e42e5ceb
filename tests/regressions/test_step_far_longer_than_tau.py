"""A slip of units between ``dt`` and ``tau`` was silent: 1 s beside 20 ms, or 20 us beside 1 ms, leaves no memory.

Errors about ``dt`` inside a compiled loop printed a tracer in place of the number. Seen in field case 25.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh

X = np.ones((4, 2, 3), np.float32)


def net_of(layer: Any) -> Any:
    return brainstate.nn.Sequential(bh.nn.LIFSynapse(3, 4), layer)


def said(net: Any, dt: u.Quantity, run: Callable[[Any], Any] = lambda net: bh.rollout(net, X)) -> list[str]:
    with warnings.catch_warnings(record=True) as caught, brainstate.environ.context(dt=dt):
        warnings.simplefilter("always")
        run(net)
    return [str(warning.message) for warning in caught]


SHORT, LONG, MS = 0.02 * u.ms, 20.0 * u.ms, 1.0 * u.ms
NOTHING_LEFT = "(decay factor exp(-dt/tau) = 1.9e-22)"
SLIPS: dict[str, tuple[Callable[[], Any], u.Quantity, str]] = {
    "dt in s": (
        lambda: bh.nn.LIFLayer(4, tau=LONG),
        1.0 * u.second,
        f"1000 ms, but layers.1.tau is 20 ms {NOTHING_LEFT}",
    ),
    "tau in us": (lambda: bh.nn.LIFLayer(4, tau=20.0 * u.us), MS, f"1 ms, but layers.1.tau is 0.02 ms {NOTHING_LEFT}"),
    "one neuron": (lambda: bh.nn.LIFLayer(4, tau=[20.0, 0.02, 20.0, 20.0] * u.ms), MS, f"0.02 ms {NOTHING_LEFT}"),
    "learnt": (lambda: bh.nn.LIFLayer(4, tau=brainstate.nn.Param(SHORT)), MS, "layers.1.tau is 0.02 ms"),
    "synapses": (lambda: bh.nn.CubaLIFLayer(4, tau_syn=SHORT), MS, "layers.1.tau_syn is 0.02 ms"),
    "adaptation": (lambda: bh.nn.ALIFLayer(4, tau_ahp=SHORT), MS, "layers.1.tau_ahp is 0.02 ms"),
    "fractional": (lambda: bh.nn.FractionalLIFLayer(4, tau=SHORT), MS, "layers.1.tau is 0.02 ms (dt/tau = 50"),
    "implicit": (
        lambda: bh.nn.FractionalLIFLayer(4, tau=SHORT, method="cn"),
        MS,
        "layers.1.tau is 0.02 ms (dt/tau = 50",
    ),
    "readout": (lambda: bh.nn.LeakyReadout(4, 2, tau=SHORT), MS, f"layers.1.tau is 0.02 ms {NOTHING_LEFT}"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_one_warning_states_the_decay_per_step(slip: str) -> None:
    make, dt, words = SLIPS[slip]
    messages = said(net_of(make()), dt, lambda net: bh.prepare_net(net, 2))
    assert len(messages) == 1
    assert words in messages[0]


def test_one_warning_a_net_names_every_layer_once() -> None:
    layers = [
        bh.nn.H1v2Synapse(3, 3),
        bh.nn.H1v2Layer(3, tau=LONG),
        bh.nn.H1v2Synapse(3, 3),
        bh.nn.H1v2Layer(3, tau=LONG),
    ]
    net = brainstate.nn.Sequential(*layers)

    def several(net: Any) -> None:
        bh.rollout(net, X)
        brainstate.transform.jit(lambda: bh.rollout(net, X)[0])()
        bh.stream(net, 2)(X[0])

    (message,) = said(net, 1.0 * u.second, several)
    assert [message.count(f"layers.{i}.tau is 20 ms {NOTHING_LEFT}") for i in (1, 3)] == [1, 1]
    # Another dt is another sentence.
    assert len(said(net, 0.5 * u.second, several)) == 1


@pytest.mark.parametrize("dt", [0.1, 1.0, 4.0])
def test_a_step_up_to_four_time_constants_is_nobodys_slip(dt: float) -> None:
    assert said(net_of(bh.nn.LIFLayer(4, tau=1.0 * u.ms)), dt * u.ms, lambda net: bh.prepare_net(net, 2)) == []


@pytest.mark.parametrize(
    ("dt", "error", "got"),
    [(0.0 * u.ms, ValueError, "0. ms"), (-1.0 * u.ms, ValueError, "-1. ms"), (1 * u.mV, TypeError, "1 mV")],
)
def test_a_bad_dt_is_printed_as_a_number_inside_a_loop(dt: u.Quantity, error: type[Exception], got: str) -> None:
    with (
        brainstate.environ.context(dt=dt),
        pytest.raises(error, match=rf"LIFLayer.update: dt must .* got {re.escape(got)} \("),
    ):
        bh.rollout(net_of(bh.nn.LIFLayer(4, tau=LONG)), X)
