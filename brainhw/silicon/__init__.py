"""Chips on a bench: programs, recordings, calibration, training with the chip in the loop, comparison."""

from brainhw.silicon.device import Device, DeviceError
from brainhw.silicon.program import ChipProgram
from brainhw.silicon.recording import Recording

__all__ = ["ChipProgram", "Device", "DeviceError", "Recording"]
