"""Spike encoders: rate, latency and delta coding."""

from __future__ import annotations

from typing import Any

import brainunit as u
import jax
import numpy as np

from brainhw._arguments import LONGEST_AXIS, number, positive_int, quantity, some_key, time_step
from brainhw.data.features import features, unit_features

__all__ = ["delta_spikes", "latency_spikes", "rate_spikes"]

# The encoders of braintools are not used, because they differ between the versions that brainhw supports.
# BernoulliEncoder and PoissonEncoder accept no key; they draw from the global random state. LatencyEncoder of
# braintools 0.3 gives twice as many steps at dt = 0.5 ms. DeltaEncoder of 0.3 loses the sign of a change and compares
# neighbouring frames, whereas DeltaEncoder of 0.4 compares with the last event. All of them put time first.


def rate_spikes(
    x: Any, n_steps: int | None = 60, *, key: int | jax.Array, max_rate: u.Quantity | None = None
) -> np.ndarray:
    """Rate coding: draw spikes with a probability proportional to the value, independently in each step.

    Parameters
    ----------
    x
        Features ``[..., C]`` between 0 and 1.
    n_steps
        Number of steps, at least 1. Default 60. ``None`` if ``x`` already has a time axis, ``[..., T, C]``.
    key
        PRNG key (``jax.random.key``), or an integer seed. The same key results in the same spikes.
    max_rate
        Firing rate for a value of 1, in Hz, at most ``1 / dt``. ``dt`` is read from ``brainstate.environ``. Default:
        ``1 / dt``, so that a value of 1 spikes in each step; ``dt`` is then not required.

    Returns
    -------
    numpy.ndarray
        float32 spikes, 0 or 1, of shape ``[..., n_steps, C]``.

    Raises
    ------
    TypeError, ValueError
        If ``x`` contains values outside of 0 to 1, or ``max_rate`` is above one spike per step.
    RuntimeError
        If ``max_rate`` is passed, but no time step is set.

    Examples
    --------
    >>> import brainstate, brainunit as u
    >>> from brainhw.data import rate_spikes
    >>> rate_spikes([[0.0, 0.5, 1.0]], 1000, key=0).mean(axis=1).round(1).tolist()
    [[0.0, 0.5, 1.0]]
    >>> with brainstate.environ.context(dt=1 * u.ms):
    ...     spikes = rate_spikes([1.0], 10_000, key=0, max_rate=200 * u.Hz)
    >>> round(float(spikes.mean()), 1)  # a spike in every fifth step
    0.2
    """
    call = "rate_spikes"
    array = unit_features(x, call, frames=n_steps is None)
    if n_steps is not None:
        array = np.expand_dims(array, -2)
        n_steps = positive_int(n_steps, call=call, name="n_steps", most=LONGEST_AXIS)
    key = some_key(key, call)
    chance = array * np.float32(_spikes_per_step(max_rate, call))
    shape = chance.shape if n_steps is None else (*chance.shape[:-2], n_steps, chance.shape[-1])
    return np.asarray(jax.random.uniform(key, shape) < chance, np.float32)


def _spikes_per_step(max_rate: Any, call: str) -> float:
    if max_rate is None:
        return 1.0
    rate = quantity(max_rate, u.Hz, call=call, name="max_rate", shapes=[()], positive=True)
    dt = time_step(call=call)
    share = float(rate.to_decimal(u.Hz) * dt.to_decimal(u.second))
    # Rounding may make a rate of 1 / dt slightly larger than one.
    if share > 1 + 1e-6:
        raise ValueError(
            f"{call}: max_rate must be at most one spike per step, which is {1 / dt.to_decimal(u.second):g} Hz for "
            f"dt = {dt.to_decimal(u.ms):g} ms; got {rate.to_decimal(u.Hz):g} Hz."
        )
    return min(share, 1.0)


