"""Declarations of the fields of a chip description, with meaning, unit and limits."""

from __future__ import annotations

import dataclasses
from typing import Any, final

import brainunit as u
import numpy as np

from brainhw._arguments import choice, describe, flag, instance, number, positive_int, several, text, whole_number
from brainhw.chip._units import exact

__all__ = ["FieldInfo", "added_field", "has_default", "info_of", "one_or_several", "sourced_fields", "spec_field"]

# These fields identify a spec or describe its sources, so they have no provenance themselves.
_WITHOUT_PROVENANCE = ("name", "family", "provenance", "notes")


@final
@dataclasses.dataclass(frozen=True)
class FieldInfo:
    """Meaning, unit and limits of one field of a chip description; see :func:`spec_field`."""

    meaning: str
    unit: u.Unit | None = None
    kind: type | None = None
    choices: tuple[str, ...] = ()
    whole: bool = False
    many: bool = False
    optional: bool = False
    positive: bool = False
    nonnegative: bool = False
    most: float | None = None
    why: str = ""
    several: bool = False

    def check(self, value: Any, *, call: str, name: str) -> Any:
        """Check ``value`` and return it in its stored form, such as float64 in ``unit``. Raise if it is invalid."""
        if value is None and self.optional:
            return None
        if self.kind is not None:
            if not isinstance(value, self.kind):
                raise TypeError(f"{call}: {name} must be a {self.kind.__name__}; got {describe(value)}.")
            return value
        if self.choices:
            return choice(value, self.choices, call=call, name=name)
        is_list = isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)
        if not self.many and not (self.several and is_list):
            return self._one(value, call, name)
        given = several(value, call=call, name=name, of=f"numbers ({self.meaning})")
        numbers = tuple(self._one(number, call, f"{name}[{i}]") for i, number in enumerate(given))
        if not numbers:
            raise ValueError(f"{call}: {name} must contain at least one number ({self.meaning}); got none.")
        return numbers

    def _one(self, value: Any, call: str, name: str) -> Any:
        if self.whole:
            return (positive_int if self.positive else whole_number)(value, call=call, name=name)
        array = exact(value, self.unit, call=call, name=name, positive=self.positive, nonnegative=self.nonnegative)
        number = float(array)
        if self.most is not None and number > self.most:
            raise ValueError(f"{call}: {name} must be at most {self.most:g}, {self.why}; got {number:g}.")
        return number if self.unit is None else u.Quantity(number, unit=self.unit)

    def text(self, value: Any) -> str:
        """Return a value of the field as text for the table that `ChipSpec.table` prints."""
        if value is None:
            return "none"
        if self.unit is not None:
            return f"{value.mantissa:.10g} {self.unit}"
        if self.many or isinstance(value, tuple):
            return (" + " if self.whole else ", ").join(f"{number:.10g}" for number in value)
        return f"{value:.10g}" if isinstance(value, float) else str(value)


def spec_field(
    meaning: str,
    *,
    unit: u.Unit | None = None,
    choices: tuple[str, ...] = (),
    whole: bool = False,
    many: bool = False,
    optional: bool = False,
    positive: bool = False,
    nonnegative: bool = False,
    most: float | None = None,
    why: str = "",
    kind: type | None = None,
) -> Any:
    """Declare a field of a :class:`ChipSpec` or of a class derived from it.

    A declared field can have a provenance and a note. Its value is checked, compared and hashed, and appears in the
    printed table and in the chip file.

    Parameters
    ----------
    meaning : str
        Short description for the chip file.
    unit : Unit, optional
        Unit in which the value is stored; any unit of the same dimension is accepted. Default: a plain number.
    choices : tuple of str, optional
        Allowed values.
    whole : bool, optional
        Require an integer of at least 0, or of at least 1 if ``positive`` is set. Default False.
    many : bool, optional
        Require a tuple of numbers without a unit. Default False.
    optional : bool, optional
        Allow ``None``, which is written as ``"none"`` in the file. Default False.
    positive, nonnegative : bool, optional
        Require a number greater than zero, or at least zero. Default: any finite number.
    most : float, optional
        Upper limit. Default: no limit.
    why : str, optional
        Reason for the upper limit, which the error message shows.
    kind : type, optional
        Required class of the value, :class:`ChargeCurve` or :class:`TauProfiles`.

    Returns
    -------
    dataclasses.Field
        The declaration.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import brainhw as bh, brainunit as u
    >>> @dataclass(frozen=True, eq=False, repr=False, kw_only=True)
    ... class LabSpec(bh.chip.ChipSpec):
    ...     V_reset: u.Quantity = bh.chip.spec_field("membrane after a spike", unit=u.mV, nonnegative=True)
    """
    call = "spec_field"
    text(meaning, call=call, name="meaning", some=True)
    text(why, call=call, name="why")
    if unit is not None:
        instance(unit, u.Unit, call=call, name="unit")
    if kind is not None:
        instance(kind, type, call=call, name="kind")
    choices = tuple(
        text(word, call=call, name="choices") for word in several(choices, call=call, name="choices", of="words")
    )
    switches = {"whole": whole, "many": many, "optional": optional, "positive": positive, "nonnegative": nonnegative}
    for name, value in switches.items():
        flag(value, call=call, name=name)
    if most is not None:
        most = number(most, call=call, name="most")
    info = FieldInfo(meaning, unit, kind, choices, whole, many, optional, positive, nonnegative, most, why)
    return dataclasses.field(metadata={"chip": info})


def one_or_several(declared: Any) -> Any:
    """Return a copy of a field declaration that accepts one number or a tuple of numbers as the value of the field."""
    info = dataclasses.replace(declared.metadata["chip"], several=True)
    return dataclasses.field(metadata={"chip": info})


def added_field(meaning: str, **limits: Any) -> Any:
    """Declare an optional field that older files do not contain. Its default is ``None``, with provenance "assumed"."""
    declared = spec_field(meaning, optional=True, **limits)
    return dataclasses.field(default=None, metadata=declared.metadata)


def has_default(spec: Any, name: str) -> bool:
    """Return whether a field has a default value, so that calls and files may omit it."""
    return spec.__dataclass_fields__[name].default is not dataclasses.MISSING


def sourced_fields(spec: Any) -> tuple[str, ...]:
    """Return the names of all fields with a provenance, in the order of the table. ``spec`` may be a class."""
    return tuple(item.name for item in dataclasses.fields(spec) if item.name not in _WITHOUT_PROVENANCE)


def info_of(spec: Any) -> dict[str, FieldInfo]:
    """Return the declaration of each field with a provenance, by field name. ``spec`` may be a class."""
    found: dict[str, FieldInfo] = {}
    for name in sourced_fields(spec):
        info = spec.__dataclass_fields__[name].metadata.get("chip")
        if info is None:
            owner = spec if isinstance(spec, type) else type(spec)
            raise TypeError(
                f"{owner.__name__}: the field {name!r} has no declaration for files and tables. Declare it with "
                f"`{name}: ... = brainhw.chip.spec_field('its meaning', ...)`."
            )
        found[name] = info
    return found
