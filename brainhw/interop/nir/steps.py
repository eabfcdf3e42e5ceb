r"""Steps of a differential equation of NIR, and the options of an exchange.

NIR writes :math:`\tau \dot v = v_{leak} - v + R I` and leaves the discretisation to the reader. Here the input is
held over a step, so that :math:`v' = \beta v + (1 - \beta)(R I + v_{leak})`, with
:math:`\beta = e^{-\Delta t/\tau}` (``'exact'``, the solution of the equation) or :math:`\beta = 1 - \Delta t/\tau`
(``'euler'``, forward Euler).

``CubaLIF`` has two equations. A step can solve both together, or advance the current first and let the membrane take
the new one, or let the membrane take the old one.
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
    """Options of ``to_nir`` or ``from_nir``; the number 1 in the graph is ``millivolts`` mV."""

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
        """The time step in seconds. NIR files hold no unit of time: readers use s, ms or steps, brainhw seconds."""
        return float(self.dt.to(u.second).mantissa)

    @property
    def file_seconds(self) -> float:
        """The time step in seconds of the reader that the numbers of the file are for: ``as_dt``, otherwise ``dt``."""
        return self.seconds if self.as_dt is None else float(self.as_dt.to(u.second).mantissa)

    @property
    def if_seconds(self) -> float:
        """The factor of the input of ``I`` and ``IF`` nodes in one step: 1 for readers that leave out the step."""
        return 1.0 if self.if_input == "per-step" else self.file_seconds


def millivolts_in(voltage_unit: Any, call: str) -> float:
    """Return how many millivolts the number 1 of a graph is."""
    given = 1.0 * voltage_unit if isinstance(voltage_unit, u.Unit) else voltage_unit
    found = _arguments.quantity(given, u.mV, call=call, name="voltage_unit", shapes=[()], positive=True)
    return float(found.mantissa)


def kept(tau: np.ndarray, dt: float, how: str) -> np.ndarray:
    """Return the share that one step leaves of what decays with ``tau``; both in seconds."""
    return np.exp(-dt / tau) if how == "exact" else 1 - dt / tau


def tau_of(beta: np.ndarray, dt: float, how: str) -> np.ndarray:
    """Return the time constant with which a reader who steps like ``how`` keeps the share ``beta``."""
    # A neuron without leak (beta = 1) has an infinite time constant.
    with np.errstate(divide="ignore"):
        return -dt / np.log(beta) if how == "exact" else dt / (1 - beta)


def below(V_th: np.ndarray) -> np.ndarray:
    """Return the strict threshold (fires above it) of a neuron that fires at ``V_th`` or above."""
    # In the precision of the network: no membrane of it lies between two neighbouring numbers.
    dtype = np.dtype(brainstate.environ.dftype())
    return np.nextafter(np.asarray(V_th, dtype), dtype.type(-np.inf)).astype(float)


def above(threshold: np.ndarray) -> np.ndarray:
    """Return the threshold at or above which a neuron fires that fires strictly above ``threshold``."""
    dtype = np.dtype(brainstate.environ.dftype())
    held = threshold.astype(dtype)
    # A change of unit leaves a rounding error in the last digits; it must not move the threshold.
    same = np.abs(held.astype(float) - threshold) <= 4 * np.finfo(float).eps * np.abs(threshold)
    return np.where((held > threshold) & ~same, held, np.nextafter(held, dtype.type(np.inf))).astype(float)


def cuba_current(
    tau_mem: np.ndarray, tau_syn: np.ndarray, r: np.ndarray, dt: float, how: str, order: str
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the share :math:`\beta` and the factor :math:`c` of the current of ``CubaLI`` and ``CubaLIF``.

    For an input that is held over a step, the exact solution of both equations together is

    .. math:: v' = \alpha v + c I + ((1 - \alpha) R - c) S,
              \qquad c = R \tau_{syn} \frac{\beta - \alpha}{\tau_{syn} - \tau_{mem}}

    with :math:`c = R \frac{\Delta t}{\tau} e^{-\Delta t/\tau}` where the two are equal. With the order
    ``'current-first'`` or ``'old-current'`` it is :math:`c = (1 - \alpha) R` times the current after or before its own
    step, and no term in :math:`S`.
    """
    beta = kept(tau_syn, dt, how)
    if order != "together":
        return beta, (1 - kept(tau_mem, dt, how)) * r
    # (beta - alpha)/(tau_syn - tau_mem) without the cancellation where the two are close. Below 1e-6 the two terms of
    # the series are exact to 1e-12, and expm1(x)/x would divide by zero.
    rates = dt / tau_mem - dt / tau_syn
    near = np.abs(rates) < 1e-6
    safe = np.where(near, 1.0, rates)
    ratio = np.where(near, 1 - rates / 2, -np.expm1(-safe) / safe)
    return beta, r * (dt / tau_mem) * beta * ratio
