"""Data sets with a training and a test split, and repeatable batches."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import brainunit as u
import numpy as np

from brainhw._arguments import as_array, check_finite, describe, flag, positive_int, several, text, whole_number
from brainhw._printing import printable
from brainhw._records import check_fields, each, is_a, is_in, optional
from brainhw.data.channels_first import channels_first_warning, refuse_channels_first

__all__ = ["Dataset", "Split", "batches"]


def _labels(value: Any, name: str, ndims: tuple[int, ...] = (1,)) -> np.ndarray:
    if name == "y":
        _refuse_names(value)
    array = np.asarray(as_array(value, call="Split", name=name))
    if array.ndim == 1 and not array.size and not hasattr(value, "dtype"):
        array = array.astype(np.int32)  # an empty list has no dtype
    if array.ndim not in ndims or array.dtype.kind not in "iu":
        or_frames = ", or a 2-D array with one number per frame" if 2 in ndims else ""
        raise ValueError(f"Split: {name} must be a 1-D array of integers{or_frames}; got {describe(array)}.")
    if array.size and array.min() < 0:
        raise ValueError(f"Split: {name} must be zero or greater; got {array.min()}. Class indices start at 0.")
    if array.size and array.max() > np.iinfo(np.int32).max:
        raise ValueError(f"Split: {name} must fit into 32 bits; got {array.max()}.")
    return array.astype(np.int32)


def _refuse_names(y: Any) -> None:
    """Raise if the labels are names instead of class indices."""
    try:
        items = np.asarray(None if isinstance(y, u.Quantity) else y, object).ravel()
    except (TypeError, ValueError):  # ragged lists are refused later
        return
    if len(items) and isinstance(items[0], (str, bytes)):
        raise TypeError(
            f"Split: y must contain class indices from 0; got names such as {items[0]!r}. Use "
            "y, names = brainhw.data.class_indices(labels)."
        )


def _groups(value: Any) -> np.ndarray:
    """Return the group of each recording, a name or an integer, as an array ``[n]``. Raise for other values."""
    given = several(value, call="Split", name="groups", of="names or integers")
    try:
        array = np.asarray(given) if len(given) else np.zeros(0, int)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.ndim != 1 or array.dtype.kind not in "iuUS":
        raise TypeError(f"Split: groups must contain one name or integer for each recording; got {describe(value)}.")
    return array


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Training or test part of a data set: recordings, labels and lengths.

    Parameters
    ----------
    x
        Frames ``[n, T, channels]`` or ``[n, T, ..., channels]``, such as images ``[n, T, H, W, C]``. Shorter recordings
        are padded with zeros. For raw audio, pass a list of ``n`` one-dimensional arrays. Stored as float32. For static
        features ``[n, channels]``, call :func:`hold` first, which adds the time axis.
    y
        Class index of each recording, ``[n]``, or of each frame, ``[n, T]``, counted from 0. Stored as int32. Convert
        names, or numbers that start at 1, with :func:`class_indices`.
    lengths
        Number of frames (or audio samples) of each recording without padding, ``[n]``. Stored as int32. Default: no
        recording has padding.
    groups
        Optional array ``[n]``: the source of each recording, for example the name of the speaker.

    Raises
    ------
    ValueError
        If the arguments contain different numbers of recordings, a length exceeds the number of frames, or images have
        channels first.
    TypeError
        If ``y`` contains names.

    Warns
    -----
    UserWarning
        If classes start at 1. If ``lengths`` is omitted and ``x`` looks like recordings ``[n, channels, T]``.

    Examples
    --------
    >>> import numpy as np
    >>> from brainhw.data import Split
    >>> split = Split(x=np.zeros((3, 10, 2)), y=[0, 1, 1], lengths=[10, 7, 9])
    >>> split
    Split(3 recordings, x [3, 10, 2], lengths 7 to 10)
    >>> split.take([2, 0]).y.tolist()
    [1, 0]
    """

    x: np.ndarray | list[np.ndarray]
    y: np.ndarray
    lengths: np.ndarray = None  # type: ignore[assignment]  # never None after __post_init__
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        is_audio = isinstance(self.x, (list, tuple))
        if is_audio:
            x: Any = [
                np.asarray(as_array(one, call="Split", name=f"x[{i}]"), np.float32) for i, one in enumerate(self.x)
            ]
        else:
            x = np.asarray(as_array(self.x, call="Split", name="x"), np.float32)
        for i, one in enumerate(x if is_audio else [x]):
            check_finite(one, call="Split", name=f"x[{i}]" if is_audio else "x")
        lengths_given = self.lengths is not None
        lengths = [np.shape(one)[0] if np.ndim(one) else 0 for one in x] if self.lengths is None else self.lengths
        groups = None if self.groups is None else _groups(self.groups)
        parts = {"x": x, "y": _labels(self.y, "y", (1, 2)), "lengths": _labels(lengths, "lengths"), "groups": groups}
        # This is the only way to set a field of a frozen dataclass.
        for name, value in parts.items():
            object.__setattr__(self, name, value)
        if is_audio:
            self._check_audio()
        else:
            self._check_frames()
        for name in ("x", "lengths", "groups"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.y):
                raise ValueError(
                    f"Split: {name} has {len(value)} entries, but y has {len(self.y)}. Pass one entry per recording."
                )
        self._warn(lengths_given)

    def _warn(self, lengths_given: bool) -> None:
        """Warn about input that is valid, but probably a mistake."""
        classes = np.unique(self.y)
        # A batch may lack class 0 by chance. This is unlikely if it has at least two recordings per class and all other
        # classes occur.
        if len(classes) > 1 and classes[0] == 1 and classes[-1] == len(classes) and len(self) >= 2 * len(classes):
            warnings.warn(
                f"Split: y contains the classes 1 to {classes[-1]} and no 0; classes must start at 0. Use y, names = "
                "brainhw.data.class_indices(y), unless class 0 is missing on purpose.",
                stacklevel=4,
            )
        # If lengths were given, they were already checked against the time axis.
        if isinstance(self.x, np.ndarray) and not lengths_given:
            doubt = channels_first_warning(self.x)
            if doubt:
                warnings.warn(f"Split: {doubt}", stacklevel=4)

    def _check_audio(self) -> None:
        if self.y.ndim != 1:
            raise ValueError(
                "Split: y has one label per frame, [n, T], but x is raw audio. Pass x as frames [n, T, channels]."
            )
        # Not strict, because a wrong number of lengths is reported after this loop.
        for index, (one, length) in enumerate(zip(self.x, self.lengths, strict=False)):
            if one.ndim != 1 or len(one) != length:
                raise ValueError(
                    f"Split: recording {index} of x has shape {one.shape}, but lengths[{index}] is {length}. Pass raw "
                    "audio as a list of 1-D arrays with these lengths, or frames as one array [n, T, channels] in "
                    "which shorter recordings are padded."
                )

    def _check_frames(self) -> None:
        shape = np.shape(self.x)
        # If frame labels or lengths match the last axis of x, that axis is the time axis.
        first = ""
        if len(shape) == 3 and shape[2] > shape[1]:
            first = " x has its channels first: use numpy.moveaxis(x, 1, 2)."
        if self.y.ndim == 2 and len(shape) >= 3 and self.y.shape[1] != shape[1]:
            raise ValueError(
                f"Split: y has labels for {self.y.shape[1]} frames, but x has {shape[1]} frames. Pass one label "
                "per frame." + (first if self.y.shape[1] == shape[-1] else "")
            )
        if len(shape) < 3:
            fix = " Hold static features for some steps: brainhw.data.hold(x, 60)." if len(shape) == 2 else ""
            raise ValueError(f"Split: x must have shape [n, T, channels] or [n, T, ...]; got shape {shape}.{fix}")
        refuse_channels_first(shape)
        if shape[0] and 0 in shape[1:]:
            raise ValueError(
                f"Split: x must contain at least one frame and one channel for each recording; got shape {shape}."
            )
        if len(self.lengths) and not (self.lengths.min() >= 0 and self.lengths.max() <= shape[1]):
            raise ValueError(
                f"Split: lengths must be between 0 and {shape[1]}, the number of frames of x; "
                f"got {self.lengths.min()} to {self.lengths.max()}."
                + (first if self.lengths.max() <= shape[-1] else "")
            )

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        x = "raw audio" if isinstance(self.x, list) else f"x {list(self.x.shape)}"
        span = f", lengths {self.lengths.min()} to {self.lengths.max()}" if len(self) else ""
        return f"Split({len(self)} recordings, {x}{span})"

    def take(self, indices: Sequence[int] | slice | np.ndarray) -> Split:
        """Return the recordings at ``indices`` (integers, a slice or a boolean mask), in this order."""
        try:
            rows = np.arange(len(self))[_rows(indices)]
        except IndexError:
            raise ValueError(
                f"Split.take: indices must be integers from 0 to {len(self) - 1}, a slice, or a mask of "
                f"{len(self)} values; got {describe(indices)}."
            ) from None
        x = [self.x[row] for row in rows] if isinstance(self.x, list) else self.x[rows]
        groups = None if self.groups is None else self.groups[rows]
        return self._with(x=x, y=self.y[rows], lengths=self.lengths[rows], groups=groups)

    def _with(self, **changed: Any) -> Split:
        """Return a copy in which some fields are replaced.

        The new values come from checked splits and are not checked again.
        """
        made = object.__new__(Split)
        for field in dataclasses.fields(self):
            object.__setattr__(made, field.name, changed.get(field.name, getattr(self, field.name)))
        return made


