"""Channel scaling to mean 0 and standard deviation 1 over the training data."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from brainhw._arguments import check_finite, describe
from brainhw._records import check_fields, numbers
from brainhw.data.dataset import Split

__all__ = ["ChannelScale", "fit_channel_scale"]


def _frames(split: Any, call: str, name: str = "split") -> tuple[np.ndarray, np.ndarray]:
    """Return ``x`` of a split, and a mask ``[n, T]`` that is False for padding."""
    if not isinstance(split, Split):
        raise TypeError(f"{call}: {name} must be a Split such as dataset.train; got {describe(split)}.")
    if isinstance(split.x, list):
        raise TypeError(f"{call}: the split contains raw audio. Convert it to frames first, for example by filterbank.")
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
                f"ChannelScale: mean and std must contain one value for each channel; "
                f"got shapes {mean.shape} and {std.shape}."
            )
        if not np.all(std > 0):
            raise ValueError(
                f"ChannelScale: std must be greater than zero; got {describe(self.std)} with minimum {std.min():g}."
            )

    def apply(self, split: Split) -> Split:
        """Return ``split`` with ``(x - mean) / std`` in every frame except the padding, which stays zero.

        Raises
        ------
        TypeError, ValueError
            If ``split`` contains raw audio, or its number of channels differs from that of the training split.
        """
        x, real = _frames(split, "ChannelScale.apply")
        if x.shape[-1] != len(self.mean):
            raise ValueError(
                f"ChannelScale.apply: the scale has {len(self.mean)} channels, but the split has {x.shape[-1]}. "
                "Fit it on the training split of the same data."
            )
        real = real.reshape(*real.shape, *(1,) * (x.ndim - 2))
        scaled = np.where(real, (x - self.mean) / self.std, np.float32(0)).astype(np.float32)
        return split._with(x=scaled)


def fit_channel_scale(train: Split) -> ChannelScale:
    """Compute the mean and standard deviation of each channel over all unpadded frames of a training split.

    Fit the scale on the training split and apply it to both splits, so that it does not depend on test data.

    Parameters
    ----------
    train
        Frames ``[n, T, channels]``, or ``[n, T, ..., channels]``, such as images.

    Returns
    -------
    ChannelScale
        The method ``apply`` scales a split. The scaled training split has mean 0 and standard deviation 1 in each
        channel.

    Raises
    ------
    TypeError
        If ``train`` is not a Split or contains raw audio.
    ValueError
        If ``train`` has no frames, contains non-finite values, or a channel is constant.

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
    # Use float64, because a float32 sum over many frames is too inaccurate for the variance of a channel with a large
    # mean.
    frames = x[real].astype(np.float64).reshape(-1, x.shape[-1])
    if not len(frames):
        raise ValueError("fit_channel_scale: the split contains no frames. Pass a training split with recordings.")
    # Test the range and not the standard deviation, which may be a rounding error instead of zero in a constant
    # channel.
    constant = np.flatnonzero(frames.max(axis=0) == frames.min(axis=0))
    if len(constant):
        raise ValueError(
            f"fit_channel_scale: channel(s) {constant.tolist()} are constant in the training split, so their "
            "standard deviation is zero. Remove these channels."
        )
    return ChannelScale(frames.mean(axis=0).astype(np.float32), frames.std(axis=0).astype(np.float32))
