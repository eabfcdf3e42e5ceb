"""``init_all_states`` made new states; a function compiled before went on with the old ones, where it had left them.

Seen with brainstate's own way to start an epoch: states made outside, then a compiled time loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

T, B, N = 12, 2, 3
X = 0.6 * np.random.default_rng(0).random((T, B, N)).astype(np.float32)


class Volts(brainstate.nn.Module):
    """A layer without a synapse, read by its membrane."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def update(self, x: Any) -> Any:
        self.layer(x * u.mV)
        return self.layer.V.value.to(u.mV).mantissa


NETS: dict[str, Callable[[], Any]] = {
    "LIF": lambda: Volts(bh.nn.LIFLayer(N, tau=20 * u.ms)),
    "CubaLIF": lambda: Volts(bh.nn.CubaLIFLayer(N)),
    "ALIF": lambda: Volts(bh.nn.ALIFLayer(N)),
    "fractional": lambda: Volts(bh.nn.FractionalLIFLayer(N, tau=5 * u.ms)),
    "fractional, all states": lambda: Volts(
        bh.nn.FractionalLIFLayer(
            N, tau=5 * u.ms, method="cn", kernel="dense", horizon=T, reset="subtract", history="clear"
        )
    ),
    "readout": lambda: bh.nn.LeakyReadout(N, N, tau=20 * u.ms),
}


@pytest.mark.parametrize("kind", NETS)
def test_a_compiled_loop_starts_from_rest_after_init_all_states(kind: str) -> None:
    net = NETS[kind]()
    brainstate.nn.init_all_states(net, batch_size=B)
    run = brainstate.transform.jit(lambda x: brainstate.transform.for_loop(net.update, x))
    first = run(X)
    assert np.abs(first).max() > 0
    brainstate.nn.init_all_states(net, batch_size=B)
    np.testing.assert_array_equal(run(X), first)


def test_states_of_another_batch_are_compiled_for_anew() -> None:
    net = NETS["LIF"]()
    run = brainstate.transform.jit(lambda x: brainstate.transform.for_loop(net.update, x))
    brainstate.nn.init_all_states(net, batch_size=B)
    first = run(X)
    brainstate.nn.init_all_states(net)
    assert net.layer.V.value.shape == (N,)
    np.testing.assert_array_equal(run(X[:, 0]), first[:, 0])
    assert net.layer.V.value.shape == (N,)


def test_another_method_of_a_fractional_layer_has_its_own_states() -> None:
    layer = bh.nn.FractionalLIFLayer(N, method="cn")
    layer.method = "gl"
    assert set(layer.states(brainstate.HiddenState)) == set(
        bh.nn.FractionalLIFLayer(N, method="gl").states(brainstate.HiddenState)
    )
    assert layer(jnp.ones(N) * u.mV).shape == (N,)
