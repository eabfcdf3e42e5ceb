"""Checks of the fields of public dataclasses, such as reports. Users may also create objects of these classes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import brainunit as u
import numpy as np

from brainhw import _arguments

__all__ = [
    "by_name",
    "check_fields",
    "each",
    "is_a",
    "is_in",
    "numbers",
    "one_of",
    "optional",
    "positive_or_infinite",
    "share",
]

Check = Callable[..., Any]


def check_fields(record: Any, **checks: Check) -> None:
    """Check fields of the object ``record``. ``checks`` contains one function for each field name.

    Each function is called with the value of its field, and with ``call`` and ``name`` for the error message. The
    fields do not change.
    """
    call = type(record).__name__
    for name, check in checks.items():
        check(getattr(record, name), call=call, name=name)


def optional(check: Check) -> Check:
    """Return a check that accepts None, and otherwise applies ``check``."""

    def checked(value: Any, *, call: str, name: str) -> None:
        if value is not None:
            check(value, call=call, name=name)

    return checked


def each(check: Check, of: str) -> Check:
    """Return a check of a tuple or list that applies ``check`` to each item. ``of`` names the items in errors."""

    def checked(value: Any, *, call: str, name: str) -> None:
        if not isinstance(value, (tuple, list)):
            raise TypeError(f"{call}: {name} must be a tuple of {of}; got {_arguments.describe(value)}.")
        for i, item in enumerate(value):
            check(item, call=call, name=f"{name}[{i}]")

    return checked


def by_name(check: Check, of: str, key: type = str) -> Check:
    """Return a check of a mapping that applies ``check`` to each value. Keys must be of type ``key``."""

    def checked(value: Any, *, call: str, name: str) -> None:
        if not isinstance(value, Mapping) or any(not isinstance(one, key) for one in value):
            raise TypeError(
                f"{call}: {name} must be a mapping from {key.__name__} to {of}; got {_arguments.describe(value)}."
            )
        for one, item in value.items():
            check(item, call=call, name=f"{name}[{one!r}]")

    return checked


def is_a(kind: type) -> Check:
    """Return a check that a value is an instance of ``kind``."""
    return functools.partial(_arguments.instance, kind=kind)


def is_in(unit: u.Unit, *, positive: bool = False, nonnegative: bool = False, scalar: bool = True) -> Check:
    """Return a check that a value is a finite Quantity with the dimension of ``unit``.

    The Quantity must be a scalar unless ``scalar`` is False. ``positive`` and ``nonnegative`` also check its sign.
    """
    shapes = [()] if scalar else None
    return functools.partial(_arguments.quantity, unit=unit, positive=positive, nonnegative=nonnegative, shapes=shapes)


def share(value: Any, *, call: str, name: str) -> None:
    """Raise unless the value is a number from 0 to 1."""
    if _arguments.number(value, call=call, name=name, nonnegative=True) > 1:
        raise ValueError(f"{call}: {name} must be a number from 0 to 1; got {_arguments.describe(value)}.")


def positive_or_infinite(value: Any, *, call: str, name: str) -> None:
    """Raise unless the value is a positive number or infinity."""
    # `not value > 0` also rejects NaN.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"{call}: {name} must be a positive number or infinity; got {_arguments.describe(value)}.")


def one_of(*options: str) -> Check:
    """Return a check that a value is one of ``options``."""
    return functools.partial(_arguments.choice, options=options)


def numbers(
    *, ndims: tuple[int, ...] | None = None, finite: bool = True, whole: bool = False, some: bool = False
) -> Check:
    """Return a check that a value is a numeric array without a unit and without NaN.

    ``ndims`` lists the allowed numbers of axes. Infinity is allowed only if ``finite`` is False. With ``whole`` the
    dtype must be an integer type, and with ``some`` the array must not be empty.
    """

    def checked(value: Any, *, call: str, name: str) -> None:
        array = np.asarray(_arguments.as_array(value, call=call, name=name))
        if array.dtype == bool or (whole and array.dtype.kind not in "iu"):
            kind = "integers" if whole else "numbers"
            raise TypeError(f"{call}: {name} must be an array of {kind}; got {_arguments.describe(value)}.")
        if ndims is not None and array.ndim not in ndims:
            wanted = " or ".join(map(str, ndims))
            raise ValueError(f"{call}: {name} must be an array of {wanted} axes; got shape {array.shape}.")
        if some and not array.size:
            raise ValueError(f"{call}: {name} must contain at least one number; got shape {array.shape}.")
        if finite:
            _arguments.check_finite(array, call=call, name=name)
        elif np.any(np.isnan(array)):
            raise ValueError(
                f"{call}: {name} must not contain NaN; got {int(np.sum(np.isnan(array)))} NaN in {array.size} value(s)."
            )

    return checked
