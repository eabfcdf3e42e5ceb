"""How a score spreads over sampled chips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brainhw.deploy import RobustnessReport
from brainhw.visualize.axes import axes_or_new, check_report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["robustness"]


def robustness(
    report: RobustnessReport, *, ax: Axes | None = None, label: str | None = None, color: str = "C0"
) -> Axes:
    """Draw what share of the sampled chips reaches a score: the yield, for every target at once.

    The curve falls from 1 at the worst chip to 0 past the best. A dashed line stands at the score of the nominal chip,
    a dot at the score that 95 % of the chips reach. Call it again on the same axes to compare networks.

    Parameters
    ----------
    report : RobustnessReport
        From :func:`brainhw.deploy.robustness`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default a new figure.
    label : str, optional
        Name for the legend.
    color : str, optional
        Colour of the curve.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: score across, share of chips upwards.

    Raises
    ------
    TypeError
        If ``report`` is something else.

    Examples
    --------
    >>> import brainhw as bh, jax, numpy as np
    >>> report = bh.deploy.RobustnessReport(np.array([0.9, 0.92]), jax.random.split(jax.random.key(0), 2), 0.93)
    >>> bh.visualize.robustness(report).get_ylabel()
    'share of chips that reach it'
    """
    check_report(report, RobustnessReport, call="robustness", source="brainhw.deploy.robustness")
    ax = axes_or_new(ax, call="robustness")
    scores = np.sort(report.scores)
    reach = np.concatenate([scores[:1] - 1e-9, scores, scores[-1:] + 1e-9])
    share = np.concatenate([[1.0], 1 - np.arange(len(scores) + 1) / len(scores)])
    words = f"mean {report.mean:.3f}, 5 % quantile {report.quantile(0.05):.3f}, nominal {report.nominal:.3f}"
    ax.step(reach, share, where="pre", color=color, label=words if label is None else f"{label}: {words}")
    ax.plot(report.quantile(0.05), 0.95, "o", color=color, markersize=4)
    ax.axvline(report.nominal, color=color, linestyle="--", linewidth=1)
    ax.set(xlabel="score (dashed: nominal chip)", ylabel="share of chips that reach it", ylim=(0, 1.02))
    # Above the axes, because the curve may be anywhere inside.
    ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1))
    return ax
