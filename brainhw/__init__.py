"""Spiking networks for analog neuromorphic chips: build with units, train within what the hardware can do."""

from brainhw import chip, data, deploy, init, kernel, nn, surrogate, train, transform, visualize
from brainhw._version import __version__
from brainhw.transform import (
    fractional_summary,
    get_per_layer_alpha,
    get_per_layer_coefficient,
    nominal_chip,
    prepare_net,
    rollout,
    sample_chip,
    set_fractional_orders,
)

__all__ = [
    "__version__",
    "chip",
    "data",
    "deploy",
    "fractional_summary",
    "get_per_layer_alpha",
    "get_per_layer_coefficient",
    "init",
    "kernel",
    "nn",
    "nominal_chip",
    "prepare_net",
    "rollout",
    "sample_chip",
    "set_fractional_orders",
    "surrogate",
    "train",
    "transform",
    "visualize",
]
