"""Weight initialisers. Most of them use data and the weight limits of the chip."""

import importlib
from typing import TYPE_CHECKING, Any

from brainhw.init.fluct import fluct_init, fluct_report, nwave_preset
from brainhw.init.report import FluctReport, InitOutcome, LayerReport

if TYPE_CHECKING:
    from brainhw.init.baselines import kaiming_init
    from brainhw.init.frontend import frontend_init

__all__ = [
    "FluctReport",
    "InitOutcome",
    "LayerReport",
    "fluct_init",
    "fluct_report",
    "frontend_init",
    "kaiming_init",
    "nwave_preset",
]

_MODULE_OF = {"frontend_init": "frontend", "kaiming_init": "baselines"}

if not TYPE_CHECKING:  # type checkers use the imports above; at run time both functions are imported on first use

    def __getattr__(name: str) -> Any:
        """Import ``frontend_init`` or ``kaiming_init`` on first use."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
