"""Command line: show a bundle, check it, estimate its power, run it."""

from brainhw.cli.main import main

__all__ = ["main"]
