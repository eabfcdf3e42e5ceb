"""Axis order of images: channels last by default in brainstate, channels first in NIR and PyTorch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from brainhw.interop.nir.errors import Problems
from brainhw.interop.nir.wiring import Call

__all__ = ["channels_last", "counted_from_end", "flat_order", "per_channel", "to_file"]


def channels_last(calls: Iterable[Call], problems: Problems) -> bool:
    """Return whether the images of a network have channels last. Add a problem if modules use different orders."""
    found: dict[bool, Call] = {}
    for call in calls:
        last = _is_last(call)
        if last is None:
            continue
        other = found.get(not last)
        found.setdefault(last, call)
        if other is not None:
            orders = ("last", "first") if last else ("first", "last")
            why = f"has channels {orders[0]}, but {other.path} has them {orders[1]}; use one order in a network."
            problems.add(call.path, type(call.module).__name__, why)
    return True in found


def _is_last(call: Call) -> bool | None:
    """Return whether a module has channels last, or ``None`` if it does not specify the order."""
    last = getattr(call.module, "channels_last", None)  # of a convolution
    if isinstance(last, bool):
        return last
    axis = getattr(call.module, "channel_axis", None)  # of a pooling
    return None if axis is None else {-1: True, -len(call.size_in): False}.get(counted_from_end(axis, call))


def counted_from_end(axis: int, call: Call) -> int:
    """Convert an axis of the input, counted with the batch axis, to a negative index."""
    return axis if axis < 0 else axis - len(call.size_in) - call.batched


def to_file(values: np.ndarray, last: bool) -> np.ndarray:
    """Convert an image to the axis order of the file, in which channels are the first axis."""
    return np.moveaxis(values, -1, 0) if last and values.ndim > 1 else values


def flat_order(size: tuple[int, ...], last: bool) -> np.ndarray | None:
    """Return, for each entry of a flattened image in the file, its index in the flattened image of the network.

    Return ``None`` if the file and the network use the same order.
    """
    places = np.arange(int(np.prod(size))).reshape(size)
    order = to_file(places, last).ravel()
    return None if np.array_equal(order, places.ravel()) else order


def per_channel(values: np.ndarray, channels: int) -> np.ndarray | None:
    """Return one value per channel, or ``None`` if the values differ within a channel."""
    if values.ndim == 0:
        return np.full(channels, float(values))
    flat = values.reshape(channels, -1)
    return flat[:, 0] if np.all(flat == flat[:, :1]) else None
