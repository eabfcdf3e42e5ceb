"""Figure that compares the spikes of a network model with those recorded on a bench."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brainhw._drawn import draws
from brainhw.silicon import Comparison
from brainhw.visualize.axes import check_report, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_comparison"]

_N_LABELLED = 5  # number of neurons whose indices are written in the figure
_COLORS = ("C0", "C1", "C2", "C4", "C5", "C6")


@draws(Comparison)
def plot_comparison(comparison: Comparison) -> Figure:
    """Plot the firing rates of model and bench, their common spikes, and the causes of their differences.

    The left panel shows the firing rate of each neuron in the model (horizontal) and on the bench (vertical). The
    middle panel shows, for each neuron, the percentage of its spikes in the model that also occur on the bench in the
    same step. The neurons are sorted by this percentage. With several trials, a dotted line shows the percentage of the
    spikes of one bench trial that also occur in another trial. The right panel shows, for each fitted neuron, the
    threshold and the time constant on the bench, each divided by its value in the model.

    Parameters
    ----------
    comparison : Comparison
        From :func:`brainhw.silicon.compare`.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    TypeError
        If ``comparison`` has the wrong type.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(4, 3, weight_bits="chip"), bh.nn.H1v2Layer(3, tau=20 * u.ms))
    >>> bench = bh.silicon.VirtualChip(bh.chip.H1V2, key=7)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     found = bh.silicon.compare(net, bench, 2 * np.ones((100, 8, 4), np.float32), explain=False)
    >>> len(bh.visualize.plot_comparison(found).axes)
    3
    """
    check_report(comparison, Comparison, call="plot_comparison", source="brainhw.silicon.compare", name="comparison")
    from matplotlib import pyplot as plt

    figure, (rates, shares, causes) = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained")
    _plot_rates(comparison, rates)
    _plot_shares(comparison, shares)
    _plot_causes(comparison, causes)
    parts = [f"{comparison.agreement:.1%} of the model's spikes found in the same step"]
    if comparison.n_trials > 1:
        parts.append(f"the bench repeats {comparison.ceiling:.1%} of its own spikes")
    if comparison.model_accuracy is not None and comparison.bench_accuracy is not None:
        parts.append(f"accuracy: model {comparison.model_accuracy:.1%}, bench {comparison.bench_accuracy:.1%}")
    figure.suptitle("; ".join(parts), fontsize="large")
    return figure


def _plot_rates(comparison: Comparison, ax: Axes) -> None:
    top = 1.0
    for color, (path, one) in zip(_COLORS * 9, comparison.layers.items(), strict=False):
        model, bench = one.model_rate.mantissa, one.bench_rate.mantissa
        ax.plot(model, bench, "o", color=color, ms=4, alpha=0.7, mew=0, label=f"{path} ({len(model)})")
        top = max(top, float(np.max(model)), float(np.max(bench)))
    ax.plot([0, top], [0, top], color="0.6", lw=0.8, zorder=0)
    for path, k in comparison.worst(_N_LABELLED):
        one = comparison.layers[path]
        at = (one.model_rate.mantissa[k], one.bench_rate.mantissa[k])
        ax.annotate(f"{k}", at, xytext=(4, 2), textcoords="offset points", fontsize="x-small", color="0.3")
    ax.set(xlabel="rate in the model (Hz)", ylabel="rate on the bench (Hz)", xlim=(-0.03 * top, 1.08 * top))
    ax.set_ylim(ax.get_xlim())
    legend_above(ax, ncols=2)


def _plot_shares(comparison: Comparison, ax: Axes) -> None:
    for color, (path, one) in zip(_COLORS * 9, comparison.layers.items(), strict=False):
        # Omit neurons that are silent in the model, because their percentage is undefined.
        known = np.flatnonzero(np.isfinite(one.found))
        order = known[np.argsort(one.found[known], kind="stable")]
        across = np.arange(1, len(order) + 1) / max(1, len(order))
        ax.plot(across, 100 * one.found[order], color=color, lw=1.8, label=path)
        if comparison.n_trials > 1:
            itself = np.sort(one.itself[np.isfinite(one.itself)])
            across = np.arange(1, len(itself) + 1) / max(1, len(itself))
            ax.plot(across, 100 * itself, ":", color=color, lw=1.4)
    if comparison.n_trials > 1:
        ax.plot([], [], ":", color="0.3", lw=1.4, label="bench in another trial")
    ax.set(xlabel="fraction of neurons, worst first", ylabel="spikes found in the same step (%)")
    ax.set(xlim=(0, 1), ylim=(0, None))
    legend_above(ax, ncols=3)


def _plot_causes(comparison: Comparison, ax: Axes) -> None:
    some = False
    for color, (path, one) in zip(_COLORS * 9, comparison.layers.items(), strict=False):
        known = np.isfinite(one.tau_ratio) & np.isfinite(one.threshold_ratio)
        if known.any():
            some = True
            tau, threshold = one.tau_ratio[known], one.threshold_ratio[known]
            ax.plot(threshold, tau, "o", color=color, ms=4, alpha=0.7, mew=0, label=f"{path} ({known.sum()} fitted)")
        for k in (k for name, k in comparison.worst(_N_LABELLED) if name == path and known[k]):
            at = (one.threshold_ratio[k], one.tau_ratio[k])
            ax.annotate(f"{k}", at, xytext=(4, 2), textcoords="offset points", fontsize="x-small", color="0.3")
    ax.axhline(1, color="0.6", lw=0.8, zorder=0)
    ax.axvline(1, color="0.6", lw=0.8, zorder=0)
    ax.set(xlabel="threshold / gain, ratio bench to model", ylabel="time constant, ratio bench to model")
    if some:
        _log_ratio(ax)
        legend_above(ax, ncols=2)
    else:
        ax.text(0.5, 0.6, "no neuron was fitted", ha="center", color="0.4", transform=ax.transAxes)


def _log_ratio(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set(xscale="log", yscale="log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
        axis.set_minor_formatter(NullFormatter())
