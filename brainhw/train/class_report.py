"""Report on a classifier: confusion matrix, recall per class, tied and silent recordings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments, _records
from brainhw._drawn import Drawn
from brainhw._printing import printable
from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.train.decision import Decision, choose_class
from brainhw.train.rates import check_populations

__all__ = ["ClassReport", "Counts", "class_report", "count", "report_on"]

# Maximum number of classes in a table. If there are more, the table shows the classes with the lowest recall.
_MOST_ROWS = 20


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ClassReport(Shown, Drawn):
    """Statistics of the predictions for labelled recordings; ``print`` shows a table, ``plot`` the confusion matrix.

    Attributes
    ----------
    confusion : ndarray
        ``[n_classes, n_classes]``. Entry ``[i, j]`` is the number of recordings of class ``i`` that were predicted as
        ``j``.
    tied : int
        Number of recordings in which several classes share the largest spike count. The class with the earlier spikes
        is predicted. Silent recordings are not included.
    undecided : int
        Number of tied recordings in which the spikes of the tied classes are also equally early. The first of these
        classes is predicted.
    silent : int
        Number of recordings without an output spike. The first class is predicted.
    names : tuple of str
        Name of each class in the table. Default: the class indices.

    Examples
    --------
    >>> import brainhw as bh, numpy as np
    >>> report = bh.train.ClassReport(np.array([[3, 1], [0, 0]]), tied=1, undecided=0, silent=0)
    >>> report.accuracy, report.recall.tolist(), report.never_predicted
    (0.75, [0.75, nan], ())
    """

    confusion: np.ndarray
    tied: int
    undecided: int
    silent: int
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole = _arguments.whole_number
        _records.check_fields(self, confusion=_records.numbers(ndims=(2,)), tied=whole, undecided=whole, silent=whole)
        shape = np.shape(self.confusion)
        if shape[0] != shape[1] or not shape[0]:
            raise ValueError(f"ClassReport: confusion must be [n_classes, n_classes]; got shape {shape}.")
        _records.check_fields(self, names=_records.each(_arguments.text, "names"))
        if self.names and len(self.names) != shape[0]:
            raise ValueError(f"ClassReport: names must contain {shape[0]} names, one per class; got {len(self.names)}.")

    @property
    def n_samples(self) -> int:
        """Number of recordings."""
        return int(np.sum(self.confusion))

    @property
    def accuracy(self) -> float:
        """Fraction of recordings that were classified correctly."""
        return float(np.trace(self.confusion) / max(self.n_samples, 1))

    @property
    def recall(self) -> np.ndarray:
        """Fraction of each class's recordings that were classified correctly, ``[n_classes]``.

        NaN for a class without recordings.
        """
        of_class = np.sum(self.confusion, axis=1)
        return np.where(of_class > 0, np.diag(self.confusion) / np.maximum(of_class, 1), np.nan)

    @property
    def never_predicted(self) -> tuple[int, ...]:
        """Classes that have recordings but were never predicted."""
        missing = (np.sum(self.confusion, axis=0) == 0) & (np.sum(self.confusion, axis=1) > 0)
        return tuple(int(one) for one in np.flatnonzero(missing))

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks on silent and tied recordings and on classes that were never predicted; empty if there are none."""
        said = []
        if self.silent:
            first = self._name(0)
            said.append(
                f"{self.silent} of {self.n_samples} recordings have no output spike; they count as class {first}"
            )
        if self.tied:
            tail = f"; {self.undecided} of them are undecided and count as the first class" if self.undecided else ""
            said.append(f"{self.tied} of {self.n_samples} recordings tie; the earlier spikes decide{tail}")
        if self.never_predicted:
            names = ", ".join(map(self._name, self.never_predicted))
            said.append(f"never predicted: class {names}")
        return tuple(said)

    def _name(self, one: int) -> str:
        return self.names[one] if self.names else f"{one}"

    def _parts(self) -> Iterator[str | Table]:
        of_class, predicted = np.sum(self.confusion, axis=1), np.sum(self.confusion, axis=0)
        shown = np.arange(len(of_class))
        if len(shown) > _MOST_ROWS:
            shown = np.sort(np.argsort(np.nan_to_num(self.recall, nan=2.0), kind="stable")[:_MOST_ROWS])
        rows = []
        for one in shown:
            wrong = np.where(np.arange(len(of_class)) == one, 0, self.confusion[one])
            often = f"{self._name(int(np.argmax(wrong)))} ({int(wrong.max())})" if wrong.any() else ""
            recall = "" if not of_class[one] else f"{self.recall[one]:.1%}"
            right = self.confusion[one, one]
            rows.append((self._name(int(one)), f"{predicted[one]}", f"{of_class[one]}", f"{right}", recall, often))
        headings = ("class", "predicted", "labelled", "right", "recall", "most often predicted as")
        # Show the accuracy first, then the remarks, then the table.
        yield f"accuracy {self.accuracy:.2%} ({int(np.trace(self.confusion))} of {self.n_samples})"
        yield from self.remarks
        yield Table(headings, rows)
        if len(rows) < len(of_class):
            yield f"(the {_MOST_ROWS} of {len(of_class)} classes with the lowest recall)"

    def __repr__(self) -> str:
        said = "; ".join(self.remarks)
        return printable(f"ClassReport(accuracy {self.accuracy:.2%} of {self.n_samples}{'; ' + said if said else ''})")


