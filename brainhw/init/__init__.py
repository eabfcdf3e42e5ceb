"""Initialisers that look at the data and at the hardware."""

from brainhw.init.fluct import fluct_init

__all__ = ["fluct_init"]
