"""Checks of links, nesting and declared array sizes in a NIR file, before its arrays are read."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

__all__ = ["check_file"]

# Largest depth of groups. `nir.read` calls itself once per group. A nested graph uses two levels of groups; nodes and
# metadata use a few more.
_DEEPEST = 160
_MOST_OBJECTS = 100_000
# Limits on the declared sizes. Zeros compress by a factor of 1000, and an array that was never written takes no space,
# so a small file can declare arrays that fill the memory.
_ALWAYS_ALLOWED = 2**28
_MOST_COMPRESSED = 100


def check_file(h5py: Any, path: str | os.PathLike[str]) -> str | None:
    """Return the reason why a file is unsafe to read, or ``None`` if it is safe.

    A file is unsafe if it links to other files or could require too much memory or time. The arrays themselves are not
    read. Raise ``OSError`` if the file is not HDF5.
    """
    with open(path, "rb") as raw:
        if raw.read(4) == b"PK\x03\x04":
            return "is a zip archive, such as torch.save writes"
    size = os.path.getsize(path)
    allowed = max(_ALWAYS_ALLOWED, _MOST_COMPRESSED * size)
    total = 0
    with h5py.File(path, "r") as file:
        for count, (where, held) in enumerate(_objects(h5py, file)):
            if isinstance(held, str):
                return held
            if count >= _MOST_OBJECTS:
                return f"contains more than {_MOST_OBJECTS} groups and arrays"
            if not isinstance(held, h5py.Dataset):
                continue
            if held.is_virtual or held.external:
                return f"contains an array at {where} whose data are stored in another file"
            # Python ints do not overflow. A crafted file can declare axes whose product overflows NumPy ints.
            total += math.prod(held.shape or ()) * int(held.dtype.itemsize)
            if total > allowed:
                return (
                    f"declares arrays of {total:.3g} bytes, up to {where} of shape {held.shape}, in a file of {size} "
                    "bytes"
                )
    return None


def _objects(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """For each group and array in a file, yield its path and the object.

    If an object has a fault, yield its path and a message that describes the fault, and stop.
    """
    seen = {_address(h5py, file)}
    waiting = [(file, "", 0)]
    while waiting:
        group, above, depth = waiting.pop()
        for name in group:
            where = f"{above}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                yield where, f"contains a link at {where}, which may point to another file"
                return
            held = group[name]
            if isinstance(held, h5py.Group):
                if _address(h5py, held) in seen:
                    yield where, f"contains the group {where} in two places or inside itself"
                    return
                if depth >= _DEEPEST:
                    yield where, f"has groups nested more than {_DEEPEST} levels deep"
                    return
                seen.add(_address(h5py, held))
                waiting.append((held, where, depth + 1))
            yield where, held


def _address(h5py: Any, group: Any) -> int:
    return int(h5py.h5o.get_info(group.id).addr)
