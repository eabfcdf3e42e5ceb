"""Training history: the metrics of each epoch."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, final

import numpy as np

from brainhw import _arguments, _records
from brainhw._drawn import Drawn
from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.train.class_report import ClassReport

__all__ = ["History", "Keep"]

Keep = Literal["best", "last"]


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class History(Shown, Drawn):
    """Metrics of each epoch of a training run; ``print`` shows a table.

    ``history.plot()`` plots the metrics (:func:`brainhw.visualize.plot_history`).

    Attributes
    ----------
    epochs : sequence of mapping of str to float
        One entry per epoch: ``loss`` and each metric, averaged over the training batches of the epoch. Entries with the
        prefix ``validation_`` are computed on the validation data after the epoch.
    best : int or None
        Index of the best epoch, counted from 0. None before the first epoch and while signs are soft
        (:class:`SignAnnealing`).
    watched : str
        Metric that determines the best epoch.
    reason : str
        Reason for the end of the run: ``"all epochs"``, ``"patience"`` or ``"callback"``.
    keep : str
        Epoch whose weights the network has: ``"best"`` or ``"last"``.
    report : ClassReport or None
        Report on the trained classifier, computed on the validation data if there are any, otherwise on the training
        data. None if ``fit`` was called without ``n_classes``.

    Examples
    --------
    >>> import brainhw as bh
    >>> history = bh.train.History([{"loss": 2.0}, {"loss": 1.5}], best=1, watched="loss", reason="all epochs")
    >>> history.column("loss").tolist(), history
    ([2.0, 1.5], History(2 epochs, best 2: loss 1.5))
    """

    epochs: Sequence[Mapping[str, float]]
    best: int | None
    watched: str
    reason: str = ""
    keep: Keep = "best"
    report: ClassReport | None = None

    def __post_init__(self) -> None:
        epoch = _records.by_name(_arguments.number, "numbers")
        _records.check_fields(
            self,
            epochs=_records.each(epoch, "mappings from names to numbers"),
            best=_records.optional(_arguments.whole_number),
            watched=functools.partial(_arguments.text, some=True),
            reason=_arguments.text,
            keep=_records.one_of("best", "last"),
            report=_records.optional(_records.is_a(ClassReport)),
        )
        names = list(self.epochs[0]) if self.epochs else [self.watched]
        if any(list(epoch) != names for epoch in self.epochs):
            raise ValueError(f"History: all epochs must have the same keys, {', '.join(map(repr, names))}.")
        _arguments.choice(self.watched, names, call="History", name="watched")
        if self.best is not None and self.best >= len(self.epochs):
            raise ValueError(f"History: best must be the index of one of {len(self.epochs)} epochs; got {self.best}.")

    def column(self, name: str) -> np.ndarray:
        """Return the values of one metric in all epochs.

        Parameters
        ----------
        name : str
            Name of the metric, such as ``"validation_accuracy"``.

        Returns
        -------
        numpy.ndarray
            One value per epoch, ``[epochs]``.

        Raises
        ------
        ValueError
            If no epoch has this metric.
        """
        names = list(self.epochs[0]) if self.epochs else []
        _arguments.choice(name, names, call="History.column", name="name")
        return np.array([entry[name] for entry in self.epochs])

    def _parts(self) -> Iterator[str | Table]:
        if not self.epochs:
            yield "no epochs yet"
            return
        names = list(self.epochs[0])
        shown = sorted({*range(min(3, len(self.epochs))), *range(max(len(self.epochs) - 3, 0), len(self.epochs))})
        shown = sorted({*shown, self.best} - {None})
        rows, last = [], -1
        for at in shown:
            if at > last + 1:
                rows.append(("...", *[""] * len(names)))
            mark = f"{at + 1}{' *' if at == self.best else ''}"
            rows.append((mark, *(f"{self.epochs[at][name]:.4g}" for name in names)))
            last = at
        tail = f"* best by {self.watched}; the weights are those of the {self.keep} epoch"
        if self.reason:
            tail += f"; ended: {self.reason}"
        yield Table(("epoch", *names), rows, left=("epoch",))
        yield tail
        yield from () if self.report is None else self.report.remarks

    def __repr__(self) -> str:
        best = (
            ""
            if self.best is None
            else f", best {self.best + 1}: {self.watched} {self.epochs[self.best][self.watched]:.4g}"
        )
        return f"History({len(self.epochs)} epochs{best})"
