"""Description of one chip: every parameter of the chip model, and the source of each value."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

import brainunit as u

from brainhw._arguments import choice, describe, flag
from brainhw._closest import closest
from brainhw._printing import printable
from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.chip.charge import ChargeCurve
from brainhw.chip.fields import added_field, has_default, info_of, one_or_several, sourced_fields, spec_field
from brainhw.chip.tau import TauProfiles

__all__ = ["BITS", "MOST_EVENTS", "WIDEST_THRESHOLD", "ChipSpec"]

# With one bit, a sign can be stored but no zero. With more than 16 bits, the float32 quotient of a weight and the grid
# step can be rounded to a wrong code.
BITS = range(2, 17)
"""Allowed numbers of bits of a stored weight."""
# brainhw assumes this limit, because no vendor publishes one. Scaled data and spike counts are far below it, but image
# bytes and raw samples are far above it.
MOST_EVENTS = 16
"""Maximum number of events of one channel in one step."""

# At this limit, a threshold of zero is five standard deviations below the mean. With a larger standard deviation, some
# sampled thresholds would be negative.
WIDEST_THRESHOLD = 0.2
"""Largest relative standard deviation of the thresholds that a spec accepts."""

Provenance = Literal["documented", "assumed", "measured"]
PROVENANCES: tuple[Provenance, ...] = get_args(Provenance)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ChipSpec(Shown):
    """Description of one chip: its limits, membrane, mismatch and energies, each with its provenance.

    A spec contains the limits of a chip and its membrane constants. The vendor publishes the limits, but not the
    membrane constants. Enter measured values with `replace`, or in the chip file (`save`, `load`). A spec is immutable
    and hashable, and specs with equal values are equal.

    A package that defines a chip family can derive a class from this one, and declare more fields with
    :func:`spec_field`. Decorate the class with ``@dataclass(frozen=True, eq=False, repr=False, kw_only=True)``.

    Parameters
    ----------
    name : str
        Name of this chip, one line of text.
    family : str
        Name of the chip family, such as ``"H1v1"``. All modules of a network must have the same family.
    weight_limit : float
        Largest magnitude of a weight, dimensionless, greater than zero. If ``weight_lowest`` is set, this is the limit
        of positive weights only.
    cores : tuple of int
        Number of neurons of each core.
    frontend_channels : int
        Number of frontend channels; 0 for a chip without a frontend.
    sign_block : int
        Number of consecutive weights that must have the same sign.
    sign_axis : {"pre", "post"}
        Axis of ``weight[N_in, N_out]`` along which a block runs: ``"pre"`` for consecutive presynaptic neurons,
        ``"post"`` for consecutive postsynaptic neurons.
    reset : {"zero", "subtract"}
        Effect of a spike on the membrane potential. ``"zero"`` sets the potential to zero. ``"subtract"`` subtracts
        ``V_th`` and clamps the result at zero.
    V_th, C : Quantity
        Threshold and membrane capacitance, greater than zero; stored in mV and fF.
    charge : ChargeCurve
        Charge of one spike as a function of the weight.
    tau_profiles : TauProfiles
        Available membrane time constants.
    weight_bits : int
        Number of bits of a stored weight, from 2 to 16.
    synapse_mismatch_std, leak_mismatch_std, threshold_mismatch_std : float or None
        Standard deviation of each kind of mismatch; ``None`` if the chip has no mismatch of this kind. Synapse: normal
        distribution of the effective weights, in weight units. Leak: log-normal distribution of the relative leak
        currents, as one number or a tuple with one number per time constant in ``tau_profiles``. Threshold: normal
        distribution of the relative thresholds; this standard deviation is at most 0.2.
    core_power, frontend_channel_power : Quantity
        Static power of one core that is in use, and of one frontend channel; stored in uW.
    spike_energy, event_energy : Quantity
        Energy of one output spike and of one synaptic event; stored in pJ.
    weight_lowest : float, optional
        Most negative weight of a chip with an asymmetric range. It does not change the distance between codes, which
        follows from ``weight_limit``. Default ``None``: ``-weight_limit``.
    noise_std : Quantity, optional
        Standard deviation of the noise that a real chip adds to the membrane potential in each step; stored in mV. Each
        run has different noise. Only :class:`brainhw.silicon.VirtualChip` adds this noise. Networks do not, so they
        stay deterministic. Default ``None``: unknown.
    provenance : mapping
        Source of every field except name and family: ``"documented"`` (published by the vendor), ``"assumed"`` (chosen
        to agree with the vendor's documentation) or ``"measured"`` (by a lab). If a field with a default value is
        omitted here, its source is ``"assumed"``.
    notes : mapping, optional
        A mapping from field to one line of text, for example the reason for an assumption.

    Raises
    ------
    TypeError
        If a field is missing, unknown, or has the wrong type or unit. The message names the field.
    ValueError
        If the value of a field is invalid or out of range. The message names the field.

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
    frontend_channels: int = spec_field("number of frontend channels", whole=True)
    sign_block: int = spec_field(
        "number of consecutive weights that must have the same sign", whole=True, positive=True
    )
    sign_axis: str = spec_field(
        '"pre": a block spans consecutive presynaptic neurons; "post": postsynaptic neurons', choices=("pre", "post")
    )
    reset: str = spec_field(
        'effect of a spike on the membrane potential: "zero", or "subtract" the threshold and clamp at zero',
        choices=("zero", "subtract"),
    )
    V_th: u.Quantity = spec_field("threshold", unit=u.mV, positive=True)
    C: u.Quantity = spec_field("membrane capacitance", unit=u.ffarad, positive=True)
    charge: ChargeCurve = spec_field("charge of one spike as a function of the weight", kind=ChargeCurve)
    tau_profiles: TauProfiles = spec_field("available membrane time constants, increasing", kind=TauProfiles)
    weight_bits: int = spec_field("bits of a stored weight", whole=True, positive=True)
    synapse_mismatch_std: float | None = spec_field(
        "standard deviation of the effective weights, in weight units", optional=True, nonnegative=True
    )
    leak_mismatch_std: float | tuple[float, ...] | None = one_or_several(
        spec_field("standard deviation of the relative leak currents (log-normal)", optional=True, nonnegative=True)
    )
    threshold_mismatch_std: float | None = spec_field(
        "standard deviation of the relative thresholds (normal)",
        optional=True,
        nonnegative=True,
        most=WIDEST_THRESHOLD,
        why="because above it a normal distribution would contain negative thresholds",
    )
    core_power: u.Quantity = spec_field("static power of one core in use", unit=u.uwatt, nonnegative=True)
    spike_energy: u.Quantity = spec_field("energy of one output spike", unit=u.pjoule, nonnegative=True)
    event_energy: u.Quantity = spec_field("energy of one synaptic event", unit=u.pjoule, nonnegative=True)
    frontend_channel_power: u.Quantity = spec_field("power of one frontend channel", unit=u.uwatt, nonnegative=True)
    weight_lowest: float | None = added_field("most negative weight, if it is not -weight_limit")
    noise_std: u.Quantity | None = added_field(
        "trial-to-trial noise of the membrane potential in each step", unit=u.mV, nonnegative=True
    )
    provenance: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        call = type(self).__name__
        if type(self).__eq__ is not ChipSpec.__eq__:
            # The __eq__ that dataclass generates fails for mappings and for Quantities with different units.
            raise TypeError(
                f"{call}: a spec class must not use the __eq__ that dataclass generates. Decorate the class with "
                "@dataclass(frozen=True, eq=False, repr=False, kw_only=True)."
            )
        for name in ("name", "family"):
            _check_line(getattr(self, name), call=call, name=name)
        # A frozen dataclass allows no other way to set a field.
        for name, info in info_of(self).items():
            object.__setattr__(self, name, info.check(getattr(self, name), call=call, name=name))
        if self.weight_bits not in BITS:
            raise ValueError(f"{call}: weight_bits must be from {BITS[0]} to {BITS[-1]}; got {self.weight_bits}.")
        _check_range(self, call)
        names = sourced_fields(self)
        defaults = [name for name in names if has_default(self, name)]
        object.__setattr__(self, "provenance", _checked_provenance(self.provenance, names, defaults, call=call))
        object.__setattr__(self, "notes", _checked_notes(self.notes, names, call=call))

    @property
    def weight_range(self) -> tuple[float, float]:
        """The most negative weight and the largest positive weight."""
        return -self.weight_limit if self.weight_lowest is None else self.weight_lowest, self.weight_limit

    @property
    def n_neurons(self) -> int:
        """Total number of neurons of all cores."""
        return sum(self.cores)

    def replace(self, *, provenance: Provenance | Mapping[str, Provenance] = "assumed", **changes: Any) -> ChipSpec:
        """Return a new spec with some fields changed.

        Parameters
        ----------
        provenance : str or mapping
            Source of the new values: one word for all changed fields, or a mapping with one word per field. A changed
            field that is not in the mapping gets ``"assumed"``. A field that is in the mapping but is not changed keeps
            its value and gets the new source.
        **changes
            New values by field name. The note of a changed field is removed, because the note describes the old value.
            If you pass ``notes``, they are added to the remaining notes.

        Returns
        -------
        ChipSpec
            New spec, of the same class; the original does not change.

        Raises
        ------
        TypeError
            If a field is unknown, or a value has the wrong type or unit.
        ValueError
            If a value is invalid or out of range.

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
        # Remove the notes of changed fields, because they describe the old values.
        kept = {name: note for name, note in self.notes.items() if name not in changed}
        values = {**_values(self), **changes}
        values["provenance"] = {**self.provenance, **sources}
        values["notes"] = {**kept, **_checked_notes(changes.get("notes", {}), names, call=type(self).__name__)}
        # Use the constructor, which checks the new values.
        return type(self)(**values)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the spec to a text file that users can edit (see `save_chip`)."""
        # Import here to avoid a circular import: `brainhw.chip.file` imports `brainhw.chip.family`, which imports this
        # module.
        from brainhw.chip.file import save_chip

        save_chip(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> ChipSpec:
        """Read a spec of any registered family from a file (see `load_chip`)."""
        from brainhw.chip.file import load_chip

        return load_chip(path)

    def table(self, *, notes: bool = False) -> str:
        """Return the spec as a text table. Each row shows the name, value, unit and provenance of a field.

        If a preset has the same name as the spec, the table marks each difference from this preset with a ``*`` and
        shows the value of the preset.

        Parameters
        ----------
        notes : bool
            Whether to print each note below its field. Default False.
        """
        flag(notes, call="ChipSpec.table", name="notes")
        rows = list(self._rows())
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [self._heading]
        for *row, was in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append(f"{'*' if was else ' '} {'  '.join(cells)}  {was}".rstrip())
            if notes and row[0] in self.notes:
                lines.append(f"      {self.notes[row[0]]}")
        if any(was for *_, was in rows):
            lines.append(f"* differs from the preset {self.name}")
        return printable("\n".join(lines))

    @property
    def _heading(self) -> str:
        return f"{self.name}: family {self.family}, {self.n_neurons} neurons in {len(self.cores)} core(s)"

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        """For each field, yield its name, value, provenance, and difference from the preset."""
        from brainhw.chip.family import families

        presets = [preset for family in families() if family.name == self.family for preset in family.presets]
        preset = next((preset for preset in presets if preset.name == self.name), None)
        for name, info in info_of(self).items():
            was = "" if preset is None else _difference(self, preset, name)
            yield name, info.text(getattr(self, name)), self.provenance[name], was

    def _parts(self) -> Iterator[str | Table]:
        yield self._heading
        rows = list(self._rows())
        headings = ("field", "value", "provenance", "preset")
        # Omit the last column if no field differs from the preset, as for most chips.
        n = 4 if any(was for *_, was in rows) else 3
        yield Table(headings[:n], [row[:n] for row in rows], left=headings)

    def __str__(self) -> str:
        # Unlike the HTML table, the text has no headings and marks differences with `*`, so that notes can be printed
        # below a field.
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

    # Read-only mappings cannot be pickled, so copying and unpickling call the constructor.
    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), {**_values(self), "provenance": dict(self.provenance), "notes": dict(self.notes)})


