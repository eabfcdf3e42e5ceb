"""The file of a measured chip: what is saved is loaded to the bit, damage and foreign content are named."""

import json
import random

import brainunit as u
import numpy as np
import pytest
from silicon_chips import measured

import brainhw as bh
from brainhw._plain_json import text_of
from brainhw.silicon import MeasuredChip
from brainhw.silicon.measured_file import _FILE, TAG


@pytest.fixture
def saved(tmp_path):
    measured().save(tmp_path / "mine.chip")
    return tmp_path / "mine.chip"


def test_what_is_saved_is_loaded(tmp_path):
    chips = [
        measured(),
        measured("H1v2", holes=False, leak_mismatch_std=(0.1,) * 8, weight_lowest=-1.5),
        MeasuredChip(bh.chip.H1V2, np.full((8, 200), np.nan) * u.ms, np.full(200, np.nan) * u.mV, notes="a\n\nb µ"),
    ]
    for chip in chips:
        chip.save(tmp_path / "mine.chip")
        assert MeasuredChip.load(tmp_path / "mine.chip") == chip


def test_the_file_is_readable_text_with_a_checksum(saved):
    first, _, rest = saved.read_text(encoding="ascii").partition("\n")
    assert first.split()[:2] == [TAG, "1"]
    data = json.loads(rest)
    assert len(data["tau_ms"]) == 8
    assert data["V_th_mV"][0] is None
    assert data["notes"] == ["bench 3"]
    assert text_of(data) == rest


def test_any_damage_is_refused(saved):
    whole = saved.read_bytes()
    rng = random.Random(0)
    for _ in range(100):
        at = rng.randrange(len(whole))
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :]):
            saved.write_bytes(data)
            with pytest.raises(ValueError, match=r"^MeasuredChip\.load: .*mine\.chip'"):
                MeasuredChip.load(saved)


def edited(saved, change):
    """Write the file anew with other content and the right checksum."""
    data = json.loads(saved.read_bytes().partition(b"\n")[2])
    change(data)
    _FILE.write(saved, json.dumps(data).encode(), call="test")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda data: data.pop("notes"), "must have exactly the fields chip, notes"),
        (lambda data: data.update(more=1), "must have exactly the fields chip, notes"),
        (lambda data: data.update(tau_ms="x"), "tau_ms must contain rows"),
        (lambda data: data["tau_ms"].pop(), r"tau must have shape \(8, 256\).*\(7, 256\)"),
        (lambda data: data["tau_ms"][0].pop(), "tau_ms: all rows"),
        (lambda data: data["V_th_mV"].__setitem__(3, -1.0), r"V_th .*-1 mV at \(3,\)"),
        (lambda data: data["V_th_mV"].__setitem__(3, 95), "V_th_mV must contain rows"),
        (lambda data: data["V_th_mV"].__setitem__(3, True), "V_th_mV must contain rows"),
        (lambda data: data["V_th_mV"].__setitem__(3, float("nan")), "NaN is not allowed as a number"),
        (lambda data: data.update(V_th_mV=None), "V_th must be a Quantity"),
        (lambda data: data.update(notes="bench"), "notes must be a list of lines"),
        (lambda data: data["chip"].pop(), None),
        (lambda data: data["chip"].clear(), "chip must be a list of lines"),
        (lambda data: data["chip"].append("x = 3"), "chip: "),
    ],
)
def test_bad_content_is_named(saved, change, match):
    edited(saved, change)
    if match is None:  # the last line is empty
        assert MeasuredChip.load(saved) == measured()
        return
    with pytest.raises(ValueError, match=rf"MeasuredChip\.load: .*mine\.chip' has invalid content: .*{match}"):
        MeasuredChip.load(saved)


def test_other_files_are_named(tmp_path):
    path = tmp_path / "chip.toml"
    bh.chip.H1V1.save(path)
    with pytest.raises(ValueError, match=r"MeasuredChip\.load: .*is not a measured chip"):
        MeasuredChip.load(path)
    with pytest.raises(ValueError, match="cannot be read"):
        MeasuredChip.load(tmp_path / "none.chip")
    with pytest.raises(ValueError, match="does not exist"):
        measured().save(tmp_path / "no" / "mine.chip")


def test_a_family_that_is_not_here_is_named(saved):
    edited(saved, lambda data: data.update(chip=[line.replace('"H1v1"', '"X9"') for line in data["chip"]]))
    with pytest.raises(ValueError, match=r"needs a chip family that is not registered: .*'X9'"):
        MeasuredChip.load(saved)
