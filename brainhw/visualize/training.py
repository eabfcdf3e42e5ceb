"""Figure of a metric over the epochs of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brainhw import _arguments
from brainhw._drawn import draws
from brainhw.train import History
from brainhw.visualize.axes import axes_or_new, check_report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_history"]

_VALIDATION = "validation_"


@draws(History)
def plot_history(history: History, name: str | None = None, *, ax: Axes | None = None) -> Axes:
    """Plot a metric over the epochs of a training run, for training and validation data.

    Parameters
    ----------
    history : History
        From :func:`brainhw.train.fit`.
    name : str, optional
        Name of the metric, such as ``"loss"`` or ``"accuracy"``. Default: the metric that determined the best epoch.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes. A point marks the best epoch if ``name`` is the metric that determined it.

    Raises
    ------
    TypeError, ValueError
        If ``history`` has the wrong type, has no epoch, or has no metric of this name.

    Examples
    --------
    >>> import brainhw as bh
    >>> epochs = [{"loss": 2.0, "validation_loss": 2.1}, {"loss": 1.5, "validation_loss": 1.7}]
    >>> ax = bh.visualize.plot_history(bh.train.History(epochs, best=1, watched="validation_loss"))
    >>> ax.get_ylabel(), [line.get_label() for line in ax.get_lines()][:2]
    ('loss', ['training', 'validation'])
    """
    call = "plot_history"
    check_report(history, History, call=call, source="brainhw.train.fit", name="history")
    if not history.epochs:
        raise ValueError(f"{call}: history has no epoch yet. Train for at least one epoch.")
    from matplotlib.ticker import MaxNLocator

    watched = history.watched.removeprefix(_VALIDATION)
    names = [one for one in history.epochs[0] if not one.startswith(_VALIDATION)]
    name = watched if name is None else _arguments.choice(name, names, call=call, name="name")
    ax = axes_or_new(ax, call=call, figsize=(5, 3.2))
    epochs = np.arange(1, len(history.epochs) + 1)
    marker = "o" if len(epochs) == 1 else ""
    for key, label in ((name, "training"), (_VALIDATION + name, "validation")):
        if key in history.epochs[0]:
            ax.plot(epochs, history.column(key), marker=marker, label=label)
            if key == history.watched and history.best is not None:
                ax.plot(history.best + 1, history.column(key)[history.best], "o", color="0.3", label="best epoch")
    ax.set(xlabel="epoch", ylabel=name)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False)
    return ax
