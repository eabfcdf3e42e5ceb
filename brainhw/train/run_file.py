"""Checkpoint files of training runs: named arrays and notes, with a checksum, written atomically."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw._files import FileKind, Sealed

__all__ = ["RunFile"]


class RunFile:
    """File format for a pytree of arrays, Quantities and scalars, with notes that must match when the file is read.

    Parameters
    ----------
    what : str
        Kind of the file, for error messages, such as ``"training run"``.
    maker : str
        Name of the function that writes the file, such as ``"Trainer.save"``.
    tag : str
        First word of the file, which identifies the format.
    """

    def __init__(self, what: str, maker: str, tag: str) -> None:
        self._kind = FileKind(what, maker, 1)
        self._file = Sealed(self._kind, tag, 2**34)

    def write(self, path: str | os.PathLike[str], tree: Any, notes: Mapping[str, str], *, call: str) -> None:
        """Write the pytree ``tree`` and ``notes`` to a file. An existing file is replaced atomically."""
        described, pieces = [], []
        for name, leaf in _leaves_by_name(tree).items():
            numbers = np.asarray(u.get_mantissa(leaf))
            described.append({"name": name, **_describe_leaf(leaf)})
            pieces.append(numbers.tobytes())
        header = json.dumps({"notes": dict(notes), "leaves": described}).encode()
        # The content is one line of JSON, then the bytes of all arrays in order. It is neither a pickle nor an archive.
        self._file.write(path, b"\n".join([header, b"".join(pieces)]), call=call)

    def read(
        self, path: str | os.PathLike[str], like: Any, notes: Mapping[str, str], *, call: str
    ) -> tuple[Any, dict[str, str]]:
        """Return the saved arrays in the structure of ``like``, and all notes of the file.

        The file may be corrupted or belong to another run. Raise if names, shapes, dtypes or units differ from
        ``like``, or if the file's notes differ from ``notes``.
        """
        payload, _, what = self._file.read(path, call=call)
        try:
            header, _, data = payload.partition(b"\n")
            content = json.loads(header)
            saved_notes, held = {str(k): str(v) for k, v in content["notes"].items()}, {}
            start = 0
            for leaf in content["leaves"]:
                kind = jnp.dtype(leaf["dtype"])
                if kind.hasobject or not all(type(size) is int and size >= 0 for size in leaf["shape"]):
                    raise ValueError(f"{leaf['name']!r:.60} is not an array")
                stop = start + kind.itemsize * math.prod(leaf["shape"])
                held[leaf["name"]] = leaf, np.frombuffer(data[start:stop], kind).reshape(leaf["shape"])
                start = stop
            if start != len(data):
                raise ValueError(f"its arrays need {start} bytes, but the file has {len(data)}")
        except Exception as error:  # the checksum detects a corrupted file, but not one with wrong content
            raise self._kind.corrupted(what, f"has invalid content ({str(error)[:100]})") from error
        for name, wanted in notes.items():
            if saved_notes.get(name) != wanted:
                raise ValueError(
                    f"{what} was made with {name} {saved_notes.get(name)!r:.120}, but in this run it is "
                    f"{wanted!r:.120}. "
                    "Use the same value, or a different file."
                )
        leaves = _leaves_by_name(like)
        if missing := sorted(leaves.keys() - held.keys()):
            raise _mismatch_error(what, f"does not contain {missing[0]}")
        if unknown := sorted(held.keys() - leaves.keys()):
            raise _mismatch_error(what, f"contains {unknown[0]}, which does not exist in this run")
        structure = jax.tree.structure(like, is_leaf=_is_quantity)
        return structure.unflatten(
            [_convert_leaf(name, leaf, *held[name], what) for name, leaf in leaves.items()]
        ), saved_notes


def _convert_leaf(name: str, like: Any, saved: Mapping[str, Any], numbers: np.ndarray, what: str) -> Any:
    plain, here = isinstance(like, (bool, int, float)), _describe_leaf(like)
    for part in ("shape", "unit") if plain else ("dtype", "shape", "unit"):
        if saved[part] != here[part]:
            raise _mismatch_error(what, f"contains {name} with {part} {saved[part]}, but this run has {here[part]}")
    if plain:  # an optimizer's counter is a plain number before the first step, then an array
        return type(like)(numbers.item())
    array = jnp.asarray(numbers)
    return u.Quantity(array, unit=like.unit) if _is_quantity(like) else array


def _mismatch_error(what: str, fault: str) -> ValueError:
    return ValueError(
        f"{what} {fault}. The file belongs to a different network, chip or optimizer. Use those of the saved run."
    )


def _leaves_by_name(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_quantity)
    return {jax.tree_util.keystr(place): leaf for place, leaf in leaves}


def _describe_leaf(leaf: Any) -> dict[str, Any]:
    numbers = np.asarray(u.get_mantissa(leaf))
    unit = f"{leaf.unit}" if _is_quantity(leaf) else ""
    return {"dtype": numbers.dtype.name, "shape": list(numbers.shape), "unit": unit}


def _is_quantity(leaf: Any) -> bool:
    return isinstance(leaf, u.Quantity)
