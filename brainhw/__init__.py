"""Spiking networks for analog neuromorphic chips, with physical units and training within the limits of the hardware.

Subpackages are imported on first use. So ``import brainhw`` takes milliseconds, and a subpackage such as ``brainhw.nn``
is imported when it is first accessed.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from brainhw._version import __version__

if TYPE_CHECKING:
    from brainhw import (
        chip,
        data,
        deploy,
        init,
        interop,
        kernel,
        nn,
        recipe,
        silicon,
        surrogate,
        train,
        transform,
        visualize,
    )
    from brainhw.deploy import check_deployable
    from brainhw.init import fluct_init, fluct_report
    from brainhw.transform import (
        fractional_summary,
        get_per_layer_alpha,
        get_per_layer_coefficient,
        keep_compiled,
        keep_memory,
        nominal_chip,
        prepare_net,
        sample_chip,
        set_fractional_orders,
    )
    from brainhw.transform.rollout import rollout
    from brainhw.transform.stream import stream

__all__ = [
    "__version__",
    "check_deployable",
    "chip",
    "data",
    "deploy",
    "fluct_init",
    "fluct_report",
    "fractional_summary",
    "get_per_layer_alpha",
    "get_per_layer_coefficient",
    "init",
    "interop",
    "keep_compiled",
    "keep_memory",
    "kernel",
    "nn",
    "nominal_chip",
    "prepare_net",
    "recipe",
    "rollout",
    "sample_chip",
    "set_fractional_orders",
    "silicon",
    "stream",
    "surrogate",
    "train",
    "transform",
    "visualize",
]

_SUBPACKAGES = frozenset(
    [
        "chip",
        "data",
        "deploy",
        "init",
        "interop",
        "kernel",
        "nn",
        "recipe",
        "silicon",
        "surrogate",
        "train",
        "transform",
        "visualize",
    ]
)
# The subpackage in which each public function is defined. Functions that are not listed are defined in "transform".
_SUBPACKAGE_OF = {"check_deployable": "deploy", "fluct_init": "init", "fluct_report": "init"}


if not TYPE_CHECKING:  # a type checker uses the imports above, so that it can report names that do not exist

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first accessed."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
        if name in _SUBPACKAGES:
            return importlib.import_module(f"{__name__}.{name}")
        value = getattr(importlib.import_module(f"{__name__}.{_SUBPACKAGE_OF.get(name, 'transform')}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
