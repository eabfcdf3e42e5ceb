"""Compiled loops of the backward pass of recurrent neurons. Importing this module imports numba.

In the forward pass few spikes are nonzero. In the backward pass every gradient is nonzero, so each step computes a
dense matrix product with the recurrent weights. XLA computes this product for all samples, and then starts a new
operation for each step of the arithmetic. These loops run a few samples through all steps on one core, and need no
synchronization between cores.
"""

from __future__ import annotations

import numba
import numpy as np

from brainhw.kernel.compiled import compiled, compiled_part

__all__ = ["currents", "leaky"]

# Number of samples that one work item runs. Each weight is read once for all of them.
_SAMPLES = 4


@compiled_part
def _add_products(rows, weights, total):  # type: ignore[no-untyped-def]
    """Add ``rows [4, N] @ weights [N, M]`` to ``total [4, M]``.

    Four weights are added per pass, so that ``total`` is read and written only once for four weights.
    """
    n_in, n_out = weights.shape
    total_0, total_1, total_2, total_3 = total[0], total[1], total[2], total[3]
    whole = n_in // 4 * 4
    for k in range(0, whole, 4):
        w_a, w_b, w_c, w_d = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        a_0, b_0, c_0, d_0 = rows[0, k], rows[0, k + 1], rows[0, k + 2], rows[0, k + 3]
        a_1, b_1, c_1, d_1 = rows[1, k], rows[1, k + 1], rows[1, k + 2], rows[1, k + 3]
        a_2, b_2, c_2, d_2 = rows[2, k], rows[2, k + 1], rows[2, k + 2], rows[2, k + 3]
        a_3, b_3, c_3, d_3 = rows[3, k], rows[3, k + 1], rows[3, k + 2], rows[3, k + 3]
        for j in range(n_out):
            w_aj, w_bj, w_cj, w_dj = w_a[j], w_b[j], w_c[j], w_d[j]
            total_0[j] = total_0[j] + a_0 * w_aj + b_0 * w_bj + c_0 * w_cj + d_0 * w_dj
            total_1[j] = total_1[j] + a_1 * w_aj + b_1 * w_bj + c_1 * w_cj + d_1 * w_dj
            total_2[j] = total_2[j] + a_2 * w_aj + b_2 * w_bj + c_2 * w_cj + d_2 * w_dj
            total_3[j] = total_3[j] + a_3 * w_aj + b_3 * w_bj + c_3 * w_cj + d_3 * w_dj
    for k in range(whole, n_in):
        for r in range(_SAMPLES):
            x, weight, target = rows[r, k], weights[k], total[r]
            for j in range(n_out):
                target[j] = target[j] + x * weight[j]


@compiled_part
def _leaky_samples(first, direct, kept, through, grad_V, grad_spk, decay, weights, out):  # type: ignore[no-untyped-def]
    """Run all steps of the samples from ``first``, from the last step to the first."""
    n_steps, n_rows, n = direct.shape
    n_samples = min(_SAMPLES, n_rows - first)
    # If fewer than four samples are left, the other rows stay zero.
    charged, from_V = np.zeros((_SAMPLES, n), direct.dtype), np.zeros((_SAMPLES, n), direct.dtype)
    from_spk = np.zeros((_SAMPLES, n), direct.dtype)
    for i in range(n_samples):
        from_V[i] = grad_V[first + i]
        from_spk[i] = grad_spk[first + i]
    for t in range(n_steps - 1, -1, -1):
        for i in range(n_samples):
            r = first + i
            of_V, of_spk, row, result = from_V[i], from_spk[i], charged[i], out[t, r]
            direct_t, kept_t, through_t = direct[t, r], kept[t, r], through[t, r]
            for j in range(n):
                row[j] = (kept_t[j] * of_V[j] + through_t[j] * of_spk[j]) + direct_t[j]
                of_V[j] = decay[j] * row[j]
            for j in range(n):
                result[j] = row[j]
        if t > 0:
            from_spk[:] = 0
            _add_products(charged, weights, from_spk)


