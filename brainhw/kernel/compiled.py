"""Compile functions with numba. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numba

__all__ = ["compiled", "compiled_part"]


def _has_safe_threads() -> bool:
    """Return whether numba has a threading layer that several threads of a process may use at the same time."""
    if getattr(numba.config, "THREADING_LAYER", "default") == "workqueue":
        return False
    for layer in ("tbbpool", "omppool"):
        try:
            __import__(f"numba.np.ufunc.{layer}")
        except ImportError:
            continue
        return True
    return False


def compiled(function: Any, *, parallel: bool = True) -> Any:
    """Compile a function with numba. Cache the compiled code on disk if a writable cache folder exists."""
    # "contract" allows fused multiply-add, which XLA also uses. If inputs are 0 or 1, it does not change the results.
    # With numpy's error model the result of a division by zero is infinite, as in XLA.
    options: dict[str, Any] = {"fastmath": {"contract"}, "nogil": True, "error_model": "numpy"}
    options["parallel"] = parallel and _has_safe_threads()
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no cache folder is writable
        return numba.njit(**options)(function)


def compiled_part(function: Any) -> Any:
    """Compile a serial function that compiled parallel functions call in each of their threads."""
    return compiled(function, parallel=False)
