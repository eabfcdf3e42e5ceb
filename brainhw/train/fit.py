"""One call that trains a network: epochs, validation, the best weights kept, saved and resumed to the bit."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import optax

from brainhw import _arguments
from brainhw._files import check_target, path_text
from brainhw.nn import chip_weights
from brainhw.train.batch import Batch, Source
from brainhw.train.history import History
from brainhw.train.run_file import RunFile
from brainhw.train.run_state import content_of, parameters_of, take_up
from brainhw.train.weights import clip_weights
from brainhw.transform import rollout

__all__ = ["fit"]

_FILE = RunFile("training run", "fit", "brainhw-run")
# The learning rate falls along a cosine to this part of its first value.
_LAST_RATE = 0.02


def fit(
    net: brainstate.nn.Module,
    train: Any,
    validation: Any = None,
    *,
    loss: Callable[[jax.Array, Batch], jax.Array],
    metrics: Mapping[str, Callable[[jax.Array, Batch], jax.Array]] | None = None,
    epochs: int,
    batch_size: int = 32,
    learning_rate: float = 1e-2,
    max_gradient: float | None = None,
    optimizer: Any = None,
    forward: Callable[[brainstate.nn.Module, Batch], jax.Array] | None = None,
    constrain: Callable[[brainstate.nn.Module], Any] | str | None = "auto",
    watch: str | None = None,
    patience: int | None = None,
    callbacks: Sequence[Callable[[int, Mapping[str, float] | None], Any]] = (),
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> History:
    """Train a network and return what each epoch reached; the best weights are in it afterwards.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network; all of its ``ParamState`` are learnt.
    train : Split, pair or iterable
        A :class:`brainhw.data.Split`, arrays ``(x [n, T, *N], y)``, or an iterable of such pairs that is gone through
        once an epoch.
    validation : Split, pair or iterable, optional
        The same; it decides which weights are the best.
    loss : callable
        ``loss(outputs, batch)`` gives a scalar; ``outputs`` are those of ``forward``, ``batch`` is a :class:`Batch`.
    metrics : mapping of str to callable, optional
        Further numbers of the same form; they are means over samples.
    epochs : int
        Number of epochs in all, those of a resumed run included.
    batch_size : int, optional
        Samples of a batch; the last one of an epoch holds the rest. Default 32.
    learning_rate : float, optional
        First rate of Adam, which falls along a cosine to a fiftieth. Default 0.01.
    max_gradient : float, optional
        Largest norm of the gradient of all parameters together. Default: none.
    optimizer : braintools.optim.Optimizer, optional
        Another optimizer, in place of the three arguments above.
    forward : callable, optional
        ``forward(net, batch)`` gives the outputs. Default: those of :func:`brainhw.rollout`.
    constrain : 'auto', callable or None, optional
        Called with the network after each update. ``'auto'`` (default) is :func:`clip_weights`, which keeps weights in
        the range of their chip, where the network has such weights.
    watch : str, optional
        The number that decides which epoch is the best: the largest, of a loss the smallest. Default: the first metric,
        or the loss without one; on the validation data where there are any.
    patience : int, optional
        End after so many epochs without a better one. Default: never.
    callbacks : sequence of callable, optional
        Each is called with ``(epoch, None)`` before an epoch and ``(epoch, numbers)`` after it.
    seed : int, optional
        Seed of the order and of the keys of batches. Default 0.
    checkpoint : path, optional
        A file that is written after each epoch, whole or not at all. If it is there, the run goes on from it, to the
        bit. A file of another network, other data or other settings is refused.
    progress : bool, optional
        Show a progress bar. Default True.

    Returns
    -------
    History
        Numbers of each epoch.

    Raises
    ------
    TypeError, ValueError
        If an argument is bad, or the checkpoint is damaged or of another run; nothing has changed then.
    FloatingPointError
        If loss or gradient are not finite in an epoch; the weights are those before it.

    Examples
    --------
    >>> import brainhw as bh, brainstate, braintools, brainunit as u, numpy as np
    >>> brainstate.random.seed(0)
    >>> net = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 2), bh.nn.LIFLayer(2, tau=20 * u.ms))
    >>> x, y = np.random.default_rng(0).poisson(0.3, (6, 20, 4)), np.array([0, 1, 0, 1, 0, 1])
    >>> def loss(outputs, batch):
    ...     votes = outputs.sum(axis=0)
    ...     return braintools.metric.softmax_cross_entropy_with_integer_labels(votes, batch.y).mean()
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     history = bh.train.fit(net, (x, y), loss=loss, epochs=2, batch_size=3, progress=False)
    >>> history.column("loss").shape
    (2,)
    """
    call = "fit"
    _arguments.check_module(net, call=call)
    epochs = _arguments.positive_int(epochs, call=call, name="epochs")
    batch_size = _arguments.positive_int(batch_size, call=call, name="batch_size")
    seed = _arguments.whole_number(seed, call=call, name="seed")
    _arguments.flag(progress, call=call, name="progress")
    if patience is not None:
        patience = _arguments.positive_int(patience, call=call, name="patience")
    source = Source(train, batch_size, call=call, name="train")
    checked = None if validation is None else Source(validation, batch_size, call=call, name="validation")
    measured = {"loss": _arguments.function(loss, call=call, name="loss")}
    for name, metric in ({} if metrics is None else dict(metrics)).items():
        measured[_arguments.text(name, call=call, name="a name of metrics", some=True)] = _arguments.function(
            metric, call=call, name=f"metrics[{name!r}]"
        )
    called = [_arguments.function(one, call=call, name="each of callbacks") for one in callbacks]
    run = _Run(
        net,
        measured,
        forward=_outputs if forward is None else _arguments.function(forward, call=call, name="forward"),
        optimizer=_optimizer(optimizer, learning_rate, max_gradient, epochs, source, net, call),
        constrain=_constraint(constrain, net, call),
        watch=_watched(watch, list(measured), validation is not None, call),
    )
    path = None
    if checkpoint is not None:
        path = path_text(checkpoint, call=call, what="a checkpoint")
        check_target(path, call=call)
    notes = {
        "data": source.fingerprint(),
        "validation": "none" if checked is None else checked.fingerprint(),
        "settings": f"epochs {epochs}, batch_size {batch_size}, seed {seed}, watch {run.watch}",
        "dt": str(brainstate.environ.get("dt", "not set")),
    }
    if path is not None and os.path.exists(path):
        run.load(path, notes, call)
    return run.go(source, checked, epochs, patience, seed, called, path, notes, progress=progress)


def _outputs(net: brainstate.nn.Module, batch: Batch) -> jax.Array:
    return rollout(net, batch.x)[0]


def _optimizer(
    given: Any, rate: Any, max_gradient: Any, epochs: int, source: Source, net: brainstate.nn.Module, call: str
) -> Any:
    if given is not None:
        if not isinstance(given, braintools.optim.Optimizer):
            raise TypeError(
                f"{call}: optimizer must be an optimizer of braintools.optim; got {_arguments.describe(given)}."
            )
    else:
        rate = float(_arguments.number(rate, call=call, name="learning_rate", positive=True))
        if source.n_batches is None:
            raise ValueError(
                f"{call}: the number of batches of train is not known, which the learning rate needs; give an iterable "
                "with a length, or optimizer=."
            )
        schedule = optax.cosine_decay_schedule(rate, epochs * source.n_batches, alpha=_LAST_RATE)
        parts = [optax.adam(schedule)]
        if max_gradient is not None:
            norm = float(_arguments.number(max_gradient, call=call, name="max_gradient", positive=True))
            parts.insert(0, optax.clip_by_global_norm(norm))
        given = braintools.optim.OptaxOptimizer(tx=optax.chain(*parts))
    if not (given.param_states.to_pytree() or {}):
        given.register_trainable_weights(net.states(brainstate.ParamState))
    return given


def _constraint(constrain: Any, net: brainstate.nn.Module, call: str) -> Callable[..., Any] | None:
    if isinstance(constrain, str) and constrain == "auto":
        return clip_weights if chip_weights(net) else None
    return None if constrain is None else _arguments.function(constrain, call=call, name="constrain")


def _watched(watch: str | None, names: list[str], validated: bool, call: str) -> str:
    prefix = "validation_" if validated else ""
    allowed = [*names, *([f"validation_{name}" for name in names] if validated else [])]
    if watch is None:
        return prefix + (names[1] if len(names) > 1 else names[0])
    return _arguments.choice(watch, allowed, call=call, name="watch")


class _Run:
    """The parts of one training run and its progress."""

    def __init__(
        self,
        net: brainstate.nn.Module,
        measured: dict[str, Callable[..., Any]],
        *,
        forward: Callable[..., Any],
        optimizer: Any,
        constrain: Callable[..., Any] | None,
        watch: str,
    ) -> None:
        self.net, self.optimizer, self.watch = net, optimizer, watch
        self.entries: list[dict[str, float]] = []
        self.best: int | None = None
        self.best_weights: dict[str, Any] = {}
        self._names = list(measured)
        weights = optimizer.param_states.to_pytree()

        def numbers(batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
            outputs = forward(net, batch)
            found = {name: measure(outputs, batch) for name, measure in measured.items()}
            for name, value in found.items():
                if np.shape(u.get_mantissa(value)):
                    raise ValueError(
                        f"fit: {name} must give a scalar; got shape {np.shape(value)}. Take the mean, say."
                    )
            return found["loss"], found

        gradient = brainstate.transform.grad(numbers, weights, has_aux=True)

        @brainstate.transform.jit
        def step(batch: Batch) -> dict[str, jax.Array]:
            gradients, found = gradient(batch)
            optimizer.update(gradients)
            if constrain is not None:
                constrain(net)
            return found

        self._step = step
        self._evaluate = brainstate.transform.jit(lambda batch: numbers(batch)[1])

    def go(
        self, source: Source, checked: Source | None, epochs: int, patience: int | None, seed: int,
        callbacks: Sequence[Callable[..., Any]], path: str | None, notes: dict[str, str], *, progress: bool,
    ) -> History:  # fmt: skip
        """Run the epochs that are left, and put the best weights in place."""
        from tqdm import tqdm

        reason = "all epochs"
        first = len(self.entries)
        with tqdm(total=epochs, initial=first, desc="fit", unit="epoch", disable=not progress) as bar:
            for epoch in range(first, epochs):
                if self._out_of_patience(patience):
                    reason = "patience"
                    break
                for callback in callbacks:
                    callback(epoch, None)
                entry = self._epoch(source, checked, seed, epoch)
                self._take(entry)
                for callback in callbacks:
                    callback(epoch, dict(entry))
                if path is not None:
                    self.save(path, notes)
                bar.update()
                bar.set_postfix({name: f"{value:.3g}" for name, value in entry.items()})
        if self._out_of_patience(patience):
            reason = "patience"
        for name, state in parameters_of(self.net).items():
            state.value = self.best_weights[name]
        return History(tuple(self.entries), self.best, self.watch, reason)

    def _epoch(self, source: Source, checked: Source | None, seed: int, epoch: int) -> dict[str, float]:
        before = content_of(self.net, self.optimizer, len(self.entries))
        try:
            entry = self._means(source.epoch(seed, epoch, shuffle=True), self._step)
            self._check(entry, epoch, "train")
            if checked is not None:
                found = self._means(checked.epoch(seed, epoch, shuffle=False), self._evaluate)
                entry |= {f"validation_{name}": value for name, value in found.items()}
                self._check(entry, epoch, "validation")
        except BaseException:
            take_up(before, self.net, self.optimizer)
            raise
        return entry

    def _check(self, entry: dict[str, float], epoch: int, where: str) -> None:
        finite = all(
            bool(jnp.isfinite(u.get_mantissa(leaf)).all())
            for state in parameters_of(self.net).values()
            for leaf in jax.tree.leaves(state.value)
        )
        bad = [name for name, value in entry.items() if not math.isfinite(value)]
        if bad or not finite:
            what = f"{bad[0]} is {entry[bad[0]]:g}" if bad else "the weights are not finite"
            raise FloatingPointError(
                f"fit: {what} in epoch {epoch + 1} on {where}; the weights are those before this epoch. Look at the "
                "learning rate, the loss and the targets."
            )

    def _means(self, batches: Any, act: Callable[[Batch], dict[str, jax.Array]]) -> dict[str, float]:
        sizes, found = [], []
        for batch in batches:
            sizes.append(batch.x.shape[1])
            found.append(act(batch))
        weights = np.array(sizes) / sum(sizes)
        return {name: float(np.sum(weights * np.array([float(one[name]) for one in found]))) for name in self._names}

    def _take(self, entry: dict[str, float]) -> None:
        self.entries.append(entry)
        sign = -1.0 if self.watch.endswith("loss") else 1.0
        if self.best is None or sign * entry[self.watch] > sign * self.entries[self.best][self.watch]:
            self.best = len(self.entries) - 1
            self.best_weights = {name: state.value for name, state in parameters_of(self.net).items()}

    def _out_of_patience(self, patience: int | None) -> bool:
        return patience is not None and self.best is not None and len(self.entries) - 1 - self.best >= patience

    def _content(self) -> dict[str, Any]:
        now = content_of(self.net, self.optimizer, len(self.entries))
        return now | {"best": self.best_weights or now["weights"], "best_epoch": -1 if self.best is None else self.best}

    def save(self, path: str, notes: dict[str, str]) -> None:
        """Write the run; a crash while writing leaves the old file whole."""
        _FILE.write(path, self._content(), notes | {"history": json.dumps(self.entries)}, call="fit")

    def load(self, path: str, notes: dict[str, str], call: str) -> None:
        """Take up a saved run, or raise and change nothing."""
        content, saved = _FILE.read(path, self._content(), notes, call=call)
        entries = json.loads(saved["history"])
        take_up(content, self.net, self.optimizer)
        self.entries, self.best_weights = entries, content["best"]
        self.best = None if content["best_epoch"] < 0 else int(content["best_epoch"])
