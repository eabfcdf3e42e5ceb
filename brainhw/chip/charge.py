"""Charge curves: the charge per spike of a synapse as a function of its weight."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import PchipInterpolator

from brainhw._arguments import as_array, choice, describe, text, unit_name
from brainhw.chip._units import closest, exact, unit_named

__all__ = ["ChargeCurve", "LinearCharge", "SaturatingCharge", "TabulatedCharge"]


class ChargeCurve(ABC):
    """A map from dimensionless weights to charges: ``curve(weights)`` is a Quantity in fC.

    Curves are immutable, hashable and equal by value, and they work under jit, grad and vmap. The concrete curves are
    `LinearCharge`, `SaturatingCharge` and `TabulatedCharge`.
    """

    kind: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]
    """Names of the parameters. Each is stored as ``_<name>`` in plain numbers, charges in fC."""
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
        # Fast path: every preparation calls this.
        plain = isinstance(weights, jax.Array) and jnp.issubdtype(weights.dtype, jnp.floating)
        array = jnp.asarray(weights if plain else as_array(weights, call=call, name="weights"))
        if not jnp.issubdtype(array.dtype, jnp.floating):
            array = array.astype(jnp.result_type(float))
        # Half precision rounds only the result: the curve is evaluated in float32 or float64.
        wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
        return u.Quantity(self._femtocoulombs(wide).astype(array.dtype), unit=u.fcoulomb)

    @abstractmethod
    def _femtocoulombs(self, weights: jax.Array) -> jax.Array:
        """Return the charges in fC for weights in float32 or float64."""

    @property
    @abstractmethod
    def slope_at_zero(self) -> u.Quantity:
        """The charge per unit weight at weight zero, in fC."""

    def to_dict(self) -> dict[str, Any]:
        """Return the curve as plain strings, floats and lists: ``kind``, its parameters, ``unit`` of the charges."""
        held = {key: getattr(self, f"_{key}") for key in self.keys}
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in held.items()}
        return {"kind": self.kind, **plain, "unit": unit_name(u.fcoulomb)}

    @staticmethod
    def from_dict(data: Mapping[str, Any], *, call: str = "ChargeCurve.from_dict") -> ChargeCurve:
        """Build a curve from the output of `to_dict`; ``unit`` may name any unit of charge.

        Raises
        ------
        TypeError, ValueError
            If the kind, the unit or a parameter is unknown, missing or invalid.
        """
        text(call, call="ChargeCurve.from_dict", name="call", some=True)
        if not isinstance(data, Mapping):
            raise TypeError(f"{call}: data must be a mapping as returned by to_dict; got {describe(data)}.")
        curve = _KINDS[choice(data.get("kind"), _KINDS, call=call, name="kind")]
        wanted = (*curve.keys, "unit")
        for key in wanted:
            if key not in data:
                raise ValueError(f"{call}: a {curve.kind} charge curve needs {key!r}; it has {sorted(data)}.")
        for key in data:
            if key not in (*wanted, "kind"):
                raise ValueError(
                    f"{call}: a {curve.kind} charge curve has no {key!r}{closest(key, wanted)}; "
                    f"it takes {', '.join(wanted)}."
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

    The vendor documents that the synapse of H1v2 is linear, but not its gain.

    Parameters
    ----------
    gain : Quantity, scalar
        Charge per unit weight, greater than zero.

    Raises
    ------
    TypeError, ValueError
        If ``gain`` is not a charge, or not finite and greater than zero.

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
        """The charge per unit weight, in fC; equal for all weights."""
        return self.gain

    def _femtocoulombs(self, weights: jax.Array) -> jax.Array:
        return self._gain * weights


@final
@dataclass(frozen=True, init=False, repr=False)
class SaturatingCharge(ChargeCurve):
    """Charge that saturates for large weights: q(w) = gain * w_s * tanh(w / w_s).

    The slope at zero is ``gain`` and the charge stays below ``gain * w_s``. The vendor documents that
    the synapse of H1v1 is not linear; this odd, smooth form is an assumption of brainhw.

    Parameters
    ----------
    gain : Quantity, scalar
        Charge per unit weight at weight zero, greater than zero.
    saturation : float
        Weight w_s at which the charge is tanh(1) = 76 % of the straight line through the origin; dimensionless, greater
        than zero.

    Raises
    ------
    TypeError, ValueError
        If ``gain`` is not a charge or ``saturation`` not a plain number, or one is not finite and greater than zero.

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
        """The weight scale of the saturation; dimensionless."""
        return self._saturation

    @property
    def slope_at_zero(self) -> u.Quantity:
        """The charge per unit weight at weight zero, in fC: the gain."""
        return self.gain

    def _femtocoulombs(self, weights: jax.Array) -> jax.Array:
        return (self._gain * self._saturation) * jnp.tanh(weights / self._saturation)


