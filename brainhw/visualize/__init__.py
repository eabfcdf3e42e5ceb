"""Figures that people of the field expect; each draws on ``ax`` and returns it, and works without a screen."""

from brainhw.visualize.chips import robustness
from brainhw.visualize.cores import placement
from brainhw.visualize.energy import power
from brainhw.visualize.fluctuations import fluct_report, membrane_distribution, response
from brainhw.visualize.orders import fractional_orders
from brainhw.visualize.rates import layer_rates
from brainhw.visualize.signs import sign_blocks
from brainhw.visualize.spikes import membrane, raster
from brainhw.visualize.weights import weight_histogram

__all__ = [
    "fluct_report",
    "fractional_orders",
    "layer_rates",
    "membrane",
    "membrane_distribution",
    "placement",
    "power",
    "raster",
    "response",
    "robustness",
    "sign_blocks",
    "weight_histogram",
]
