"""Matrix products with spikes as compiled loops over nonzero elements. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["PARTS", "compiled", "compiled_part", "outer", "product", "sparse_row_product"]

# Number of blocks of rows for which `outer` computes partial sums. It is fixed, so that results do not depend on the
# number of threads.
PARTS = 8
# Number of work items for the threads. Each row is computed by one item, so results do not depend on this number.
_CHUNKS = 64


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
    except RuntimeError:  # there is no writable cache folder
        return numba.njit(**options)(function)


def compiled_part(function: Any) -> Any:
    """Compile a serial function that compiled parallel functions call in each of their threads."""
    return compiled(function, parallel=False)


@compiled_part
def sparse_row_product(x, nonzero, weights, total):  # type: ignore[no-untyped-def]
    """Write ``x [K] @ weights [K, N]`` into ``total``, and return the number of nonzero inputs.

    Only the weights of nonzero inputs are added. ``nonzero [K + 1]`` is scratch space.
    """
    n = 0
    for k in range(x.shape[0]):
        nonzero[n] = k
        n += x[k] != 0
    for j in range(total.shape[0]):
        total[j] = 0
    # Add four inputs per pass, so that `total` is read and written only once for four inputs. The order of summation
    # does not change.
    i = 0
    while i + 4 <= n:
        a, b, c, d = nonzero[i], nonzero[i + 1], nonzero[i + 2], nonzero[i + 3]
        x_a, x_b, x_c, x_d = x[a], x[b], x[c], x[d]
        w_a, w_b, w_c, w_d = weights[a], weights[b], weights[c], weights[d]
        for j in range(total.shape[0]):
            so_far = total[j]
            so_far = so_far + x_a * w_a[j]
            so_far = so_far + x_b * w_b[j]
            so_far = so_far + x_c * w_c[j]
            so_far = so_far + x_d * w_d[j]
            total[j] = so_far
        i += 4
    while i < n:
        x_k, w_k = x[nonzero[i]], weights[nonzero[i]]
        for j in range(total.shape[0]):
            total[j] = total[j] + x_k * w_k[j]
        i += 1
    return n


@compiled
def product(x, weights, out):  # type: ignore[no-untyped-def]
    """Write ``x [M, K] @ weights [K, N]`` into ``out``. Only the weights of nonzero inputs are added."""
    n_rows, n_in = x.shape
    for part in numba.prange(_CHUNKS):
        nonzero = np.empty(n_in + 1, np.int64)
        for m in range(part * n_rows // _CHUNKS, (part + 1) * n_rows // _CHUNKS):
            sparse_row_product(x[m], nonzero, weights, out[m])


@compiled
def outer(x, g, parts, out):  # type: ignore[no-untyped-def]
    """Write ``x.T [K, M] @ g [M, N]`` into ``out``. ``parts [PARTS, K, N]`` is scratch space."""
    n_rows, n_in = x.shape
    n_out, n_parts = g.shape[1], parts.shape[0]
    for part in numba.prange(n_parts):
        total = parts[part]
        total[:] = 0
        nonzero = np.empty(n_in + 1, np.int64)
        for m in range(part * n_rows // n_parts, (part + 1) * n_rows // n_parts):
            n = 0
            for k in range(n_in):
                nonzero[n] = k
                n += x[m, k] != 0
            row = g[m]
            for i in range(n):
                k = nonzero[i]
                x_k, target = x[m, k], total[k]
                for j in range(n_out):
                    target[j] += x_k * row[j]
    for k in numba.prange(n_in):
        target = out[k]
        for j in range(n_out):
            target[j] = parts[0, k, j]
        for part in range(1, n_parts):
            addend = parts[part, k]
            for j in range(n_out):
                target[j] += addend[j]
