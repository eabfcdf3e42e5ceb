"""Summary of the input for ``fluct_init``, and warnings about input rates and values that do not suit a chip."""

from __future__ import annotations

import warnings

import brainunit as u
import numpy as np

from brainhw.chip.spec import MOST_EVENTS
from brainhw.init.circuit import Circuit
from brainhw.init.padding import true_steps
from brainhw.init.report import LayerReport, is_signed
from brainhw.init.response import input_moments
from brainhw.init.stages import OwnStep, Stages

__all__ = ["input_line", "warn_of_inputs", "warn_of_volleys"]


def input_line(step: OwnStep, stages: Stages, dt: u.Quantity) -> str:
    """Return the line that ``fluct_init`` prints about the input, or, if there is a frontend, about its spikes."""
    seconds = float(dt.to(u.second).mantissa)
    if stages.frontend is not None:
        fired = next(made.gave for made in step.trace.calls if made.module is stages.frontend[1])
        spikes = np.asarray(step.values([fired])[0])
        rate = float((spikes if step.valid is None else spikes[step.valid]).mean()) / seconds
        return f"  Frontend → ν_out={rate:.1f}Hz (used as ν_in for layer 1)"
    xs = np.asarray(step.xs).reshape(*step.xs.shape[:2], -1)
    moments = input_moments(true_steps(np.swapaxes(xs, 0, 1), step.valid), seconds)
    if is_signed(moments):
        mean, square = moments.nu_mean * seconds, moments.nu_var * seconds
        return f"  Input → mean={mean:.3g} rms={square**0.5:.3g} per step (some values are negative: no rates)"
    ratio = moments.nu_var / moments.nu_mean if moments.nu_mean else float("inf")
    return f"  Input → ν_mean={moments.nu_mean:.1f}Hz ν_var={moments.nu_var:.1f}Hz ratio={ratio:.1f}x"


def warn_of_inputs(given: np.ndarray, index: int, circuit: Circuit, call: str) -> None:
    """Warn if the input of a chip layer has negative values, or values above the largest number of events per step."""
    if circuit.chip is None or (given.min() >= 0 and given.max() <= MOST_EVENTS):
        return
    negative, most = float(np.mean(given < 0)), float(given.max())
    share = f" ({negative:.0%} negative)" if negative else ""
    warnings.warn(
        f"{call}: the input of layer {index} has values from {given.min():.3g} to {most:.3g}{share}, but "
        f"{circuit.chip.name} expects spikes, 0 or 1 in each step. Split values by sign with "
        "brainhw.data.split_on_off, scale them to about 0 to 1, or encode them as spikes.",
        UserWarning,
        stacklevel=3,
    )


def warn_of_volleys(report: LayerReport, circuit: Circuit, call: str) -> None:
    """Warn if the inputs fire so rarely that no weights in range can raise the mean membrane potential to threshold."""
    charge = getattr(circuit.chip, "charge", None)
    if charge is None or not circuit.has_weight_limit or circuit.is_recurrent or report.out_of_range:
        return
    slope = float(charge.slope_at_zero.mantissa)
    if slope <= 0:
        return
    # The response was measured with a small weight. Correct for the nonlinear charge curve near the weight limit.
    most = float(charge(circuit.weight_limit).mantissa) / slope
    one_spike = report.eps_bar.to(u.mV * u.second).mantissa * most
    least = float(np.min(report.threshold.to(u.mV).mantissa / (circuit.n_in * circuit.layer_synapses * one_spike)))
    rate = float(report.nu_in.to(u.Hz).mantissa)
    if rate < least:
        warnings.warn(
            f"{call}: layer {report.index}: its {circuit.n_in} inputs fire at {rate:.3g} Hz, but with weights in range "
            f"at least {least:.3g} Hz are required to raise the mean membrane potential to threshold. The layer then "
            "fires only after simultaneous spikes of many inputs, and the neurons of deeper layers respond alike. Use "
            "stronger input, or keep rates high in training with brainhw.train.firing_rate_bounds_loss.",
            UserWarning,
            stacklevel=3,
        )
