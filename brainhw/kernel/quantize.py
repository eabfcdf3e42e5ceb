"""Grid of the weights that a few bits can represent, and rounding of trainable weights to this grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, final

import jax
import jax.numpy as jnp

from brainhw._arguments import as_array, as_key, check_finite, describe, number, positive_int
from brainhw.chip import BITS, ChipSpec, get_family
from brainhw.kernel.precision import wide

__all__ = ["WeightGrid", "check_bits", "lowest_code", "stored_grid"]


@final
@dataclass(frozen=True)
class WeightGrid:
    r"""Grid of the values that a weight of ``bits`` bits can have. It is symmetric about zero and includes zero.

    .. math:: w_c = c\,\Delta, \quad c \in \{-n, \dots, n\}, \quad n = 2^{b-1} - 1, \quad \Delta = w_{max} / n

    The most negative of the :math:`2^b` codes is not used, so that the grid ends at :math:`\pm w_{max}`. With
    ``lowest``, the step is the same, but the most negative value is the smallest multiple of the step that is not below
    ``lowest``. The grid may then include the code :math:`-2^{b-1}`.

    Parameters
    ----------
    limit : float
        Largest weight :math:`w_{max}`, dimensionless, greater than zero.
    bits : int
        Number of bits :math:`b` of a weight, 2 to 16.
    lowest : float, optional
        Most negative weight, less than zero. The default ``None`` means ``-limit``.

    Raises
    ------
    TypeError
        If ``limit`` or ``lowest`` is not a number, or if ``bits`` is not an integer. The message names the argument.
    ValueError
        If an argument is out of range. The message names the argument.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from brainhw.kernel import WeightGrid
    >>> grid = WeightGrid(0.9, 5)
    >>> grid.n_levels, round(grid.step, 3)
    (31, 0.06)
    >>> print(grid.codes(jnp.array([0.0, 0.1, -0.9, 2.0])))
    [  0   2 -15  15]
    """

    limit: float
    bits: int
    lowest: float | None = None

    def __post_init__(self) -> None:
        # Convert to plain floats, because a Decimal is accepted as a number but cannot be multiplied by a float.
        object.__setattr__(self, "limit", float(number(self.limit, call="WeightGrid", name="limit", positive=True)))
        check_bits(self.bits, call="WeightGrid", name="bits")
        if self.lowest is not None:
            object.__setattr__(self, "lowest", float(number(self.lowest, call="WeightGrid", name="lowest")))
            if self.lowest >= 0:
                raise ValueError(f"WeightGrid: lowest must be less than zero; got {self.lowest:g}.")

    @property
    def largest_code(self) -> int:
        """Code of the weight ``limit``, ``2**(bits - 1) - 1``."""
        return 2 ** (self.bits - 1) - 1

    @property
    def lowest_code(self) -> int:
        """Most negative code. It is ``-largest_code`` unless ``lowest`` is set."""
        if self.lowest is None:
            return -self.largest_code
        # Without the factor 1 + 1e-6, a rounding error of the division could exclude the last level.
        return -min(int(-self.lowest / self.step * (1 + 1e-6)), self.largest_code + 1)

    @property
    def n_levels(self) -> int:
        """Number of values of the grid."""
        return self.largest_code - self.lowest_code + 1

    @property
    def _range(self) -> tuple[float, float]:
        # Use the end of the range instead of the last level. Weights between the last level and the end of the range
        # are rounded and not clipped, so their gradient must not be zero.
        if self.lowest is None:
            return -self.limit, self.limit
        return max(self.lowest, -(self.largest_code + 1) * self.step), self.limit

    @property
    def step(self) -> float:
        """Distance between neighbouring values."""
        return self.limit / self.largest_code

    def codes(self, weights: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return the integer code of each weight, as int32.

        Parameters
        ----------
        weights : jax.Array
            Weights of any shape. Weights beyond the limit get the code of the limit.
        key : jax.Array, optional
            PRNG key for stochastic rounding. The probability of rounding up is the fractional part of
            ``weights / step``, so the mean over many keys is the weight itself. With ``None`` (default), weights are
            rounded to the nearest code, and ties to the even code.
        """
        weights, key = _checked(weights, key, "WeightGrid.codes")
        # Reject NaN, because the conversion to int32 would return an arbitrary code.
        check_finite(weights, call="WeightGrid.codes", name="weights")
        return self._rounded(weights, key).astype(jnp.int32)

    def values(self, codes: jax.Array, dtype: Any = None) -> jax.Array:
        """Return the weights for the codes, ``codes * step``."""
        call = "WeightGrid.values"
        codes = jnp.asarray(as_array(codes, call=call, name="codes"))
        if not (jnp.issubdtype(codes.dtype, jnp.floating) or jnp.issubdtype(codes.dtype, jnp.integer)):
            raise TypeError(f"{call}: codes must be integers; got {describe(codes)}.")
        check_finite(codes, call=call, name="codes")
        return self._values(codes, jnp.result_type(float) if dtype is None else _float_type(dtype, call))

    def _values(self, codes: jax.Array, dtype: Any) -> jax.Array:
        return _clipped_product(codes, self.step, self._range, dtype)

    def quantize(self, weights: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Round each weight to a value of the grid. The result is differentiable.

        The gradient is the straight-through estimator (Y. Bengio, N. Leonard and A. Courville, arXiv:1308.3432). It is
        1 for weights up to the limit. It is 0 beyond the limit, where weights are clipped and small changes have no
        effect.

        The arguments are the same as for :meth:`codes`. The result has the shape and dtype of ``weights``.
        """
        weights, key = _checked(weights, key, "WeightGrid.quantize")
        return _straight_through(weights, self._values(self._rounded(weights, key), weights.dtype), self._range)

    def _rounded(self, weights: jax.Array, key: jax.Array | None) -> jax.Array:
        return _nearest_codes(jax.lax.stop_gradient(weights), key, self.step, (self.lowest_code, self.largest_code))


# These two functions are compiled, because outside jit JAX would compile each of their operations for each shape. The
# numbers of the grid are arguments, so that all grids use the same programs.
@partial(jax.jit, static_argnames="dtype", inline=True)
def _clipped_product(codes: jax.Array, step: float, ends: tuple[float, float], dtype: Any) -> jax.Array:
    # Half precision and integers can represent neither the step nor large codes, so compute in float32.
    exact = wide(dtype)
    values = jnp.asarray(codes, exact) * jnp.asarray(step, exact)
    # Because of a rounding error, n * step may exceed the limit. Without the clip it would count as out of range.
    low, high = ends
    return jnp.clip(values.astype(dtype), jnp.asarray(low, dtype), jnp.asarray(high, dtype))


@partial(jax.jit, inline=True)
def _nearest_codes(weights: jax.Array, key: jax.Array | None, step: float, ends: tuple[int, int]) -> jax.Array:
    weights = weights.astype(wide(weights.dtype))
    steps = weights / jnp.asarray(step, weights.dtype)
    nearest = jnp.round(steps)
    if key is not None:
        low = jnp.floor(steps)
        up = jax.random.uniform(key, steps.shape, steps.dtype) < steps - low
        # A weight on the grid may differ from its grid value by a rounding error. Such a weight must not be rounded to
        # a different value.
        on_grid = jnp.abs(steps - nearest) <= 2 * jnp.finfo(steps.dtype).eps * jnp.abs(steps)
        nearest = jnp.where(on_grid, nearest, low + up)
    return jnp.clip(nearest, *ends)


def _checked(weights: Any, key: Any, call: str) -> tuple[jax.Array, jax.Array | None]:
    if key is None and isinstance(weights, jax.Array) and jnp.issubdtype(weights.dtype, jnp.floating):
        return weights, None
    weights = jnp.asarray(as_array(weights, call=call, name="weights"))
    if not jnp.issubdtype(weights.dtype, jnp.floating):
        weights = weights.astype(jnp.result_type(float))
    return weights, as_key(key, call)


def _float_type(dtype: Any, call: str) -> Any:
    try:
        found = jnp.dtype(dtype) if isinstance(dtype, (str, type, jnp.dtype)) else None
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"{call}: dtype must be a floating-point type, such as jnp.float32; got {describe(dtype)}.")
    return found


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _straight_through(weights: jax.Array, rounded: jax.Array, limits: tuple[float, float]) -> jax.Array:
    return rounded


@_straight_through.defjvp
def _straight_through_jvp(
    limits: tuple[float, float], primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    weights, rounded = primals
    # A projection may set a weight exactly to the limit. The gradient is not zero there, so that the weight can become
    # smaller again.
    low, high = (jnp.asarray(end, weights.dtype) for end in limits)
    return rounded, jnp.where((weights >= low) & (weights <= high), tangents[0], 0)


def check_bits(bits: object, *, call: str, name: str) -> int:
    """Return ``bits`` as an int. Raise if it is not a supported number of bits."""
    found = positive_int(bits, call=call, name=name)
    if found not in BITS:
        raise ValueError(
            f"{call}: {name} must be between {BITS[0]} (which gives the codes -1, 0 and 1) and {BITS[-1]}; got "
            f"{describe(bits)}."
        )
    return found


def stored_grid(chip: ChipSpec, bits: int) -> Any:
    """Return the grid of weights with ``bits`` bits that a chip can store, as defined by its family.

    The result has the same attributes and methods as :class:`WeightGrid`.
    """
    own = get_family(chip.family, call="stored_grid").weight_grid
    return WeightGrid(chip.weight_limit, bits, chip.weight_lowest) if own is None else own(chip, bits)


def lowest_code(grid: Any) -> int:
    """Return the most negative code of a grid. A grid without an attribute ``lowest_code`` is symmetric."""
    return int(getattr(grid, "lowest_code", -grid.largest_code))
