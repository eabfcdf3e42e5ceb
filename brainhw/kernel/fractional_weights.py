"""Weights of past values in a fractional derivative, for each numerical scheme.

Each scheme defines its weights in two ways: directly for each lag, and as an integral over decaying exponentials. All
functions are differentiable with respect to the order ``alpha``. The weights have shape ``[n, *alpha.shape]``.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gamma

from brainhw import _arguments

__all__ = ["L1", "METHODS", "FractionalMethod", "GruenwaldLetnikov", "ProductRectangle", "ShiftedGruenwaldLetnikov"]


# Outside jit, JAX would compile each operation of the weights for each order and length.
_compiled = functools.partial(jax.jit, static_argnums=(0, 2), inline=True)


@dataclasses.dataclass(frozen=True)
class FractionalMethod(abc.ABC):
    r"""A numerical scheme for :math:`D^\alpha y = f` on a uniform time grid.

    A scheme stores past values of ``y`` or of the rates ``f``. The value at lag :math:`m \ge 1` has the weight
    :math:`W_m`. For all schemes of this module, the weights are a superposition of decaying exponentials,

    .. math:: W_m = \int_0^\infty A(r) \, e^{-(m-1) r} \, dr \qquad (m \ge 2),

    where the density :math:`A` is known in closed form.

    Parameters
    ----------
    compatible : bool, optional
        Whether to reproduce two errors of spikeDE 0.1.0. No gradient flows through the Gamma function, and ``0**0`` is
        1 in the weights of ``l1``, so ``l1`` has no memory at order 1. Default False.

    Attributes
    ----------
    order : int
        Order of convergence in the time step, at a fixed time and for input that is constant over each step.
    remembers_rate : bool
        Whether the scheme stores past values of ``f`` instead of ``y``.
    many_terms : bool
        Whether the scheme supports a weighted sum of derivatives of several orders.
    implicit : bool
        Whether the scheme uses the rate at the new time.
    slow_rate : float
        Rate of the slowest exponential, divided by the smallest of the other rates. It is zero if the sum of the
        weights diverges. Otherwise it is positive, so that the effect of old values decays.
    reach : float
        Smallest sampled rate times the horizon, if 24 exponentials are used.
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
        """Return ``A / p`` at ``rate``. This ratio is finite also for ``p = 0``."""

    def gain(self, alpha: jax.Array, h: jax.Array) -> jax.Array:
        r"""Return the weight of the newest rate, :math:`h^\alpha` times a factor of the scheme."""
        return h**alpha

    def _gamma(self, x: jax.Array) -> jax.Array:
        value = gamma(x)
        return jax.lax.stop_gradient(value) if self.compatible else value


