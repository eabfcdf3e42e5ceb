"""Chip families: presets, kinds of mismatch, modules and rules of a family, and the registry of families."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, final

from brainhw._arguments import choice, describe, function, instance, number, several, text
from brainhw._records import by_name, check_fields, each, is_a, optional
from brainhw.chip.spec import ChipSpec

__all__ = [
    "ENTRY_POINT_GROUP",
    "Family",
    "Mismatch",
    "UnknownFamilyError",
    "families",
    "get_chip",
    "get_family",
    "register_family",
]

ENTRY_POINT_GROUP = "brainhw.chip_families"
"""Entry point group in which installed packages provide their families."""

ROLES = ("synapse", "layer", "frontend")


@final
@dataclass(frozen=True)
class Mismatch:
    """One kind of variation between chips.

    Attributes
    ----------
    kind : str
        Name of the kind, which is also an argument of :func:`brainhw.sample_chip`.
    field : str
        Field of the chip's spec that holds its standard deviation; ``None`` there means no such variation.
    most : float
        Largest standard deviation that :func:`brainhw.sample_chip` accepts.
    why : str
        Reason for that limit, for the error message.
    """

    kind: str
    field: str
    most: float = 10.0
    why: str = "the spread is unrealistic"

    def __post_init__(self) -> None:
        for name in ("kind", "field"):
            word = text(getattr(self, name), call="Mismatch", name=name)
            # Both are Python identifiers: an argument of sample_chip and a field of the spec.
            if not word.isidentifier():
                raise ValueError(f"Mismatch: {name} must be one word, such as 'leak'; got {word!r}.")
        check_fields(self, most=functools.partial(number, positive=True), why=text)


@final
@dataclass(frozen=True, eq=False)
class Family:
    """Complete definition of a chip family.

    Parameters
    ----------
    name : str
        Name of the family in ``ChipSpec.family`` and in files.
    presets : tuple of ChipSpec
        Chips that come with the family; the first is the default of its modules.
    mismatches : tuple of Mismatch
        Kinds of variation between chips, each with the field of the spec that holds its standard deviation.
    rules : mapping of str to callable, optional
        Deployment rules of this family in addition to the general ones: functions of a :class:`brainhw.deploy.Survey`
        that yield :class:`brainhw.deploy.Violation`.
    without_rules : collection of str, optional
        Names of general rules that do not apply to this family.
    weight_grid : callable, optional
        ``weight_grid(chip, bits)`` returns the levels of a stored weight (the members of
        :class:`brainhw.kernel.WeightGrid`). Default: evenly spaced levels, symmetric about zero.
    package : str
        Package to import for this family. Files contain it, so that an error can name it to a reader who lacks it.

    Attributes
    ----------
    modules : mapping
        Module classes by role: ``'synapse'``, ``'layer'``, ``'frontend'``; filled by :meth:`module`.
    """

    name: str
    presets: tuple[ChipSpec, ...]
    mismatches: tuple[Mismatch, ...] = ()
    rules: Mapping[str, Callable[..., Any]] = field(default_factory=lambda: MappingProxyType({}))
    without_rules: Iterable[str] = ()
    weight_grid: Callable[[ChipSpec, int], Any] | None = None
    package: str = field(kw_only=True)
    modules: dict[str, type] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        call = "Family"
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(f"{call}: name must be one word; got {describe(self.name)}. Use a name such as 'X1'.")
        check_package(self.package, call=call)
        check_fields(
            self,
            presets=each(is_a(ChipSpec), "ChipSpec"),
            mismatches=each(is_a(Mismatch), "Mismatch"),
            rules=by_name(function, "functions"),
            # A class is accepted too.
            weight_grid=optional(is_a(Callable)),  # type: ignore[arg-type]
        )
        for word in several(self.without_rules, call=call, name="without_rules", of="names of rules", ordered=False):
            text(word, call=call, name="without_rules")
        if not self.presets or any(not isinstance(preset, ChipSpec) for preset in self.presets):
            raise TypeError(
                f"{call}: presets of {self.name} must hold at least one ChipSpec; got {describe(self.presets)}. "
                "Give a tuple of specs."
            )
        # Checked here and not at the first use, when a file or a network of another family would be built.
        for preset in self.presets:
            if preset.family != self.name:
                raise ValueError(
                    f"{call}: the preset {preset.name!r} is of family {preset.family!r}; expected {self.name!r}. "
                    "Set family= in its spec to that name."
                )
            if type(preset) is not type(self.presets[0]):
                raise TypeError(
                    f"{call}: the presets of {self.name} must be of one class; got {type(preset).__name__} and "
                    f"{type(self.presets[0]).__name__}. Files are read into the class of the first."
                )
        for mismatch in self.mismatches:
            if not hasattr(self.presets[0], mismatch.field):
                raise ValueError(
                    f"{call}: the mismatch {mismatch.kind!r} of {self.name} has its size in {mismatch.field!r}, which "
                    f"is not a field of {type(self.presets[0]).__name__}. Name a field of the spec."
                )

    @property
    def preset(self) -> ChipSpec:
        """The default chip."""
        return self.presets[0]

    @property
    def spec_class(self) -> type[ChipSpec]:
        """The class of the family's specs."""
        return type(self.presets[0])

    def module(self, role: str) -> Callable[[type], type]:
        """Return a class decorator that registers a class as the family's ``'synapse'``, ``'layer'`` or ``'frontend'``.

        The class gets the attributes ``family`` and ``preset`` (the default chip), unless it defines them.
        """
        choice(role, ROLES, call="Family.module", name="role")

        def add(kind: Any) -> Any:
            # Attributes of a base class do not count, because it may belong to another family.
            for name, value in (("family", self.name), ("preset", self.preset)):
                if name not in vars(kind):
                    setattr(kind, name, value)
            self.modules[role] = kind
            return kind

        return add

    def sizes(self, chip: ChipSpec) -> dict[str, float | None]:
        """Return the standard deviation of every kind of mismatch of a chip."""
        instance(chip, self.spec_class, call="Family.sizes", name="chip")
        return {mismatch.kind: getattr(chip, mismatch.field) for mismatch in self.mismatches}

    def __repr__(self) -> str:
        return f"Family({self.name!r})"


