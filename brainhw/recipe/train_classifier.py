"""Training of a classifier from labelled recordings. The network satisfies all rules of its chip."""

from __future__ import annotations

import dataclasses
import os
import warnings
from typing import Any

import brainstate
import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw.chip import ChipSpec, get_chip
from brainhw.data.channels_first import channels_first_warning
from brainhw.data.dataset import Split
from brainhw.deploy import check_deployable
from brainhw.init import fluct_init
from brainhw.recipe.chip_classifier import ChipClassifier, label_indices
from brainhw.recipe.encoding import Encoding, checked, features_of, fit_encoding
from brainhw.recipe.mixtures import Mixtures
from brainhw.recipe.net import VoterNet, n_voters, run_constant_input
from brainhw.recipe.teacher import choose_teacher
from brainhw.train import SignAnnealing, classifier_loss, fit

__all__ = ["train_classifier"]

# These settings were chosen by cross-validation on training recordings (docs/recipe.md).
_DT = 1.0 * u.ms
_STEPS, _POWER = 100, 8.0
_EPOCHS, _SIGNS_HARD, _BATCH_SIZE, _MAX_GRADIENT = 10, 3, 64, 5.0
# Number of batches per epoch and learning rate.
_FEW_BATCHES, _FEW_RATE = 60, 1e-2
# With these settings, networks do not converge to their teacher on tables with hundreds of recordings. On smaller data
# sets, the following settings were not measurably better. This learning rate is a fraction of the largest weight. With
# the same rate for both chips, networks on H1v1, whose weights are smaller, converged less well.
_MANY_RECORDINGS, _MANY_BATCHES, _MANY_RATE = 300, 100, 0.018
_FLOOR, _SCALE = 5.0, 0.5
# If a class has fewer recordings, it is missing in some folds of the cross-validation that chooses the teacher.
_FEW = 5