@final
@dataclass(frozen=True, init=False, repr=False)
class TabulatedCharge(ChargeCurve):
    """A measured charge curve: a table of weights and charges with monotone interpolation.

    Between table points the curve is the cubic of the piecewise monotone interpolation of F. N. Fritsch and J. Butland
    (SIAM J. Sci. Stat. Comput. 5, 300, 1984; PCHIP): it passes through the points, never decreases and has a continuous
    derivative. Outside the table it is linear with the slope at that end.

    Parameters
    ----------
    weights : array, shape [K]
        Dimensionless weights, strictly increasing (in float32 too), at least two.
    charges : Quantity, shape [K]
        Charge measured at each weight, never decreasing.

    Raises
    ------
    TypeError, ValueError
        If ``weights`` carries a unit or ``charges`` is not a charge, or the table is too short, has columns of
        different length, or is not monotone.

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
    # Row k holds the coefficient of t**k for every interval; t runs from 0 to 1 over the interval.
    _cubics: tuple[tuple[float, ...], ...] = field(compare=False)
    _slopes: tuple[float, float, float] = field(compare=False)

    def __init__(self, weights: Any, charges: u.Quantity) -> None:
        call = type(self).__name__
        w = exact(weights, None, call=call, name="weights", shapes=None)
        q = exact(charges, u.fcoulomb, call=call, name="charges", shapes=None)
        if w.ndim != 1 or w.size < 2 or q.shape != w.shape:
            raise ValueError(
                f"{call}: weights and charges must be two lists of the same length, at least 2; "
                f"got shapes {w.shape} and {q.shape}."
            )
        # Checked in float32, in which the curve is evaluated: points that become equal there would divide by zero.
        for name, numbers, falls in (
            ("weights", w, np.diff(w.astype(np.float32)) <= 0),
            ("charges", q, np.diff(q) < 0),
        ):
            if falls.any():
                at = int(np.argmax(falls))
                wanted = "increase strictly" if name == "weights" else "never fall as the weight grows"
                raise ValueError(
                    f"{call}: {name} must {wanted}; number {at} is {numbers[at]:.9g} and number {at + 1} is "
                    f"{numbers[at + 1]:.9g}; sort the table by weight, or smooth the measurement."
                )
        if q[0] == q[-1]:
            raise ValueError(f"{call}: charges must rise from the first to the last; all {q.size} are {q[0]:g} fC.")
        # Not a cubic spline, which may overshoot: the charge would fall although the measurement rises.
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
        """The charge per unit weight at weight zero, in fC; the slope of an end if the table does not contain zero."""
        return u.Quantity(self._slopes[1], unit=u.fcoulomb)

    def _femtocoulombs(self, weights: jax.Array) -> jax.Array:
        knots = jnp.asarray(self._weights, dtype=weights.dtype)
        cubics = jnp.asarray(self._cubics, dtype=weights.dtype)
        first, _, last = self._slopes
        inside = jnp.clip(weights, knots[0], knots[-1])
        # Tables are short: comparing with every knot compiles and runs faster than a binary search.
        found = jnp.searchsorted(knots, inside, side="right", method="compare_all")
        interval = jnp.clip(found - 1, 0, len(self._weights) - 2)
        t = (inside - knots[interval]) / jnp.diff(knots)[interval]
        c0, c1, c2, c3 = cubics[:, interval]
        # `<=`: at an end point clip may pass no gradient, so the slope of the end must apply there.
        slope = jnp.where(weights <= knots[0], first, last)
        return c0 + t * (c1 + t * (c2 + t * c3)) + slope * (weights - inside)

    def __repr__(self) -> str:
        w, q = self._weights, self._charges
        return (
            f"TabulatedCharge({len(w)} points, weights {w[0]:.6g} to {w[-1]:.6g}, charges {q[0]:.6g} to {q[-1]:.6g} fC)"
        )


# A file contains a kind, never the name of a class.
_KINDS: dict[str, type[ChargeCurve]] = {
    curve.kind: curve for curve in (LinearCharge, SaturatingCharge, TabulatedCharge)
}
