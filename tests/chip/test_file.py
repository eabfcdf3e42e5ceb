"""The chip file: what is saved is loaded, in whatever unit a lab writes, and every slip is named."""

import dataclasses
import os
import re
import stat
import tomllib

import brainunit as u
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainhw.chip import (
    H1V1,
    H1V2,
    ChipSpec,
    LinearCharge,
    SaturatingCharge,
    TabulatedCharge,
    TauProfiles,
    load_chip,
    save_chip,
)

MEASURED = H1V2.replace(
    name="chip 7",
    charge=TabulatedCharge([-1.66, -0.3, 0.0, 0.7, 1.66], [-0.71, -0.14, 0.0, 0.3, 0.75] * u.fcoulomb),
    V_th=0.0953 * u.volt,
    provenance="measured",
    notes={"V_th": 'Bench "3", 21 °C, at 1.2 V \\ 0.1 V.'},
)
ADDED = [item.name for item in dataclasses.fields(ChipSpec) if item.default is not dataclasses.MISSING]
LATER = {"weight_lowest": -1.5, "noise_std": 1.5 * u.mV}


class Wider(ChipSpec):
    """A spec class that belongs to no family."""


positive = st.floats(1e-3, 1e4)
spread = st.one_of(st.none(), st.floats(0.0, 1.0))
line = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda t: t.strip() and t.isprintable())
increasing = st.lists(positive, min_size=2, max_size=6).map(np.cumsum)
curves = st.one_of(
    st.builds(lambda g: LinearCharge(g * u.fcoulomb), positive),
    st.builds(lambda g, s: SaturatingCharge(g * u.fcoulomb, s), positive, positive),
    st.builds(
        lambda w, q: TabulatedCharge(np.linspace(-w, w, q.size), (q - q[0]) * u.fcoulomb), st.floats(0.1, 5), increasing
    ),
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "name": line,
        "weight_limit": positive,
        "cores": st.lists(st.integers(1, 500), min_size=1, max_size=6),
        "frontend_channels": st.integers(1, 64),
        "sign_block": st.integers(1, 9),
        "sign_axis": st.sampled_from(["pre", "post"]),
        "reset": st.sampled_from(["zero", "subtract"]),
        "V_th": positive.map(lambda x: x * u.mV),
        "C": positive.map(lambda x: x * 1e-15 * u.farad),
        "charge": curves,
        "tau_profiles": increasing.map(lambda x: TauProfiles(x * u.ms)),
        "weight_bits": st.integers(2, 16),
        "synapse_mismatch_std": spread,
        "leak_mismatch_std": spread,
        "threshold_mismatch_std": spread.map(lambda x: None if x is None else min(x, 0.2)),
        "core_power": positive.map(lambda x: x * u.nwatt),
        "spike_energy": positive.map(lambda x: x * u.fjoule),
        "event_energy": positive.map(lambda x: x * u.joule),
        "frontend_channel_power": positive.map(lambda x: x * u.watt),
        "notes": st.dictionaries(st.sampled_from(["V_th", "charge", "cores", "leak_mismatch_std"]), line),
    },
)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "chip.toml"
    MEASURED.save(path)
    return path


def edited(path, pattern, text):
    """Rewrite the first place below the header that ``pattern`` matches."""
    header, start, body = path.read_text(encoding="utf-8").partition("\nformat = ")
    after, n = re.subn(pattern, lambda _: text, start + body, count=1, flags=re.S)
    assert n == 1
    path.write_text(header + after, encoding="utf-8")
    return path


def in_table(name, key):
    return rf"(?<=\n\[{name}\])(?P<rest>[^\[]*?)\n{key} = [^\n]*"


