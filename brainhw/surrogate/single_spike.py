"""Spike functions that return at most one spike per step. Every layer accepts them as ``spk_fun``.

Each class is a :class:`braintools.surrogate.Surrogate`. Its argument ``x`` is the distance to the threshold divided by
the threshold, ``(V - V_th) / V_th``. ``x`` is dimensionless because the width of the derivative for a given slope would
otherwise depend on the unit. The table describes the derivative.

=====================  ====================  ===========  ============================  =================
class                  alias                 peak at 0    tail at large distance        area
=====================  ====================  ===========  ============================  =================
:class:`FastSigmoid`   ``fast_sigmoid``      1            ``1 / (slope x)**2``          ``2 / slope``
:class:`ATan`          ``atan``              alpha / 2    ``2 / (pi**2 alpha x**2)``    1
:class:`Sigmoid`       ``sigmoid``           slope / 4    ``slope exp(-slope |x|)``     1
=====================  ====================  ===========  ============================  =================

If gradients flow through the reset, a peak above 1 can amplify them at every step. :class:`FastSigmoid` has a peak of
1.
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

# Up to this value, the peak of every derivative below (alpha / 2 or slope / 4) does not exceed 65504, the maximum of
# float16.
_STEEPEST = 1e5


def _steepness(value: Any, *, call: str, name: str) -> float:
    steepness = number(value, call=call, name=name, positive=True)
    if steepness > _STEEPEST:
        raise ValueError(
            f"{call}: {name} must be at most {_STEEPEST:g}, because above it the derivative overflows float16; "
            f"got {value!r}."
        )
    return steepness


def _dimensionless(x: Any, *, call: str) -> jax.Array:
    if isinstance(x, u.Quantity):
        raise TypeError(
            f"{call}: x must be plain numbers; got {describe(x)}. "
            "Divide by the threshold first, as in (V - V_th) / V_th."
        )
    # Skip the check for float arrays, because outside `jit` this code runs in every step.
    plain = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating)
    array = jnp.asarray(x if plain else as_array(x, call=call, name="x"))
    # Convert integers and booleans to floats, because JAX has no gradients for them. braintools 0.4 converts them too,
    # but braintools 0.3 does not.
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.result_type(float))


# braintools defines a similar function, but its second derivative is zero in version 0.3 and nonzero in version 0.4.
@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _spike(surrogate: _HardThreshold, x: jax.Array) -> jax.Array:
    # Use `where` instead of converting the booleans to floats. IREE 3.13 cannot compile the product of a matrix with a
    # vector of converted booleans, which occurs for a batch of one sample.
    return jnp.where(x >= 0, x.dtype.type(1), x.dtype.type(0))


@_spike.defjvp
def _spike_jvp(
    surrogate: _HardThreshold, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    return _spike(surrogate, x), surrogate.surrogate_grad(x) * tangent


class _HardThreshold(braintools.surrogate.Surrogate):
    """Hard threshold with a surrogate derivative that is computed in float32 or wider.

    The second base class of each subclass is a surrogate of braintools. It defines the derivative, and a smooth
    function with this derivative. A subclass can override them with the methods ``_derivative`` and ``_smooth``. Two
    instances of the same class are equal if their steepness is equal.
    """

    _call: str
    _parameter: str
    alpha: float

    def __call__(self, x: Any) -> jax.Array:
        x = _dimensionless(x, call=self._call)
        # The comparison `x >= 0` is false for NaN, so NaN would cause neither a spike nor an error. Traced values
        # cannot be checked.
        if not isinstance(x, jax.core.Tracer) and jnp.isnan(x).any():
            raise ValueError(
                f"{self._call}: x contains NaN ({int(jnp.isnan(x).sum())} of {x.size} values). "
                "Find the first layer that computes NaN."
            )
        return _spike(self, x)

    def surrogate_grad(self, x: Any) -> jax.Array:
        """Return the derivative that the backward pass uses, with the shape and floating-point dtype of ``x``."""
        return self._widened(self._derivative, x)

    def surrogate_fun(self, x: Any) -> jax.Array:
        """Return the smooth step with derivative ``surrogate_grad(x)``; shape and floating dtype are those of ``x``."""
        return self._widened(self._smooth, x)

    def _widened(self, formula: Callable[[jax.Array], jax.Array], x: Any) -> jax.Array:
        x = _dimensionless(x, call=self._call)
        # Compute in float32 or wider, because the square of a value of 256 or more overflows float16.
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
        # Print the name of the argument instead of `alpha`, the name of the attribute in braintools.
        return self._parameter, value


class ATan(_HardThreshold, braintools.surrogate.Arctan):
    r"""Spike where ``x >= 0``; the surrogate derivative is that of an arc tangent.

    .. math:: \frac{\partial y}{\partial x} = \frac{\alpha / 2}{1 + (\frac{\pi}{2} \alpha x)^2}

    NWAVE's ``atan`` and :class:`braintools.surrogate.Arctan` have the same derivative. This class also checks its
    arguments, and computes in float32 where half precision would overflow.

    Parameters
    ----------
    alpha : float, default 2.0
        Steepness, dimensionless, positive and at most 1e5. The peak is ``alpha / 2``.

    Raises
    ------
    TypeError
        If ``alpha`` is not a plain number, or if the object is called with a Quantity or a complex array.
    ValueError
        If ``alpha`` is not positive or is greater than 1e5.

    Notes
    -----
    Spikes, gradients and ``surrogate_fun`` have the floating-point dtype of ``x`` and are finite for any finite ``x``.
    Integers and booleans are converted to the default floating-point dtype.

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
    r"""Spike where ``x >= 0``; the surrogate derivative is that of a fast sigmoid.

    .. math:: \frac{\partial y}{\partial x} = \frac{1}{(\mathrm{slope} \cdot |x| + 1)^2}

    NWAVE's ``fast_sigmoid`` (from Zenke and Ganguli, SuperSpike, 2018) and
    :class:`braintools.surrogate.InvSquareGrad` have the same derivative. This class also checks its arguments, computes
    in float32 where half precision would overflow, and defines ``surrogate_fun``, which ``InvSquareGrad`` does not.

    Parameters
    ----------
    slope : float, default 25.0
        Steepness, dimensionless, positive and at most 1e5. The peak is 1 for every slope.

    Raises
    ------
    TypeError
        If ``slope`` is not a plain number, or if the object is called with a Quantity or a complex array.
    ValueError
        If ``slope`` is not positive or is greater than 1e5.

    Notes
    -----
    Spikes, gradients and ``surrogate_fun`` have the floating-point dtype of ``x``. They are finite if ``slope * x`` is
    finite in float32 or wider. Integers and booleans are converted to the default floating-point dtype.

    The derivative has a kink at 0. The second derivative at 0 is defined as its limit from the right, ``-2 slope``.
    ``surrogate_fun`` rises from ``0.5 - 1 / slope`` to ``0.5 + 1 / slope``. Its height is thus the area under the
    derivative, ``2 / slope``, and not 1.

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
        """Steepness of the derivative; braintools calls it ``alpha``."""
        return self.alpha

    def _smooth(self, x: jax.Array) -> jax.Array:
        return 0.5 + x / (1.0 + self.slope * jnp.abs(x))


class Sigmoid(_HardThreshold, braintools.surrogate.Sigmoid):
    r"""Spike where ``x >= 0``; the surrogate derivative is that of a logistic function.

    .. math:: \frac{\partial y}{\partial x} = \frac{k e^{-k x}}{(e^{-k x} + 1)^2}
        = k \, \sigma(k x) \, \sigma(-k x), \quad k = \mathrm{slope}

    NWAVE's ``sigmoid`` and :class:`braintools.surrogate.Sigmoid` have the same derivative.

    The derivative is computed as :math:`k \, \sigma(k x) \, \sigma(-k x)`, because the other forms fail in float32. The
    numerator and the denominator of the fraction overflow to infinity below ``k x = -89``. The product
    ``k sigma(k x) (1 - sigma(k x))`` is zero above ``k x = 18``, but not below ``k x = -18``.

    Parameters
    ----------
    slope : float, default 25.0
        Steepness ``k``, dimensionless, positive and at most 1e5. The peak is ``slope / 4``.

    Raises
    ------
    TypeError
        If ``slope`` is not a plain number, or if the object is called with a Quantity or a complex array.
    ValueError
        If ``slope`` is not positive or is greater than 1e5.

    Notes
    -----
    Spikes, gradients and ``surrogate_fun`` have the floating-point dtype of ``x`` and are finite for any finite ``x``.
    Integers and booleans are converted to the default floating-point dtype.

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
        """Steepness of the derivative; braintools calls it ``alpha``."""
        return self.alpha

    def _derivative(self, x: jax.Array) -> jax.Array:
        z = self.slope * x
        # The brackets make the results for x and -x bitwise equal.
        return self.slope * (jax.nn.sigmoid(z) * jax.nn.sigmoid(-z))

    def _smooth(self, x: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(self.slope * x)


# NWAVE and snnTorch use these names.
atan = ATan
fast_sigmoid = FastSigmoid
sigmoid = Sigmoid
