"""Class numbers from labels of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import brainunit as u
import numpy as np

from brainhw._arguments import describe, several

__all__ = ["class_numbers", "numbers_of"]


def class_numbers(labels: Any, names: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turn labels into class numbers from 0, and return them with the name of each class.

    For names such as ``"cat"``, and for numbers that do not count from 0. Call it once with the labels of the training
    data, and again with those of the test data and the names of the first call: a number then means the same class.

    Parameters
    ----------
    labels
        Names or whole numbers, ``[n]``, or one for each frame, ``[n, T]``. An array of bool has the classes ``"False"``
        and ``"True"``.
    names
        Names of the classes in the order of their numbers. Default: the labels that occur, sorted.

    Returns
    -------
    numbers : numpy.ndarray
        int32 of the shape of ``labels``, from 0 to ``len(names) - 1``.
    names : tuple of str
        The name of each class, for ``Dataset(class_names=...)``; a whole number is written as text.

    Raises
    ------
    TypeError, ValueError
        For labels that are neither names nor whole numbers, and for a label that is not among ``names``.

    Examples
    --------
    >>> from brainhw.data import class_numbers
    >>> y_train, names = class_numbers(["dog", "cat", "dog"])
    >>> y_train.tolist(), names
    ([1, 0, 1], ('cat', 'dog'))
    >>> class_numbers(["dog"], names)[0].tolist()
    [1]
    >>> numbers, names = class_numbers([1, 2, 10])
    >>> numbers.tolist(), names
    ([0, 1, 2], ('1', '2', '10'))
    """
    return numbers_of(labels, names, call="class_numbers", name="labels")


def numbers_of(
    labels: Any, names: Sequence[str] | None = None, *, call: str, name: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Do what :func:`class_numbers` does for the argument ``name`` of a call."""
    array = _labels(labels, call, name)
    found, places = np.unique(array, return_inverse=True)
    # As text only now: as text, "10" would come before "2".
    texts = [str(one) for one in found.tolist()]
    if names is None:
        known = texts
    else:
        known = [
            str(one) if isinstance(one, str) else one for one in several(names, call=call, name="names", of="text")
        ]
        if not all(isinstance(one, str) for one in known) or len(set(known)) != len(known) or not known:
            raise ValueError(f"{call}: names must be different texts, those of the first call; got {describe(names)}.")
    numbers = {text: number for number, text in enumerate(known)}
    strange = [one for one in texts if one not in numbers]
    if strange:
        shown = ", ".join(map(repr, known[:10])) + (", ..." if len(known) > 10 else "")
        raise ValueError(
            f"{call}: {name} must be among the {len(known)} names {shown}; {len(strange)} others occur, the first is "
            f"{strange[0]!r:.40}. Make the names from labels that hold every class."
        )
    # NumPy 2.0 alone gives the places the shape of the labels, others flat.
    return np.array([numbers[one] for one in texts], np.int32)[places.reshape(array.shape)], tuple(known)


def _labels(labels: Any, call: str, name: str) -> np.ndarray:
    """Return labels as an array of text or whole numbers, or raise."""
    try:
        array = np.asarray(None if isinstance(labels, u.Quantity) else labels)
    except Exception:  # ragged lists and keys raise different exceptions
        array = np.asarray(None)
    if array.dtype.kind == "O" and array.ndim and all(isinstance(one, str) for one in array.ravel()):
        array = array.astype(str)  # a column of pandas
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "f" and np.all(array == np.rint(array)) and np.all(np.abs(array) < 2**31):
        array = array.astype(np.int64)  # a column of a file that holds a missing value somewhere else
    # No bool from a list: numpy makes one of [True, 2] and of ["a", True].
    kinds = "iuUb" if hasattr(labels, "dtype") else "iuU"
    if array.ndim not in (1, 2) or array.dtype.kind not in kinds:
        raise TypeError(
            f"{call}: {name} must be an array [n] or [n, T] of names or whole numbers; got {describe(labels)}. Fill "
            "missing labels before this call."
        )
    if not array.size:
        raise ValueError(f"{call}: {name} must hold at least one label; got shape {array.shape}.")
    return array