@pytest.mark.parametrize("chip", [H1V1, H1V2, MEASURED], ids=lambda chip: chip.name)
def test_what_is_saved_is_loaded(chip, tmp_path):
    path = tmp_path / "chip.toml"
    save_chip(chip, path)
    assert load_chip(path) == chip
    assert ChipSpec.load(str(path)) == chip
    assert hash(load_chip(path)) == hash(chip)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(changes=changes, source=st.sampled_from(["documented", "assumed", "measured"]))
def test_any_valid_spec_survives_the_round_trip(tmp_path_factory, changes, source):
    path = tmp_path_factory.mktemp("round") / "chip.toml"
    chip = H1V1.replace(provenance=source, **changes)
    chip.save(path)
    assert load_chip(path) == chip


def test_the_file_explains_itself(saved):
    text = saved.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert text.index("measured") < text.index("format = ")
    data = tomllib.loads(text)
    assert data["format"] == "brainhw-chip/1"
    assert data["V_th"] == {
        "value": 95.3,
        "unit": "mV",
        "provenance": "measured",
        "note": 'Bench "3", 21 °C, at 1.2 V \\ 0.1 V.',
    }
    assert data["synapse_mismatch_std"]["value"] == "none"
    assert set(data["charge"]) == {"kind", "weights", "charges", "unit", "provenance"}
    assert set(data) == {"format", "name", "family", *MEASURED.provenance} - set(ADDED)
    # Those that are left out, the reader learns of at the end.
    for name in ADDED:
        assert f"# [{name}]" in text


@pytest.mark.parametrize("name", ADDED)
def test_a_field_of_later_days_is_written_once_it_says_something(tmp_path, name):
    chips = [
        MEASURED.replace(provenance={name: "measured"}),
        MEASURED.replace(notes={name: "see page 3"}),
        MEASURED.replace(**{name: LATER[name]}, provenance="measured"),
    ]
    for chip in chips:
        chip.save(tmp_path / "chip.toml")
        assert load_chip(tmp_path / "chip.toml") == chip
        assert f"\n[{name}]" in (tmp_path / "chip.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "unit"), [("0.0953", "volt"), ("95300.0", "uvolt"), ("95.3", "mvolt"), ("0.0953", "V")]
)
def test_any_unit_of_the_kind_is_converted(saved, value, unit):
    edited(saved, r'value = 95.3\nunit = "mV"', f'value = {value}\nunit = "{unit}"')
    assert load_chip(saved) == MEASURED


def test_times_and_charges_are_converted_too(tmp_path):
    path = tmp_path / "chip.toml"
    H1V1.save(path)
    edited(
        path,
        r"value = \[1.0, 2.0.*?\"ms\"",
        'value = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2]\nunit = "second"',
    )
    edited(path, "gain = 1.034", "gain = 1.034e-3")
    edited(path, 'unit = "fcoulomb"', 'unit = "pcoulomb"')
    assert load_chip(path) == H1V1


def test_whole_numbers_will_do(tmp_path):
    path = tmp_path / "chip.toml"
    H1V1.save(path)
    edited(path, r"value = 100.0", "value = 100")
    edited(path, r"value = \[1.0, 2.0,", "value = [1, 2,")
    assert load_chip(path) == H1V1


def test_editors_with_byte_order_mark_and_windows_lines_will_do(saved):
    saved.write_bytes(b"\xef\xbb\xbf" + saved.read_bytes().replace(b"\n", b"\r\n"))
    assert load_chip(saved) == MEASURED


