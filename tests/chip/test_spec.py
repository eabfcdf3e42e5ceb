"""ChipSpec: one unit a field, every bad value named, provenance complete, replacing, printing."""

import copy
import dataclasses
import pickle

import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

from brainhw.chip import H1V1, H1V2, ChipSpec, LinearCharge, SaturatingCharge, TauProfiles

PLAIN = ("name", "family", "provenance", "notes")
SOURCED = [item.name for item in dataclasses.fields(ChipSpec) if item.name not in PLAIN]
ADDED = [item.name for item in dataclasses.fields(ChipSpec) if item.default is not dataclasses.MISSING]
QUANTITIES = {
    "noise_std": u.mV,
    "V_th": u.mV,
    "C": u.ffarad,
    "core_power": u.uwatt,
    "spike_energy": u.pjoule,
    "event_energy": u.pjoule,
    "frontend_channel_power": u.uwatt,
}


def values(spec=H1V1):
    return {item.name: getattr(spec, item.name) for item in dataclasses.fields(spec)}


@pytest.mark.parametrize("chip", [H1V1, H1V2], ids=lambda chip: chip.name)
def test_provenance_is_complete(chip):
    assert list(chip.provenance) == SOURCED


@pytest.mark.parametrize("name", ADDED)
def test_a_field_of_later_days_may_be_left_out(name):
    given = {key: value for key, value in values().items() if key != name}
    given["provenance"] = {key: word for key, word in given["provenance"].items() if key != name}
    assert ChipSpec(**given) == H1V1
    assert getattr(H1V1, name) is None


@pytest.mark.parametrize("name", [name for name in SOURCED if name not in ADDED])
def test_missing_provenance_is_refused(name):
    given = values()
    given["provenance"] = {key: word for key, word in given["provenance"].items() if key != name}
    with pytest.raises(ValueError, match=rf"ChipSpec: provenance .* no entry for {name}\."):
        ChipSpec(**given)


@pytest.mark.parametrize(
    ("provenance", "error", "match"),
    [
        (
            {**H1V1.provenance, "v_th": "assumed"},
            ValueError,
            "provenance contains the unknown field 'v_th'.*did you mean 'V_th'",
        ),
        ({**H1V1.provenance, "name": "assumed"}, ValueError, "provenance contains the unknown field 'name'"),
        ({**H1V1.provenance, "V_th": "guessed"}, ValueError, "provenance of V_th must be one of 'documented'"),
        ({**H1V1.provenance, "V_th": None}, ValueError, "provenance of V_th"),
        ("assumed", TypeError, "provenance must be a mapping"),
    ],
)
def test_bad_provenance_is_refused(provenance, error, match):
    with pytest.raises(error, match=f"ChipSpec: {match}"):
        ChipSpec(**{**values(), "provenance": provenance})


@pytest.mark.parametrize(
    ("notes", "error", "match"),
    [
        ({"vth": "x"}, ValueError, "notes contains the unknown field 'vth'"),
        ({"V_th": "two\nlines"}, ValueError, "note on V_th must be one line"),
        ({"V_th": ""}, ValueError, "note on V_th"),
        ({"V_th": 3}, ValueError, "note on V_th"),
        (["V_th"], TypeError, "notes must be a mapping"),
    ],
)
def test_bad_notes_are_refused(notes, error, match):
    with pytest.raises(error, match=f"ChipSpec: {match}"):
        ChipSpec(**{**values(), "notes": notes})


