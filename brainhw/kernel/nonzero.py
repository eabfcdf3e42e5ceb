"""Find the nonzero elements of a row, 64 at a time. Importing this module imports numba.

A loop that tests one element after the other takes as long as half of a matrix product with sparse spikes. So this
module compares 64 elements with one vector instruction of LLVM, and then visits only the set bits of the result. LLVM
translates the instruction for every CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from brainhw.kernel.compiled import compiled_part

__all__ = ["nonzero_positions"]

_WIDTH = 64

_Generated = tuple[Any, Callable[..., Any]] | None


@intrinsic
def _nonzero_bits(typing_context: Any, x: Any, start: Any) -> _Generated:
    """Return an integer whose bit ``i`` is set if ``x[start + i]`` is not zero, for ``i`` from 0 to 63."""
    # Consecutive elements must be consecutive in memory. The result None makes the compilation fail.
    if not isinstance(x, types.Array) or x.ndim != 1 or x.layout != "C" or not isinstance(x.dtype, types.Float):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, start = arguments
        element = context.get_data_type(x.dtype)
        vector = ir.VectorType(element, _WIDTH)
        first = builder.gep(context.make_array(x)(context, builder, array).data, [start])
        values = builder.load(builder.bitcast(first, vector.as_pointer()), align=x.dtype.bitwidth // 8)
        # "Unordered" means that NaN is not zero either.
        return builder.bitcast(builder.fcmp_unordered("!=", values, ir.Constant(vector, None)), ir.IntType(_WIDTH))

    return types.uint64(x, start), generate


@intrinsic
def _lowest_bit(typing_context: Any, bits: Any) -> _Generated:
    """Return the position of the lowest set bit of a nonzero integer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@compiled_part
def nonzero_positions(x, positions):  # type: ignore[no-untyped-def]
    """Write the positions of the nonzero elements of ``x [K]`` to ``positions [K + 1]``, and return their number."""
    n = 0
    whole = len(x) // _WIDTH * _WIDTH
    for start in range(0, whole, _WIDTH):
        bits = _nonzero_bits(x, start)
        while bits != 0:
            positions[n] = start + _lowest_bit(bits)
            n += 1
            # This clears the lowest set bit.
            bits &= bits - np.uint64(1)
    for k in range(whole, len(x)):
        positions[n] = k
        n += x[k] != 0
    return n
