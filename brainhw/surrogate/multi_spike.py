"""Spike functions with several spikes per step: one for each time the threshold fits into the membrane.

They take the membrane and the threshold instead of their distance, because the number of spikes depends on the ratio:
``n = floor(V / V_th)`` where ``V >= V_th``, otherwise 0, and at most ``max_spikes``. They differ in the derivative. A
threshold at or below zero, which training may cause, has no such count: the result and its derivatives are NaN.

============================  ==================================================  ===================================
class                         derivative with respect to the membrane             beyond ``max_spikes``
============================  ==================================================  ===================================
:class:`StepPWL`              ``1 / V_th`` from ``V_th - window`` upwards, else 0  stays ``1 / V_th``
:class:`PeriodicExponential`  ``exp(-d / window) / V_th``, ``d`` the distance      falls off, as no boundary is left
                              to the nearest spike boundary
============================  ==================================================  ===================================
"""

from __future__ import annotations

import abc
import functools
import math
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw._arguments import as_array, describe, is_concrete, number, positive_int, quantity

__all__ = ["MultiSpike", "PeriodicExponential", "StepPWL", "spike_limit"]

_MOST = 2**24


def spike_limit(value: Any, *, call: str, name: str) -> int | None:
    """Return a checked limit on the spikes of one step: 1 to 2**24, above which float32 cannot hold every count.

    ``None`` and infinity mean no limit. A whole float and an array of one number are accepted.
    """
    # Rockpool's default is the float 2.0**16, and its documentation names np.inf.
    limit = None if value is None else _whole(value, call=call, name=name)
    if limit is not None and limit > _MOST:
        raise ValueError(
            f"{call}: {name} must be at most 2**24 = {_MOST}, because spikes are counted in float32; "
            f"got {describe(value)}. Pass None for no limit."
        )
    return limit


def _whole(value: Any, *, call: str, name: str) -> int | None:
    """Return a number from 1 upwards as an int, and infinity as ``None``."""
    is_array = hasattr(value, "dtype") and np.ndim(value) == 0 and jnp.issubdtype(value.dtype, jnp.floating)
    if is_array and is_concrete(value) and not isinstance(value, u.Quantity):
        value = np.asarray(value).item()
    if not isinstance(value, float):
        return positive_int(value, call=call, name=name)
    if value == math.inf:
        return None
    if not value.is_integer():
        raise TypeError(f"{call}: {name} must be a whole number, or None for no limit; got {value:g}.")
    return positive_int(int(value), call=call, name=name)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 3))
def _count(function: MultiSpike, V: jax.Array, V_th: jax.Array, max_spikes: int | None) -> jax.Array:
    # Without the comparison a negative membrane would give a negative count.
    n = jnp.where(V_th <= V, jnp.floor(V / V_th), jnp.zeros_like(V))
    # NaN instead of zero, so that a threshold that training moved to zero becomes visible.
    n = jnp.where(V_th > 0, n, jnp.nan)
    return n if max_spikes is None else jnp.minimum(n, max_spikes)


@_count.defjvp
def _count_jvp(
    function: MultiSpike, max_spikes: int | None, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    (V, V_th), (V_dot, V_th_dot) = primals, tangents
    slope = jnp.where(V_th > 0, function.derivative(V, V_th, max_spikes), jnp.nan)
    # The count is a function of V / V_th, so the threshold's derivative is the membrane's times -V / V_th.
    return _count(function, V, V_th, max_spikes), slope * V_dot - slope * (V / V_th) * V_th_dot


class MultiSpike(abc.ABC):
    """Base class of the multi-spike functions: spike count, window of the derivative, comparison by value.

    A subclass defines ``derivative(V, V_th, max_spikes)`` on plain arrays of one unit.

    Attributes
    ----------
    window : float
        Width of the derivative, mV.
    """

    def __init__(self, window: u.Quantity | float = 0.5) -> None:
        call = type(self).__name__
        if isinstance(window, u.Quantity):
            window = quantity(window, u.mV, call=call, name="window", shapes=[()], positive=True).mantissa
        self.window: float = number(window, call=call, name="window", positive=True)

    @abc.abstractmethod
    def derivative(self, V: jax.Array, V_th: jax.Array, max_spikes: int | None) -> jax.Array:
        """Return the derivative by the membrane for the backward pass, in spikes per mV."""

    def __call__(self, V: Any, V_th: Any = None, max_spikes: int | None = None) -> jax.Array:
        """Return the number of spikes.

        Parameters
        ----------
        V : Quantity or array
            Membrane before the reset, ``[..., N]``; plain numbers are in mV.
        V_th : Quantity or array
            Threshold above zero, broadcast against ``V``; with a unit if ``V`` has one. A traced threshold cannot be
            checked: where it is zero or less the count is NaN, which ``brainhw.rollout(..., check_finite=True)``
            reports.
        max_spikes : int, optional
            Largest number of spikes in one step, up to 2**24. ``None`` (default) or ``inf`` means no limit.

        Returns
        -------
        jax.Array
            Whole numbers as floats, with the broadcast shape of ``V`` and ``V_th``.

        Raises
        ------
        TypeError, ValueError
            If only one of ``V`` and ``V_th`` has a unit, ``V_th`` is known and not above zero, or ``max_spikes`` is not
            a whole number from 1 to 2**24.
        """
        call = type(self).__name__
        if V_th is None:
            raise TypeError(
                f"{call}: a multi-spike function takes the membrane and the threshold, {call}()(V, V_th). Use it with "
                "ALIFLayer or CubaLIFLayer; other layers take a single-spike function such as fast_sigmoid()."
            )
        if isinstance(V, u.Quantity) != isinstance(V_th, u.Quantity):
            raise TypeError(
                f"{call}: V and V_th must both be Quantities or both plain numbers in mV; "
                f"got {describe(V)} and {describe(V_th)}."
            )
        if isinstance(V, u.Quantity):
            V = quantity(V, u.mV, call=call, name="V").mantissa
            V_th = quantity(V_th, u.mV, call=call, name="V_th").mantissa
        max_spikes = spike_limit(max_spikes, call=call, name="max_spikes")
        for name, value in (("V", V), ("V_th", V_th)):
            as_array(value, call=call, name=name)
        if is_concrete(V_th) and not np.all(np.asarray(V_th) > 0):
            raise ValueError(f"{call}: V_th must be greater than zero; got {np.min(np.asarray(V_th)):g} mV.")
        V, V_th = jnp.asarray(V), jnp.asarray(V_th)  # a Python float stays weakly typed and keeps half precision
        kind = jnp.result_type(V, V_th)
        kind = kind if jnp.issubdtype(kind, jnp.floating) else jnp.result_type(float)
        V, V_th = jnp.broadcast_arrays(V.astype(kind), V_th.astype(kind))
        return _count(self, V, V_th, max_spikes)

    def __eq__(self, other: object) -> bool:
        return self.window == other.window if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self.window))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(window={self.window})"