def _rows(indices: Any) -> Any:
    """Return ``indices`` as a slice or an array that NumPy can use to select rows. Raise if they are invalid.

    A single integer is invalid, because it would remove the first axis.
    """
    if isinstance(indices, slice):
        return indices
    given = several(indices, call="Split.take", name="indices", of="indices, or a slice or a mask")
    # Check the types, because NumPy would read (True, 2) as 1 and 2.
    kind = np.bool_ if given and all(isinstance(one, (bool, np.bool_)) for one in given) else np.int64
    if kind is np.bool_:
        return np.asarray(given)
    return np.asarray([whole_number(one, call="Split.take", name="indices", least=-(2**63)) for one in given], kind)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: training and test splits, class names, licence and citation.

    Parameters
    ----------
    name
        Name of the data set.
    train, test
        The official training and test splits.
    n_classes
        Number of classes. Labels are from 0 to ``n_classes - 1``.
    class_names
        One readable name per class.
    licence, citation
        Terms of use, and publication to cite.
    rate
        Sampling rate of raw audio, a Quantity; ``None`` for other data.

    Raises
    ------
    ValueError
        If the number of names is not ``n_classes``, or a label is out of range.

    Examples
    --------
    >>> from brainhw.data import japanese_vowels
    >>> japanese_vowels()
    Dataset(japanese_vowels: 9 classes, licence CC BY 4.0
      train Split(270 recordings, x [270, 29, 12], lengths 7 to 26)
      test  Split(370 recordings, x [370, 29, 12], lengths 7 to 29))
    """

    name: str
    train: Split
    test: Split
    n_classes: int
    class_names: tuple[str, ...]
    licence: str
    citation: str
    rate: u.Quantity | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            name=functools.partial(text, some=True),
            train=is_a(Split),
            test=is_a(Split),
            n_classes=positive_int,
            class_names=each(text, "names"),
            licence=text,
            citation=text,
            rate=optional(is_in(u.Hz, positive=True)),
        )
        if len(self.class_names) != self.n_classes:
            raise ValueError(
                f"Dataset {self.name}: n_classes is {self.n_classes}, but class_names contains {len(self.class_names)}."
            )
        for half in ("train", "test"):
            y = getattr(self, half).y
            if len(y) and not (y.min() >= 0 and y.max() < self.n_classes):
                raise ValueError(
                    f"Dataset {self.name}: labels of the {half} split must be between 0 and {self.n_classes - 1}; "
                    f"got {y.min()} to {y.max()}."
                )

    def __repr__(self) -> str:
        rate = "" if self.rate is None else f", sampled at {self.rate}"
        head = f"Dataset({self.name}: {self.n_classes} classes, licence {self.licence}{rate}"
        return printable(f"{head}\n  train {self.train}\n  test  {self.test})")


def batches(
    split: Split,
    batch_size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
) -> Iterator[Split]:
    """Iterate once over ``split`` in batches; the order depends on ``(seed, epoch)`` only.

    A run that is resumed at epoch 7 therefore gets the same batches as a run without interruption.

    Parameters
    ----------
    split
        The recordings.
    batch_size
        Recordings per batch, at least 1. The last batch may be smaller.
    seed, epoch
        Integers of at least 0. Both together seed the permutation. Default 0.
    shuffle
        ``False`` keeps the order of the split.
    drop_last
        Drop the last batch if it is incomplete, so that every batch has the same shape. Default False.

    Returns
    -------
    Iterator[Split]
        The batches.

    Raises
    ------
    TypeError, ValueError
        If the split is empty, ``batch_size`` is below 1, a seed or epoch is negative, or no batch remains with
        ``drop_last``. The error is raised at the call, not at the first batch.

    Examples
    --------
    >>> import numpy as np
    >>> from brainhw.data import Split, batches
    >>> split = Split(x=np.zeros((5, 4, 2)), y=[0, 1, 2, 3, 4], lengths=[4] * 5)
    >>> [len(batch) for batch in batches(split, 2)]
    [2, 2, 1]
    >>> [batch.y.tolist() for batch in batches(split, 2, shuffle=False, drop_last=True)]
    [[0, 1], [2, 3]]
    """
    if not isinstance(split, Split):
        raise TypeError(f"batches: split must be a Split such as dataset.train; got {describe(split)}.")
    batch_size = positive_int(batch_size, call="batches", name="batch_size")
    flag(shuffle, call="batches", name="shuffle")
    flag(drop_last, call="batches", name="drop_last")
    seed = whole_number(seed, call="batches", name="seed")
    epoch = whole_number(epoch, call="batches", name="epoch")
    n = len(split)
    if n == 0:
        raise ValueError("batches: the split is empty. Pass a split with recordings.")
    if drop_last and n < batch_size:
        raise ValueError(
            f"batches: the split contains {n} recordings, so batch_size {batch_size} with drop_last yields no batch. "
            f"Use batch_size {n} or less, or drop_last=False."
        )
    # Seed with a list and not with the sum, so that (0, 1) and (1, 0) give different orders.
    order = np.random.default_rng([seed, epoch]).permutation(n) if shuffle else np.arange(n)
    stop = n - n % batch_size if drop_last else n
    return (split.take(order[start : start + batch_size]) for start in range(0, stop, batch_size))