@compiled
def leaky(direct, kept, through, grad_V, grad_spk, decay, weights, out):  # type: ignore[no-untyped-def]
    """Write the gradient of the membrane potentials before the reset to ``out [T, R, N]``.

    The gradient of a step is ``direct + kept * grad_V + through * grad_spk``, where ``grad_V`` and ``grad_spk`` are the
    gradients of the potential after the reset and of the spikes that come from the later step: ``decay`` times the
    gradient of the later step, and the product of this gradient with ``weights [N, N]``. The arguments ``grad_V`` and
    ``grad_spk [R, N]`` are those after the last step.
    """
    n_rows = direct.shape[1]
    for block in numba.prange((n_rows + _SAMPLES - 1) // _SAMPLES):
        _leaky_samples(np.int64(block * _SAMPLES), direct, kept, through, grad_V, grad_spk, decay, weights, out)


@compiled_part
def _current_step(  # type: ignore[no-untyped-def]
    charged, of_V, of_current, of_ahp, of_spk, alpha, beta, gamma, w_ahp
):
    """Update the gradients of the state of one sample with the gradient ``charged [N]`` of the potential."""
    n = charged.shape[0]
    per_neuron = beta.shape[0] // n
    for j in range(n):
        of_V[j] = alpha[j] * charged[j]
    for j in range(n):
        of_ahp[j] = gamma[j] * (of_ahp[j] + charged[j])
    for j in range(n):
        of_spk[j] = of_ahp[j] * w_ahp[j]
    if per_neuron == 1:
        for j in range(n):
            of_current[j] = beta[j] * (of_current[j] + charged[j])
    else:
        for k in range(beta.shape[0]):
            of_current[k] = beta[k] * (of_current[k] + charged[k // per_neuron])


@compiled_part
def _current_samples(  # type: ignore[no-untyped-def]
    first,
    direct,
    kept,
    through,
    grad_V,
    grad_current,
    grad_ahp,
    grad_spk,
    alpha,
    beta,
    gamma,
    w_ahp,
    weights,
    out,
    V_out,
    ahp_out,
):
    """Run all steps of the samples from ``first``, from the last step to the first."""
    n_steps, n_rows, n = direct.shape
    m = beta.shape[0]
    n_samples = min(_SAMPLES, n_rows - first)
    # If fewer than four samples are left, the other rows stay zero.
    drives, from_V = np.zeros((_SAMPLES, m), direct.dtype), np.zeros((_SAMPLES, n), direct.dtype)
    from_ahp, from_spk = np.zeros((_SAMPLES, n), direct.dtype), np.zeros((_SAMPLES, n), direct.dtype)
    for i in range(n_samples):
        drives[i] = grad_current[first + i]
        from_V[i], from_ahp[i], from_spk[i] = grad_V[first + i], grad_ahp[first + i], grad_spk[first + i]
    charged = np.empty(n, direct.dtype)
    for t in range(n_steps - 1, -1, -1):
        for i in range(n_samples):
            r = first + i
            of_V, of_ahp, of_spk, drive, result = from_V[i], from_ahp[i], from_spk[i], drives[i], out[t, r]
            direct_t, kept_t, through_t = direct[t, r], kept[t, r], through[t, r]
            for j in range(n):
                charged[j] = (kept_t[j] * of_V[j] + through_t[j] * of_spk[j]) + direct_t[j]
            _current_step(charged, of_V, drive, of_ahp, of_spk, alpha, beta, gamma, w_ahp)
            for k in range(m):
                result[k] = drive[k]
        if t > 0:
            _add_products(drives, weights, from_spk)
    for i in range(n_samples):
        V_out[first + i], ahp_out[first + i] = from_V[i], from_ahp[i]


@compiled
def currents(  # type: ignore[no-untyped-def]
    direct,
    kept,
    through,
    grad_V,
    grad_current,
    grad_ahp,
    grad_spk,
    alpha,
    beta,
    gamma,
    w_ahp,
    weights,
    out,
    V_out,
    ahp_out,
):
    """Write the gradient of the inputs of current-based neurons to ``out [T, R, M]``.

    ``M = N * S`` is the number of synapses of all neurons. As in :func:`leaky`, the gradient of the membrane potential
    before the reset is ``direct + kept * grad_V + through * grad_spk``. It is added to the gradients of the synaptic
    currents ``grad_current [R, M]`` and of the after-hyperpolarisation current ``grad_ahp [R, N]``. These decay by
    ``beta [M]`` and ``gamma [N]`` per step. ``weights`` has shape ``[M, N]``. The gradients of the initial membrane
    potential and after-hyperpolarisation current are written to ``V_out`` and ``ahp_out [R, N]``.
    """
    n_rows = direct.shape[1]
    for block in numba.prange((n_rows + _SAMPLES - 1) // _SAMPLES):
        _current_samples(
            np.int64(block * _SAMPLES),
            direct,
            kept,
            through,
            grad_V,
            grad_current,
            grad_ahp,
            grad_spk,
            alpha,
            beta,
            gamma,
            w_ahp,
            weights,
            out,
            V_out,
            ahp_out,
        )
