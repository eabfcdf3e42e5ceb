"""Report of an initialisation: measured values of each layer, a table, and warnings."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from brainhw._drawn import Drawn
from brainhw._records import check_fields, each, is_a, optional
from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.init.circuit import Circuit, Measured, flatten_steady, skipped_steps
from brainhw.init.normalised import normalisation_warning
from brainhw.init.pair import MISS_TOLERANCE, Draw, FluctSettings, PairInitializer
from brainhw.init.report_checks import LAYER, OUTCOME
from brainhw.init.response import InputMoments, Response, silent_fraction
from brainhw.nn.protocols import Recurrent, fulfils

__all__ = [
    "FluctReport",
    "InitOutcome",
    "LayerReport",
    "is_signed",
    "observe",
    "report_layer",
    "warn",
    "warn_of_outcome",
    "warn_of_settings",
]


_XI_LEAST, _XI_MOST = 1.0, 3.0  # recommended range of xi_target
_SAFETY_FACTOR = 1.2  # safety factor, because the largest weight may be larger with another draw or other data
_ROUNDS = 5
_MOST_LOST = 0.4  # largest fraction of weights that may round to zero without a warning
_STEPS = 4  # recommended standard deviation of the weights in grid steps; a tenth of such weights round to zero


@dataclasses.dataclass(frozen=True)
class InitOutcome:
    """Target and result of a layer that ``fluct_init`` initialised.

    Attributes
    ----------
    xi_target, alpha : float
        The requested values.
    mu_W, sigma_FF, sigma_RC : float
        Mean and standard deviation of the distribution from which the weights are drawn, and standard deviation for the
        recurrent weights. ``sigma_RC`` is ``None`` without recurrent weights.
    mu_U : Quantity
        Target of the mean membrane potential, averaged over neurons, mV.
    exhausted : int
        Number of neurons whose mean weight alone uses up the target variance. The standard deviation of their weights
        is a tenth of the mean.
    evaluations : int
        Number of times that the layer was run.
    """

    xi_target: float
    alpha: float
    mu_W: float
    sigma_FF: float
    sigma_RC: float | None
    mu_U: u.Quantity
    exhausted: int
    evaluations: int

    def __post_init__(self) -> None:
        check_fields(self, **OUTCOME)


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """Measured values of one layer on the data.

    Weights are stored without a unit. If the weights of the layer are voltages, they are in mV. The neurons of a layer
    with several axes are flattened in C order, with the last axis changing fastest.

    Attributes
    ----------
    index : int
        Number of the layer, from 1.
    name, family : str
        Path of the layer in the network, and its neuron type.
    nu_in, nu_var, nu_out : Quantity
        Mean input rate, second moment of the input as a rate, and mean output rate, all in Hz.
    eps_bar, eps_hat : Quantity
        Integral of the response of the membrane potential to one spike, per unit weight, and integral of the squared
        response. ``[n]`` in V s and V^2 s, averaged over the synapses of a neuron.
    mean_weight, weight_spread, recurrent_spread : float
        Mean and standard deviation of the weights, and standard deviation of the recurrent weights.
        ``recurrent_spread`` is ``None`` without recurrent weights.
    threshold, mean_membrane, membrane_sd : Quantity
        Threshold, and mean and standard deviation of the sub-threshold membrane potential over the data, ``[n]`` in mV.
    xi : numpy.ndarray
        Distance from the mean membrane potential to threshold in standard deviations, measured over time and batch,
        ``[n]``. It is infinite for a neuron without input. The neurons of a convolution channel share their weights, so
        ``fluct_init`` sets them such that the median neuron of each channel meets the target.
    share_RC : float or None
        Fraction of the membrane variance that comes from recurrent spikes; ``None`` without recurrent weights.
    rates : Quantity
        Firing rate of each neuron, ``[n]`` in Hz.
    dead, saturated : int
        Number of neurons that never spike on the data, and number of neurons that spike in more than half of all steps.
    expected_dead : float
        Number of neurons expected to be silent by chance on data of this length, for the measured ``xi``.
    out_of_range : int
        Number of weights beyond the limit of the chip; 0 without a chip.
    largest : float
        Largest absolute weight.
    weight_limit : float
        Largest absolute weight that the chip allows; infinite without a chip.
    response : Quantity
        Membrane potential after one input spike, per unit weight, ``[L, n]`` in mV.
    dt : Quantity
        Time step, ms.
    steps : int
        Number of steps, summed over all samples.
    membrane_sample : Quantity
        A sample of the sub-threshold membrane potentials, ``[samples, n]`` in mV.
    init : InitOutcome or None
        Target and result of the initialisation; ``None`` for a network that was only measured.
    signed_input : bool
        Whether the input has negative values. ``nu_in`` is then a mean and not a rate.
    """

    index: int
    name: str
    family: str
    nu_in: u.Quantity
    nu_var: u.Quantity
    nu_out: u.Quantity
    eps_bar: u.Quantity
    eps_hat: u.Quantity
    mean_weight: float
    weight_spread: float
    recurrent_spread: float | None
    threshold: u.Quantity
    mean_membrane: u.Quantity
    membrane_sd: u.Quantity
    xi: np.ndarray
    share_RC: float | None
    rates: u.Quantity
    dead: int
    saturated: int
    expected_dead: float
    out_of_range: int
    largest: float
    weight_limit: float
    response: u.Quantity
    dt: u.Quantity
    steps: int
    membrane_sample: u.Quantity
    init: InitOutcome | None
    signed_input: bool = False

    def __post_init__(self) -> None:
        check_fields(self, **LAYER, init=optional(is_a(InitOutcome)))

    @property
    def xi_median(self) -> float:
        """Median of ``xi`` over the neurons that have input; infinite if no neuron has input."""
        return float(np.median(self._finite_xi))

    @property
    def xi_quartiles(self) -> tuple[float, float]:
        """Quartiles of ``xi`` over the neurons that have input."""
        low, high = np.quantile(self._finite_xi, [0.25, 0.75], method="nearest")
        return float(low), float(high)

    @property
    def _finite_xi(self) -> np.ndarray:
        # Exclude neurons without input, such as those at the empty border of an image. Weights cannot change their
        # membrane potential.
        moving = self.xi[np.isfinite(self.xi)]
        return moving if len(moving) else np.array([np.inf])

    @property
    def xi_words(self) -> str:
        """Median and quartiles of ``xi`` as a string, such as ``2.00 (1.91 to 2.12)``."""
        # With hardly any input, the distance is thousands of standard deviations, and its exact value is meaningless.
        low, high = self.xi_quartiles
        shown = [f"{xi:.2f}" if xi < 1000 else "over 1000" for xi in (self.xi_median, low, high)]
        return f"{shown[0]} ({shown[1]} to {shown[2]})"

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return len(self.xi)

    @property
    def _input_words(self) -> str:
        mean = self.nu_in.to(u.Hz).mantissa
        return f"x_in={self.mean_input:.3g}" if self.signed_input else f"ν_in={mean:.1f}Hz"

    @property
    def mean_input(self) -> float:
        """Mean input per step and channel."""
        return float(self.nu_in.to(u.Hz).mantissa * self.dt.to(u.second).mantissa)

    def line(self) -> str:
        """Return the line that ``fluct_init(verbose=True)`` prints for this layer."""
        assert self.init is not None
        unit = "" if np.isfinite(self.weight_limit) else "mV"
        recurrent = "" if self.init.sigma_RC is None else f" σ_RC={self.init.sigma_RC:.4f}{unit}"
        # For a chip, print the membrane potential in volt, as the vendor's own function does.
        mean = self.init.mu_U.to(u.mV).mantissa
        mean_U = f"{mean:.3f}mV" if unit else f"{mean / 1000:.3f}"
        return (
            f"  Layer {self.index} | {self._input_words} µ_W={self.init.mu_W:.4f}{unit} "
            f"σ_FF={self.init.sigma_FF:.4f}{unit}{recurrent} µ_U={mean_U}"
        )


@dataclasses.dataclass(frozen=True)
class FluctReport(Shown, Drawn):
    """Measured values of each layer of a network on the data, and the targets of ``fluct_init``.

    ``print(report)`` shows a table. ``report.plot()`` draws a figure with
    :func:`brainhw.visualize.plot_fluct_report`.

    Attributes
    ----------
    layers : tuple of LayerReport
        One report for each dense (synapse, layer) pair, in the order of the pairs.
    """

    layers: tuple[LayerReport, ...]

    def __post_init__(self) -> None:
        check_fields(self, layers=each(is_a(LayerReport), "LayerReport"))

    def _parts(self) -> Iterator[str | Table]:
        yield Table(tuple(_COLUMNS), [[column(layer) for column in _COLUMNS.values()] for layer in self.layers])


_COLUMNS: dict[str, Any] = {
    "layer": lambda r: f"{r.index} {r.name}",
    "neurons": lambda r: f"{r.n_neurons} {r.family}",
    "ν in": lambda r: f"mean {r.mean_input:.2g}" if r.signed_input else f"{r.nu_in.to(u.Hz).mantissa:.1f} Hz",
    "ν out": lambda r: f"{r.nu_out.to(u.Hz).mantissa:.1f} Hz",
    "weights": lambda r: f"{r.mean_weight:.3f}±{r.weight_spread:.3f}",
    "recurrent": lambda r: "-" if r.recurrent_spread is None else f"±{r.recurrent_spread:.3f}",
    "µ_U": lambda r: f"{float(np.mean(r.mean_membrane.to(u.mV).mantissa)):.2g} mV",
    "V_th": lambda r: f"{float(np.mean(r.threshold.to(u.mV).mantissa)):.3g} mV",
    "ξ wanted": lambda r: "-" if r.init is None else f"{r.init.xi_target:g}",
    "ξ (quartiles)": lambda r: r.xi_words,
    "dead": lambda r: f"{r.dead}",
    "saturated": lambda r: f"{r.saturated}",
    "exhausted": lambda r: "-" if r.init is None else f"{r.init.exhausted}",
    "out of range": lambda r: f"{r.out_of_range}",
    "runs": lambda r: "-" if r.init is None else f"{r.init.evaluations}",
}


def observe(circuit: Circuit, drive: Any, spikes: jax.Array, rise: int) -> tuple[Measured, float]:
    """Return statistics and lag-1 autocorrelation of the membrane potentials for recorded drives and spikes.

    ``drive`` is ``[T, B, *layer.in_size]``, and ``spikes`` is ``[T, B, *layer.out_size]``. The first ``rise`` steps are
    excluded, or only the first half of each recording if ``rise`` is longer than this half.
    """
    slot = circuit.layer.recurrent_slot() if fulfils(circuit.layer, Recurrent, call="fluct_report") else None
    valid = circuit.valid
    first = skipped_steps(rise, drive.shape[0], valid)

    def statistics(drive: Any, spikes: jax.Array) -> tuple[jax.Array, ...]:
        alone = circuit.membrane(drive)
        both = alone if slot is None else circuit.membrane(drive, spikes)
        flat, sample = flatten_steady(both, first, valid)
        off = both[first:] - flat.mean(axis=0)
        if valid is not None:
            off = off * valid[first:, :, None]
        later = jnp.sum(off[1:] * off[:-1]) / jnp.maximum(jnp.sum(off**2), 1e-30)
        own, _ = flatten_steady(alone, first, valid)
        returned, _ = flatten_steady(both - alone, first, valid)
        sd = flat.std(axis=0) if slot is not None else circuit.zero_where_constant(drive, flat.std(axis=0))
        return flat.mean(axis=0), sd, own.std(axis=0), returned.std(axis=0), sample, later

    found = brainstate.transform.jit(statistics)(drive, spikes)
    mean, sd, sd_FF, sd_RC, sample, later = (np.asarray(a, dtype=float) for a in found)
    return Measured(mean, sd, sd_FF, sd_RC if circuit.is_recurrent else None, sample), float(later)


def report_layer(
    index: int,
    name: str,
    circuit: Circuit,
    response: Response,
    moments: InputMoments,
    step_correlation: float,
    measured: Measured,
    counts: np.ndarray,
    steps: int,
    init: InitOutcome | None,
) -> LayerReport:
    """Return the report of one layer, with measured values for each neuron."""
    dt, n = moments.dt, circuit.n_neurons
    # Statistics use the rounded weights. The out-of-range count uses the stored weights, because rounding clips them.
    weight, recurrent = (None if w is None else np.asarray(w, dtype=float) for w in circuit.applied())
    assert weight is not None
    weights = [np.asarray(w, dtype=float) for w in (circuit.weight, circuit.recurrent) if w is not None]
    theta = circuit.threshold()
    xi = measured.xi(theta)
    rates = counts / (steps * dt)
    above = measured.mean / np.maximum(measured.sd, 1e-30) if circuit.clamped else None
    volts = 1e-3  # from mV
    per_neuron = (-1, n, circuit.layer_synapses)
    return LayerReport(
        index=index,
        name=name,
        family=circuit.family,
        nu_in=moments.nu_mean * u.Hz,
        nu_var=moments.nu_var * u.Hz,
        nu_out=float(rates.mean()) * u.Hz,
        eps_bar=volts * response.integral.reshape(per_neuron[1:]).mean(axis=1) * (u.volt * u.second),
        eps_hat=volts**2 * response.square_integral.reshape(per_neuron[1:]).mean(axis=1) * (u.volt2 * u.second),
        mean_weight=float(weight.mean()),
        weight_spread=float(weight.std()),
        recurrent_spread=None if recurrent is None else float(recurrent.std()),
        threshold=theta * u.mV,
        mean_membrane=measured.mean * u.mV,
        membrane_sd=measured.sd * u.mV,
        xi=xi,
        share_RC=None if measured.sd_RC is None else float(np.mean(measured.sd_RC**2) / np.mean(measured.sd**2)),
        rates=rates * u.Hz,
        dead=int(np.sum(counts == 0)),
        saturated=int(np.sum(counts > 0.5 * steps)),
        expected_dead=n * silent_fraction(xi, step_correlation, dt, steps * dt, mean_above_floor=above),
        out_of_range=sum(int(np.sum(np.abs(w) > circuit.weight_limit)) for w in weights),
        largest=max(float(np.abs(w).max()) for w in weights),
        weight_limit=circuit.weight_limit,
        response=response.response.reshape(per_neuron).mean(axis=2) * u.mV,
        dt=1000 * dt * u.ms,
        steps=steps,
        membrane_sample=measured.sample * u.mV,
        init=init,
        signed_input=is_signed(moments),
    )


def is_signed(moments: InputMoments) -> bool:
    """Return whether the input has negative values, so that its mean is not a rate."""
    return moments.nu_size > moments.nu_mean * (1 + 1e-9)


def warn(message: str) -> None:
    """Issue a warning that points to the line of user code that calls the public function."""
    warnings.warn(message, UserWarning, stacklevel=4)


def warn_of_settings(settings: FluctSettings, *, recurrent: bool, call: str) -> None:
    """Warn if ``xi_target`` is outside of the recommended range.

    Also warn if ``alpha`` is 1 although a layer is recurrent, or below 1 although no layer is recurrent.
    """
    if settings.xi < _XI_LEAST:
        warn(
            f"{call}: xi_target={settings.xi:g} is below 1. The mean membrane potential is then so close to threshold "
            "that rates can become very high and training unstable. A value from 1 to 3 is recommended."
        )
    if settings.xi > _XI_MOST:
        warn(
            f"{call}: xi_target={settings.xi:g} is above 3. Fluctuations then hardly ever reach threshold, so neurons "
            "are silent or driven by their mean input. A value from 1 to 3 is recommended."
        )
    if recurrent and settings.alpha == 1:
        warn(
            f"{call}: alpha=1 leaves no variance for recurrent input, so the recurrent weights become zero. "
            "Pass for example alpha=0.9."
        )
    if not recurrent and settings.alpha < 1:
        warn(
            f"{call}: alpha={settings.alpha:g}, but no layer is recurrent, so the variance is smaller than the target. "
            "Use alpha=1."
        )


def warn_of_outcome(report: LayerReport, solver: PairInitializer, draw: Draw, call: str) -> None:
    """Warn of dead, saturated and exhausted neurons, of weights out of range, and of a missed target."""
    assert report.init is not None
    where = f"{call}: layer {report.index}"
    missed = solver.settings.exact and _is_missed(report) and not report.init.exhausted
    nearer = bool(draw.dead or report.init.exhausted)
    farther = bool(report.out_of_range or report.saturated or (missed and report.xi_median > report.init.xi_target))
    # A smaller target helps silent neurons, and a larger target helps against weights that are too large. If both
    # occur, no target helps, and the warnings advise to change the input.
    target = not (nearer and farther)
    smaller = "a smaller xi_target or " if target else ""
    if report.init.exhausted:
        mean, spread = report.init.mu_W, report.init.sigma_FF
        warn(
            f"{where}: {report.init.exhausted} neuron(s) need such a large mean weight that it uses up the variance of "
            f"the target. The standard deviation of their weights is set to {abs(spread / mean) if mean else 0:.1g} of "
            f"the mean, so these neurons are mean-driven instead of fluctuation-driven. Try {smaller}more inputs."
        )
    if report.out_of_range:
        warn(f"{where}: {_out_of_range(report, solver, draw, target=target)}")
    if (step := solver.circuit.weight_step) and (lost := _lost(draw, step)) > _MOST_LOST:
        factor = float(np.sqrt(np.mean(np.square(np.asarray(draw.weight, float))))) / (_STEPS * step)
        warn(
            f"{where}: the input is so strong that {lost:.0%} of the weights are smaller than half a grid step "
            f"(step {step:.3g}) and round to zero. Multiply the input by about {factor:.2g}, so that larger weights "
            "are drawn."
        )
    # All positions of a channel share its weights. So weights can only be the cause if the whole channel is silent.
    if draw.dead:
        warn(f"{where}: {_dead(report, solver, draw, smaller)}")
    if missed:
        warn(
            f"{where}: the target is missed, with xi={report.xi_median:.3g} instead of {report.init.xi_target:g}"
            f"{_why_missed(report, solver, target=target)}"
        )
    share = 1 - solver.settings.alpha
    if report.share_RC is not None and share and not 0.5 * share <= report.share_RC <= min(2 * share, 1.0):
        smaller_too = " or a smaller xi_target" if target else ""
        warn(
            f"{where}: recurrent input contributes {report.share_RC:.2g} of the variance instead of the {share:.2g} "
            f"set by alpha={solver.settings.alpha:g}, at a firing rate of "
            f"{report.nu_out.to(u.Hz).mantissa:.2g} Hz. Use an alpha closer to 1{smaller_too}."
        )
    if no_input := solver.circuit.without_input:
        warn(
            f"{where}: {no_input} channel(s) get no input on the data, so no weights can make them fire. Check the "
            "data or the connections before them."
        )
    if hidden := normalisation_warning(solver, draw):
        warn(f"{where}: {hidden}")
    if report.saturated:
        remedy = "Try a larger xi_target or weaker input" if target else "Try more and weaker inputs"
        warn(f"{where}: {report.saturated} neuron(s) spike in more than half of all steps. {remedy}.")


def _dead(report: LayerReport, solver: PairInitializer, draw: Draw, smaller: str) -> str:
    what = "channel(s)" if solver.circuit.positions > 1 else "neuron(s)"
    text = f"{draw.dead} {what} never spike on the data"
    limit, theta = solver.circuit.weight_limit, float(np.max(report.threshold.to(u.mV).mantissa))
    if np.isfinite(limit) and solver.moments.has_mean_input and not solver.rest_variance:
        peak = solver.meter.peak(jnp.full_like(draw.weight, limit))
        if peak < theta:
            # Even with all weights at the limit, no neuron reaches threshold. So the layer needs more input.
            return (
                f"{text}. Even with every weight at the limit of {limit:g}, the membrane potential reaches only "
                f"{peak:.3g} mV (V_th is {theta:.3g} mV). Use about {theta / max(peak, 1e-30):.2g} times as many "
                "inputs, a rate higher by this factor, or a longer tau."
            )
    lower = "" if draw.recurrent is None else "a lower alpha, "
    remedy = f"{smaller.removesuffix(' or ')}, {lower}more inputs, or more data".removeprefix(", ")
    return f"{text}. Try {remedy}.{_why_dead(report)}"


def _lost(draw: Draw, step: float) -> float:
    return float(np.mean(np.abs(np.asarray(draw.weight)) < step / 2))


def _is_missed(report: LayerReport) -> bool:
    assert report.init is not None
    return not abs(report.xi_median / report.init.xi_target - 1) <= MISS_TOLERANCE


def _why_dead(report: LayerReport) -> str:
    if _is_missed(report) or report.expected_dead < 0.5 * report.dead:
        return ""
    seconds = float((report.dt * report.steps).to(u.second).mantissa)
    return (
        f" With xi={report.xi_median:.2f}, about {report.expected_dead:.2g} neuron(s) are expected to be silent by "
        f"chance on {seconds:.3g} s of data. Use more data (n_batches) to find those that never fire."
    )


def _why_missed(report: LayerReport, solver: PairInitializer, *, target: bool) -> str:
    """Return text with the reason for the missed target and, for a chip, the factor by which the input must grow."""
    assert report.init is not None
    if reason := solver.reason_for_miss(report.xi_median):
        return f": {reason}"
    if solver.circuit.chip is None or report.xi_median < report.init.xi_target:
        return ". The layer has too few inputs, too little data or strong recurrence. Use more inputs or more data."
    theta, mean, sd = (
        float(np.median(q.to(u.mV).mantissa)) for q in (report.threshold, report.mean_membrane, report.membrane_sd)
    )
    reason = ". The charge curve or the weight range prevents larger fluctuations"
    if sd <= 0:
        return f"{reason}. Use more or stronger inputs."
    # With f times the input, the mean grows by f and the standard deviation by sqrt(f). So solve
    # theta - f mean = xi sqrt(f) sd for f.
    half = 0.5 * report.init.xi_target * sd
    root = theta / (half + math.sqrt(half**2 + max(mean, 0.0) * theta))
    factor = f"Use about {root**2:.2g} times as many inputs or a rate higher by this factor"
    larger = ", use a larger xi_target" if target else ""
    beyond = ", or pass in_range=False to draw weights out of range" if solver.settings.in_range else ""
    return f"{reason}. {factor}{larger}{beyond}."


def _out_of_range(report: LayerReport, solver: PairInitializer, draw: Draw, *, target: bool) -> str:
    limit, chip = report.weight_limit, solver.circuit.chip
    # A synapse of another package may have a range without a chip.
    of_chip = "" if chip is None else f" of {chip.name}"
    remedies = []
    if np.abs(draw.weight).max() > limit:
        remedies.append(_remedy(report, solver, draw, target=target))
    if draw.recurrent is not None and np.abs(draw.recurrent).max() > limit:
        # The recurrent weights contribute the fraction 1 - alpha of the variance. If the layer hardly fires, they must
        # be large.
        share = (1 - solver.settings.alpha) * (limit / float(np.abs(draw.recurrent).max())) ** 2
        remedies.append(f"alpha={math.ceil(1000 * (1 - share)) / 1000:g} would keep the recurrent weights in range")
    silent = solver.silent_in_range
    cost = f", but then {silent} of {report.n_neurons} neuron(s) are silent" if silent else ""
    return (
        f"{report.out_of_range} weight(s) are outside [-{limit:g}, {limit:g}]{of_chip}, the largest is "
        f"{report.largest:.3g}; {'; '.join(remedies)}. in_range=True draws no weights out of range{cost}. Adding "
        "brainhw.train.weight_magnitude_loss(net) to the loss brings the weights into range during training."
    )


def _remedy(report: LayerReport, solver: PairInitializer, draw: Draw, *, target: bool) -> str:
    r"""Return text that states the ``xi_target`` or the input scaling that brings the largest weight into range.

    For fixed random values :math:`z`, a weight is its mean plus :math:`z\sigma`. Here :math:`\sigma` is inversely
    proportional to ``xi`` and to the standard deviation of the input.
    """
    mu_W = draw.sizes.mu_W
    room = report.weight_limit - np.abs(mu_W)
    if np.any(room <= 0):
        return "the mean weight alone is out of range for any xi_target, so more or stronger inputs are needed"
    excess = float(np.max(np.abs(np.asarray(draw.weight, float) - mu_W) / room))
    xi = math.ceil(10 * solver.settings.xi * excess) / 10
    wider = f"xi_target={xi:g}" + (" (above 3, where neurons become silent)" if xi > _XI_MOST else "") + ", "
    inputs = f"about {_times_the_inputs(excess, draw.weight.size):.3g} times as many inputs"
    return f"{wider if target else ''}{inputs}{_stronger(report, solver, excess)} would keep them in range"


def _times_the_inputs(excess: float, n_weights: int) -> float:
    """Return the factor by which the number of inputs must grow so that all weights are in range.

    With more inputs there are more random weights, so the largest weight is farther from the mean. The factor takes
    this into account.
    """
    times = excess**2
    for _ in range(_ROUNDS):
        grown = norm.isf(0.5 / (n_weights * times)) / norm.isf(0.5 / n_weights)
        times = (_SAFETY_FACTOR * excess * grown) ** 2
    return times


def _stronger(report: LayerReport, solver: PairInitializer, excess: float) -> str:
    r"""Return text with the necessary scaling of spike rates or analog values; an empty string if no rate suffices.

    Spikes with probability :math:`p_i` per step, scaled by :math:`f`, have the variance
    :math:`\sum_i f p_i (1 - f p_i)`. Each term decreases for :math:`f p_i` above 1/2.
    """
    if not math.isclose(solver.moments.nu_var, solver.moments.nu_mean, rel_tol=1e-6):
        return f" or input values {math.ceil(100 * excess) / 100:g} times as large"
    p = solver.moments.rates
    first, second = float(np.sum(p)), float(np.sum(p**2)) if solver.settings.exact else 0.0
    wanted = (_SAFETY_FACTOR * excess) ** 2 * (first - second)
    root = first**2 - 4 * second * wanted
    if root < 0:
        return ""
    times = 2 * wanted / (first + math.sqrt(root))
    if times * p.max() > 1:
        return ""
    return f" or {times:.3g} times their rate ({times * report.nu_in.to(u.Hz).mantissa:.0f} Hz)"
