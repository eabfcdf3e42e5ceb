"""Parametrisation of a test with all combinations of several options, of which few are fast tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest

__all__ = ["crossed"]


def crossed(**options: Iterable[Any]) -> pytest.MarkDecorator:
    """Return a mark that runs a test with every combination of the options.

    The fast tests contain every value of each option at least once, in as many combinations as the longest option has
    values. The other combinations are slow tests.
    """
    values = [list(one) for one in options.values()]
    longest = max(map(len, values))
    fast = {tuple(row % len(one) for one in values) for row in range(longest)}
    rows = [
        pytest.param(
            *(one[at] for one, at in zip(values, places, strict=True)),
            marks=() if places in fast else pytest.mark.slow,
            id="-".join(_name(one[at], at, option) for option, one, at in zip(options, values, places, strict=True)),
        )
        for places in itertools.product(*(range(len(one)) for one in values))
    ]
    return pytest.mark.parametrize(list(options), rows)


def _name(value: Any, at: int, option: str) -> str:
    """Return the name of a value in the id of a test, as pytest chooses it."""
    return str(value) if isinstance(value, str | int | float | bool | None) else getattr(value, "__name__", f"{option}{at}")
