"""Bridges to the formats of others: NIR graphs and StableHLO programs."""

from brainhw.interop import nir, stablehlo

__all__ = ["nir", "stablehlo"]
