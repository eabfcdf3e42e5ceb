"""Max pooling between layers: the values and the gradient of ``jax.lax.reduce_window``, to the bit."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.transform.pooling import max_pool, with_cheap_gradient


def reduced(x: Any, window: tuple[int, ...]) -> Any:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")


@pytest.mark.parametrize(
    ("shape", "window"),
    [((3, 6, 4, 2), (1, 2, 2, 1)), ((3, 7, 5, 2), (1, 2, 2, 1)), ((4, 9), (1, 3)), ((2, 5), (1, 1))],
)
def test_values_and_gradients_are_those_of_reduce_window_ties_included(
    shape: tuple[int, ...], window: tuple[int, ...]
) -> None:
    # Three values on so many places: nearly every window has a tie.
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, shape), jnp.float32)
    weights = jnp.arange(1.0, reduced(x, window).size + 1).reshape(reduced(x, window).shape)
    np.testing.assert_array_equal(max_pool(x, window), reduced(x, window))
    found, expected = (jax.grad(lambda x, f=f: (weights * f(x, window) ** 2).sum())(x) for f in (max_pool, reduced))
    np.testing.assert_array_equal(found, expected)
    assert np.any(found)


@pytest.mark.parametrize(
    ("stride", "padding", "replaced"),
    [(2, "VALID", True), (1, "VALID", False), (3, "VALID", False), (2, "SAME", False)],
)
def test_only_windows_without_overlap_and_padding_are_replaced(stride: int, padding: str, replaced: bool) -> None:
    window, strides = (1, 2, 2, 1), (1, stride, stride, 1)
    pool = jax.make_jaxpr(lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, padding))
    (eqn,) = pool(jnp.ones((2, 5, 5, 1))).eqns
    assert (with_cheap_gradient(eqn) is not eqn) == replaced


def test_a_network_with_pooling_learns_as_step_by_step() -> None:
    brainstate.random.seed(0)
    net = brainstate.nn.Sequential(
        brainstate.nn.Conv2d((8, 8, 1), 4, 3, padding="VALID"),
        brainstate.nn.MaxPool2d(2, 2),
        lambda x: 3 * x * u.mV,
        bh.nn.LIFLayer((3, 3, 4), tau=5 * u.ms),
        brainstate.nn.Flatten(in_size=(3, 3, 4)),
        bh.nn.LIFSynapse(36, 3, weight_init=np.random.default_rng(1).normal(0.2, 0.5, (36, 3)) * u.mV),
        bh.nn.LIFLayer(3, tau=5 * u.ms),
    )
    xs = jnp.asarray(np.random.default_rng(0).random((6, 2, 8, 8, 1)) < 0.4, jnp.float32)
    weights = net.states(brainstate.ParamState)

    def gradients(**options: Any) -> Any:
        def loss() -> Any:
            return (bh.rollout(net, xs, **options)[0].sum(0) ** 2).sum()

        return jax.tree.leaves(brainstate.transform.jit(brainstate.transform.grad(loss, weights))())

    layers, steps = gradients(), gradients(layerwise=False)
    assert any(np.any(g) for g in layers)
    for one, other in zip(layers, steps, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(jnp.abs(other).max()))
