"""The deep networks of the gallery train for two epochs from every rule, and say how they started."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from gallery_scripts import smoke

RESULT = re.compile(
    r"test accuracy [01]\.\d+ \| mean rate [\w .,]+ Hz \| [\d.]+ s \| \w+, 2 x 16 \w+, \w+ init, seed 0"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("neuron", "init", "data"),
    [("lif", "fluct", "randman"), ("h1v2", "nwave", "vowels"), ("h1v1", "kaiming", "vowels")],
)
def test_smoke(neuron: str, init: str, data: str, tmp_path: Path) -> None:
    options = ["--neuron", neuron, "--init", init, "--data", data, "--layers", "2", "--width", "16", "--xi", "1"]
    # So few neurons and so little data are worth a warning or two.
    done = smoke("deep_networks.py", "--out", tmp_path, *options, warns=True)
    lines = done.stdout.splitlines()
    assert RESULT.fullmatch(lines[-1])
    assert any("ξ (quartiles)" in line for line in lines)
    assert ("[fluct_init] done." in lines) == (init != "kaiming")
    for name in ("training.png", "initialisation.png"):
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.slow
def test_the_study_over_depths_makes_a_table_and_a_figure(tmp_path: Path) -> None:
    options = ["--depths", "2", "1", "--inits", "kaiming"]
    done = smoke("randman_depth.py", "--out", tmp_path, *options)
    assert re.fullmatch(
        r"test accuracy at 2 hidden layers: kaiming [\d.]+ \| 2 nets \| [\d.]+ s \| lif x 16, seeds 0 to 0",
        done.stdout.splitlines()[-1],
    )
    table = (tmp_path / "depth.md").read_text().splitlines()
    assert table[0] == "| hidden layers | kaiming |"
    assert [line.split(" | ")[0] for line in table[2:]] == ["| 1", "| 2"]
    assert (tmp_path / "depth.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--plain"]])
def test_the_deep_net_on_a_chip_keeps_its_rules(options: list[str], tmp_path: Path) -> None:
    # The plain start is worth a warning: spikes pass only as volleys.
    done = smoke("deep_on_a_chip.py", "--out", tmp_path, *options, warns=bool(options))
    assert re.fullmatch(
        r"test accuracy [01]\.\d+ \| 0 weights out of range \| violations 0 \| correlations before [-\d., ]+ \| "
        r"correlations after [-\d., ]+ \| mean rate [\w .,]+ Hz \| [\d.]+ s \| [a-z ]+, seed 0",
        done.stdout.splitlines()[-1],
    )
    assert ("fires only after simultaneous spikes" in done.stderr) == bool(options)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["violations"] == 0
    assert len(result["start"]["spikes_a_step"]) == len(result["end"]["pair_correlations"]) == 5
    for name in ("training.run", "training.png", "raster.png", "weights.png"):
        assert (tmp_path / name).stat().st_size > 1000
