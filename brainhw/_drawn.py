"""Method ``plot`` of reports, and a registry of the functions in `brainhw.visualize` that draw reports."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Drawn", "draws"]

Figure = TypeVar("Figure", bound=Callable[..., Any])

# Modules with reports must not import `brainhw.visualize`, because it imports these modules (see the import contract in
# pyproject.toml). So each drawing function of `brainhw.visualize` is registered here for one class of reports.
_FIGURES: dict[type, Callable[..., Any]] = {}


class Drawn:
    """Base class for reports that can be drawn as a figure."""

    def plot(self, **options: Any) -> Any:
        """Draw this report as a figure.

        Parameters
        ----------
        **options
            Options of the function of :mod:`brainhw.visualize` that draws this class, such as ``ax=`` for the axes to
            draw on. Functions that draw several panels do not accept ``ax``.

        Returns
        -------
        matplotlib.axes.Axes or matplotlib.figure.Figure
            The axes, or the figure if it has several panels.

        Raises
        ------
        TypeError, ValueError
            If the drawing function does not accept an option or its value.

        Examples
        --------
        >>> import brainhw as bh
        >>> history = bh.train.History([{"loss": 2.0}, {"loss": 1.5}], best=1, watched="loss")
        >>> history.plot().get_ylabel()
        'loss'
        """
        if type(self) not in _FIGURES:
            # Import the module only when the first figure is drawn, because matplotlib is slow to import and programs
            # without figures do not need it.
            importlib.import_module("brainhw.visualize")
        return _FIGURES[type(self)](self, **options)


def draws(kind: type) -> Callable[[Figure], Figure]:
    """Return a decorator that registers a function to draw reports of the class ``kind``.

    The first argument of the registered function is the report.
    """

    def register(figure: Figure) -> Figure:
        _FIGURES[kind] = figure
        return figure

    return register
