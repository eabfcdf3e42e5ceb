"""Weights of past values in a fractional derivative, for each scheme: per lag, and as a density of decay rates.

All functions are differentiable in the order ``alpha``. An ``alpha`` of any shape gives weights ``[n, *alpha.shape]``.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gamma

from brainhw import _arguments

__all__ = ["L1", "METHODS", "FractionalMethod", "GruenwaldLetnikov", "ProductRectangle", "ShiftedGruenwaldLetnikov"]


@dataclasses.dataclass(frozen=True)
class FractionalMethod(abc.ABC):
    r"""A scheme for :math:`D^\alpha y = f` on a uniform grid.

    A scheme stores past values of ``y`` or of the rates ``f``. The value at lag :math:`m \ge 1` has the weight
    :math:`W_m`. Every weight sequence here is a mixture of decaying exponentials,

    .. math:: W_m = \int_0^\infty A(r) \, e^{-(m-1) r} \, dr \qquad (m \ge 2),

    with a density :math:`A` that is known in closed form.

    Parameters
    ----------
    compatible : bool, optional
        Reproduce spikeDE 0.1.0 where it is wrong: no gradient through the Gamma function, and ``0**0 = 1`` in the
        weights of ``l1``, so that it has no memory at order 1. Default False.

    Attributes
    ----------
    order : int
        Order of accuracy in the time step at a fixed time, for input that is constant over each step.
    remembers_rate : bool
        Whether the scheme stores past values of ``f`` instead of ``y``.
    many_terms : bool
        Whether the scheme can step a weighted sum of several derivatives.
    implicit : bool
        Whether the scheme uses the rate at the new time.
    slow_rate : float
        Rate of the slowest exponential, as a share of the smallest sampled rate. It is zero if the sum of the weights
        diverges; otherwise it is positive, so that the distant past fades.
    reach : float
        Smallest sampled rate times the horizon, for 24 exponentials.
    """

    order: ClassVar[int] = 1
    remembers_rate: ClassVar[bool] = False
    many_terms: ClassVar[bool] = False
    implicit: ClassVar[bool] = False
    slow_rate: ClassVar[float] = 0.3
    reach: ClassVar[float] = 0.1

    compatible: bool = False

    def __post_init__(self) -> None:
        _arguments.flag(self.compatible, call=type(self).__name__, name="compatible")

    @abc.abstractmethod
    def weights(self, alpha: jax.Array, n: int) -> jax.Array:
        """Return the weights of the lags ``1`` to ``n``."""

    @abc.abstractmethod
    def tail(self, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
        r"""Return :math:`p` and :math:`\kappa` of :math:`r A(r) \propto r^p (1 + \kappa r)` for small rates."""

    @abc.abstractmethod
    def density(self, alpha: jax.Array, rate: jax.Array) -> jax.Array:
        """Return ``A / p`` at ``rate``: it stays finite below the sampled rates, however small ``p`` is."""

    def gain(self, alpha: jax.Array, h: jax.Array) -> jax.Array:
        r"""Return the weight of the newest rate, :math:`h^\alpha` times a factor of the scheme."""
        return h**alpha

    def _gamma(self, x: jax.Array) -> jax.Array:
        value = gamma(x)
        return jax.lax.stop_gradient(value) if self.compatible else value


class GruenwaldLetnikov(FractionalMethod):
    r"""Binomial weights :math:`W_m = (-1)^m \binom{\alpha}{m}`, explicit, of first order.

    .. math:: W_m = -\frac{\sin \pi\alpha}{\pi} \int_0^\infty e^{-(m-\alpha) r} (1 - e^{-r})^\alpha dr

    (A. Gruenwald 1867, A. V. Letnikov 1868; Podlubny, Fractional Differential Equations, 1999, chapter 7.)
    """

    many_terms = True

    def weights(self, alpha: jax.Array, n: int) -> jax.Array:
        """Return the weights of the lags ``1`` to ``n``."""
        m = _column(jnp.arange(1, n + 1, dtype=alpha.dtype), alpha)
        # Use the recursion W_m = W_{m-1} (m - 1 - alpha) / m, because Gamma(x) overflows float32 above x = 35.
        return jnp.cumprod(1 - (1 + alpha) / m, axis=0)

    def density(self, alpha: jax.Array, rate: jax.Array) -> jax.Array:
        """Return ``A / (1 + alpha)`` at ``rate``."""
        # This form of sin(pi alpha) is exactly zero at order 1, where only the last value is remembered.
        sine = jnp.sin(jnp.pi * (1 - alpha))
        return -sine / (jnp.pi * (1 + alpha)) * jnp.exp(-rate * (1 - alpha)) * (-jnp.expm1(-rate)) ** alpha

    def tail(self, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the exponent and the first correction of the density for small rates."""
        return 1 + alpha, alpha / 2 - 1


