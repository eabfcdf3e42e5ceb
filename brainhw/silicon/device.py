"""Protocol for chips that can be programmed and run, and the error for failures of a bench."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from brainhw import _arguments
from brainhw.silicon.recording import Recording

__all__ = ["Device", "DeviceError", "checked_device"]


@runtime_checkable
class Device(Protocol):
    """Protocol for a chip that can be programmed and run: a chip on a real bench, or a model of a chip.

    ``program(program)`` writes a :class:`ChipProgram` to the chip. ``run(x)`` runs the programmed chip from rest and
    returns the :class:`Recording` of all layers. The input ``x [T, B, N_in]`` contains dimensionless float32 values.
    Both methods raise :class:`DeviceError` if the bench fails. The caller may then repair the bench, program it again
    and continue.
    """

    def program(self, program: Any) -> None:
        """Write a program to the chip."""

    def run(self, x: np.ndarray) -> Recording:
        """Run the program on ``x [T, B, N_in]`` from rest and return the recording."""


class DeviceError(RuntimeError):
    """Raised if the bench crashes, exceeds its time limit, or does not return a recording of the program.

    Parameters
    ----------
    message : str
        Text that states the failure, the expected behaviour, and the fix.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_arguments.text(message, call="DeviceError", name="message", some=True))


def checked_device(device: Any, call: str) -> Device:
    """Return ``device``. Raise ``TypeError`` if it lacks a method of :class:`Device`."""
    if isinstance(device, type) or not isinstance(device, Device):
        raise TypeError(
            f"{call}: device must have the methods program and run of brainhw.silicon.Device; "
            f"got {_arguments.describe(device)}."
        )
    return device