class StepPWL(MultiSpike):
    r"""Count how often the threshold fits into the membrane, with a constant derivative from just below the threshold.

    .. math::
        n &= \min\big([V \ge V_{th}] \lfloor V / V_{th} \rfloor,\, M\big) \\
        \frac{\partial n}{\partial V} &= \frac{H(V - (V_{th} - w))}{V_{th}}, \qquad
        \frac{\partial n}{\partial V_{th}} = -\frac{V}{V_{th}^2} H(V - (V_{th} - w)), \qquad H(0) = 1

    These are the derivatives of the line ``V / V_th``, cut off on the left: Rockpool's default. They ignore ``M``. With
    a subtractive reset the gradient of the membrane itself, ``1 - V_th dn/dV``, is zero where the derivative is
    nonzero, so the gradient flows only through spikes and currents.

    Parameters
    ----------
    window : Quantity or float, default 0.5
        Distance below the threshold at which the derivative begins, a voltage above zero; a plain number is in mV. It
        does not scale with the threshold.

    Raises
    ------
    TypeError, ValueError
        If ``window`` is not a voltage or a number above zero. The call raises if only one of ``V`` and ``V_th`` has a
        unit, or if ``V_th`` is not above zero.

    Examples
    --------
    >>> import brainunit as u, jax, jax.numpy as jnp
    >>> from brainhw.surrogate import StepPWL
    >>> spike = StepPWL(window=0.5 * u.mV)
    >>> print(spike(jnp.array([0.9, 1.0, 3.7]) * u.mV, 1.0 * u.mV))
    [0. 1. 3.]
    >>> print(spike(3.7, 1.0, max_spikes=2), jax.grad(spike)(0.6, 1.0), jax.grad(spike)(0.4, 1.0))
    2.0 1.0 0.0
    """

    def derivative(self, V: jax.Array, V_th: jax.Array, max_spikes: int | None) -> jax.Array:
        """Return ``1 / V_th`` where ``V >= V_th - window``, otherwise 0. ``max_spikes`` is not used."""
        return jnp.where(V_th - self.window <= V, 1 / V_th, jnp.zeros_like(V))


class PeriodicExponential(MultiSpike):
    r"""Count how often the threshold fits into the membrane, with a derivative that peaks at each multiple of it.

    .. math::
        n &= \min\big([V \ge V_{th}] \lfloor V / V_{th} \rfloor,\, M\big), \qquad
        j = \mathrm{clip}\big(\mathrm{round}(V / V_{th}),\, 1,\, M\big) \\
        \frac{\partial n}{\partial V} &= \frac{1}{V_{th}} e^{-|V - j V_{th}| / w}, \qquad
        \frac{\partial n}{\partial V_{th}} = -\frac{V}{V_{th}} \frac{\partial n}{\partial V}

    with :math:`j` the nearest spike boundary. The derivative is never exactly zero, so a silent neuron still learns.

    Parameters
    ----------
    window : Quantity or float, default 0.5
        Width of the exponential, a voltage above zero; a plain number is in mV. It does not scale with the
        threshold.

    Raises
    ------
    TypeError, ValueError
        If ``window`` is not a voltage or a number above zero. The call raises if only one of ``V`` and ``V_th`` has a
        unit, or if ``V_th`` is not above zero.

    Examples
    --------
    >>> import jax, math
    >>> from brainhw.surrogate import PeriodicExponential
    >>> spike = PeriodicExponential(window=0.5)
    >>> print(spike(2.0, 1.0), jax.grad(spike)(2.0, 1.0))
    2.0 1.0
    >>> math.isclose(jax.grad(spike)(0.0, 1.0), math.exp(-2), rel_tol=1e-6)
    True
    """

    def derivative(self, V: jax.Array, V_th: jax.Array, max_spikes: int | None) -> jax.Array:
        """Return ``exp(-d / window) / V_th``, with ``d`` the distance to the nearest boundary up to ``max_spikes``."""
        nearest = jnp.clip(jnp.round(V / V_th), 1, max_spikes)
        return jnp.exp(-jnp.abs(V - nearest * V_th) / self.window) / V_th
