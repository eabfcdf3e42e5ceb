"""Spike functions with at most one spike per step, for any ``spk_fun=``.

Each is a :class:`braintools.surrogate.Surrogate`. The argument is dimensionless: the distance to the threshold in units
of the threshold, ``(V - V_th) / V_th``. On millivolts the same slope would give another width.

=====================  ====================  ===========  ============================  =================
class                  other name            peak at 0    tail of the derivative        area
=====================  ====================  ===========  ============================  =================
:class:`FastSigmoid`   ``fast_sigmoid``      1            ``1 / (slope x)**2``          ``2 / slope``
:class:`ATan`          ``atan``              alpha / 2    ``2 / (pi**2 alpha x**2)``    1
:class:`Sigmoid`       ``sigmoid``           slope / 4    ``slope exp(-slope |x|)``     1
=====================  ====================  ===========  ============================  =================

A peak above 1 amplifies the gradient at every step through a reset. :class:`FastSigmoid` has a peak of 1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import braintools
import brainunit as u
import jax
import jax.numpy as jnp

from brainhw._arguments import as_array, describe, number

__all__ = ["ATan", "FastSigmoid", "Sigmoid", "atan", "fast_sigmoid", "sigmoid"]

# Up to this value the peak of every derivative below (alpha / 2, slope / 4) fits float16, whose maximum is 65504.
_STEEPEST = 1e5


def _steepness(value: Any, *, call: str, name: str) -> float:
    steepness = number(value, call=call, name=name, positive=True)
    if steepness > _STEEPEST:
        raise ValueError(
            f"{call}: {name} must be at most {_STEEPEST:g}, beyond it the derivative leaves float16; got {value!r}."
        )
    return steepness


def _dimensionless(x: Any, *, call: str) -> jax.Array:
    if isinstance(x, u.Quantity):
        raise TypeError(
            f"{call}: x must be plain numbers; got {describe(x)}. "
            "Divide by the threshold first, as in (V - V_th) / V_th."
        )
    # Fast path for float arrays: outside `jit` every step passes here.
    plain = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating)
    array = jnp.asarray(x if plain else as_array(x, call=call, name="x"))
    # Convert integers and booleans to floats, because they carry no gradient. braintools 0.3 keeps them, 0.4 converts.
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.result_type(float))


# braintools' own primitive is not used: its second derivative is zero in version 0.3, but not in 0.4.
@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _spike(surrogate: _HardThreshold, x: jax.Array) -> jax.Array:
    # Select numbers instead of converting the comparison: IREE 3.13 cannot compile a product with a vector of converted
    # comparisons, as it occurs in a batch of one.
    return jnp.where(x >= 0, x.dtype.type(1), x.dtype.type(0))


@_spike.defjvp
def _spike_jvp(
    surrogate: _HardThreshold, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    return _spike(surrogate, x), surrogate.surrogate_grad(x) * tangent


class _HardThreshold(braintools.surrogate.Surrogate):
    """Hard threshold in float32 or better, compared by value. The next base class has derivative and smooth step."""

    _call: str
    _parameter: str
    alpha: float

    def __call__(self, x: Any) -> jax.Array:
        x = _dimensionless(x, call=self._call)
        # NaN compares false, so it would silently give no spike. Traced values cannot be checked.
        if not isinstance(x, jax.core.Tracer) and jnp.isnan(x).any():
            raise ValueError(
                f"{self._call}: x holds {int(jnp.isnan(x).sum())} NaN of {x.size} value(s); find their source."
            )
        return _spike(self, x)

    def surrogate_grad(self, x: Any) -> jax.Array:
        """Return the derivative of the backward pass, with the shape and float type of ``x``."""
        return self._widened(self._derivative, x)

    def surrogate_fun(self, x: Any) -> jax.Array:
        """Return the smooth step that has this derivative, with the shape and float type of ``x``."""
        return self._widened(self._smooth, x)

    def _widened(self, formula: Callable[[jax.Array], jax.Array], x: Any) -> jax.Array:
        x = _dimensionless(x, call=self._call)
        # Compute in float32 at least: squares overflow float16 from 256 on.
        return formula(x if x.dtype.itemsize >= 4 else x.astype(jnp.float32)).astype(x.dtype)

    def _derivative(self, x: jax.Array) -> jax.Array:
        return super().surrogate_grad(x)

    def _smooth(self, x: jax.Array) -> jax.Array:
        return super().surrogate_fun(x)

    def __eq__(self, other: object) -> bool:
        return self.alpha == other.alpha if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self.alpha))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._parameter}={self.alpha})"

    def __pretty_repr_item__(self, key: str, value: Any) -> tuple[str, Any]:
        return self._parameter, value  # brainstate prints this name; braintools calls the attribute alpha


class ATan(_HardThreshold, braintools.surrogate.Arctan):
    r"""Spike where ``x >= 0``, with the derivative of an arc tangent.

    .. math:: \frac{\partial y}{\partial x} = \frac{\alpha / 2}{1 + (\frac{\pi}{2} \alpha x)^2}

    This is the derivative of NWAVE's ``atan`` and of :class:`braintools.surrogate.Arctan`. This class adds checks of
    the arguments, and correct results for arguments that overflow in half precision.

    Parameters
    ----------
    alpha : float, default 2.0
        Steepness, dimensionless, above 0 and at most 1e5. The peak is ``alpha / 2``.

    Raises
    ------
    TypeError, ValueError
        If ``alpha`` is not a plain number in its range, or if the object is called on a Quantity or complex numbers.

    Notes
    -----
    Values, gradients and ``surrogate_fun`` keep the float type of ``x`` and are finite for any finite ``x``.
    Integers and booleans become the default float type.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from brainhw.surrogate import ATan
    >>> spike = ATan(alpha=2.0)
    >>> print(spike(jnp.array([-0.5, 0.0, 0.5])))
    [0. 1. 1.]
    >>> print(spike.surrogate_grad(0.0))
    1.0
    """

    _call = "atan"
    _parameter = "alpha"

    def __init__(self, alpha: float = 2.0) -> None:
        super().__init__(alpha=_steepness(alpha, call=self._call, name=self._parameter))


class FastSigmoid(_HardThreshold, braintools.surrogate.InvSquareGrad):
    r"""Spike where ``x >= 0``, with the derivative of a fast sigmoid.

    .. math:: \frac{\partial y}{\partial x} = \frac{1}{(\mathrm{slope} \cdot |x| + 1)^2}

    This is the derivative of NWAVE's ``fast_sigmoid`` (from Zenke and Ganguli, SuperSpike, 2018) and of
    :class:`braintools.surrogate.InvSquareGrad`. This class adds checks of the arguments, correct results for arguments
    that overflow in half precision, and the smooth step that ``InvSquareGrad`` lacks.

    Parameters
    ----------
    slope : float, default 25.0
        Steepness, dimensionless, above 0 and at most 1e5. The peak is 1 for every slope.

    Raises
    ------
    TypeError, ValueError
        If ``slope`` is not a plain number in its range, or if the object is called on a Quantity or complex numbers.

    Notes
    -----
    Values, gradients and ``surrogate_fun`` keep the float type of ``x``. They are finite if ``slope * x`` is finite in
    float32 or better. Integers and booleans become the default float type. The derivative has a kink at 0; the second
    derivative there is that of the right side, ``-2 slope``. ``surrogate_fun`` stays within ``1 / slope`` of 0.5: its
    height is the area under the derivative, not 1.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from brainhw.surrogate import FastSigmoid
    >>> spike = FastSigmoid(slope=25.0)
    >>> print(spike(jnp.array([-0.5, 0.0, 0.5])))
    [0. 1. 1.]
    >>> print(jax.grad(spike)(0.12))
    0.0625
    """

    _call = "fast_sigmoid"
    _parameter = "slope"

    def __init__(self, slope: float = 25.0) -> None:
        super().__init__(alpha=_steepness(slope, call=self._call, name=self._parameter))

    @property
    def slope(self) -> float:
        """Steepness. braintools calls it ``alpha``."""
        return self.alpha

    def _smooth(self, x: jax.Array) -> jax.Array:
        return 0.5 + x / (1.0 + self.slope * jnp.abs(x))


class Sigmoid(_HardThreshold, braintools.surrogate.Sigmoid):
    r"""Spike where ``x >= 0``, with the derivative of a logistic function.

    .. math:: \frac{\partial y}{\partial x} = \frac{k e^{-k x}}{(e^{-k x} + 1)^2}
        = k \, \sigma(k x) \, \sigma(-k x), \quad k = \mathrm{slope}

    This is the derivative of NWAVE's ``sigmoid`` and of :class:`braintools.surrogate.Sigmoid`. It is computed in the
    form on the right: in float32 the form on the left is infinity over infinity below ``k x = -89``, and
    ``k sigma(k x) (1 - sigma(k x))`` is zero above ``k x = 18``, but not below ``-18``.

    Parameters
    ----------
    slope : float, default 25.0
        Steepness ``k``, dimensionless, above 0 and at most 1e5. The peak is ``slope / 4``.

    Raises
    ------
    TypeError, ValueError
        If ``slope`` is not a plain number in its range, or if the object is called on a Quantity or complex numbers.

    Notes
    -----
    Values, gradients and ``surrogate_fun`` keep the float type of ``x`` and are finite for any finite ``x``.
    Integers and booleans become the default float type.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from brainhw.surrogate import Sigmoid
    >>> spike = Sigmoid(slope=4.0)
    >>> print(spike(jnp.array([-0.5, 0.0, 0.5])))
    [0. 1. 1.]
    >>> print(spike.surrogate_grad(0.0))
    1.0
    """

    _call = "sigmoid"
    _parameter = "slope"

    def __init__(self, slope: float = 25.0) -> None:
        super().__init__(alpha=_steepness(slope, call=self._call, name=self._parameter))

    @property
    def slope(self) -> float:
        """Steepness. braintools calls it ``alpha``."""
        return self.alpha

    def _derivative(self, x: jax.Array) -> jax.Array:
        z = self.slope * x
        return self.slope * (jax.nn.sigmoid(z) * jax.nn.sigmoid(-z))  # with these brackets x and -x give the same bits

    def _smooth(self, x: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(self.slope * x)


# Names used by NWAVE and snnTorch.
atan = ATan
fast_sigmoid = FastSigmoid
sigmoid = Sigmoid
