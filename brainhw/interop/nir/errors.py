"""Errors of NIR import and export."""

from __future__ import annotations

import importlib
from typing import Any

from brainhw import _arguments

__all__ = ["NIRError", "Problems", "nir_package"]


class NIRError(ValueError):
    """Raised if a network or graph cannot be converted exactly, or if a file cannot be read.

    Attributes
    ----------
    problems : tuple of str
        One sentence per problem, with the module or node, the reason and the fix.

    Examples
    --------
    >>> from brainhw.interop.nir import NIRError
    >>> NIRError("to_nir", ["hidden (a FractionalLIFLayer) cannot be represented in NIR; remove it."]).problems
    ('hidden (a FractionalLIFLayer) cannot be represented in NIR; remove it.',)
    """

    def __init__(self, call: str, problems: list[str] | tuple[str, ...]) -> None:
        _arguments.text(call, call="NIRError", name="call")
        given = _arguments.several(problems, call="NIRError", name="problems", of="sentences")
        self.problems = tuple(_arguments.text(one, call="NIRError", name="problems") for one in given)
        if len(self.problems) == 1:
            super().__init__(f"{call}: {self.problems[0]}")
        else:
            listed = "".join(f"\n- {text}" for text in self.problems)
            super().__init__(f"{call}: {len(self.problems)} problems:{listed}")


class Problems:
    """Collects the problems of an import or export, so that one error can report all of them."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.found: list[str] = []

    def add(self, where: str, what: str, why: str) -> None:
        """Record a problem, unless the same problem is already recorded.

        ``where`` names the module, the node or the edge. ``what`` is its class or describes the fault in a word.
        ``why`` states the reason and the fix.
        """
        text = f"{where} ({what}) {why}"
        # A module with several targets is checked once per target, which finds the same problem again.
        if text not in self.found:
            self.found.append(text)

    def raise_any(self) -> None:
        """Raise a `NIRError` that lists all recorded problems. Return if there are none."""
        if self.found:
            raise NIRError(self.call, self.found)


def nir_package(call: str) -> Any:
    """Import the package ``nir`` and return it.

    Raise ``ImportError`` with install instructions if ``nir`` or ``h5py`` is missing.
    """
    try:
        importlib.import_module("h5py")
        return importlib.import_module("nir")
    except ImportError as error:
        raise ImportError(
            f"{call}: the packages nir and h5py are required, but {error.name or error} is not installed. Install both "
            "with pip install 'brainhw[nir]'."
        ) from error
