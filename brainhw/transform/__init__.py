"""Run, prepare and trace whole networks."""

from brainhw.transform.fractional_orders import (
    fractional_summary,
    get_per_layer_alpha,
    get_per_layer_coefficient,
    set_fractional_orders,
)
from brainhw.transform.keep import keep_compiled, keep_memory
from brainhw.transform.prepare import nominal_chip, prepare_net, sample_chip
from brainhw.transform.rollout import rollout
from brainhw.transform.stream import Stream, stream
from brainhw.transform.trace import Call, Link, StepTrace, Value, trace_step

__all__ = [
    "Call",
    "Link",
    "StepTrace",
    "Stream",
    "Value",
    "fractional_summary",
    "get_per_layer_alpha",
    "get_per_layer_coefficient",
    "keep_compiled",
    "keep_memory",
    "nominal_chip",
    "prepare_net",
    "rollout",
    "sample_chip",
    "set_fractional_orders",
    "stream",
    "trace_step",
]
