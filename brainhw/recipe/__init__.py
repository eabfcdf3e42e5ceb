"""Training of a classifier for a chip in one call: encoding, teacher, network and checks."""

from brainhw.recipe.chip_classifier import ChipClassifier, load_classifier
from brainhw.recipe.encoding import Encoding
from brainhw.recipe.train_classifier import train_classifier

__all__ = ["ChipClassifier", "Encoding", "load_classifier", "train_classifier"]
