"""Settings of the whole process that keep freed memory and store compiled programs on disk."""

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

# Option numbers of mallopt, from <malloc.h>. glibc has had them since 1996, except the number of arenas (since 2.10).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_TOP_PAD_BYTES = 64 * 2**20
_MAX_MIB = 2047  # MiB, because mallopt takes a 32-bit int


def keep_memory(largest: int = 1024) -> bool:
    """Keep the memory that a computation frees, and reuse it in the next computation.

    XLA allocates its working memory again in each call. It gets blocks of more than 32 MiB from the operating system
    page by page, and returns them after the call. This took half of the time of a training step with 250 time steps,
    64 samples and 256 neurons (``docs/speed.md``). ``keep_memory`` makes the C library keep these blocks. The process
    then holds as much memory as its largest computation needed. The setting affects the whole process and cannot be
    undone.

    Call ``keep_memory`` in the first lines of a program, before JAX computes anything. Later, the threads of JAX
    already have separate memory arenas.

    Parameters
    ----------
    largest : int, optional
        Largest size of a block that is kept, in MiB, at most 2047. Default 1024.

    Returns
    -------
    bool
        True if the setting is in effect. This needs a C library that supports it (glibc 2.35 or newer, as on most Linux
        systems) and a process in which JAX has not computed anything yet. If the C library does not support the
        setting, nothing changes.

    Raises
    ------
    TypeError, ValueError
        If ``largest`` is not an integer from 1 to 2047.

    Examples
    --------
    >>> import brainhw as bh
    >>> kept = bh.keep_memory()  # doctest: +SKIP
    """
    largest = _arguments.positive_int(largest, call="keep_memory", name="largest", most=_MAX_MIB)
    if not sys.platform.startswith("linux"):
        return False
    library: Any = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "gnu_get_libc_version"):
        return False
    size = largest * 2**20
    # Use one arena for all threads. The arena of one thread cannot hold blocks above 64 MiB, and returns its memory.
    settings = {_MMAP_THRESHOLD: size, _TRIM_THRESHOLD: size, _TOP_PAD: _TOP_PAD_BYTES, _ARENA_MAX: 1}
    # Set the mmap threshold first. An older glibc refuses it, and `all` then stops before it changes anything else.
    return all(library.mallopt(name, value) for name, value in settings.items()) and not _has_computed()


def _has_computed() -> bool:
    return bool(xla_bridge.backends_are_initialized())


def keep_compiled(path: str | os.PathLike[str] | None = None) -> Path | None:
    """Store compiled programs in a folder, so that this process and later processes can load them.

    JAX compiles a training step in a second or more; loading it from the folder takes a fraction of that time. JAX
    identifies a program by its code, shapes, devices and the version of JAX. If ``path`` is omitted and a folder is
    already set (``JAX_COMPILATION_CACHE_DIR`` or ``jax_compilation_cache_dir``), JAX keeps using that folder. A later
    call with ``path`` may set a different folder.

    Parameters
    ----------
    path : path, optional
        The folder, which is created if it does not exist. Default ``brainhw/compiled`` in the cache folder of the user.
        This is ``$XDG_CACHE_HOME``, or ``~/.cache`` if that is not set.

    Returns
    -------
    pathlib.Path or None
        The folder, which may be deleted at any time. ``None`` if the default folder cannot be used; then no program is
        stored.

    Raises
    ------
    TypeError, ValueError
        If ``path`` is not the path of a folder, or if the folder cannot be created or written to.

    Examples
    --------
    Call it in the first lines of a script, as the gallery and ``python -m brainhw`` do.

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
            raise OSError(None, "there is no home directory")
        folder.mkdir(parents=True, exist_ok=True)
        fault = None if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written to"
    except (OSError, ValueError) as error:  # ValueError: the path contains a null character
        fault = getattr(error, "strerror", None) or str(error)
    if fault is not None:
        if path is None:
            return None
        raise ValueError(f"{call}: path {str(folder)!r} cannot be used as a folder ({fault}). Pass a different folder.")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    _keep_small_programs()
    if held and held != str(folder):
        # Without a reset JAX would continue to use the folder that it started with.
        compilation_cache.reset_cache()
    return folder


def _local(path: Any, call: str) -> str:
    text = path_text(path, call=call, what="a folder")
    if "://" in text:
        raise ValueError(
            f"{call}: path must be a folder on this machine; got {text!r}. For other storage, set JAX's option "
            "jax_compilation_cache_dir."
        )
    return text


def _keep_small_programs() -> None:
    """Make JAX store compiled programs of any size, because a script compiles dozens of small programs.

    Options of JAX that differ from their default values do not change.
    """
    if jax.config.jax_persistent_cache_min_compile_time_secs == 1.0:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if jax.config.jax_persistent_cache_min_entry_size_bytes == 0:
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
