"""Detection of recordings and images whose channel axis precedes the time axis or the image axes."""

from __future__ import annotations

import numpy as np

# Only this many recordings are tested, so that the test is fast for large data sets.
_MOST = 64
# Limits for the correlation of neighbouring values. In Japanese Vowels it is 0.92 to 0.96 over steps, and -0.44 to 0.03
# over channels.
_SMOOTH, _ROUGH = 0.6, 0.4


def refuse_channels_first(shape: tuple[int, ...]) -> None:
    """Raise if the shape is ``[n, T, C, H, W]`` with one to four channels before square images."""
    if len(shape) == 5 and shape[2] < 5 < shape[3] == shape[4]:
        raise ValueError(
            f"Split: x must be [n, T, H, W, C], with channels last; got shape {shape}, which has channels first. Use "
            "numpy.moveaxis(x, 2, -1)."
        )


def channels_first_warning(x: np.ndarray) -> str:
    """Return a warning text if ``x`` is probably not ``[n, T, ...]``, otherwise an empty string.

    The shape alone is not enough: 20 steps of 784 channels are valid. In recordings ``[n, C, T]``, neighbouring values
    are correlated along the last axis, but not along the axis before it. Constant inputs, spikes and spectra of shape
    ``[n, T, C]`` do not show this pattern.
    """
    shape = x.shape
    if not x.size:
        return ""
    if len(shape) == 4 and shape[1] in (1, 3) and shape[2] == shape[3] > 5:
        return (
            f"x of shape {shape} looks like static images with channels first; x must be [n, T, H, W, C]. Use "
            "brainhw.data.hold(numpy.moveaxis(x, 1, -1), 60, axis=1)."
        )
    if len(shape) != 3 or shape[2] < max(2 * shape[1], 8):
        return ""
    some = x[:_MOST]
    size = np.abs(some)
    # Do not test spikes that all have the same size: latency-coded images are valid, although they are correlated over
    # channels and not over time.
    if np.all((size == 0) | (size == size.max())):
        return ""
    if (shape[1] > 1 and _correlation(some, 1) > _ROUGH) or _correlation(some, 2) < _SMOOTH:
        return ""
    static = " Static features must be held for several steps: brainhw.data.hold." if shape[1] == 1 else ""
    return (
        f"x of shape {shape} is [n, {shape[1]} steps, {shape[2]} channels], but looks like [n, {shape[1]} channels, "
        f"{shape[2]} steps]: neighbours on the last axis are similar, neighbours in time are not. If so, use "
        f"numpy.moveaxis(x, 1, 2).{static}"
    )


def _correlation(x: np.ndarray, axis: int) -> float:
    """Return the correlation between neighbours along an axis, over all recordings; 0 for constant data."""
    x = np.moveaxis(x.astype(np.float64), axis, 0)
    before, after = (x[:-1] - x[:-1].mean()).ravel(), (x[1:] - x[1:].mean()).ravel()
    size = np.sqrt(before @ before * (after @ after))
    return float(before @ after / size) if size > 0 else 0.0
