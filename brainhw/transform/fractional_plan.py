"""Reads the arguments of ``set_fractional_orders`` into one plan for each layer; the layers check the ranges."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from brainhw import _arguments
from brainhw.nn.fractional_terms import Names

__all__ = ["LayerPlan", "plan_layers"]

_MODES = ("auto", "per_layer", "multiterm")


class LayerPlan(NamedTuple):
    """The orders of one layer.

    Attributes
    ----------
    alpha, coefficients : Any
        As the layer itself takes them: a list of terms, or one order; a list of numbers, or ``None`` for ones.
    learn_alpha, learn_coefficients : bool or str
        False, True or ``'raw'``.
    names : Names
        Where in the arguments of the call they were written.
    """

    alpha: Any
    coefficients: list[float] | None
    learn_alpha: bool | str
    learn_coefficients: bool | str
    names: Names

    @property
    def is_operator(self) -> bool:
        """Whether the orders were written as the terms of an operator, even of one term."""
        return _is_list(self.alpha)


def plan_layers(
    alpha: Any,
    coefficients: Any,
    mode: Any,
    learn_alpha: Any,
    learn_coefficients: Any,
    *,
    sizes: Sequence[tuple[int, ...]],
    call: str,
) -> tuple[list[LayerPlan], list[str]]:
    """Return the plan of each layer, of shape ``sizes[i]``, and the texts of the warnings.

    The other arguments are those of :func:`brainhw.set_fractional_orders`.
    """
    reader = _Reader(sizes, call)
    rows = reader.rows(alpha, coefficients, _arguments.choice(mode, _MODES, call=call, name="alpha_mode"))
    flags = zip(
        reader.flags(learn_alpha, "learn_alpha"), reader.flags(learn_coefficients, "learn_coefficient"), strict=True
    )
    plans = [
        LayerPlan(orders, factors, *learnt, Names(of_orders, of_factors, "learn_alpha", "learn_coefficient"))
        for (orders, factors, of_orders, of_factors), learnt in zip(rows, flags, strict=True)
    ]
    return plans, reader.notes


# Orders, coefficients, and the names of both, of one layer.
Row = tuple[Any, "list[float] | None", str, str]


class _Reader:
    """Reads the arguments of one call for layers of known sizes, and collects the warnings."""

    def __init__(self, sizes: Sequence[tuple[int, ...]], call: str) -> None:
        self.sizes, self.call = sizes, call
        self.notes: list[str] = []

    def rows(self, alpha: Any, coefficients: Any, mode: str) -> list[Row]:
        n_layers = len(self.sizes)
        if not _has_entries(alpha):
            if not isinstance(alpha, numbers.Number) and not hasattr(alpha, "dtype"):
                raise TypeError(
                    f"{self.call}: alpha must be one order, a list of orders, or a list with the terms of each layer; "
                    f"got {_arguments.describe(alpha)}."
                )
            self._note_ignored(coefficients, "one order for the whole network")
            return [(self._order(alpha, "alpha", (1,)), None, "alpha", "")] * n_layers
        entries = self._entries(alpha, "alpha", "the terms of a layer, alpha.tolist(), or its neurons, list(alpha)")
        if any(map(_has_entries, entries)):
            return self._nested(entries, coefficients, mode)
        orders = [self._order(entry, f"alpha[{i}]", (1,)) for i, entry in enumerate(entries)]
        if self._is_per_layer(len(orders), coefficients, mode):
            self._note_ignored(coefficients, "one order per layer")
            return [(order, None, f"alpha[{i}]", "") for i, order in enumerate(orders)]
        given = None if coefficients is None else self._entries(coefficients, "multi_coefficient")
        if given is not None and not any(entry is None or _has_entries(entry) for entry in given):
            shared = self._coefficients(given, "multi_coefficient", len(orders))
            return [(orders, shared, "alpha", "multi_coefficient")] * n_layers
        return [(orders, *row) for row in self._coefficients_by_layer(given, [len(orders)] * n_layers, ["alpha"])]

    def flags(self, value: Any, name: str) -> list[Any]:
        entries = list(value) if _has_entries(value) else [value] * len(self.sizes)
        self._check_one_per_layer(entries, name)
        for i, entry in enumerate(entries):
            if not isinstance(entry, (bool, np.bool_)) and not (isinstance(entry, str) and entry == "raw"):
                raise TypeError(
                    f"{self.call}: {name}{f'[{i}]' if _has_entries(value) else ''} must be True, False or 'raw', or a "
                    f"list of one per layer; got {_arguments.describe(entry)}."
                )
        return entries

    def _is_per_layer(self, n: int, coefficients: Any, mode: str) -> bool:
        n_layers = len(self.sizes)
        if mode == "per_layer" and n != n_layers:
            raise ValueError(
                f"{self.call}: alpha_mode='per_layer' takes one order for each of the {n_layers} fractional layer(s); "
                f"got {n}. Give {n_layers}, or alpha_mode='multiterm' if they are the terms of one operator."
            )
        if mode != "auto" or coefficients is not None:
            return mode == "per_layer"
        if n == n_layers:
            self.notes.append(
                f"a list of {n} order(s) for {n} fractional layer(s) can be read in two ways; each layer gets one. "
                "Pass alpha_mode='per_layer' to confirm, or alpha_mode='multiterm' to give every layer all of them as "
                "the terms of one operator."
            )
            return True
        self.notes.append(
            f"a list of {n} order(s) does not match {n_layers} fractional layer(s), so every layer gets all of them as "
            f"the terms of one operator. Pass alpha_mode='multiterm' to confirm, or give {n_layers} order(s)."
        )
        return False

    def _nested(self, entries: list[Any], coefficients: Any, mode: str) -> list[Row]:
        if mode == "multiterm" and not any(map(_is_list, entries)):
            raise ValueError(
                f"{self.call}: an array inside alpha holds the orders of one layer's neurons, but alpha_mode is "
                "'multiterm'; leave the mode out, or give every layer a list of its terms, [[term, term], ...]."
            )
        self._check_one_per_layer(entries, "alpha")
        names = [f"alpha[{i}]" for i in range(len(entries))]
        alphas = [self._layer_orders(*row) for row in zip(entries, names, self.sizes, strict=True)]
        given = None if coefficients is None else self._entries(coefficients, "multi_coefficient")
        rows = self._coefficients_by_layer(given, [len(a) if _is_list(a) else 1 for a in alphas], names)
        return [(alpha, *row) for alpha, row in zip(alphas, rows, strict=True)]

    def _layer_orders(self, entry: Any, name: str, size: tuple[int, ...]) -> Any:
        if not _is_list(entry):
            return self._order(entry, name, size)
        return [self._order(term, f"{name}[{j}]", size) for j, term in enumerate(self._entries(entry, name))]

    def _coefficients_by_layer(
        self, given: list[Any] | None, n_terms: list[int], alpha_names: list[str]
    ) -> list[tuple[list[float] | None, str, str]]:
        given = [None] * len(self.sizes) if given is None else given
        self._check_one_per_layer(given, "multi_coefficient")
        rows = []
        for i, (entry, n) in enumerate(zip(given, n_terms, strict=True)):
            name, found = f"multi_coefficient[{i}]", None
            if _has_entries(entry):
                found = self._coefficients(self._entries(entry, name), name, n)
            elif entry is not None:
                found = [self._coefficient(entry, name)] * n
            rows.append((found, alpha_names[i % len(alpha_names)], name))
        return rows

    def _coefficients(self, values: list[Any], name: str, n_terms: int) -> list[float]:
        if len(values) != n_terms:
            raise ValueError(
                f"{self.call}: {name} must hold one coefficient for each of the {n_terms} term(s) of alpha; got "
                f"{len(values)}. Give {n_terms}, or None for ones."
            )
        return [self._coefficient(value, f"{name}[{j}]") for j, value in enumerate(values)]

    def _coefficient(self, value: Any, name: str) -> float:
        if _has_entries(value):
            raise TypeError(f"{self.call}: {name} must be a number; got {_arguments.describe(value)}.")
        return float(np.reshape(_arguments.number(value, call=self.call, name=name, shapes=None), ()))

    def _order(self, value: Any, name: str, size: tuple[int, ...]) -> Any:
        """Return one order, or an array of one per neuron; an array of one number stands for every neuron."""
        if _is_list(value):
            raise TypeError(
                f"{self.call}: {name} must be a number, or an array of one order per neuron; got "
                f"{_arguments.describe(value)}. Terms are given one list per layer, and not deeper."
            )
        shapes = [np.shape(value)] if np.size(value) == 1 else [(), size]
        order = np.asarray(_arguments.number(value, call=self.call, name=name, shapes=shapes))
        return float(order.reshape(())) if order.size == 1 else order

    def _entries(self, value: Any, name: str, rows_are: str | None = None) -> list[Any]:
        """Return the entries of a list or array; those of two axes are rows, refused if they could be ``rows_are``."""
        if not _has_entries(value):
            raise TypeError(
                f"{self.call}: {name} must be None or a list with one coefficient per term or one entry per layer; got "
                f"{_arguments.describe(value)}."
            )
        axes = 1 if _is_list(value) else np.ndim(value)
        if axes > (1 if rows_are else 2):
            hint = f"; say whether its rows are {rows_are}." if rows_are and axes == 2 else "."
            raise ValueError(f"{self.call}: {name} must be a list or one-dimensional; got {axes} axes{hint}")
        entries = list(value)
        if not entries:
            raise ValueError(f"{self.call}: {name} is empty; give at least one number.")
        return entries

    def _check_one_per_layer(self, entries: list[Any], name: str) -> None:
        if len(entries) != len(self.sizes):
            raise ValueError(
                f"{self.call}: {name} must have one entry for each of the {len(self.sizes)} fractional layer(s); got "
                f"{len(entries)}. Layers count in the order in which they were registered."
            )

    def _note_ignored(self, coefficients: Any, reason: str) -> None:
        if coefficients is not None:
            self.notes.append(
                f"multi_coefficient is ignored, because alpha is {reason}. Leave it out, or give alpha as terms: "
                "a list with alpha_mode='multiterm', or one list per layer."
            )


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _has_entries(value: Any) -> bool:
    """Whether ``value`` is a list, or an array of more or less than one number."""
    return _is_list(value) or (hasattr(value, "dtype") and np.size(value) != 1)
