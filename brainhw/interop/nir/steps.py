r"""How the differential equations of NIR become steps, and steps of brainhw become differential equations.

NIR writes :math:`\tau \dot v = v_{leak} - v + R I` and leaves the discretisation to the reader. Here the input is
held over a step, so that :math:`v' = \beta v + (1 - \beta)(R I + v_{leak})`, with
:math:`\beta = e^{-\Delta t/\tau}` (``'exact'``, the solution of the equation) or :math:`\beta = 1 - \Delta t/\tau`
(``'euler'``, forward Euler).
"""

from __future__ import annotations

from typing import NamedTuple

import brainstate
import numpy as np

__all__ = ["DISCRETISATIONS", "Current", "above", "below", "cuba_current", "kept", "tau_of", "tau_to_run"]

DISCRETISATIONS = ("exact", "euler")


def kept(tau: np.ndarray, dt: float, how: str) -> np.ndarray:
    """Return the share that one step leaves of what decays with ``tau``; both in seconds."""
    return np.exp(-dt / tau) if how == "exact" else 1 - dt / tau


def tau_of(beta: np.ndarray, dt: float, how: str) -> np.ndarray:
    """Return the time constant with which a reader who steps like ``how`` keeps the share ``beta``."""
    with np.errstate(divide="ignore"):
        return -dt / np.log(beta) if how == "exact" else dt / (1 - beta)


def tau_to_run(tau: np.ndarray, dt: float, how: str) -> np.ndarray:
    """Return the time constant with which a layer of brainhw, whose leak is exact, keeps what ``how`` says."""
    return tau if how == "exact" else -dt / np.log1p(-dt / tau)


def below(V_th: np.ndarray) -> np.ndarray:
    """Return the strict threshold (fires above it) of a neuron that fires at ``V_th`` or above."""
    dtype = np.dtype(brainstate.environ.dftype())
    return np.nextafter(np.asarray(V_th, dtype), dtype.type(-np.inf)).astype(float)


def above(threshold: np.ndarray) -> np.ndarray:
    """Return the threshold at or above which a neuron fires that fires strictly above ``threshold``."""
    dtype = np.dtype(brainstate.environ.dftype())
    threshold = np.asarray(threshold, float)
    held = threshold.astype(dtype)
    # A change of unit leaves a rounding error in the last places, which is not to move a threshold.
    same = np.abs(held.astype(float) - threshold) <= 4 * np.finfo(float).eps * np.abs(threshold)
    return np.where((held > threshold) & ~same, held, np.nextafter(held, dtype.type(np.inf))).astype(float)


class Current(NamedTuple):
    """What a current-based neuron adds to its membrane in a step: ``held * I + direct * S``, then ``I`` moves on.

    Attributes
    ----------
    beta : numpy.ndarray
        Share of the current that a step leaves.
    held, direct : numpy.ndarray
        Factors of the current before the step and of the input of the step.
    """

    beta: np.ndarray
    held: np.ndarray
    direct: np.ndarray


def cuba_current(tau_mem: np.ndarray, tau_syn: np.ndarray, r: np.ndarray, dt: float, how: str) -> Current:
    r"""Return the current of ``CubaLI`` and ``CubaLIF`` for an input that is held over a step.

    The exact solution of both equations together is

    .. math:: v' = \alpha v + c I + ((1 - \alpha) R - c) S,
              \qquad c = R \tau_{syn} \frac{\beta - \alpha}{\tau_{syn} - \tau_{mem}}

    with :math:`c = R \frac{\Delta t}{\tau} e^{-\Delta t/\tau}` where the two are equal; forward Euler takes
    :math:`c = (1 - \alpha) R` and no direct part.
    """
    alpha, beta = kept(tau_mem, dt, how), kept(tau_syn, dt, how)
    if how == "euler":
        return Current(beta, (1 - alpha) * r, np.zeros_like(r))
    # (beta - alpha)/(tau_syn - tau_mem) without the cancellation where the two are close.
    rates = dt / tau_mem - dt / tau_syn
    near = np.abs(rates) < 1e-6
    safe = np.where(near, 1.0, rates)
    ratio = np.where(near, 1 - rates / 2, -np.expm1(-safe) / safe)
    held = r * (dt / tau_mem) * beta * ratio
    return Current(beta, held, (1 - alpha) * r - held)
