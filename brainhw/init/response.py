"""Response of a layer to one spike, and the membrane variance and firing rates that follow from it."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import brainunit as u
import jax.numpy as jnp
import numpy as np
from scipy import fft
from scipy.special import ndtr, owens_t

from brainhw.init.circuit import Circuit

__all__ = [
    "InputMoments",
    "MembraneBasis",
    "Response",
    "crossing_rate",
    "input_moments",
    "measure_response",
    "membrane_basis",
    "participation",
    "silent_fraction",
]

_FIRST_STEPS = 256
_MAX_STEPS = 65_536  # a membrane that needs more steps hardly leaks
_TAIL = 1e-6  # largest share of the response in its last twentieth: the truncation error is a few parts in a million
# Largest relative change when the probe is halved. A probe at 1 % of the scale of a smooth curve is off by 7e-5, one at
# 10 % by about 1 % (measured).
_LINEARITY = 0.01
_HALVINGS = 10


@dataclasses.dataclass(frozen=True)
class Response:
    """Membrane response to one input spike, per unit of weight, for each input of the layer.

    An input of the layer is a column of the synapse. Behind a link, :meth:`WiredCircuit.by_column` converts inputs to
    columns. ``offset`` is per neuron, or per unit after the solver has taken medians. ``asymmetry`` is the root mean
    square of the slopes of the charge curve on both sides of zero, divided by their mean; 1 for a smooth curve.
    """

    response: np.ndarray  # ``[L, n_columns]`` in mV per unit weight; the first row is the step of the spike
    asymmetry: float
    offset: np.ndarray  # final membrane without input, for example from a bias, ``[n_neurons]`` in mV
    dt: float  # in seconds

    @property
    def integral(self) -> np.ndarray:
        r""":math:`\bar\epsilon = \Delta t \sum_t k(t)`, ``[n_columns]`` in mV s."""
        return self.dt * self.response.sum(axis=0)

    @property
    def square_integral(self) -> np.ndarray:
        r""":math:`\hat\epsilon = \Delta t \sum_t k(t)^2`, ``[n_columns]`` in mV^2 s."""
        return self.dt * self.asymmetry**2 * (self.response**2).sum(axis=0)

    @property
    def peak(self) -> np.ndarray:
        """Largest response, ``[n_columns]`` in mV."""
        return self.response.max(axis=0)


def measure_response(circuit: Circuit, dt: u.Quantity, n_steps: int, *, call: str = "fluct_init") -> Response:
    """Measure the response of a layer to one spike per unit of weight.

    The response is the product of two measurements: the drive per unit weight of the synapse alone, and the membrane's
    response to an impulse of the layer alone. Charge curves may bend, so the drive is measured with a small weight,
    with both signs. Half of that weight must give the same drive per unit weight within 1 %; otherwise the weight is
    halved, up to ten times. The membrane without a spike is subtracted. The record doubles in length until its last
    twentieth holds less than a millionth of the whole, up to 65,536 steps. The response of a neuron that never forgets
    is cut off after ``n_steps``, the length of the data.
    """
    # A chip's weight limit sets the scale of its weights. Without one, weights are voltages, scaled by the threshold.
    scale = circuit.weight_limit if circuit.has_weight_limit else float(circuit.threshold().min())
    present = circuit.weight
    try:
        # Much smaller probes would drown in the float32 rounding of an offset, such as a bias.
        up, down = _slopes(circuit, 1e-3 * scale, call)
    finally:
        circuit.store(present, None)
    n_synapses = circuit.layer_synapses
    # One row per synapse of a neuron, and one row without a spike as the baseline.
    mask = np.tile(np.concatenate([np.eye(n_synapses), np.zeros((1, n_synapses))]), circuit.n_neurons)
    # A charge curve may bend at zero. Centred weights have both signs equally often, so take the mean of both slopes.
    mean_slope = 0.5 * (up + down)
    unit, reach = circuit.drive_unit(), circuit.reach()
    # Without spikes a layer is linear, so use a large impulse: it stands clear of the rounding error of a bias.
    size = 1000 * float(circuit.threshold().min()) * _per_millivolt(circuit, unit)

    def respond(length: int) -> tuple[np.ndarray, np.ndarray]:
        impulse = np.zeros((length, *mask.shape))
        impulse[0] = mask * size
        drive = jnp.asarray(impulse.reshape(*impulse.shape[:2], *circuit.layer.in_size)) * unit
        traces = np.asarray(circuit.membrane(drive), dtype=np.float64)
        moved = (traces[:, :-1] - traces[:, -1:]) / size * mean_slope
        return np.moveaxis(moved, 1, 2).reshape(length, -1) * reach, traces[-1, -1]

    length = n_steps if circuit.remembers_all else _FIRST_STEPS
    while True:
        response, offset = respond(length)
        tail = np.abs(response[-max(1, length // 20) :]).sum(axis=0)
        if circuit.remembers_all or np.all(tail <= _TAIL * np.abs(response).sum(axis=0)):
            break
        if length >= _MAX_STEPS:
            warnings.warn(
                f"{call}: the membrane of {circuit.family} neurons has not come back from one spike after {length} "
                "steps, so it hardly leaks and the mean membrane has no fixed value. Use a shorter tau or a longer dt.",
                UserWarning,
                stacklevel=4,
            )
            break
        length *= 2
    asymmetry = float(np.sqrt(0.5 * (up**2 + down**2)) / abs(mean_slope))
    return Response(response, asymmetry, offset, float(dt.to(u.second).mantissa))


def _per_millivolt(circuit: Circuit, unit: u.Unit) -> float:
    """Return the drive that moves a membrane by about one millivolt."""
    C = getattr(circuit.chip, "C", None)
    return 1.0 if C is None else float((C * u.mV).to(unit).mantissa)


def _slopes(circuit: Circuit, probe: float, call: str) -> tuple[float, float]:
    """Return the drive per unit weight just above and just below zero weight, measured on the synapse alone."""
    at_zero = circuit.probe(0.0)

    def slopes(size: float) -> np.ndarray:
        return np.array([(circuit.probe(side * size) - at_zero) / (side * size) for side in (1, -1)])

    for _ in range(_HALVINGS + 1):
        first, half = slopes(probe), slopes(probe / 2)
        if np.all(np.abs(first - half) <= _LINEARITY * np.abs(half)):
            if not half.any():
                raise RuntimeError(
                    f"{call}: the synapse of {circuit.family} gives no charge at weights up to {probe:g}, so there is "
                    "no response to scale. Check the charge curve of the chip."
                )
            return float(half[0]), float(half[1])
        probe /= 2
    raise RuntimeError(
        f"{call}: the synapse of {circuit.family} is not smooth at zero weight: per unit weight it gives {first} at "
        f"{2 * probe:g} and {half} at half of it. Check the charge curve of the chip."
    )


_CHUNK = 4_000_000  # numbers per Fourier transform, which bounds the memory


@dataclasses.dataclass(frozen=True)
class InputMoments:
    """First and second moments of an input, as rates in Hz averaged over all channels."""

    rates: np.ndarray  # mean of each channel over time and batch, per step
    nu_mean: float  # E[x]/dt
    nu_var: float  # E[x^2]/dt, equal to ``nu_mean`` for binary spikes
    nu_size: float  # E[|x|]/dt, equal to ``nu_mean`` for nonnegative input
    dt: float  # in seconds

    @property
    def fan_in(self) -> int:
        """Number of input channels."""
        return len(self.rates)

    @property
    def mean_is_a_lever(self) -> bool:
        """Whether shifting all weights shifts the mean membrane. It does not if the input is symmetric about zero."""
        # mu_W = mu_U / (n nu_mean eps_bar) grows without bound as the mean input goes to zero.
        return abs(self.nu_mean) > 0.05 * self.nu_size


@dataclasses.dataclass(frozen=True)
class MembraneBasis:
    r"""Variance of the sub-threshold membrane, quadratic in the spread of the weights and in the mean membrane.

    .. math:: \sigma_{U,i}^2 = \mu_{U,i}^2\, m_i + \textstyle\sum_{c \in i} \sigma_{W,c}^2\, s_c
    """

    mean_response: np.ndarray  # mean membrane per unit of the mean weight of a column, ``[n_columns]`` in mV
    of_mean: np.ndarray  # m, ``[n_neurons]``: variance from the common part of all weights, per square of mu_U
    of_spread: np.ndarray  # s, ``[n_columns]`` in mV^2
    kept: float  # share of the spread's variance left after centring, smallest over neurons; 1 without centring
    step_correlation: float  # lag-1 autocorrelation of the membrane, mean over neurons


def participation(rates: np.ndarray) -> float:
    """Return the participation ratio of the rates: the effective number of channels that carry the mean."""
    squares = float(np.sum(rates**2))
    return float(np.sum(rates)) ** 2 / squares if squares > 0 else 0.0


def input_moments(x: np.ndarray, dt: float) -> InputMoments:
    """Measure the moments of ``x`` ``[B, T, N]`` with step ``dt`` in seconds."""
    return InputMoments(
        rates=x.mean(axis=(0, 1), dtype=np.float64),
        nu_mean=float(x.mean(dtype=np.float64)) / dt,
        nu_var=float(np.square(x, dtype=np.float64).mean()) / dt,
        nu_size=float(np.abs(x).mean(dtype=np.float64)) / dt,
        dt=dt,
    )


def membrane_basis(
    x: np.ndarray,
    response: Response,
    moments: InputMoments,
    n_synapses: int = 1,
    *,
    exact: bool,
    direction: np.ndarray | None,
) -> MembraneBasis:
    """Return the variance basis of a layer for input ``x`` ``[B, T, N]``.

    With ``exact`` it uses the covariance of the filtered input over time and batch, which is right for spikes of any
    rate, analog values, and correlated or unequal channels. Otherwise it uses the second moment of Rossbroich et al.
    (2022), which is right for sparse independent spikes. ``direction`` is the unit vector ``[N]`` that centring
    projects out of each column. A neuron has ``n_synapses`` columns; each contributes an equal part of the mean.
    """
    mean_response = moments.fan_in * moments.nu_mean * response.integral
    with np.errstate(divide="ignore", invalid="ignore"):
        weight_per_mean = 1 / (n_synapses * mean_response)
    each, common, along = _autocovariances(x, direction)
    of_data = response.response[: len(each)]
    products = _autocorrelation(of_data, len(each) + 1)
    spread = _weighted(each, products[:-1])
    spread_later = _weighted(each, _shifted(products))
    kept = 1.0
    if exact:
        if direction is not None:
            # tr(PCP) with P = I - d d^T, rescaled because centred columns are stretched to the original spread.
            whole = spread
            spread = np.maximum(spread - _weighted(along, products[:-1]), 0.0) / (1 - 1 / moments.fan_in)
            kept = float(np.min(spread / np.maximum(whole, 1e-30)))
            spread_later = (spread_later - _weighted(along, _shifted(products))) / (1 - 1 / moments.fan_in)
        of_mean = _weighted(common, _autocorrelation(_joined(of_data, weight_per_mean, n_synapses), len(common)))
        of_spread = spread * response.asymmetry**2
    else:
        # Campbell's theorem for Poisson trains. Bernoulli spikes have 1 - nu dt of that variance (0.61 at 392 Hz).
        of_spread = moments.fan_in * moments.nu_var * response.square_integral
        joined = response.asymmetry * _joined(response.response, weight_per_mean, n_synapses)
        of_mean = moments.fan_in * moments.nu_var * response.dt * (joined**2).sum(axis=0)
    correlation = float(np.mean(spread_later) / np.mean(spread)) if np.mean(spread) > 0 else 0.0
    return MembraneBasis(mean_response, of_mean, of_spread, kept, correlation)


def _joined(response: np.ndarray, weight_per_mean: np.ndarray, n_synapses: int) -> np.ndarray:
    """Return the response of each neuron, ``[L, n_neurons]``, to one spike at all of its synapses."""
    return (response * weight_per_mean).reshape(len(response), -1, n_synapses).sum(axis=2)


def _autocovariances(x: np.ndarray, direction: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return autocovariances at lags 0 to T - 1: of all channels added up, of their sum, and along ``direction``.

    The variance of any membrane is a weighted sum of these values, so one pass over the input serves all neurons.
    Every lag is divided by the full length: this biased estimate keeps each such sum nonnegative.
    """
    n_batch, n_steps, n_in = x.shape
    mean = x.mean(axis=(0, 1), dtype=np.float64)
    # Zero-pad to twice the length; otherwise the FFT would correlate the end of the data with its beginning.
    n_fft = fft.next_fast_len(2 * n_steps, real=True)
    power = np.zeros((3, n_fft // 2 + 1))
    for first in range(0, n_batch, max(1, _CHUNK // (n_steps * n_in))):
        part = x[first : first + max(1, _CHUNK // (n_steps * n_in))] - mean
        power[0] += np.square(np.abs(fft.rfft(part, n_fft, axis=1))).sum(axis=(0, 2))
        power[1] += np.square(np.abs(fft.rfft(part.sum(axis=2), n_fft, axis=1))).sum(axis=0)
        if direction is not None:
            power[2] += np.square(np.abs(fft.rfft(part @ direction, n_fft, axis=1))).sum(axis=0)
    each, common, along = fft.irfft(power, n_fft, axis=1)[:, :n_steps] / (n_batch * n_steps)
    return each, common, along


def _autocorrelation(response: np.ndarray, n_lags: int) -> np.ndarray:
    """Return ``sum_t k(t) k(t + lag)``, ``[n_lags, columns]``. Equal kernels are computed once."""
    distinct, inverse = np.unique(response.T, axis=0, return_inverse=True)
    n_fft = fft.next_fast_len(len(response) + max(n_lags, len(response)), real=True)
    power = np.square(np.abs(fft.rfft(distinct, n_fft, axis=1)))
    return fft.irfft(power, n_fft, axis=1)[:, :n_lags].T[:, inverse.reshape(-1)]


def _weighted(covariance: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Return the sum over positive and negative lags."""
    return covariance[0] * products[0] + 2 * covariance[1:] @ products[1 : len(covariance)]


def _shifted(products: np.ndarray) -> np.ndarray:
    """Return the symmetrised lag-1 autocorrelation."""
    return 0.5 * (np.concatenate([products[1:2], products[:-2]]) + products[1:])


def crossing_rate(xi: Any, step_correlation: float, dt: float) -> Any:
    r"""Return the rate in Hz of upward threshold crossings of a Gaussian membrane in steps of ``dt`` seconds.

    .. math:: r = \frac{P(U_t < V_{th} \le U_{t+1})}{\Delta t}
                = \frac{2}{\Delta t} T\!\left(\xi, \sqrt{\tfrac{1 - \rho}{1 + \rho}}\right)

    with the threshold :math:`\xi` standard deviations above the mean, the lag-1 correlation :math:`\rho` and Owen's
    :math:`T`. This is Rice's formula in discrete time. It approximates the firing rate if that is low, because resets
    and the clamp are left out. A mean above threshold is treated as a mean at threshold.
    """
    # At a correlation of 1 nothing crosses. Near -1 the clip keeps the argument of Owen's T finite.
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
    r"""Return the expected share of neurons without a spike on data of a given length.

    .. math:: E_m\!\left[\exp\!\left(-t\, r\!\left(\tfrac{V_{th} - m}{\sigma_U}\right)\right)\right], \quad
              m \sim \mathcal N(\mu_U, q\, \sigma_U^2)

    with :math:`q` = ``quenched`` for weights that are not centred, and :math:`t` = ``seconds``, the length of all
    samples together. ``mean_above_floor`` is the unclamped mean, in standard deviations, of membranes that a chip
    clamps at zero. A reflected membrane spends all its time above zero and reaches threshold :math:`1/\Phi` times as
    often.
    """
    # Spikes are modelled as a Poisson process at the crossing rate: no spike in t seconds has probability exp(-t r).
    # This predicts the silent share of simulated neurons to within 0.06 (10 and 50 Hz inputs, xi 2 and 3).
    # The mean over neurons is a Gaussian integral; Gauss-Hermite nodes give it without sampling.
    nodes, weights = np.polynomial.hermite_e.hermegauss(81 if quenched else 1)
    shift = np.sqrt(quenched) * nodes
    rates = crossing_rate(np.asarray(xi)[..., None] - shift, step_correlation, dt)
    if mean_above_floor is not None:
        rates = rates / np.maximum(ndtr(np.asarray(mean_above_floor)[..., None] + shift), 1e-12)
    return float(np.mean(np.exp(-seconds * rates) @ (weights / weights.sum())))
