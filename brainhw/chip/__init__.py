"""What the silicon is: chip descriptions, charge curves, time constants. Knows no module and no training."""

from brainhw.chip.charge import ChargeCurve, LinearCharge, SaturatingCharge, TabulatedCharge
from brainhw.chip.file import load_chip, save_chip
from brainhw.chip.presets import H1V1, H1V2, get_chip
from brainhw.chip.spec import BITS, WIDEST_THRESHOLD, ChipSpec
from brainhw.chip.tau import TauProfiles, TauSnap

__all__ = [
    "BITS",
    "H1V1",
    "H1V2",
    "WIDEST_THRESHOLD",
    "ChargeCurve",
    "ChipSpec",
    "LinearCharge",
    "SaturatingCharge",
    "TabulatedCharge",
    "TauProfiles",
    "TauSnap",
    "get_chip",
    "load_chip",
    "save_chip",
]