def test_notes_are_optional():
    given = values()
    del given["notes"]
    assert dict(ChipSpec(**given).notes) == {}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("name", "", ValueError),
        ("name", 3, ValueError),
        ("name", "two\nlines", ValueError),
        ("family", None, ValueError),
        ("weight_limit", 0.0, ValueError),
        ("weight_limit", -0.9, ValueError),
        ("weight_limit", float("nan"), ValueError),
        ("weight_limit", "0.9", TypeError),
        ("weight_limit", True, TypeError),
        ("weight_limit", None, TypeError),
        ("weight_limit", [0.9], ValueError),
        ("weight_limit", 0.9 * u.mV, TypeError),
        ("cores", (), ValueError),
        ("cores", (64, 0), ValueError),
        ("cores", (64, 1.5), TypeError),
        ("cores", 64, TypeError),
        ("cores", "64", TypeError),
        ("cores", None, TypeError),
        ("frontend_channels", -1, ValueError),
        ("frontend_channels", 16.0, TypeError),
        ("sign_block", -5, ValueError),
        ("sign_block", True, ValueError),
        ("sign_axis", "rows", ValueError),
        ("sign_axis", None, ValueError),
        ("reset", "to_zero", ValueError),
        ("weight_bits", 1, ValueError),
        ("weight_bits", 25, ValueError),
        ("weight_bits", None, TypeError),
        ("charge", 1.0 * u.fcoulomb, TypeError),
        ("charge", None, TypeError),
        ("tau_profiles", [1, 2] * u.ms, TypeError),
        ("tau_profiles", None, TypeError),
        ("synapse_mismatch_std", -0.1, ValueError),
        ("leak_mismatch_std", float("inf"), ValueError),
        ("leak_mismatch_std", (0.1, 0.2), ValueError),
        ("leak_mismatch_std", (0.1,) * 7 + (-0.2,), ValueError),
        ("leak_mismatch_std", (0.1,) * 7 + ("0.2",), TypeError),
        ("leak_mismatch_std", (), ValueError),
        ("weight_lowest", 0.0, ValueError),
        ("weight_lowest", 0.9, ValueError),
        ("weight_lowest", -0.97, ValueError),
        ("weight_lowest", float("nan"), ValueError),
        ("threshold_mismatch_std", 2.0 * u.mV, TypeError),
        ("threshold_mismatch_std", "none", TypeError),
        ("V_th", 0.0 * u.mV, ValueError),
        ("V_th", -1.0 * u.mV, ValueError),
        ("C", 0.0 * u.ffarad, ValueError),
        ("spike_energy", -1.0 * u.pjoule, ValueError),
        *[(name, 1.0, TypeError) for name in QUANTITIES],
        *[(name, None, TypeError) for name in QUANTITIES if name not in ADDED],
        *[(name, 1.0 * u.ms, TypeError) for name in QUANTITIES],
        *[(name, np.ones(2) * unit, ValueError) for name, unit in QUANTITIES.items()],
        *[(name, float("nan") * unit, ValueError) for name, unit in QUANTITIES.items()],
    ],
)
def test_every_bad_value_is_refused_by_name(name, value, error):
    with pytest.raises(error, match=rf"^ChipSpec: {name}\b"):
        H1V1.replace(**{name: value})


@pytest.mark.parametrize(("name", "unit"), QUANTITIES.items())
def test_each_quantity_is_kept_in_one_unit(name, unit):
    base = {"V_th": u.volt, "noise_std": u.volt, "C": u.farad}.get(name, u.watt if "power" in name else u.joule)
    scale = 1e-3 if base == u.volt else 1e-15 if name == "C" else 1e-6 if "power" in name else 1e-12
    one, other = H1V1.replace(**{name: 3.7 * unit}), H1V1.replace(**{name: 3.7 * scale * base})
    assert getattr(other, name).unit == unit
    assert getattr(other, name).mantissa == 3.7
    assert isinstance(getattr(other, name).mantissa, float)
    assert one == other
    assert hash(one) == hash(other)
    assert H1V1.replace(**{name: jnp.float32(3.7) * unit}) == one


def test_energies_may_be_zero_and_mismatch_absent():
    chip = H1V1.replace(core_power=0 * u.uwatt, leak_mismatch_std=None, synapse_mismatch_std=0)
    assert chip.core_power.mantissa == 0.0
    assert chip.leak_mismatch_std is None
    assert chip.synapse_mismatch_std == 0.0


def test_numbers_become_plain_python():
    chip = H1V1.replace(cores=np.array([32, 32]), weight_limit=np.float32(0.8), weight_bits=np.int64(6))
    assert chip.cores == (32, 32)
    assert chip.n_neurons == 64
    assert [type(n) for n in (*chip.cores, chip.weight_bits, chip.weight_limit)] == [int, int, int, float]
    assert chip.weight_limit == 0.8


def test_equal_by_value_and_hashable():
    again = ChipSpec(**values())
    assert again == H1V1
    assert hash(again) == hash(H1V1)
    assert H1V1 != H1V2
    assert H1V1 != "h1v1"
    assert len({H1V1, H1V2, again}) == 2


@pytest.mark.parametrize("name", [*SOURCED, "name", "family"])
def test_every_field_counts_in_a_comparison(name):
    changed = {
        "name": "n", "family": "f", "weight_limit": 0.8, "cores": (1,), "frontend_channels": 8, "sign_block": 4,
        "sign_axis": "post", "reset": "subtract", "charge": LinearCharge(1 * u.fcoulomb),
        "tau_profiles": TauProfiles([3] * u.ms), "weight_bits": 4, "synapse_mismatch_std": None,
        "leak_mismatch_std": 0.2, "weight_lowest": -0.8, "threshold_mismatch_std": 0.1,
    }  # fmt: skip
    value = changed.get(name, 7.0 * QUANTITIES[name] if name in QUANTITIES else None)
    assert ChipSpec(**{**values(), name: value}) != H1V1


def test_provenance_and_notes_count_in_a_comparison():
    assert H1V1.replace(provenance={"V_th": "measured"}) != H1V1
    assert H1V1.replace(notes={"V_th": "another"}) != H1V1


def test_a_chip_without_a_frontend_has_no_channels():
    assert H1V1.replace(frontend_channels=0).frontend_channels == 0


def test_a_spec_never_changes():
    with pytest.raises(dataclasses.FrozenInstanceError):
        H1V1.V_th = 1 * u.mV
    with pytest.raises(TypeError):
        H1V1.provenance["V_th"] = "measured"
    with pytest.raises(TypeError):
        H1V1.notes["V_th"] = "x"


