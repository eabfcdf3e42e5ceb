"""Matrix products with spikes as compiled loops over nonzero elements. Importing this module imports numba."""

from __future__ import annotations

import numba
import numpy as np

from brainhw.kernel.compiled import compiled, compiled_part
from brainhw.kernel.nonzero import nonzero_positions

__all__ = ["PARTS", "outer", "product", "sparse_row_product"]

# Number of blocks of rows for which `outer` computes partial sums. It is fixed, so that results do not depend on the
# number of threads.
PARTS = 8
# Number of work items for the threads. Each row is computed by one item, so results do not depend on this number.
_CHUNKS = 64
# Number of rows that `outer` processes at once. With 256 outputs these rows take 256 KiB, so they stay in the cache.
_ROWS = 256


@compiled_part
def _add_rows(values, positions, n, rows, total):  # type: ignore[no-untyped-def]
    """Add ``values[k] * rows[k]`` to ``total``, for the first ``n`` numbers ``k`` in ``positions``.

    Four rows are added per pass, so that ``total`` is read and written only once for four rows. The order of summation
    does not change.
    """
    i = 0
    while i + 4 <= n:
        a, b, c, d = positions[i], positions[i + 1], positions[i + 2], positions[i + 3]
        x_a, x_b, x_c, x_d = values[a], values[b], values[c], values[d]
        row_a, row_b, row_c, row_d = rows[a], rows[b], rows[c], rows[d]
        for j in range(total.shape[0]):
            so_far = total[j]
            so_far = so_far + x_a * row_a[j]
            so_far = so_far + x_b * row_b[j]
            so_far = so_far + x_c * row_c[j]
            so_far = so_far + x_d * row_d[j]
            total[j] = so_far
        i += 4
    while i < n:
        x_k, row_k = values[positions[i]], rows[positions[i]]
        for j in range(total.shape[0]):
            total[j] = total[j] + x_k * row_k[j]
        i += 1


@compiled_part
def sparse_row_product(x, nonzero, weights, total):  # type: ignore[no-untyped-def]
    """Write ``x [K] @ weights [K, N]`` into ``total``, and return the number of nonzero inputs.

    Only the weights of nonzero inputs are added. ``nonzero [K + 1]`` is scratch space.
    """
    n = nonzero_positions(x, nonzero)
    for j in range(total.shape[0]):
        total[j] = 0
    _add_rows(x, nonzero, n, weights, total)
    return n


@compiled
def product(x, weights, out):  # type: ignore[no-untyped-def]
    """Write ``x [M, K] @ weights [K, N]`` into ``out``. Only the weights of nonzero inputs are added."""
    n_rows, n_in = x.shape
    for part in numba.prange(_CHUNKS):
        nonzero = np.empty(n_in + 1, np.int64)
        for m in range(part * n_rows // _CHUNKS, (part + 1) * n_rows // _CHUNKS):
            sparse_row_product(x[m], nonzero, weights, out[m])


@compiled_part
def _add_outer(x, g, nonzero, rows_of, n_rows_of, total):  # type: ignore[no-untyped-def]
    """Add ``x.T [K, M] @ g [M, N]`` to ``total``. The other arguments are scratch space."""
    n_rows_of[:] = 0
    for m in range(x.shape[0]):
        for i in range(nonzero_positions(x[m], nonzero)):
            k = nonzero[i]
            rows_of[k, n_rows_of[k]] = m
            n_rows_of[k] += 1
    for k in range(x.shape[1]):
        _add_rows(x[:, k], rows_of[k], n_rows_of[k], g, total[k])


@compiled_part
def _add_zeros(g, zeros):  # type: ignore[no-untyped-def]
    """Add ``0 * g [M, N]`` to ``zeros [N]``: NaN for columns with a value that is not finite."""
    zero = zeros.dtype.type(0)
    for m in range(g.shape[0]):
        row = g[m]
        for j in range(row.shape[0]):
            zeros[j] += zero * row[j]


@compiled
def outer(x, g, parts, out):  # type: ignore[no-untyped-def]
    """Write ``x.T [K, M] @ g [M, N]`` into ``out``. ``parts [PARTS, K, N]`` is scratch space.

    As in a dense product, a column of ``g`` with NaN or an infinite value has no finite result, even if the inputs of
    that row are zero.
    """
    n_rows, n_in = x.shape
    n_out, n_parts = g.shape[1], parts.shape[0]
    zeros = np.zeros((n_parts, n_out), g.dtype)
    for part in numba.prange(n_parts):
        parts[part] = 0
        nonzero, n_rows_of = np.empty(n_in + 1, np.int64), np.empty(n_in, np.int64)
        # For each input, the rows in which it is nonzero.
        rows_of = np.empty((n_in, _ROWS), np.int64)
        last = (part + 1) * n_rows // n_parts
        for start in range(part * n_rows // n_parts, last, _ROWS):
            stop = min(start + _ROWS, last)
            # Reading the rows of `g` in order also brings them into the cache.
            _add_zeros(g[start:stop], zeros[part])
            _add_outer(x[start:stop], g[start:stop], nonzero, rows_of, n_rows_of, parts[part])
    for k in numba.prange(n_in):
        target = out[k]
        for j in range(n_out):
            target[j] = parts[0, k, j] + zeros[0, j]
        for part in range(1, n_parts):
            addend = parts[part, k]
            for j in range(n_out):
                target[j] += addend[j] + zeros[part, j]
