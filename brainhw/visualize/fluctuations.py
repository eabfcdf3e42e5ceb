"""Figures of `fluct_init` and `fluct_report`: membrane potentials compared with the threshold, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw._drawn import draws
from brainhw.init import FluctReport, LayerReport
from brainhw.visualize.activity import plot_layer_rates
from brainhw.visualize.axes import MOST_BINS, axes_or_new, check_report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_fluct_report", "plot_membrane_distribution", "plot_response"]

_SOURCE = "brainhw.init.fluct_report or fluct_init(..., return_report=True)"


def plot_membrane_distribution(report: LayerReport, *, ax: Axes | None = None, bins: int = 80) -> Axes:
    """Plot the distribution of the membrane potentials that a layer would have if its neurons did not spike.

    Parameters
    ----------
    report : LayerReport
        One layer of a :class:`brainhw.init.FluctReport`.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.
    bins : int, optional
        Number of bins. Default 80.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: membrane potential in units of the threshold. The range above the threshold is shaded.

    Raises
    ------
    TypeError
        If ``report`` has the wrong type.
    """
    check_report(report, LayerReport, call="plot_membrane_distribution", source=_SOURCE)
    bins = _arguments.positive_int(bins, call="plot_membrane_distribution", name="bins", most=MOST_BINS)
    theta = report.threshold.to(u.mV).mantissa
    values = (report.membrane_sample.to(u.mV).mantissa / theta).ravel()
    ax = axes_or_new(ax, call="plot_membrane_distribution")
    # Clip the most extreme 0.1 % of the values, because a single outlier would compress the distribution into a few
    # bins.
    reach = max(1.5, 1.1 * float(np.quantile(np.abs(values), 0.999)))
    ax.hist(values.clip(-reach, reach), np.linspace(-reach, reach, bins + 1).tolist(), density=True, color="C0")
    ax.axvspan(1, reach, color="C3", alpha=0.15, linewidth=0)
    ax.axvline(1, color="C3", linestyle="--", linewidth=1)
    ax.set_title(f"ξ = {report.xi_words}, {report.dead} silent", fontsize="medium")
    ax.set(xlabel="membrane potential without\nspikes (units of threshold)", ylabel="density", xlim=(-reach, reach))
    return ax


def plot_response(report: LayerReport, *, ax: Axes | None = None) -> Axes:
    """Plot the response of the membrane potential to one input spike of unit weight: mean and range over neurons.

    Parameters
    ----------
    report : LayerReport
        One layer of a :class:`brainhw.init.FluctReport`.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes. The time axis ends when 99 % of the sum of the absolute responses is reached.

    Raises
    ------
    TypeError
        If ``report`` has the wrong type.
    """
    check_report(report, LayerReport, call="plot_response", source=_SOURCE)
    kernel = report.response.to(u.mV).mantissa
    share = np.cumsum(np.abs(kernel).mean(axis=1))
    kernel = kernel[: 1 + int(np.searchsorted(share, 0.99 * share[-1]))]
    time = np.arange(len(kernel)) * report.dt.to(u.ms).mantissa
    ax = axes_or_new(ax, call="plot_response")
    ax.fill_between(time, kernel.min(axis=1), kernel.max(axis=1), color="C0", alpha=0.3, linewidth=0)
    ax.plot(time, kernel.mean(axis=1), color="C0")
    # Weights on a chip have a limit and are dimensionless. Other weights are in mV.
    per = "" if np.isfinite(report.weight_limit) else "/mV"
    ax.set(xlabel="time (ms)", ylabel=f"response (mV per weight{per})", ylim=(min(0.0, 1.05 * kernel.min()), None))
    return ax


@draws(FluctReport)
def plot_fluct_report(report: FluctReport) -> Figure:
    """Plot the spike response and the membrane distribution of each layer, and the rates of all layers.

    Parameters
    ----------
    report : FluctReport
        From :func:`brainhw.init.fluct_report`, or ``fluct_init(..., return_report=True)``.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    TypeError
        If ``report`` has the wrong type.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> net = brainstate.nn.Sequential(bh.nn.LIFSynapse(32, 20), bh.nn.LIFLayer(20, tau=20 * u.ms))
    >>> x = (np.random.default_rng(0).random((8, 100, 32)) < 0.1).astype(np.float32)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     figure = bh.visualize.plot_fluct_report(bh.init.fluct_report(net, [x]))
    >>> len(figure.axes)
    3
    """
    check_report(report, FluctReport, call="plot_fluct_report", source=_SOURCE)
    from matplotlib import pyplot as plt

    n = len(report.layers)
    figure = plt.figure(figsize=(9, 1 + 2.2 * n), layout="constrained")
    grid = figure.add_gridspec(n, 3, width_ratios=(2, 3, 2))
    for row, layer in enumerate(report.layers):
        left = plot_response(layer, ax=figure.add_subplot(grid[row, 0]))
        left.set_title(f"layer {layer.index}: {layer.n_neurons} {layer.family}", fontsize="medium")
        plot_membrane_distribution(layer, ax=figure.add_subplot(grid[row, 1]))
    plot_layer_rates(report, ax=figure.add_subplot(grid[:, 2]))
    return figure
