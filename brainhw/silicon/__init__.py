"""Chips on a bench: programs, recordings, calibration, training with the chip in the loop, comparison."""

from brainhw.silicon.device import Device, DeviceError
from brainhw.silicon.hidden import scaled_chip
from brainhw.silicon.measured import MeasuredChip
from brainhw.silicon.measured_difference import ChipDifference
from brainhw.silicon.program import ChipProgram
from brainhw.silicon.put_chip import put_chip
from brainhw.silicon.recording import Recording
from brainhw.silicon.virtual import VirtualChip

__all__ = [
    "ChipDifference",
    "ChipProgram",
    "Device",
    "DeviceError",
    "MeasuredChip",
    "Recording",
    "VirtualChip",
    "put_chip",
    "scaled_chip",
]
