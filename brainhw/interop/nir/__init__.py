"""Export and import of NIR graphs. NIR is a file format that neuromorphic libraries use to exchange networks."""

from brainhw.interop.nir import export_rules, image_export, image_import  # noqa: F401  the import registers rules
from brainhw.interop.nir.building import Export, Weights, register_export
from brainhw.interop.nir.errors import NIRError
from brainhw.interop.nir.net import NIRNet
from brainhw.interop.nir.node_kinds import register_import
from brainhw.interop.nir.reading import from_nir
from brainhw.interop.nir.unroll import unroll
from brainhw.interop.nir.writing import to_nir

__all__ = [
    "Export",
    "NIRError",
    "NIRNet",
    "Weights",
    "from_nir",
    "register_export",
    "register_import",
    "to_nir",
    "unroll",
]
