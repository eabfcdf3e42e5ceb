"""NIR, the format in which neuromorphic libraries exchange networks: export, import, and what is refused."""

from brainhw.interop.nir.errors import NIRError
from brainhw.interop.nir.net import NIRNet
from brainhw.interop.nir.reading import from_nir
from brainhw.interop.nir.writing import to_nir

__all__ = ["NIRError", "NIRNet", "from_nir", "to_nir"]
