"""The description of one chip: every number a model of it uses, and where each number comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, final

import brainunit as u

from brainhw._arguments import choice, describe, positive_int
from brainhw.chip._units import closest, exact
from brainhw.chip.charge import ChargeCurve
from brainhw.chip.provenance import PROVENANCES, check_line, check_notes, check_provenance
from brainhw.chip.tau import TauProfiles

__all__ = ["BITS", "UNITS", "WIDEST_THRESHOLD", "ChipSpec", "sourced_fields"]

# One bit leaves a sign and no zero; past 16 the float32 quotient of a weight and a grid step no longer names its code.
BITS = range(2, 17)
"""How many bits a stored weight may have."""

# Five standard deviations above zero: a normal spread wider than this would give thresholds below it.
WIDEST_THRESHOLD = 0.2
"""The largest relative spread of thresholds that a spec takes."""

# The one unit in which each dimensioned field is kept.
UNITS: Mapping[str, u.Unit] = MappingProxyType(
    {
        "V_th": u.mV,
        "C": u.ffarad,
        "core_power": u.uwatt,
        "spike_energy": u.pjoule,
        "event_energy": u.pjoule,
        "frontend_channel_power": u.uwatt,
    }
)

_MISMATCHES = ("synapse_mismatch_std", "leak_mismatch_std", "threshold_mismatch_std")


@final
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ChipSpec:
    """One chip: its limits, its membrane, its mismatch and its energy, each with its provenance.

    The vendor publishes the limits of a chip but not its membrane constants. Here both stand side by side, and
    ``provenance`` says which is which, so a lab that measured a value puts it in with `replace` or in the chip's
    file (`save`, `load`) and no layer changes. A spec never changes once built; it is hashable and equal by value.

    Parameters
    ----------
    name : str
        The name of this chip, one line of text.
    family : str
        The chip family (``"H1v1"``, ``"H1v2"``); a net must not mix families.
    weight_limit : float
        Largest weight magnitude, dimensionless, greater than zero.
    cores : tuple of int
        Neurons of each core.
    frontend_channels : int
        Width of the frontend.
    sign_block : int
        How many consecutive weights must share a sign.
    sign_axis : {"pre", "post"}
        Whether a block runs along presynaptic rows or postsynaptic columns of ``weight[N_in, N_out]``.
    reset : {"zero", "subtract"}
        What a spike does to the membrane: to zero, or minus ``V_th`` and then clamped at zero.
    V_th : Quantity
        Threshold, greater than zero; kept in mV.
    C : Quantity
        Membrane capacitance, greater than zero; kept in fF.
    charge : ChargeCurve
        Charge a spike brings through a weight.
    tau_profiles : TauProfiles
        The membrane time constants on offer.
    weight_bits : int
        Bits of a stored weight, 2 to 16.
    synapse_mismatch_std : float or None
        Spread of the effective weights of a chip, in weight units; ``None``: no such mismatch.
    leak_mismatch_std : float or None
        Relative log-normal spread of the leak currents.
    threshold_mismatch_std : float or None
        Relative normal spread of the thresholds, at most 0.2.
    core_power : Quantity
        Static power of one core in use; kept in uW.
    spike_energy, event_energy : Quantity
        Energy of one output spike and of one synaptic event; kept in pJ.
    frontend_channel_power : Quantity
        Power of one frontend channel; kept in uW.
    provenance : mapping
        For every field from ``weight_limit`` to ``frontend_channel_power``: ``"documented"`` (the vendor says so
        in public), ``"assumed"`` (chosen so that all that is documented holds) or ``"measured"`` (by a lab).
    notes : mapping, optional
        One line of text on any of those fields, for instance what an assumption rests on.

    Raises
    ------
    TypeError, ValueError
        If a field is missing or out of range, naming the field.

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
    weight_limit: float
    cores: tuple[int, ...]
    frontend_channels: int
    sign_block: int
    sign_axis: str
    reset: str
    V_th: u.Quantity
    C: u.Quantity
    charge: ChargeCurve
    tau_profiles: TauProfiles
    weight_bits: int
    synapse_mismatch_std: float | None
    leak_mismatch_std: float | None
    threshold_mismatch_std: float | None
    core_power: u.Quantity
    spike_energy: u.Quantity
    event_energy: u.Quantity
    frontend_channel_power: u.Quantity
    provenance: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("name", "family"):
            check_line(getattr(self, name), call="ChipSpec", name=name)
        self._set(
            "weight_limit", float(exact(self.weight_limit, None, call="ChipSpec", name="weight_limit", positive=True))
        )
        self._set("cores", _cores(self.cores))
        for name in ("frontend_channels", "sign_block", "weight_bits"):
            self._set(name, positive_int(getattr(self, name), call="ChipSpec", name=name))
        if self.weight_bits not in BITS:
            raise ValueError(
                f"ChipSpec: weight_bits must lie between {BITS[0]} (a sign and a zero) and {BITS[-1]}; "
                f"got {self.weight_bits}."
            )
        choice(self.sign_axis, ("pre", "post"), call="ChipSpec", name="sign_axis")
        choice(self.reset, ("zero", "subtract"), call="ChipSpec", name="reset")
        for name, kind in (("charge", ChargeCurve), ("tau_profiles", TauProfiles)):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"ChipSpec: {name} must be a {kind.__name__}; got {describe(getattr(self, name))}.")
        for name in _MISMATCHES:
            value = getattr(self, name)
            if value is not None:
                self._set(name, float(exact(value, None, call="ChipSpec", name=name, nonnegative=True)))
        if (self.threshold_mismatch_std or 0) > WIDEST_THRESHOLD:
            raise ValueError(
                f"ChipSpec: threshold_mismatch_std must be at most {WIDEST_THRESHOLD:g}, beyond it a normal spread "
                f"would make some thresholds negative; got {self.threshold_mismatch_std:g}."
            )
        for name, unit in UNITS.items():
            positive = name in ("V_th", "C")
            number = exact(
                getattr(self, name), unit, call="ChipSpec", name=name, positive=positive, nonnegative=not positive
            )
            self._set(name, u.Quantity(float(number), unit=unit))
        self._set("provenance", check_provenance(self.provenance, sourced_fields(), call="ChipSpec"))
        self._set("notes", check_notes(self.notes, sourced_fields(), call="ChipSpec"))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def n_neurons(self) -> int:
        """How many neurons the chip has, over all cores."""
        return sum(self.cores)

    def replace(self, *, provenance: str | Mapping[str, str] = "assumed", **changes: Any) -> ChipSpec:
        """Return a new spec with some fields changed.

        Parameters
        ----------
        provenance : str or mapping
            Where the new values come from: one word for all of them, or a word for each field; a changed field
            that the mapping leaves out is ``"assumed"``, and a field named only there keeps its value.
        **changes
            The new values by field name. ``notes`` are added to those of the untouched fields; the old note
            of a changed field is dropped, since it spoke of the old value.

        Returns
        -------
        ChipSpec
            The new spec; this one stays as it is.

        Raises
        ------
        TypeError, ValueError
            If a field is unknown or a value is bad.

        Examples
        --------
        >>> from brainhw.chip import H1V2
        >>> chip = H1V2.replace(weight_bits=4, provenance={"weight_bits": "measured"})
        >>> chip.weight_bits, chip.provenance["weight_bits"], H1V2.weight_bits
        (4, 'measured', 5)
        """
        known = [item.name for item in fields(self) if item.name != "provenance"]
        for name in changes:
            if name not in known:
                raise TypeError(
                    f"ChipSpec.replace: there is no field {name!r}{closest(name, known)}; "
                    f"the fields are {', '.join(known)}."
                )
        changed = [name for name in sourced_fields() if name in changes]
        if isinstance(provenance, Mapping):
            sources = {**dict.fromkeys(changed, "assumed"), **provenance}
        else:
            source = choice(provenance, PROVENANCES, call="ChipSpec.replace", name="provenance")
            sources = dict.fromkeys(changed, source)
        kept = {name: note for name, note in self.notes.items() if name not in changed}
        values = {**_values(self), **changes}
        values["provenance"] = {**self.provenance, **sources}
        values["notes"] = {**kept, **check_notes(changes.get("notes", {}), sourced_fields(), call="ChipSpec")}
        return ChipSpec(**values)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the spec to a text file that people can edit (see `save_chip`)."""
        from brainhw.chip.file import save_chip

        save_chip(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> ChipSpec:
        """Read a spec from a file (see `load_chip`)."""
        from brainhw.chip.file import load_chip

        return load_chip(path)

    def table(self, *, notes: bool = False) -> str:
        """Return the spec as an aligned table: field, value with unit, provenance.

        A field that differs from the preset of the same name is marked with ``*`` and the preset's value.

        Parameters
        ----------
        notes : bool
            Whether to put each field's note below it.
        """
        from brainhw.chip.printout import table

        return table(self, notes=notes)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return f"ChipSpec({self.name!r}, family={self.family!r}, {self.n_neurons} neurons)"

    def _key(self) -> tuple[Any, ...]:
        values = _values(self)
        values.update({name: values[name].mantissa for name in UNITS})
        values["provenance"], values["notes"] = tuple(self.provenance.items()), tuple(self.notes.items())
        return tuple(values.values())

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, ChipSpec) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    # The read-only mappings cannot be pickled, so copies and pickles go through the constructor.
    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, ({**_values(self), "provenance": dict(self.provenance), "notes": dict(self.notes)},)


def sourced_fields() -> tuple[str, ...]:
    """Return the names of the fields that carry a provenance, in the order of the table."""
    return tuple(item.name for item in fields(ChipSpec) if item.name not in ("name", "family", "provenance", "notes"))


def _values(spec: ChipSpec) -> dict[str, Any]:
    return {item.name: getattr(spec, item.name) for item in fields(spec)}


def _rebuild(values: dict[str, Any]) -> ChipSpec:
    return ChipSpec(**values)


def _cores(value: Any) -> tuple[int, ...]:
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise TypeError(
            f"ChipSpec: cores must be the neurons of each core, such as (50, 50, 100); got {describe(value)}."
        )
    cores = tuple(positive_int(n, call="ChipSpec", name=f"cores[{i}]") for i, n in enumerate(value))
    if not cores:
        raise ValueError("ChipSpec: cores must name at least one core, such as (50, 50, 100); got none.")
    return cores
