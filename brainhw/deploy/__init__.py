"""Deployment of networks on chips: checks, placement, power estimates, robustness to mismatch, and export."""

from brainhw.deploy.bundle import BundleError, export_bundle, load_bundle
from brainhw.deploy.bundled_net import BundledNet
from brainhw.deploy.check import DeployReport, NotDeployableError, check_deployable, is_net_deployable
from brainhw.deploy.firmware import Firmware, FirmwareState, firmware
from brainhw.deploy.placement import Piece, Placement, PlacementError, place
from brainhw.deploy.power import Cost, PowerReport, estimate_power
from brainhw.deploy.quantization import QuantizationReport, WeightReport, describe, set_weight_bits
from brainhw.deploy.robustness import RobustnessReport, robustness
from brainhw.deploy.rules import Violation
from brainhw.deploy.summary import LayerSummary, NetSummary, summary
from brainhw.deploy.survey import Stage, Survey
from brainhw.train.weights import project_signs
from brainhw.transform.prepare import nominal_chip, sample_chip

__all__ = [
    "BundleError",
    "BundledNet",
    "Cost",
    "DeployReport",
    "Firmware",
    "FirmwareState",
    "LayerSummary",
    "NetSummary",
    "NotDeployableError",
    "Piece",
    "Placement",
    "PlacementError",
    "PowerReport",
    "QuantizationReport",
    "RobustnessReport",
    "Stage",
    "Survey",
    "Violation",
    "WeightReport",
    "check_deployable",
    "describe",
    "estimate_power",
    "export_bundle",
    "firmware",
    "is_net_deployable",
    "load_bundle",
    "nominal_chip",
    "place",
    "project_signs",
    "robustness",
    "sample_chip",
    "set_weight_bits",
    "summary",
]
