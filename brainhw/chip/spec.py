"""Description of one chip: every number that its model uses, with provenance."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import brainunit as u

from brainhw._arguments import choice, describe, flag
from brainhw._printing import printable
from brainhw.chip._units import closest
from brainhw.chip.charge import ChargeCurve
from brainhw.chip.fields import added_field, has_default, info_of, one_or_several, sourced_fields, spec_field
from brainhw.chip.tau import TauProfiles

__all__ = ["BITS", "MOST_EVENTS", "WIDEST_THRESHOLD", "ChipSpec"]

# One bit stores a sign but no zero; above 16 bits the float32 quotient of a weight and a grid step can round to a wrong
# code.
BITS = range(2, 17)
"""Allowed numbers of bits of a stored weight."""
# An assumption, because no vendor publishes a limit. Scaled data and spike counts are far below it; image bytes and raw
# samples are far above it.
MOST_EVENTS = 16
"""Maximum number of events of one channel in one step."""

# Zero is five standard deviations away: a wider normal spread would give negative thresholds.
WIDEST_THRESHOLD = 0.2
"""Largest relative spread of thresholds that a spec accepts."""

PROVENANCES = ("documented", "assumed", "measured")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ChipSpec:
    """Description of one chip: limits, membrane, mismatch and energy, each with its provenance.

    The vendor publishes the limits of a chip but not its membrane constants; a spec holds both. Enter measured values
    with `replace` or in the chip file (`save`, `load`). A spec is immutable, hashable and equal by value.

    A chip family of another package may derive its own class with more fields (:func:`spec_field`); decorate it with
    ``@dataclass(frozen=True, eq=False, repr=False, kw_only=True)``.

    Parameters
    ----------
    name : str
        Name of this chip, one line of text.
    family : str
        Name of the chip family, such as ``"H1v1"``; a network must not mix families.
    weight_limit : float
        Largest weight magnitude, dimensionless, greater than zero; with ``weight_lowest`` the largest weight.
    cores : tuple of int
        Number of neurons of each core.
    frontend_channels : int
        Number of frontend channels; 0 for a chip without a frontend.
    sign_block : int
        Number of consecutive weights that must share a sign.
    sign_axis : {"pre", "post"}
        Direction of a block: along presynaptic rows or postsynaptic columns of ``weight[N_in, N_out]``.
    reset : {"zero", "subtract"}
        Membrane after a spike: zero, or reduced by ``V_th`` and clamped at zero.
    V_th, C : Quantity
        Threshold and membrane capacitance, greater than zero; stored in mV and fF.
    charge : ChargeCurve
        Charge of one spike through a weight.
    tau_profiles : TauProfiles
        Available membrane time constants.
    weight_bits : int
        Bits of a stored weight, 2 to 16.
    synapse_mismatch_std, leak_mismatch_std, threshold_mismatch_std : float or None
        Standard deviations. Synapse: normal, of the effective weights, in weight units. Leak: relative log-normal, of
        the leak currents, one number or one for each of ``tau_profiles``. Threshold: relative normal, at most 0.2.
        ``None``: no such mismatch.
    core_power, frontend_channel_power : Quantity
        Static power of one used core and of one frontend channel; stored in uW.
    spike_energy, event_energy : Quantity
        Energy of one output spike and of one synaptic event; stored in pJ.
    weight_lowest : float, optional
        Most negative weight, for a chip with an asymmetric range; the distance between codes is that of
        ``weight_limit``. Default ``None``: ``-weight_limit``.
    noise_std : Quantity, optional
        Standard deviation of the membrane noise per step on a real chip, drawn anew in each run; stored in mV. Networks
        stay deterministic: only :class:`brainhw.silicon.VirtualChip` adds it. Default ``None``: unknown.
    provenance : mapping
        Source of every field except name and family: ``"documented"`` (published by the vendor), ``"assumed"`` (chosen
        to agree with what is documented) or ``"measured"`` (by a lab). An optional field defaults to ``"assumed"``.
    notes : mapping, optional
        One line of text on any of these fields, for example the basis of an assumption.

    Raises
    ------
    TypeError, ValueError
        If a field is missing or out of range; the message names it.

    Examples
    --------
    >>> import brainunit as u
    >>> from brainhw.chip import H1V1
    >>> H1V1.n_neurons
    256
    >>> mine = H1V1.replace(V_th=0.095 * u.volt, provenance="measured", name="chip 7")
    >>> print(mine.V_th, mine.provenance["V_th"], mine == H1V1)
    95. mV measured False
    """

    name: str
    family: str
    weight_limit: float = spec_field("largest weight magnitude, dimensionless", positive=True)
    cores: tuple[int, ...] = spec_field("neurons of each core", whole=True, many=True, positive=True)
    frontend_channels: int = spec_field("width of the frontend", whole=True)
    sign_block: int = spec_field("how many consecutive weights must share a sign", whole=True, positive=True)
    sign_axis: str = spec_field(
        '"pre": a block runs along presynaptic rows; "post": along postsynaptic columns', choices=("pre", "post")
    )
    reset: str = spec_field(
        'what a spike does to the membrane: "zero", or "subtract" the threshold and clamp at zero',
        choices=("zero", "subtract"),
    )
    V_th: u.Quantity = spec_field("threshold", unit=u.mV, positive=True)
    C: u.Quantity = spec_field("membrane capacitance", unit=u.ffarad, positive=True)
    charge: ChargeCurve = spec_field("charge that one spike brings through a weight", kind=ChargeCurve)
    tau_profiles: TauProfiles = spec_field("the membrane time constants on offer, increasing", kind=TauProfiles)
    weight_bits: int = spec_field("bits of a stored weight", whole=True, positive=True)
    synapse_mismatch_std: float | None = spec_field(
        "spread of the effective weights, in weight units", optional=True, nonnegative=True
    )
    leak_mismatch_std: float | tuple[float, ...] | None = one_or_several(
        spec_field("relative log-normal spread of the leak currents", optional=True, nonnegative=True)
    )
    threshold_mismatch_std: float | None = spec_field(
        "relative normal spread of the thresholds",
        optional=True,
        nonnegative=True,
        most=WIDEST_THRESHOLD,
        why="beyond it a normal spread would make some thresholds negative",
    )
    core_power: u.Quantity = spec_field("static power of one core in use", unit=u.uwatt, nonnegative=True)
    spike_energy: u.Quantity = spec_field("energy of one output spike", unit=u.pjoule, nonnegative=True)
    event_energy: u.Quantity = spec_field("energy of one synaptic event", unit=u.pjoule, nonnegative=True)
    frontend_channel_power: u.Quantity = spec_field("power of one frontend channel", unit=u.uwatt, nonnegative=True)
    weight_lowest: float | None = added_field("most negative weight, if it is not minus the limit")
    noise_std: u.Quantity | None = added_field(
        "trial-to-trial noise of the membrane, per step", unit=u.mV, nonnegative=True
    )
    provenance: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        call = type(self).__name__
        if type(self).__eq__ is not ChipSpec.__eq__:
            # The comparison that dataclass generates fails on mappings and on Quantities of different units.
            raise TypeError(
                f"{call}: the generated comparison cannot be used for a spec. Decorate the class with "
                "@dataclass(frozen=True, eq=False, repr=False, kw_only=True)."
            )
        for name in ("name", "family"):
            _check_line(getattr(self, name), call=call, name=name)
        # The only way to set a field of a frozen dataclass.
        for name, info in info_of(self).items():
            object.__setattr__(self, name, info.check(getattr(self, name), call=call, name=name))
        if self.weight_bits not in BITS:
            raise ValueError(
                f"{call}: weight_bits must lie between {BITS[0]} (a sign and a zero) and {BITS[-1]}; "
                f"got {self.weight_bits}."
            )
        _check_range(self, call)
        names = sourced_fields(self)
        defaults = [name for name in names if has_default(self, name)]
        object.__setattr__(self, "provenance", _checked_provenance(self.provenance, names, defaults, call=call))
        object.__setattr__(self, "notes", _checked_notes(self.notes, names, call=call))

    @property
    def weight_range(self) -> tuple[float, float]:
        """The most negative and the largest weight."""
        return -self.weight_limit if self.weight_lowest is None else self.weight_lowest, self.weight_limit

    @property
    def n_neurons(self) -> int:
        """Number of neurons of the chip, over all cores."""
        return sum(self.cores)

    def replace(self, *, provenance: str | Mapping[str, str] = "assumed", **changes: Any) -> ChipSpec:
        """Return a new spec with some fields changed.

        Parameters
        ----------
        provenance : str or mapping
            Source of the new values: one word for all of them, or one word per field. A changed field that is not in
            the mapping is ``"assumed"``; a field that is only in the mapping keeps its value.
        **changes
            New values by field name. ``notes`` are added to those of unchanged fields; the old note of a changed field
            is removed, because it describes the old value.

        Returns
        -------
        ChipSpec
            New spec, of the same class; the original does not change.

        Raises
        ------
        TypeError, ValueError
            If a field is unknown or a value is invalid.

        Examples
        --------
        >>> from brainhw.chip import H1V2
        >>> chip = H1V2.replace(weight_bits=4, provenance={"weight_bits": "measured"})
        >>> chip.weight_bits, chip.provenance["weight_bits"], H1V2.weight_bits
        (4, 'measured', 5)
        """
        call = f"{type(self).__name__}.replace"
        names = sourced_fields(self)
        known = [item.name for item in fields(self) if item.name != "provenance"]
        for name in changes:
            if name not in known:
                raise TypeError(
                    f"{call}: there is no field {name!r}{closest(name, known)}; the fields are {', '.join(known)}."
                )
        changed = [name for name in names if name in changes]
        if isinstance(provenance, Mapping):
            sources = {**dict.fromkeys(changed, "assumed"), **provenance}
        else:
            sources = dict.fromkeys(changed, choice(provenance, PROVENANCES, call=call, name="provenance"))
        # A note on the old value would be wrong for the new one.
        kept = {name: note for name, note in self.notes.items() if name not in changed}
        values = {**_values(self), **changes}
        values["provenance"] = {**self.provenance, **sources}
        values["notes"] = {**kept, **_checked_notes(changes.get("notes", {}), names, call=type(self).__name__)}
        # Through the constructor, so that the new values are checked.
        return type(self)(**values)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the spec to a text file that can be edited (see `save_chip`)."""
        # Imported here: files and tables need the registry of families, which imports this file.
        from brainhw.chip.file import save_chip

        save_chip(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> ChipSpec:
        """Read a spec of any registered family from a file (see `load_chip`)."""
        from brainhw.chip.file import load_chip

        return load_chip(path)

    def table(self, *, notes: bool = False) -> str:
        """Return the spec as an aligned table: field, value with unit, provenance.

        A field that differs from the preset of the same name is marked with ``*`` and the preset's value.

        Parameters
        ----------
        notes : bool
            Whether to print the note of each field below it. Default False.
        """
        from brainhw.chip.family import families

        flag(notes, call="ChipSpec.table", name="notes")
        infos = info_of(self)
        presets = [preset for family in families() if family.name == self.family for preset in family.presets]
        preset = next((preset for preset in presets if preset.name == self.name), None)
        rows = [(name, info.text(getattr(self, name)), self.provenance[name]) for name, info in infos.items()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [f"{self.name}: family {self.family}, {self.n_neurons} neurons in {len(self.cores)} core(s)"]
        differs = False
        for row in rows:
            name = row[0]
            was = "" if preset is None else _difference(self, preset, name)
            differs = differs or bool(was)
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append(f"{'*' if was else ' '} {'  '.join(cells)}  {was}".rstrip())
            if notes and name in self.notes:
                lines.append(f"      {self.notes[name]}")
        if differs:
            lines.append(f"* differs from the preset {self.name}")
        return printable("\n".join(lines))

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, family={self.family!r}, {self.n_neurons} neurons)"

    def _key(self) -> tuple[Any, ...]:
        values = _values(self)
        values["provenance"], values["notes"] = tuple(self.provenance.items()), tuple(self.notes.items())
        return type(self), *map(_hashable, values.values())

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, ChipSpec) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    # Read-only mappings cannot be pickled, so copies and pickles use the constructor.
    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), {**_values(self), "provenance": dict(self.provenance), "notes": dict(self.notes)})


