"""Recording of a chip: spikes of each layer and, if the bench reads them, membrane potentials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, final

import brainunit as u
import numpy as np

from brainhw import _arguments

__all__ = ["Recording", "check_recording"]


@final
@dataclass(frozen=True, eq=False)
class Recording:
    """Spikes and membrane potentials that a bench recorded, by the path of each layer.

    Parameters
    ----------
    spikes : mapping of str to array
        Spikes of each layer, 0 or 1, ``[T, B, N]``.
    membranes : mapping of str to Quantity, optional
        Membrane potential after the reset of each step, ``[T, B, N]``, stored in mV. Omit layers whose membrane
        potentials the bench does not read. Default: none.

    Raises
    ------
    TypeError
        If an argument is not a mapping, if spikes are not numbers, or if membrane potentials do not have the dimension
        of a voltage.
    ValueError
        If a spike is not 0 or 1, if a membrane potential is not finite, or if the shapes of one layer differ.

    Examples
    --------
    >>> import brainhw as bh, numpy as np
    >>> recording = bh.silicon.Recording({"hidden": np.zeros((100, 8, 64))})
    >>> recording.n_steps, recording.batch_size
    (100, 8)
    """

    spikes: Mapping[str, np.ndarray]
    membranes: Mapping[str, u.Quantity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        call = "Recording"
        for name in ("spikes", "membranes"):
            given = getattr(self, name)
            if not isinstance(given, Mapping):
                raise TypeError(
                    f"{call}: {name} must be a mapping from the path of a layer to an array; "
                    f"got {_arguments.describe(given)}."
                )
        if not self.spikes:
            raise ValueError(f"{call}: spikes must contain at least one layer; got none.")
        spikes = {path: _spikes(value, f"{call}: spikes of {path!r}") for path, value in self.spikes.items()}
        leading = {value.shape[:2] for value in spikes.values()}
        if len(leading) > 1:
            shapes = ", ".join(f"{path!r} {value.shape}" for path, value in spikes.items())
            raise ValueError(f"{call}: all layers must have the same steps and samples; got {shapes}.")
        membranes = {}
        for path, value in self.membranes.items():
            if path not in spikes:
                raise ValueError(
                    f"{call}: membranes contain layer {path!r}, but spikes do not. Pass the spikes of this layer."
                )
            membranes[path] = _membranes(value, spikes[path].shape, f"{call}: membranes of {path!r}")
        object.__setattr__(self, "spikes", MappingProxyType(spikes))
        object.__setattr__(self, "membranes", MappingProxyType(membranes))

    @property
    def n_steps(self) -> int:
        """Number of steps."""
        return int(next(iter(self.spikes.values())).shape[0])

    @property
    def batch_size(self) -> int:
        """Number of samples."""
        return int(next(iter(self.spikes.values())).shape[1])

    def __repr__(self) -> str:
        layers = ", ".join(f"{path!r} {value.shape}" for path, value in self.spikes.items())
        return f"Recording({layers}; membranes of {len(self.membranes)} of {len(self.spikes)} layers)"


def _spikes(value: Any, where: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{where} must be an array of 0 and 1; got {_arguments.describe(value)}.")
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"{where} must have shape [T, B, N]; got {array.shape}.")
    # Fast path for the usual case: an array of bytes whose largest value is 1.
    if array.dtype.kind in "bu" and array.max() <= 1:
        return _own(array.astype(np.uint8, copy=False))
    # NaN fails both comparisons.
    bad = ~((array == 0) | (array == 1))
    if bad.any():
        step, sample, neuron = map(int, np.argwhere(bad)[0])
        raise ValueError(
            f"{where} must be 0 or 1; got {array[step, sample, neuron]:g} at step {step}, sample {sample}, neuron "
            f"{neuron} ({int(bad.sum())} such values). Pass spikes, not spike counts or membrane potentials."
        )
    return array.astype(np.uint8)


def _membranes(value: Any, shape: tuple[int, ...], where: str) -> u.Quantity:
    if not isinstance(value, u.Quantity) or not u.have_same_dim(value, u.mV):
        raise TypeError(
            f"{where} must be a Quantity of voltage, such as array * u.mV; got {_arguments.describe(value)}."
        )
    # A number beyond float32 becomes infinite and fails the check below.
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.asarray(value.to(u.mV).mantissa, np.float32)
    if numbers.shape != shape:
        raise ValueError(f"{where} must have the shape of its spikes, {shape}; got {numbers.shape}.")
    # Fast path with two passes and without a temporary array. `min` and `max` return NaN if a number is NaN.
    if not (np.isfinite(numbers.min()) and np.isfinite(numbers.max())):
        step, sample, neuron = map(int, np.argwhere(~np.isfinite(numbers))[0])
        raise ValueError(
            f"{where} must be finite in float32; got {numbers[step, sample, neuron]:g} mV at step {step}, "
            f"sample {sample}, neuron {neuron}."
        )
    return u.Quantity(_own(numbers), unit=u.mV)


def _own(array: np.ndarray) -> np.ndarray:
    # Copy the array, because a bench may reuse its buffer. A read-only array need not be copied.
    return array.copy() if array.flags.writeable else array


def check_recording(
    recording: Any, layers: Mapping[str, int], n_steps: int, batch_size: int, *, call: str
) -> Recording:
    """Return ``recording``. Raise an error if its layers or the shapes of its spikes do not match the program.

    ``layers`` maps the path of each layer to its number of neurons.
    """
    if not isinstance(recording, Recording):
        wrap = " Wrap it: Recording(spikes)." if isinstance(recording, Mapping) else ""
        raise TypeError(
            f"{call}: the run must return a brainhw.silicon.Recording; got {_arguments.describe(recording)}.{wrap}"
        )
    if set(recording.spikes) != set(layers):
        missing = sorted(set(layers) - set(recording.spikes))
        extra = sorted(set(recording.spikes) - set(layers))
        what = f"lacks the spikes of {missing}" if missing else f"contains unknown layers {extra}"
        raise ValueError(f"{call}: the recording {what}; the program has the layers {sorted(layers)}.")
    for path, n_neurons in layers.items():
        wanted, found = (n_steps, batch_size, n_neurons), recording.spikes[path].shape
        if found != wanted:
            raise ValueError(
                f"{call}: the spikes of {path!r} have shape {found}; expected {wanted} (steps, samples, neurons). "
                "Record every step, sample and neuron of the program."
            )
    return recording
