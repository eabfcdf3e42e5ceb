"""Figures of calibrated chips: charge curve, time constants, f-I curves, thresholds, noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from brainhw._drawn import draws
from brainhw.silicon import Calibration, ChargeFit, LeakFit, NoiseFit, ThresholdFit
from brainhw.silicon._results import percent
from brainhw.visualize.axes import axes_or_new, check_report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from brainhw.chip import ChargeCurve

__all__ = [
    "plot_calibration",
    "plot_charge_fit",
    "plot_leak_fit",
    "plot_noise_fit",
    "plot_rate_fit",
    "plot_threshold_fit",
]

# Half width of a 95 % confidence interval in standard errors.
_INTERVAL = 1.96


@draws(ChargeFit)
def plot_charge_fit(fit: ChargeFit, *, preset: ChargeCurve | None = None, ax: Axes | None = None) -> Axes:
    """Plot the measured charges, and the fitted charge curve with a 95 % confidence interval.

    Parameters
    ----------
    fit : ChargeFit
        From :func:`brainhw.silicon.fit_charge`.
    preset : ChargeCurve, optional
        A second charge curve for comparison, plotted as a dashed line.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: weight code (horizontal), charge in fC (vertical).

    Raises
    ------
    TypeError
        If ``fit`` has the wrong type.

    Examples
    --------
    >>> import brainhw as bh
    >>> bench = bh.silicon.synthetic_bench("H1v1", seed=0, neurons=range(1))
    >>> ax = bh.visualize.plot_charge_fit(bh.silicon.fit_charge(bench.charge, "H1v1"), preset=bh.chip.H1V1.charge)
    >>> ax.get_ylabel()
    'charge of one spike (fC)'
    """
    check_report(fit, ChargeFit, call="plot_charge_fit", source="brainhw.silicon.fit_charge", name="fit")
    if preset is not None:
        from brainhw.chip import ChargeCurve

        check_report(preset, ChargeCurve, call="plot_charge_fit", source="a ChipSpec", name="preset")
    ax = axes_or_new(ax, call="plot_charge_fit")
    charge, error = np.asarray(fit.charge.mantissa), np.asarray(fit.error.mantissa)
    ax.axhline(0, color="0.85", lw=0.8)
    ax.axvline(0, color="0.85", lw=0.8)
    readings = np.asarray(fit.table.charge.mantissa)
    ax.plot(fit.table.code, readings, ".", color="0.75", ms=3, label=f"readings of {fit.synapses.size} synapses")
    ax.plot(fit.measured_codes, fit.measured.mantissa, "o", color="C0", ms=4, label="mean synapse")
    ax.fill_between(fit.codes, charge - _INTERVAL * error, charge + _INTERVAL * error, color="C0", alpha=0.3, lw=0)
    ax.plot(fit.codes, charge, color="C0", label=f"fit ({fit.form}), 95 % interval")
    if preset is not None:
        weights = np.asarray(fit.curve.weights, np.float32)
        ax.plot(fit.codes, preset(weights).mantissa, "--", color="0.3", label="before calibration")
    ax.set(xlabel="weight code", ylabel="charge of one spike (fC)")
    ax.set_title(f"charge: {fit.codes.size} codes, gain std {percent(fit.gain_std)}", fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    return ax


@draws(LeakFit)
def plot_leak_fit(fit: LeakFit, *, ax: Axes | None = None) -> Axes:
    """Plot the time constant of each neuron at each leak setting. Error bars are 95 % confidence intervals.

    Parameters
    ----------
    fit : LeakFit
        From :func:`brainhw.silicon.fit_leak`.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: physical neuron (horizontal), time constant in ms on a logarithmic axis (vertical). A dashed line
        marks the mean of each setting.

    Raises
    ------
    TypeError
        If ``fit`` has the wrong type.

    Examples
    --------
    >>> import brainhw as bh
    >>> bench = bh.silicon.synthetic_bench("H1v1", seed=0, neurons=range(8))
    >>> bh.visualize.plot_leak_fit(bh.silicon.fit_leak(bench.decays)).get_xlabel()
    'physical neuron'
    """
    check_report(fit, LeakFit, call="plot_leak_fit", source="brainhw.silicon.fit_leak", name="fit")
    ax = axes_or_new(ax, call="plot_leak_fit")
    for place, setting in enumerate(fit.settings):
        tau, error = np.asarray(fit.tau.mantissa)[place], np.asarray(fit.error.mantissa)[place]
        mean, spread = float(fit.mean.mantissa[place]), float(fit.spread[place])
        color = f"C{place % 10}"
        ax.errorbar(fit.neurons, tau, _INTERVAL * error, fmt="o", ms=2.5, lw=0.8, color=color)
        words = f"{setting}: {mean:.3g} ms, {percent(spread)}"
        ax.axhline(mean, color=color, lw=1, ls="--", label=words)
    ax.set_yscale("log")
    _plain_log_ticks(ax)
    ax.set(xlabel="physical neuron", ylabel="time constant (ms)")
    ax.set_title(f"leak: read noise {float(fit.read_noise.mantissa):.2g} mV", fontsize="medium")
    columns = 1 if fit.settings.size <= 4 else 2
    legend_style = {"title": "setting: mean, std", "title_fontsize": "small", "alignment": "left"}
    ax.legend(frameon=False, fontsize="small", loc="lower left", ncols=columns, **legend_style)
    low, high = ax.get_ylim()
    # Make room for the legend below the points.
    share = min(0.1 + 0.07 * -(-fit.settings.size // columns), 0.6)
    ax.set_ylim(low / (high / low) ** (share / (1 - share)), high)
    return ax


def _plain_log_ticks(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


@draws(ThresholdFit)
def plot_threshold_fit(fit: ThresholdFit, *, ax: Axes | None = None) -> Axes:
    """Plot the threshold of each neuron. Error bars are 95 % confidence intervals.

    The thick error bar shows the individual error of a neuron. The thin error bar also includes the common error of all
    neurons, which is the error of the charge per spike.

    Parameters
    ----------
    fit : ThresholdFit
        From :func:`brainhw.silicon.fit_threshold`.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: physical neuron (horizontal), threshold in mV (vertical).

    Raises
    ------
    TypeError
        If ``fit`` has the wrong type.

    Examples
    --------
    >>> import brainhw as bh
    >>> bench = bh.silicon.synthetic_bench("H1v1", seed=0, neurons=range(2))
    >>> fit = bh.silicon.fit_threshold(bench.rates, "H1v1", progress=False)
    >>> bh.visualize.plot_threshold_fit(fit).get_ylabel()
    'threshold (mV), at C = 100 fF'
    """
    check_report(fit, ThresholdFit, call="plot_threshold_fit", source="brainhw.silicon.fit_threshold", name="fit")
    ax = axes_or_new(ax, call="plot_threshold_fit")
    V, error = np.asarray(fit.V_th.mantissa), np.asarray(fit.V_th_error.mantissa)
    own = np.sqrt(np.maximum(error**2 - (fit.common_error * V) ** 2, 0.0))
    ax.errorbar(
        fit.neurons, V, _INTERVAL * error, fmt="none", elinewidth=0.7, ecolor="C0", label="including the common error"
    )
    ax.errorbar(
        fit.neurons, V, _INTERVAL * own, fmt="o", ms=3, elinewidth=2, color="C0", label="neuron, individual error"
    )
    mean = float(fit.mean.mantissa)
    ax.axhline(mean, color="0.3", lw=1, ls="--", label=f"mean {mean:.4g} mV, std {percent(fit.spread, '.2g')}")
    source = "measured C" if fit.C_measured else "C"
    ax.set(xlabel="physical neuron", ylabel=f"threshold (mV), at {source} = {float(fit.C.mantissa):.4g} fF")
    ax.set_title("thresholds from f-I curves", fontsize="medium")
    low, high = ax.get_ylim()
    # Make room for the legend above the points.
    ax.set_ylim(low, high + 0.25 * (high - low))
    ax.legend(frameon=False, fontsize="small", loc="upper left", ncols=2)
    return ax


def plot_rate_fit(fit: ThresholdFit, *, ax: Axes | None = None) -> Axes:
    """Plot the f-I curves of three neurons: those with the lowest, the median and the highest threshold.

    Circles are measured rates, and lines are fitted rates. Grey dots are the measured rates of all neurons.

    Parameters
    ----------
    fit : ThresholdFit
        From :func:`brainhw.silicon.fit_threshold`.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: number of active synapses (horizontal), rate in Hz (vertical).

    Raises
    ------
    TypeError
        If ``fit`` has the wrong type.

    Examples
    --------
    >>> import brainhw as bh
    >>> bench = bh.silicon.synthetic_bench("H1v1", seed=0, neurons=range(2))
    >>> fit = bh.silicon.fit_threshold(bench.rates, "H1v1", progress=False)
    >>> bh.visualize.plot_rate_fit(fit).get_ylabel()
    'rate (Hz)'
    """
    check_report(fit, ThresholdFit, call="plot_rate_fit", source="brainhw.silicon.fit_threshold", name="fit")
    ax = axes_or_new(ax, call="plot_rate_fit")
    V, table = np.asarray(fit.V_th.mantissa), fit.table
    order = np.argsort(V)[: int(np.isfinite(V).sum())]
    chosen = dict.fromkeys((order[0], order[order.size // 2], order[-1]))
    measured, fitted = np.asarray(table.rate.mantissa), np.asarray(fit.rate.mantissa)
    ax.plot(table.inputs, measured, ".", color="0.8", ms=4, label=f"all {V.size} neurons")
    for place, which in enumerate(chosen):
        rows = np.flatnonzero(table.neuron == fit.neurons[which])
        rows = rows[np.argsort(table.inputs[rows], kind="stable")]
        words = f"neuron {fit.neurons[which]}: {V[which]:.4g} mV"
        ax.plot(table.inputs[rows], measured[rows], "o", color=f"C{place}", ms=4, mfc="none", label=words)
        ax.plot(table.inputs[rows], fitted[rows], "-", color=f"C{place}", lw=1)
    ax.set(xlabel="synapses that spike in every step", ylabel="rate (Hz)")
    noise = f"{float(fit.noise_std.mantissa):.3g} mV"
    ax.set_title(f"f-I curves (circles) and fit (lines): trial noise {noise} per step", fontsize="medium")
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return ax


@draws(NoiseFit)
def plot_noise_fit(fit: NoiseFit, *, ax: Axes | None = None) -> Axes:
    """Plot the distribution of the residuals of the noise fit, and a normal distribution of the same width.

    The residuals are ``d[t + 1] - exp(-dt / tau) * d[t]``, where ``d`` is the deviation of a trial from the mean of all
    trials.

    Parameters
    ----------
    fit : NoiseFit
        From :func:`brainhw.silicon.fit_noise`.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: residual in mV (horizontal), probability density (vertical).

    Raises
    ------
    TypeError
        If ``fit`` has the wrong type.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u, numpy as np
    >>> V = 50 + np.random.default_rng(0).normal(0, 1, (5, 50, 2))
    >>> bh.visualize.plot_noise_fit(bh.silicon.fit_noise(V * u.mV, tau=10 * u.ms)).get_xlabel()
    'change of a deviation in one step (mV)'
    """
    check_report(fit, NoiseFit, call="plot_noise_fit", source="brainhw.silicon.fit_noise", name="fit")
    ax = axes_or_new(ax, call="plot_noise_fit")
    e = np.asarray(fit.residuals.mantissa).ravel()
    ax.hist(e, bins=min(60, max(10, e.size // 50)), density=True, color="0.8", label=f"{e.size} deviations")
    width, x = float(e.std()), np.linspace(e.min(), e.max(), 200)
    ax.plot(x, np.exp(-0.5 * (x / width) ** 2) / width / np.sqrt(2 * np.pi), color="C0", label="normal distribution")
    ax.set(xlabel="change of a deviation in one step (mV)", ylabel="density (1/mV)")
    words = f"trial noise {float(fit.noise_std.mantissa):.3g} mV, read noise {float(fit.read_noise.mantissa):.3g} mV"
    ax.set_title(words, fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    return ax


@draws(Calibration)
def plot_calibration(calibration: Calibration) -> Figure:
    """Plot all fits of a calibration in one figure.

    Parameters
    ----------
    calibration : Calibration
        From :func:`brainhw.silicon.calibrate`.

    Returns
    -------
    matplotlib.figure.Figure
        A new figure. It has one panel for the charge curve, one for the leak and two for the f-I curves. Panels without
        measured data are omitted.

    Raises
    ------
    TypeError
        If ``calibration`` has the wrong type.

    Examples
    --------
    >>> import brainhw as bh
    >>> bench = bh.silicon.synthetic_bench("H1v1", seed=0, neurons=range(4))
    >>> figure = bh.visualize.plot_calibration(bh.silicon.calibrate(bench.charge, bench.decays, chip="H1v1"))
    >>> len(figure.axes)
    2
    """
    check_report(
        calibration, Calibration, call="plot_calibration", source="brainhw.silicon.calibrate", name="calibration"
    )
    from matplotlib import pyplot as plt

    panels: list[tuple[Any, Any, dict[str, Any]]] = []
    if calibration.charge is not None:
        panels.append((plot_charge_fit, calibration.charge, {"preset": calibration.chip.charge}))
    if calibration.leak is not None:
        panels.append((plot_leak_fit, calibration.leak, {}))
    if calibration.threshold is not None:
        panels.append((plot_rate_fit, calibration.threshold, {}))
        panels.append((plot_threshold_fit, calibration.threshold, {}))
    rows, columns = -(-len(panels) // 2), min(len(panels), 2)
    figure, axes = plt.subplots(rows, columns, figsize=(5.6 * columns, 4.2 * rows), layout="constrained", squeeze=False)
    for ax, (plot, fit, options) in zip(axes.ravel(), panels, strict=False):
        plot(fit, ax=ax, **options)
    for ax in axes.ravel()[len(panels) :]:
        ax.remove()
    figure.suptitle(calibration.measured.spec.name)
    return figure