def class_report(
    spikes: jax.Array, labels: jax.Array, n_classes: int | None = None, *, lengths: jax.Array | None = None
) -> ClassReport:
    """Compute a report on a classifier for labelled recordings.

    Parameters
    ----------
    spikes : jax.Array
        Output spikes ``[T, B, N]``. Each class has ``N / n_classes`` consecutive neurons.
    labels : jax.Array
        Class of each sample, ``[B]`` ints.
    n_classes : int, optional
        Number of classes. ``N`` must be a multiple of this number. Default: ``N``, one neuron per class.
    lengths : jax.Array, optional
        Number of steps of each sample without padding, ``[B]``. Spikes after these steps are ignored. Default: all
        steps.

    Returns
    -------
    ClassReport
        Confusion matrix, recall of each class, and the number of silent and of tied recordings. ``print`` shows a
        table.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not match, or labels are not integers.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> spikes = jnp.array([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    >>> bh.train.class_report(spikes, jnp.array([0, 1, 1]))
    ClassReport(accuracy 66.67% of 3; 1 of 3 recordings have no output spike; they count as class 0)
    """
    n_classes = jnp.shape(spikes)[-1] if n_classes is None else n_classes
    spikes, labels, size = check_populations(spikes, labels, n_classes, lengths, call="class_report")
    return report_on([count(choose_class(spikes, n_classes, size), labels, n_classes)])


class Counts(NamedTuple):
    """Confusion matrix, and numbers of tied, undecided and silent recordings.

    They are JAX arrays, so that they can be computed inside ``jit``.
    """

    confusion: jax.Array
    tied: jax.Array
    undecided: jax.Array
    silent: jax.Array


def count(decision: Decision, labels: jax.Array, n_classes: int) -> Counts:
    """Return the counts for a report from the decisions of a classifier and the true classes ``labels``."""
    confusion = jnp.zeros((n_classes, n_classes), int).at[labels, decision.predicted].add(1)
    fired = ~decision.silent
    return Counts(
        confusion, jnp.sum(decision.tied & fired), jnp.sum(decision.undecided & fired), jnp.sum(decision.silent)
    )


def report_on(batches: Sequence[Counts]) -> ClassReport:
    """Add up the counts of several batches and return the report on all recordings."""
    confusion, *others = (np.sum([np.asarray(part) for part in parts], axis=0) for parts in zip(*batches, strict=True))
    tied, undecided, silent = map(int, others)
    return ClassReport(confusion, tied, undecided, silent)
