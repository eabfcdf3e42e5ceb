"""Order of the axes of images: brainstate puts the channels last by default, NIR and PyTorch first."""

from __future__ import annotations

from collections.abc import Iterable

import brainstate
import numpy as np

from brainhw.interop.nir.errors import Problems
from brainhw.interop.nir.image_parts import Convolution, Pooling
from brainhw.interop.nir.wiring import Call

__all__ = ["channels_last", "flat_order", "to_file"]


def channels_last(calls: Iterable[Call], problems: Problems) -> bool:
    """Return whether the images of a network have their channels last; note modules that disagree."""
    found: dict[bool, Call] = {}
    for call in calls:
        last = _is_last(call)
        if last is None:
            continue
        other = found.get(not last)
        found.setdefault(last, call)
        if other is not None:
            orders = ("last", "first") if last else ("first", "last")
            why = f"has the channels {orders[0]}, and {other.path} has them {orders[1]}; use one order in a network."
            problems.add(call.path, type(call.module).__name__, why)
    return True in found


def _is_last(call: Call) -> bool | None:
    """Return whether a module has the channels last; ``None`` if it tells nothing of images."""
    module = call.module
    if isinstance(module, (Convolution, Pooling)):
        return False
    if isinstance(module, (brainstate.nn.Conv1d, brainstate.nn.Conv2d)):
        return not getattr(module, "channel_first", False)
    if isinstance(module, brainstate.nn.AvgPool2d) and len(call.size_in) == 3:
        axis = module.channel_axis
        if axis is not None and axis >= 0:
            axis -= len(call.size_in) + call.batched
        return {-1: True, -3: False}.get(axis)
    return None


def to_file(values: np.ndarray, last: bool) -> np.ndarray:
    """Return an array over an image as the file has it: channels first."""
    return np.moveaxis(values, -1, 0) if last and values.ndim > 1 else values


def flat_order(size: tuple[int, ...], last: bool) -> np.ndarray | None:
    """Return for each place of a flattened image in the file its place in the network; ``None`` if all are the same."""
    places = np.arange(int(np.prod(size))).reshape(size)
    order = to_file(places, last).ravel()
    return None if np.array_equal(order, places.ravel()) else order