def test_a_note_may_be_left_out(saved):
    edited(saved, r"note = \"Bench[^\n]*", "")
    assert "V_th" not in load_chip(saved).notes


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    path = tmp_path / "chip.toml"
    H1V1.save(path)
    whole = path.read_bytes()
    line_ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for end in sorted({*line_ends[:-1], *range(0, len(whole) - 1, 17), len(whole) - 2}):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"load_chip: .*chip\.toml"):
            load_chip(path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "no format line"),
        (b"format = 1\n", "got format = 1"),
        (b'format = "other/1"\n', 'expected the line format = "brainhw-chip/1"'),
        (b'format = "brainhw-chip"\n', "is not a supported chip file"),
        (b'format = "brainhw-chip/x"\n', "is not a supported chip file"),
        (b'format = "brainhw-chip/2"\n', "has format version 2, but this brainhw reads version 1. Update brainhw"),
        (b'format = "brainhw-chip/1"\n', "lacks name, family, weight_limit"),
        (
            b'format = "brainhw-chip/1"\nfamily = "X9"\n',
            "chip family 'X9' is not registered.* 'H1v1', 'H1v2'.* import the package",
        ),
        (
            b'format = "brainhw-chip/1"\nfamily = "X9"\npackage = "lab.x9"\n',
            "chip family 'X9' is not registered.* import lab.x9",
        ),
        (b'format = "brainhw-chip/1"\nfamily = "H1v1"\npackage = "import os"\n', "package must be the name of"),
        (b"format = ", "is not valid TOML, or is incomplete"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_what_is_no_chip_file_is_refused(tmp_path, content, match):
    path = tmp_path / "chip.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"load_chip: '.*chip\.toml': .*{match}"):
        load_chip(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ValueError, match=rf"load_chip: '{re.escape(str(path))}': the file cannot be read"):
            load_chip(path)


@pytest.mark.parametrize("name", [name for name in MEASURED.provenance if name not in ADDED])
def test_a_missing_field_is_named(saved, name):
    edited(saved, rf"\n\[{name}\].*?(?=\n\[|\Z)", "\n")
    with pytest.raises(ValueError, match=rf"chip\.toml': the file lacks {name};"):
        load_chip(saved)


@pytest.mark.parametrize(
    ("pattern", "text", "match"),
    [
        (r"\[V_th\]", "[v_th]", "unknown field 'v_th' .did you mean 'V_th'"),
        (r"\nname = ", "\nnam = ", "unknown field 'nam' .did you mean 'name'"),
        (r"\nname = [^\n]*", "\nname = 3", "ChipSpec: name must be one line"),
        (r"value = 95.3", "vallue = 95.3", r"\[V_th\]: the table has an unknown field 'vallue' .did you mean 'value'"),
        (r"value = 95.3\n", "", r"\[V_th\]: the table lacks value"),
        (r"value = 95.3\nunit = \"mV\"", "value = 95.3", r"\[V_th\]: the table lacks unit"),
        (r'unit = "mV"', 'unit = "ms"', r"\[V_th\]: .*'ms', which has the wrong dimension; use for example unit = .mV"),
        (r'unit = "mV"', 'unit = "milivolt"', r"\[V_th\]: .*'milivolt', which brainunit does not know"),
        (r'unit = "mV"', "unit = 5", r"\[V_th\]: .*must be the name of a brainunit unit"),
        (r"value = 95.3", "value = -95.3", "ChipSpec: V_th must be greater than zero"),
        (r"value = 95.3", "value = nan", r"\[V_th\]: value must be finite"),
        (r"value = 95.3", 'value = "95.3"', r"\[V_th\]: value must be real numbers"),
        (r"value = 95.3", "value = true", r"\[V_th\]: value must be real numbers"),
        (r"value = 95.3", "value = [95.3, 2.0]", "ChipSpec: V_th must be a scalar"),
        (r"value = 95.3", "value = 1" + "0" * 400, r"\[V_th\]: value must be"),
        (r"value = 95.3", "value = 1979-05-27", r"\[V_th\]: value must be real numbers"),
        (
            in_table("weight_limit", "provenance"),
            '\nvalue = 1.66\nprovenance = "guessed"',
            "provenance of weight_limit",
        ),
        (in_table("weight_limit", "provenance"), "\nvalue = 1.66", r"\[weight_limit\]: the table lacks provenance"),
        (
            r"\nfamily = [^\n]*\n\n\[weight_limit\][^\[]*",
            '\nfamily = "H1v2"\nweight_limit = 1.66\n',
            r"weight_limit must be a table",
        ),
        (r"value = 1.66", 'value = 1.66\nunit = "mV"', r"\[weight_limit\]: the table has an unknown field 'unit'"),
        (r"value = 1.66", 'value = "none"', "ChipSpec: weight_limit must be"),
        (r"value = \[50, 50, 100\]", "value = [50.0, 50]", r"ChipSpec: cores\[0\] must be an integer"),
        (r"value = \[50, 50, 100\]", 'value = "50"', "ChipSpec: cores must be a sequence"),
        (r"value = \[1.0, 2.0,", "value = [2.0, 2.0,", r"\[tau_profiles\]: TauProfiles: values must be strictly"),
        (r'unit = "ms"', 'unit = "mV"', r"\[tau_profiles\]: .*has the wrong dimension"),
        (r'kind = "tabulated"', 'kind = "table"', r"\[charge\]: kind must be one of"),
        (r'kind = "tabulated"\n', "", r"\[charge\]: kind must be one of"),
        (r"charges = \[", "charge = [", r"\[charge\]: a tabulated charge curve requires 'charges'"),
        (
            r"weights = \[-1.66",
            "gain = 1\nweights = [-1.66",
            r"\[charge\]: a tabulated charge curve has no parameter 'gain'",
        ),
        (r"weights = \[-1.66", "weights = [1.66", r"\[charge\]: TabulatedCharge: weights must be strictly increasing"),
        (r'unit = "fcoulomb"', 'unit = "mV"', r"\[charge\]: .*has the wrong dimension"),
        (r'note = "Bench', 'note = "\\n', "ChipSpec: note on V_th must be one line"),
        (r'note = "Bench[^\n]*', "note = 3", "ChipSpec: note on V_th must be one line"),
    ],
)
def test_every_slip_is_named(saved, pattern, text, match):
    edited(saved, pattern, text)
    with pytest.raises(ValueError, match=rf"load_chip: '.*chip\.toml': .*({match})"):
        load_chip(saved)


def test_saving_leaves_no_other_file_and_keeps_the_mode(saved):
    saved.chmod(0o640)
    H1V1.save(saved)
    assert load_chip(saved) == H1V1
    assert stat.S_IMODE(saved.stat().st_mode) == 0o640
    assert os.listdir(saved.parent) == ["chip.toml"]


def test_saving_through_a_link_keeps_the_link(saved):
    link = saved.with_name("link.toml")
    link.symlink_to(saved)
    H1V1.save(link)
    assert link.is_symlink()
    assert load_chip(saved) == H1V1


def test_a_failed_save_leaves_what_was_there(saved, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ValueError, match=r"save_chip: cannot write .*No space left on device"):
        H1V1.save(saved)
    assert load_chip(saved) == MEASURED
    assert os.listdir(saved.parent) == ["chip.toml"]


def test_saving_where_there_is_no_folder_is_refused(saved):
    for path in (saved.parent / "none" / "chip.toml", saved / "chip.toml", saved.parent):
        with pytest.raises(ValueError, match="save_chip: cannot write "):
            H1V1.save(path)
    assert load_chip(saved) == MEASURED


def test_only_a_spec_of_a_registered_family_is_saved(tmp_path):
    with pytest.raises(ValueError, match="save_chip: the chip family 'X9' is not registered"):
        H1V1.replace(family="X9").save(tmp_path / "chip.toml")
    with pytest.raises(TypeError, match=r"save_chip: specs of the family H1v1 must be ChipSpec, but 'H1v1' is a Wider"):
        Wider(**{item.name: getattr(H1V1, item.name) for item in dataclasses.fields(H1V1)}).save(tmp_path / "chip")
    with pytest.raises(TypeError, match="save_chip: spec must be a ChipSpec; got 'h1v1'"):
        save_chip("h1v1", tmp_path / "chip.toml")
