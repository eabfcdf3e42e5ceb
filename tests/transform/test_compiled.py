"""Programs of rollouts outside of jit: compiled once if they are equal, and never taken for another one."""

from __future__ import annotations

import importlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

compiled = importlib.import_module("brainhw.transform.compiled")
XS = jnp.asarray(np.random.default_rng(0).random((8, 4, 6)) < 0.6, jnp.float32)


def lif(tau: Any = 20 * u.ms, weight: float = 0.3) -> brainstate.nn.Sequential:
    weights = np.random.default_rng(1).normal(weight, 0.2, (6, 5)).astype(np.float32) * u.mV
    return brainstate.nn.Sequential(bh.nn.LIFSynapse(6, 5, weight_init=weights), bh.nn.LIFLayer(5, tau=tau))


@pytest.fixture(autouse=True)
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_programs", {})


def in_jit(net: brainstate.nn.Module, xs: Any = XS) -> np.ndarray:
    return np.asarray(brainstate.transform.jit(lambda xs: bh.rollout(net, xs)[0])(xs))


def test_equal_programs_are_compiled_once_whatever_the_weights() -> None:
    nets = [lif(), lif(weight=0.15), lif(weight=0.5)]
    found = [np.asarray(bh.rollout(net, XS)[0]) for net in nets for _ in range(2)]
    assert len(compiled._programs) == 1
    for i, net in enumerate(nets):
        np.testing.assert_array_equal(found[2 * i], found[2 * i + 1])
        np.testing.assert_array_equal(found[2 * i], in_jit(net))
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize(
    "other",
    [
        lambda: bh.rollout(lif(), XS[:4]),
        lambda: bh.rollout(lif(), XS, record=("layers.1.V",)),
        lambda: bh.rollout(lif(), XS, layerwise=False),
    ],
)
def test_another_program_is_another_one(other: Any) -> None:
    bh.rollout(lif(), XS)
    before = dict(compiled._programs)
    other()
    assert len(compiled._programs) == len(before) + 1


def test_time_constants_and_precision_are_not_mixed_up() -> None:
    for tau in (5.0, 20.0, 80.0):
        net = lif(tau * u.ms)
        np.testing.assert_array_equal(bh.rollout(net, XS)[0], in_jit(net))
    with brainstate.environ.context(precision=64):
        net, xs = lif(), np.asarray(XS, np.float64)
        spikes, seen = bh.rollout(net, xs, record=("layers.1.V",))
        assert seen["layers.1.V"].dtype == np.float64
        np.testing.assert_array_equal(spikes, in_jit(net, xs))


class Calls(brainstate.nn.Module):
    """A module that calls a Python function in each step."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function, self.in_size, self.out_size = function, (6,), (6,)

    def update(self, x: jax.Array) -> jax.Array:
        return jax.pure_callback(self.function, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def test_a_program_that_calls_python_is_not_kept() -> None:
    for factor in (1.0, 2.0, 3.0):
        outputs = bh.rollout(Calls(lambda x, factor=factor: np.asarray(factor * x, np.float32)), XS)[0]
        np.testing.assert_array_equal(outputs, factor * XS)
    assert compiled._programs == {}


def test_programs_with_loops_of_numba_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    xs = (np.random.default_rng(2).random((20, 32, 128)) < 0.05).astype(np.float32)
    weights = [np.random.default_rng(3).normal(mean, 0.1, (128, 128)).astype(np.float32) * u.mV for mean in (0.1, 0.2)]
    nets = [
        brainstate.nn.Sequential(
            bh.nn.LIFSynapse(128, 128, weight_init=one),
            bh.nn.LIFLayer(128, tau=20 * u.ms, topology="RC", recurrent_init=one),
        )
        for one in weights
    ]
    texts = []
    as_text = jax.stages.Lowered.as_text
    monkeypatch.setattr(jax.stages.Lowered, "as_text", lambda self: texts.append(as_text(self)) or texts[-1])
    found = [np.asarray(bh.rollout(net, xs)[0]) for net in nets]
    assert "brainevent_numba_ffi_" in texts[0]
    assert len(compiled._programs) == 1
    for net, spikes in zip(nets, found, strict=True):
        np.testing.assert_array_equal(spikes, in_jit(net, xs))
    assert not np.array_equal(*found)


def test_only_the_last_programs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_MAX_PROGRAMS", 2)
    for n in (2, 3, 2, 4):
        bh.rollout(lif(), XS[:n])
    assert len(compiled._programs) == 2
    first = next(iter(compiled._programs))
    bh.rollout(lif(), XS[:2])
    assert next(iter(compiled._programs)) != first


def test_gradients_outside_of_jit() -> None:
    net = lif()
    weight = net.layers[0].weight

    def loss() -> jax.Array:
        return jnp.sum(bh.rollout(net, XS, record=("layers.1.V",))[1]["layers.1.V"].mantissa)

    bh.rollout(net, XS)
    gradient = brainstate.transform.grad(loss, {"weight": weight})
    eager, whole = gradient()["weight"], brainstate.transform.jit(gradient)()["weight"]
    assert np.abs(eager.mantissa).max() > 0
    np.testing.assert_allclose(eager.mantissa, whole.mantissa, rtol=1e-5, atol=1e-6)


def test_threads_share_programs() -> None:
    nets = [lif(weight=w) for w in (0.15, 0.3, 0.4, 0.5)]

    def run(net: brainstate.nn.Module) -> np.ndarray:
        with brainstate.environ.context(dt=1.0 * u.ms):  # the setting of the test belongs to its thread
            return np.asarray(bh.rollout(net, XS)[0])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, nets))
    for net, spikes in zip(nets, found, strict=True):
        np.testing.assert_array_equal(spikes, in_jit(net))
