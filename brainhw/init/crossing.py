"""How often a membrane that only fluctuates reaches the threshold, and how many neurons stay silent by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtr, owens_t

__all__ = ["crossing_rate", "silent_fraction"]


def crossing_rate(xi: Any, step_correlation: float, dt: float) -> Any:
    r"""Return the rate in Hz at which a Gaussian membrane crosses a threshold upwards, seen in steps of ``dt`` seconds.

    .. math:: r = \frac{P(U_t < V_{th} \le U_{t+1})}{\Delta t}
                = \frac{2}{\Delta t} T\!\left(\xi, \sqrt{\tfrac{1 - \rho}{1 + \rho}}\right)

    with the threshold :math:`\xi` standard deviations above the mean, :math:`\rho` the correlation from one step to the
    next and Owen's :math:`T`: Rice's formula in discrete time. A neuron fires about as often while its rate is low:
    resets and a clamp are left out. A mean beyond threshold counts as one at threshold.

    Parameters
    ----------
    xi : float or array
        Distance to threshold in standard deviations.
    step_correlation : float
        :math:`\rho`.
    dt : float
        Step in seconds.
    """
    rho = float(np.clip(step_correlation, -1 + 1e-12, 1.0))
    return 2 * owens_t(np.maximum(xi, 0.0), np.sqrt((1 - rho) / (1 + rho))) / dt


def silent_fraction(
    xi: Any,
    step_correlation: float,
    dt: float,
    seconds: float,
    *,
    quenched: float = 0.0,
    mean_above_floor: Any = None,
) -> float:
    r"""Return the expected share of neurons without a spike on data of a length.

    .. math:: E_m\!\left[\exp\!\left(-t\, r\!\left(\tfrac{V_{th} - m}{\sigma_U}\right)\right)\right], \quad
              m \sim \mathcal N(\mu_U, q\, \sigma_U^2)

    Parameters
    ----------
    xi : float or array
        Distance to threshold in standard deviations, of one neuron or of each.
    step_correlation, dt : float
        As for :func:`crossing_rate`.
    seconds : float
        Length of the data, all samples together.
    quenched : float, optional
        Variance :math:`q` of the neurons' means in units of that of a membrane in time: what weights that are not
        centred add to the theory of one neuron. Default 0.
    mean_above_floor : float or array, optional
        For membranes that a chip holds above zero: their unclamped mean in standard deviations. A reflected membrane
        spends its time above the floor alone and reaches threshold :math:`1/\Phi` times as often. Default ``None``: no
        floor.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(81 if quenched else 1)
    shift = np.sqrt(quenched) * nodes
    rates = crossing_rate(np.asarray(xi)[..., None] - shift, step_correlation, dt)
    if mean_above_floor is not None:
        rates = rates / np.maximum(ndtr(np.asarray(mean_above_floor)[..., None] + shift), 1e-12)
    return float(np.mean(np.exp(-seconds * rates) @ (weights / weights.sum())))
