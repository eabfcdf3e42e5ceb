"""Encodings of features as input: channel scaling, on/off channels, held frames, delayed copies."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from brainhw._arguments import LONGEST_AXIS, as_array, check_finite, describe, positive_int, several, whole_number
from brainhw._records import check_fields, numbers
from brainhw.data.dataset import Split

__all__ = ["ChannelScale", "delayed_copies", "fit_channel_scale", "repeat_frames", "split_on_off"]


def _frames(split: Any, call: str, name: str = "split") -> tuple[np.ndarray, np.ndarray]:
    """Return x and the mask ``[n, T]`` of the frames that are not padding."""
    if not isinstance(split, Split):
        raise TypeError(f"{call}: {name} must be a Split such as dataset.train; got {describe(split)}.")
    if isinstance(split.x, list):
        raise TypeError(f"{call}: the split holds raw audio; turn it into frames first, e.g. with filterbank.")
    return split.x, np.arange(split.x.shape[1]) < split.lengths[:, None]


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelScale:
    """Mean and standard deviation of each channel over a training split; see :func:`fit_channel_scale`.

    Parameters
    ----------
    mean, std
        float32 arrays of shape ``[channels]``.
    """

    mean: np.ndarray
    std: np.ndarray

    def __post_init__(self) -> None:
        check_fields(self, mean=numbers(ndims=(1,)), std=numbers(ndims=(1,)))
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        if mean.shape != std.shape or not mean.size:
            raise ValueError(
                f"ChannelScale: mean and std must hold one number for each channel; "
                f"got shapes {mean.shape} and {std.shape}."
            )
        if not np.all(std > 0):
            raise ValueError(
                f"ChannelScale: std must be greater than zero; got {describe(self.std)} with minimum {std.min():g}."
            )

    def apply(self, split: Split) -> Split:
        """Return ``split`` with ``(x - mean) / std`` in every true frame; the zero padding stays zero.

        Raises
        ------
        TypeError, ValueError
            For raw audio, and for another number of channels than in the training split.
        """
        x, real = _frames(split, "ChannelScale.apply")
        if x.shape[-1] != len(self.mean):
            raise ValueError(
                f"ChannelScale.apply: the scale was fitted on {len(self.mean)} channels, the split has {x.shape[-1]}; "
                "fit it on the training split of the same data."
            )
        real = real.reshape(*real.shape, *(1,) * (x.ndim - 2))
        scaled = np.where(real, (x - self.mean) / self.std, np.float32(0)).astype(np.float32)
        return split._with(x=scaled)


def fit_channel_scale(train: Split) -> ChannelScale:
    """Measure each channel's mean and standard deviation over the true frames of a training split, without padding.

    Fit on the training split and apply to both halves, so that the scale contains no test data.

    Parameters
    ----------
    train
        Frames ``[n, T, channels]``, or ``[n, T, ..., channels]``, such as images.

    Returns
    -------
    ChannelScale
        Its ``apply`` scales a split; the training split then has mean 0 and standard deviation 1 in each channel.

    Raises
    ------
    TypeError, ValueError
        For raw audio, a split without frames, values that are not finite, and a channel that never changes.

    Examples
    --------
    >>> from brainhw.data import fit_channel_scale, japanese_vowels
    >>> data = japanese_vowels()
    >>> scale = fit_channel_scale(data.train)
    >>> train, test = scale.apply(data.train), scale.apply(data.test)
    >>> scale.mean.shape, test.x.shape
    ((12,), (370, 29, 12))
    """
    x, real = _frames(train, "fit_channel_scale", "train")
    check_finite(x, call="fit_channel_scale", name="train.x")
    # float64, because a float32 sum over many frames of a channel with a large mean loses the variance.
    frames = x[real].astype(np.float64).reshape(-1, x.shape[-1])
    if not len(frames):
        raise ValueError("fit_channel_scale: the split holds no frames; give a training split with recordings in it.")
    # By the range, which is exactly zero; the standard deviation of a constant channel may be a rounding error.
    constant = np.flatnonzero(frames.max(axis=0) == frames.min(axis=0))
    if len(constant):
        raise ValueError(
            f"fit_channel_scale: channel(s) {constant.tolist()} never change over the training split, so they have no "
            "scale; leave them out."
        )
    return ChannelScale(frames.mean(axis=0).astype(np.float32), frames.std(axis=0).astype(np.float32))


def _features(x: Any, call: str, *, frames: bool = False) -> np.ndarray:
    if isinstance(x, Split):
        raise TypeError(f"{call}: takes an array; pass split.x and put the result back with dataclasses.replace.")
    array = np.asarray(as_array(x, call=call, name="x"))
    check_finite(array, call=call, name="x")
    if frames and array.ndim < 2:
        raise ValueError(f"{call}: x must have shape [..., T, C]; got shape {array.shape}.")
    if frames and 0 in array.shape[-2:]:
        raise ValueError(f"{call}: x must hold at least one frame and one channel; got shape {array.shape}.")
    return array.astype(np.float32)


def split_on_off(x: Any) -> np.ndarray:
    """Split signed features into nonnegative ones: the positive parts, then the negative parts.

    ``out[..., :C] = max(x, 0)`` and ``out[..., C:] = max(-x, 0)``. Rate and latency encoders, as in braintools, take
    nonnegative values only.

    Parameters
    ----------
    x
        Features ``[..., C]``.

    Returns
    -------
    numpy.ndarray
        float32 of shape ``[..., 2 * C]``.

    Raises
    ------
    TypeError, ValueError
        For a Quantity, anything else that is not an array, a single number, and values that are not finite.

    Examples
    --------
    >>> from brainhw.data import split_on_off
    >>> split_on_off([[0.5, -2.0]]).tolist()
    [[0.5, 0.0, 0.0, 2.0]]
    """
    array = _features(x, "split_on_off")
    if array.ndim == 0:
        raise ValueError("split_on_off: x must have a last axis of channels; got a single number.")
    return np.concatenate([np.maximum(array, 0), np.maximum(-array, 0)], axis=-1)


def repeat_frames(x: Any, times: int, *, axis: int = -2) -> np.ndarray:
    """Hold each frame for ``times`` steps of the network.

    Parameters
    ----------
    x
        Frames ``[..., T, C]``.
    times
        Steps per frame, at least 1.
    axis
        Axis of time, default the last but one; ``1`` for images ``[n, T, H, W, C]``.

    Returns
    -------
    numpy.ndarray
        float32 of shape ``[..., T * times, C]``. Multiply the true lengths by the same factor.

    Raises
    ------
    TypeError, ValueError
        For a Quantity, fewer than two axes, values that are not finite, and ``times`` below 1.

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
    array = _features(x, "repeat_frames", frames=True)
    times = positive_int(times, call="repeat_frames", name="times", most=LONGEST_AXIS)
    axis = whole_number(axis, call="repeat_frames", name="axis", least=-array.ndim)
    if axis >= array.ndim:
        raise ValueError(f"repeat_frames: axis must be an axis of x, which has {array.ndim}; got {axis}.")
    return np.repeat(array, times, axis=axis)


