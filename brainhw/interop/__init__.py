"""Bridges to the formats of others: NIR graphs, StableHLO programs and state dicts of torch."""

from brainhw.interop import nir, stablehlo, state_dicts

__all__ = ["nir", "stablehlo", "state_dicts"]