class ShiftedGruenwaldLetnikov(GruenwaldLetnikov):
    r"""The same weights shifted by half an order, implicit, of second order: a fractional Crank-Nicolson rule.

    :math:`h^{-\alpha} \sum_m W_m y_{k+1-m}` is :math:`D^\alpha y` at :math:`t_{k+1} - \alpha h/2` to second order, so
    :math:`f` is evaluated there as well: :math:`(1-\tfrac\alpha2) f_{k+1} + \tfrac\alpha2 f_k`. A drive that is
    constant over each step jumps between steps. A correction keeps the second order for these jumps (after Jin, Li and
    Zhou, An analysis of the Crank-Nicolson method for subdiffusion, IMA J. Numer. Anal. 38, 2018; the tests derive
    the correction for such a drive). At order 1 it is the trapezoidal rule.
    """

    order = 2
    many_terms = False
    implicit = True


class L1(FractionalMethod):
    r"""Piecewise linear interpolation of the past (Oldham and Spanier 1974), explicit, of first order.

    .. math::
        W_m = (m+1)^{1-\alpha} - 2 m^{1-\alpha} + (m-1)^{1-\alpha}
            = -\frac{1-\alpha}{\Gamma(\alpha)} \int_0^\infty r^{\alpha-2} (1-e^{-r})^2 e^{-(m-1) r} dr
    """

    def weights(self, alpha: jax.Array, n: int) -> jax.Array:
        """Return the weights of the lags ``1`` to ``n``."""
        b = 1 - alpha
        m = _column(jnp.arange(1, n + 1, dtype=alpha.dtype), alpha)
        # 0**0 must be 0 here: the interpolation starts at the first step, and order 1 remembers one value.
        nothing = jnp.where(b == 0, 1.0 if self.compatible else 0.0, 0.0)
        before = jnp.where(m > 1, jnp.maximum(m - 1, 1) ** b, nothing)
        near = (m + 1) ** b - 2 * m**b + before
        # At large lags the three powers nearly cancel, so use their binomial series. From m = 6 on, its first omitted
        # term is below 6**-16 = 4e-13 of the leading one.
        term, series = jnp.ones_like(near), jnp.zeros_like(near)
        for j in range(1, 17):
            term = term * (b - (j - 1)) / (j * m)
            series = series + (2 * term if j % 2 == 0 else 0)
        return jnp.where(m < 6, near, m**b * series)

    def density(self, alpha: jax.Array, rate: jax.Array) -> jax.Array:
        """Return ``A / (1 + alpha)`` at ``rate``."""
        return -(1 - alpha) / (gamma(alpha) * (1 + alpha)) * rate ** (alpha - 2) * jnp.expm1(-rate) ** 2

    def tail(self, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the exponent and the first correction of the density for small rates."""
        return 1 + alpha, -jnp.ones_like(alpha)

    def gain(self, alpha: jax.Array, h: jax.Array) -> jax.Array:
        r"""Return :math:`h^\alpha \Gamma(2-\alpha)`."""
        return h**alpha * self._gamma(2 - alpha)


class ProductRectangle(FractionalMethod):
    r"""Fractional integral of ``f`` by rectangles (a fractional Adams-Bashforth predictor), of first order.

    .. math::
        y_{k+1} = \frac{h^\alpha}{\Gamma(1+\alpha)} \sum_{m=0}^{k} W_m f_{k-m}, \qquad
        W_m = (m+1)^\alpha - m^\alpha
            = \frac{\alpha}{\Gamma(1-\alpha)} \int_0^\infty r^{-\alpha-1} (1-e^{-r}) e^{-m r} dr

    (Diethelm, Ford and Freed, Detailed error analysis for a fractional Adams method, Numer. Algorithms 36, 2004).
    """

    remembers_rate = True
    slow_rate = 0.0
    reach = 0.015

    def weights(self, alpha: jax.Array, n: int) -> jax.Array:
        """Return the weights of the lags ``1`` to ``n``."""
        m = _column(jnp.arange(1, n + 1, dtype=alpha.dtype), alpha)
        # Equal to (m + 1)**alpha - m**alpha, but without the cancellation of two nearly equal powers.
        return m**alpha * jnp.expm1(alpha * jnp.log1p(1 / m))

    def density(self, alpha: jax.Array, rate: jax.Array) -> jax.Array:
        """Return ``A / (1 - alpha)`` at ``rate``."""
        return -alpha / gamma(2 - alpha) * rate ** (-alpha - 1) * jnp.expm1(-rate) * jnp.exp(-rate)

    def tail(self, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the exponent and the first correction of the density for small rates."""
        return 1 - alpha, jnp.full_like(alpha, -1.5)

    def gain(self, alpha: jax.Array, h: jax.Array) -> jax.Array:
        r"""Return :math:`h^\alpha / (\alpha \, \Gamma(\alpha))`."""
        return h**alpha / (alpha * self._gamma(alpha))


def _column(values: jax.Array, alpha: jax.Array) -> jax.Array:
    """Reshape ``values [n]`` to broadcast against ``[n, *alpha.shape]``."""
    return values.reshape((-1,) + (1,) * np.ndim(alpha))


Method = Literal["gl", "l1", "trap", "pred", "cn"]
METHODS: dict[str, type[FractionalMethod]] = {
    "gl": GruenwaldLetnikov,
    "l1": L1,
    "trap": L1,  # the weights of the product trapezoidal rule, taken explicitly from rest, are those of L1
    "pred": ProductRectangle,
    "cn": ShiftedGruenwaldLetnikov,
}
"""Class of each scheme, by the name that a fractional layer takes as ``method=``."""