def latency_spikes(x: Any, n_steps: int = 60, *, threshold: float = 0.01) -> np.ndarray:
    """Latency coding: each feature spikes once, and larger values spike earlier.

    A value ``v`` spikes in step ``round((n_steps - 1) * (1 - v))``, so a value of 1 spikes in the first step.

    Parameters
    ----------
    x
        Features ``[..., C]`` between 0 and 1.
    n_steps
        Number of steps, at least 1. Default 60.
    threshold
        Smallest value that spikes, from 0 to 1. Default 0.01. With 0, each feature spikes.

    Returns
    -------
    numpy.ndarray
        float32 spikes, 0 or 1, of shape ``[..., n_steps, C]``.

    Raises
    ------
    TypeError, ValueError
        If ``x`` contains values outside of 0 to 1, ``threshold`` is outside of 0 to 1, or ``n_steps`` is below 1.

    Examples
    --------
    >>> from brainhw.data import latency_spikes
    >>> latency_spikes([1.0, 0.5, 0.0], 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    call = "latency_spikes"
    array = unit_features(x, call).astype(np.float64)
    n_steps = positive_int(n_steps, call=call, name="n_steps", most=LONGEST_AXIS)
    threshold = number(threshold, call=call, name="threshold", nonnegative=True)
    if threshold > 1:
        raise ValueError(f"{call}: threshold must be between 0 and 1; got {threshold:g}.")
    # Convert to float32, like the values; otherwise a value of 0.01 would be below a threshold of 0.01.
    late = np.where(array >= np.float32(threshold), np.rint((n_steps - 1) * (1 - array)), -1)
    return (np.arange(n_steps)[:, None] == late[..., None, :]).astype(np.float32)


def delta_spikes(x: Any, threshold: float) -> np.ndarray:
    """Delta coding: an on spike when a feature has risen by ``threshold``, an off spike when it has fallen as much.

    Each feature is compared with a reference, which starts at the value of the first frame. In each step a feature
    spikes at most once, and its reference then moves by ``threshold`` in the direction of the change. A larger change
    therefore causes spikes in several steps, and ``x[0] + threshold * cumsum(on - off)`` follows the feature.

    Parameters
    ----------
    x
        Frames ``[..., T, C]``. Apply :func:`repeat_frames` first, so that a large change has enough steps for its
        spikes.
    threshold
        Change that causes a spike, positive, in the unit of the features.

    Returns
    -------
    numpy.ndarray
        float32 spikes, 0 or 1, of shape ``[..., T, 2 * C]``: the on channels, then the off channels, as in
        :func:`split_on_off`. The first step has no spikes.

    Raises
    ------
    TypeError
        If ``x`` is a Quantity or is not an array of numbers, or ``threshold`` is not a number.
    ValueError
        If ``x`` has fewer than two axes, is empty or contains non-finite values, or ``threshold`` is not positive.

    Examples
    --------
    >>> from brainhw.data import delta_spikes
    >>> delta_spikes([[0.0], [0.3], [0.3], [0.5], [0.1]], 0.25).tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """
    call = "delta_spikes"
    array = features(x, call, frames=True).astype(np.float64)
    threshold = number(threshold, call=call, name="threshold", positive=True)
    # The reference is an integer multiple of the threshold, so that it does not drift in a long recording. The
    # allowance covers float32 rounding, so that a feature that changes by exactly one threshold spikes.
    change = (array - array[..., :1, :]) / threshold
    allowance = 4 * np.finfo(np.float32).eps * (1 + np.abs(array).max(initial=0) / threshold)
    level = np.zeros(change[..., 0, :].shape)
    spikes = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), np.float32)
    for step in range(1, array.shape[-2]):
        ahead = change[..., step, :] - level
        on, off = ahead >= 1 - allowance, ahead <= allowance - 1
        spikes[..., step, :] = np.concatenate([on, off], axis=-1)
        level += on.astype(float) - off
    return spikes
