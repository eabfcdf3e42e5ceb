"""Switches for the whole process: keep memory, and keep compiled programs."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import jax
from jax._src import xla_bridge
from jax.experimental.compilation_cache import compilation_cache

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

    Call it in the first lines of a program: once JAX has computed anything, threads hold memory of their own already.

    Parameters
    ----------
    largest : int, optional
        Size in MiB up to which blocks are kept, at most 2047. Default 1024.

    Returns
    -------
    bool
        Whether it works from now on: the C library can do it (glibc 2.35 or newer, so most of Linux), and JAX has not
        computed yet. Where the C library cannot, nothing changes.

    Raises
    ------
    TypeError, ValueError
        If ``largest`` is no whole number from 1 to 2047.

    Examples
    --------
    >>> import brainhw as bh
    >>> kept = bh.keep_memory()  # doctest: +SKIP
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
    # The first one comes first: an older glibc refuses it, and must be left as it is then.
    return all(library.mallopt(name, value) for name, value in settings.items()) and not _has_computed()


def _has_computed() -> bool:
    return bool(xla_bridge.backends_are_initialized())


def keep_compiled(path: str | os.PathLike[str] | None = None) -> Path | None:
    """Keep compiled programs in a folder, for this process and those that come after it.

    JAX compiles a training step in a second or more; read from the folder it takes a fraction. Programs are told apart
    by their code, the shapes, the devices and the versions of JAX. Where such a folder is set already
    (``JAX_COMPILATION_CACHE_DIR``, or ``jax_compilation_cache_dir``), and none is given here, that one stays. It can be
    called again with another folder.

    Parameters
    ----------
    path : path, optional
        The folder; it is made if it is not there. Default ``brainhw/compiled`` in the cache folder of the user:
        ``$XDG_CACHE_HOME``, or ``~/.cache`` if that is not set.

    Returns
    -------
    pathlib.Path or None
        The folder, which may be deleted at any time; None if the default folder cannot be used and nothing is kept.

    Raises
    ------
    TypeError, ValueError
        If ``path`` is given and is no path of a folder, or cannot be made or written to.

    Examples
    --------
    In the first lines of a script; those of the gallery and ``python -m brainhw`` do it.

    >>> import brainhw as bh
    >>> folder = bh.keep_compiled()
    """
    call = "keep_compiled"
    held = jax.config.jax_compilation_cache_dir
    if path is None and held:
        _keep_small_programs()
        return Path(held)
    folder = user_cache("compiled") if path is None else Path(_local(path, call)).expanduser().absolute()
    try:
        if not folder.is_absolute():
            raise OSError(None, "there is no home")
        folder.mkdir(parents=True, exist_ok=True)
        fault = None if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written to"
    except (OSError, ValueError) as error:  # a ValueError: the path has a null character
        fault = getattr(error, "strerror", None) or str(error)
    if fault is not None:
        if path is None:
            return None
        raise ValueError(f"{call}: path {str(folder)!r} cannot be used as a folder ({fault}); give another.")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    _keep_small_programs()
    if held and held != str(folder):
        # JAX goes on with the folder that it has begun with.
        compilation_cache.reset_cache()
    return folder


def _local(path: Any, call: str) -> str:
    text = path_text(path, call=call, what="a folder")
    if "://" in text:
        raise ValueError(
            f"{call}: path must be a folder of this machine; got {text!r}. For others set JAX's own option."
        )
    return text


def _keep_small_programs() -> None:
    """Keep programs of any size, since a script compiles dozens of small ones; what the user has set stays."""
    if jax.config.jax_persistent_cache_min_compile_time_secs == 1.0:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if jax.config.jax_persistent_cache_min_entry_size_bytes == 0:
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