def test_a_mapping_passed_in_is_not_shared():
    given = {**values(), "provenance": dict(H1V1.provenance)}
    chip = ChipSpec(**given)
    given["provenance"]["V_th"] = "measured"
    assert chip == H1V1


def test_copies_and_pickles_are_equal():
    assert pickle.loads(pickle.dumps(H1V1)) == H1V1
    assert copy.deepcopy(H1V2) == H1V2
    assert copy.copy(H1V2) == H1V2


def test_replace_marks_what_it_replaced():
    chip = H1V1.replace(V_th=95 * u.mV, C=90 * u.ffarad, provenance="measured")
    assert (chip.V_th.mantissa, chip.C.mantissa) == (95.0, 90.0)
    changed = {name for name in SOURCED if chip.provenance[name] != H1V1.provenance[name]}
    assert changed == {"V_th", "C"}
    assert chip.provenance["V_th"] == "measured"
    assert H1V1.V_th.mantissa == 100.0


def test_replace_is_assumed_unless_said():
    assert H1V1.replace(weight_limit=0.8).provenance["weight_limit"] == "assumed"


def test_replace_takes_a_provenance_for_each_field():
    chip = H1V1.replace(V_th=95 * u.mV, weight_bits=4, provenance={"V_th": "measured", "C": "measured"})
    assert [chip.provenance[name] for name in ("V_th", "weight_bits", "C")] == ["measured", "assumed", "measured"]
    assert chip.C.mantissa == 100.0


def test_replace_drops_a_stale_note_and_adds_a_new_one():
    chip = H1V1.replace(V_th=95 * u.mV, C=90 * u.ffarad, notes={"C": "bench 3"})
    assert "V_th" not in chip.notes
    assert chip.notes["C"] == "bench 3"
    assert chip.notes["charge"] == H1V1.notes["charge"]


def test_replace_of_the_name_needs_no_provenance():
    chip = H1V1.replace(name="chip 7", provenance="measured")
    assert chip.name == "chip 7"
    assert chip.provenance == H1V1.provenance


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"vth": 1}, TypeError, "ChipSpec.replace: there is no field 'vth' .did you mean 'V_th'"),
        ({"n_neurons": 1}, TypeError, "ChipSpec.replace: there is no field 'n_neurons'"),
        ({"provenance": "guess"}, ValueError, "ChipSpec.replace: provenance must be one of"),
        ({"provenance": None}, ValueError, "ChipSpec.replace: provenance must be one of"),
        ({"provenance": {"vth": "measured"}}, ValueError, "ChipSpec: provenance contains the unknown field 'vth'"),
        ({"provenance": {"V_th": "guess"}}, ValueError, "ChipSpec: provenance of V_th"),
    ],
)
def test_replace_refuses(changes, error, match):
    with pytest.raises(error, match=match):
        H1V1.replace(**changes)


def test_printed_table_shows_every_field_with_unit_and_provenance():
    lines = str(H1V1).splitlines()
    assert lines[0] == "H1v1: family H1v1, 256 neurons in 4 core(s)"
    rows = {line.split()[0]: line for line in lines[1:]}
    assert list(rows) == SOURCED
    for name, row in rows.items():
        assert row.rstrip().endswith(H1V1.provenance[name])
    assert "100 mV" in rows["V_th"]
    assert "100 fF" in rows["C"]
    assert "1.034 fC" in rows["charge"]
    assert "20 uW" in rows["core_power"]
    assert "none" in rows["threshold_mismatch_std"]
    assert len({row.index(H1V1.provenance[name]) for name, row in rows.items()}) == 1


def test_printed_table_marks_what_differs_from_the_preset():
    chip = H1V1.replace(V_th=95 * u.mV, C=100 * u.ffarad, provenance="measured")
    marked = [line for line in str(chip).splitlines() if line.startswith("*")]
    assert [line.split()[1] for line in marked[:-1]] == ["V_th", "C"]
    assert "95 mV" in marked[0]
    assert "(preset: 100 mV, assumed)" in marked[0]
    assert "(preset: assumed)" in marked[1]
    assert marked[-1] == "* differs from the preset H1v1"
    assert "*" not in str(chip.replace(name="chip 7"))


def test_printed_table_can_show_notes():
    assert H1V1.notes["V_th"] in H1V1.table(notes=True)
    assert H1V1.notes["V_th"] not in H1V1.table()


def test_repr_is_short():
    assert repr(H1V1) == "ChipSpec('H1v1', family='H1v1', 256 neurons)"


def test_a_measured_curve_takes_the_place_of_the_assumed_one():
    chip = H1V1.replace(charge=SaturatingCharge(1.1 * u.fcoulomb, 2.0), provenance="measured")
    assert float(chip.charge.slope_at_zero.mantissa) == 1.1
    assert chip.provenance["charge"] == "measured"
