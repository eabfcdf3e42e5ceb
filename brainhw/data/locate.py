"""Search for the files of a data set in the usual folders or in the package."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from brainhw import _arguments
from brainhw._files import path_text, user_cache

__all__ = ["bundled_arrays", "locate"]


def _has_marker(folder: Path, marker: Sequence[str]) -> bool:
    # os.path.isdir returns False for a folder without access permission; Path.is_dir raises.
    return os.path.isdir(folder) and any(next(folder.glob(pattern), None) is not None for pattern in marker)


def _root_text(root: Any, name: str) -> str:
    try:
        text = str(os.fsdecode(root))
    except TypeError:
        text = ""
    if not text or "\0" in text:
        raise TypeError(f"{name}: root must be the path of a folder; got {_arguments.describe(root)}.")
    return text


def _search_folders(name: str, extra: Iterable[str | os.PathLike[str]]) -> list[Path]:
    places: list[Path] = []
    if configured := os.environ.get("BRAINHW_DATA"):
        base = Path(os.path.expanduser(configured))
        places += [base / name, base]
    places += [Path(os.path.expanduser(folder)) for folder in extra]
    return [*places, user_cache(name)]


def locate(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    marker: str | Sequence[str],
    how_to_get: str,
    extra: Iterable[str | os.PathLike[str]] = (),
) -> Path:
    """Return the folder of a data set. If no folder is found, the error lists the folders that were searched.

    If ``root`` is passed, only ``root`` is searched. Otherwise the first of these folders that contains the data is
    returned:

    1. ``$BRAINHW_DATA/<name>``, then ``$BRAINHW_DATA`` itself,
    2. the folders in ``extra``, in order,
    3. ``brainhw/<name>`` in the cache folder: ``$XDG_CACHE_HOME``, or ``~/.cache`` if that is not set.

    Parameters
    ----------
    name
        Name of the data set and of its folder.
    root
        The data set's folder, or ``None`` (default) to search. A leading ``~`` is expanded.
    marker
        File name or glob pattern, relative to the folder, that identifies the data. If several are passed, one match is
        enough.
    how_to_get
        Sentence that says where to get the data. It becomes part of the error message.
    extra
        Additional folders to search.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    FileNotFoundError
        If none of the folders contains the data.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from brainhw.data import locate
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "beeps.csv").write_text("0,1")
    ...     locate("beeps", folder, marker="*.csv", how_to_get="Record some beeps.") == Path(folder)
    True
    """
    name = _arguments.text(name, call="locate", name="name", some=True)
    _arguments.text(how_to_get, call="locate", name="how_to_get", some=True)
    given = (
        [marker] if isinstance(marker, str) else _arguments.several(marker, call="locate", name="marker", of="patterns")
    )
    patterns = [_arguments.text(one, call="locate", name="marker", some=True) for one in given]
    if not patterns:
        raise ValueError(f"locate: marker must name at least one file or pattern; got {_arguments.describe(marker)}.")
    folders = _arguments.several(extra, call="locate", name="extra", of="folders")
    extra = [path_text(folder, call="locate", what="a folder in extra") for folder in folders]
    wanted = " or ".join(patterns)
    # If the user names a folder without the data, raise an error and do not silently use another copy.
    if root is not None:
        folder = Path(os.path.expanduser(_root_text(root, name)))
        if _has_marker(folder, patterns):
            return folder
        state = "contains no such file" if os.path.isdir(folder) else "is not a folder"
        raise FileNotFoundError(
            f"{name}: root {str(folder)!r} {state} ({wanted}). Pass the folder that contains the data, or omit root to "
            f"search the default folders. {how_to_get}"
        )
    places = _search_folders(name, extra)
    for folder in places:
        if _has_marker(folder, patterns):
            return folder
    looked = "\n".join(f"  {folder}" for folder in places)
    raise FileNotFoundError(
        f"{name}: the data ({wanted}) is in none of these folders:\n{looked}\n{how_to_get} Then put it into "
        f"{str(places[-1])!r}, or set BRAINHW_DATA to a folder that contains it as {name!r}, or pass root=."
    )


def bundled_arrays(file: Traversable, sha256: str, *, call: str) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file in the package. Raise if the file is missing or corrupted.

    The error message starts with ``call``.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RuntimeError(f"{call}: the bundled file {file} cannot be read ({error}). Reinstall brainhw.") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise RuntimeError(
            f"{call}: the bundled file {file} is corrupted (SHA-256 {found[:12]}..., expected {sha256[:12]}...). "
            "Reinstall brainhw."
        )
    # Pickled objects in an npz file could run code.
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return dict(stored)
