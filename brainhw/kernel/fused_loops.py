"""Compiled time loops of recurrent neurons. Importing this module imports numba.

Samples are independent. So each sample runs through all steps before the next sample starts: the weights stay in the
cache of one core, and cores never wait for each other. The order of summation is the same as in XLA.
"""

from __future__ import annotations

import numba
import numpy as np

from brainhw.kernel.compiled import compiled, compiled_part
from brainhw.kernel.event_loops import sparse_row_product

__all__ = ["COUNT", "NO_RESET", "STEP", "SUBTRACT", "ZERO", "currents", "leaky"]

# Integers that select the reset and the spike function in the compiled loops.
SUBTRACT, ZERO, NO_RESET = 0, 1, 2
STEP, COUNT = 0, 1

# The loop over a sample stops if on average more than this fraction of its neurons fires per step, because dense matrix
# products are then faster.
_MAX_SPIKE_FRACTION = 0.2
# Number of steps before this check, because the first steps may have more spikes than the rest.
_STEPS_BEFORE_CHECK = 16


@compiled_part
def _fire_leaky(charged, V_th, reset, clamped, v, s):  # type: ignore[no-untyped-def]
    """Clamp the membrane potentials ``charged [N]``, and write spikes to ``s`` and potentials after the reset to ``v``.

    Potentials are clamped only if ``clamped`` is set.
    """
    n = charged.shape[0]
    # These constants have the dtype of the potential. With a plain 0 numba would compute in double precision.
    zero, one = charged.dtype.type(0), charged.dtype.type(1)
    if clamped:
        for j in range(n):
            # This comparison keeps NaN, unlike `max`.
            charged[j] = zero if charged[j] < 0 else charged[j]
    for j in range(n):
        s[j] = one if (charged[j] - V_th[j]) / V_th[j] >= 0 else zero
    for j in range(n):
        v[j] = charged[j]
    if reset == SUBTRACT:
        for j in range(n):
            v[j] = charged[j] - s[j] * V_th[j]
        if clamped:
            for j in range(n):
                v[j] = zero if v[j] < 0 else v[j]
    if reset == ZERO:
        for j in range(n):
            v[j] = charged[j] * (one - s[j])


@compiled_part
def _leaky_sample(drives, r, V, spk, decay, V_th, recurrent, factors, rules, V_pre):  # type: ignore[no-untyped-def]
    """Run all steps of sample ``r``. Return 1 if the loop stopped because too many neurons fire, otherwise 0."""
    n_steps, _, n = drives.shape
    reset, clamped, scaled = rules[0], rules[1], rules[2]
    nonzero, total = np.empty(n + 1, np.int64), np.empty(n, drives.dtype)
    v, s = V[r].copy(), spk[r].copy()
    fired = 0
    for t in range(n_steps):
        fired += sparse_row_product(s, nonzero, recurrent, total)
        if t >= _STEPS_BEFORE_CHECK and fired > _MAX_SPIKE_FRACTION * n * t:
            return 1
        drive, charged = drives[t, r], V_pre[t, r]
        if scaled:
            for j in range(n):
                total[j] = (drive[j] + total[j]) * factors[0]
            for j in range(n):
                charged[j] = decay[j] * v[j] + total[j] * factors[1]
        else:
            for j in range(n):
                charged[j] = decay[j] * v[j] + (drive[j] + total[j])
        _fire_leaky(charged, V_th, reset, clamped, v, s)
    return 0


@compiled
def leaky(drives, V, spk, decay, V_th, recurrent, factors, rules, V_pre, is_dense):  # type: ignore[no-untyped-def]
    """Run LIF neurons. Write the membrane potentials before the reset to ``V_pre [T, R, N]``.

    Inputs are ``drives [T, R, N]``, the state ``V`` and ``spk [R, N]``, ``decay`` and ``V_th [N]``, and
    ``recurrent [N, N]``. ``factors [2]`` convert a drive to a voltage. ``rules`` contains the code of the reset, a flag
    for clamping the membrane potential, and a flag for scaling the drive. ``is_dense [R]`` is set to 1 for samples in
    which too many neurons fire.
    """
    for r in numba.prange(drives.shape[1]):
        # Without int64, numba would compile the function twice: the type of `r` differs between its passes.
        is_dense[r] = _leaky_sample(drives, np.int64(r), V, spk, decay, V_th, recurrent, factors, rules, V_pre)


