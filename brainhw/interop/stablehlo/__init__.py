"""Export of one step of a network as a StableHLO program. The program runs without the code of the network."""

from brainhw.interop.stablehlo.export import export_step
from brainhw.interop.stablehlo.ports import Port
from brainhw.interop.stablehlo.program import StepProgram, load_step

__all__ = ["Port", "StepProgram", "export_step", "load_step"]
