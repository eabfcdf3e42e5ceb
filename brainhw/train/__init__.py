"""Losses, metrics, schedules and projections for training a network for a chip."""

from brainhw.train.accuracy import accuracy, accuracy_population, population_votes
from brainhw.train.annealing import SignAnnealing
from brainhw.train.batch import Batch
from brainhw.train.bounds import BoundsReg, firing_rate_bounds_loss
from brainhw.train.class_report import ClassReport, class_report
from brainhw.train.class_scores import ClassScores, class_scores
from brainhw.train.classifier import classifier_loss
from brainhw.train.decision import Decision, decide
from brainhw.train.fit import fit
from brainhw.train.history import History
from brainhw.train.order_rows import order_rows
from brainhw.train.rates import balanced_population_mse, firing_rate_target_mse_loss
from brainhw.train.surrogate_schedule import SurrogateSchedule
from brainhw.train.weights import clip_weights, out_of_range, project_signs, topology_loss, weight_magnitude_loss

__all__ = [
    "Batch",
    "BoundsReg",
    "ClassReport",
    "ClassScores",
    "Decision",
    "History",
    "SignAnnealing",
    "SurrogateSchedule",
    "accuracy",
    "accuracy_population",
    "balanced_population_mse",
    "class_report",
    "class_scores",
    "classifier_loss",
    "clip_weights",
    "decide",
    "firing_rate_bounds_loss",
    "firing_rate_target_mse_loss",
    "fit",
    "order_rows",
    "out_of_range",
    "population_votes",
    "project_signs",
    "topology_loss",
    "weight_magnitude_loss",
]