@compiled_part
def _fire_currents(charged, V_th, firing, most, v, s):  # type: ignore[no-untyped-def]
    """For membrane potentials ``charged [N]``, write spikes to ``s`` and potentials after the reset to ``v``."""
    n = charged.shape[0]
    kind = charged.dtype.type
    zero, one, undefined, limit = kind(0), kind(1), kind(np.nan), kind(most)
    if firing == STEP:
        for j in range(n):
            s[j] = one if (charged[j] - V_th[j]) / V_th[j] >= 0 else zero
    else:
        for j in range(n):
            s[j] = np.floor(charged[j] / V_th[j]) if charged[j] >= V_th[j] else zero
        if most > 0:
            for j in range(n):
                s[j] = min(s[j], limit)
    for j in range(n):
        s[j] = s[j] if V_th[j] > 0 else undefined
    for j in range(n):
        v[j] = charged[j] - s[j] * V_th[j]


@compiled_part
def _currents_sample(  # type: ignore[no-untyped-def]
    drives, r, V, current, spk, ahp, alpha, beta, V_th, bias, recurrent, gamma, w_ahp, rules, V_pre, end, ahp_end
):
    """Run all steps of sample ``r``. Return 1 if the loop stopped because too many neurons fire, otherwise 0."""
    n_steps, _, m = drives.shape
    n = V.shape[1]
    per_neuron = m // n
    firing, most, has_ahp = rules[0], rules[1], rules[2]
    nonzero, total, total_current = np.empty(n + 1, np.int64), np.empty(m, drives.dtype), np.empty(n, drives.dtype)
    v, s, synaptic_currents, ahp_current = V[r].copy(), spk[r].copy(), current[r].copy(), ahp[r].copy()
    fired = 0
    for t in range(n_steps):
        fired += sparse_row_product(s, nonzero, recurrent, total)
        if t >= _STEPS_BEFORE_CHECK and fired > _MAX_SPIKE_FRACTION * n * t:
            return 1
        drive, charged = drives[t, r], V_pre[t, r]
        for j in range(m):
            synaptic_currents[j] = beta[j] * ((synaptic_currents[j] + drive[j]) + total[j])
        for j in range(n):
            total_current[j] = synaptic_currents[j * per_neuron]
            for k in range(1, per_neuron):
                total_current[j] = total_current[j] + synaptic_currents[j * per_neuron + k]
        if has_ahp:
            for j in range(n):
                ahp_current[j] = gamma[j] * (ahp_current[j] + s[j] * w_ahp[j])
            for j in range(n):
                total_current[j] = total_current[j] + ahp_current[j]
        for j in range(n):
            charged[j] = (alpha[j] * v[j] + total_current[j]) + bias[j]
        _fire_currents(charged, V_th, firing, most, v, s)
    end[r] = synaptic_currents
    ahp_end[r] = ahp_current
    return 0


@compiled
def currents(  # type: ignore[no-untyped-def]
    drives,
    V,
    current,
    spk,
    ahp,
    alpha,
    beta,
    V_th,
    bias,
    recurrent,
    gamma,
    w_ahp,
    rules,
    V_pre,
    end,
    ahp_end,
    is_dense,
):
    """Run current-based neurons. Write the membrane potentials before the reset, and the currents after the last step.

    ``drives [T, R, M]`` contains the ``M = N * S`` inputs of all synapses, grouped by neuron. The state is ``V``,
    ``spk`` and ``ahp [R, N]``, and ``current [R, M]``, where ``ahp`` is the after-hyperpolarisation current. ``beta``
    has shape ``[M]``, ``recurrent`` has shape ``[N, M]``, and the other parameters have shape ``[N]``. ``rules``
    contains the code of the spike function, the largest spike count per step (0 means no limit), and a flag for the
    after-hyperpolarisation current. The results are written to ``V_pre [T, R, N]``, ``end [R, M]`` and
    ``ahp_end [R, N]``. ``is_dense [R]`` is set to 1 for samples in which too many neurons fire.
    """
    for r in numba.prange(drives.shape[1]):
        is_dense[r] = _currents_sample(
            drives,
            np.int64(r),
            V,
            current,
            spk,
            ahp,
            alpha,
            beta,
            V_th,
            bias,
            recurrent,
            gamma,
            w_ahp,
            rules,
            V_pre,
            end,
            ahp_end,
        )
