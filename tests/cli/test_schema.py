"""``--json``: one document with the documented keys, the numbers of the text, and nothing else on the output."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import brainunit as u
import numpy as np
import pytest

import brainhw as bh
from brainhw._plain_json import parse_json
from brainhw.cli import main
from brainhw.cli.schema import SCHEMA
from brainhw.silicon import MeasuredChip

pytestmark = pytest.mark.no_dt
LAB = Path(__file__).parents[1] / "golden" / "lab"
TABLES = [str(LAB / name) for name in ("charge.csv", "decay.csv", "fi.csv")]


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trained bundle, and a measured chip of its family, in a folder of this test."""
    for file in trained.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    spec = bh.chip.H1V2
    tau = np.full((len(spec.tau_profiles.values.mantissa), spec.n_neurons), np.nan)
    tau[4, :3] = 17.0, 18.0, 21.0
    MeasuredChip(spec, tau * u.ms, np.full(spec.n_neurons, 70.0) * u.mV).save("lab.chip")
    return tmp_path


def both(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, dict[str, Any]]:
    """Return the text of a command and its JSON document, which has the documented keys alone."""
    assert main(words) == code
    text = capsys.readouterr().out
    assert main([*words, "--json"]) == code
    out, err = capsys.readouterr()
    document = parse_json(out)  # refuses NaN, infinity and keys that occur twice
    assert json.loads(out) == document
    assert document["command"] == words[0]
    assert document["brainhw"] == bh.__version__
    assert err == "".join(f"warning: {' '.join(one.split())}\n" for one in document["warnings"])
    name = "info of a measured chip" if document.get("kind") == "measured chip" else words[0]
    for path in paths_of(document):
        # An empty list or a null stands for all keys below it.
        assert any(key == path or key.startswith((f"{path}.", f"{path}[")) for key in SCHEMA[name]), path
    return text, document


def paths_of(value: object, path: str = "") -> set[str]:
    """Return the paths of a document as the schema writes them."""
    if isinstance(value, dict):
        return set().union(*(paths_of(one, f"{path}.{key}" if path else key) for key, one in value.items()))
    if isinstance(value, list) and value:
        return set().union(*(paths_of(one, f"{path}[]") for one in value))
    return {path}


def cells(text: str) -> list[list[str]]:
    """Return the words of each line."""
    return [line.split() for line in text.splitlines()]


def test_run(home: Path, capsys: Any) -> None:
    text, document = both(capsys, "run", "net.bundle", "test.npz", "--neurons", "--out", "o.npz")
    assert paths_of(document) | {"warnings[]", "never_predicted[]"} >= set(SCHEMA["run"])
    assert text.startswith(f"accuracy {document['accuracy']:.2%} ({document['right']} of {document['samples']})\n")
    assert f"24 samples of {document['steps_largest']} steps ({document['duration_ms']:g} ms)" in text
    output = document["output"]
    assert f"{output['neurons']} output neurons: {output['spikes_per_sample']:.2f} spikes per sample in 20 ms" in text
    for one in output["by_neuron"]:
        row = [f"{one['neuron']}", f"{one['class']}", f"{one['spikes']}", f"{one['spikes_per_sample']:.2f}"]
        assert [*row, f"{one['silent_share']:.1%}"] in cells(text)
    for one in document["classes"]:
        row = [one["class"], f"{one['predicted']}", f"{one['labelled']}", f"{one['right']}", f"{one['recall']:.1%}"]
        assert any(line[:5] == row for line in cells(text))
    with np.load("o.npz") as held:
        assert output["spikes_per_sample"] == held["spikes"].sum() / 24
        confusion = np.zeros((3, 3), int)
        np.add.at(confusion, (np.arange(24) % 3, held["predicted"]), 1)
    assert document["confusion"] == confusion.tolist()
    assert document["written"] == ["o.npz"]


def test_numbers_that_nobody_knows_are_null(home: Path, capsys: Any) -> None:
    text, document = both(capsys, "run", "net.bundle", "two.npz")
    # The third class has no sample, and negative inputs are a warning.
    assert document["classes"][2]["recall"] is None
    assert document["output"]["by_neuron"] is None
    [warning] = document["warnings"]
    lines = text.splitlines()
    assert lines[0].startswith("accuracy ")
    assert lines[2] == f"warning: {warning}"
    np.save("x.npy", np.load("two.npz")["x"])
    _, document = both(capsys, "run", "net.bundle", "x.npy")
    assert document["accuracy"] is None
    assert document["classes"][0]["labelled"] is None


