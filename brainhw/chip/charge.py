"""Charge curves: the charge per spike of a synapse as a function of its weight."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, final

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import PchipInterpolator

from brainhw._arguments import as_array, choice, describe, text, unit_name
from brainhw._closest import closest
from brainhw.chip._units import exact, unit_named

__all__ = ["ChargeCurve", "LinearCharge", "SaturatingCharge", "TabulatedCharge"]


class ChargeCurve(ABC):
    """A map from dimensionless weights to charges: ``curve(weights)`` is a Quantity in fC.

    Curves are immutable and hashable, and curves with equal parameters are equal. They work under jit, grad and vmap.
    The subclasses are `LinearCharge`, `SaturatingCharge` and `TabulatedCharge`.
    """

    kind: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]
    """Names of the parameters. The attribute ``_<name>`` contains the value without a unit. Charges are in fC."""
    charge_key: ClassVar[str]
    """Name of the parameter that is a charge."""

    def __call__(self, weights: Any) -> u.Quantity:
        """Return the charge of each weight in fC, with the shape and the float dtype of ``weights``.

        Parameters
        ----------
        weights : array or float, any shape
            Dimensionless weights. Integers are converted to floats.
        """
        call = type(self).__name__
        if isinstance(weights, u.Quantity):
            raise TypeError(f"{call}: weights must be plain numbers without a unit; got {describe(weights)}.")
        # Skip the checks for float arrays of JAX, because every preparation of a network calls this method.
        plain = isinstance(weights, jax.Array) and jnp.issubdtype(weights.dtype, jnp.floating)
        array = jnp.asarray(weights if plain else as_array(weights, call=call, name="weights"))
        if not jnp.issubdtype(array.dtype, jnp.floating):
            array = array.astype(jnp.result_type(float))
        # Evaluate the curve in float32 or float64, so that only the result is rounded to half precision.
        wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
        return u.Quantity(self._femtocoulombs(wide).astype(array.dtype), unit=u.fcoulomb)

    @abstractmethod
    def _femtocoulombs(self, weights: jax.Array) -> jax.Array:
        """Return the charge of each weight in fC. The weights have dtype float32 or float64."""

    @property
    @abstractmethod
    def slope_at_zero(self) -> u.Quantity:
        """The charge per unit weight at weight zero, in fC."""

    def to_dict(self) -> dict[str, Any]:
        """Return ``kind``, the parameters, and the ``unit`` of the charges, as a dict of plain values."""
        held = {key: getattr(self, f"_{key}") for key in self.keys}
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in held.items()}
        return {"kind": self.kind, **plain, "unit": unit_name(u.fcoulomb)}

    @staticmethod
    def from_dict(data: Mapping[str, Any], *, call: str = "ChargeCurve.from_dict") -> ChargeCurve:
        """Build a curve from a dict that `to_dict` returned; ``unit`` may name any unit of charge.

        Raises
        ------
        TypeError
            If ``data`` is not a mapping, or a parameter has the wrong type.
        ValueError
            If the kind, the unit or a parameter is unknown, missing or out of range.
        """
        text(call, call="ChargeCurve.from_dict", name="call", some=True)
        if not isinstance(data, Mapping):
            raise TypeError(f"{call}: data must be a mapping as returned by to_dict; got {describe(data)}.")
        curve = _KINDS[choice(data.get("kind"), _KINDS, call=call, name="kind")]
        wanted = (*curve.keys, "unit")
        for key in wanted:
            if key not in data:
                raise ValueError(f"{call}: a {curve.kind} charge curve requires {key!r}; got only {sorted(data)}.")
        for key in data:
            if key not in (*wanted, "kind"):
                raise ValueError(
                    f"{call}: a {curve.kind} charge curve has no parameter {key!r}{closest(key, wanted)}; "
                    f"its parameters are {', '.join(wanted)}."
                )
        unit = unit_named(data["unit"], u.fcoulomb, call=call, name="charge")
        parameters = {key: data[key] for key in curve.keys}
        charges = exact(data[curve.charge_key], None, call=curve.__name__, name=curve.charge_key, shapes=None)
        parameters[curve.charge_key] = u.Quantity(charges, unit=unit)
        return curve(**parameters)

    def __repr__(self) -> str:
        units = {self.charge_key: " fC"}
        numbers = ", ".join(f"{key}={getattr(self, f'_{key}'):.10g}{units.get(key, '')}" for key in self.keys)
        return f"{type(self).__name__}({numbers})"


@final
@dataclass(frozen=True, init=False, repr=False)
class LinearCharge(ChargeCurve):
    """Charge proportional to the weight: q(w) = gain * w.

    The vendor documents that the synapse of H1v2 is linear, but does not publish its gain.

    Parameters
    ----------
    gain : Quantity, scalar
        Charge per unit weight, greater than zero.

    Raises
    ------
    TypeError
        If ``gain`` is not a charge.
    ValueError
        If ``gain`` is not finite or not greater than zero.

    Examples
    --------
    >>> import brainunit as u
    >>> from brainhw.chip import LinearCharge
    >>> curve = LinearCharge(0.5 * u.fcoulomb)
    >>> charge = curve([-1.0, 0.0, 0.5])
    >>> charge.mantissa.tolist(), str(charge.unit)
    ([-0.5, 0.0, 0.25], 'fC')
    """

    kind: ClassVar[str] = "linear"
    keys: ClassVar[tuple[str, ...]] = ("gain",)
    charge_key: ClassVar[str] = "gain"
    _gain: float

    def __init__(self, gain: u.Quantity) -> None:
        object.__setattr__(
            self, "_gain", float(exact(gain, u.fcoulomb, call="LinearCharge", name="gain", positive=True))
        )

    @property
    def gain(self) -> u.Quantity:
        """Charge per unit weight, in fC."""
        return u.Quantity(self._gain, unit=u.fcoulomb)

    @property
    def slope_at_zero(self) -> u.Quantity:
        """The charge per unit weight, in fC. It is the same at all weights."""
        return self.gain

    def _femtocoulombs(self, weights: jax.Array) -> jax.Array:
        return self._gain * weights


@final
@dataclass(frozen=True, init=False, repr=False)
class SaturatingCharge(ChargeCurve):
    """Charge that saturates for large weights: q(w) = gain * w_s * tanh(w / w_s).

    The slope at zero is ``gain``, and the magnitude of the charge stays below ``gain * w_s``. The vendor documents that
    the synapse of H1v1 is not linear. brainhw assumes that the curve is this odd, smooth function.

    Parameters
    ----------
    gain : Quantity, scalar
        Charge per unit weight at weight zero, greater than zero.
    saturation : float
        Weight w_s at which the charge is tanh(1) = 76 % of ``gain * w_s``, the charge of a linear synapse. It is
        dimensionless and greater than zero.

    Raises
    ------
    TypeError
        If ``gain`` is not a charge, or if ``saturation`` has a unit.
    ValueError
        If ``gain`` or ``saturation`` is not finite or not greater than zero.

    Examples
    --------
    >>> import brainunit as u
    >>> from brainhw.chip import SaturatingCharge
    >>> curve = SaturatingCharge(1.034 * u.fcoulomb, saturation=1.8)
    >>> print(f"{float(curve(0.9).mantissa):.3f} fC, of {0.9 * 1.034:.3f} fC on the straight line")
    0.860 fC, of 0.931 fC on the straight line
    """

    kind: ClassVar[str] = "saturating"
    keys: ClassVar[tuple[str, ...]] = ("gain", "saturation")
    charge_key: ClassVar[str] = "gain"
    _gain: float
    _saturation: float

    def __init__(self, gain: u.Quantity, saturation: float) -> None:
        call = "SaturatingCharge"
        object.__setattr__(self, "_gain", float(exact(gain, u.fcoulomb, call=call, name="gain", positive=True)))
        object.__setattr__(
            self, "_saturation", float(exact(saturation, None, call=call, name="saturation", positive=True))
        )

    @property
    def gain(self) -> u.Quantity:
        """Charge per unit weight at weight zero, in fC."""
        return u.Quantity(self._gain, unit=u.fcoulomb)

    @property
    def saturation(self) -> float:
        """The weight w_s that sets where the curve saturates; dimensionless."""
        return self._saturation

    @property
    def slope_at_zero(self) -> u.Quantity:
        """The charge per unit weight at weight zero, in fC; it is equal to ``gain``."""
        return self.gain

    def _femtocoulombs(self, weights: jax.Array) -> jax.Array:
        return _saturating(weights, self._gain * self._saturation, self._saturation)


# The two functions of this file that compute several operations are compiled, because outside jit JAX would compile
# each operation for each shape. The numbers of a curve are arguments, so that all curves use the same programs.
@partial(jax.jit, inline=True)
def _saturating(weights: jax.Array, largest: float, saturation: float) -> jax.Array:
    return largest * jnp.tanh(weights / saturation)


@final
@dataclass(frozen=True, init=False, repr=False)
class TabulatedCharge(ChargeCurve):
    """A measured charge curve: monotone interpolation between the points of a table of weights and charges.

    Between the points of the table, the curve is the piecewise cubic PCHIP interpolation (F. N. Fritsch and J. Butland,
    SIAM J. Sci. Stat. Comput. 5, 300, 1984). It passes through the points, never decreases, and has a continuous
    derivative. Beyond each end of the table, the curve is a straight line with the slope of the curve at this end.

    Parameters
    ----------
    weights : array, shape [K]
        At least two dimensionless weights. They must be strictly increasing, even after rounding to float32.
    charges : Quantity, shape [K]
        The charge that was measured at each weight. The charges must not decrease.

    Raises
    ------
    TypeError
        If ``weights`` has a unit, or if ``charges`` is not a charge.
    ValueError
        If the arrays differ in length or have fewer than two elements, if ``weights`` is not strictly increasing, or
        if ``charges`` decreases or is constant.

    Examples
    --------
    >>> import brainunit as u
    >>> from brainhw.chip import H1V1, TabulatedCharge
    >>> curve = TabulatedCharge([-0.9, -0.4, 0.0, 0.4, 0.9], [-0.8, -0.4, 0.0, 0.41, 0.82] * u.fcoulomb)
    >>> print(f"{float(curve(0.4).mantissa):.2f} fC")
    0.41 fC
    >>> chip = H1V1.replace(charge=curve, provenance="measured")
    """

    kind: ClassVar[str] = "tabulated"
    keys: ClassVar[tuple[str, ...]] = ("weights", "charges")
    charge_key: ClassVar[str] = "charges"
    _weights: tuple[float, ...]
    _charges: tuple[float, ...]
    # Row k contains the coefficient of t**k for each interval between two points; t goes from 0 to 1 in the interval.
    _cubics: tuple[tuple[float, ...], ...] = field(compare=False)
    _slopes: tuple[float, float, float] = field(compare=False)

    def __init__(self, weights: Any, charges: u.Quantity) -> None:
        call = type(self).__name__
        w = exact(weights, None, call=call, name="weights", shapes=None)
        q = exact(charges, u.fcoulomb, call=call, name="charges", shapes=None)
        if w.ndim != 1 or w.size < 2 or q.shape != w.shape:
            raise ValueError(
                f"{call}: weights and charges must be two lists of the same length, with at least 2 values; "
                f"got shapes {w.shape} and {q.shape}."
            )
        # The weights are compared in float32, because the curve is evaluated in float32: two points with equal weights
        # would cause a division by zero.
        for name, numbers, falls in (
            ("weights", w, np.diff(w.astype(np.float32)) <= 0),
            ("charges", q, np.diff(q) < 0),
        ):
            if falls.any():
                at = int(np.argmax(falls))
                wanted = "be strictly increasing" if name == "weights" else "not decrease as the weight grows"
                raise ValueError(
                    f"{call}: {name} must {wanted}; got {numbers[at]:.9g} at index {at} and {numbers[at + 1]:.9g} at "
                    f"index {at + 1}. Sort the table by weight, or smooth the measurement."
                )
        if q[0] == q[-1]:
            raise ValueError(
                f"{call}: the last charge must be larger than the first; got {q[0]:g} fC for all {q.size}."
            )
        # Use PCHIP instead of a cubic spline, which can overshoot: its charge could decrease between two increasing
        # points.
        spline = PchipInterpolator(w, q)
        powers = np.arange(4)[:, None]
        object.__setattr__(self, "_weights", tuple(w.tolist()))
        object.__setattr__(self, "_charges", tuple(q.tolist()))
        cubics = spline.c[::-1] * np.diff(w) ** powers
        object.__setattr__(self, "_cubics", tuple(map(tuple, cubics.tolist())))
        at_zero = np.clip(0.0, w[0], w[-1])
        object.__setattr__(self, "_slopes", tuple(spline([w[0], at_zero, w[-1]], nu=1).tolist()))

    @property
    def weights(self) -> np.ndarray:
        """The weights of the table, shape ``[K]``."""
        return np.asarray(self._weights)

    @property
    def charges(self) -> u.Quantity:
        """The charges of the table in fC, shape ``[K]``."""
        return u.Quantity(np.asarray(self._charges), unit=u.fcoulomb)

    @property
    def slope_at_zero(self) -> u.Quantity:
        """The slope of the curve at weight zero, in fC.

        If weight zero is outside the table, the value is the slope at the nearest end of the table.
        """
        return u.Quantity(self._slopes[1], unit=u.fcoulomb)

    def _femtocoulombs(self, weights: jax.Array) -> jax.Array:
        knots = jnp.asarray(self._weights, dtype=weights.dtype)
        cubics = jnp.asarray(self._cubics, dtype=weights.dtype)
        return _interpolated(weights, knots, cubics, self._slopes[0], self._slopes[-1])

    def __repr__(self) -> str:
        w, q = self._weights, self._charges
        return (
            f"TabulatedCharge({len(w)} points, weights {w[0]:.6g} to {w[-1]:.6g}, charges {q[0]:.6g} to {q[-1]:.6g} fC)"
        )


@partial(jax.jit, inline=True)
def _interpolated(weights: jax.Array, knots: jax.Array, cubics: jax.Array, first: float, last: float) -> jax.Array:
    inside = jnp.clip(weights, knots[0], knots[-1])
    # Tables are short, so comparing with every point compiles and runs faster than a binary search.
    found = jnp.searchsorted(knots, inside, side="right", method="compare_all")
    interval = jnp.clip(found - 1, 0, len(knots) - 2)
    t = (inside - knots[interval]) / jnp.diff(knots)[interval]
    c0, c1, c2, c3 = cubics[:, interval]
    # Use `<=` here: at an end point, clip may pass no gradient, so the gradient must come from the slope at this end.
    slope = jnp.where(weights <= knots[0], first, last)
    return c0 + t * (c1 + t * (c2 + t * c3)) + slope * (weights - inside)


# A file contains the kind of a curve, never the name of a class.
_KINDS: dict[str, type[ChargeCurve]] = {
    curve.kind: curve for curve in (LinearCharge, SaturatingCharge, TabulatedCharge)
}
