"""Max pooling and convolutions between layers: values and gradients equal those of JAX."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.transform.cpu_gradients import cheap_gradients, max_pool


def reduced(x: Any, window: tuple[int, ...]) -> Any:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "window"),
    [((3, 6, 4, 2), (1, 2, 2, 1)), ((3, 7, 5, 2), (1, 2, 2, 1)), ((4, 9), (1, 3)), ((2, 5), (1, 1))],
)
def test_values_and_gradients_are_those_of_reduce_window_ties_included(
    shape: tuple[int, ...], window: tuple[int, ...]
) -> None:
    # Only three distinct values in so many places: nearly every window has a tie.
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

    def pool(x: Any) -> Any:
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, padding)

    assert ("custom_vjp" in str(jax.make_jaxpr(cheap_gradients(pool))(jnp.ones((2, 5, 5, 1))))) == replaced


CONVOLUTIONS = {
    "image": ((5, 9, 8, 1), (3, 3, 1, 4), {}),
    "two channels, stride and padding": ((5, 9, 8, 2), (3, 2, 2, 4), {"window_strides": (2, 3), "padding": "SAME"}),
    "many channels, dilation": ((5, 9, 8, 6), (3, 3, 6, 2), {"rhs_dilation": (2, 1), "padding": ((1, 2), (0, 3))}),
    "one axis": ((3, 20, 2), (5, 2, 3), {"dimension_numbers": ("NWC", "WIO", "NWC")}),
    "channels first": ((3, 2, 7, 7), (4, 2, 3, 3), {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}),
    "three axes": ((2, 4, 5, 6, 1), (2, 2, 3, 1, 2), {"dimension_numbers": ("NDHWC", "DHWIO", "NDHWC")}),
    "images of unequal pieces": ((7, 40, 40, 4), (7, 7, 4, 2), {}),
    "more channels than patches serve": ((3, 6, 6, 16), (3, 3, 16, 4), {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_values_and_gradients_of_convolutions_are_those_of_jax(kind: str) -> None:
    of_x, of_weight, options = CONVOLUTIONS[kind]
    options = {"window_strides": (1,) * (len(of_x) - 2), "padding": "VALID"} | options
    options.setdefault("dimension_numbers", ("NHWC", "HWIO", "NHWC"))
    # JAX would compile a program for the random numbers of each shape.
    rng = np.random.default_rng(0)
    given = tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in (of_x, of_weight))

    def plain(x: Any, weight: Any) -> Any:
        return jax.lax.conv_general_dilated(x, weight, **options)

    cheap = cheap_gradients(plain)
    assert "custom_vjp" in str(jax.make_jaxpr(cheap)(*given))
    outputs, back = jax.vjp(cheap, *given)
    expected, back_plain = jax.vjp(plain, *given)
    np.testing.assert_array_equal(outputs, expected)
    gradient = jnp.asarray(rng.normal(size=outputs.shape), jnp.float32)
    for one, other in zip(back(gradient), back_plain(gradient), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(jnp.abs(other).max()))


@pytest.mark.parametrize(
    "options",
    [{"feature_group_count": 2}, {"lhs_dilation": (2, 1)}, {"padding": ((-1, 0), (0, 0))}, {"batch_group_count": 2}],
)
def test_other_convolutions_keep_their_gradients(options: dict[str, Any]) -> None:
    x, weight = jnp.ones((4, 6, 6, 2)), jnp.ones((3, 3, 2 // options.get("feature_group_count", 1), 4))

    def plain(x: Any) -> Any:
        given = {"window_strides": (1, 1), "padding": ((0, 0), (0, 0))} | options
        return jax.lax.conv_general_dilated(x, weight, dimension_numbers=("NHWC", "HWIO", "NHWC"), **given)

    assert "custom_vjp" not in str(jax.make_jaxpr(cheap_gradients(plain))(x))


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
