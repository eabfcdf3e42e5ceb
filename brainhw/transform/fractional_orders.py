"""Set the fractional orders of a whole network in one call, and read them per layer or as a table."""

from __future__ import annotations

import dataclasses
import numbers
import warnings
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

import brainstate
import jax
import numpy as np

from brainhw import _arguments
from brainhw._printing import printable
from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.nn import FractionalLayer
from brainhw.nn.fractional_terms import Names, make_terms
from brainhw.transform.trace import registered_modules

__all__ = [
    "FractionalLayerSummary",
    "FractionalSummary",
    "fractional_layers",
    "fractional_summary",
    "get_per_layer_alpha",
    "get_per_layer_coefficient",
    "set_fractional_orders",
]

AlphaMode = Literal["auto", "per_layer", "multiterm"]
_MODES: tuple[AlphaMode, ...] = get_args(AlphaMode)


def set_fractional_orders(
    net: brainstate.nn.Module,
    alpha: Any,
    *,
    multi_coefficient: Any = None,
    alpha_mode: AlphaMode = "auto",
    learn_alpha: Any = False,
    learn_coefficient: Any = False,
) -> None:
    r"""Set the fractional orders of every fractional layer of a network, in place.

    The membrane of each layer then follows

    .. math:: \sum_j w_j \, \tau^{\alpha_j} D^{\alpha_j} V = I - V

    where each layer has its own orders :math:`\alpha_j` and coefficients :math:`w_j`. For a layer without leak, the
    right side is :math:`I`. If the layer has a ``time_scale`` :math:`T`, the factor :math:`\tau^{\alpha_j}` is replaced
    by :math:`\tau \, T^{\alpha_j - 1}`. The values of ``alpha`` have the same meaning as in spikeDE's ``SNNWrapper``
    (Ge et al. 2026, arXiv 2507.16937):

    ===========================  =====================================================================================
    alpha                        orders of the layers
    ===========================  =====================================================================================
    ``0.6``                      this order for every layer
    ``[0.3, 0.8]``               ``alpha_mode='per_layer'``: one order per layer. ``'multiterm'``: every layer gets all
                                 orders, as the terms of the sum above. ``'auto'``: see ``alpha_mode``
    ``[[0.3, 0.5], [0.4]]``      one list of terms per layer; a number instead of a list is a single term
    ``[array [N], 0.4]``         an array inside the list: one order per neuron of that layer (not in spikeDE)
    ===========================  =====================================================================================

    Layers are counted in registration order. A layer that is used in several places counts once.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, or a single layer.
    alpha : float, array, or list of floats, arrays and lists
        The orders, each in (0, 1]; see the table. A one-dimensional array is treated as a list of its elements, and an
        array with one element as a scalar. Inside a list, an array ``[N]`` means one order per neuron. Such an array
        may also be one of several terms, ``[[array, 0.4], ...]``.
    multi_coefficient : list or array, optional
        The coefficients :math:`w_j`. If all layers get the same list of terms, pass one number per term, or one entry
        per layer. If each layer has its own list of terms, pass one entry per layer. An entry is a list with one number
        per term, a single number for all terms, or ``None``, which means 1 for all terms. Default: 1 for all terms.
    alpha_mode : {'auto', 'per_layer', 'multiterm'}, optional
        How to read a list of plain numbers: as one order per layer, or as the terms that every layer gets. ``'auto'``
        (default) reads terms if ``multi_coefficient`` is passed. Without ``multi_coefficient``, it reads one order per
        layer if the list has one entry per layer, otherwise terms. In both of these cases, it warns that the list is
        ambiguous.
    learn_alpha, learn_coefficient : bool, 'raw', or list of them, optional
        Whether the orders and the coefficients are trainable: one value for all layers, or a list with one entry per
        layer. True keeps the trainable values in range; ``'raw'`` does not, as in spikeDE. Default False.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is not a module or has no fractional layer, or if an argument has the wrong type, length or range.
        No layer is changed in this case.

    Warns
    -----
    UserWarning
        If a list of numbers is ambiguous, if coefficients are ignored, or if a layer whose method is not ``'gl'`` gets
        a list of terms. Only ``'gl'`` can solve several terms, so the method of that layer becomes ``'gl'``, and its
        states are created again.

    Notes
    -----
    This function creates new parameters. Call it before the optimiser registers the parameters, and before you compile
    a function that uses the network.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.LIFSynapse(4, 3), bh.nn.FractionalLIFLayer(3), bh.nn.LIFSynapse(3, 2), bh.nn.FractionalLIFLayer(2)
    ... )
    >>> bh.set_fractional_orders(net, [0.3, 0.8], alpha_mode="per_layer", learn_alpha=[False, True])
    >>> [round(float(alpha[0]), 3) for alpha in bh.get_per_layer_alpha(net)]
    [0.3, 0.8]
    >>> bh.set_fractional_orders(net, [0.3, 0.5, 0.7], multi_coefficient=[1.0, 0.5, 0.2])
    >>> [alpha.shape for alpha in bh.get_per_layer_alpha(net)]
    [(3,), (3,)]
    """
    call = "set_fractional_orders"
    named = fractional_layers(net, call=call)
    assigner = _OrderAssigner([layer.in_size for _, layer in named], call)
    rows = assigner.rows(alpha, multi_coefficient, _arguments.choice(alpha_mode, _MODES, call=call, name="alpha_mode"))
    learn_alphas = assigner.flags(learn_alpha, "learn_alpha")
    learn_coefficients = assigner.flags(learn_coefficient, "learn_coefficient")
    changes = []
    for (path, layer), row, *trainable in zip(named, rows, learn_alphas, learn_coefficients, strict=True):
        where, method = path or type(layer).__name__, layer.method
        if _is_list(row.alpha) and method != "gl":
            assigner.notes.append(
                f"{where} gets its orders as the terms of one operator, which method {method!r} cannot solve. Its "
                "method becomes 'gl'. Build the layer with method='gl', or pass a single number for it."
            )
            method = "gl"
        names = Names(row.alpha_name, row.coefficients_name, "learn_alpha", "learn_coefficient")
        options: dict[str, Any] = {"size": layer.in_size, "method": method, "call": f"{call}: layer {where}"}
        changes.append((layer, method, make_terms(row.alpha, row.coefficients, *trainable, names=names, **options)))
    # Warn before the first change: a filter may turn a warning into an error, and a failed call must change no layer.
    for note in assigner.notes:
        warnings.warn(f"{call}: {note}", UserWarning, stacklevel=2)
    for layer, method, terms in changes:
        if layer.method != method:
            layer.method = method
        layer.take_terms(terms)


