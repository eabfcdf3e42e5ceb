"""The command line: look into a bundle, check it, estimate its power, run it."""

from brainhw.cli.main import main

__all__ = ["main"]