def _whole_numbers(values: Any) -> np.ndarray:
    """Return whole numbers as an array ``[n]``; anything else becomes an array without an axis."""
    try:
        given = several(values, call="", name="", of="")
    except TypeError:
        return np.asarray(None)
    # bool is a kind of int, but True is a mistake as a number of steps.
    plain = all(isinstance(one, (int, np.integer)) and not isinstance(one, bool) for one in given)
    return np.asarray(given) if plain else np.asarray(None)


def delayed_copies(x: Any, delays: Any) -> np.ndarray:
    """Concatenate delayed copies of all channels.

    A network cannot use a temporal order that takes longer than its neurons remember. Copies that are delayed by up to
    that length make it usable, at the cost of more inputs. On hardware, a stage before the chip has to delay them.

    Parameters
    ----------
    x
        Frames ``[..., T, C]``.
    delays
        Whole numbers of steps, each at least 0 and below ``T``; 0 is the input itself.

    Returns
    -------
    numpy.ndarray
        float32 of shape ``[..., T, C * len(delays)]``, in the order of ``delays``; a copy is zero until it begins.

    Raises
    ------
    TypeError, ValueError
        For a Quantity, fewer than two axes, values that are not finite, and invalid delays.

    Examples
    --------
    >>> from brainhw.data import delayed_copies
    >>> delayed_copies([[1.0], [2.0], [3.0]], (0, 2)).tolist()
    [[1.0, 0.0], [2.0, 0.0], [3.0, 1.0]]
    """
    call = "delayed_copies"
    array = _features(x, call, frames=True)
    steps = _whole_numbers(delays)
    n_steps = array.shape[-2]
    if steps.ndim != 1 or not steps.size or steps.dtype.kind not in "iu" or steps.min() < 0 or steps.max() >= n_steps:
        raise ValueError(
            f"{call}: delays must be whole numbers of steps from 0 to {n_steps - 1}, below the steps of x, "
            f"such as (0, 10); got {describe(delays)}."
        )
    copies = np.zeros((*array.shape[:-1], len(steps), array.shape[-1]), np.float32)
    for i, late in enumerate(steps.tolist()):
        copies[..., late:, i, :] = array[..., : n_steps - late, :]
    return copies.reshape(*array.shape[:-1], -1)
