"""What acts on a whole network in time."""

from brainhw.transform.prepare import prepare_net
from brainhw.transform.rollout import rollout

__all__ = ["prepare_net", "rollout"]
