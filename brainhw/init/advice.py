"""What a user should know of the settings and of the outcome, with the remedy in numbers."""

from __future__ import annotations

import math
import warnings

import brainunit as u
import numpy as np
from scipy.stats import norm

from brainhw.init.pair import Draw, FluctSettings, PairInitializer
from brainhw.init.report import LayerReport

__all__ = ["warn", "warn_of_outcome", "warn_of_settings"]

_XI_LEAST, _XI_MOST = 1.0, 3.0
_MISSED = 0.1
_LUCK = 1.2  # by which the largest weight of another draw or other data may be larger
_ROUNDS = 5
_MOST_LOST = 0.4  # share of the weights that may round to zero
_STEPS = 4  # of the grid that weights are wide of on good terms, of which a tenth rounds to zero


def warn(message: str) -> None:
    """Warn whoever called the public function two calls up."""
    warnings.warn(message, UserWarning, stacklevel=4)


def warn_of_settings(settings: FluctSettings, *, recurrent: bool, call: str) -> None:
    """Warn of a target outside the recommended range and of a share that nothing or nobody takes."""
    if settings.xi < _XI_LEAST:
        warn(
            f"{call}: xi_target={settings.xi:g} is below 1: the mean membrane lies so close to threshold that rates "
            "can become very high and training unstable; 1 to 3 is recommended."
        )
    if settings.xi > _XI_MOST:
        warn(
            f"{call}: xi_target={settings.xi:g} is above 3: membranes hardly ever reach threshold by fluctuating, so "
            "neurons stay silent or are driven by their mean; 1 to 3 is recommended."
        )
    if recurrent and settings.alpha == 1:
        warn(
            f"{call}: alpha=1 leaves nothing of the variance to the recurrent weights, which become zero; "
            "pass for example alpha=0.9."
        )
    if not recurrent and settings.alpha < 1:
        warn(f"{call}: alpha={settings.alpha:g} but no layer is recurrent; the rest of the variance stays unused.")


def warn_of_outcome(report: LayerReport, solver: PairInitializer, draw: Draw, call: str) -> None:
    """Warn of everything about a layer that is not as it should be."""
    assert report.init is not None
    where = f"{call}: layer {report.index}"
    if report.init.exhausted:
        warn(
            f"{where}: {report.init.exhausted} neuron(s) need so large a mean weight that no variance is left; their "
            "spread is held at 0.1 of the mean and the init is mean-driven. Try a smaller xi_target or more inputs."
        )
    if report.out_of_range:
        warn(f"{where}: {_out_of_range(report, solver, draw)}")
    if (step := solver.circuit.weight_step) and (lost := _lost(draw, step)) > _MOST_LOST:
        factor = float(np.sqrt(np.mean(np.square(np.asarray(draw.weight, float))))) / (_STEPS * step)
        warn(
            f"{where}: {lost:.0%} of the weights are smaller than half a step of their grid ({step:.3g}) and round to "
            f"zero, since the input is strong; scale it to about {factor:.2g} times its size, so that larger weights "
            "are drawn."
        )
    if report.dead:
        lower = "" if draw.recurrent is None else "a lower alpha, "
        warn(
            f"{where}: {report.dead} neuron(s) never spike on the data; try a smaller xi_target, {lower}more inputs, "
            f"or more data.{_why_dead(report)}"
        )
    if solver.settings.exact and _is_missed(report) and not report.init.exhausted:
        warn(
            f"{where}: membranes fluctuate at xi={report.xi_median:.3g} where {report.init.xi_target:g} was asked for"
            f"{_why_missed(report, solver)}"
        )
    share = 1 - solver.settings.alpha
    if report.share_RC is not None and share and not 0.5 * share <= report.share_RC <= min(2 * share, 1.0):
        warn(
            f"{where}: recurrent input makes {report.share_RC:.2g} of the variance where "
            f"alpha={solver.settings.alpha:g} asks for {share:.2g}; the layer fires at "
            f"{report.nu_out.to(u.Hz).mantissa:.2g} Hz: use an alpha nearer to 1 or a smaller xi_target."
        )
    if report.saturated:
        warn(
            f"{where}: {report.saturated} neuron(s) spike in more than half of all steps; try a larger xi_target or "
            "weaker input."
        )


def _lost(draw: Draw, step: float) -> float:
    return float(np.mean(np.abs(np.asarray(draw.weight)) < step / 2))


def _is_missed(report: LayerReport) -> bool:
    assert report.init is not None
    return not abs(report.xi_median / report.init.xi_target - 1) <= _MISSED


def _why_dead(report: LayerReport) -> str:
    if _is_missed(report) or report.expected_dead < 0.5 * report.dead:
        return ""
    seconds = float((report.dt * report.steps).to(u.second).mantissa)
    return (
        f" At xi={report.xi_median:.2f} about {report.expected_dead:.2g} would be silent by chance on {seconds:.3g} s "
        "of data, too little to tell silent from dead: raise n_batches."
    )


