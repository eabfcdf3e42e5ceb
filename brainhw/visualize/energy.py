"""What a network costs on its chip, part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import brainunit as u

from brainhw.deploy import PowerReport
from brainhw.visualize.axes import axes_or_new, check_report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["power"]

_COLORS = {"core": "C0", "frontend": "C2", "spike": "C1", "event": "C4"}


def power(report: PowerReport, *, ax: Axes | None = None) -> Axes:
    """Draw what each core, layer and frontend costs in one inference.

    One bar is one line of the table that ``print(report)`` gives. The legend names the coefficient that bars of a
    colour are counted with, and says of each whether it is documented, measured or assumed.

    Parameters
    ----------
    report : PowerReport
        From :func:`brainhw.deploy.estimate_power`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default a new figure, higher for more parts.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: energy per inference in uJ across, a bar for each part, the first on top.

    Raises
    ------
    TypeError
        If ``report`` is something else.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(3, 2), bh.nn.H1v2Layer(2, tau=10 * u.ms))
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     ax = bh.visualize.power(bh.deploy.estimate_power(net, jnp.ones((100, 1, 3))))
    >>> print(ax.get_xlabel())
    energy per inference (uJ), coefficients assumed
    """
    check_report(report, PowerReport, call="power", source="brainhw.deploy.estimate_power")
    from matplotlib import pyplot as plt

    if ax is None:
        ax = plt.subplots(figsize=(6.4, 1.9 + 0.32 * len(report.costs)), layout="constrained")[1]
    ax = axes_or_new(ax, call="power")
    energies = [float(cost.energy.to(u.ujoule).mantissa) for cost in report.costs]
    total = float(report.energy.to(u.ujoule).mantissa)
    named: set[str] = set()
    for place, (cost, energy) in enumerate(zip(report.costs, energies, strict=True)):
        value = getattr(report.chip, cost.coefficient)
        provenance = report.chip.provenance[cost.coefficient]
        label = f"{cost.coefficient} {value.mantissa:g} {u.get_unit(value)} ({provenance})"
        ax.barh(place, energy, color=_COLORS[cost.kind], label=None if label in named else label)
        named.add(label)
        share = 100 * energy / total if total else 0.0
        ax.annotate(f"{energy:.3g} uJ, {share:.2g} %", (energy, place), (4, 0), va="center", **_BESIDE)
    ax.set_yticks(range(len(energies)), [cost.part for cost in report.costs])
    provenances = [report.chip.provenance[cost.coefficient] for cost in report.costs]
    words = ", ".join(dict.fromkeys(provenances))
    # Room for the words beside the longest bar.
    ax.set(xlim=(0, 1.3 * max(energies, default=1.0) or 1.0), ylim=(len(energies) - 0.5, -0.5))
    ax.set_xlabel(f"energy per inference (uJ), coefficients {words}")
    time = f"one inference of {report.duration.mantissa:g} {u.get_unit(report.duration)}"
    ax.set_title(f"{report.chip.name}: {total:.4g} uJ for {time}, {report.power.mantissa:.4g} uW", fontsize="medium")
    # Below the label of the axis, however high the axes are.
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=5, ncols=2)
    return ax


_BESIDE: dict[str, Any] = {"textcoords": "offset points", "fontsize": "small"}
