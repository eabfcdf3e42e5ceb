"""Numerical functions of the neurons and synapses, on plain arrays without states and units."""

from brainhw.kernel.exponentials import n_exponentials, weight_error
from brainhw.kernel.fractional_weights import METHODS, FractionalMethod
from brainhw.kernel.leaky import Firing
from brainhw.kernel.quantize import WeightGrid

__all__ = ["METHODS", "Firing", "FractionalMethod", "WeightGrid", "n_exponentials", "weight_error"]
