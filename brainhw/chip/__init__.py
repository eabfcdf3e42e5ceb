"""Chip descriptions: families, specs, charge curves, time constants."""

from brainhw.chip.charge import ChargeCurve, LinearCharge, SaturatingCharge, TabulatedCharge
from brainhw.chip.family import Family, Mismatch, UnknownFamilyError, families, get_chip, get_family, register_family
from brainhw.chip.fields import spec_field
from brainhw.chip.file import load_chip, save_chip
from brainhw.chip.presets import H1V1, H1V1_FAMILY, H1V2, H1V2_FAMILY
from brainhw.chip.spec import BITS, WIDEST_THRESHOLD, ChipSpec
from brainhw.chip.tau import TauProfiles, TauSnap

__all__ = [
    "BITS",
    "H1V1",
    "H1V1_FAMILY",
    "H1V2",
    "H1V2_FAMILY",
    "WIDEST_THRESHOLD",
    "ChargeCurve",
    "ChipSpec",
    "Family",
    "LinearCharge",
    "Mismatch",
    "SaturatingCharge",
    "TabulatedCharge",
    "TauProfiles",
    "TauSnap",
    "UnknownFamilyError",
    "families",
    "get_chip",
    "get_family",
    "load_chip",
    "register_family",
    "save_chip",
    "spec_field",
]
