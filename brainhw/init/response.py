"""Measure the response of a layer to one spike. Predict the membrane variance and firing rates from this response."""

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
_MAX_STEPS = 65_536  # a neuron whose response takes more steps has hardly any leak
_TAIL = 1e-6  # largest fraction of the response in its last twentieth; the truncation error is a few parts in a million
# Largest relative change of the slope when the probe weight is halved. For a smooth charge curve, the measured error of
# the slope is 7e-5 with a probe at 1 % of the weight scale, and about 1 % with a probe at 10 %.
_LINEARITY = 0.01
_HALVINGS = 10


@dataclasses.dataclass(frozen=True)
class Response:
    """Response of the membrane potential to one input spike, per unit weight, for each input of the layer.

    Each input of the layer belongs to one weight column of the synapse. If other operations lie between synapse and
    layer, :meth:`WiredCircuit.mean_per_column` converts inputs to columns. ``offset`` has one value per neuron. In a
    :class:`MeasuredInitializer` it has one value per unit, the median over the neurons of the unit. ``asymmetry``
    compares the slopes of the charge curve below and above weight zero. It is the root mean square of the two slopes,
    divided by the absolute value of their mean. For a charge curve that is smooth at zero, ``asymmetry`` is 1.
    """

    response: np.ndarray  # ``[L, n_columns]`` in mV per unit weight; the first row is the step of the spike
    asymmetry: float
    offset: np.ndarray  # steady state without input spikes, for example due to a bias, ``[n_neurons]`` in mV
    dt: float  # in seconds

    @property
    def integral(self) -> np.ndarray:
        r"""Integral of the response, :math:`\bar\epsilon = \Delta t \sum_t k(t)`, ``[n_columns]`` in mV s."""
        return self.dt * self.response.sum(axis=0)

    @property
    def square_integral(self) -> np.ndarray:
        r"""Integral of the squared response, :math:`\hat\epsilon = \Delta t \sum_t k(t)^2`, ``[n_columns]`` in mV^2 s.

        It is multiplied by the square of ``asymmetry``.
        """
        return self.dt * self.asymmetry**2 * (self.response**2).sum(axis=0)

    @property
    def peak(self) -> np.ndarray:
        """Largest response, ``[n_columns]`` in mV."""
        return self.response.max(axis=0)


