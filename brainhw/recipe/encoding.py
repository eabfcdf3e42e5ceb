"""Encoding of recordings as constant chip inputs: features, scaling, and input rows of one sign."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import warnings
from collections.abc import Sequence
from typing import Any, final

import numpy as np

from brainhw import _arguments
from brainhw._files import FileKind, Sealed, path_text
from brainhw._plain_json import parse_json, text_of
from brainhw.init.batches import padded_ends
from brainhw.kernel.lengths import check_lengths
from brainhw.recipe.features import WINDOWS, position_means, statistics

__all__ = ["Encoding", "check_range", "fit_encoding", "padding_warning"]

_KIND = FileKind("encoding", "`brainhw train` or Encoding.save", 1)
_FILE = Sealed(_KIND, "brainhw-encoding", 2**28)
# Squares of values outside this range would overflow or vanish.
_LARGEST, _SMALLEST = 1e100, 1e-100
# Features are clipped at this many standard deviations, so that an outlier does not dominate the other features.
_CLIP = 3.0
# A recording is unlike the training recordings if more than this fraction of its features is clipped.
_UNLIKE = 0.5
# The first number is the approximate product of the number of parts and the number of channels. The second number is
# the minimum number of parts.
_PARTS, _LEAST_PARTS = 64, 8
# Features are divided by their standard deviation. This divisor is at least the given fraction of the median over the
# varying features of the block, so that a feature that hardly varies is not amplified.
_LEAST_SPREAD = 0.1


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Encoding:
    """Encoder that converts recordings to constant chip inputs; :func:`train_classifier` creates one.

    The encoder computes two blocks of features for a recording. The first block contains means over parts of equal
    length. The second block contains statistics that do not depend on the position in the recording. If all training
    recordings are shorter than four steps, there is no second block. Each feature is standardised, clipped at three
    standard deviations and split into its positive and negative part.

    On the chip, the weights of a block of input rows must have the same sign. Therefore all rows of such a block
    receive the same input: the positive or the negative part of one feature. One more block of rows receives a constant
    input. The encoder does not run on the chip, but on a computer.

    Attributes
    ----------
    n_parts : int
        Number of parts of equal length into which a recording is divided.
    windows : tuple of int
        Window lengths, in steps, over which changes of the signal are computed. The tuple is empty if there is no
        second block of features.
    mean, std : ndarray
        Mean and standard deviation of each feature over the training recordings, ``[n_features]``.
    gain : ndarray
        Factor by which each feature is multiplied, ``[n_features]``. A feature with factor zero is not used.
    block : int
        Number of consecutive input rows whose weights must have the same sign.
    n_steps : int
        Number of steps for which the inputs are held constant.
    in_shape : tuple of int
        Shape of the channels in one step of a recording.
    """

    n_parts: int
    windows: tuple[int, ...]
    mean: np.ndarray
    std: np.ndarray
    gain: np.ndarray
    block: int
    n_steps: int
    in_shape: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        """Number of inputs of the chip."""
        return (2 * int(np.sum(self.gain != 0)) + 1) * self.block

    def __call__(self, x: Any, lengths: Any = None) -> np.ndarray:
        """Return the chip inputs for recordings.

        Parameters
        ----------
        x : array
            Recordings ``[n, T, *channels]``, or recordings of one step, ``[n, *channels]``.
        lengths : array, optional
            Number of steps of each recording without padding. Default: all steps.

        Returns
        -------
        ndarray
            float32 array ``[n, n_rows]`` of values that are zero or greater. Hold them constant for ``n_steps`` steps.

        Raises
        ------
        TypeError, ValueError
            If the shape of the recordings differs from that of the training recordings, or they are not finite.
        """
        x, lengths = checked(x, lengths, self.in_shape, call="Encoding")
        standard = self._unclipped(features_of(x, lengths, self.n_parts, self.windows))
        self._warn_of_unlike(standard)
        return self.rows(standard)

    def _unclipped(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """Join ``blocks`` of features, and return the standardised features, ``[n, n_features]``."""
        return (np.concatenate(blocks, axis=1) - self.mean) / self.std

    def _warn_of_unlike(self, standard: np.ndarray) -> None:
        """Warn of recordings that are so different from the training recordings that most features are clipped."""
        unlike = np.mean(np.abs(standard[:, self.gain != 0]) > _CLIP, axis=1) > _UNLIKE
        if unlike.any():
            warnings.warn(
                f"Encoding: {unlike.sum()} of {len(unlike)} recordings, the first at index {int(np.argmax(unlike))}, "
                f"differ strongly from the training recordings. More than {_UNLIKE:.0%} of their features are clipped "
                f"at {_CLIP:g} standard deviations. Check the scale and the order of the channels of x.",
                stacklevel=3,
            )

    def standardised(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """Join ``blocks`` of features, and return the standardised and clipped features, ``[n, n_features]``."""
        return np.clip(self._unclipped(blocks), -_CLIP, _CLIP)

    def rows(self, standard: np.ndarray) -> np.ndarray:
        """Return the chip inputs ``[n, n_rows]`` for standardised features ``[n, n_features]``."""
        used = self.gain != 0
        scaled = np.clip(standard[:, used], -_CLIP, _CLIP) * self.gain[used]
        on = np.ones((len(scaled), 1))
        parts = np.concatenate([np.maximum(scaled, 0), np.maximum(-scaled, 0), on], axis=1)
        # All rows of a block receive the same input, so only the sum of their weights matters. This sum has one sign.
        # This does not restrict the network, because the negative part of the feature has its own block.
        return np.repeat(parts, self.block, axis=1).astype(np.float32)

    @property
    def fingerprint(self) -> str:
        """SHA-256 checksum of the encoding, in hexadecimal. A bundle stores the checksum of its encoding."""
        return hashlib.sha256(self._payload()).hexdigest()

    def _payload(self) -> bytes:
        content = dataclasses.asdict(self)
        plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in content.items()}
        return text_of(plain | {"windows": list(self.windows), "in_shape": list(self.in_shape)}).encode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the encoding to a file atomically; an existing file is replaced.

        Parameters
        ----------
        path : path
            The file.
        """
        path = path_text(path, call="Encoding.save", what="an encoding")
        _FILE.write(path, self._payload(), call="Encoding.save")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Encoding:
        """Read a file that :meth:`save` wrote.

        Parameters
        ----------
        path : path
            The file.

        Returns
        -------
        Encoding
            The encoding.

        Raises
        ------
        ValueError
            If the file is corrupted or is not an encoding.
        """
        payload, _, what = _FILE.read(path, call="Encoding.load")
        try:
            held = parse_json(payload.decode())
            arrays = [np.array(held.pop(name), float) for name in ("mean", "std", "gain")]
            windows, in_shape = (tuple(map(_size, held.pop(name))) for name in ("windows", "in_shape"))
            n_parts, block, n_steps = (_size(held.pop(name)) for name in ("n_parts", "block", "n_steps"))
            mean, std, gain = arrays
            found = cls(n_parts, windows, mean, std, gain, block, n_steps, in_shape)
            _check(found, held)
        except Exception as error:  # a file with a valid checksum may have any content
            raise _KIND.corrupted(what, f"has invalid content ({str(error)[:100]})") from error
        return found


