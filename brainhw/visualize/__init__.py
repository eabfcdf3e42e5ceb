"""Functions that plot figures with matplotlib. They return the axes or the figure, and need no display."""

from brainhw.visualize.activity import plot_layer_rates, plot_membrane, plot_raster
from brainhw.visualize.comparison import plot_comparison
from brainhw.visualize.confusion import plot_confusion
from brainhw.visualize.deployment import plot_placement, plot_power, plot_robustness
from brainhw.visualize.fluctuations import plot_fluct_report, plot_membrane_distribution, plot_response
from brainhw.visualize.orders import plot_fractional_orders
from brainhw.visualize.silicon import (
    plot_calibration,
    plot_charge_fit,
    plot_leak_fit,
    plot_noise_fit,
    plot_rate_fit,
    plot_threshold_fit,
)
from brainhw.visualize.training import plot_history
from brainhw.visualize.weights import plot_sign_blocks, plot_weight_histogram

__all__ = [
    "plot_calibration",
    "plot_charge_fit",
    "plot_comparison",
    "plot_confusion",
    "plot_fluct_report",
    "plot_fractional_orders",
    "plot_history",
    "plot_layer_rates",
    "plot_leak_fit",
    "plot_membrane",
    "plot_membrane_distribution",
    "plot_noise_fit",
    "plot_placement",
    "plot_power",
    "plot_raster",
    "plot_rate_fit",
    "plot_response",
    "plot_robustness",
    "plot_sign_blocks",
    "plot_threshold_fit",
    "plot_weight_histogram",
]
