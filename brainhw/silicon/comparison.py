"""Results of a comparison of a model with a bench, as arrays over the neurons and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw._drawn import Drawn
from brainhw._shown import Shown, as_text
from brainhw._table import Table

__all__ = ["Comparison", "LayerComparison"]


@final
@dataclass(frozen=True, eq=False)
class LayerComparison:
    """Differences between the model and the bench for the ``N`` neurons of one layer.

    All arrays have shape ``[N]``. Results of several bench trials are averaged. NaN marks unknown values.

    Attributes
    ----------
    physical : numpy.ndarray
        Index of the physical neuron.
    model_rate, bench_rate : Quantity
        Firing rates, Hz.
    found : numpy.ndarray
        Fraction of the model's spikes that also occur on the bench in the same step.
    predicted : numpy.ndarray
        Fraction of the bench's spikes that also occur in the model in the same step.
    itself : numpy.ndarray
        Fraction of the spikes of one bench trial that also occur in another bench trial in the same step. Noise limits
        ``found`` to about the same value. NaN for a single trial.
    model_spikes, bench_spikes, common : numpy.ndarray
        Number of spikes in the model, number of spikes per bench trial, and number of the model's spikes that also
        occur on the bench in the same step.
    membrane_rms : Quantity or None
        Root mean square difference between the membrane potentials of the model and of the bench after the reset, in
        mV. None if the membrane potentials were not recorded.
    tau_ratio, threshold_ratio : numpy.ndarray
        Time constant and threshold that were fitted to the bench, each divided by the value in the model. The fitted
        threshold is also divided by the relative charge gain, because spikes determine only the ratio of threshold to
        gain.
    reasons : tuple of str
        The most likely cause of the difference for each neuron. An empty string if noise explains the difference.
    """

    physical: np.ndarray
    model_rate: u.Quantity
    bench_rate: u.Quantity
    found: np.ndarray
    predicted: np.ndarray
    itself: np.ndarray
    model_spikes: np.ndarray
    bench_spikes: np.ndarray
    common: np.ndarray
    membrane_rms: u.Quantity | None
    tau_ratio: np.ndarray
    threshold_ratio: np.ndarray
    reasons: tuple[str, ...]

    @property
    def unmatched(self) -> np.ndarray:
        """Number of spikes per trial without a match in the same step, summed over the model and the bench."""
        return self.model_spikes + self.bench_spikes - 2 * self.common


@final
@dataclass(frozen=True, eq=False)
class Comparison(Shown, Drawn):
    """Result of :func:`compare`. ``print`` shows a table with the worst neurons first.

    Attributes
    ----------
    layers : mapping of str to LayerComparison
        The comparison of each layer, by the path of the layer.
    n_steps, n_samples, n_trials : int
        Number of steps, samples and trials.
    model_accuracy, bench_accuracy : float or None
        Fraction of the samples that the model classifies correctly, and the same fraction for the bench. None without
        labels.
    """

    layers: Mapping[str, LayerComparison]
    n_steps: int
    n_samples: int
    n_trials: int
    model_accuracy: float | None
    bench_accuracy: float | None

    @property
    def agreement(self) -> float:
        """Fraction of all model spikes that also occur on the bench in the same step. NaN if the model is silent."""
        return _ratio([one.common for one in self.layers.values()], [one.model_spikes for one in self.layers.values()])

    @property
    def ceiling(self) -> float:
        """Fraction of the spikes in one bench trial that another trial repeats in the same step. NaN for one trial."""
        parts = [np.nan_to_num(one.itself) * one.bench_spikes for one in self.layers.values()]
        return _ratio(parts, [one.bench_spikes for one in self.layers.values()]) if self.n_trials > 1 else float("nan")

    def worst(self, n: int = 10) -> list[tuple[str, int]]:
        """Return the neurons with the most unmatched spikes as pairs of layer path and neuron index, worst first.

        Parameters
        ----------
        n : int, optional
            Largest number of neurons. Neurons without unmatched spikes are omitted. Default 10.
        """
        n = _arguments.positive_int(n, call="Comparison.worst", name="n")
        found = [
            (float(count), path, k)
            for path, one in self.layers.items()
            for k, count in enumerate(one.unmatched)
            if count > 0
        ]
        # The sort is stable, so neurons with equal counts keep their order.
        return [(path, k) for _, path, k in sorted(found, key=lambda item: -item[0])[:n]]

    def table(self, n: int = 10) -> str:
        """Return a table of the layers and a table of the worst neurons.

        Parameters
        ----------
        n : int, optional
            Largest number of neurons in the second table. With 0, the second table is omitted. Default 10.
        """
        return as_text(self._parts(_arguments.whole_number(n, call="Comparison.table", name="n")))

    def _parts(self, n: int = 10) -> Iterator[str | Table]:
        if self.model_accuracy is not None and self.bench_accuracy is not None:
            yield f"accuracy: model {self.model_accuracy:.2%}, bench {self.bench_accuracy:.2%}"
        trials = f", {self.n_trials} trials of the bench" if self.n_trials > 1 else ""
        yield f"{self.n_samples} samples of {self.n_steps} steps{trials}"
        ceiling = f", and {self.ceiling:.1%} of its own spikes also in another trial" if self.n_trials > 1 else ""
        yield (f"the bench has {_percent(self.agreement)} of the model's spikes in the same step{ceiling}")
        rows = [self._layer_row(path, one) for path, one in self.layers.items()]
        yield Table(("layer", "neurons", *_HEADINGS), rows, left=("layer",))
        worst = self.worst(n) if n else []
        if worst:
            rows = [self._neuron_row(path, k) for path, k in worst]
            yield Table(("layer", "neuron", "on chip", *_HEADINGS, "why"), rows, left=("layer", "why"))
        yield _LEGEND

    def _layer_row(self, path: str, one: LayerComparison) -> tuple[str, ...]:
        own, bench = one.model_spikes, one.bench_spikes
        itself = _ratio([np.nan_to_num(one.itself) * bench], [bench]) if self.n_trials > 1 else float("nan")
        rms = None if one.membrane_rms is None else float(np.sqrt(np.mean(one.membrane_rms.mantissa**2)))
        return (
            path,
            f"{len(own)}",
            f"{np.mean(one.model_rate.mantissa):.1f} Hz",
            f"{np.mean(one.bench_rate.mantissa):.1f} Hz",
            *map(_percent, (_ratio([one.common], [own]), _ratio([one.common], [bench]), itself)),
            "-" if rms is None else f"{rms:.1f} mV",
        )

    def _neuron_row(self, path: str, k: int) -> tuple[str, ...]:
        one = self.layers[path]
        return (
            path,
            f"{k}",
            f"{one.physical[k]}",
            f"{one.model_rate.mantissa[k]:.1f} Hz",
            f"{one.bench_rate.mantissa[k]:.1f} Hz",
            *map(_percent, (one.found[k], one.predicted[k], one.itself[k])),
            "-" if one.membrane_rms is None else f"{one.membrane_rms.mantissa[k]:.1f} mV",
            one.reasons[k] or "-",
        )


_HEADINGS = ("model", "bench", "found", "predicted", "itself", "membrane")
_LEGEND = (
    "found: fraction of the model's spikes that the bench has in the same step; predicted: fraction of the bench's "
    "spikes that the model has; itself: fraction of the spikes of one bench trial that another trial has; membrane: "
    "root mean square difference. x: bench / model. The threshold of the bench is divided by its relative charge gain."
)


def _ratio(parts: list[np.ndarray], wholes: list[np.ndarray]) -> float:
    whole = sum(float(np.sum(one)) for one in wholes)
    return sum(float(np.sum(one)) for one in parts) / whole if whole else float("nan")


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{share:.1%}"
