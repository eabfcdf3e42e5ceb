"""Initialisers that look at the data and at the hardware."""

from brainhw.init.baselines import kaiming_init
from brainhw.init.fluct import fluct_init, fluct_report, nwave_preset
from brainhw.init.frontend import frontend_init
from brainhw.init.report import FluctReport, InitOutcome, LayerReport

__all__ = [
    "FluctReport",
    "InitOutcome",
    "LayerReport",
    "fluct_init",
    "fluct_report",
    "frontend_init",
    "kaiming_init",
    "nwave_preset",
]
