"""Spike functions that can return several spikes per step.

The number of spikes depends on the ratio of the membrane potential to the threshold. These functions therefore take
both values instead of their difference. They return ``n = floor(V / V_th)`` where ``V >= V_th``, otherwise 0. The
result is at most ``max_spikes``. The classes differ only in the derivative. Training can move a threshold to zero or
below, where the number of spikes is undefined. The result and its derivatives are then NaN.

In the table, ``d`` is the distance from ``V`` to the nearest of the multiples ``V_th``, ``2 * V_th``, ...,
``max_spikes * V_th``.

============================  ====================================================  ==================================
class                         derivative with respect to ``V``                      above ``max_spikes * V_th``
============================  ====================================================  ==================================
:class:`StepPWL`              ``1 / V_th`` for ``V >= V_th - window``, otherwise 0  stays ``1 / V_th``
:class:`PeriodicExponential`  ``exp(-d / window) / V_th``                           decreases, because ``d`` increases
============================  ====================================================  ==================================
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
    """Check the maximum number of spikes per step and return it as an int, or as ``None`` for no limit.

    The limit must be from 1 to 2**24, because float32 cannot represent every integer above 2**24. ``None`` and infinity
    mean no limit. An integer-valued float and a scalar array are accepted.
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
    """Return ``value`` as an int, or ``None`` if it is infinite. Raise if it is not an integer or is less than 1."""
    is_array = hasattr(value, "dtype") and np.ndim(value) == 0 and jnp.issubdtype(value.dtype, jnp.floating)
    if is_array and is_concrete(value) and not isinstance(value, u.Quantity):
        value = np.asarray(value).item()
    if not isinstance(value, float):
        return positive_int(value, call=call, name=name)
    if value == math.inf:
        return None
    if not value.is_integer():
        raise TypeError(f"{call}: {name} must be an integer, or None for no limit; got {value:g}.")
    return positive_int(int(value), call=call, name=name)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 3))
def _count(function: MultiSpike, V: jax.Array, V_th: jax.Array, max_spikes: int | None) -> jax.Array:
    # Without the comparison, the number of spikes would be negative for a negative membrane potential.
    n = jnp.where(V_th <= V, jnp.floor(V / V_th), jnp.zeros_like(V))
    # Return NaN instead of 0 spikes, so that users notice when training has moved a threshold to zero or below.
    n = jnp.where(V_th > 0, n, jnp.nan)
    return n if max_spikes is None else jnp.minimum(n, max_spikes)