def _size(value: Any) -> int:
    if type(value) is not int or not 0 < value < 2**31:
        raise ValueError(f"{value!r:.20} is not a valid size")
    return value


def _check(found: Encoding, rest: Any) -> None:
    n_channels = int(np.prod(found.in_shape))
    n_features = n_channels * (found.n_parts + (9 + len(found.windows) if found.windows else 0))
    if rest:
        raise ValueError(f"the field {next(iter(rest))!r:.40} is unknown")
    if any(array.shape != (n_features,) for array in (found.mean, found.std, found.gain)):
        raise ValueError("the array shapes do not match the sizes")
    finite = all(np.isfinite(array).all() for array in (found.mean, found.std, found.gain))
    if not finite or found.std.min() <= 0 or found.gain.min() < 0:
        raise ValueError("a mean, std or gain is out of range")


def checked(x: Any, lengths: Any, shape: tuple[int, ...], *, call: str) -> tuple[np.ndarray, np.ndarray]:
    """Check recordings, and return them as ``[n, T, C]`` with their lengths.

    ``shape`` is the shape of the channels in one step.
    """
    array = np.asarray(_arguments.as_array(x, call=call, name="x"))
    if array.shape[1:] == shape:
        array = array[:, None]
        lengths = np.ones(len(array), int) if lengths is None else lengths
    if array.shape[2:] != shape:
        raise ValueError(
            f"{call}: x must contain recordings [n, T, {', '.join(map(str, shape))}], like the training recordings; "
            f"got shape {array.shape}."
        )
    if not len(array) or not array.shape[1]:
        raise ValueError(f"{call}: x must contain recordings of at least one step; got shape {array.shape}.")
    _arguments.check_finite(array, call=call, name="x")
    array = array.astype(float)
    check_range(array, call=call, what="x")
    steps = np.full(len(array), array.shape[1])
    if lengths is not None:
        steps = np.asarray(check_lengths(lengths, array.shape[1], (len(array),), call=call))
    if lengths is None and (doubt := padding_warning(array)):
        warnings.warn(f"{call}: {doubt} Pass the number of steps of each as lengths.", stacklevel=3)
    return array.reshape(*array.shape[:2], -1), steps


