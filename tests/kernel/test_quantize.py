"""Grid of stored weights: what rounding keeps and changes, and its gradient."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from brainhw.kernel import WeightGrid

N = 48
EPS = float(np.finfo(np.float32).eps)
examples = settings(derandomize=True, deadline=None, max_examples=40)

grids = st.builds(WeightGrid, st.floats(1e-3, 1e3), st.integers(2, 16))
# Relative to the limit; half of the weights are beyond it.
shares = arrays(np.float32, N, elements=st.floats(-2, 2, width=32, allow_subnormal=False))
# One array that holds every code for every number of bits, so that only one shape is compiled.
EVERY_CODE = np.arange(-(2**15), 2**15)


def weights_of(grid: WeightGrid, share: np.ndarray) -> jax.Array:
    return jnp.asarray(share * np.float32(grid.limit))


def codes_of(grid: WeightGrid) -> jax.Array:
    return jnp.asarray(np.clip(EVERY_CODE, -grid.largest_code, grid.largest_code))


@pytest.mark.parametrize("limit", [0.9, 1.66])
@pytest.mark.parametrize("bits", range(2, 17))
def test_every_code_comes_back_from_its_value_eager_and_compiled(limit: float, bits: int) -> None:
    grid = WeightGrid(limit, bits)
    codes = codes_of(grid)
    values = grid.values(codes)
    np.testing.assert_array_equal(grid.codes(values), codes)
    np.testing.assert_array_equal(jax.jit(grid.codes)(values), codes)
    np.testing.assert_array_equal(grid.quantize(values), values)
    assert len(np.unique(values)) == grid.n_levels == 2**bits - 1


@given(grids)
@examples
def test_no_value_of_a_grid_lies_beyond_its_limit(grid: WeightGrid) -> None:
    """Not even by one unit in the last place: applied weights must be in range, and the gradient must pass."""
    largest = np.asarray(grid.values(jnp.asarray([-grid.largest_code, grid.largest_code])))
    assert np.all(np.abs(largest) <= np.float32(grid.limit))
    np.testing.assert_allclose(largest, [-grid.limit, grid.limit], rtol=2 * EPS)


@given(grids, shares)
@examples
def test_rounding_is_idempotent_and_the_same_compiled(grid: WeightGrid, share: np.ndarray) -> None:
    weights = weights_of(grid, share)
    once = grid.quantize(weights)
    np.testing.assert_array_equal(grid.quantize(once), once)
    np.testing.assert_array_equal(jax.jit(grid.quantize)(weights), once)
    assert once.dtype == weights.dtype


@given(grids, shares)
@examples
def test_codes_are_whole_numbers_of_the_grid_that_keep_order_sign_and_symmetry(
    grid: WeightGrid, share: np.ndarray
) -> None:
    weights = weights_of(grid, np.sort(share))
    codes, applied = np.asarray(grid.codes(weights)), np.asarray(grid.quantize(weights))
    assert codes.dtype == np.int32
    assert np.all(np.abs(codes) <= grid.largest_code)
    assert np.all(np.diff(codes) >= 0)
    assert np.all(np.diff(applied) >= 0)
    assert np.all(applied * np.asarray(weights) >= 0)
    np.testing.assert_array_equal(grid.codes(-weights), -codes)
    np.testing.assert_array_equal(grid.quantize(-weights), -applied)
    np.testing.assert_array_equal(applied, grid.values(jnp.asarray(codes)))
    assert not np.any(grid.quantize(jnp.zeros(N)))


@given(grids, shares)
@examples
def test_a_weight_moves_by_half_a_step_at_most_and_one_beyond_goes_to_the_limit(
    grid: WeightGrid, share: np.ndarray
) -> None:
    weights = weights_of(grid, share)
    moved = np.abs(np.asarray(grid.quantize(weights), float) - np.asarray(weights, float))
    inside = np.abs(share) <= 1
    assert np.all(moved[inside] <= grid.step / 2 + 4 * EPS * grid.limit)
    beyond = np.asarray(grid.codes(weights))[~inside]
    np.testing.assert_array_equal(beyond, np.sign(share[~inside]) * grid.largest_code)


def test_two_equally_near_levels_are_decided_for_the_even_code() -> None:
    grid = WeightGrid(1.5, 3)  # a step of one half, exact in binary
    weights = jnp.asarray([-1.25, -0.75, -0.25, 0.25, 0.75, 1.25])
    np.testing.assert_array_equal(grid.codes(weights), [-2, -2, 0, 0, 2, 2])


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize(("limit", "bits"), [(0.9, 5), (1.66, 5), (1.66, 2), (0.9, 16)])
def test_the_gradient_is_one_up_to_the_limit_itself_and_zero_beyond(limit: float, bits: int, stochastic: bool) -> None:
    grid, edge = WeightGrid(limit, bits), np.float32(limit)
    key = jax.random.key(0) if stochastic else None
    outside = np.nextafter(edge, np.float32(np.inf))
    weights = jnp.asarray([0.0, 0.3 * edge, -0.77 * edge, edge, -edge, outside, -outside, 2 * edge, -np.inf])
    wanted = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0], np.float32)
    sensitivity = jnp.arange(1.0, 10.0)

    backward = jax.grad(lambda w: jnp.sum(sensitivity * grid.quantize(w, key)))(weights)
    np.testing.assert_array_equal(backward, wanted * sensitivity)
    value, forward = jax.jvp(lambda w: grid.quantize(w, key), (weights,), (sensitivity,))
    np.testing.assert_array_equal(forward, wanted * sensitivity)
    np.testing.assert_array_equal(value, grid.quantize(weights, key))


@pytest.mark.parametrize(("limit", "bits"), [(0.9, 5), (1.66, 5), (1.66, 2)])
def test_a_rounded_weight_still_has_a_gradient(limit: float, bits: int) -> None:
    """After writing applied weights back into the master weights, training must continue."""
    grid = WeightGrid(limit, bits)
    values = grid.quantize(jnp.asarray([-3.0, -limit, 0.1, limit, 3.0]))
    np.testing.assert_array_equal(jax.grad(lambda w: jnp.sum(grid.quantize(w)))(values), np.ones(5))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("bits", [2, 5, 8, 12, 16])
def test_half_precision_stays_so_and_on_the_grid(dtype: Any, bits: int) -> None:
    """Codes are on the grid and rounding twice changes nothing, even if a step is below the precision."""
    grid = WeightGrid(0.9, bits)
    weights = jnp.linspace(-1.2, 1.2, N).astype(dtype)
    once = grid.quantize(weights)
    assert once.dtype == grid.quantize(weights, jax.random.key(0)).dtype == weights.dtype
    assert np.all(np.abs(grid.codes(weights)) <= grid.largest_code)
    np.testing.assert_array_equal(grid.quantize(once), once)
    gradient = jax.grad(lambda w: jnp.sum(grid.quantize(w)))(weights)
    assert gradient.dtype == weights.dtype
    np.testing.assert_array_equal(gradient, np.abs(np.linspace(-1.2, 1.2, N)) < 0.9)


def test_whole_numbers_are_read_as_weights_not_in_their_own_arithmetic() -> None:
    grid = WeightGrid(1.66, 5)
    np.testing.assert_array_equal(grid.codes(jnp.asarray([0, 1, -1])), grid.codes(jnp.asarray([0.0, 1.0, -1.0])))


# ---------------------------------------------------------------- stochastic rounding


def test_stochastic_rounding_is_unbiased_and_takes_only_the_two_neighbours() -> None:
    grid, draws = WeightGrid(0.9, 4), 20_000
    weights = np.linspace(-0.9, 0.9, 23).astype(np.float32)
    steps = weights.astype(float) / grid.step
    below = np.floor(steps + 1e-6)
    codes = np.asarray(grid.codes(jnp.broadcast_to(jnp.asarray(weights), (draws, 23)), jax.random.key(5)))
    assert np.all((codes == below) | (codes == below + 1))
    share = np.clip(steps - below, 0, 1)
    error = np.abs(codes.mean(axis=0) - steps)
    assert np.all(error <= 4.5 * np.sqrt(share * (1 - share) / draws) + 1e-5)
    assert np.sum((share > 0.1) & (share < 0.9)) > 10


@pytest.mark.parametrize("bits", [2, 5, 8, 16])
def test_stochastic_rounding_never_moves_what_is_on_the_grid(bits: int) -> None:
    grid = WeightGrid(0.9, bits)
    codes = codes_of(grid)
    values = grid.values(codes)
    for key in jax.random.split(jax.random.key(1), 8):
        np.testing.assert_array_equal(grid.codes(values, key), codes)


@given(grids, shares)
@examples
def test_stochastic_rounding_depends_on_its_key_alone(grid: WeightGrid, share: np.ndarray) -> None:
    weights, key = weights_of(grid, share), jax.random.key(3)
    codes = np.asarray(grid.codes(weights, key))
    np.testing.assert_array_equal(grid.codes(weights, key), codes)
    np.testing.assert_array_equal(grid.quantize(weights, key), grid.values(jnp.asarray(codes)))
    assert np.all(np.abs(codes) <= grid.largest_code)
    inside = np.abs(share) <= 1
    steps = np.clip(share, -1, 1).astype(float) * grid.largest_code
    assert np.all(np.abs(codes - steps)[inside] <= 1 + 4 * EPS * grid.largest_code)
    np.testing.assert_array_equal(codes[~inside], np.sign(share[~inside]) * grid.largest_code)


def test_another_key_rounds_otherwise_and_compiling_changes_nothing() -> None:
    grid, weights = WeightGrid(0.9, 5), jnp.linspace(-0.89, 0.89, 200)
    one, other = (np.asarray(grid.quantize(weights, jax.random.key(seed))) for seed in (0, 1))
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(jax.jit(grid.quantize)(weights, jax.random.key(0)), one)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("limit", "bits", "error", "message"),
    [
        (0.9, 1, ValueError, r"bits must be between 2 \(which gives the codes -1, 0 and 1\) and 16; got 1\."),
        (0.9, 17, ValueError, r"bits must be between 2 .* and 16; got 17\."),
        (0.9, 0, ValueError, "bits must be at least 1; got 0"),
        (0.9, True, ValueError, "bits must be at least 1; got True"),
        (0.9, 2.5, TypeError, "bits must be an integer; got 2.5"),
        (0.9, "5", TypeError, "bits must be an integer; got '5'"),
        (0.0, 5, ValueError, "limit must be greater than zero; got 0.0"),
        (-0.9, 5, ValueError, "limit must be greater than zero; got -0.9"),
        (float("nan"), 5, ValueError, "limit must be finite"),
        (float("inf"), 5, ValueError, "limit must be finite"),
        (None, 5, TypeError, "limit must be a number; got None"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(limit: Any, bits: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^WeightGrid: {message}"):
        WeightGrid(limit, bits)


def test_a_grid_never_changes_and_is_equal_by_value() -> None:
    grid = WeightGrid(0.9, 5)
    with pytest.raises(AttributeError):
        grid.bits = 6  # type: ignore[misc]
    assert grid == WeightGrid(0.9, 5)
    assert grid != WeightGrid(0.9, 4)
    assert len({grid, WeightGrid(0.9, 5)}) == 1
