"""Conversion of labels to class indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import brainunit as u
import numpy as np

from brainhw._arguments import describe, several
from brainhw._closest import closest

__all__ = ["class_indices", "indices_of", "is_not_class_index"]


def class_indices(labels: Any, names: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Convert labels to class indices from 0, and return them with the name of each class.

    Use this function for names such as ``"cat"``, and for numbers that do not start at 0. Call it first with the labels
    of the training data. Then call it with the labels of the test data and the names that the first call returned. A
    class index then means the same class in both data sets.

    Parameters
    ----------
    labels
        Labels, which are names or integers: one label for each recording, ``[n]``, or one for each frame, ``[n, T]``.
        Booleans are converted to ``"False"`` and ``"True"``.
    names
        Names of the classes in the order of their indices. Default: the labels that occur, sorted.

    Returns
    -------
    indices : numpy.ndarray
        int32 of the shape of ``labels``, from 0 to ``len(names) - 1``.
    names : tuple of str
        The name of each class, for ``Dataset(class_names=...)``. Integers are converted to text.

    Raises
    ------
    TypeError, ValueError
        If labels are neither names nor integers, or a label is not in ``names``.

    Examples
    --------
    >>> from brainhw.data import class_indices
    >>> y_train, names = class_indices(["dog", "cat", "dog"])
    >>> y_train.tolist(), names
    ([1, 0, 1], ('cat', 'dog'))
    >>> class_indices(["dog"], names)[0].tolist()
    [1]
    >>> indices, names = class_indices([1, 2, 10])
    >>> indices.tolist(), names
    ([0, 1, 2], ('1', '2', '10'))
    """
    return indices_of(labels, names, call="class_indices", name="labels")


def indices_of(
    labels: Any, names: Sequence[str] | None = None, *, call: str, name: str, fix: str = "Pass all class names."
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Convert labels to class indices, as :func:`class_indices` does.

    Error messages contain the function name ``call`` and the argument name ``name``. For unknown labels they also
    contain the remedy ``fix``.
    """
    array = _labels(labels, call, name)
    found, places = np.unique(array, return_inverse=True)
    # Convert to text only after sorting, because as text "10" would come before "2".
    texts = [str(one) for one in found.tolist()]
    if names is None:
        known = texts
    else:
        known = [
            str(one) if isinstance(one, str) else one for one in several(names, call=call, name="names", of="text")
        ]
        if not all(isinstance(one, str) for one in known) or len(set(known)) != len(known) or not known:
            raise ValueError(
                f"{call}: names must be distinct strings, such as the names that the first call returned; got "
                f"{describe(names)}."
            )
    indices = {text: index for index, text in enumerate(known)}
    strange = [one for one in texts if one not in indices]
    if strange:
        shown = ", ".join(map(repr, known[:10])) + (", ..." if len(known) > 10 else "")
        missing = (
            f"{strange[0][:40]!r} and {len(strange) - 1} more are" if len(strange) > 1 else f"{strange[0][:40]!r} is"
        )
        near = closest(strange[0], known)
        raise ValueError(f"{call}: {name} must contain only the names {shown}; {missing} unknown{near}. {fix}")
    # Only NumPy 2.0 returns the indices in the shape of the labels; other versions return them flat.
    return np.array([indices[one] for one in texts], np.int32)[places.reshape(array.shape)], tuple(known)


def _labels(labels: Any, call: str, name: str) -> np.ndarray:
    """Return labels as an array of strings, integers or booleans. Raise an error for other labels."""
    try:
        array = np.asarray(None if isinstance(labels, u.Quantity) else labels)
    except Exception:  # ragged lists and keys raise different exceptions
        array = np.asarray(None)
    if array.dtype.kind == "U" and isinstance(labels, list | tuple):
        # NumPy silently converts numbers to text if the list also contains names.
        held = np.asarray(labels, object)
        array = array if all(isinstance(one, str) for one in held.ravel().tolist()) else held
    if array.dtype.kind == "O" and array.ndim:
        # This is a column of a pandas table. If all values have the same type, NumPy finds a dtype for them.
        kinds = {type(one) for one in array.ravel().tolist()}
        array = np.asarray(array.tolist()) if len(kinds) == 1 and kinds <= {str, bytes, int, bool, float} else array
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError:
            raise TypeError(
                f"{call}: {name} contains bytes that are not UTF-8 text. Decode them before this call."
            ) from None
    if array.dtype.kind == "f" and not is_not_class_index(array).any():
        array = array.astype(np.int64)  # pandas reads integers as floats if a value in the same column is missing
    if array.ndim not in (1, 2) or array.dtype.kind not in "iuUb":
        raise TypeError(
            f"{call}: {name} must be an array [n] or [n, T] of names or integers; got {describe(labels)}. "
            + _label_fix(array)
        )
    if not array.size:
        raise ValueError(f"{call}: {name} must contain at least one label; got shape {array.shape}.")
    return array


def is_not_class_index(labels: np.ndarray) -> np.ndarray:
    """Return a mask of the float labels that are not a class index: fractions, NaN, and values of at least 2^31."""
    # NaN and infinity fail one of the two comparisons.
    return ~((labels == np.rint(labels)) & (np.abs(labels) < 2**31))


def _label_fix(array: np.ndarray) -> str:
    """Return advice on how to convert an array without valid labels."""
    if array.ndim not in (1, 2):
        return "Pass a list or an array with one label for each recording, or for each frame."
    if array.dtype.kind == "f":
        if np.isnan(array).any():
            return "Fill missing labels, or remove these recordings."
        return "Convert continuous values to classes by np.digitize(y, limits)."
    if array.dtype.kind != "O":
        return "Convert the labels to names: y.astype(str)."
    kinds = sorted({type(one).__name__ for one in array.ravel().tolist()})
    if len(kinds) > 1 and "NoneType" not in kinds:
        return f"They have the types {', '.join(kinds[:4])}. Convert all to names: [str(one) for one in y]."
    return "Fill missing labels, or remove these recordings."