def check_range(x: np.ndarray, *, call: str, what: str) -> None:
    """Raise if the squares of the values in finite recordings ``[n, ...]`` would overflow or vanish.

    ``what`` describes the recordings in the error message.
    """
    largest = np.abs(x.reshape(len(x), -1)).max(axis=1, initial=0.0)
    first = int(largest.argmax())
    if largest[first] > _LARGEST or 0 < largest[first] < _SMALLEST:
        raise ValueError(
            f"{call}: the largest absolute value of {what} must be between {_SMALLEST:g} and {_LARGEST:g}, or be 0; "
            f"got {largest[first]:g} in recording {first} (counted from 0). Correct the value, or scale all recordings."
        )


def padding_warning(x: np.ndarray) -> str:
    """Return a warning if recordings ``[n, T, *channels]`` seem to be padded, otherwise an empty string."""
    ends = padded_ends(x.reshape(*x.shape[:2], -1)) if len(x) > 1 else np.zeros(1)
    if not ends.any():
        return ""
    return (
        f"{np.sum(ends > 0)} of {len(x)} recordings end with up to {ends.max()} equal steps, which are used as data "
        "because the lengths are missing. Are they padding?"
    )


def features_of(x: np.ndarray, lengths: np.ndarray, n_parts: int, windows: tuple[int, ...]) -> list[np.ndarray]:
    """Return a list with one or two blocks of features, ``[n, n_features]``, for recordings ``[n, T, C]``."""
    true = [recording[:length] for recording, length in zip(x, lengths, strict=True)]
    blocks = [np.stack([position_means(one, n_parts) for one in true]).reshape(len(x), -1)]
    if windows:
        blocks.append(np.stack([statistics(one, windows) for one in true]).reshape(len(x), -1))
    return blocks


def fit_encoding(
    x: np.ndarray, lengths: np.ndarray, in_shape: tuple[int, ...], *, block: int, n_steps: int
) -> tuple[Encoding, list[int]]:
    """Fit an encoding to training recordings, and return it with the number of features in each block.

    The gain is 1 for features that vary, otherwise 0.
    """
    longest = int(lengths.max())
    n_parts = min(longest, max(_LEAST_PARTS, _PARTS // x.shape[-1]))
    windows = tuple(one for one in WINDOWS if 4 * one <= longest)
    blocks = features_of(x, lengths, n_parts, windows)
    std = np.concatenate([_floored_std(one) for one in blocks])
    mean = np.concatenate([one.mean(axis=0) for one in blocks])
    # A feature that is constant in the training recordings cannot distinguish classes, so it is not used.
    varies = np.concatenate([one.std(axis=0) for one in blocks]) > 0
    encoding = Encoding(n_parts, windows, mean, std, varies.astype(float), block, n_steps, in_shape)
    return encoding, [one.shape[1] for one in blocks]


def _floored_std(block: np.ndarray) -> np.ndarray:
    std = block.std(axis=0)
    varying = std[std > 0]
    return np.maximum(std, _LEAST_SPREAD * np.median(varying) if len(varying) else 1.0)
