"""Numerics on plain arrays, without state and without units."""

from brainhw.kernel.exponentials import n_exponentials, weight_error
from brainhw.kernel.fractional_weights import METHODS, FractionalMethod

__all__ = ["METHODS", "FractionalMethod", "n_exponentials", "weight_error"]
