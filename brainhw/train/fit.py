"""Training of a network in one call: epochs, validation, best weights, checkpoints and exact resumption."""

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
from brainhw.train.master_weights import has_half_weights, with_master_weights
from brainhw.train.run import CLASS_NUMBERS, Run
from brainhw.train.weights import clip_weights
from brainhw.transform import rollout

__all__ = ["fit"]

_MOST_EPOCHS = 10**6
# Default learning rate of Adam, and the fraction of it that remains at the end of the cosine decay.
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
    """Train a network, and return the metrics of each epoch.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. All of its ``ParamState`` are trained.
    train : Split, pair or iterable
        A :class:`brainhw.data.Split`, arrays ``(x [n, T, *N], y)`` or ``(x, y, lengths)``, or an iterable that yields
        batches in one of these forms, such as a data loader. The iterable is iterated once per epoch.
    validation : Split, pair, iterable or float, optional
        Validation data in the same forms. They determine the best epoch. A number is the fraction of ``train`` that is
        held out for validation, the same fraction of each class (:func:`brainhw.data.hold_out` with ``seed``).
    n_classes : int, optional
        Number of classes of a classifier. Each class has an equal number of consecutive output neurons, and ``y``
        contains one class per recording. The default loss is then :func:`classifier_loss`. The history then contains
        the ``accuracy`` and the fractions of ``silent`` and ``tied`` recordings of each epoch, and a report on the
        trained classifier.
    loss : callable, optional
        ``loss(outputs, batch)`` returns a scalar, where ``outputs`` are the result of ``forward`` and ``batch`` is a
        :class:`Batch`. Default: ``classifier_loss(n_classes)``.
    metrics : mapping of str to callable, optional
        Additional metrics by name: functions with the arguments of ``loss``. Their values are averaged over samples.
    epochs : int
        Total number of epochs, including those before a run is resumed. A resumed run must use the same number.
    batch_size : int, optional
        Samples per batch. The last batch of an epoch may be smaller. Default 32.
    learning_rate : float or optax schedule, optional
        Initial learning rate of Adam. The learning rate follows a cosine decay to a fiftieth of this value. Instead of
        a number, you can pass a schedule: a function that maps the index of the update to the learning rate. Default
        0.01. Do not pass it together with ``optimizer``.
    max_gradient : float, optional
        Maximum norm of the gradient with respect to all parameters. A larger gradient is scaled down to this norm.
        Default: no maximum. Do not pass it together with ``optimizer``.
    optimizer : braintools.optim.Optimizer, optional
        Optimizer instead of the default Adam. Set learning rate and gradient clipping in this optimizer. If weights
        have half precision, the default Adam updates float32 copies of them (master weights).
    forward : callable, optional
        ``forward(net, batch)`` returns the outputs. Default: the outputs of :func:`brainhw.rollout`, set to zero after
        the end of each recording.
    sample_chips : bool or 'auto', optional
        Whether the default ``forward`` samples a new chip for each batch (:func:`brainhw.sample_chip`), so that the
        trained weights work on chips with mismatch. ``'auto'`` (default) samples if the network is on a chip and no
        sampled or measured chip is set.
    constrain : 'auto', callable or None, optional
        Function that is called with the network after each update. For a network on a chip, ``'auto'`` (default) is
        :func:`clip_weights`, which keeps the weights in the range of the chip.
    schedules : sequence, optional
        Objects such as :class:`SignAnnealing` or :class:`SurrogateSchedule`. Their method ``step(epoch)`` is called
        before each epoch. The optional method ``constrain()`` is called after each update, and the optional method
        ``finish()`` at the end.
    watch : str, optional
        Metric that determines the best epoch. The largest value is the best, except for losses, ``silent`` and
        ``tied``, for which the smallest is the best. Default: ``accuracy`` of a classifier, otherwise the first of
        ``metrics``, otherwise ``loss``. If there are validation data, the default is this metric on the validation
        data.
    keep : 'auto', 'best' or 'last', optional
        Epoch whose weights the network has at the end. ``'auto'`` (default) is the best epoch if there are validation
        data, otherwise the last. An epoch with soft signs (:class:`SignAnnealing`) is never the best.
    patience : int, optional
        Stop after this many epochs without an improvement. Default: train for all epochs.
    callbacks : sequence of callable, optional
        Functions that are called with ``(epoch, None)`` before an epoch and with ``(epoch, metrics)`` after it. If any
        callback returns True after an epoch, the run stops and can be resumed. The network then has the weights of the
        last epoch, whatever ``keep`` is.
    seed : int, optional
        Seed of the batch order and of the batch keys. Default 0.
    checkpoint : path, optional
        File that is written atomically after each epoch. If it exists, the run resumes from it, with bitwise identical
        results. A file of a run with a different network, different data or different settings raises an error. For
        user functions, only the names are compared.
    mesh : jax.sharding.Mesh, optional
        Mesh with one axis. Each batch is divided among its devices. A batch that cannot be divided evenly is copied to
        every device.
    progress : bool, optional
        Show a progress bar. Default True.

    Returns
    -------
    History
        Metrics of each epoch and, for a classifier, a report. ``print`` shows a table.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or the checkpoint is corrupted or belongs to another run. Nothing is changed in this
        case.
    FloatingPointError
        If a metric or a weight is not finite after an epoch. The weights from before this epoch are restored.

    Warns
    -----
    UserWarning
        If ``train`` is a Split or arrays, and some class has no recording in it. If the trained classifier outputs no
        spike for some recordings, or never predicts some class.

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
        raise RuntimeError(f"{call}: fit compiles its own steps. Call it outside of jit.")
    if not net.states(brainstate.ParamState):
        raise ValueError(f"{call}: net has no ParamState, so there is nothing to train. Make a weight a ParamState.")
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
    measures = _loss_and_metrics(loss, metrics, n_classes, call)
    listed = _arguments.several(callbacks, call=call, name="callbacks", of="functions", flat=False)
    called = [_arguments.function(one, call=call, name="each of callbacks") for one in listed]
    names = [*measures, *(CLASS_NUMBERS if n_classes is not None else ())]
    run = Run(
        net,
        optimizer=_optimizer(optimizer, learning_rate, max_gradient, epochs, source, net, call),
        measures=measures,
        forward=_forward(forward, sample_chips, source.is_padded or (checked or source).is_padded, net, call),
        n_classes=n_classes,
        constrain=_constraint(constrain, net, call),
        schedules=_schedules(schedules, epochs, call),
        watch=_choose_watch(watch, names, n_classes is not None, checked is not None, call),
        keep=_choose_keep(keep, checked is not None, call),
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
        "loss": _name_of(measures["loss"]),
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
    history = run.run_epochs(source, checked, epochs, patience, seed, called, path, notes, progress=progress)
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
            f"{call}: mesh must be a jax.sharding.Mesh with one axis, for example jax.make_mesh((4,), ('batch',)); got "
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
                f"{call}: validation={validation!r} holds out a fraction of train, so train must be a Split or arrays. "
                "With an iterable, pass validation data."
            )
        share = _arguments.number(validation, call=call, name="validation", positive=True)
        if share >= 1:
            raise ValueError(f"{call}: validation as a fraction must be between 0 and 1; got {share:g}.")
        left, held = hold_out(first.split, share, seed=seed)
        return source(left, "train"), source(held, "validation")
    return first, source(validation, "validation")


def _loss_and_metrics(loss: Any, metrics: Any, n_classes: int | None, call: str) -> dict[str, Callable[..., Any]]:
    if loss is None:
        if n_classes is None:
            raise TypeError(f"{call}: loss is missing. Pass loss, or pass n_classes for a classifier.")
        loss = classifier_loss(n_classes)
    measures = {"loss": _arguments.function(loss, call=call, name="loss")}
    if metrics is not None and not isinstance(metrics, Mapping):
        raise TypeError(f"{call}: metrics must map names to functions; got {_arguments.describe(metrics)}.")
    for given, metric in (metrics or {}).items():
        name = _arguments.text(given, call=call, name="a name of metrics", some=True)
        if name == "loss" or name.startswith("validation_") or (n_classes is not None and name in CLASS_NUMBERS):
            raise ValueError(
                f"{call}: the name {name!r} is reserved by fit and cannot be used in metrics. Choose a different name."
            )
        measures[name] = _arguments.function(metric, call=call, name=f"metrics[{name!r}]")
    return measures


# Checkpoints contain the qualified name of `outputs` below, so this function must keep its name.
def _forward(forward: Any, sample_chips: Any, padded: bool, net: brainstate.nn.Module, call: str) -> Callable[..., Any]:
    on_chip = bool(chip_weights(net))
    if isinstance(sample_chips, str) and sample_chips == "auto":
        sampled = on_chip and not has_sampled_chip(net)
    else:
        if not isinstance(sample_chips, bool):
            raise TypeError(
                f"{call}: sample_chips must be True, False or 'auto'; got {_arguments.describe(sample_chips)}."
            )
        sampled = sample_chips
        if sampled and not on_chip:
            raise ValueError(
                f"{call}: sample_chips=True requires a network with chip modules, but net has none. Omit sample_chips."
            )
        if sampled and forward is not None:
            raise ValueError(
                f"{call}: sample_chips=True cannot be combined with forward. Omit sample_chips. To sample chips "
                "in your forward function, pass key=batch.key to rollout."
            )
    if forward is not None:
        return _arguments.function(forward, call=call, name="forward")

    def outputs(net: brainstate.nn.Module, batch: Batch) -> Any:
        return rollout(net, batch.x, key=batch.key if sampled else None, lengths=batch.lengths if padded else None)[0]

    return outputs


def _schedules(schedules: Any, epochs: int, call: str) -> list[Any]:
    found = _arguments.several(
        schedules, call=call, name="schedules", of="objects with a method step(epoch)", flat=False
    )
    for one in found:
        if not callable(getattr(one, "step", None)):
            raise TypeError(
                f"{call}: schedules must contain objects with a method step(epoch), such as SignAnnealing; got "
                f"{_arguments.describe(one)}."
            )
        if hasattr(one, "constrain") and getattr(one, "total_epochs", 0) >= epochs:
            raise ValueError(
                f"{call}: {type(one).__name__} has total_epochs {one.total_epochs}, but must end before the last "
                f"of {epochs} training epochs. Increase epochs or reduce total_epochs."
            )
    return found


def _choose_keep(keep: Keep | Literal["auto"], validated: bool, call: str) -> Keep:
    _arguments.choice(keep, ("auto", "best", "last"), call=call, name="keep")
    if keep == "auto":
        return "best" if validated else "last"
    return keep


def _warn(history: History, call: str) -> None:
    report = history.report
    if report is not None and (report.silent or report.never_predicted):
        warnings.warn(
            f"{call}: {'; '.join(report.remarks)}. See history.report and docs/troubleshooting.md.",
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
            f"{call}: train has no recording of {n_missing} of {n_classes} classes ({shown}), so the network "
            "cannot learn them; check n_classes.",
            stacklevel=3,
        )


def _optimizer(
    given: Any, rate: Any, max_gradient: Any, epochs: int, source: Source, net: brainstate.nn.Module, call: str
) -> Any:
    is_half = has_half_weights([state.value for state in net.states(brainstate.ParamState).values()])
    if given is not None:
        if not isinstance(given, braintools.optim.Optimizer):
            raise TypeError(
                f"{call}: optimizer must be an optimizer of braintools.optim; got {_arguments.describe(given)}."
            )
        for name, value in (("learning_rate", rate), ("max_gradient", max_gradient)):
            if value is not None:
                raise ValueError(
                    f"{call}: {name} has no effect if optimizer is passed. Set it in the optimizer and omit {name}."
                )
        if is_half:
            warnings.warn(
                f"{call}: optimizer updates the weights in half precision, so updates below 0.2 % of a weight "
                "(bfloat16) are lost. Omit the argument optimizer, so that fit updates float32 copies of the weights.",
                stacklevel=3,
            )
    else:
        schedule = rate = _RATE if rate is None else rate
        if callable(rate):
            _check_schedule(rate, call)
        else:
            rate = float(_arguments.number(rate, call=call, name="learning_rate", positive=True))
            if source.n_batches is None:
                raise ValueError(
                    f"{call}: the decay of learning_rate requires the number of batches, but train has no len(). Pass "
                    "an iterable with len(), or a schedule as learning_rate."
                )
            schedule = optax.cosine_decay_schedule(rate, epochs * source.n_batches, alpha=_LAST_RATE)
        parts = [optax.adam(schedule)]
        if max_gradient is not None:
            norm = float(_arguments.number(max_gradient, call=call, name="max_gradient", positive=True))
            parts.insert(0, optax.clip_by_global_norm(norm))
        tx = optax.chain(*parts)
        if is_half:
            tx = with_master_weights(tx)
        given = braintools.optim.OptaxOptimizer(tx=tx)
    if not (given.param_states.to_pytree() or {}):
        given.register_trainable_weights(net.states(brainstate.ParamState))
    return given


def _check_schedule(rate: Callable[[Any], Any], call: str) -> None:
    try:
        first = jax.eval_shape(rate, jnp.zeros((), int))
    except Exception as error:
        raise TypeError(
            f"{call}: learning_rate must accept a traced update index; it failed with "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    if getattr(first, "shape", None) != ():
        raise TypeError(f"{call}: learning_rate must return a scalar per update; got {_arguments.describe(first)}.")


def _constraint(constrain: Any, net: brainstate.nn.Module, call: str) -> Callable[..., Any] | None:
    if isinstance(constrain, str) and constrain == "auto":
        return clip_weights if chip_weights(net) else None
    return None if constrain is None else _arguments.function(constrain, call=call, name="constrain")


def _choose_watch(watch: str | None, names: list[str], classifies: bool, validated: bool, call: str) -> str:
    prefix = "validation_" if validated else ""
    allowed = [*names, *([f"validation_{name}" for name in names] if validated else [])]
    if watch is None:
        return prefix + ("accuracy" if classifies else names[1] if len(names) > 1 else names[0])
    return _arguments.choice(watch, allowed, call=call, name="watch")
