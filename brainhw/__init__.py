"""Spiking networks for analog neuromorphic chips: build with units, train within what the hardware can do.

Nothing is imported before it is used: ``import brainhw`` takes milliseconds, and a wing such as ``brainhw.nn`` is
loaded, with all that it needs, when it is first named.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from brainhw._version import __version__

if TYPE_CHECKING:
    from brainhw import chip, data, deploy, init, interop, kernel, nn, surrogate, train, transform, visualize
    from brainhw.transform.fractional_orders import (
        get_per_layer_alpha,
        get_per_layer_coefficient,
        set_fractional_orders,
    )
    from brainhw.transform.fractional_report import fractional_summary
    from brainhw.transform.prepare import prepare_net
    from brainhw.transform.rollout import rollout
    from brainhw.transform.sample import nominal_chip, sample_chip
    from brainhw.transform.stream import stream

__all__ = [
    "__version__",
    "chip",
    "data",
    "deploy",
    "fractional_summary",
    "get_per_layer_alpha",
    "get_per_layer_coefficient",
    "init",
    "interop",
    "kernel",
    "nn",
    "nominal_chip",
    "prepare_net",
    "rollout",
    "sample_chip",
    "set_fractional_orders",
    "stream",
    "surrogate",
    "train",
    "transform",
    "visualize",
]

_WINGS = frozenset(
    {"chip", "data", "deploy", "init", "interop", "kernel", "nn", "surrogate", "train", "transform", "visualize"}
)


if not TYPE_CHECKING:  # a type checker knows the names from above, and should find those that are none of them

    def __getattr__(name: str) -> Any:
        """Import what is public when it is first asked for."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
        if name in _WINGS:
            return importlib.import_module(f"{__name__}.{name}")
        value = getattr(importlib.import_module(f"{__name__}.transform"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