class _Row(NamedTuple):
    """Orders and coefficients for one layer, as arguments of the layer, and their names for error messages."""

    alpha: Any
    coefficients: list[Any] | None
    alpha_name: str
    coefficients_name: str


class _OrderAssigner:
    """Assign the orders and coefficients passed to :func:`set_fractional_orders` to the layers, and collect warnings.

    The values are checked by the layers.
    """

    def __init__(self, sizes: list[tuple[int, ...]], call: str) -> None:
        self.sizes, self.call = sizes, call
        self.notes: list[str] = []

    def rows(self, alpha: Any, coefficients: Any, mode: str) -> list[_Row]:
        n_layers = len(self.sizes)
        if not _has_entries(alpha):
            if not isinstance(alpha, numbers.Number) and not hasattr(alpha, "dtype"):
                raise TypeError(
                    f"{self.call}: alpha must be one order, a list of orders, or a list with one list of terms per "
                    f"layer; got {_arguments.describe(alpha)}."
                )
            self._note_ignored(coefficients, "one order for the whole network")
            return [_Row(_as_scalar(alpha), None, "alpha", "")] * n_layers
        entries = self._entries(
            alpha,
            "alpha",
            "alpha.tolist() if a row contains the terms of a layer, or list(alpha) if it contains one order per neuron",
        )
        if any(map(_has_entries, entries)):
            return self._rows_per_layer(entries, coefficients, mode)
        orders = [_as_scalar(entry) for entry in entries]
        if self._is_per_layer(len(orders), coefficients, mode):
            self._note_ignored(coefficients, "one order per layer")
            return [_Row(order, None, f"alpha[{i}]", "") for i, order in enumerate(orders)]
        given = self._coefficient_entries(coefficients)
        if given is not None and not any(entry is None or _has_entries(entry) for entry in given):
            return [_Row(orders, given, "alpha", "multi_coefficient")] * n_layers
        return self._with_coefficients([orders] * n_layers, ["alpha"] * n_layers, given)

    def flags(self, value: Any, name: str) -> list[Any]:
        entries = list(value) if _has_entries(value) else [value] * len(self.sizes)
        self._check_one_per_layer(entries, name)
        for i, entry in enumerate(entries):
            if not isinstance(entry, (bool, np.bool_)) and not (isinstance(entry, str) and entry == "raw"):
                raise TypeError(
                    f"{self.call}: {name}{f'[{i}]' if _has_entries(value) else ''} must be True, False or 'raw', or a "
                    f"list with one of these per layer; got {_arguments.describe(entry)}."
                )
        return entries

    def _is_per_layer(self, n: int, coefficients: Any, mode: str) -> bool:
        n_layers = len(self.sizes)
        if mode == "per_layer" and n != n_layers:
            raise ValueError(
                f"{self.call}: alpha_mode='per_layer' takes one order for each of the {n_layers} fractional layer(s); "
                f"got {n}. Pass {n_layers}, or pass alpha_mode='multiterm' to use them all as terms of one operator."
            )
        if mode != "auto" or coefficients is not None:
            return mode == "per_layer"
        if n == n_layers:
            self.notes.append(
                f"a list of {n} order(s) for {n} fractional layer(s) can be read in two ways. Here each layer gets one "
                "order. Pass alpha_mode='per_layer' to confirm this, or alpha_mode='multiterm' to give every layer all "
                "orders, as the terms of one operator."
            )
            return True
        self.notes.append(
            f"a list of {n} order(s) does not match {n_layers} fractional layer(s), so every layer gets all orders, as "
            f"the terms of one operator. Pass alpha_mode='multiterm' to confirm this, or pass {n_layers} order(s)."
        )
        return False

    def _rows_per_layer(self, entries: list[Any], coefficients: Any, mode: str) -> list[_Row]:
        if mode == "multiterm" and not any(map(_is_list, entries)):
            raise ValueError(
                f"{self.call}: an array inside alpha means one order per neuron of a layer, but alpha_mode is "
                "'multiterm'. Omit alpha_mode, or pass one list of terms per layer, [[term, term], ...]."
            )
        self._check_one_per_layer(entries, "alpha")
        names = [f"alpha[{i}]" for i in range(len(entries))]
        alphas = [self._layer_orders(*row) for row in zip(entries, names, self.sizes, strict=True)]
        return self._with_coefficients(alphas, names, self._coefficient_entries(coefficients))

    def _layer_orders(self, entry: Any, name: str, size: tuple[int, ...]) -> Any:
        if not _is_list(entry):
            # Check the shape here. A layer would also accept an array [J, N] of terms; this call accepts only lists.
            return _arguments.number(_as_scalar(entry), call=self.call, name=name, shapes=[(), size])
        terms = self._entries(entry, name)
        for j, term in enumerate(terms):
            if _is_list(term):
                raise TypeError(
                    f"{self.call}: {name}[{j}] must be a number, or an array of one order per neuron; got "
                    f"{_arguments.describe(term)}. A list of terms must contain no further lists."
                )
        return [_as_scalar(term) for term in terms]

    def _coefficient_entries(self, coefficients: Any) -> list[Any] | None:
        if coefficients is None:
            return None
        return [_as_scalar(entry) for entry in self._entries(coefficients, "multi_coefficient")]

    def _with_coefficients(self, alphas: list[Any], alpha_names: list[str], given: list[Any] | None) -> list[_Row]:
        given = [None] * len(alphas) if given is None else given
        self._check_one_per_layer(given, "multi_coefficient")
        rows = []
        for i, (alpha, alpha_name, entry) in enumerate(zip(alphas, alpha_names, given, strict=True)):
            name, factors = f"multi_coefficient[{i}]", None
            if _has_entries(entry):
                factors = [_as_scalar(factor) for factor in self._entries(entry, name)]
            elif entry is not None:
                factors = [entry] * (len(alpha) if _is_list(alpha) else 1)
            rows.append(_Row(alpha, factors, alpha_name, name))
        return rows

    def _entries(self, value: Any, name: str, rows_are: str | None = None) -> list[Any]:
        """Return the entries of a list or array.

        If ``rows_are`` is passed, a two-dimensional array is ambiguous and raises an error with this hint.
        """
        if not _has_entries(value):
            raise TypeError(
                f"{self.call}: {name} must be None or a list with one coefficient per term or one entry per layer; "
                f"got {_arguments.describe(value)}."
            )
        axes = 1 if _is_list(value) else np.ndim(value)
        if axes > (1 if rows_are else 2):
            hint = f". Pass {rows_are}." if rows_are and axes == 2 else "."
            raise ValueError(f"{self.call}: {name} must be a list or a one-dimensional array; got {axes} axes{hint}")
        entries = list(value)
        if not entries:
            raise ValueError(f"{self.call}: {name} is empty. Pass at least one number.")
        return entries

    def _check_one_per_layer(self, entries: list[Any], name: str) -> None:
        if len(entries) != len(self.sizes):
            raise ValueError(
                f"{self.call}: {name} must have one entry for each of the {len(self.sizes)} fractional layer(s); got "
                f"{len(entries)}. The entries follow the order in which the layers were registered."
            )

    def _note_ignored(self, coefficients: Any, reason: str) -> None:
        if coefficients is not None:
            self.notes.append(
                f"multi_coefficient is ignored, because alpha is {reason}. Omit it, or pass alpha as terms, "
                "either as a list with alpha_mode='multiterm' or as one list per layer."
            )


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _has_entries(value: Any) -> bool:
    """Return whether ``value`` is a list, or an array whose size is not 1."""
    return _is_list(value) or (hasattr(value, "dtype") and np.size(value) != 1)


