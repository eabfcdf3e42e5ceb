"""Checkpoints: the arrays of a tree and some notes in one file, checksummed and written whole or not at all."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import msgpack
import numpy as np

from brainhw._files import FileKind, Sealed

__all__ = ["Checkpoint", "read_checkpoint", "write_checkpoint"]

_KIND = FileKind("checkpoint", "the training script", 1)
_FILE = Sealed(_KIND, "brainhw-checkpoint", 2**36)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The content of a file.

    Attributes
    ----------
    notes : mapping
        Text by name.
    leaves : mapping
        Type, shape, unit and bytes of each array, by its place in the tree.
    what : str
        The words that name the file in errors.
    """

    notes: Mapping[str, str]
    leaves: Mapping[str, Mapping[str, Any]]
    what: str

    def tree_like(self, like: Any) -> Any:
        """Return the saved numbers in the structure of ``like``; raise unless names, shapes, types and units agree."""
        wanted, structure = jax.tree.flatten(like, is_leaf=_is_quantity)
        names = _names(like)
        if missing := sorted(set(names) - self.leaves.keys()):
            raise self._other(f"lacks {missing[0]}")
        if unknown := sorted(self.leaves.keys() - set(names)):
            raise self._other(f"holds {unknown[0]}, which is not here")
        return structure.unflatten([self._leaf(name, leaf) for name, leaf in zip(names, wanted, strict=True)])

    def _leaf(self, name: str, like: Any) -> Any:
        held, here = self.leaves[name], _described(like)
        plain = isinstance(like, (bool, int, float))
        for part in ("shape", "unit") if plain else ("dtype", "shape", "unit"):
            if held[part] != (value := here[part]):
                raise self._other(f"holds {name} with {part} {held[part]}, and here it is {value}")
        numbers = np.frombuffer(held["data"], jnp.dtype(held["dtype"])).reshape(held["shape"])
        if plain:  # an optimizer turns its counter into an array in its first step
            return type(like)(numbers.item())
        array = jnp.asarray(numbers)
        return u.Quantity(array, unit=like.unit) if _is_quantity(like) else array

    def _other(self, fault: str) -> ValueError:
        return ValueError(f"{self.what} is the checkpoint of another network or optimizer: it {fault}. Start it anew.")


def write_checkpoint(path: str | os.PathLike[str], tree: Any, notes: Mapping[str, str], *, call: str) -> None:
    """Write a tree of arrays, Quantities and plain numbers; an existing file is replaced in one step."""
    leaves = jax.tree.leaves(tree, is_leaf=_is_quantity)
    held = {name: _described(leaf) for name, leaf in zip(_names(tree), leaves, strict=True)}
    _FILE.write(path, msgpack.packb({"notes": dict(notes), "leaves": held}), call=call)


def read_checkpoint(path: str | os.PathLike[str], *, call: str) -> Checkpoint:
    """Read a file that `write_checkpoint` wrote, or raise a `ValueError` of one sentence; nothing in it is trusted."""
    payload, _, what = _FILE.read(path, call=call)
    try:
        content = msgpack.unpackb(payload)
        notes, leaves = content["notes"], content["leaves"]
        if not all(isinstance(text, str) for pair in notes.items() for text in pair):
            raise ValueError("a note is not text")
        for name, leaf in leaves.items():
            kind = jnp.dtype(leaf["dtype"])
            sound = isinstance(name, str) and isinstance(leaf["unit"], str) and not kind.hasobject
            if not sound or len(leaf["data"]) != kind.itemsize * math.prod(leaf["shape"]):
                raise ValueError(f"{name!r:.60} is not an array")
    except Exception as error:  # a checksum only shows damage, and msgpack raises errors of many classes
        raise _KIND.damaged(what, f"has invalid content ({str(error)[:100]})") from error
    return Checkpoint(notes, leaves, what)


def _names(tree: Any) -> list[str]:
    return [jax.tree_util.keystr(place) for place, _ in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_quantity)]


def _described(leaf: Any) -> dict[str, Any]:
    numbers = np.asarray(u.get_mantissa(leaf))
    unit = f"{leaf.unit}" if _is_quantity(leaf) else ""
    return {"dtype": numbers.dtype.name, "shape": list(numbers.shape), "unit": unit, "data": numbers.tobytes()}


def _is_quantity(leaf: Any) -> bool:
    return isinstance(leaf, u.Quantity)
