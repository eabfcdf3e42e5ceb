"""One call that trains a network: epochs, validation, the best weights kept, saved and resumed to the bit."""

from __future__ import annotations

import itertools
import os
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import brainstate
import braintools
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from brainhw import _arguments
from brainhw._files import check_target, first_line, path_text
from brainhw.data.hold_out import hold_out
from brainhw.nn import chip_weights
from brainhw.nn.pinned import has_sampled_chip
from brainhw.train.batch import Batch, Source
from brainhw.train.classifier import classifier_loss
from brainhw.train.history import History, Keep
from brainhw.train.run import CLASS_NUMBERS, Run
from brainhw.train.weights import clip_weights
from brainhw.transform import rollout

__all__ = ["fit"]

_MOST_EPOCHS = 10**6
# The learning rate of Adam, which falls along a cosine to this part of its first value.
_RATE, _LAST_RATE = 1e-2, 0.02


def fit(
    net: brainstate.nn.Module,
    train: Any,
    validation: Any = None,
    *,
    n_classes: int | None = None,
    loss: Callable[[jax.Array, Batch], jax.Array] | None = None,
    metrics: Mapping[str, Callable[[jax.Array, Batch], jax.Array]] | None = None,
    epochs: int,
    batch_size: int = 32,
    learning_rate: float | Callable[[Any], Any] | None = None,
    max_gradient: float | None = None,
    optimizer: Any = None,
    forward: Callable[[brainstate.nn.Module, Batch], jax.Array] | None = None,
    sample_chips: bool | Literal["auto"] = "auto",
    constrain: Callable[[brainstate.nn.Module], Any] | Literal["auto"] | None = "auto",
    schedules: Sequence[Any] = (),
    watch: str | None = None,
    keep: Keep | Literal["auto"] = "auto",
    patience: int | None = None,
    callbacks: Sequence[Callable[[int, Mapping[str, float] | None], Any]] = (),
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> History:
    """Train a network, and return what each epoch reached.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network; all of its ``ParamState`` are learnt.
    train : Split, pair or iterable
        A :class:`brainhw.data.Split`, arrays ``(x [n, T, *N], y)`` or ``(x, y, lengths)``, or an iterable of them that
        is gone through once an epoch, such as a data loader.
    validation : Split, pair, iterable or float, optional
        The same; it decides which weights are the best. A number is the share of ``train`` that is held out for it, of
        each class alike (:func:`brainhw.data.hold_out` with ``seed``).
    n_classes : int, optional
        For a classifier: the output neurons form so many equal, consecutive populations, and ``y`` holds one class for
        each recording. Gives the default loss, adds ``accuracy`` and the shares of ``silent`` and ``tied`` recordings
        to each epoch, and a report at the end.
    loss : callable, optional
        ``loss(outputs, batch)`` gives a scalar; ``outputs`` are those of ``forward``, ``batch`` is a :class:`Batch`.
        Default: :func:`classifier_loss` of ``n_classes``.
    metrics : mapping of str to callable, optional
        Further numbers of the same form; they are means over samples.
    epochs : int
        Number of epochs in all, those of a resumed run included. A saved run goes on with the number it began with.
    batch_size : int, optional
        Samples of a batch; the last one of an epoch holds the rest. Default 32.
    learning_rate : float or optax schedule, optional
        First rate of Adam, which falls along a cosine to a fiftieth; or a function of the number of the update. Default
        0.01. Not with ``optimizer``.
    max_gradient : float, optional
        Largest norm of the gradient of all parameters together. Default: none. Not with ``optimizer``.
    optimizer : braintools.optim.Optimizer, optional
        Another optimizer, which has a rate and a bound of its own.
    forward : callable, optional
        ``forward(net, batch)`` gives the outputs. Default: those of :func:`brainhw.rollout`, zero behind the end of
        each recording.
    sample_chips : bool or 'auto', optional
        Whether the default ``forward`` trains each batch on another sampled chip (:func:`brainhw.sample_chip`), so that
        what is learnt holds for chips that differ. ``'auto'`` (default): where the network is on a chip, and no sampled
        or measured chip is in place.
    constrain : 'auto', callable or None, optional
        Called with the network after each update. ``'auto'`` (default) is :func:`clip_weights`, which keeps weights in
        the range of their chip, where the network has such weights.
    schedules : sequence, optional
        Objects with ``step(epoch)``, called before each epoch, such as :class:`SignAnnealing` or
        :class:`SurrogateSchedule`. Their ``constrain()`` is called after each update, ``finish()`` at the end.
    watch : str, optional
        The number that decides which epoch is the best: the largest; of a loss, silent or tied recordings the smallest.
        Default: ``accuracy`` or the first metric, or the loss without one; on the validation data where there are any.
    keep : 'auto', 'best' or 'last', optional
        The weights that the network has in the end. ``'auto'`` (default): the best with validation data, otherwise the
        last. An epoch in which signs still harden is never the best.
    patience : int, optional
        End after so many epochs without a better one. Default: never.
    callbacks : sequence of callable, optional
        Each is called with ``(epoch, None)`` before an epoch and ``(epoch, numbers)`` after it. If one returns True
        after an epoch, the run stops there as it is, and can be resumed.
    seed : int, optional
        Seed of the order and of the keys of batches. Default 0.
    checkpoint : path, optional
        A file that is written after each epoch, whole or not at all. If it is there, the run goes on from it, to the
        bit. A file of another network, other data or other settings is refused; of your own functions it knows the
        names alone.
    mesh : jax.sharding.Mesh, optional
        Devices that share each batch: a mesh with one axis. A batch that they cannot share evenly lies on all of them.
    progress : bool, optional
        Show a progress bar. Default True.

    Returns
    -------
    History
        Numbers of each epoch, and the report on a classifier; ``print`` it for a table.

    Raises
    ------
    TypeError, ValueError
        If an argument is bad, or the checkpoint is damaged or of another run; nothing has changed then.
    FloatingPointError
        If loss or gradient are not finite in an epoch; the weights are those before it.

    Warns
    -----
    UserWarning
        If ``train``, given as arrays or a Split, has no recording of a class; if in the end a classifier is silent on
        recordings or never predicts a class.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.LIFSynapse(2, 2, weight_init=np.full((2, 2), 0.3) * u.mV), bh.nn.LIFLayer(2, tau=20 * u.ms)
    ... )
    >>> y = np.arange(20) % 2
    >>> x = np.random.default_rng(0).poisson(0.3 + 0.5 * (y[:, None, None] == np.arange(2)), (20, 30, 2))
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     history = bh.train.fit(net, (x, y), n_classes=2, epochs=20, learning_rate=0.05, progress=False)
    >>> history.column("loss").shape, history.report.n_samples
    ((20,), 20)
    """
    call = "fit"
    _arguments.check_module(net, call=call)
    if _arguments.inside_jit():
        raise RuntimeError(f"{call}: it compiles its steps by itself; call it outside of jit.")
    if not net.states(brainstate.ParamState):
        raise ValueError(f"{call}: net has no ParamState, so there is nothing to learn; make a weight a ParamState.")
    epochs = _arguments.positive_int(epochs, call=call, name="epochs", most=_MOST_EPOCHS)
    batch_size = _arguments.positive_int(batch_size, call=call, name="batch_size")
    seed = _arguments.whole_number(seed, call=call, name="seed", most=2**32 - 1)
    _arguments.flag(progress, call=call, name="progress")
    if patience is not None:
        patience = _arguments.positive_int(patience, call=call, name="patience")
    if n_classes is not None:
        n_classes = _arguments.positive_int(n_classes, call=call, name="n_classes")
    if mesh is not None:
        _check_mesh(mesh, call)
    source, checked = _sources(train, validation, batch_size, seed, n_classes, mesh, call)
    _warn_of_missing_classes(source, n_classes, call)
    measured = _measured(loss, metrics, n_classes, call)
    listed = _arguments.several(callbacks, call=call, name="callbacks", of="functions", flat=False)
    called = [_arguments.function(one, call=call, name="each of callbacks") for one in listed]
    names = [*measured, *(CLASS_NUMBERS if n_classes is not None else ())]
    run = Run(
        net,
        optimizer=_optimizer(optimizer, learning_rate, max_gradient, epochs, source, net, call),
        measured=measured,
        forward=_forward(forward, sample_chips, source.is_padded or (checked or source).is_padded, net, call),
        n_classes=n_classes,
        constrain=_constraint(constrain, net, call),
        schedules=_schedules(schedules, epochs, call),
        watch=_watched(watch, names, n_classes is not None, checked is not None, call),
        keep=_kept(keep, checked is not None, call),
        mesh=mesh,
    )
    path = None
    if checkpoint is not None:
        path = path_text(checkpoint, call=call, what="a checkpoint")
        check_target(path, call=call)
    notes = {
        "data": source.fingerprint(),
        "validation": "none" if checked is None else checked.fingerprint(),
        "epochs": f"{epochs}",
        "batch_size": f"{batch_size}",
        "seed": f"{seed}",
        "numbers": ", ".join(names),
        "watch and keep": f"{run.watch}, {run.keep}",
        "n_classes": f"{n_classes}",
        "loss": _name_of(measured["loss"]),
        "forward": _name_of(run.forward),
        "sample_chips": f"{sample_chips}",
        "max_gradient": f"{max_gradient}",
        "learning_rate": _rate_note(learning_rate, optimizer),
        "schedules": ", ".join(f"{type(one).__name__} {getattr(one, 'total_epochs', '')}" for one in run.schedules),
        "chips": ", ".join(sorted({_chip_note(weight.chip) for weight in chip_weights(net).values()})) or "none",
        "dt": str(brainstate.environ.get("dt", "not set")),
    }
    if path is not None and os.path.exists(path):
        run.load(path, notes, call)
    history = run.go(source, checked, epochs, patience, seed, called, path, notes, progress=progress)
    _warn(history, call)
    return history


def _name_of(function: Any) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


def _rate_note(rate: Any, optimizer: Any) -> str:
    if optimizer is not None:
        return f"that of {type(optimizer).__name__}"
    return _name_of(rate) if callable(rate) else f"{rate or _RATE}"


def _chip_note(chip: Any) -> str:
    return f"{chip.name} {zlib.crc32(repr(chip).encode()):08x}"


def _check_mesh(mesh: Any, call: str) -> None:
    if not isinstance(mesh, Mesh) or len(mesh.axis_names) != 1:
        raise TypeError(
            f"{call}: mesh must be a jax.sharding.Mesh with one axis, as jax.make_mesh((4,), ('batch',)) makes it; got "
            f"{_arguments.describe(mesh)}."
        )


def _sources(
    train: Any, validation: Any, batch_size: int, seed: int, n_classes: int | None, mesh: Mesh | None, call: str
) -> tuple[Source, Source | None]:
    def source(data: Any, name: str) -> Source:
        return Source(data, batch_size, n_classes=n_classes, mesh=mesh, call=call, name=name)

    first = source(train, "train")
    if validation is None:
        return first, None
    if isinstance(validation, (int, float, np.number)) and not isinstance(validation, bool):
        if first.split is None:
            raise TypeError(
                f"{call}: validation is a share, {validation!r}, which takes train as a Split or arrays; nothing can "
                "be held out of an iterable."
            )
        share = _arguments.number(validation, call=call, name="validation", positive=True)
        if share >= 1:
            raise ValueError(f"{call}: validation as a share must lie between 0 and 1; got {share:g}.")
        left, held = hold_out(first.split, share, seed=seed)
        return source(left, "train"), source(held, "validation")
    return first, source(validation, "validation")


def _measured(loss: Any, metrics: Any, n_classes: int | None, call: str) -> dict[str, Callable[..., Any]]:
    if loss is None:
        if n_classes is None:
            raise TypeError(f"{call}: loss is missing; give one, or n_classes for that of a classifier.")
        loss = classifier_loss(n_classes)
    measured = {"loss": _arguments.function(loss, call=call, name="loss")}
    if metrics is not None and not isinstance(metrics, Mapping):
        raise TypeError(f"{call}: metrics must map names to functions; got {_arguments.describe(metrics)}.")
    for given, metric in (metrics or {}).items():
        name = _arguments.text(given, call=call, name="a name of metrics", some=True)
        if name == "loss" or name.startswith("validation_") or (n_classes is not None and name in CLASS_NUMBERS):
            raise ValueError(f"{call}: metrics cannot have the name {name!r}, which fit uses itself; take another.")
        measured[name] = _arguments.function(metric, call=call, name=f"metrics[{name!r}]")
    return measured


def _forward(forward: Any, sample_chips: Any, padded: bool, net: brainstate.nn.Module, call: str) -> Callable[..., Any]:
    on_chip = bool(chip_weights(net))
    if isinstance(sample_chips, str) and sample_chips == "auto":
        sampled = on_chip and not has_sampled_chip(net)
    else:
        sampled = _arguments.flag(sample_chips, call=call, name="sample_chips")
        if sampled and not on_chip:
            raise ValueError(f"{call}: sample_chips takes a network on a chip, and this one has no module on a chip.")
        if sampled and forward is not None:
            raise ValueError(f"{call}: sample_chips is for the default forward; in your own, use batch.key.")
    if forward is not None:
        return _arguments.function(forward, call=call, name="forward")

    def outputs(net: brainstate.nn.Module, batch: Batch) -> Any:
        return rollout(net, batch.x, key=batch.key if sampled else None, lengths=batch.lengths if padded else None)[0]

    return outputs


def _schedules(schedules: Any, epochs: int, call: str) -> list[Any]:
    found = _arguments.several(schedules, call=call, name="schedules", of="objects with step(epoch)", flat=False)
    for one in found:
        if not callable(getattr(one, "step", None)):
            raise TypeError(
                f"{call}: schedules must hold objects with step(epoch), such as SignAnnealing; got "
                f"{_arguments.describe(one)}."
            )
        if hasattr(one, "constrain") and getattr(one, "total_epochs", 0) >= epochs:
            raise ValueError(
                f"{call}: {type(one).__name__} takes {one.total_epochs} epochs, and the training has {epochs}; signs "
                "must be hard before the last epoch. Give more epochs, or it fewer."
            )
    return found


def _kept(keep: Keep | Literal["auto"], validated: bool, call: str) -> Keep:
    _arguments.choice(keep, ("auto", "best", "last"), call=call, name="keep")
    if keep == "auto":
        return "best" if validated else "last"
    return keep


def _warn(history: History, call: str) -> None:
    report = history.report
    if report is not None and (report.silent or report.never_predicted):
        warnings.warn(
            f"{call}: {'; '.join(report.remarks)}. Look at history.report, and at docs/troubleshooting.md.",
            stacklevel=3,
        )


def _warn_of_missing_classes(source: Source, n_classes: int | None, call: str) -> None:
    if n_classes is None or source.split is None:
        return
    present = set(np.unique(source.split.y).tolist())
    n_missing = n_classes - len(present)
    if n_missing:
        first = itertools.islice((one for one in range(n_classes) if one not in present), 5)
        shown = ", ".join(map(str, first)) + (", ..." if n_missing > 5 else "")
        warnings.warn(
            f"{call}: train has no recording of {n_missing} of {n_classes} classes ({shown}), so that the network "
            "cannot learn them; is n_classes right?",
            stacklevel=3,
        )


def _optimizer(
    given: Any, rate: Any, max_gradient: Any, epochs: int, source: Source, net: brainstate.nn.Module, call: str
) -> Any:
    if given is not None:
        if not isinstance(given, braintools.optim.Optimizer):
            raise TypeError(
                f"{call}: optimizer must be an optimizer of braintools.optim; got {_arguments.describe(given)}."
            )
        for name, value in (("learning_rate", rate), ("max_gradient", max_gradient)):
            if value is not None:
                raise ValueError(
                    f"{call}: {name} has no effect on an optimizer of your own; set it there and leave {name} out."
                )
    else:
        schedule = rate = _RATE if rate is None else rate
        if callable(rate):
            _check_schedule(rate, call)
        else:
            rate = float(_arguments.number(rate, call=call, name="learning_rate", positive=True))
            if source.n_batches is None:
                raise ValueError(
                    f"{call}: the number of batches of train is not known, which the learning rate needs; give an "
                    "iterable with a length, or a schedule as learning_rate."
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


def _check_schedule(rate: Callable[[Any], Any], call: str) -> None:
    try:
        first = jax.eval_shape(rate, jnp.zeros((), int))
    except Exception as error:
        raise TypeError(
            f"{call}: learning_rate must give a number for the traced number of an update; it failed with "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    if getattr(first, "shape", None) != ():
        raise TypeError(f"{call}: learning_rate must give one number for an update; got {_arguments.describe(first)}.")


def _constraint(constrain: Any, net: brainstate.nn.Module, call: str) -> Callable[..., Any] | None:
    if isinstance(constrain, str) and constrain == "auto":
        return clip_weights if chip_weights(net) else None
    return None if constrain is None else _arguments.function(constrain, call=call, name="constrain")


def _watched(watch: str | None, names: list[str], classifies: bool, validated: bool, call: str) -> str:
    prefix = "validation_" if validated else ""
    allowed = [*names, *([f"validation_{name}" for name in names] if validated else [])]
    if watch is None:
        return prefix + ("accuracy" if classifies else names[1] if len(names) > 1 else names[0])
    return _arguments.choice(watch, allowed, call=call, name="watch")
