"""Losses, metrics, schedules and projections for training a network for a chip."""

from brainhw.train.accuracy import accuracy, accuracy_population, population_votes
from brainhw.train.annealing import SignAnnealing
from brainhw.train.batch import Batch
from brainhw.train.bounds import BoundsReg, firing_rate_bounds_loss
from brainhw.train.fit import fit
from brainhw.train.history import History
from brainhw.train.rates import balanced_population_mse, firing_rate_target_mse_loss
from brainhw.train.surrogate_schedule import SurrogateSchedule
from brainhw.train.weights import clip_weights, out_of_range, project_signs, topology_loss, weight_magnitude_loss

__all__ = [
    "Batch",
    "BoundsReg",
    "History",
    "SignAnnealing",
    "SurrogateSchedule",
    "accuracy",
    "accuracy_population",
    "balanced_population_mse",
    "clip_weights",
    "firing_rate_bounds_loss",
    "firing_rate_target_mse_loss",
    "fit",
    "out_of_range",
    "population_votes",
    "project_signs",
    "topology_loss",
    "weight_magnitude_loss",
]
