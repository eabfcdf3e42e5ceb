"""Blocks of one sign: cutting weights into blocks, and the smallest change that gives one sign."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from brainhw.kernel.signs import block_signs, fold, from_blocks, nearest, to_blocks

BLOCK = 3
ALPHAS = (0.0, 0.1, 0.7, 3.0, 40.0, 1e6, np.inf)
examples = settings(derandomize=True, deadline=None, max_examples=40)

# Seven rows in blocks of three: two whole blocks and a tail. Sixteenths are exact, so sums and ties are exact too.
matrices = arrays(np.float32, (7, 2), elements=st.integers(-20, 20).map(lambda n: n / 16))


def blocks_of(weights: np.ndarray) -> list[np.ndarray]:
    """Cut the columns by plain slicing."""
    return [column[start : start + BLOCK] for column in weights.T for start in range(0, len(column), BLOCK)]


def hard(weights: np.ndarray) -> np.ndarray:
    return np.asarray(nearest(jnp.asarray(weights), block=BLOCK, axis="pre"))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.sampled_from(["pre", "post"]))
@settings(derandomize=True, deadline=None, max_examples=20)
def test_blocks_hold_what_slicing_gives_and_go_back_to_the_weights(
    n_in: int, n_out: int, block: int, axis: str
) -> None:
    weights = np.arange(1, n_in * n_out + 1, dtype=np.float32).reshape(n_in, n_out)
    blocks = np.asarray(to_blocks(jnp.asarray(weights), block, axis))
    lines = weights if axis == "pre" else weights.T
    assert blocks.shape == (-(-len(lines) // block), block, lines.shape[1])
    for b, line in itertools.product(range(blocks.shape[0]), range(blocks.shape[2])):
        run = lines[b * block : (b + 1) * block, line]
        np.testing.assert_array_equal(blocks[b, :, line], np.pad(run, (0, block - len(run))))
    np.testing.assert_array_equal(from_blocks(jnp.asarray(blocks), weights.shape, axis), weights)


@given(matrices)
@examples
def test_hard_signs_give_each_block_the_one_sign_that_costs_least(weights: np.ndarray) -> None:
    projected = hard(weights)
    for before, after in zip(blocks_of(weights), blocks_of(projected), strict=True):
        assert not (np.any(after > 0) and np.any(after < 0))
        cost = np.sum((after - before) ** 2)
        either = [np.sum((before - np.maximum(before, 0)) ** 2), np.sum((before - np.minimum(before, 0)) ** 2)]
        assert cost == min(either)
        if either[0] == either[1]:
            assert np.all(after >= 0)
        if min(either) == 0:
            np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(hard(projected), projected)
    sideways = nearest(jnp.asarray(weights.T), block=BLOCK, axis="post")
    np.testing.assert_array_equal(sideways, projected.T)


@given(matrices)
@examples
def test_folding_starts_from_the_weights_and_turns_them_over_without_growing(weights: np.ndarray) -> None:
    folded = [np.asarray(fold(jnp.asarray(weights), alpha, block=BLOCK, axis="pre")) for alpha in ALPHAS]
    np.testing.assert_array_equal(folded[0], weights)
    majority = np.where(np.asarray(block_signs(to_blocks(jnp.asarray(weights), BLOCK, "pre"))) < 0, -1.0, 1.0)
    signs = np.asarray(from_blocks(jnp.broadcast_to(majority, (3, BLOCK, 2)), weights.shape, "pre"))
    for weaker, stronger in itertools.pairwise(folded):
        assert np.all(stronger * signs >= weaker * signs - 1e-6)
    np.testing.assert_array_equal(folded[-1], np.abs(weights) * signs)
    assert np.all(np.abs(folded) <= np.abs(weights))
    np.testing.assert_array_equal(hard(folded[-1]), folded[-1])
    sideways = fold(jnp.asarray(weights.T), 0.7, block=BLOCK, axis="post")
    np.testing.assert_array_equal(sideways, folded[ALPHAS.index(0.7)].T)


def test_folding_follows_its_formula() -> None:
    weights = jnp.asarray([[0.5], [-0.2], [0.1]])
    clear = (0.25 - 0.04 + 0.01) / 0.30
    np.testing.assert_allclose(block_signs(weights[None]), [[[clear]]], rtol=1e-6)
    yields = 1 - 2 * np.tanh(1.5 * clear)
    folded = fold(weights, jnp.asarray(1.5), block=5, axis="pre")
    np.testing.assert_allclose(folded[:, 0], [0.5, -0.2 * yields, 0.1], rtol=1e-5)


def test_a_block_as_much_on_either_side_stays_mixed_until_signs_are_hard() -> None:
    even = jnp.asarray([[0.5], [-0.5]])
    np.testing.assert_array_equal(fold(even, 1e6, block=5, axis="pre"), even)
    np.testing.assert_array_equal(fold(even, jnp.inf, block=5, axis="pre"), [[0.5], [0.5]])
    np.testing.assert_array_equal(nearest(even, block=5, axis="pre"), [[0.5], [0.0]])


@pytest.mark.parametrize("alpha", ALPHAS)
def test_blocks_of_zeros_stay_zero_and_are_no_nan(alpha: float) -> None:
    zeros = jnp.zeros((7, 2))
    assert not np.any(fold(zeros, alpha, block=BLOCK, axis="pre"))
    gradient = jax.grad(lambda w: jnp.sum(fold(w, jnp.asarray(alpha), block=BLOCK, axis="pre")))(zeros)
    np.testing.assert_array_equal(gradient, np.ones((7, 2)))


@pytest.mark.parametrize("size", [1e-12, 1e-22, 1e-30])
def test_tiny_weights_that_agree_are_left_alone(size: float) -> None:
    """The squares of these weights are zero in float32, but the weights are not."""
    weights = jnp.asarray([[-1.0, 3.0], [-2.0, 0.0], [0.0, 1.0]]) * size
    np.testing.assert_array_equal(nearest(weights, block=BLOCK, axis="pre"), weights)


@pytest.mark.parametrize("size", [1e-30, 1e20])
def test_the_sign_of_a_block_does_not_depend_on_its_scale(size: float) -> None:
    weights = jnp.asarray([[1.0], [-3.0], [2.0]])
    np.testing.assert_allclose(block_signs(weights[None] * size), block_signs(weights[None]), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.7, np.inf])
@pytest.mark.parametrize("axis", ["pre", "post"])
def test_the_gradient_of_folding_is_that_of_its_weights(alpha: float, axis: str) -> None:
    rng = np.random.default_rng(0)
    weights, sensitivity = (jnp.asarray(rng.normal(size=(7, 4)), jnp.float32) for _ in range(2))
    folded = jax.jit(lambda w, a: fold(w, a, block=BLOCK, axis=axis))
    value, tangent = jax.jvp(lambda w: folded(w, alpha), (weights,), (sensitivity,))
    np.testing.assert_allclose(value, fold(weights, alpha, block=BLOCK, axis=axis), rtol=1e-6)
    # Each weight is multiplied by a factor that the gradient treats as a constant.
    np.testing.assert_allclose(tangent, sensitivity * value / weights, rtol=1e-5)
    reverse = jax.grad(lambda w: jnp.sum(sensitivity * folded(w, alpha)))(weights)
    np.testing.assert_allclose(reverse, tangent, rtol=1e-6)
