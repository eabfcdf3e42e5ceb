r"""Discretisation of the differential equations of NIR, and the options of an import or export.

NIR defines :math:`\tau \dot v = v_{leak} - v + R I` but no discretisation. brainhw assumes that the input is constant
during a step, so :math:`v' = \beta v + (1 - \beta)(R I + v_{leak})`, with :math:`\beta = e^{-\Delta t/\tau}`
(``'exact'``, the solution of the equation) or :math:`\beta = 1 - \Delta t/\tau` (``'euler'``, forward Euler).

``CubaLIF`` has two equations, one for the current and one for the membrane potential. ``'together'`` solves both
exactly. ``'current-first'`` updates the current and drives the membrane potential with the new current.
``'old-current'`` drives the membrane potential with the current before its update.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import brainstate
import brainunit as u
import numpy as np

from brainhw import _arguments

__all__ = [
    "CUBA_ORDERS",
    "DISCRETISATIONS",
    "IF_INPUTS",
    "Options",
    "above",
    "below",
    "cuba_current",
    "decay_per_step",
    "millivolts_in",
    "numbers_in",
    "tau_of",
]

Discretisation = Literal["exact", "euler"]
DISCRETISATIONS: tuple[Discretisation, ...] = get_args(Discretisation)
CubaOrder = Literal["together", "current-first", "old-current"]
CUBA_ORDERS: tuple[CubaOrder, ...] = get_args(CubaOrder)
IfInput = Literal["per-second", "per-step"]
IF_INPUTS: tuple[IfInput, ...] = get_args(IfInput)


class Options(NamedTuple):
    """Options of ``to_nir`` or ``from_nir``.

    ``how`` is the argument ``discretisation``. A value of 1 in the graph represents ``millivolts`` mV. The other fields
    have the names of the arguments of ``to_nir``.
    """

    dt: u.Quantity
    millivolts: float
    how: str
    reset: str | None
    gain: str = "weights"
    weights: str = "float"
    cuba_order: str | None = None
    if_input: str | None = None
    as_dt: u.Quantity | None = None

    @property
    def seconds(self) -> float:
        """Time step in seconds.

        NIR does not define a unit of time: libraries use seconds, milliseconds or steps. brainhw writes seconds.
        """
        return float(self.dt.to(u.second).mantissa)

    @property
    def file_seconds(self) -> float:
        """Time step of the importing library in seconds: ``as_dt`` if it is given, otherwise ``dt``."""
        return self.seconds if self.as_dt is None else float(self.as_dt.to(u.second).mantissa)

    @property
    def if_seconds(self) -> float:
        """Factor by which the importing library multiplies the input of an ``IF`` node: its time step in s, or 1."""
        return 1.0 if self.if_input == "per-step" else self.file_seconds


def millivolts_in(voltage_unit: Any, call: str) -> float:
    """Return the number of millivolts that 1 in a graph represents."""
    given = 1.0 * voltage_unit if isinstance(voltage_unit, u.Unit) else voltage_unit
    found = _arguments.quantity(given, u.mV, call=call, name="voltage_unit", shapes=[()], positive=True)
    return float(found.mantissa)


def numbers_in(value: Any, unit: u.Unit) -> np.ndarray:
    """Return ``value`` in ``unit`` as a float64 array without a unit."""
    return np.asarray(u.get_mantissa(value.to(unit) if isinstance(value, u.Quantity) else value)).astype(float)


def decay_per_step(tau: np.ndarray, dt: float, how: str) -> np.ndarray:
    """Return the decay factor of one step for the time constant ``tau``. Both times are in seconds."""
    return np.exp(-dt / tau) if how == "exact" else 1 - dt / tau


def tau_of(beta: np.ndarray, dt: float, how: str) -> np.ndarray:
    """Return the time constant that the discretisation ``how`` converts to the decay factor ``beta``."""
    # A neuron without leak (beta = 1) has an infinite time constant.
    with np.errstate(divide="ignore"):
        return -dt / np.log(beta) if how == "exact" else dt / (1 - beta)


def below(V_th: np.ndarray) -> np.ndarray:
    """Convert ``V_th`` to a NIR threshold: the largest float below it, because NIR fires only above its threshold."""
    # Computed in the precision of the network, because its membrane potentials cannot lie between two adjacent
    # floating-point numbers of that precision.
    dtype = np.dtype(brainstate.environ.dftype())
    return np.nextafter(np.asarray(V_th, dtype), dtype.type(-np.inf)).astype(float)


def above(threshold: np.ndarray) -> np.ndarray:
    """Convert a NIR threshold to ``V_th``: the smallest float above it, because brainhw also fires at ``V_th``."""
    dtype = np.dtype(brainstate.environ.dftype())
    held = threshold.astype(dtype)
    # The rounding error of a unit conversion must not change the threshold.
    same = np.abs(held.astype(float) - threshold) <= 4 * np.finfo(float).eps * np.abs(threshold)
    return np.where((held > threshold) & ~same, held, np.nextafter(held, dtype.type(np.inf))).astype(float)


def cuba_current(
    tau_mem: np.ndarray, tau_syn: np.ndarray, r: np.ndarray, dt: float, how: str, order: str
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the decay factor :math:`\beta` and the factor :math:`c` of the current of ``CubaLI`` and ``CubaLIF``.

    If the input is constant during a step, the exact solution of both equations (``order='together'``) is

    .. math:: v' = \alpha v + c I + ((1 - \alpha) R - c) S,
              \qquad c = R \tau_{syn} \frac{\beta - \alpha}{\tau_{syn} - \tau_{mem}}

    Here :math:`I` is the current before the step, and :math:`S` is the input times ``w_in``. For equal time constants,
    :math:`c = R \frac{\Delta t}{\tau} e^{-\Delta t/\tau}`. For the other orders, :math:`c = (1 - \alpha) R` and the
    term with :math:`S` is omitted. With ``'current-first'``, :math:`c` multiplies the current after its update. With
    ``'old-current'``, :math:`c` multiplies the current before its update.
    """
    beta = decay_per_step(tau_syn, dt, how)
    if order != "together":
        return beta, (1 - decay_per_step(tau_mem, dt, how)) * r
    # For close time constants, (beta - alpha)/(tau_syn - tau_mem) would lose digits by cancellation, so expm1 is used.
    # expm1(x)/x would divide by zero at x = 0. For |x| below 1e-6, two terms of its Taylor series have an error of at
    # most 1e-12.
    rates = dt / tau_mem - dt / tau_syn
    near = np.abs(rates) < 1e-6
    safe = np.where(near, 1.0, rates)
    ratio = np.where(near, 1 - rates / 2, -np.expm1(-safe) / safe)
    return beta, r * (dt / tau_mem) * beta * ratio