def _as_scalar(value: Any) -> Any:
    """Return an array of size 1 as a scalar, which applies to every neuron. Return other values unchanged."""
    return value.reshape(()) if hasattr(value, "dtype") and np.size(value) == 1 else value


def get_per_layer_alpha(net: brainstate.nn.Module) -> list[jax.Array]:
    """Return the current orders of every fractional layer.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, or a single layer.

    Returns
    -------
    list of jax.Array
        One array per layer, in registration order: ``[J]`` for J terms, or ``[J, N]`` with one order per neuron.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is not a module or has no fractional layer.

    Examples
    --------
    >>> import brainhw as bh
    >>> bh.get_per_layer_alpha(bh.nn.FractionalLIFLayer(3, alpha=[0.5, 0.25]))[0].tolist()
    [0.5, 0.25]
    """
    return [layer.orders() for _, layer in fractional_layers(net, call="get_per_layer_alpha")]


def get_per_layer_coefficient(net: brainstate.nn.Module) -> list[jax.Array]:
    """Return the current coefficients of the terms of every fractional layer.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, or a single layer.

    Returns
    -------
    list of jax.Array
        One array ``[J]`` per layer with J terms, in registration order. Without coefficients, its elements are 1.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is not a module or has no fractional layer.

    Examples
    --------
    >>> import brainhw as bh
    >>> layer = bh.nn.FractionalLIFLayer(3, alpha=[0.5, 0.25], coefficients=[1.0, 2.0])
    >>> bh.get_per_layer_coefficient(layer)[0].tolist()
    [1.0, 2.0]
    """
    return [layer.term_coefficients() for _, layer in fractional_layers(net, call="get_per_layer_coefficient")]


