"""The command calibrate: report, files, and one line for whatever goes wrong."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from brainhw.chip import H1V1
from brainhw.cli import main
from brainhw.silicon import MeasuredChip

pytestmark = pytest.mark.no_dt
LAB = Path(__file__).parents[1] / "golden" / "lab"
CHARGE, DECAY, RATES = (str(LAB / name) for name in ("charge.csv", "decay.csv", "fi.csv"))


def test_three_files_give_a_report_a_chip_and_a_figure(tmp_path, capsys) -> None:
    chip, figure = tmp_path / "chip7.chip", tmp_path / "chip7.png"
    words = ["calibrate", CHARGE, DECAY, RATES, "--family", "h1v1", "-o", str(chip), "--figure", str(figure)]
    assert main(words) == 0
    out = capsys.readouterr().out
    for text in ("calibration of chip7", "code +15: 0.88", "+-", "V_th", "trial noise", f"wrote {chip}"):
        assert text in out
    measured = MeasuredChip.load(chip)
    assert measured.spec.name == "chip7"
    assert np.flatnonzero(measured.known_V_th).tolist() == list(range(8))
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_options_reach_the_fit(tmp_path, capsys) -> None:
    spec, chip = tmp_path / "lab.toml", tmp_path / "a.chip"
    H1V1.replace(name="ours").save(spec)
    words = ["calibrate", DECAY, "--chip", str(spec), "--settings", "0=3,1=4,2=5", "--name", "nine", "-o", str(chip)]
    assert main(words) == 0
    measured = MeasuredChip.load(chip)
    assert measured.spec.name == "nine"
    assert np.flatnonzero(measured.known_tau.any(1)).tolist() == [3, 4, 5]
    assert "as passed in settings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([CHARGE], "pass either --family or --chip; got neither"),
        ([CHARGE, "--family", "h1v1", "--chip", "x.toml"], "got both"),
        ([CHARGE, "--family", "h9"], "chip must be one of"),
        ([CHARGE, CHARGE, "--family", "h1v1"], "at most one ChargeTable"),
        (["nowhere.csv", "--family", "h1v1"], "'nowhere.csv' does not exist"),
        ([CHARGE, "--family", "h1v1", "-o", "no/such/folder/x.chip"], "does not exist"),
        ([CHARGE, "--family", "h1v1", "--figure", "x.gif"], "--figure must end in .png"),
        ([CHARGE, "--family", "h1v2", "--noise", "1.5"], "noise_std requires f-I curves"),
    ],
)
def test_errors_are_one_line(words: list[str], match: str, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["calibrate", *words]) == 1
    error = capsys.readouterr().err
    assert match in error
    assert error.startswith("error: calibrate: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [["--settings", "0"], ["--settings", "0=1,0=2"], ["--dt", "0"], ["--noise", "nan"]])
def test_bad_options_are_no_command(option: list[str], capsys) -> None:
    assert main(["calibrate", CHARGE, "--family", "h1v1", *option]) == 2
    assert option[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["-o", "charge.csv"], "--out 'charge.csv' would overwrite 'charge.csv'"),
        (["-o", "./sub/../charge.csv"], "--out './sub/../charge.csv' would overwrite 'charge.csv'"),
        (["-o", "a.png", "--figure", "a.png"], "--figure 'a.png' would overwrite 'a.png'"),
        (["--figure", "old.png"], "--figure must be a new file or an existing picture .*'old.png'"),
        (["-o", "decay.chip"], "--out must be a new file or an existing chip .*'decay.chip'"),
    ],
)
def test_data_of_the_lab_is_never_written_over(words: list[str], match: str, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("charge.csv", "old.png", "decay.chip"):
        (tmp_path / name).write_bytes(Path(CHARGE).read_bytes())
    assert main(["calibrate", "charge.csv", "--family", "h1v1", *words]) == 1
    assert re.search(match, capsys.readouterr().err)
    for name in ("charge.csv", "old.png", "decay.chip"):
        assert (tmp_path / name).read_bytes() == Path(CHARGE).read_bytes()
    assert not (tmp_path / "a.png").exists()


def test_outputs_of_an_earlier_run_are_replaced(tmp_path, capsys) -> None:
    words = ["calibrate", CHARGE, "--family", "h1v1", "-o", str(tmp_path / "a.chip")]
    assert main(words) == 0
    assert main(words) == 0


def test_a_measured_chip_is_no_spec(tmp_path, capsys) -> None:
    chip = str(tmp_path / "a.chip")
    assert main(["calibrate", CHARGE, "--family", "h1v1", "-o", chip]) == 0
    assert main(["calibrate", CHARGE, "--chip", chip]) == 1
    assert re.search(r"--chip must be a file that ChipSpec.save wrote; got .*a measured chip", capsys.readouterr().err)


def test_the_help_of_info_names_measured_chips(capsys) -> None:
    assert main(["info", "--help"]) == 0
    assert "measured chip (.chip)" in " ".join(capsys.readouterr().out.split()).split("positional", 1)[1]