def _check_range(spec: ChipSpec, call: str) -> None:
    lowest, spread = spec.weight_lowest, spec.leak_mismatch_std
    # A stored weight has only one more code on the negative side.
    most = 2 ** (spec.weight_bits - 1)
    least = -spec.weight_limit * most / (most - 1)
    if lowest is not None and not least * (1 + 1e-6) <= lowest < 0:
        raise ValueError(
            f"{call}: weight_lowest must be negative and at least {least:.6g} (code -{most} of {spec.weight_bits} "
            f"bits, where code {most - 1} is weight_limit); got {lowest:g}. For a wider range, increase weight_limit."
        )
    profiles = len(spec.tau_profiles.values.mantissa)
    if isinstance(spread, tuple) and len(spread) != profiles:
        raise ValueError(
            f"{call}: leak_mismatch_std must be one number, or one for each of the {profiles} tau_profiles; "
            f"got {len(spread)}."
        )


def _values(spec: ChipSpec) -> dict[str, Any]:
    return {item.name: getattr(spec, item.name) for item in fields(spec)}


def _hashable(value: Any) -> Any:
    # Every Quantity of a field has the field's unit, so its number is sufficient; a Quantity is not hashable.
    return value.mantissa if isinstance(value, u.Quantity) else value


def _rebuild(kind: type[ChipSpec], values: dict[str, Any]) -> ChipSpec:
    return kind(**values)


