"""Spiking networks for analog neuromorphic chips: build with units, train within what the hardware can do."""

from brainhw import chip, data, init, nn, surrogate, train, transform, visualize
from brainhw.transform import prepare_net, rollout

__all__ = ["chip", "data", "init", "nn", "prepare_net", "rollout", "surrogate", "train", "transform", "visualize"]
__version__ = "0.1.0"
