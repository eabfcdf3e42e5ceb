r"""Discretisation of the differential equations of NIR, and the options of an import or export.

NIR defines :math:`\tau \dot v = v_{leak} - v + R I` and leaves the discretisation to the reader. Here the input is
constant during a step, so :math:`v' = \beta v + (1 - \beta)(R I + v_{leak})`, with
:math:`\beta = e^{-\Delta t/\tau}` (``'exact'``, the solution of the equation) or :math:`\beta = 1 - \Delta t/\tau`
(``'euler'``, forward Euler).

``CubaLIF`` has two equations. A step can solve both together, or advance the current first and drive the membrane
potential with the new current, or drive it with the old current.
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
    "kept",
    "millivolts_in",
    "tau_of",
]

Discretisation = Literal["exact", "euler"]
DISCRETISATIONS: tuple[Discretisation, ...] = get_args(Discretisation)
CubaOrder = Literal["together", "current-first", "old-current"]
CUBA_ORDERS: tuple[CubaOrder, ...] = get_args(CubaOrder)
IfInput = Literal["per-second", "per-step"]
IF_INPUTS: tuple[IfInput, ...] = get_args(IfInput)


class Options(NamedTuple):
    """Options of ``to_nir`` or ``from_nir``; 1 in the graph represents ``millivolts`` mV."""

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
        """Time step in seconds. NIR files have no unit of time: readers use s, ms or steps, brainhw uses seconds."""
        return float(self.dt.to(u.second).mantissa)

    @property
    def file_seconds(self) -> float:
        """Time step in seconds of the reader that the file is written for: ``as_dt``, otherwise ``dt``."""
        return self.seconds if self.as_dt is None else float(self.as_dt.to(u.second).mantissa)

    @property
    def if_seconds(self) -> float:
        """Input factor of ``I`` and ``IF`` nodes per step: 1 for readers that do not multiply by the time step."""
        return 1.0 if self.if_input == "per-step" else self.file_seconds


def millivolts_in(voltage_unit: Any, call: str) -> float:
    """Return the number of millivolts that 1 in a graph represents."""
    given = 1.0 * voltage_unit if isinstance(voltage_unit, u.Unit) else voltage_unit
    found = _arguments.quantity(given, u.mV, call=call, name="voltage_unit", shapes=[()], positive=True)
    return float(found.mantissa)


def kept(tau: np.ndarray, dt: float, how: str) -> np.ndarray:
    """Return the fraction that remains after one step of a decay with ``tau``; both times in seconds."""
    return np.exp(-dt / tau) if how == "exact" else 1 - dt / tau


def tau_of(beta: np.ndarray, dt: float, how: str) -> np.ndarray:
    """Return the time constant for which a reader with the discretisation ``how`` keeps the fraction ``beta``."""
    # A neuron without leak (beta = 1) has an infinite time constant.
    with np.errstate(divide="ignore"):
        return -dt / np.log(beta) if how == "exact" else dt / (1 - beta)


def below(V_th: np.ndarray) -> np.ndarray:
    """Return the strict threshold (fires above it) of a neuron that fires at or above ``V_th``."""
    # In the precision of the network: its membrane potentials cannot lie between two neighbouring numbers.
    dtype = np.dtype(brainstate.environ.dftype())
    return np.nextafter(np.asarray(V_th, dtype), dtype.type(-np.inf)).astype(float)


def above(threshold: np.ndarray) -> np.ndarray:
    """Return the threshold (fires at or above it) of a neuron that fires strictly above ``threshold``."""
    dtype = np.dtype(brainstate.environ.dftype())
    held = threshold.astype(dtype)
    # A unit conversion leaves a rounding error in the last digits, which must not move the threshold.
    same = np.abs(held.astype(float) - threshold) <= 4 * np.finfo(float).eps * np.abs(threshold)
    return np.where((held > threshold) & ~same, held, np.nextafter(held, dtype.type(np.inf))).astype(float)


def cuba_current(
    tau_mem: np.ndarray, tau_syn: np.ndarray, r: np.ndarray, dt: float, how: str, order: str
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the decay factor :math:`\beta` and the factor :math:`c` of the current of ``CubaLI`` and ``CubaLIF``.

    For an input that is constant during a step, the exact solution of both equations together is

    .. math:: v' = \alpha v + c I + ((1 - \alpha) R - c) S,
              \qquad c = R \tau_{syn} \frac{\beta - \alpha}{\tau_{syn} - \tau_{mem}}

    with :math:`c = R \frac{\Delta t}{\tau} e^{-\Delta t/\tau}` for equal time constants. With the order
    ``'current-first'`` or ``'old-current'``, :math:`c = (1 - \alpha) R` multiplies the current after or before its own
    step, and there is no term in :math:`S`.
    """
    beta = kept(tau_syn, dt, how)
    if order != "together":
        return beta, (1 - kept(tau_mem, dt, how)) * r
    # (beta - alpha)/(tau_syn - tau_mem) without the cancellation for close time constants. Below 1e-6, two terms of the
    # series are exact to 1e-12, where expm1(x)/x would divide by zero.
    rates = dt / tau_mem - dt / tau_syn
    near = np.abs(rates) < 1e-6
    safe = np.where(near, 1.0, rates)
    ratio = np.where(near, 1 - rates / 2, -np.expm1(-safe) / safe)
    return beta, r * (dt / tau_mem) * beta * ratio