class GruenwaldLetnikov(FractionalMethod):
    r"""Explicit first-order scheme with binomial weights :math:`W_m = (-1)^m \binom{\alpha}{m}`.

    .. math:: W_m = -\frac{\sin \pi\alpha}{\pi} \int_0^\infty e^{-(m-\alpha) r} (1 - e^{-r})^\alpha dr

    (A. Gruenwald 1867, A. V. Letnikov 1868; Podlubny, Fractional Differential Equations, 1999, chapter 7.)
    """

    many_terms = True

    @_compiled
    def weights(self, alpha: jax.Array, n: int) -> jax.Array:
        """Return the weights of the lags ``1`` to ``n``."""
        m = _column(jnp.arange(1, n + 1, dtype=alpha.dtype), alpha)
        # Use the recursion W_m = W_{m-1} (m - 1 - alpha) / m, because Gamma(x) overflows float32 above x = 35.
        return jnp.cumprod(1 - (1 + alpha) / m, axis=0)

    def density(self, alpha: jax.Array, rate: jax.Array) -> jax.Array:
        """Return ``A / (1 + alpha)`` at ``rate``."""
        # sin(pi alpha) in this form is exactly zero at order 1, where only the last value has a weight.
        sine = jnp.sin(jnp.pi * (1 - alpha))
        return -sine / (jnp.pi * (1 + alpha)) * jnp.exp(-rate * (1 - alpha)) * (-jnp.expm1(-rate)) ** alpha

    def tail(self, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the exponent ``p`` and the first correction ``kappa`` of the density for small rates."""
        return 1 + alpha, alpha / 2 - 1


class ShiftedGruenwaldLetnikov(GruenwaldLetnikov):
    r"""Implicit second-order scheme, a fractional Crank-Nicolson rule with the weights of :class:`GruenwaldLetnikov`.

    The sum :math:`h^{-\alpha} \sum_m W_m y_{k+1-m}` approximates :math:`D^\alpha y` to second order at the time
    :math:`t_{k+1} - \alpha h/2`. So :math:`f` is also evaluated at this time, as
    :math:`(1-\tfrac\alpha2) f_{k+1} + \tfrac\alpha2 f_k`. A drive that is constant over each step jumps between steps.
    A correction preserves the second order in spite of these jumps (after Jin, Li and Zhou, An analysis of the
    Crank-Nicolson method for subdiffusion, IMA J. Numer. Anal. 38, 2018). The tests derive the correction for such a
    drive. At order 1 the scheme is the trapezoidal rule.
    """

    order = 2
    many_terms = False
    implicit = True


class L1(FractionalMethod):
    r"""Explicit first-order scheme with piecewise linear interpolation of past values (Oldham and Spanier 1974).

    .. math::
        W_m = (m+1)^{1-\alpha} - 2 m^{1-\alpha} + (m-1)^{1-\alpha}
            = -\frac{1-\alpha}{\Gamma(\alpha)} \int_0^\infty r^{\alpha-2} (1-e^{-r})^2 e^{-(m-1) r} dr
    """

    @_compiled
    def weights(self, alpha: jax.Array, n: int) -> jax.Array:
        """Return the weights of the lags ``1`` to ``n``."""
        b = 1 - alpha
        m = _column(jnp.arange(1, n + 1, dtype=alpha.dtype), alpha)
        # 0**0 must be 0 here, because the interpolation starts at the first step and order 1 uses only the last value.
        nothing = jnp.where(b == 0, 1.0 if self.compatible else 0.0, 0.0)
        before = jnp.where(m > 1, jnp.maximum(m - 1, 1) ** b, nothing)
        near = (m + 1) ** b - 2 * m**b + before
        # At large lags the three powers nearly cancel, so use their binomial series. For m >= 6, the first omitted term
        # is below 6**-16 = 4e-13 relative to the leading term.
        term, series = jnp.ones_like(near), jnp.zeros_like(near)
        for j in range(1, 17):
            term = term * (b - (j - 1)) / (j * m)
            series = series + (2 * term if j % 2 == 0 else 0)
        return jnp.where(m < 6, near, m**b * series)

    def density(self, alpha: jax.Array, rate: jax.Array) -> jax.Array:
        """Return ``A / (1 + alpha)`` at ``rate``."""
        return -(1 - alpha) / (gamma(alpha) * (1 + alpha)) * rate ** (alpha - 2) * jnp.expm1(-rate) ** 2

    def tail(self, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the exponent ``p`` and the first correction ``kappa`` of the density for small rates."""
        return 1 + alpha, -jnp.ones_like(alpha)

    def gain(self, alpha: jax.Array, h: jax.Array) -> jax.Array:
        r"""Return :math:`h^\alpha \Gamma(2-\alpha)`."""
        return h**alpha * self._gamma(2 - alpha)


class ProductRectangle(FractionalMethod):
    r"""First-order scheme: fractional integral of ``f`` by the rectangle rule (fractional Adams-Bashforth predictor).

    .. math::
        y_{k+1} = \frac{h^\alpha}{\Gamma(1+\alpha)} \sum_{m=0}^{k} W_m f_{k-m}, \qquad
        W_m = (m+1)^\alpha - m^\alpha
            = \frac{\alpha}{\Gamma(1-\alpha)} \int_0^\infty r^{-\alpha-1} (1-e^{-r}) e^{-m r} dr

    (Diethelm, Ford and Freed, Detailed error analysis for a fractional Adams method, Numer. Algorithms 36, 2004).
    """

    remembers_rate = True
    slow_rate = 0.0
    reach = 0.015

    @_compiled
    def weights(self, alpha: jax.Array, n: int) -> jax.Array:
        """Return the weights of the lags ``1`` to ``n``."""
        m = _column(jnp.arange(1, n + 1, dtype=alpha.dtype), alpha)
        # This equals (m + 1)**alpha - m**alpha, but avoids the cancellation of two nearly equal powers.
        return m**alpha * jnp.expm1(alpha * jnp.log1p(1 / m))

    def density(self, alpha: jax.Array, rate: jax.Array) -> jax.Array:
        """Return ``A / (1 - alpha)`` at ``rate``."""
        return -alpha / gamma(2 - alpha) * rate ** (-alpha - 1) * jnp.expm1(-rate) * jnp.exp(-rate)

    def tail(self, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the exponent ``p`` and the first correction ``kappa`` of the density for small rates."""
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
    "trap": L1,  # the explicit product trapezoidal rule, started from rest, has the same weights as L1
    "pred": ProductRectangle,
    "cn": ShiftedGruenwaldLetnikov,
}
"""Class of each scheme. The keys are the values of ``method=`` of a fractional layer."""