@_count.defjvp
def _count_jvp(
    function: MultiSpike, max_spikes: int | None, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    (V, V_th), (V_dot, V_th_dot) = primals, tangents
    slope = jnp.where(V_th > 0, function.derivative(V, V_th, max_spikes), jnp.nan)
    # n depends only on V / V_th, so its derivative with respect to V_th is -V / V_th times the one with respect to V.
    return _count(function, V, V_th, max_spikes), slope * V_dot - slope * (V / V_th) * V_th_dot


class MultiSpike(abc.ABC):
    """Base class for spike functions that can return several spikes per step.

    It computes the number of spikes and stores ``window``. Two instances of the same class are equal if their windows
    are equal. A subclass defines ``derivative(V, V_th, max_spikes)``, which gets ``V`` and ``V_th`` as plain arrays in
    mV.

    Attributes
    ----------
    window : float
        Width of the derivative in mV.
    """

    def __init__(self, window: u.Quantity | float = 0.5) -> None:
        call = type(self).__name__
        if isinstance(window, u.Quantity):
            window = quantity(window, u.mV, call=call, name="window", shapes=[()], positive=True).mantissa
        self.window: float = number(window, call=call, name="window", positive=True)

    @abc.abstractmethod
    def derivative(self, V: jax.Array, V_th: jax.Array, max_spikes: int | None) -> jax.Array:
        """Return the derivative of the number of spikes with respect to ``V``, in spikes per mV."""

    def __call__(self, V: Any, V_th: Any = None, max_spikes: int | None = None) -> jax.Array:
        """Return the number of spikes.

        Parameters
        ----------
        V : Quantity or array
            Membrane potential before the reset, ``[..., N]``. An array without a unit is in mV.
        V_th : Quantity or array
            Threshold, positive. It is broadcast against ``V`` and must have a unit if ``V`` has one. A traced
            threshold cannot be checked. Where it is zero or less, the number of spikes is NaN, which
            ``brainhw.rollout(..., check_finite=True)`` reports.
        max_spikes : int, optional
            Largest number of spikes in one step, up to 2**24. ``None`` (default) or ``inf`` means no limit.

        Returns
        -------
        jax.Array
            Number of spikes as a float, with the broadcast shape of ``V`` and ``V_th``.

        Raises
        ------
        TypeError
            If ``V_th`` is missing, if only one of ``V`` and ``V_th`` has a unit, if a unit is not a voltage, or if
            ``max_spikes`` is not an integer.
        ValueError
            If ``V_th`` is concrete and not positive, or if ``max_spikes`` is not between 1 and 2**24.
        """
        call = type(self).__name__
        if V_th is None:
            raise TypeError(
                f"{call}: V_th is missing. A multi-spike function takes two arguments, {call}()(V, V_th). Use it with "
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
        # A Python float becomes a weakly typed array, so that it does not convert half precision to float32.
        V, V_th = jnp.asarray(V), jnp.asarray(V_th)
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
    r"""Return ``floor(V / V_th)`` spikes; the derivative is constant from just below the threshold upwards.

    .. math::
        n &= \min\big([V \ge V_{th}] \lfloor V / V_{th} \rfloor,\, M\big) \\
        \frac{\partial n}{\partial V} &= \frac{H(V - (V_{th} - w))}{V_{th}}, \qquad
        \frac{\partial n}{\partial V_{th}} = -\frac{V}{V_{th}^2} H(V - (V_{th} - w)), \qquad H(0) = 1

    Here :math:`w` is ``window`` and :math:`M` is ``max_spikes``. Below ``V_th - w``, the derivatives are zero. At or
    above ``V_th - w``, they are the derivatives of ``V / V_th``. They do not depend on ``M``. This is Rockpool's
    default spike function.

    With a subtractive reset, the membrane potential after the reset has the derivative
    ``1 - V_th dn/dV`` with respect to the membrane potential before the reset. At or above ``V_th - w`` this derivative
    is zero. Gradients then reach earlier steps only through spikes and currents.

    Parameters
    ----------
    window : Quantity or float, default 0.5
        Distance below the threshold at which the derivative becomes nonzero, a positive voltage. A plain number is in
        mV. The window does not scale with the threshold.

    Raises
    ------
    TypeError
        If ``window`` is neither a voltage nor a number, or if the function is called and only one of ``V`` and
        ``V_th`` has a unit.
    ValueError
        If ``window`` is not positive, or if the function is called and ``V_th`` is not positive.

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
        """Return ``1 / V_th`` where ``V >= V_th - window``, otherwise 0; ``max_spikes`` is ignored."""
        return jnp.where(V_th - self.window <= V, 1 / V_th, jnp.zeros_like(V))


class PeriodicExponential(MultiSpike):
    r"""Return ``floor(V / V_th)`` spikes; the derivative has a peak at each multiple of the threshold.

    .. math::
        n &= \min\big([V \ge V_{th}] \lfloor V / V_{th} \rfloor,\, M\big), \qquad
        j = \mathrm{clip}\big(\mathrm{round}(V / V_{th}),\, 1,\, M\big) \\
        \frac{\partial n}{\partial V} &= \frac{1}{V_{th}} e^{-|V - j V_{th}| / w}, \qquad
        \frac{\partial n}{\partial V_{th}} = -\frac{V}{V_{th}} \frac{\partial n}{\partial V}

    Here :math:`w` is ``window``, :math:`M` is ``max_spikes``, and :math:`j V_{th}` is the nearest potential at which
    the number of spikes changes. The derivative has no cut-off, so a silent neuron still learns.

    Parameters
    ----------
    window : Quantity or float, default 0.5
        Decay length of the exponential, a positive voltage. A plain number is in mV. The window does not scale with
        the threshold.

    Raises
    ------
    TypeError
        If ``window`` is neither a voltage nor a number, or if the function is called and only one of ``V`` and
        ``V_th`` has a unit.
    ValueError
        If ``window`` is not positive, or if the function is called and ``V_th`` is not positive.

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
        """Return ``exp(-d / window) / V_th``.

        ``d`` is the distance from ``V`` to the nearest of the multiples ``V_th``, ``2 * V_th``, ...,
        ``max_spikes * V_th``.
        """
        nearest = jnp.clip(jnp.round(V / V_th), 1, max_spikes)
        return jnp.exp(-jnp.abs(V - nearest * V_th) / self.window) / V_th
