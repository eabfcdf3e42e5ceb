"""Functions that add or change the time axis: constant inputs, repeated frames, delayed copies."""

from __future__ import annotations

from typing import Any

import numpy as np

from brainhw._arguments import LONGEST_AXIS, describe, positive_int, several
from brainhw.data.features import axis_of, features

__all__ = ["delayed_copies", "hold", "repeat_frames"]


def hold(x: Any, n_steps: int = 60, *, axis: int = -2) -> np.ndarray:
    """Present static features as a constant current for ``n_steps`` steps of the network.

    A neuron needs input for several time constants before its rate reflects the strength of the input. For measured
    accuracies with 10 to 100 steps see ``docs/encoders.md``.

    Parameters
    ----------
    x
        Features ``[..., C]``.
    n_steps
        Number of steps, at least 1. Default 60.
    axis
        Time axis in the result. Default: the last but one. For images ``[n, H, W, C]`` use ``1``.

    Returns
    -------
    numpy.ndarray
        float32 of shape ``[..., n_steps, C]``.

    Raises
    ------
    TypeError
        If ``x`` is a Quantity or is not an array of numbers, or ``n_steps`` is not an integer.
    ValueError
        If ``x`` is a scalar or contains non-finite values, ``n_steps`` is below 1, or ``axis`` does not exist.

    Examples
    --------
    >>> from brainhw.data import hold
    >>> hold([[0.5, 1.0]], 3).tolist()
    [[[0.5, 1.0], [0.5, 1.0], [0.5, 1.0]]]
    >>> import numpy as np
    >>> hold(np.zeros((10, 8, 8, 1)), axis=1).shape
    (10, 60, 8, 8, 1)
    """
    array = features(x, "hold")
    n_steps = positive_int(n_steps, call="hold", name="n_steps", most=LONGEST_AXIS)
    axis = axis_of(axis, array.ndim + 1, call="hold", of="the result")
    # Copy instead of np.broadcast_to, because users may add noise to the result, which fails for a read-only view.
    return np.repeat(np.expand_dims(array, axis), n_steps, axis=axis)


def repeat_frames(x: Any, times: int, *, axis: int = -2) -> np.ndarray:
    """Hold each frame for ``times`` steps of the network.

    Parameters
    ----------
    x
        Frames ``[..., T, C]``.
    times
        Steps per frame, at least 1.
    axis
        Time axis. Default: the last but one. For images ``[n, T, H, W, C]`` use ``1``.

    Returns
    -------
    numpy.ndarray
        float32 of shape ``[..., T * times, C]``. If the recordings have ``lengths``, multiply these by ``times`` too.

    Raises
    ------
    TypeError
        If ``x`` is a Quantity or is not an array of numbers, or ``times`` is not an integer.
    ValueError
        If ``x`` has fewer than two axes, is empty or contains non-finite values, ``times`` is below 1, or ``axis`` does
        not exist.

    Examples
    --------
    >>> import dataclasses
    >>> from brainhw.data import japanese_vowels, repeat_frames
    >>> repeat_frames([[1.0, 2.0], [3.0, 4.0]], 2).tolist()
    [[1.0, 2.0], [1.0, 2.0], [3.0, 4.0], [3.0, 4.0]]
    >>> train = japanese_vowels().train
    >>> dataclasses.replace(train, x=repeat_frames(train.x, 4), lengths=train.lengths * 4)
    Split(270 recordings, x [270, 116, 12], lengths 28 to 104)
    """
    array = features(x, "repeat_frames", frames=True)
    times = positive_int(times, call="repeat_frames", name="times", most=LONGEST_AXIS)
    axis = axis_of(axis, array.ndim, call="repeat_frames", of="x")
    return np.repeat(array, times, axis=axis)


def _whole_numbers(values: Any) -> np.ndarray:
    """Return a sequence of integers as an array ``[n]``. For any other input, return an array without axes."""
    try:
        given = several(values, call="", name="", of="")
    except TypeError:
        return np.asarray(None)
    # bool is a subclass of int, but True is not a number of steps.
    plain = all(isinstance(one, (int, np.integer)) and not isinstance(one, bool) for one in given)
    return np.asarray(given) if plain else np.asarray(None)


def delayed_copies(x: Any, delays: Any) -> np.ndarray:
    """Concatenate delayed copies of all channels.

    A network cannot use the temporal order of inputs that are further apart than the memory of its neurons. Delayed
    copies of the inputs make this order available, but they increase the number of inputs. On hardware, the encoder
    before the chip must delay the signals.

    Parameters
    ----------
    x
        Frames ``[..., T, C]``.
    delays
        Delays in steps, integers from 0 to ``T - 1``. A delay of 0 is the input itself.

    Returns
    -------
    numpy.ndarray
        float32 of shape ``[..., T, C * len(delays)]``, in the order of ``delays``. A copy is zero in the steps before
        its delay.

    Raises
    ------
    TypeError
        If ``x`` is a Quantity or is not an array of numbers.
    ValueError
        If ``x`` has fewer than two axes, is empty or contains non-finite values, or ``delays`` is invalid.

    Examples
    --------
    >>> from brainhw.data import delayed_copies
    >>> delayed_copies([[1.0], [2.0], [3.0]], (0, 2)).tolist()
    [[1.0, 0.0], [2.0, 0.0], [3.0, 1.0]]
    """
    call = "delayed_copies"
    array = features(x, call, frames=True)
    steps = _whole_numbers(delays)
    n_steps = array.shape[-2]
    if steps.ndim != 1 or not steps.size or steps.dtype.kind not in "iu" or steps.min() < 0 or steps.max() >= n_steps:
        raise ValueError(
            f"{call}: delays must be integers, such as (0, 10), from 0 to {n_steps - 1}, because the last "
            f"delay must be shorter than x; got {describe(delays)}."
        )
    copies = np.zeros((*array.shape[:-1], len(steps), array.shape[-1]), np.float32)
    for i, late in enumerate(steps.tolist()):
        copies[..., late:, i, :] = array[..., : n_steps - late, :]
    return copies.reshape(*array.shape[:-1], -1)
