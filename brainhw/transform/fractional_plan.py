"""What ``set_fractional_orders`` was asked for: a plan for each layer, read and checked before any layer changes."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from brainhw import _arguments

__all__ = ["LayerPlan", "plan_layers"]

_MODES = ("auto", "per_layer", "multiterm")


@dataclasses.dataclass(frozen=True)
class LayerPlan:
    """What one layer is to get.

    Attributes
    ----------
    alpha : list
        One entry per term: a float, or an array ``[N]`` of one order per neuron.
    coefficients : list of float or None
        One per term; ``None`` is one for each.
    operator : bool
        Whether the orders were written as the terms of an operator, if only of one term.
    learn_alpha, learn_coefficients : bool or str
        False, True or ``'raw'``.
    """

    alpha: list[Any]
    coefficients: list[float] | None
    operator: bool
    learn_alpha: bool | str = False
    learn_coefficients: bool | str = False


def plan_layers(
    alpha: Any,
    coefficients: Any,
    mode: Any,
    learn_alpha: Any,
    learn_coefficients: Any,
    *,
    sizes: Sequence[int],
    call: str,
) -> tuple[list[LayerPlan], list[str]]:
    """Return the plan of each layer, and what the caller should be warned of.

    Parameters
    ----------
    alpha, coefficients, mode, learn_alpha, learn_coefficients
        The arguments of :func:`brainhw.set_fractional_orders`.
    sizes : sequence of int
        Number of neurons of each layer.
    call : str
        The call, for the messages.
    """
    reader = _Reader(sizes, call)
    plans = reader.plans(alpha, coefficients, _arguments.choice(mode, _MODES, call=call, name="alpha_mode"))
    flags = zip(
        plans,
        reader.flags(learn_alpha, "learn_alpha"),
        reader.flags(learn_coefficients, "learn_coefficient"),
        strict=True,
    )
    plans = [
        dataclasses.replace(plan, learn_alpha=of_alpha, learn_coefficients=of_coefficients)
        for plan, of_alpha, of_coefficients in flags
    ]
    for layer, plan in enumerate(plans):
        _check_range(plan, layer, call)
    return plans, reader.notes


def _check_range(plan: LayerPlan, layer: int, call: str) -> None:
    """Raise if a constrained parameter would have to start on the border of its range, or beyond."""
    if plan.learn_alpha is True and any(np.any(np.asarray(order) >= 1) for order in plan.alpha):
        raise ValueError(
            f"{call}: learn_alpha=True keeps orders between 0 and 1, so they must start below 1; got 1 for layer "
            f"{layer}. Start at 0.99, or pass learn_alpha='raw'."
        )
    least = min(plan.coefficients or [1.0])
    if plan.learn_coefficients != "raw" and least <= 0:
        raise ValueError(
            f"{call}: multi_coefficient must be greater than 0; got {least:g} for layer {layer}. Pass "
            "learn_coefficient='raw' to start from, and allow, any other."
        )


class _Reader:
    """Reads the arguments of one call, given the sizes of the layers, and notes what the caller should hear."""

    def __init__(self, sizes: Sequence[int], call: str) -> None:
        self.sizes, self.call = sizes, call
        self.notes: list[str] = []

    def plans(self, alpha: Any, coefficients: Any, mode: str) -> list[LayerPlan]:
        if not _has_entries(alpha):
            self._check_is_number(alpha)
            self._note_ignored(coefficients, "one order for the whole network")
            return [LayerPlan([self._order(alpha, "alpha")], None, False)] * len(self.sizes)
        entries = self._entries(alpha, "alpha", "the terms of a layer, alpha.tolist(), or its neurons, list(alpha)")
        if any(map(_has_entries, entries)):
            return self._nested(entries, coefficients, mode)
        orders = [self._order(entry, f"alpha[{i}]") for i, entry in enumerate(entries)]
        if self._is_per_layer(len(orders), coefficients, mode):
            self._note_ignored(coefficients, "one order per layer")
            return [LayerPlan([order], None, False) for order in orders]
        return [LayerPlan(orders, of_layer, True) for of_layer in self._for_shared_terms(coefficients, len(orders))]

    def flags(self, value: Any, name: str) -> list[bool | str]:
        if not _has_entries(value):
            return [self._flag(value, name)] * len(self.sizes)
        entries = list(value)
        self._check_one_per_layer(entries, name)
        return [self._flag(entry, f"{name}[{i}]") for i, entry in enumerate(entries)]

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
                f"a list of {n} order(s) for {n} fractional layer(s) can be read in two ways; each layer gets one. Say "
                "alpha_mode='per_layer' if that is meant, alpha_mode='multiterm' if every layer is to have all of them "
                "as the terms of one operator."
            )
            return True
        self.notes.append(
            f"a list of {n} order(s) does not match {n_layers} fractional layer(s), so every layer gets all of them as "
            f"the terms of one operator. Say alpha_mode='multiterm' if that is meant, or give {n_layers} order(s)."
        )
        return False

    def _nested(self, entries: list[Any], coefficients: Any, mode: str) -> list[LayerPlan]:
        if mode == "multiterm" and not any(map(_is_list, entries)):
            raise ValueError(
                f"{self.call}: an array inside alpha holds the orders of one layer's neurons, but alpha_mode is "
                "'multiterm'; leave the mode out, or give every layer a list of its terms, [[term, term], ...]."
            )
        self._check_one_per_layer(entries, "alpha")
        alphas = [self._layer_terms(entry, layer) for layer, entry in enumerate(entries)]
        given: list[Any] = [None] * len(entries)
        if coefficients is not None:
            given = self._entries(coefficients, "multi_coefficient")
            self._check_one_per_layer(given, "multi_coefficient")
        return [
            LayerPlan(alpha, self._of_layer(given[layer], layer, len(alpha)), _is_list(entries[layer]))
            for layer, alpha in enumerate(alphas)
        ]

    def _layer_terms(self, entry: Any, layer: int) -> list[Any]:
        name, n = f"alpha[{layer}]", self.sizes[layer]
        if not _is_list(entry):
            return [self._order(entry, name, n)]
        return [self._order(term, f"{name}[{j}]", n) for j, term in enumerate(self._entries(entry, name))]

    def _for_shared_terms(self, coefficients: Any, n_terms: int) -> list[list[float] | None]:
        if coefficients is None:
            return [None] * len(self.sizes)
        given = self._entries(coefficients, "multi_coefficient")
        if not any(entry is None or _has_entries(entry) for entry in given):
            return [self._coefficients(given, "multi_coefficient", n_terms)] * len(self.sizes)
        self._check_one_per_layer(given, "multi_coefficient")
        return [self._of_layer(entry, layer, n_terms) for layer, entry in enumerate(given)]

    def _of_layer(self, value: Any, layer: int, n_terms: int) -> list[float] | None:
        name = f"multi_coefficient[{layer}]"
        if value is None:
            return None
        if _has_entries(value):
            return self._coefficients(self._entries(value, name), name, n_terms)
        return [self._coefficient(value, name)] * n_terms

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

    def _order(self, value: Any, name: str, n: int = 1) -> Any:
        """Return one order, or an array of one per neuron; an array of one number stands for every neuron."""
        if _is_list(value):
            raise TypeError(
                f"{self.call}: {name} must be a number, or an array of one order per neuron; got "
                f"{_arguments.describe(value)}. Terms are given one list per layer, and not deeper."
            )
        shapes = [np.shape(value)] if np.size(value) == 1 else [(), (n,)]
        order = np.asarray(_arguments.number(value, call=self.call, name=name, shapes=shapes))
        if not np.all((order > 0) & (order <= 1)):
            wrong = order[(order <= 0) | (order > 1)].flat[0]
            raise ValueError(
                f"{self.call}: {name} must be greater than 0 and at most 1; got {wrong:g}. An order near 0 remembers "
                "longest, 1 is the ordinary derivative."
            )
        return float(order.reshape(())) if order.size == 1 else order

    def _flag(self, value: Any, name: str) -> bool | str:
        if isinstance(value, (bool, np.bool_)):
            return bool(value)
        if isinstance(value, str) and value == "raw":
            return value
        raise TypeError(
            f"{self.call}: {name} must be True, False or 'raw', or a list of one per layer; got "
            f"{_arguments.describe(value)}."
        )

    def _entries(self, value: Any, name: str, rows_are: str | None = None) -> list[Any]:
        """Return what a list or array holds, of two axes the rows, unless those could be ``rows_are``."""
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

    def _check_is_number(self, alpha: Any) -> None:
        if not isinstance(alpha, numbers.Number) and not hasattr(alpha, "dtype"):
            raise TypeError(
                f"{self.call}: alpha must be one order, a list of orders, or a list with the terms of each layer; got "
                f"{_arguments.describe(alpha)}."
            )

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
    """Whether ``value`` is a list, or an array of other than one number."""
    return _is_list(value) or (hasattr(value, "dtype") and np.size(value) != 1)
