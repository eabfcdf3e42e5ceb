"""Exchange with other libraries: NIR graphs, StableHLO programs and PyTorch state dicts."""

from brainhw.interop import nir, stablehlo, state_dicts

__all__ = ["nir", "stablehlo", "state_dicts"]
