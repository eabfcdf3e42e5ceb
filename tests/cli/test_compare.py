"""The command compare: table and figure, with a measured chip and with a command as the bench, and one-line errors."""

from __future__ import annotations

import sys
from pathlib import Path

import brainstate
import brainunit as u
import numpy as np
import pytest
from deploy_nets import lively
from silicon_programs import program_of

import brainhw as bh
from brainhw.cli import main
from brainhw.silicon import MeasuredChip

pytestmark = pytest.mark.no_dt
EXAMPLE = Path(__file__).parents[2] / "docs" / "bench_example.py"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A bundle, data with labels, and two measured chips: one like the model, one with half the threshold."""
    monkeypatch.chdir(tmp_path)
    with brainstate.environ.context(dt=1.0 * u.ms):
        net, program = program_of("H1v2")
        bh.deploy.export_bundle(net, "net.bundle")
    x = np.asarray(lively()).swapaxes(0, 1)
    np.savez("data.npz", x=x, y=np.arange(len(x)) % program.layers[program.output])
    n = program.chip.n_neurons
    tau = np.full((len(program.chip.tau_profiles.values.mantissa), n), np.nan) * u.ms
    MeasuredChip(program.chip, tau, np.full(n, np.nan) * u.mV).save("same.chip")
    MeasuredChip(program.chip, tau, np.full(n, 50.0) * u.mV).save("other.chip")
    return tmp_path


def test_a_measured_chip_plays_the_bench(folder: Path, capsys) -> None:
    assert main(["compare", "net.bundle", "same.chip", "data.npz", "--trials", "2", "--no-causes"]) == 0
    out = capsys.readouterr().out
    for text in ("bench: same.chip", "3 samples of 40 steps, 2 trials", "has 100.0% of the model's", "0.0 mV"):
        assert text in out
    accuracy = next(line for line in out.splitlines() if line.startswith("accuracy"))
    assert accuracy.split("model ")[1].split(",")[0] == accuracy.split("bench ")[1]
    assert main(["compare", "net.bundle", "other.chip", "data.npz", "--figure", "it.png", "--no-causes"]) == 0
    out = capsys.readouterr().out
    assert "has 100.0%" not in out
    assert "wrote it.png" in out
    assert Path("it.png").read_bytes().startswith(b"\x89PNG")


def test_a_terminal_shows_the_bench_runs(folder: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    words = ["compare", "net.bundle", "same.chip", "data.npz", "--trials", "2", "--no-causes"]
    assert main(words) == 0
    assert "2/2" in capsys.readouterr().err
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_a_command_is_the_bench(folder: Path, capsys) -> None:
    words = ["compare", "net.bundle", "data.npz", "--no-causes", "--device", f"'{sys.executable}' '{EXAMPLE}'"]
    assert main(words) == 0
    # The example is the model in plain numpy, which may sum in another order.
    line = next(line for line in capsys.readouterr().out.splitlines() if "of the model's spikes" in line)
    assert float(line.split("has ")[1].split("%")[0]) > 99
    # The option may stand between the files, too.
    assert main([*words[:2], *words[3:], words[2]]) == 0


def test_classes_of_several_neurons(folder: Path, capsys) -> None:
    with np.load("data.npz") as held:
        x = np.concatenate([held["x"]] * 4)
    np.savez("two.npz", x=x, y=np.arange(len(x)) % 2)
    words = ["compare", "net.bundle", "same.chip", "two.npz", "--no-causes"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert (
        "note: compare: y contains the class indices 0 to 1, but the 6 output neurons are treated as 6 classes" in out
    )
    assert " --classes 2." in out
    assert main([*words, "--classes", "2"]) == 0
    assert "note:" not in capsys.readouterr().out
    assert main([*words, "--classes", "4"]) == 1
    assert "n_classes must be a divisor of the number of output neurons, 6; got 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["data.npz"], "pass either CHIP or --device; got neither"),
        (["same.chip", "data.npz", "--device", "bench"], "got both"),
        (["nowhere.chip", "data.npz"], "nowhere.chip"),
        (["data.npz", "data.npz"], "data.npz"),
        (["same.chip", "nowhere.npz"], "'nowhere.npz' cannot be read: the file does not exist"),
        (["same.chip", "data.npz", "--figure", "x.gif"], "--figure must end in .png"),
        (["same.chip", "data.npz", "--figure", "no/folder/x.png"], "does not exist"),
        (["data.npz", "--device", "'open"], "--device must be a command and its arguments"),
        (["data.npz", "--device", ""], "--device must be a command and its arguments; got ''"),
        (["data.npz", "--device", "no-such-bench-program"], "no-such-bench-program"),
        (["data.npz", "--device", f"'{sys.executable}' -c 'raise SystemExit(3)'"], "trial 1 of 1"),
    ],
)
def test_errors_are_one_line(words: list[str], match: str, folder: Path, capsys) -> None:
    assert main(["compare", "net.bundle", *words]) == 1
    error = capsys.readouterr().err
    assert match in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