def train_classifier(
    x: Any,
    y: Any = None,
    lengths: Any = None,
    *,
    chip: ChipSpec | str = "h1v2",
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> ChipClassifier:
    r"""Train a classifier for a chip from labelled recordings. The network satisfies all rules of the chip.

    You need not choose any options for your data. An encoder (:class:`Encoding`) computes features of each recording.
    The chip receives these features as constant inputs for 100 steps of 1 ms. The class whose output neurons fire the
    most spikes is predicted. The network has a hidden layer and up to 20 output neurons per class, which together use
    all neurons of the chip. It is trained on mixtures of the recordings, with the class probabilities of a teacher as
    targets. A few dozen recordings therefore suffice. The teacher is kernel ridge regression or logistic regression,
    whichever is more accurate in a cross-validation. In the first third of the training, the signs of the weights
    become fixed (:class:`brainhw.train.SignAnnealing`). Each batch runs on a newly sampled chip. With 300 recordings or
    more, the training is longer and its learning rate is larger.

    Parameters
    ----------
    x : Split or array
        Recordings: a :class:`brainhw.data.Split`, ``[n, T, *channels]``, or static features ``[n, channels]``.
    y : array, optional
        Class of each recording, ``[n]``, as names or integers. Do not pass it together with a Split, which contains the
        classes.
    lengths : array, optional
        Number of steps of each recording without padding. Default: all steps. Do not pass it together with a
        Split.
    chip : ChipSpec or str, optional
        The chip, or the name of a family such as ``"h1v1"``. Default ``"h1v2"``.
    seed : int, optional
        Seed of the starting weights, the mixtures and the sampled chips. Default 0.
    checkpoint : path, optional
        File in which the training is saved after each epoch. If this file exists, the training resumes from it; see
        :func:`brainhw.train.fit`.
    progress : bool, optional
        Show a progress bar. Default True.

    Returns
    -------
    ChipClassifier
        The classifier. It contains the network, the encoding and the class names, and has the methods ``predict``,
        ``report`` and ``save``.

    Raises
    ------
    TypeError, ValueError
        If recordings or labels are invalid, or if there are fewer than two classes or more classes than the chip
        supports.

    Examples
    --------
    ``classifier = bh.recipe.train_classifier(x_train, y_train, chip="h1v1")`` and
    ``print(classifier.report(x_test, y_test))``. The command ``python -m brainhw train`` does both.
    """
    call = "train_classifier"
    spec = get_chip(chip, call=call)
    seed = _arguments.whole_number(seed, call=call, name="seed", most=2**32 - 1)
    _arguments.flag(progress, call=call, name="progress")
    recordings, of_each, in_shape, indices, classes = _recordings(x, y, lengths, call)
    if "" in (stripped := [name.strip() for name in classes]):
        first = int(np.argmax(indices == stripped.index("")))
        raise ValueError(
            f"{call}: y contains an empty class name, first for recording {first} (counted from 0). Fill missing "
            "labels, or remove these recordings."
        )
    if any("\n" in name for name in classes):
        raise ValueError(f"{call}: a class name in y contains a line break. Pass names without line breaks.")
    n_neurons = sum(spec.cores)
    voters = n_voters(len(classes), n_neurons)
    if len(classes) < 2 or not voters:
        raise ValueError(
            f"{call}: y must contain 2 to {n_neurons // 2} classes for {spec.name} with {n_neurons} neurons; got "
            f"{len(classes)}. "
            + ("Add recordings of a second class." if len(classes) < 2 else "Merge classes, or choose a larger chip.")
        )
    encoding, sizes = fit_encoding(recordings, of_each, in_shape, block=spec.sign_block, n_steps=_STEPS)
    features = encoding.standardised(features_of(recordings, of_each, encoding.n_parts, encoding.windows))
    if not encoding.gain.any():
        raise ValueError(f"{call}: all recordings in x are equal, so their classes cannot be distinguished. Check x.")
    _warn_of_few(indices, classes, call)
    _warn_of_spaces(classes, call)
    teacher = choose_teacher(features, sizes, indices, len(classes), encoding.std)
    # Weights have few levels. If inputs were too large, weights would have to be smaller than the smallest level.
    gain = encoding.gain * teacher.gains
    power = np.mean(np.sum((features * gain) ** 2, axis=1))
    encoding = dataclasses.replace(encoding, gain=gain * np.sqrt(_POWER / power))
    with brainstate.environ.context(dt=_DT):
        net = _initial_net(encoding, features, voters * len(classes), n_neurons, spec, seed)
        n_batches, rate = _FEW_BATCHES, _FEW_RATE
        if len(indices) >= _MANY_RECORDINGS:
            n_batches, rate = _MANY_BATCHES, _MANY_RATE * spec.weight_limit
        mixtures = Mixtures(features, teacher, encoding, n_batches=n_batches, batch_size=_BATCH_SIZE, seed=seed)
        history = fit(
            net,
            mixtures,
            loss=classifier_loss(len(classes), floor=_FLOOR, scale=_SCALE),
            forward=lambda net, batch: run_constant_input(net, batch.x[0], _STEPS, batch.key),
            epochs=_EPOCHS,
            learning_rate=rate,
            max_gradient=_MAX_GRADIENT,
            schedules=[SignAnnealing(net, total_epochs=_SIGNS_HARD)],
            callbacks=[mixtures.set_epoch],
            seed=seed,
            checkpoint=checkpoint,
            progress=progress,
        )
        check_deployable(net).raise_if_not()
    return ChipClassifier(net, encoding, classes, _DT, history)


def _recordings(
    x: Any, y: Any, lengths: Any, call: str
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...], np.ndarray, tuple[str, ...]]:
    """Check the arguments of :func:`train_classifier` and return them as arrays.

    The result is the recordings ``[n, T, C]``, their lengths ``[n]``, the shape of the channels, the class indices
    ``[n]`` and the names of the classes.
    """
    if isinstance(x, Split):
        if y is not None or lengths is not None:
            raise TypeError(f"{call}: a Split already contains labels and lengths. Omit y and lengths.")
        if not isinstance(x.x, np.ndarray) or x.y.ndim != 1:
            raise TypeError(f"{call}: the Split must contain frames, not raw audio, and one label per recording.")
        x, y, lengths = x.x, x.y, x.lengths
    if y is None:
        raise TypeError(f"{call}: y is missing. Pass the class of each recording, or a Split.")
    array = np.asarray(_arguments.as_array(x, call=call, name="x"))
    if array.ndim < 2:
        raise ValueError(
            f"{call}: x must have shape [n, T, *channels], or [n, features] without a time axis; got {array.shape}."
        )
    in_shape = array.shape[1:] if array.ndim == 2 else array.shape[2:]
    recordings, of_each = checked(array, lengths, in_shape, call=call)
    if lengths is None and array.ndim == 3 and (doubt := channels_first_warning(array)):
        warnings.warn(f"{call}: {doubt}", stacklevel=4)
    indices, classes = label_indices(y, call=call)
    if len(indices) != len(recordings):
        raise ValueError(
            f"{call}: y must contain one name or integer for each of {len(recordings)} recordings; got {len(indices)}."
        )
    return recordings, of_each, in_shape, indices, classes


def _warn_of_few(indices: np.ndarray, classes: tuple[str, ...], call: str) -> None:
    """Warn if a class has too few recordings for a reliable training and accuracy."""
    counts = np.bincount(indices, minlength=len(classes))
    few = int(counts.argmin())
    if counts[few] < _FEW:
        warnings.warn(
            f"{call}: the class {classes[few]!r:.40} has {counts[few]} of {len(indices)} recordings, fewer than "
            f"{_FEW}. The accuracy on new recordings may be much lower than on these. Add recordings of this class.",
            stacklevel=3,
        )


def _warn_of_spaces(classes: tuple[str, ...], call: str) -> None:
    """Warn if two class names differ only in spaces at their ends."""
    stripped = [name.strip() for name in classes]
    twice = [name for name in stripped if stripped.count(name) > 1]
    if twice:
        warnings.warn(
            f"{call}: several classes in y are named {twice[0]!r:.40} and differ only in spaces. To merge them, pass "
            "np.char.strip(y).",
            stacklevel=3,
        )


def _initial_net(
    encoding: Encoding, features: np.ndarray, n_out: int, n_neurons: int, chip: ChipSpec, seed: int
) -> VoterNet:
    brainstate.random.seed(seed)
    net = VoterNet(encoding.n_rows, n_neurons - n_out, n_out, chip)
    held = np.repeat(encoding.rows(features[:_BATCH_SIZE])[:, None], _STEPS, axis=1)
    with warnings.catch_warnings():
        # fluct_init warns about neurons that are silent for these few recordings, but training can make them fire.
        warnings.simplefilter("ignore", UserWarning)
        lengths = np.full(len(held), _STEPS)
        fluct_init(net, [held], xi_target=1.0, in_range=True, verbose=False, key=seed, lengths=lengths)
    return net
