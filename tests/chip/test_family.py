"""Chip families: one object each, registered once, with spec classes of their own."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, fields
from typing import Any

import brainunit as u
import pytest

from brainhw.chip import (
    H1V1,
    H1V1_FAMILY,
    H1V2,
    H1V2_FAMILY,
    ChipSpec,
    Family,
    Mismatch,
    families,
    get_family,
    load_chip,
    register_family,
    spec_field,
)
from brainhw.chip import family as family_file


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LabSpec(ChipSpec):
    V_reset: u.Quantity = spec_field("membrane after a spike", unit=u.mV, nonnegative=True)
    refractory: int = spec_field("steps without a spike", whole=True)
    levels: tuple[float, ...] = spec_field("levels of a weight", many=True)
    capacitance_mismatch_std: float | None = spec_field("spread of capacitances", optional=True, nonnegative=True)
    reset: str = spec_field("what a spike does", choices=("zero", "subtract", "value"))


OWN = {
    "V_reset": 0.02 * u.volt,
    "refractory": 2,
    "levels": [-0.5, 0.0, 0.5],
    "capacitance_mismatch_std": None,
    "reset": "value",
}


def lab_spec(**changes: Any) -> LabSpec:
    values = {item.name: getattr(H1V1, item.name) for item in fields(ChipSpec)} | {"family": "Lab"} | OWN | changes
    values["provenance"] = {**H1V1.provenance, **dict.fromkeys(OWN, "measured")}
    return LabSpec(**values)


READ = tuple(one for one in H1V1_FAMILY.mismatches if one.kind in ("synapse", "leak"))


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Family:
    """The family of :class:`LabSpec`, registered for one test."""
    monkeypatch.setattr(family_file, "_registered", dict(family_file._registered))
    mismatches = (*READ, Mismatch("capacitance", "capacitance_mismatch_std"))
    return register_family(Family("Lab", presets=(lab_spec(name="Lab"),), mismatches=mismatches, package="labchips"))


def test_the_families_of_brainhw_are_registered_with_their_presets_and_kinds() -> None:
    assert families()[:2] == (H1V1_FAMILY, H1V2_FAMILY)
    assert get_family("h1V2") is H1V2_FAMILY
    assert (H1V1_FAMILY.preset, H1V2_FAMILY.preset) == (H1V1, H1V2)
    assert H1V1_FAMILY.sizes(H1V1) == {"synapse": 0.02, "leak": 0.1, "threshold": None}


def test_a_spec_of_an_outside_family_is_a_spec_everywhere(lab: Family, tmp_path) -> None:
    chip = lab.preset.replace(V_reset=25 * u.mV, notes={"V_reset": "bench 2"})
    assert isinstance(chip, LabSpec)
    assert (chip.V_reset.mantissa, chip.levels, chip.reset) == (25.0, (-0.5, 0.0, 0.5), "value")
    assert chip.provenance["V_reset"] == "assumed"
    assert chip != lab.preset
    assert lab.preset == lab_spec(name="Lab")
    assert hash(lab.preset) == hash(lab_spec(name="Lab"))
    for other in (copy.deepcopy(chip), pickle.loads(pickle.dumps(chip))):
        assert other == chip
    chip.save(tmp_path / "lab.toml")
    assert load_chip(tmp_path / "lab.toml") == ChipSpec.load(tmp_path / "lab.toml") == chip
    assert 'package = "labchips"' in (tmp_path / "lab.toml").read_text()
    table = chip.table(notes=True)
    for words in ("25 mV", "(preset: 20 mV, measured)", "bench 2", "-0.5, 0, 0.5", "capacitance_mismatch_std"):
        assert words in table


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"V_reset": -1 * u.mV}, ValueError, "LabSpec: V_reset must"),
        ({"V_reset": 1 * u.ms}, TypeError, "LabSpec: V_reset must have the dimension of mV"),
        ({"refractory": 1.5}, TypeError, "LabSpec: refractory must be an integer; got 1.5"),
        ({"levels": 0.5}, TypeError, "LabSpec: levels must be a sequence"),
        ({"levels": []}, ValueError, "LabSpec: levels must contain at least one"),
        ({"levels": [0.5, "x"]}, TypeError, r"LabSpec: levels\[1\] must be"),
        ({"reset": "half"}, ValueError, "LabSpec: reset must be one of 'zero', 'subtract', 'value'"),
    ],
)
def test_bad_values_of_own_fields_are_named(changes: dict, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        lab_spec(**changes)


def test_a_spec_class_that_could_not_be_compared_or_saved_is_refused() -> None:
    @dataclass(frozen=True)
    class Compared(LabSpec):
        pass

    @dataclass(frozen=True, eq=False, kw_only=True)
    class Undeclared(LabSpec):
        extra: float

    values = {item.name: getattr(lab_spec(), item.name) for item in fields(LabSpec)}
    with pytest.raises(TypeError, match=r"Compared: .*@dataclass\(frozen=True, eq=False"):
        Compared(**values)
    with pytest.raises(TypeError, match="Undeclared: the field 'extra' has no declaration"):
        Undeclared(**values, extra=1.0)


def test_bad_families_are_named(lab: Family) -> None:
    with pytest.raises(ValueError, match=r"register_family: the family 'lab' is already registered by .*'labchips'"):
        register_family(Family("lab", presets=(lab_spec(family="lab"),), mismatches=READ, package="labchips"))
    with pytest.raises(ValueError, match="Family: the preset 'H1v1' has family 'H1v1'; expected 'Lab'"):
        Family("Lab", presets=(H1V1,), package="labchips")
    with pytest.raises(
        TypeError, match="Family: the presets of Lab must have the same class; got ChipSpec and LabSpec"
    ):
        Family("Lab", presets=(lab_spec(), H1V1.replace(family="Lab")), package="labchips")
    with pytest.raises(ValueError, match=r"the mismatch 'delay' of Lab .* 'delay_std'"):
        Family("Lab", presets=(lab_spec(),), mismatches=(Mismatch("delay", "delay_std"),), package="labchips")
    with pytest.raises(ValueError, match=r"my call: the chip family 'X9' is not registered; .* import x9 first"):
        get_family("X9", call="my call", package="x9")
    with pytest.raises(TypeError, match=r"register_family: family must be a brainhw.chip.Family; got 3"):
        register_family(3)


def test_a_standard_deviation_that_no_mismatch_reads_is_reported() -> None:
    ignored = r"^Family: sample_chip ignores capacitance_mismatch_std = 0.1 .*'H1v1'.*Add Mismatch\('capacitance'"
    with pytest.warns(UserWarning, match=ignored) as caught:
        Family("Lab", presets=(lab_spec(capacitance_mismatch_std=0.1),), mismatches=READ, package="labchips")
    assert caught[0].filename == __file__


def test_a_family_names_its_package() -> None:
    with pytest.raises(TypeError, match=r"Family.*missing .* 'package'"):
        Family("Lab", presets=(lab_spec(),))
    for package in ("", "lab chips", "labchips.", None):
        with pytest.raises(ValueError, match="Family: package must be the name of a Python package; got") as caught:
            Family("Lab", presets=(lab_spec(),), package=package)
        assert repr(package) in str(caught.value)


def test_a_module_gets_family_and_default_chip_unless_it_has_its_own(lab: Family) -> None:
    class Base:
        family, preset = "H1v1", H1V1

    @lab.module("layer")
    class Layer(Base):
        pass

    @lab.module("synapse")
    class Synapse(Base):
        preset = other = lab_spec(name="other")

    assert (Layer.family, Layer.preset) == ("Lab", lab.preset)
    assert (Synapse.family, Synapse.preset) == ("Lab", Synapse.other)
    assert lab.modules == {"layer": Layer, "synapse": Synapse}
