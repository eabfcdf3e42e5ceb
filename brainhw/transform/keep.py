"""Switches for the whole process: keep memory, and keep compiled programs."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import jax

from brainhw import _arguments
from brainhw._files import path_text, user_cache

__all__ = ["keep_compiled", "keep_memory"]

# Of <malloc.h>, in glibc since 1996 (the number of arenas since 2.10).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_PAD = 64 * 2**20
_MOST = 2047  # MiB; mallopt takes an int of 32 bits


def keep_memory(largest: int = 1024) -> bool:
    """Keep memory that a computation has freed, for the next one.

    XLA fetches its working memory anew in each call. Blocks of more than 32 MiB come from the system page by page, and
    go back to it: that was half the time of a training step of 250 steps, 64 samples and 256 neurons
    (``docs/speed.md``). After this call the C library keeps them. The process then holds on to as much memory as its
    largest computation needed. It is a matter of the whole process and of all that runs in it, and cannot be undone.

    Call it first of all: a thread that has already fetched memory of its own goes on as before.

    Parameters
    ----------
    largest : int, optional
        Size in MiB up to which blocks are kept, at most 2047. Default 1024.

    Returns
    -------
    bool
        Whether the C library of this process can do it: glibc, that is most of Linux. Elsewhere nothing changes.

    Raises
    ------
    TypeError, ValueError
        If ``largest`` is no whole number from 1 to 2047.

    Examples
    --------
    >>> import brainhw as bh
    >>> kept = bh.keep_memory()
    """
    largest = _arguments.positive_int(largest, call="keep_memory", name="largest", most=_MOST)
    if not sys.platform.startswith("linux"):
        return False
    library: Any = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "gnu_get_libc_version"):
        return False
    size = largest * 2**20
    # One arena for all threads: that of a thread holds no block of over 64 MiB, and gives its memory back.
    settings = {_MMAP_THRESHOLD: size, _TRIM_THRESHOLD: size, _TOP_PAD: _PAD, _ARENA_MAX: 1}
    taken = [library.mallopt(name, value) for name, value in settings.items()]
    return all(taken)


def keep_compiled(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Keep compiled programs in a folder, for this process and those that come after it.

    JAX compiles a training step in a second or more; read from the folder it takes a fraction. Programs are told apart
    by their code, the shapes, the devices and the versions of JAX. Where such a folder is set already
    (``JAX_COMPILATION_CACHE_DIR``, or ``jax_compilation_cache_dir``), and none is given here, that one stays.

    Parameters
    ----------
    folder : path, optional
        The folder; it is made if it is not there. Default ``brainhw/compiled`` in the cache folder of the user:
        ``$XDG_CACHE_HOME``, or ``~/.cache`` if that is not set.

    Returns
    -------
    pathlib.Path or None
        The folder, which may be deleted at any time; None if the default folder cannot be used and nothing is kept.

    Raises
    ------
    TypeError, ValueError
        If ``folder`` is given and is no path, or cannot be made or written to.

    Examples
    --------
    In the first lines of a script; those of the gallery and ``python -m brainhw`` do it.

    >>> import brainhw as bh
    >>> folder = bh.keep_compiled()
    """
    call = "keep_compiled"
    if folder is None:
        if jax.config.jax_compilation_cache_dir:
            return Path(jax.config.jax_compilation_cache_dir)
        path = user_cache("compiled")
    else:
        path = Path(path_text(folder, call=call, what="a folder"))
    try:
        path.mkdir(parents=True, exist_ok=True)
        fault = None if os.access(path, os.W_OK | os.X_OK) else "it cannot be written to"
    except (OSError, ValueError) as error:  # a ValueError: the path has a null character
        fault = getattr(error, "strerror", None) or str(error)
    if fault is not None and folder is not None:
        raise ValueError(f"{call}: folder {str(path)!r} cannot be used ({fault}); give another.")
    if fault is not None:
        return None
    jax.config.update("jax_compilation_cache_dir", str(path))
    # Small programs count, too: a script compiles dozens of them.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path
