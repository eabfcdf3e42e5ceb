"""Command line: train classifiers, inspect, check and run bundles, calibrate and compare chips."""

from brainhw.cli.main import main

__all__ = ["main"]
