"""Compiled time loop of fractional neurons. Importing this module imports numba.

Neurons and samples are independent. So each thread runs all steps for a few hundred of them, whose past values stay in
the cache of one core.
"""

from __future__ import annotations

import numba
import numpy as np

from brainhw.kernel.compiled import compiled, compiled_part

__all__ = ["scheme_steps"]

# Number of neurons of all samples that one work item computes. With 24 exponentials their past values take 25 KiB.
_COLUMNS = 256


@compiled_part
def _weighted_sums(slots, decay, newest, is_first, weights, columns, sums):  # type: ignore[no-untyped-def]
    """Add the newest values to the slots, and write the weighted sums of the slots for each scheme to ``sums [S, m]``.

    Each computation needs all slots, so one loop does both. In the first step there are no newest values.
    """
    n_schemes, m = sums.shape
    one, zero = slots.dtype.type(1), slots.dtype.type(0)
    for s in range(n_schemes):
        for j in range(m):
            sums[s, j] = 0
    for q in range(slots.shape[0]):
        row, total = slots[q], sums[0]
        factor, added = (one, zero) if is_first else (decay[q], one)
        if weights.shape[2] == 1:
            weight = weights[0, q, 0]
            for j in range(m):
                row[j] = factor * row[j] + added * newest[j]
                total[j] += weight * row[j]
        else:
            each = weights[0, q, columns]
            for j in range(m):
                row[j] = factor * row[j] + added * newest[j]
                total[j] += each[j] * row[j]
        for s in range(1, n_schemes):
            each, total = weights[s, q, columns if weights.shape[2] > 1 else slice(0, 1)], sums[s]
            for j in range(m):
                total[j] += (each[0] if len(each) == 1 else each[j]) * row[j]


@compiled_part
def _write_step(a, b, c, J, J_before, v, sums, result):  # type: ignore[no-untyped-def]
    """Write the result of one step of a scheme with the coefficients ``a``, ``b`` and ``c``."""
    for j in range(v.shape[0]):
        result[j] = a[j] * J[j] + c[j] * v[j] - sums[j] + b[j] * J_before[j]


@compiled_part
def _fire(compared, V_th, a, J, J_before, v):  # type: ignore[no-untyped-def]
    """If the voltage ``compared`` of a neuron reaches the threshold, reduce its input in this step by ``V_th``."""
    zero, one = v.dtype.type(0), v.dtype.type(1)
    for j in range(v.shape[0]):
        spk = one if (compared[j] - V_th[j]) / V_th[j] >= 0 else zero
        v[j] -= a[j] * spk * V_th[j]
        J_before[j] = J[j] - spk * V_th[j]


@compiled_part
def _extrapolate(lookahead, leak, J, v, result):  # type: ignore[no-untyped-def]
    """Write the voltages extrapolated by the look-ahead."""
    for j in range(v.shape[0]):
        result[j] = v[j] + lookahead[j] * (J[j] - leak * v[j])


@compiled_part
def _copy(values, result):  # type: ignore[no-untyped-def]
    for j in range(values.shape[0]):
        result[j] = values[j]


@compiled_part
def _run_columns(  # type: ignore[no-untyped-def]
    columns,
    drives,
    V,
    before,
    slots,
    drive,
    previous,
    voltage,
    weights,
    decay,
    V_th,
    lookahead,
    rules,
    V_compared,
    V_after,
    end,
    sensitivities,
):
    """Run all steps of the columns in the slice ``columns``."""
    n_steps, n_slots, n_schemes, m = drives.shape[0], slots.shape[0], drive.shape[0], columns.stop - columns.start
    looks_ahead, fires, keep_V, reverse = rules[0], rules[1], rules[2], rules[3]
    leak = V.dtype.type(rules[4])
    own, sums = np.empty((n_slots, m), V.dtype), np.empty((n_schemes, m), V.dtype)
    v, J_before, newest = np.empty(m, V.dtype), np.empty(m, V.dtype), np.empty(m, V.dtype)
    _copy(V[columns], v)
    _copy(before[columns], J_before)
    for q in range(n_slots):
        _copy(slots[q, columns], own[q])
    for i in range(n_steps):
        t = n_steps - 1 - i if reverse else i
        J, compared = drives[t, columns], V_compared[t, columns]
        _weighted_sums(own, decay, v, i == 0, weights, columns, sums)
        for s in range(1, n_schemes):
            a, b, c = drive[s, columns], previous[s, columns], voltage[s, columns]
            _write_step(a, b, c, J, J_before, v, sums[s], sensitivities[t, s - 1, columns])
        if looks_ahead:
            _extrapolate(lookahead[columns], leak, J, v, compared)
        _write_step(drive[0, columns], previous[0, columns], voltage[0, columns], J, J_before, v, sums[0], newest)
        if not looks_ahead:
            _copy(newest, compared)
        _copy(J, J_before)
        if fires:
            _fire(compared, V_th[columns], drive[0, columns], J, J_before, newest)
        _copy(newest, v)
        _copy(newest, V_after[t if keep_V else 0, columns])
    for q in range(n_slots):
        row, result = own[q], end[q, columns]
        for j in range(m):
            result[j] = decay[q] * row[j] + v[j]


@compiled
def scheme_steps(  # type: ignore[no-untyped-def]
    drives,
    V,
    before,
    slots,
    drive,
    previous,
    voltage,
    weights,
    decay,
    V_th,
    lookahead,
    rules,
    V_compared,
    V_after,
    end,
    sensitivities,
):
    """Run a numerical scheme of fractional neurons whose past is stored as leaky sums.

    The ``M`` columns are the neurons of all samples. Inputs are ``drives [T, M]``, the state ``V``, ``before [M]`` and
    ``slots [Q, M]``, the coefficients ``drive``, ``previous`` and ``voltage [S, M]`` and ``weights [S, Q, M]`` or
    ``[S, Q, 1]`` of the scheme and its ``S - 1`` derivatives, ``decay [Q]``, and ``V_th`` and ``lookahead [M]``.
    ``rules`` contains flags: whether the spikes are computed from the extrapolated voltage, whether neurons fire,
    whether the voltages of all steps are requested, whether the steps run backwards, and whether neurons leak.

    The results are written to ``V_compared [T, M]``, ``V_after [T, M]`` or ``[1, M]``, ``end [Q, M]`` for the slots
    after the last step, and ``sensitivities [T, S - 1, M]``.
    """
    n_columns = drives.shape[1]
    for part in numba.prange((n_columns + _COLUMNS - 1) // _COLUMNS):
        # Without int64, numba would compile the function twice: the type of `part` differs between its passes.
        start = np.int64(part) * _COLUMNS
        _run_columns(
            slice(start, min(start + _COLUMNS, n_columns)),
            drives,
            V,
            before,
            slots,
            drive,
            previous,
            voltage,
            weights,
            decay,
            V_th,
            lookahead,
            rules,
            V_compared,
            V_after,
            end,
            sensitivities,
        )