def check_package(name: Any, *, call: str) -> None:
    """Raise unless ``name`` is a valid package name, which an error may tell the user to import."""
    if not isinstance(name, str) or not all(map(str.isidentifier, name.split("."))):
        raise ValueError(
            f"{call}: package must be the name of a Python package; got {describe(name)}. "
            "Name the package whose import registers the family."
        )


class UnknownFamilyError(ValueError):
    """Unknown chip family; the message names the package to import, if it is known."""


_registered: dict[str, Family] = {}


def register_family(family: Family) -> Family:
    """Register a chip family.

    A package calls this when it is imported. An installed package with an entry point in the group
    ``brainhw.chip_families`` that names the :class:`Family` is found without an import.

    Parameters
    ----------
    family : Family
        The family.

    Returns
    -------
    Family
        The same object.

    Raises
    ------
    TypeError, ValueError
        If it is not a Family, or another family has the same name, ignoring case.
    """
    if not isinstance(family, Family):
        raise TypeError(f"register_family: family must be a brainhw.chip.Family; got {describe(family)}.")
    # Names are compared without case, as in get_chip: two families that differ only in case would be confused.
    other = _registered.get(family.name.lower())
    if other is not None and other is not family:
        raise ValueError(
            f"register_family: the family {family.name!r} is registered already, by the package {other.package!r}; "
            "register it once, or choose another name."
        )
    _registered[family.name.lower()] = family
    return family


def families() -> tuple[Family, ...]:
    """Return every registered family.

    Returns
    -------
    tuple of Family
        In order of registration, those of brainhw first. The family of an installed package with an entry point is
        included after the package is imported or :func:`get_family` has found it.

    Examples
    --------
    >>> import brainhw as bh
    >>> [family.name for family in bh.chip.families()][:2]
    ['H1v1', 'H1v2']
    """
    return tuple(_registered.values())


def get_family(name: str, *, call: str = "get_family", package: str | None = None) -> Family:
    """Return the family with a given name, ignoring case.

    If an installed package has an entry point of that name, it is loaded. Nothing else is imported, whatever a file
    contains.

    Parameters
    ----------
    name : str
        Name of the family.
    call : str, optional
        Name of the call for errors.
    package : str, optional
        Package that a file names for this family, for the error message.

    Returns
    -------
    Family
        The family.

    Raises
    ------
    UnknownFamilyError
        If no family has the name, or its package cannot be imported. It is a ``ValueError``.

    Examples
    --------
    >>> import brainhw as bh
    >>> bh.chip.get_family("h1v2").preset.name
    'H1v2'
    """
    text(call, call="get_family", name="call", some=True)
    if package is not None:
        text(package, call=call, name="package")
    if isinstance(name, str):
        # Only an entry point of this name is loaded. The package that a file names is only text for the message:
        # importing it would let a file choose the code to run.
        for point in entry_points(group=ENTRY_POINT_GROUP) if name.lower() not in _registered else ():
            if point.name.lower() == name.lower():
                try:
                    found = point.load()
                except Exception as error:  # an import may raise any error
                    raise UnknownFamilyError(
                        f"{call}: the chip family {name!r} cannot be loaded from {point.value!r} "
                        f"({type(error).__name__}: {error}). Repair that package."
                    ) from error
                register_family(found)
        if name.lower() in _registered:
            return _registered[name.lower()]
    known = ", ".join(repr(family.name) for family in _registered.values())
    fix = (
        f"import {package} first" if package and package != "brainhw" else "import the package that registers it first"
    )
    raise UnknownFamilyError(
        f"{call}: there is no chip family {describe(name)} here; known families are {known}. If the name is right, "
        f"{fix}."
    )


def get_chip(chip: ChipSpec | str, *, call: str = "get_chip") -> ChipSpec:
    """Return a chip from a spec or a name.

    Parameters
    ----------
    chip : ChipSpec or str
        A spec, returned unchanged, or the name of a family (its first preset) or of a preset, ignoring case.
    call : str
        Name of the call for errors.

    Returns
    -------
    ChipSpec
        The chip.

    Raises
    ------
    ValueError
        If ``chip`` is neither a spec nor a known name.

    Examples
    --------
    >>> from brainhw.chip import get_chip
    >>> get_chip("H1v2").weight_limit
    1.66
    """
    text(call, call="get_chip", name="call", some=True)
    if isinstance(chip, ChipSpec):
        return chip
    named = {preset.name.lower(): preset for family in families() for preset in family.presets}
    # If a family and a preset share a name, it means the family's default chip.
    named |= {family.name.lower(): family.preset for family in families()}
    if isinstance(chip, str) and chip.lower() in named:
        return named[chip.lower()]
    listed = ", ".join(repr(name) for name in named)
    raise ValueError(
        f"{call}: chip must be one of {listed} or a ChipSpec (load_chip reads one from a file); got {describe(chip)}."
    )
