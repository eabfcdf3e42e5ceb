"""Convolution and pooling of images against their definitions, with gradients, under jit and over sequences."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_oracle import convolved, pooled

from brainhw.interop.nir.image_parts import Convolution, Pooling
from brainhw.interop.nir.windows import Window
from brainhw.nn.protocols import weight_slot_of

pytestmark = pytest.mark.no_dt


def random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@st.composite
def convolutions(draw, axes: int):
    """Weight, bias, input, window and groups of a convolution that fits."""

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, most)) for _ in range(axes))

    kernel, stride, dilation = each(1, 3), each(1, 3), each(1, 2)
    pads = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(axes))
    space = tuple(d * (k - 1) + 1 + draw(st.integers(0, 4)) for k, d in zip(kernel, dilation, strict=True))
    groups = draw(st.integers(1, 3))
    n_in, n_out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    weight = random(1, n_out, n_in // groups, *kernel)
    bias = random(2, n_out) if draw(st.booleans()) else None
    return weight, bias, random(3, n_in, *space), Window(kernel, stride, pads, dilation), groups


def assert_is_the_definition(weight, bias, x, window: Window, groups: int) -> None:
    module = Convolution(weight, bias, x.shape, window, groups)
    wanted = convolved(x, weight, bias, window.stride, window.pads, window.dilation, groups)
    assert module.out_size == wanted.shape
    np.testing.assert_allclose(module(x), wanted, atol=1e-5)


@settings(max_examples=12, derandomize=True, deadline=None)
@given(convolutions(axes=2))
def test_a_convolution_of_planes_is_its_definition(case) -> None:
    assert_is_the_definition(*case)


@settings(max_examples=6, derandomize=True, deadline=None)
@given(convolutions(axes=1))
def test_a_convolution_of_lines_is_its_definition(case) -> None:
    assert_is_the_definition(*case)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize(
    "window",
    [
        Window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
        Window((3, 2), (1, 2), ((1, 1), (1, 1)), (1, 1)),
        Window((2, 3), (3, 1), ((0, 0), (2, 2)), (1, 1)),
    ],
    ids=str,
)
def test_pooling_is_its_definition(window: Window, mean: bool) -> None:
    x = random(0, 3, 6, 5)
    module = Pooling(x.shape, window, mean=mean)
    wanted = pooled(x, window.kernel, window.stride, window.pads, mean)
    assert module.out_size == wanted.shape
    np.testing.assert_allclose(module(x), wanted, atol=1e-5)


WINDOW = Window((3, 2), (2, 1), ((1, 1), (0, 0)), (1, 2))


def a_convolution(unit: u.Unit = u.UNITLESS) -> Convolution:
    return Convolution(random(1, 4, 1, 3, 2), random(2, 4), (2, 5, 6), WINDOW, groups=2, unit=unit)


@pytest.mark.parametrize("leading", [(), (3,), (7, 3)], ids=str)
def test_every_leading_axis_is_free_and_jit_gives_the_same_numbers(leading: tuple[int, ...]) -> None:
    xs = random(5, *leading, 2, 5, 6)
    for module in (a_convolution(), Pooling((2, 5, 6), WINDOW._replace(dilation=(1, 1)), mean=True)):
        whole = module.update_sequence(xs)
        assert whole.shape == (*leading, *module.out_size)
        np.testing.assert_allclose(brainstate.transform.jit(module.update)(xs), whole, atol=1e-6)
        for place in np.ndindex(*leading):
            np.testing.assert_allclose(module(xs[place]), whole[place], atol=1e-6)


def test_the_gradients_are_those_of_the_definition() -> None:
    """A linear function: the slope along any direction is the function of that direction."""
    module, x = a_convolution(u.mV), random(6, 2, 5, 6)
    c = random(7, *module.out_size)
    params = module.states(brainstate.ParamState)

    def loss(x):
        return jnp.sum(c * module(x).to(u.mV).mantissa)

    grads, of_x = brainstate.transform.grad(loss, params, argnums=0)(jnp.asarray(x))
    geometry = (WINDOW.stride, WINDOW.pads, WINDOW.dilation, 2)
    dw, dx, weight = random(8, 4, 1, 3, 2), random(9, 2, 5, 6), u.get_mantissa(module.weight.value)
    assert np.sum(u.get_mantissa(grads["weight",]) * dw) == pytest.approx(
        np.sum(c * convolved(x, dw, None, *geometry)), rel=1e-4
    )
    assert np.sum(of_x * dx) == pytest.approx(np.sum(c * convolved(dx, np.asarray(weight), None, *geometry)), rel=1e-4)
    np.testing.assert_allclose(u.get_mantissa(grads["bias",]), c.sum((1, 2)), rtol=1e-4)
    pool = Pooling((2, 5, 6), WINDOW._replace(dilation=(1, 1)), mean=False)
    c = random(7, *pool.out_size)
    slope = jax.grad(lambda x: jnp.sum(c * pool(x)))(jnp.asarray(x))
    wanted = np.sum(c * pooled(dx, (3, 2), (2, 1), WINDOW.pads, mean=False))
    assert np.sum(slope * dx) == pytest.approx(wanted, rel=1e-4)


def test_the_weight_is_known_to_initialisers_and_the_unit_is_that_of_the_drive() -> None:
    module = a_convolution(u.mV)
    slot = weight_slot_of(module)
    assert (slot.unit, slot.out_axis, slot.value.shape) == (u.mV, 0, (4, 1, 3, 2))
    assert module(random(0, 2, 5, 6)).unit == u.mV


def test_an_image_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Convolution\.update: the input must have shape \[\.\.\., 2, 5, 6\]"):
        a_convolution()(random(0, 5, 2, 6))
    with pytest.raises(ValueError, match=r"Pooling\.update: the last axis of the input must have length 6"):
        Pooling((2, 5, 6), WINDOW, mean=True)(random(0, 5, 6, 2))
    with pytest.raises(ValueError, match=r"Pooling\.update: the input contains 60 NaN"):
        Pooling((2, 5, 6), WINDOW, mean=True)(np.full((2, 5, 6), np.nan))
