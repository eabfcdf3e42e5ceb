"""What acts on a whole network in time."""

from brainhw.transform.fractional_orders import get_per_layer_alpha, get_per_layer_coefficient, set_fractional_orders
from brainhw.transform.fractional_report import fractional_summary
from brainhw.transform.prepare import prepare_net
from brainhw.transform.rollout import rollout

__all__ = [
    "fractional_summary",
    "get_per_layer_alpha",
    "get_per_layer_coefficient",
    "prepare_net",
    "rollout",
    "set_fractional_orders",
]