def _difference(spec: ChipSpec, preset: ChipSpec, name: str) -> str:
    """Return the text after a field that differs from the preset, otherwise an empty string."""
    value, source = getattr(preset, name), preset.provenance[name]
    if _hashable(value) != _hashable(getattr(spec, name)):
        return f"(preset: {info_of(spec)[name].text(value)}, {source})"
    return f"(preset: {source})" if source != spec.provenance[name] else ""


def _checked_provenance(value: Any, names: Sequence[str], defaults: Sequence[str], *, call: str) -> Mapping[str, str]:
    """Return a read-only provenance for exactly the fields ``names``, in their order, or raise."""
    given = {**dict.fromkeys(defaults, "assumed"), **_by_field(value, names, call=call, what="provenance")}
    missing = [name for name in names if name not in given]
    if missing:
        words = ", ".join(repr(word) for word in PROVENANCES)
        raise ValueError(
            f"{call}: provenance must give one of {words} for every field; it is missing {', '.join(missing)}."
        )
    for name in names:
        choice(given[name], PROVENANCES, call=call, name=f"provenance of {name}")
    # In field order, so that two specs are equal whatever the order of their provenance.
    return MappingProxyType({name: given[name] for name in names})


def _checked_notes(value: Any, names: Sequence[str], *, call: str) -> Mapping[str, str]:
    """Return read-only notes on some of the fields ``names``, in their order, or raise."""
    given = _by_field(value, names, call=call, what="notes")
    for name, note in given.items():
        _check_line(note, call=call, name=f"note on {name}")
    return MappingProxyType({name: given[name] for name in names if name in given})


def _check_line(value: Any, *, call: str, name: str) -> None:
    """Raise unless ``value`` is one line of printable text."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{call}: {name} must be one line of printable text; got {describe(value)}.")


def _by_field(value: Any, names: Sequence[str], *, call: str, what: str) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{call}: {what} must be a mapping from field to text; got {describe(value)}.")
    for name in value:
        if name not in names:
            raise ValueError(
                f"{call}: {what} contains {name!r}, which is not a field with {what}{closest(str(name), names)}; "
                f"the fields are {', '.join(names)}."
            )
    return value