def measure_response(circuit: Circuit, dt: u.Quantity, n_steps: int, *, call: str = "fluct_init") -> Response:
    """Measure the response of a layer to one input spike, per unit weight.

    The response is the product of two measurements. The first is the output of the synapse per unit weight. It is
    measured with a small positive and a small negative weight, because charge curves may be nonlinear. Half of this
    weight must result in the same output per unit weight within 1 %; otherwise the weight is halved, up to ten times.
    The second measurement is the response of the layer's membrane potential to an impulse, minus the membrane potential
    without an impulse. The recorded length is doubled until the last twentieth contributes less than a millionth of the
    response, or up to 65,536 steps. For neurons whose response never fades completely, the recording ends after
    ``n_steps``, the length of the data.
    """
    # The scale of the weights is the weight limit of a chip. Without a chip, weights are voltages, and the scale is the
    # threshold.
    scale = circuit.weight_limit if circuit.has_weight_limit else float(circuit.threshold().min())
    present = circuit.weight
    try:
        # With a much smaller probe, the float32 rounding error of an offset, such as a bias, would dominate.
        up, down = _slopes(circuit, 1e-3 * scale, call)
    finally:
        circuit.store(present, None)
    n_synapses = circuit.layer_synapses
    # One row per synapse of a neuron, and one row without a spike, which is subtracted.
    mask = np.tile(np.concatenate([np.eye(n_synapses), np.zeros((1, n_synapses))]), circuit.n_neurons)
    # The charge curve may have a kink at zero. Centred weights have both signs equally often, so use the mean slope.
    mean_slope = 0.5 * (up + down)
    unit, reach = circuit.drive_unit(), circuit.reach()
    # Without spikes a layer is linear. So use a large impulse, for which the rounding error of a bias is negligible.
    size = 1000 * float(circuit.threshold().min()) * _per_millivolt(circuit, unit)

    def respond(length: int) -> tuple[np.ndarray, np.ndarray]:
        impulse = np.zeros((length, *mask.shape))
        impulse[0] = mask * size
        drive = jnp.asarray(impulse.reshape(*impulse.shape[:2], *circuit.layer.in_size)) * unit
        traces = np.asarray(circuit.membrane(drive), dtype=np.float64)
        change = (traces[:, :-1] - traces[:, -1:]) / size * mean_slope
        return np.moveaxis(change, 1, 2).reshape(length, -1) * reach, traces[-1, -1]

    length = n_steps if circuit.never_forgets else _FIRST_STEPS
    while True:
        response, offset = respond(length)
        tail = np.abs(response[-max(1, length // 20) :]).sum(axis=0)
        if circuit.never_forgets or np.all(tail <= _TAIL * np.abs(response).sum(axis=0)):
            break
        if length >= _MAX_STEPS:
            warnings.warn(
                f"{call}: the response of {circuit.family} neurons to one spike has not decayed after {length} steps, "
                "so the mean membrane potential does not converge. Use a shorter tau or a longer dt.",
                UserWarning,
                stacklevel=4,
            )
            break
        length *= 2
    asymmetry = float(np.sqrt(0.5 * (up**2 + down**2)) / abs(mean_slope))
    return Response(response, asymmetry, offset, float(dt.to(u.second).mantissa))


def _per_millivolt(circuit: Circuit, unit: u.Unit) -> float:
    """Return the layer input that changes a membrane potential by about one millivolt."""
    C = getattr(circuit.chip, "C", None)
    return 1.0 if C is None else float((C * u.mV).to(unit).mantissa)


def _slopes(circuit: Circuit, probe: float, call: str) -> tuple[float, float]:
    """Return the slopes of the synapse's output over its weight: for a small positive and a small negative weight."""
    at_zero = circuit.probe(0.0)

    def slopes(size: float) -> np.ndarray:
        return np.array([(circuit.probe(side * size) - at_zero) / (side * size) for side in (1, -1)])

    for _ in range(_HALVINGS + 1):
        first, half = slopes(probe), slopes(probe / 2)
        if np.all(np.abs(first - half) <= _LINEARITY * np.abs(half)):
            if not half.any():
                raise RuntimeError(
                    f"{call}: the synapse of {circuit.family} outputs no charge for weights up to {probe:g}, so its "
                    "response cannot be measured. Check the charge curve of the chip."
                )
            return float(half[0]), float(half[1])
        probe /= 2
    raise RuntimeError(
        f"{call}: the charge curve of {circuit.family} is not smooth at zero weight; the slope is {first} for a weight "
        f"of {2 * probe:g}, but {half} for half of this weight. Check the charge curve of the chip."
    )


_CHUNK = 4_000_000  # largest number of values per Fourier transform, to limit memory


@dataclasses.dataclass(frozen=True)
class InputMoments:
    """First and second moments of an input. The moments ``nu_...`` are rates in Hz, averaged over all channels."""

    rates: np.ndarray  # mean of each channel over time and batch, per step
    nu_mean: float  # E[x]/dt
    nu_var: float  # E[x^2]/dt; equals ``nu_mean`` for binary spikes
    nu_size: float  # E[|x|]/dt; equals ``nu_mean`` for nonnegative input
    dt: float  # in seconds

    @property
    def fan_in(self) -> int:
        """Number of input channels."""
        return len(self.rates)

    @property
    def has_mean_input(self) -> bool:
        """Whether the mean weight affects the mean membrane potential; False if the mean input is close to zero."""
        # mu_W = mu_U / (n nu_mean eps_bar) grows without bound as the mean input approaches zero.
        return abs(self.nu_mean) > 0.05 * self.nu_size


@dataclasses.dataclass(frozen=True)
class MembraneBasis:
    r"""Coefficients of an equation for the variance of the membrane potential.

    The variance for neuron :math:`i` with the weight columns :math:`c` follows from the mean membrane potential and
    from the standard deviations of the weights:

    .. math:: \sigma_{U,i}^2 = \mu_{U,i}^2\, m_i + \textstyle\sum_{c \in i} \sigma_{W,c}^2\, s_c
    """

    mean_response: np.ndarray  # mean membrane potential per unit of a column's mean weight, ``[n_columns]`` in mV
    of_mean: np.ndarray  # m, ``[n_neurons]``: variance due to the mean weight, divided by mu_U^2
    of_spread: np.ndarray  # s, ``[n_columns]`` in mV^2
    variance_kept: float  # fraction of the variance due to ``sigma_W`` left after centring; minimum over neurons
    step_correlation: float  # lag-1 autocorrelation of the membrane potential, mean over neurons


def participation(rates: np.ndarray) -> float:
    """Return the participation ratio of the rates: the effective number of active channels."""
    squares = float(np.sum(rates**2))
    return float(np.sum(rates)) ** 2 / squares if squares > 0 else 0.0


def input_moments(x: np.ndarray, dt: float) -> InputMoments:
    """Compute the first and second moments of ``x`` ``[B, T, N]`` with time step ``dt`` in seconds."""
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
    """Return the coefficients of the membrane variance of a layer for input ``x`` ``[B, T, N]``.

    With ``exact`` they are computed from the covariance of the filtered input over time and batch. This is correct for
    spikes of any rate, analog values, and correlated or unequal channels. Otherwise they are computed from the second
    moment of the input, as in Rossbroich et al. (2022). This is correct for sparse independent spikes. ``direction`` is
    the unit vector ``[N]`` that centring removes from each column. A neuron has ``n_synapses`` columns, and each
    contributes an equal part of the mean membrane potential.
    """
    mean_response = moments.fan_in * moments.nu_mean * response.integral
    with np.errstate(divide="ignore", invalid="ignore"):
        weight_per_mean = 1 / (n_synapses * mean_response)
    each, common, along = _autocovariances(x, direction)
    of_data = response.response[: len(each)]
    products = _autocorrelation(of_data, len(each) + 1)
    spread = _weighted(each, products[:-1])
    spread_later = _weighted(each, _shifted(products))
    variance_kept = 1.0
    if exact:
        if direction is not None:
            # tr(PCP) with P = I - d d^T, rescaled because centred columns are rescaled to the original variance.
            whole = spread
            spread = np.maximum(spread - _weighted(along, products[:-1]), 0.0) / (1 - 1 / moments.fan_in)
            variance_kept = float(np.min(spread / np.maximum(whole, 1e-30)))
            spread_later = (spread_later - _weighted(along, _shifted(products))) / (1 - 1 / moments.fan_in)
        of_mean = _weighted(common, _autocorrelation(_joined(of_data, weight_per_mean, n_synapses), len(common)))
        of_spread = spread * response.asymmetry**2
    else:
        # Campbell's theorem for Poisson spike trains. For Bernoulli spikes the variance is smaller by the factor
        # 1 - nu dt, which is 0.61 at 392 Hz.
        of_spread = moments.fan_in * moments.nu_var * response.square_integral
        joined = response.asymmetry * _joined(response.response, weight_per_mean, n_synapses)
        of_mean = moments.fan_in * moments.nu_var * response.dt * (joined**2).sum(axis=0)
    correlation = float(np.mean(spread_later) / np.mean(spread)) if np.mean(spread) > 0 else 0.0
    return MembraneBasis(mean_response, of_mean, of_spread, variance_kept, correlation)


def _joined(response: np.ndarray, weight_per_mean: np.ndarray, n_synapses: int) -> np.ndarray:
    """Return the response of each neuron, ``[L, n_neurons]``, to simultaneous spikes at all of its synapses.

    ``weight_per_mean`` contains the weights of the synapses.
    """
    return (response * weight_per_mean).reshape(len(response), -1, n_synapses).sum(axis=2)


def _autocovariances(x: np.ndarray, direction: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return three autocovariances of the input ``[B, T, N]`` at lags 0 to T - 1.

    The first is the sum of the autocovariances of all channels. The second is the autocovariance of the sum of all
    channels. The third is the autocovariance of the input's component along ``direction``. The variance of any membrane
    potential is a weighted sum of these values, so they are computed once for all neurons. The sum at every lag is
    divided by the full length, because this biased estimate keeps the variance nonnegative.
    """
    n_batch, n_steps, n_in = x.shape
    mean = x.mean(axis=(0, 1), dtype=np.float64)
    # Pad with zeros to twice the length; otherwise the FFT would correlate the end of the data with its beginning.
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
    """Return ``sum_t k(t) k(t + lag)`` for each column ``k`` of ``response``, as ``[n_lags, columns]``.

    Columns with equal responses are computed only once.
    """
    distinct, inverse = np.unique(response.T, axis=0, return_inverse=True)
    n_fft = fft.next_fast_len(len(response) + max(n_lags, len(response)), real=True)
    power = np.square(np.abs(fft.rfft(distinct, n_fft, axis=1)))
    return fft.irfft(power, n_fft, axis=1)[:, :n_lags].T[:, inverse.reshape(-1)]


def _weighted(covariance: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Return the sum of ``covariance * products`` over all lags. Positive and negative lags have equal values."""
    return covariance[0] * products[0] + 2 * covariance[1:] @ products[1 : len(covariance)]


def _shifted(products: np.ndarray) -> np.ndarray:
    """Return, for each lag, the mean of the autocorrelation ``products`` at the previous and the next lag."""
    return 0.5 * (np.concatenate([products[1:2], products[:-2]]) + products[1:])


def crossing_rate(xi: Any, step_correlation: float, dt: float) -> Any:
    r"""Return the rate in Hz at which a Gaussian membrane potential, in steps of ``dt`` seconds, rises above threshold.

    .. math:: r = \frac{P(U_t < V_{th} \le U_{t+1})}{\Delta t}
                = \frac{2}{\Delta t} T\!\left(\xi, \sqrt{\tfrac{1 - \rho}{1 + \rho}}\right)

    where the threshold is :math:`\xi` standard deviations above the mean, :math:`\rho` is the lag-1 correlation, and
    :math:`T` is Owen's function. This is Rice's formula in discrete time. It ignores resets and the clamp, so it
    approximates the firing rate only if the rate is low. A mean above threshold is treated as a mean at threshold.
    """
    # At a correlation of 1 there are no crossings. Near -1 the clip keeps the argument of Owen's function finite.
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
    r"""Return the expected fraction of neurons that do not spike on data of a certain length.

    .. math:: E_m\!\left[\exp\!\left(-t\, r\!\left(\tfrac{V_{th} - m}{\sigma_U}\right)\right)\right], \quad
              m \sim \mathcal N(\mu_U, q\, \sigma_U^2)

    Here :math:`r` is the :func:`crossing_rate`, and :math:`t` = ``seconds`` is the total length of all samples.
    :math:`q` = ``quenched`` is the variance of the means :math:`m` over neurons, relative to :math:`\sigma_U^2`. It is
    nonzero for weights that are not centred. If a chip clamps the membrane potential at zero, ``mean_above_floor`` is
    the mean without the clamp, in standard deviations. The clamp is modelled as a reflection. The membrane potential is
    then always positive and reaches threshold :math:`1/\Phi` times as often.
    """
    # Spikes are modelled as a Poisson process at the crossing rate, so the probability of no spike in t seconds is
    # exp(-t r). This predicts the fraction of silent simulated neurons with an error of at most 0.06 (10 and 50 Hz
    # inputs, xi 2 and 3). The mean over neurons is a Gaussian integral, which Gauss-Hermite quadrature computes.
    nodes, weights = np.polynomial.hermite_e.hermegauss(81 if quenched else 1)
    shift = np.sqrt(quenched) * nodes
    rates = crossing_rate(np.asarray(xi)[..., None] - shift, step_correlation, dt)
    if mean_above_floor is not None:
        rates = rates / np.maximum(ndtr(np.asarray(mean_above_floor)[..., None] + shift), 1e-12)
    return float(np.mean(np.exp(-seconds * rates) @ (weights / weights.sum())))
