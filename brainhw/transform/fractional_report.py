"""The fractional layers of a network as a table that people read."""

from __future__ import annotations

import dataclasses

import brainstate
import numpy as np

from brainhw import _arguments
from brainhw.nn import FractionalLayer
from brainhw.transform.fractional_orders import fractional_layers

__all__ = ["FractionalLayerSummary", "FractionalSummary", "fractional_summary"]

_HEAD = ("layer", "neurons", "method", "orders", "coefficients", "learnt")


@dataclasses.dataclass(frozen=True, eq=False)
class FractionalLayerSummary:
    """What one fractional layer is, in numbers.

    Attributes
    ----------
    path : str
        Where it stands in the network, as in the names of ``rollout(record=...)``; empty for the network itself.
    kind : str
        Name of its class.
    n_neurons : int
        Number of neurons.
    method : str
        Its scheme.
    orders, coefficients : np.ndarray
        ``[J]`` for J terms, or ``[J, N]`` where neurons differ.
    learns_orders, learns_coefficients : bool
        What is learnt.
    """

    path: str
    kind: str
    n_neurons: int
    method: str
    orders: np.ndarray
    coefficients: np.ndarray
    learns_orders: bool
    learns_coefficients: bool

    def cells(self) -> tuple[str, ...]:
        """Return the texts of one line of the table."""
        learnt = [word for word, is_so in self._learnt() if is_so]
        return (
            self.path or self.kind,
            str(self.n_neurons),
            self.method,
            _numbers(self.orders),
            _numbers(self.coefficients),
            ", ".join(learnt) or "-",
        )

    def _learnt(self) -> tuple[tuple[str, bool], ...]:
        return ("orders", self.learns_orders), ("coefficients", self.learns_coefficients)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FractionalSummary:
    """The fractional layers of a network; printing it shows the table.

    Attributes
    ----------
    layers : tuple of FractionalLayerSummary
        One per layer, in registration order.
    """

    layers: tuple[FractionalLayerSummary, ...]

    def __str__(self) -> str:
        """Return the table."""
        rows = [_HEAD, *(layer.cells() for layer in self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (zip(row, widths, strict=True) for row in rows)
        return "\n".join("  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in lines)

    __repr__ = __str__


def fractional_summary(net: brainstate.nn.Module) -> FractionalSummary:
    """Return the orders, coefficients and methods of all fractional layers, to print or to read.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, or a single layer. Not inside a compiled function, where the numbers are not known.

    Returns
    -------
    FractionalSummary
        Prints as a table. Where neurons differ it shows the smallest and the largest order.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is no module or has no fractional layer.
    RuntimeError
        If called inside a compiled function.

    Examples
    --------
    >>> import brainhw as bh, brainstate
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.FractionalLIFLayer(8, alpha=[0.3, 0.5], coefficients=[1.0, 0.5], learn_coefficients=True),
    ...     bh.nn.LIFSynapse(8, 2),
    ...     bh.nn.FractionalIFLayer(2, alpha=0.9, method="l1"),
    ... )
    >>> print(bh.fractional_summary(net))
    layer     neurons  method  orders    coefficients  learnt
    layers.0  8        gl      0.3, 0.5  1, 0.5        coefficients
    layers.2  2        l1      0.9       1             -
    """
    call = "fractional_summary"
    return FractionalSummary(tuple(_summary(path, layer, call) for path, layer in fractional_layers(net, call=call)))


def _summary(path: str, layer: FractionalLayer, call: str) -> FractionalLayerSummary:
    orders, coefficients = layer.orders(), layer.term_coefficients()
    if not _arguments.is_concrete((orders, coefficients)):
        raise RuntimeError(
            f"{call}: the orders are being traced and have no numbers yet; call it outside of jit and grad, or use "
            "get_per_layer_alpha."
        )
    return FractionalLayerSummary(
        path=path,
        kind=type(layer).__name__,
        n_neurons=layer.n_neurons,
        method=layer.method,
        orders=np.asarray(orders),
        coefficients=np.asarray(coefficients),
        learns_orders=layer.learns_alpha,
        learns_coefficients=layer.learns_coefficients,
    )


def _numbers(values: np.ndarray) -> str:
    """Return one text for all terms, each a number, or the range of it over the neurons."""
    return ", ".join(
        f"{term.min():.4g}" if term.min() == term.max() else f"{term.min():.4g} to {term.max():.4g}" for term in values
    )
