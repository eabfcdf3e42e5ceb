"""Chip families and their registry. A family has presets, kinds of mismatch, modules and rules."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Literal, final, get_args

from brainhw._arguments import choice, describe, function, instance, number, several, text
from brainhw._closest import closest
from brainhw._records import by_name, check_fields, each, is_a, optional
from brainhw.chip.fields import info_of
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

Role = Literal["synapse", "layer", "frontend"]
ROLES: tuple[Role, ...] = get_args(Role)


@final
@dataclass(frozen=True)
class Mismatch:
    """One kind of mismatch (variation between chips).

    Attributes
    ----------
    kind : str
        Name of the kind. :func:`brainhw.sample_chip` has an argument with this name.
    field : str
        Field of the chip's spec that contains the standard deviation. If the standard deviation is ``None``, the chip
        has no mismatch of this kind.
    most : float
        Largest standard deviation that :func:`brainhw.sample_chip` accepts.
    why : str
        Reason for the limit ``most``, which the error message shows.
    """

    kind: str
    field: str
    most: float = 10.0
    why: str = "the standard deviation is unrealistic"

    def __post_init__(self) -> None:
        for name in ("kind", "field"):
            word = text(getattr(self, name), call="Mismatch", name=name)
            # Both must be Python identifiers, because kind is an argument of sample_chip, and field is a field of the
            # spec.
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
        Predefined chips of the family. The first preset is the default chip of the modules of the family.
    mismatches : tuple of Mismatch
        Kinds of mismatch, each with the field of the spec that contains its standard deviation.
    rules : mapping of str to callable, optional
        Deployment rules that apply only to this family, in addition to the general rules. The keys are the names of the
        rules. Each rule is a function that takes a :class:`brainhw.deploy.Survey` and yields a
        :class:`brainhw.deploy.Violation` for each mistake.
    without_rules : collection of str, optional
        Names of general rules that do not apply to this family.
    weight_grid : callable, optional
        ``weight_grid(chip, bits)`` returns the levels of a stored weight, as an object with the members of
        :class:`brainhw.kernel.WeightGrid`. Default: evenly spaced levels, symmetric about zero.
    package : str
        Name of the package whose import registers this family. Files store this name. If the family is not registered
        when a file is read, the error message names the package to import.

    Attributes
    ----------
    modules : mapping
        A mapping from each role (``'synapse'``, ``'layer'`` or ``'frontend'``) to a module class. :meth:`module` adds
        the entries.
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
            # Any callable is accepted, including a class.
            weight_grid=optional(is_a(Callable)),  # type: ignore[arg-type]
        )
        for word in several(self.without_rules, call=call, name="without_rules", of="names of rules", ordered=False):
            text(word, call=call, name="without_rules")
        if not self.presets or any(not isinstance(preset, ChipSpec) for preset in self.presets):
            raise TypeError(
                f"{call}: presets of {self.name} must contain at least one ChipSpec; got {describe(self.presets)}. "
                "Pass a tuple of specs."
            )
        # Check the presets here. Otherwise, a file or a network created with a wrong preset would belong to a different
        # family.
        for preset in self.presets:
            if preset.family != self.name:
                raise ValueError(
                    f"{call}: the preset {preset.name!r} has family {preset.family!r}; expected {self.name!r}. "
                    "Set family= in its spec to that name."
                )
            if type(preset) is not type(self.presets[0]):
                raise TypeError(
                    f"{call}: the presets of {self.name} must have the same class; got {type(preset).__name__} and "
                    f"{type(self.presets[0]).__name__}. Use one class, because chip files are read as this class."
                )
        for mismatch in self.mismatches:
            if not hasattr(self.presets[0], mismatch.field):
                raise ValueError(
                    f"{call}: the mismatch {mismatch.kind!r} of {self.name} reads its standard deviation from "
                    f"{mismatch.field!r}, which is not a field of {type(self.presets[0]).__name__}. Use a field of the "
                    "spec."
                )
        self._warn_of_unread_mismatch(call)

    def _warn_of_unread_mismatch(self, call: str) -> None:
        """Warn if a preset contains the standard deviation of a mismatch that the family does not sample."""
        read = {mismatch.field for mismatch in self.mismatches}
        for preset in self.presets:
            for name in info_of(preset):
                if name.endswith("mismatch_std") and name not in read and getattr(preset, name) is not None:
                    warnings.warn(
                        f"{call}: sample_chip ignores {name} = {getattr(preset, name)} of the preset {preset.name!r}, "
                        f"because no Mismatch in mismatches reads it. Add Mismatch("
                        f"{name.removesuffix('_mismatch_std')!r}, {name!r}), or set {name}=None in the preset.",
                        stacklevel=4,
                    )

    @property
    def preset(self) -> ChipSpec:
        """The first preset, which is the default chip of the family."""
        return self.presets[0]

    @property
    def spec_class(self) -> type[ChipSpec]:
        """The class of the family's specs."""
        return type(self.presets[0])

    def module(self, role: Role) -> Callable[[type], type]:
        """Return a class decorator that registers a class as the family's ``'synapse'``, ``'layer'`` or ``'frontend'``.

        The decorator adds the attributes ``family`` and ``preset`` (the default chip) to the class, unless the class
        defines them.
        """
        choice(role, ROLES, call="Family.module", name="role")

        def add(kind: Any) -> Any:
            # Inherited attributes are overwritten, because the base class may belong to a different family.
            for name, value in (("family", self.name), ("preset", self.preset)):
                if name not in vars(kind):
                    setattr(kind, name, value)
            self.modules[role] = kind
            return kind

        return add

    def sizes(self, chip: ChipSpec) -> dict[str, float | None]:
        """Return a dict that maps each kind of mismatch to its standard deviation in a chip."""
        instance(chip, self.spec_class, call="Family.sizes", name="chip")
        return {mismatch.kind: getattr(chip, mismatch.field) for mismatch in self.mismatches}

    def __repr__(self) -> str:
        return f"Family({self.name!r})"


