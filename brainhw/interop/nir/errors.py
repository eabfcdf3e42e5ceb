"""Errors of the NIR exchange: every problem of a network in one error, and missing packages."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["NIRError", "Problems", "nir_package"]


class NIRError(ValueError):
    """A network cannot be exchanged without changing what it computes, or a file is not sound.

    Attributes
    ----------
    problems : tuple of str
        One sentence for each: where, what it is, why it is refused and what to do.

    Examples
    --------
    >>> from brainhw.interop.nir import NIRError
    >>> NIRError("to_nir", ["hidden (a FractionalLIFLayer) has no NIR form; leave it out."]).problems
    ('hidden (a FractionalLIFLayer) has no NIR form; leave it out.',)
    """

    def __init__(self, call: str, problems: list[str] | tuple[str, ...]) -> None:
        self.problems = tuple(problems)
        listed = self.problems[0] if len(self.problems) == 1 else "".join(f"\n- {text}" for text in self.problems)
        count = "" if len(self.problems) == 1 else f" {len(self.problems)} problems:"
        super().__init__(f"{call}:{count}{'' if count else ' '}{listed}")


class Problems:
    """Collects problems, so that one error lists all of them."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.found: list[str] = []

    def add(self, where: str, what: str, why: str) -> None:
        """Add a problem of the module or node ``where``, which is a ``what``; ``why`` ends with the advice."""
        text = f"{where} ({what}) {why}"
        if text not in self.found:
            self.found.append(text)

    def raise_any(self) -> None:
        """Raise everything that was found, if anything was."""
        if self.found:
            raise NIRError(self.call, self.found)


def nir_package(call: str) -> Any:
    """Return the package ``nir``, or raise an error that says what to install."""
    try:
        importlib.import_module("h5py")
        return importlib.import_module("nir")
    except ImportError as error:
        raise ImportError(
            f"{call}: it needs the packages nir and h5py, and {error.name or error} is not there; install them with "
            "pip install 'brainhw[nir]'."
        ) from error
