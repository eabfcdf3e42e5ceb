"""Training run: compiled training and evaluation steps, loop over epochs, best weights, checkpoint."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from brainhw import _arguments
from brainhw._files import first_line
from brainhw._progress import progress_bar
from brainhw.nn.ranges import check_ranges
from brainhw.train.batch import Batch, Source, lengths_of
from brainhw.train.class_report import ClassReport, Counts, count, report_on
from brainhw.train.decision import choose_class
from brainhw.train.history import History, Keep
from brainhw.train.rates import check_populations
from brainhw.train.run_file import RunFile
from brainhw.train.run_state import content_of, parameters_of, restore_content

__all__ = ["CLASS_NUMBERS", "Run"]

_FILE = RunFile("training run", "fit", "brainhw-run")
# Metrics that are added to each epoch of a classifier.
CLASS_NUMBERS = ("accuracy", "silent", "tied")


_NUMBERS_WANTED = (
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.ConcretizationTypeError,
)


def _traced(name: str, function: Callable[..., Any], *given: Any) -> Any:
    """Call ``function``, the user's argument ``name``. Raise a clear error if the function fails on traced arrays."""
    try:
        return function(*given)
    except _NUMBERS_WANTED as error:
        raise TypeError(
            f"fit: {name} must use only jax.numpy, because fit compiles it. NumPy, scikit-learn, float(), `if` and "
            f"boolean indexing fail on traced arrays (use jnp.where). It raised "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error


@dataclasses.dataclass
class Run:
    """Arguments of one training run, already checked by :func:`fit`, and the state of the run."""

    net: brainstate.nn.Module
    optimizer: Any
    measures: Mapping[str, Callable[[Any, Batch], jax.Array]]
    forward: Callable[[brainstate.nn.Module, Batch], Any]
    n_classes: int | None
    constrain: Callable[[brainstate.nn.Module], Any] | None
    schedules: Sequence[Any]
    watch: str
    keep: Keep
    mesh: Mesh | None
    entries: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best: int | None = None
    best_weights: dict[str, Any] = dataclasses.field(default_factory=dict)
    report: ClassReport | None = None

    def __post_init__(self) -> None:
        measures, optimizer = self.measures, self.optimizer

        def numbers(batch: Batch) -> tuple[jax.Array, tuple[dict[str, jax.Array], Counts | None]]:
            outputs = _traced("the step of net, or forward,", self.forward, self.net, batch)
            found = {name: _traced(name, measure, outputs, batch) for name, measure in measures.items()}
            for name, value in found.items():
                if isinstance(value, u.Quantity) or not isinstance(value, (float, int, jax.Array)):
                    raise TypeError(f"fit: {name} must return a number; got {_arguments.describe(value)}.")
                if np.shape(value):
                    raise ValueError(
                        f"fit: {name} must return a scalar; got shape {np.shape(value)}. Take the mean, for example."
                    )
            return found["loss"], (found, self._counts(outputs, batch))

        gradient = brainstate.transform.grad(numbers, optimizer.param_states.to_pytree(), has_aux=True)

        @brainstate.transform.jit
        def step(batch: Batch) -> Any:
            gradients, found = gradient(batch)
            optimizer.update(gradients)
            if self.constrain is not None:
                self.constrain(self.net)
            for schedule in self.schedules:
                if hasattr(schedule, "constrain"):
                    schedule.constrain()
            return found

        self._step = step
        self._evaluate = brainstate.transform.jit(lambda batch: numbers(batch)[1])

    def run_epochs(
        self, source: Source, checked: Source | None, epochs: int, patience: int | None, seed: int,
        callbacks: Sequence[Callable[..., Any]], path: str | None, notes: dict[str, str], *, progress: bool,
    ) -> History:  # fmt: skip
        """Run the remaining epochs, set the weights to those of the best or the last epoch, and return the history."""
        if self.mesh is not None:
            self._place_parameters(lambda array: jax.device_put(array, NamedSharding(self.mesh, PartitionSpec())))
        try:
            reason = self._epochs(source, checked, epochs, patience, seed, callbacks, path, notes, progress=progress)
            if reason != "callback":
                self._finish(source if checked is None else checked)
        finally:
            if self.mesh is not None:
                self._place_parameters(lambda array: jnp.asarray(np.asarray(array)))
        # After a stop by a callback, the run may be resumed, so the network keeps the weights of the last epoch.
        keep: Keep = "last" if reason == "callback" else self.keep
        return History(tuple(self.entries), self.best, self.watch, reason, keep, self.report)

    def _epochs(
        self, source: Source, checked: Source | None, epochs: int, patience: int | None, seed: int,
        callbacks: Sequence[Callable[..., Any]], path: str | None, notes: dict[str, str], *, progress: bool,
    ) -> str:  # fmt: skip
        """Run the remaining epochs, and return the reason why the run ended."""
        path = path if jax.process_index() == 0 else None
        reason = ""
        shown = progress and not jax.process_index()
        with progress_bar(epochs, desc="fit", unit="epoch", initial=len(self.entries), shown=shown) as bar:
            while not (reason := self._stop_reason(epochs, patience, reason)):
                epoch = len(self.entries)
                for schedule in self.schedules:
                    schedule.step(epoch)
                for callback in callbacks:
                    callback(epoch, None)
                self._record_epoch(self._epoch(source, checked, seed, epoch), epoch)
                if path is not None:
                    self.save(path, notes)
                answers = [callback(epoch, dict(self.entries[-1])) for callback in callbacks]
                if any(answer is True for answer in answers) and len(self.entries) < epochs:
                    reason = "callback"
                bar.update()
                bar.set_postfix(
                    {**{name: f"{value:.3g}" for name, value in self.entries[-1].items()}, **self._never_predicted()}
                )
        return reason

    def _stop_reason(self, epochs: int, patience: int | None, reason: str) -> str:
        if reason:
            return reason
        if patience is not None and self.best is not None and len(self.entries) - 1 - self.best >= patience:
            return "patience"
        return "all epochs" if len(self.entries) >= epochs else ""

    def _finish(self, source: Source) -> None:
        """Set the weights to those of the best or the last epoch, end the schedules, and compute the final report."""
        if self.keep == "best" and self.best is not None:
            for name, state in parameters_of(self.net).items():
                state.value = self.best_weights[name]
        for schedule in self.schedules:
            schedule.step(max(len(self.entries) - 1, getattr(schedule, "total_epochs", 0)))
        if self.n_classes is not None:
            self._run_batches(source.epoch(0, 0, training=False), self._evaluate)
        for schedule in self.schedules:
            if hasattr(schedule, "finish"):
                schedule.finish()

    def _counts(self, outputs: Any, batch: Batch) -> Counts | None:
        if self.n_classes is None:
            return None
        spikes, labels, size = check_populations(
            outputs, batch.y, self.n_classes, lengths_of(outputs, batch), call="fit"
        )
        return count(choose_class(spikes, self.n_classes, size), labels, self.n_classes)

    def _epoch(self, source: Source, checked: Source | None, seed: int, epoch: int) -> dict[str, float]:
        before = content_of(self.net, self.optimizer, len(self.entries))
        try:
            entry = self._run_batches(source.epoch(seed, epoch, training=True), self._step)
            self._check_finite(entry, epoch, "train")
            # Compiled steps cannot check ranges. Without this check, the metrics could belong to an invalid network.
            check_ranges(self.net, call=f"fit, epoch {epoch + 1}")
            if checked is not None:
                found = self._run_batches(checked.epoch(seed, epoch, training=False), self._evaluate)
                entry |= {f"validation_{name}": value for name, value in found.items()}
                self._check_finite(entry, epoch, "validation")
        except BaseException:
            restore_content(before, self.net, self.optimizer)
            raise
        return entry

    def _check_finite(self, entry: dict[str, float], epoch: int, where: str) -> None:
        finite = all(
            bool(jnp.isfinite(u.get_mantissa(leaf)).all())
            for state in parameters_of(self.net).values()
            for leaf in jax.tree.leaves(state.value)
        )
        bad = [name for name, value in entry.items() if not math.isfinite(value)]
        if bad or not finite:
            what = f"{bad[0]} is {entry[bad[0]]:g}" if bad else "the weights are not finite"
            raise FloatingPointError(
                f"fit: {what} in epoch {epoch + 1} on {where}; the weights from before this epoch are restored. Check "
                "the learning rate, the loss and the targets."
            )

    def _run_batches(self, batches: Any, act: Callable[[Batch], Any]) -> dict[str, float]:
        sizes, found, counts = [], [], []
        for batch in batches:
            sizes.append(batch.x.shape[1])
            numbers, counted = act(batch)
            found.append(numbers)
            counts.append(counted)
        weights = np.array(sizes) / sum(sizes)
        means = {name: float(np.sum(weights * np.array([float(one[name]) for one in found]))) for name in self.measures}
        if self.n_classes is None:
            return means
        self.report = report_on(counts)
        of_all = self.report.n_samples
        shares = (self.report.accuracy, self.report.silent / of_all, self.report.tied / of_all)
        return means | dict(zip(CLASS_NUMBERS, shares, strict=True))

    def _record_epoch(self, entry: dict[str, float], epoch: int) -> None:
        self.entries.append(entry)
        # While signs are soft, the weights are not valid on a chip, so such an epoch cannot be the best.
        forming = [schedule for schedule in self.schedules if hasattr(schedule, "constrain")]
        if any(epoch < getattr(schedule, "total_epochs", 0) for schedule in forming):
            return
        sign = -1.0 if self.watch.endswith(("loss", "silent", "tied")) else 1.0
        if self.best is None or sign * entry[self.watch] > sign * self.entries[self.best][self.watch]:
            self.best = len(self.entries) - 1
            self.best_weights = {name: state.value for name, state in parameters_of(self.net).items()}

    def _never_predicted(self) -> dict[str, str]:
        """Return a dict for the progress bar with the classes that were never predicted in this epoch."""
        classes = () if self.report is None else self.report.never_predicted
        return {"never": ",".join(map(str, classes[:5])) + ("..." if len(classes) > 5 else "")} if classes else {}

    def _place_parameters(self, place: Callable[[jax.Array], jax.Array]) -> None:
        for state in parameters_of(self.net).values():
            state.value = jax.tree.map(place, state.value)

    def _content(self) -> dict[str, Any]:
        now = content_of(self.net, self.optimizer, len(self.entries))
        return now | {"best": self.best_weights or now["weights"], "best_epoch": -1 if self.best is None else self.best}

    def save(self, path: str, notes: dict[str, str]) -> None:
        """Write the state of the run to the file ``path`` atomically. A crash leaves an existing file unchanged."""
        _FILE.write(path, self._content(), notes | {"history": json.dumps(self.entries)}, call="fit")

    def load(self, path: str, notes: dict[str, str], call: str) -> None:
        """Restore the state of the run from the file ``path``. If the file is invalid, raise and change nothing."""
        content, saved = _FILE.read(path, self._content(), notes, call=call)
        entries = json.loads(saved["history"])
        restore_content(content, self.net, self.optimizer)
        self.entries, self.best_weights = entries, content["best"]
        self.best = None if content["best_epoch"] < 0 else int(content["best_epoch"])
