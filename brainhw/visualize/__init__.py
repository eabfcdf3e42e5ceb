"""Figures that people of the field expect; each draws on ``ax`` and returns it, and works without a screen."""

from brainhw.visualize.chips import robustness
from brainhw.visualize.cores import placement
from brainhw.visualize.fluctuations import fluct_report, layer_rates, membrane_distribution, response
from brainhw.visualize.spikes import raster
from brainhw.visualize.weights import weight_histogram

__all__ = [
    "fluct_report",
    "layer_rates",
    "membrane_distribution",
    "placement",
    "raster",
    "response",
    "robustness",
    "weight_histogram",
]