def _why_missed(report: LayerReport, solver: PairInitializer) -> str:
    """Say why the target is missed, and on a chip how much input would do."""
    assert report.init is not None
    if solver.circuit.chip is None or report.xi_median < report.init.xi_target:
        return ", with so few inputs, so little data or so much recurrence; more of the first two bring it nearer."
    theta, mean, sd = (
        float(np.median(q.to(u.mV).mantissa)) for q in (report.threshold, report.mean_membrane, report.membrane_sd)
    )
    reason = ": the charge curve or the weight range allows no more"
    if sd <= 0:
        return f"{reason}; use more or stronger inputs."
    # The mean grows with the input, the spread with its root: theta - f mean = xi sqrt(f) sd.
    half = 0.5 * report.init.xi_target * sd
    root = theta / (half + math.sqrt(half**2 + max(mean, 0.0) * theta))
    shift = "" if solver.settings.in_range else ", or pass in_range=True, which may raise the mean instead"
    factor = f"about {root**2:.2g} times the inputs or their rate would reach it"
    return f"{reason}; {factor}, or use a larger xi_target{shift}."


def _out_of_range(report: LayerReport, solver: PairInitializer, draw: Draw) -> str:
    limit, chip = report.weight_limit, solver.circuit.chip
    assert chip is not None
    remedies = []
    if np.abs(draw.weight).max() > limit:
        remedies.append(_remedy(report, solver, draw))
    if draw.recurrent is not None and np.abs(draw.recurrent).max() > limit:
        # Their variance is the share (1 - alpha), and a layer that hardly fires needs large weights for it.
        share = (1 - solver.settings.alpha) * (limit / float(np.abs(draw.recurrent).max())) ** 2
        remedies.append(f"alpha={math.ceil(1000 * (1 - share)) / 1000:g} would keep the recurrent ones in")
    return (
        f"{report.out_of_range} weight(s) lie outside [-{limit:g}, {limit:g}] of {chip.name}, the largest at "
        f"{report.largest:.3g}; {'; '.join(remedies)}; in_range=True draws none outside, and "
        "brainhw.train.weight_magnitude_loss(net) in the loss brings them back in time."
    )


def _remedy(report: LayerReport, solver: PairInitializer, draw: Draw) -> str:
    r"""Say which target or how much more input would bring the farthest weight in.

    With the same random numbers a weight is its mean plus :math:`z\sigma`, and :math:`\sigma` goes with one over
    ``xi`` and one over the spread of the input.
    """
    mu_W = draw.sizes.mu_W
    room = report.weight_limit - np.abs(mu_W)
    if np.any(room <= 0):
        return "the mean alone is too large for any xi_target, so more or stronger inputs are needed"
    excess = float(np.max(np.abs(np.asarray(draw.weight, float) - mu_W) / room))
    xi = math.ceil(10 * solver.settings.xi * excess) / 10
    target = f"xi_target={xi:g}" + (" (above 3, where neurons fall silent)" if xi > _XI_MOST else "")
    inputs = f"about {_times_the_inputs(excess, draw.weight.size):.3g} times the inputs"
    return f"{target}, {inputs}{_stronger(report, solver, excess)} would keep them in"


def _times_the_inputs(excess: float, n_weights: int) -> float:
    """Return by how much the inputs must be multiplied; the largest of more random numbers is larger."""
    times = excess**2
    for _ in range(_ROUNDS):
        grown = norm.isf(0.5 / (n_weights * times)) / norm.isf(0.5 / n_weights)
        times = (_LUCK * excess * grown) ** 2
    return times


def _stronger(report: LayerReport, solver: PairInitializer, excess: float) -> str:
    r"""Say how much faster spikes, or how much larger analog values, would do; nothing where no rate does.

    Spikes of probability :math:`p_i` a step, scaled by :math:`f`, have the variance
    :math:`\sum_i f p_i (1 - f p_i)`, which falls again beyond :math:`f p_i = 1/2`.
    """
    if not math.isclose(solver.moments.nu_var, solver.moments.nu_mean, rel_tol=1e-6):
        return f" or values {math.ceil(100 * excess) / 100:g} times as large"
    p = solver.moments.rates
    first, second = float(np.sum(p)), float(np.sum(p**2)) if solver.settings.exact else 0.0
    wanted = (_LUCK * excess) ** 2 * (first - second)
    root = first**2 - 4 * second * wanted
    if root < 0:
        return ""
    times = 2 * wanted / (first + math.sqrt(root))
    if times * p.max() > 1:
        return ""
    return f" or {times:.3g} times their rate ({times * report.nu_in.to(u.Hz).mantissa:.0f} Hz)"
