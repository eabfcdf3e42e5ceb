"""Numerics on plain arrays, without state and without units."""

from brainhw.kernel.exponentials import n_exponentials, weight_error
from brainhw.kernel.fractional_weights import METHODS, FractionalMethod
from brainhw.kernel.quantize import WeightGrid
from brainhw.kernel.reset import Firing

__all__ = ["METHODS", "Firing", "FractionalMethod", "WeightGrid", "n_exponentials", "weight_error"]