def fractional_layers(net: Any, *, call: str) -> list[tuple[str, FractionalLayer]]:
    """Return the fractional layers of ``net`` with their paths, in registration order. Raise if there are none."""
    _arguments.check_module(net, call=call)
    modules = registered_modules(net)
    found = [(path, module) for path, module in modules if isinstance(module, FractionalLayer)]
    if not found:
        kinds = ", ".join(dict.fromkeys(type(module).__name__ for path, module in modules if path)) or "nothing"
        raise ValueError(
            f"{call}: the network has no fractional layer (got {kinds}). Build it with bh.nn.FractionalLIFLayer or "
            "bh.nn.FractionalIFLayer."
        )
    return found


_COLUMNS = ("layer", "neurons", "method", "orders", "coefficients", "trainable")


@dataclasses.dataclass(frozen=True, eq=False)
class FractionalLayerSummary:
    """Summary of one fractional layer.

    ``path`` is the path of the layer in the network, as in ``rollout(record=...)``. It is empty for the network itself.
    ``kind`` is the name of the layer's class. ``orders`` has shape ``[J]`` for J terms, or ``[J, N]`` if the neurons of
    the layer have different orders. ``coefficients`` has shape ``[J]``.
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
        """Return the texts in the layer's row of the table."""
        flags = {"orders": self.learns_orders, "coefficients": self.learns_coefficients}
        trainable = ", ".join(name for name, is_trainable in flags.items() if is_trainable) or "-"
        texts = _numbers(self.orders), _numbers(self.coefficients), trainable
        return (self.path or self.kind, str(self.n_neurons), self.method, *texts)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FractionalSummary(Shown):
    """Summary of the fractional layers of a network, in registration order. Printing it shows a table."""

    layers: tuple[FractionalLayerSummary, ...]

    def __str__(self) -> str:
        """Return the summary as a text table."""
        rows = [_COLUMNS, *(layer.cells() for layer in self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (zip(row, widths, strict=True) for row in rows)
        return printable("\n".join("  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in lines))

    __repr__ = __str__

    def _parts(self) -> Iterator[Table]:
        yield Table(_COLUMNS, [layer.cells() for layer in self.layers], left=_COLUMNS)


def fractional_summary(net: brainstate.nn.Module) -> FractionalSummary:
    """Return a summary of the orders, coefficients and methods of all fractional layers.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, or a single layer.

    Returns
    -------
    FractionalSummary
        A summary that prints as a table. If the neurons of a layer have different orders, the table shows the smallest
        and the largest order.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is not a module or has no fractional layer.
    RuntimeError
        If it is called inside a compiled function, where the values of the orders are unknown.

    Examples
    --------
    >>> import brainhw as bh, brainstate
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.FractionalLIFLayer(8, alpha=[0.3, 0.5], coefficients=[1.0, 0.5], learn_coefficients=True),
    ...     bh.nn.LIFSynapse(8, 2),
    ...     bh.nn.FractionalIFLayer(2, alpha=0.9, method="l1"),
    ... )
    >>> print(bh.fractional_summary(net))
    layer     neurons  method  orders    coefficients  trainable
    layers.0  8        gl      0.3, 0.5  1, 0.5        coefficients
    layers.2  2        l1      0.9       1             -
    """
    call = "fractional_summary"
    return FractionalSummary(tuple(_summary(path, layer, call) for path, layer in fractional_layers(net, call=call)))


def _summary(path: str, layer: FractionalLayer, call: str) -> FractionalLayerSummary:
    orders, coefficients = layer.orders(), layer.term_coefficients()
    if not _arguments.is_concrete((orders, coefficients)):
        raise RuntimeError(
            f"{call}: the orders are being traced, so their values are unknown. Call it outside of jit and grad, or "
            "use get_per_layer_alpha."
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
    """Return the values of all terms as text: one number per term, or a range if the value differs between neurons."""
    return ", ".join(
        f"{term.min():.4g}" if term.min() == term.max() else f"{term.min():.4g} to {term.max():.4g}" for term in values
    )
