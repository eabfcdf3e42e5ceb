"""Figures of reports: `brainhw.visualize` registers its functions, and the ``plot`` of a report finds its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Drawn", "draws"]

Figure = TypeVar("Figure", bound=Callable[..., Any])

# Reports lie below `brainhw.visualize` and must not import it (the contract on imports in pyproject.toml). So the arrow
# stays as it is: each figure registers itself for the class that it draws, and a report knows no figure by name.
_FIGURES: dict[type, Callable[..., Any]] = {}


class Drawn:
    """A report with a figure."""

    def plot(self, **options: Any) -> Any:
        """Draw the figure of this report.

        Parameters
        ----------
        **options
            Options of the function of :mod:`brainhw.visualize` that draws this class, such as ``ax=``: axes to draw
            on. Figures of several panels take no ``ax``.

        Returns
        -------
        matplotlib.axes.Axes or matplotlib.figure.Figure
            What that function returns: the axes, or a figure of several panels.

        Raises
        ------
        TypeError, ValueError
            If the function does not take an option or its value.

        Examples
        --------
        >>> import brainhw as bh
        >>> history = bh.train.History([{"loss": 2.0}, {"loss": 1.5}], best=1, watched="loss")
        >>> history.plot().get_ylabel()
        'loss'
        """
        if type(self) not in _FIGURES:
            # Loaded when the first figure is wanted, by its name as `brainhw.__getattr__` loads it: matplotlib is slow
            # to import, and a program without figures never needs it.
            importlib.import_module("brainhw.visualize")
        return _FIGURES[type(self)](self, **options)


def draws(kind: type) -> Callable[[Figure], Figure]:
    """Register a function as the figure of a class of reports; its first argument is the report."""

    def register(figure: Figure) -> Figure:
        _FIGURES[kind] = figure
        return figure

    return register
