"""The packages nir and h5py, imported only where a graph is made or read."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["nir_package"]


def nir_package(call: str) -> Any:
    """Return the package ``nir``, or raise saying what to install."""
    try:
        importlib.import_module("h5py")
        return importlib.import_module("nir")
    except ImportError as error:
        raise ImportError(
            f"{call}: it needs the packages nir and h5py, and {error.name or error} is not there; install them with "
            "pip install 'brainhw[nir]'."
        ) from error