def _check_range(spec: ChipSpec, call: str) -> None:
    lowest, spread = spec.weight_lowest, spec.leak_mismatch_std
    # A stored weight has at most one more negative code than positive codes.
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
    # A Quantity is not hashable. Its mantissa is sufficient, because each field always has the same unit.
    return value.mantissa if isinstance(value, u.Quantity) else value


def _rebuild(kind: type[ChipSpec], values: dict[str, Any]) -> ChipSpec:
    return kind(**values)


def _difference(spec: ChipSpec, preset: ChipSpec, name: str) -> str:
    """Return a text that shows how a field differs from the preset, or an empty string if they are equal."""
    value, source = getattr(preset, name), preset.provenance[name]
    if _hashable(value) != _hashable(getattr(spec, name)):
        return f"(preset: {info_of(spec)[name].text(value)}, {source})"
    return f"(preset: {source})" if source != spec.provenance[name] else ""


def _checked_provenance(value: Any, names: Sequence[str], defaults: Sequence[str], *, call: str) -> Mapping[str, str]:
    """Return the provenance as a read-only mapping in the order of the fields in ``names``. Raise if it is invalid."""
    given = {**dict.fromkeys(defaults, "assumed"), **_by_field(value, names, call=call, what="provenance")}
    missing = [name for name in names if name not in given]
    if missing:
        words = ", ".join(repr(word) for word in PROVENANCES)
        raise ValueError(
            f"{call}: provenance must contain one of {words} for every field; it has no entry for {', '.join(missing)}."
        )
    for name in names:
        choice(given[name], PROVENANCES, call=call, name=f"provenance of {name}")
    # Sort by field, so that the order of ``provenance`` does not affect whether specs are equal.
    return MappingProxyType({name: given[name] for name in names})


def _checked_notes(value: Any, names: Sequence[str], *, call: str) -> Mapping[str, str]:
    """Return the notes as a read-only mapping in the order of the fields in ``names``. Raise if they are invalid."""
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
                f"{call}: {what} contains the unknown field {name!r}{closest(str(name), names)}; "
                f"the fields with {what} are {', '.join(names)}."
            )
    return value
