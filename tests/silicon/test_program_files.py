"""Files of a program: a round trip to the bit, and one clear error for whatever is wrong in them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import numpy as np
import pytest
from deploy_nets import Chain, lively
from silicon_programs import on_grid, program_of

import brainhw as bh
from brainhw.silicon import ChipProgram


@pytest.mark.slow
@pytest.mark.parametrize("format", ["npz", "csv"])
@pytest.mark.parametrize("family", ["H1v1", "H1v2"])
@pytest.mark.parametrize("frontend", [False, True])
def test_files_give_the_program_and_the_net_back(family: str, frontend: bool, format: str, tmp_path: Path) -> None:
    net, program = program_of(family, frontend=frontend)
    bh.sample_chip(net, 1)
    program = ChipProgram.of(net)
    program.save(tmp_path / "prog", format=format)
    read = ChipProgram.load(tmp_path / "prog")
    assert read == program
    xs = lively(scale=14 if frontend else 0.5)
    assert np.array_equal(bh.rollout(net, xs)[0], bh.rollout(read.to_net(), xs)[0])


def test_a_split_layer_and_mixed_bits_survive(tmp_path: Path) -> None:
    net = on_grid(Chain("H1v2", [8, 120, 40], topologies=["FF", "RC"], frontend=False))
    bh.deploy.set_weight_bits(net.syn1, 3)
    program = ChipProgram.of(net)
    assert len(program.placement.split) == 1
    for format in ("csv", "npz"):
        program.save(tmp_path, format=format)
        # Files of the other kind do not stay behind: a bench could read them.
        assert (tmp_path / "program.npz").exists() == (format == "npz")
        assert (tmp_path / "codes.csv").exists() == (format == "csv")
        assert ChipProgram.load(tmp_path) == program


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_survive(dtype: str, tmp_path: Path) -> None:
    from brainhw.deploy.bundle_content import DTYPES

    with brainstate.environ.context(precision=DTYPES[dtype]):
        net, program = program_of()
        for format in ("npz", "csv"):
            program.save(tmp_path, format=format)
            assert ChipProgram.load(tmp_path) == program
        spikes = bh.rollout(net, lively().astype(brainstate.environ.dftype()))[0]
        again = bh.rollout(ChipProgram.load(tmp_path).to_net(), lively().astype(brainstate.environ.dftype()))[0]
        assert np.array_equal(spikes, again)


def test_the_files_of_one_program_are_the_same_each_time(tmp_path: Path) -> None:
    _, program = program_of()
    for name in ("a", "b"):
        program.save(tmp_path / name)
    for file in ("program.json", "program.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def edited(folder: Path, change: Callable[[Any], Any]) -> None:
    path = folder / "program.json"
    top = json.loads(path.read_text())
    change(top)
    path.write_text(json.dumps(top))


def rows_of(folder: Path, file: str, change: Callable[[list[list[str]]], Any]) -> None:
    rows = list(csv.reader((folder / file).read_text().splitlines()))
    change(rows)
    (folder / file).write_text("\n".join(",".join(row) for row in rows) + "\n")


def arrays_of(folder: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    with np.load(folder / "program.npz") as held:
        arrays = dict(held)
    change(arrays)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    (folder / "program.npz").write_bytes(stream.getvalue())
    edited(folder, lambda top: top.update(npz_sha256=hashlib.sha256(stream.getvalue()).hexdigest()))


def at(index: int, column: int, value: str) -> Callable[[list[list[str]]], None]:
    return lambda rows: rows[index].__setitem__(column, value)


# Each is a slip that an editor, a script of a lab or a broken disk makes; line 1 is the header.
CSV_SLIPS: list[tuple[str, Callable[[list[list[str]]], Any], str]] = [
    ("codes.csv", at(1, 3, "16"), "from -15 to 15; got 16"),
    ("codes.csv", at(1, 3, "nan"), "codes.csv, line 2: code must be an integer; got 'nan'"),
    ("codes.csv", at(1, 3, "1.5"), "line 2: code must be an integer; got '1.5'"),
    ("codes.csv", at(1, 0, "syn7"), "line 2: synapse 'syn7' does not exist; expected one of syn0"),
    ("codes.csv", at(1, 1, "99"), r"line 2: the code from 99 to 0 of 'syn0' is outside the shape \(16, 12\)"),
    ("codes.csv", lambda rows: rows.append(rows[3]), "code from 0 to 2 of 'syn0' appears twice"),
    ("codes.csv", lambda rows: rows.pop(3), "codes.csv lacks the code from 0 to 2 of 'syn0' .1 of 192 missing"),
    ("codes.csv", lambda rows: [row.pop() for row in rows], "columns synapse,pre,post,code; got synapse,pre,post"),
    ("codes.csv", lambda rows: rows[5].append("3"), "line 6: expected 4 values; got 5"),
    ("codes.csv", lambda rows: rows.clear(), "must begin with the columns"),
    ("neurons.csv", at(2, 3, "0"), "neuron.* of layer 'layer0' overlap layer 'layer0' at position 0 of core 0"),
    ("neurons.csv", at(1, 2, "9"), "are on core 9, but the last core of H1v1 is 3"),
    ("neurons.csv", at(1, 3, "70"), "are at positions 70 of core 0, but the core has only 64 neurons"),
    ("neurons.csv", at(1, 4, "8"), "an entry of tau_profiles must be an integer from 0 to 7; got 8"),
    ("neurons.csv", at(1, 0, "ghost"), "line 2: layer 'ghost' does not exist; expected one of layer0, layer1"),
    ("neurons.csv", lambda rows: rows.pop(2), "lacks neuron 1 of layer 'layer0' .1 of 12 missing"),
    ("neurons.csv", at(2, 1, "0"), "line 3: neuron 0 of layer 'layer0' appears twice"),
    ("neurons.csv", at(2, 2, "1"), "recurrent layer 'layer0' is on several cores"),
    ("levels.csv", at(3, 3, "0.5"), "levels of 5 bits: charge_fC does not match the chip"),
    ("levels.csv", at(3, 3, "nan"), "line 4: charge_fC must be a finite number; got 'nan'"),
    ("levels.csv", lambda rows: rows.pop(3), "levels of 5 bits: code does not match the chip"),
]


@pytest.mark.parametrize(("file", "change", "words"), CSV_SLIPS, ids=range(len(CSV_SLIPS)))
def test_a_slip_in_a_table_is_named(file: str, change: Any, words: str, tmp_path: Path) -> None:
    program_of()[1].save(tmp_path, format="csv")
    rows_of(tmp_path, file, change)
    with pytest.raises(ValueError, match=rf"^ChipProgram\.load: the program in '.*' has invalid content: .*{words}"):
        ChipProgram.load(tmp_path)


def with_array(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[dict[str, np.ndarray]], Any]:
    return lambda arrays: arrays.__setitem__(name, change(arrays[name]))


ARRAY_SLIPS: list[tuple[Callable[[dict[str, np.ndarray]], Any], str]] = [
    (with_array("codes/syn0", lambda a: a + 20), "from -15 to 15; got"),
    (with_array("codes/syn0", lambda a: a * 1.0), "'codes/syn0' must contain integers; got dtype float64"),
    (with_array("codes/syn0", lambda a: a[:3]), r"'codes/syn0' must have shape \(16, 12\); got \(3, 12\)"),
    (with_array("core/layer0", lambda a: a - 1), "core must be at least 0; got -1"),
    (with_array("position/layer1", lambda a: a * 0), "overlap"),
    (lambda arrays: arrays.pop("recurrent/layer0"), "the array 'recurrent/layer0' is missing"),
    (lambda arrays: arrays.update({"codes/syn9": np.zeros(3, int)}), "unknown array 'codes/syn9'"),
    (with_array("levels/5/weight", lambda a: a * 1.01), "levels of 5 bits: weight does not match the chip"),
]


@pytest.mark.parametrize(("change", "words"), ARRAY_SLIPS, ids=range(len(ARRAY_SLIPS)))
def test_a_slip_in_an_array_is_named(change: Any, words: str, tmp_path: Path) -> None:
    program_of()[1].save(tmp_path)
    arrays_of(tmp_path, change)
    with pytest.raises(ValueError, match=rf"^ChipProgram\.load: the program in '.*' has invalid content: .*{words}"):
        ChipProgram.load(tmp_path)


JSON_SLIPS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda top: top.pop("stages"), "lacks stages"),
    (lambda top: top.pop("chip"), "lacks chip"),
    (lambda top: top.update(more=1), "unknown field 'more'"),
    (lambda top: top.update(dt_ms=-1.0), "dt_ms must be a float"),
    (lambda top: top.update(output="ghost"), "output must be one of layer0, layer1; got 'ghost'"),
    (lambda top: top.update(family="H1v2"), "family must be the family of the chip, 'H1v1'"),
    (lambda top: top.update(arrays="hdf5"), "arrays must be one of 'npz', 'csv'; got 'hdf5'"),
    (lambda top: top["chip"].pop("V_th"), "lacks V_th"),
    (lambda top: top["chip"]["V_th"].update(value=-3.0), "V_th.* must be greater than zero"),
    (lambda top: top["stages"][0].update(neurons=11), r"'core/layer0' must have shape \(11,\); got \(12,\)"),
    (lambda top: top["stages"][0].update(bits="5"), "bits of stage 0 must be .*; got '5'"),
    (lambda top: top["stages"][0].update(neurons=10**9), "neurons of stage 0 must be between 1 and"),
    (lambda top: top["stages"][0].pop("source"), "stage 0 must have exactly the fields bits, frontend"),
    (
        lambda top: top["stages"][1].update(source="ghost"),
        "source must be 'input' or the layer of an earlier wire; got 'ghost'",
    ),
    (lambda top: top["stages"].append(top["stages"][0]), "two stages have the layer 'layer0'"),
    (lambda top: top.update(stages=[]), "stages must be a non-empty list"),
    (lambda top: top.update(format="brainhw-program/2"), r"newer brainhw \(format 2, this version reads up to 1"),
    (lambda top: top.update(format="brainhw-bundle/1"), "is not a program. Pass a file written by ChipProgram.save"),
]


@pytest.mark.parametrize(("change", "words"), JSON_SLIPS, ids=range(len(JSON_SLIPS)))
def test_a_slip_in_the_json_is_named(change: Any, words: str, tmp_path: Path) -> None:
    program_of()[1].save(tmp_path)
    edited(tmp_path, change)
    with pytest.raises(ValueError, match=rf"^ChipProgram\.load: .*{words}"):
        ChipProgram.load(tmp_path)


@pytest.mark.parametrize("format", ["npz", "csv"])
def test_a_file_that_is_cut_short_or_gone_is_refused(format: str, tmp_path: Path) -> None:
    _, program = program_of()
    program.save(tmp_path, format=format)
    for file in sorted(tmp_path.iterdir()):
        whole = file.read_bytes()
        for kept in (0, 1, len(whole) // 2, len(whole) - 20):
            file.write_bytes(whole[:kept])
            with pytest.raises(ValueError, match=r"^ChipProgram\.load: "):
                ChipProgram.load(tmp_path)
        file.unlink()
        with pytest.raises(ValueError, match=rf"ChipProgram\.load: .*({file.name}' )?cannot be read: No such file"):
            ChipProgram.load(tmp_path)
        file.write_bytes(whole)
    assert ChipProgram.load(tmp_path) == program


def test_arrays_of_another_program_are_refused(tmp_path: Path) -> None:
    program_of()[1].save(tmp_path / "a")
    program_of(seed=9)[1].save(tmp_path / "b")
    (tmp_path / "b" / "program.npz").rename(tmp_path / "a" / "program.npz")
    with pytest.raises(ValueError, match=r"program\.npz does not match npz_sha256 of program\.json"):
        ChipProgram.load(tmp_path / "a")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    _, program = program_of()
    with pytest.raises(ValueError, match=r"ChipProgram\.save: cannot write the folder .*No such file"):
        program.save(tmp_path / "none" / "prog")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"ChipProgram\.save: cannot write the folder .*File exists"):
        program.save(tmp_path / "file")
    with pytest.raises(ValueError, match=r"ChipProgram\.save: format must be one of 'npz', 'csv'; got 'xml'"):
        program.save(tmp_path, format="xml")
    with pytest.raises(TypeError, match=r"ChipProgram\.load: path must be the path of .*; got 3"):
        ChipProgram.load(3)  # type: ignore[arg-type]


def test_a_writing_that_was_cut_off_leaves_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, program = program_of()
    program.save(tmp_path)
    from brainhw.silicon import program_files

    def full(path: Path, data: bytes, *, call: str) -> None:
        raise ValueError(f"{call}: cannot write {path}: No space left on device")

    monkeypatch.setattr(program_files, "write_whole", full)
    with pytest.raises(ValueError, match="No space left"):
        program_of(seed=4)[1].save(tmp_path)
    with pytest.raises(ValueError, match="cannot be read"):
        ChipProgram.load(tmp_path)


@pytest.mark.parametrize("format", ["npz", "csv"])
def test_a_family_of_another_package_has_its_own_levels_in_the_files(format: str, tmp_path: Path) -> None:
    import x1chips

    weights = np.random.default_rng(2).choice([-0.2, 0.4, 0.8], (6, 5))
    net = brainstate.nn.Sequential(
        x1chips.X1Synapse(6, 5, weight_init=weights, weight_bits="chip"), x1chips.X1Layer(5, tau=10 * u.ms)
    )
    program = ChipProgram.of(net)
    program.save(tmp_path, format=format)
    read = ChipProgram.load(tmp_path)
    assert read == program
    assert json.loads((tmp_path / "program.json").read_text())["chip"]["V_reset"]["value"] == 20.0
    xs = np.random.default_rng(0).random((30, 4, 6)).astype(np.float32) * 3
    spikes = bh.rollout(net, xs)[0]
    assert spikes.sum() > 0
    assert np.array_equal(spikes, bh.rollout(read.to_net(), xs)[0])


def test_a_measured_chip_in_place_goes_with_the_files(tmp_path: Path) -> None:
    net, _ = program_of("H1v2")
    chip = bh.silicon.scaled_chip(bh.chip.H1V2, gain=0.8, leak_mismatch_std=0.4, noise_std=1.5 * u.mV)
    bh.silicon.put_chip(net, bh.silicon.VirtualChip(chip, 3).truth)
    program = ChipProgram.of(net)
    program.save(tmp_path)
    read = ChipProgram.load(tmp_path)
    assert read == program
    xs = lively(scale=3.0)
    spikes = bh.rollout(net, xs)[0]
    assert spikes.sum() > 0
    assert np.array_equal(spikes, bh.rollout(read.to_net(), xs)[0])


@pytest.mark.parametrize("format", ["npz", "csv"])
@pytest.mark.parametrize("lowest", [-16, -7])
def test_a_range_that_is_not_symmetric_is_that_of_codes_and_levels(lowest: int, format: str, tmp_path: Path) -> None:
    step = bh.chip.H1V1.weight_limit / 15
    table = bh.chip.TabulatedCharge([-0.96, 0.0, 0.9], [-0.5, 0.02, 0.8] * u.fcoulomb)
    chip = bh.chip.H1V1.replace(weight_lowest=lowest * step, charge=table)
    weights = np.random.default_rng(1).integers(lowest, 16, (6, 5)) * step
    weights[0, 0] = lowest * step
    net = brainstate.nn.Sequential(
        bh.nn.H1v1Synapse(6, 5, chip=chip, weight_init=weights, weight_bits="chip"),
        bh.nn.H1v1Layer(5, tau=20 * u.ms, chip=chip),
    )
    program = ChipProgram.of(net)
    assert program.codes["layers.0"].min() == lowest
    assert program.updated(net) == program
    program.save(tmp_path, format=format)
    read = ChipProgram.load(tmp_path)
    assert read == program
    xs = (np.random.default_rng(0).random((40, 4, 6)) < 0.9).astype(np.float32) * 2
    recorded = bh.rollout(net, xs, record=("layers.1.spk",))[1]["layers.1.spk"]
    assert recorded.sum() > 0
    assert np.array_equal(recorded, bh.rollout(read.to_net(), xs)[0])
    same = {"leak_mismatch_std": None, "threshold_mismatch_std": None, "synapse_mismatch_std": None}
    bench = bh.silicon.VirtualChip(chip.replace(**same), 0)
    bench.program(read)
    assert np.array_equal(bench.run(xs).spikes["layers.1"], recorded)
    if format == "csv":
        rows_of(tmp_path, "codes.csv", at(1, 3, str(lowest - 1)))
        with pytest.raises(ValueError, match=rf"from {lowest} to 15; got {lowest - 1}"):
            ChipProgram.load(tmp_path)