def test_check(home: Path, capsys: Any) -> None:
    text, document = both(capsys, "check", "net.bundle")
    assert document["deployable"] is True
    assert text.startswith(f"deployable on {document['chip']}: all {len(document['rules'])} rules hold\n")
    assert document["sha256"] in text
    from brainhw.deploy.bundle import load_bundle, write_plain

    mixed = load_bundle("net.bundle").content.to_plain()
    mixed["synapses"]["layers.0"]["codes"][0][0] = -5
    write_plain("mixed", mixed, call="test")
    text, document = both(capsys, "check", "mixed", code=1)
    [violation] = document["violations"]
    assert document["deployable"] is False
    assert all(violation[key] in text for key in ("module", "rule", "found", "limit", "fix"))


def test_info(home: Path, capsys: Any) -> None:
    text, document = both(capsys, "info", "net.bundle", "--chip")
    assert f"time step   {document['dt_ms']:g} ms, {document['precision']}" in text
    [layer] = document["layers"]
    weights = layer["weights"]
    row = [layer["layer"], layer["source"], layer["synapse"], f"{layer['n_neurons']}", layer["topology"]]
    row += [f"{layer['tau_ms'][0]:g}", "ms", "6", "x", "6", f"{weights['bits']}", f"{weights['levels_used']}", "of"]
    assert [*row, f"{weights['levels']}", f"{weights['at_limit']:.1%}"] in cells(text)
    for one in document["chip"]["fields"]:
        assert any(line[:1] == [one["field"]] and one["provenance"] in line for line in cells(text))
    assert [piece["count"] for piece in document["placement"]] == [6]


def test_info_of_a_measured_chip(home: Path, capsys: Any) -> None:
    text, document = both(capsys, "info", "lab.chip")
    assert f"{document['neurons_measured']} of 200 neurons measured" in text
    setting = document["tau"][4]
    row = [f"{setting[f'{name}_ms']:.4g}" for name in ("spec", "mean")] + [f"{setting['spread']:.1%}"]
    row += [f"{setting[f'{name}_ms']:.4g}" for name in ("smallest", "largest")] + [f"{setting['measured']}"]
    assert any(line[4:10] == row for line in cells(text)), (row, text)
    assert document["tau"][0]["mean_ms"] is None
    assert document["V_th"]["mean_mV"] == 70.0


def test_power(home: Path, capsys: Any) -> None:
    text, document = both(capsys, "power", "net.bundle", "test.npz")
    assert paths_of(document) | {"warnings[]"} >= set(SCHEMA["power"])
    assert text.startswith(
        f"energy {document['energy_uJ']:.4g} uJ per inference, power {document['power_uW']:.4g} uW (coefficients "
    )
    assert document["energy_uJ"] == pytest.approx(sum(one["energy_uJ"] for one in document["costs"]))
    for one in document["costs"]:
        numbers = [one["provenance"], f"{one['energy_uJ']:.4g}", f"{one['power_uW']:.4g}", f"{one['share']:.1%}"]
        assert any(line[-4:] == numbers for line in cells(text))
    assert f"SynOps {document['synops']:.4g}" in text


def test_compare(home: Path, capsys: Any) -> None:
    words = ("compare", "net.bundle", "lab.chip", "test.npz", "--no-causes")
    text, document = both(capsys, *words, "--neurons")
    assert text.startswith(
        f"accuracy: model {document['model_accuracy']:.2%}, bench {document['bench_accuracy']:.2%}\n"
    )
    assert f"has {document['agreement']:.1%} of the model's spikes" in text
    assert document["ceiling"] is None
    for one in document["worst_neurons"]:
        rates = [f"{one['model_rate_Hz']:.1f}", "Hz", f"{one['bench_rate_Hz']:.1f}", "Hz"]
        assert any(line[1:2] == [f"{one['neuron']}"] and line[3:7] == rates for line in cells(text))
    assert document["worst_neurons"]
    text, document = both(capsys, *words)
    assert document["worst_neurons"] is None
    assert f"{document['layers'][0]['differing_neurons']} of 6 neurons have spikes that do not match" in text


def test_calibrate(home: Path, capsys: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text, document = both(capsys, "calibrate", *TABLES, "--family", "h1v1", "-o", "chip7.chip")
    assert f"calibration of {document['name']} (family {document['family']})" in text
    place = document["charge"]["codes"].index(15)
    assert f"code +15: {document['charge']['charge_fC'][place]:.2f}"[:-1] in text
    mean = re.search(r"V_th ([\d.]+) \+- [\d.]+ mV", text)
    assert mean
    assert float(mean.group(1)) == pytest.approx(document["threshold"]["mean_mV"], rel=1e-3)
    assert document["written"] == ["chip7.chip"]


def test_firmware(home: Path, capsys: Any) -> None:
    text, document = both(capsys, "firmware", "net.bundle", "net.h")
    assert f"{document['state_bytes']} bytes of RAM" in text
    assert f"{document['table_bytes']} bytes of flash" in text
    assert document["size_bytes"] == Path("net.h").stat().st_size


def test_an_error_leaves_the_output_empty(home: Path, capsys: Any) -> None:
    assert main(["run", "nowhere.bundle", "test.npz", "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: [^\n]*\n", err)
