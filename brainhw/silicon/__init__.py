"""Tools for real chips on a test bench: programs, recordings, calibration, in-the-loop training, and comparison."""

from brainhw.silicon.calibrate import Calibration, calibrate
from brainhw.silicon.callable_device import CallableDevice
from brainhw.silicon.command import CommandDevice
from brainhw.silicon.compare import compare
from brainhw.silicon.comparison import Comparison, LayerComparison
from brainhw.silicon.device import Device, DeviceError
from brainhw.silicon.fit_charge import ChargeFit, fit_charge
from brainhw.silicon.fit_leak import LeakFit, fit_leak
from brainhw.silicon.fit_noise import NoiseFit, fit_noise
from brainhw.silicon.fit_recordings import LayerFit, RecordingsFit, fit_recordings
from brainhw.silicon.fit_threshold import ThresholdFit, fit_threshold
from brainhw.silicon.hidden import scaled_chip
from brainhw.silicon.loop import InTheLoop
from brainhw.silicon.measured import MeasuredChip
from brainhw.silicon.measured_difference import ChipDifference
from brainhw.silicon.program import ChipProgram
from brainhw.silicon.put_chip import put_chip
from brainhw.silicon.recording import Recording
from brainhw.silicon.synthetic_bench import SyntheticBench, synthetic_bench
from brainhw.silicon.table_files import read_table
from brainhw.silicon.tables import ChargeTable, DecayTable, RateTable
from brainhw.silicon.virtual import VirtualChip

__all__ = [
    "Calibration",
    "CallableDevice",
    "ChargeFit",
    "ChargeTable",
    "ChipDifference",
    "ChipProgram",
    "CommandDevice",
    "Comparison",
    "DecayTable",
    "Device",
    "DeviceError",
    "InTheLoop",
    "LayerComparison",
    "LayerFit",
    "LeakFit",
    "MeasuredChip",
    "NoiseFit",
    "RateTable",
    "Recording",
    "RecordingsFit",
    "SyntheticBench",
    "ThresholdFit",
    "VirtualChip",
    "calibrate",
    "compare",
    "fit_charge",
    "fit_leak",
    "fit_noise",
    "fit_recordings",
    "fit_threshold",
    "put_chip",
    "read_table",
    "scaled_chip",
    "synthetic_bench",
]
