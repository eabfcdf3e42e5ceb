"""Checks of a NIR file before its arrays are read: links, nesting, and the size that the arrays declare."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

__all__ = ["check_file"]

# A graph in a graph takes two groups; nodes and metadata take a few more. `nir.read` calls itself once for each.
_DEEPEST = 160
_MOST_OBJECTS = 100_000
# Zeros compress by a factor of 1000, and an array that was never written takes no space at all.
_ALWAYS_ALLOWED = 2**28
_MOST_COMPRESSED = 100


def check_file(h5py: Any, path: str | os.PathLike[str]) -> str | None:
    """Return what is wrong with a file that could exhaust memory or time or lead elsewhere, ``None`` if nothing is.

    Only the layout is read, no array. An ``OSError`` means that it is no HDF5 file.
    """
    with open(path, "rb") as raw:
        if raw.read(4) == b"PK\x03\x04":
            return "is a zip archive, such as torch.save writes"
    allowed = max(_ALWAYS_ALLOWED, _MOST_COMPRESSED * os.path.getsize(path))
    total, count = 0, 0
    with h5py.File(path, "r") as file:
        seen = {_address(h5py, file)}
        waiting = [(file, 0)]
        while waiting:
            group, depth = waiting.pop()
            for name in group:
                count += 1
                if count > _MOST_OBJECTS:
                    return f"holds more than {_MOST_OBJECTS} groups and arrays"
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    return f"holds a link at {group.name}/{name}, which may lead to another file"
                held = group[name]
                if isinstance(held, h5py.Group):
                    if _address(h5py, held) in seen:
                        return f"holds the group {group.name}/{name} in two places or inside itself"
                    if depth >= _DEEPEST:
                        return f"nests more than {_DEEPEST} groups"
                    seen.add(_address(h5py, held))
                    waiting.append((held, depth + 1))
                elif isinstance(held, h5py.Dataset):
                    if held.is_virtual or held.external:
                        return f"holds an array at {group.name}/{name} whose numbers lie in another file"
                    total += int(np.prod(held.shape or (), dtype=object)) * held.dtype.itemsize
                    if total > allowed:
                        where = f"{group.name}/{name} of shape {held.shape}"
                        return f"declares arrays of {total:.3g} bytes, up to {where}, in {os.path.getsize(path)} bytes"
    return None


def _address(h5py: Any, group: Any) -> int:
    return int(h5py.h5o.get_info(group.id).addr)