def check_package(name: Any, *, call: str) -> None:
    """Raise unless ``name`` is a valid package name. Error messages tell the user to import this package."""
    if not isinstance(name, str) or not all(map(str.isidentifier, name.split("."))):
        raise ValueError(
            f"{call}: package must be the name of a Python package; got {describe(name)}. "
            "Pass the name of the package whose import registers the family."
        )


class UnknownFamilyError(ValueError):
    """Raised for an unknown chip family. If the package that registers the family is known, the message names it."""


_registered: dict[str, Family] = {}


def register_family(family: Family) -> Family:
    """Register a chip family.

    A package that defines a family calls this function while it is imported. If an installed package has an entry point
    for its :class:`Family` in the group ``brainhw.chip_families``, users do not have to import the package: brainhw
    loads the family when it is needed.

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
    TypeError
        If ``family`` is not a Family.
    ValueError
        If another family has the same name, ignoring case.
    """
    if not isinstance(family, Family):
        raise TypeError(f"register_family: family must be a brainhw.chip.Family; got {describe(family)}.")
    # Compare the names ignoring case, because get_chip ignores case too.
    other = _registered.get(family.name.lower())
    if other is not None and other is not family:
        raise ValueError(
            f"register_family: the family {family.name!r} is already registered by the package {other.package!r}. "
            "Register it only once, or choose another name."
        )
    _registered[family.name.lower()] = family
    return family


def families() -> tuple[Family, ...]:
    """Return all registered families.

    Returns
    -------
    tuple of Family
        The families in order of registration, with those of brainhw first. A family that a package declares only as an
        entry point is missing until the package is imported or :func:`get_family` loads the family.

    Examples
    --------
    >>> import brainhw as bh
    >>> [family.name for family in bh.chip.families()][:2]
    ['H1v1', 'H1v2']
    """
    return tuple(_registered.values())


def get_family(name: str, *, call: str = "get_family", package: str | None = None) -> Family:
    """Return the family with a given name, ignoring case.

    If the family is not registered, but an installed package has an entry point with this name, brainhw loads the
    family from this entry point. It imports no other package, even if a chip file names one.

    Parameters
    ----------
    name : str
        Name of the family.
    call : str, optional
        Name of the calling function, for error messages.
    package : str, optional
        Package that a chip file names for this family. The error message shows this name, but the package is not
        imported.

    Returns
    -------
    Family
        The family.

    Raises
    ------
    UnknownFamilyError
        If no family has this name, or if the package of the entry point cannot be imported. ``UnknownFamilyError`` is a
        subclass of ``ValueError``.

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
        # Only load an entry point with this name. Do not import the package that a file names: otherwise a file could
        # choose which code is run. The name of this package is only used in the message.
        if name.lower() not in _registered:
            _load_entry_point(name, call)
        if name.lower() in _registered:
            return _registered[name.lower()]
    known = ", ".join(repr(family.name) for family in _registered.values())
    fix = (
        f"import {package} first" if package and package != "brainhw" else "import the package that registers it first"
    )
    raise UnknownFamilyError(
        f"{call}: the chip family {describe(name)} is not registered; known families are {known}. If the name is "
        f"correct, {fix}."
    )


def _load_entry_point(name: str, call: str) -> None:
    """Load and register the family ``name`` if an installed package has an entry point with this name."""
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name.lower() == name.lower():
            try:
                found = point.load()
            except Exception as error:  # an import may raise any error
                raise UnknownFamilyError(
                    f"{call}: the chip family {name!r} cannot be loaded from {point.value!r} "
                    f"({type(error).__name__}: {error}). Repair or reinstall that package."
                ) from error
            register_family(found)


def get_chip(chip: ChipSpec | str, *, call: str = "get_chip") -> ChipSpec:
    """Return a chip from a spec or a name.

    Parameters
    ----------
    chip : ChipSpec or str
        A spec or a name. A spec is returned unchanged. The name of a preset selects this preset, and the name of a
        family selects its first preset. Case is ignored. A family that is not registered is loaded from an entry point,
        see :func:`get_family`.
    call : str
        Name of the calling function, for error messages.

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
    named = _named()
    if isinstance(chip, str) and chip.lower() not in named:
        _load_entry_point(chip, call)
        named = _named()
    if isinstance(chip, str) and chip.lower() in named:
        return named[chip.lower()]
    # Entry points are listed by their names, because loading them would import the packages.
    declared = [point.name.lower() for point in entry_points(group=ENTRY_POINT_GROUP)]
    listed = ", ".join(map(repr, dict.fromkeys([*named, *declared])))
    if isinstance(chip, str):
        raise ValueError(f"{call}: chip must be one of {listed}; got {chip!r:.60}{closest(chip, named)}.")
    raise ValueError(
        f"{call}: chip must be one of {listed} or a ChipSpec (load_chip reads one from a file); got {describe(chip)}."
    )


def _named() -> dict[str, ChipSpec]:
    """Return a dict that maps the name of each preset and of each family, in lower case, to a chip."""
    named = {preset.name.lower(): preset for family in families() for preset in family.presets}
    # If a family and a preset have the same name, this name stands for the default chip of the family.
    return named | {family.name.lower(): family.preset for family in families()}
