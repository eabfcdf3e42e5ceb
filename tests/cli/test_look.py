"""`info` of a measured chip, and of a bundle with one in place."""

import brainunit as u
import numpy as np
import pytest
from silicon_chips import firing_net, measured

import brainhw as bh
from brainhw.cli import main


def shown(capsys, *words):
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_info_shows_a_measured_chip(tmp_path, capsys):
    measured().save(tmp_path / "mine.chip")
    code, out, err = shown(capsys, "info", str(tmp_path / "mine.chip"))
    assert (code, err) == (0, "")
    assert "'mine.chip'" in out
    assert "checksum correct" in out
    assert "brainhw " in out
    assert str(measured()) in out
    assert "weight_limit" not in out
    assert "weight_limit" in shown(capsys, "info", "--chip", str(tmp_path / "mine.chip"))[1]


def test_info_knows_the_file_by_its_first_word_too(tmp_path, capsys):
    measured().save(tmp_path / "seven")
    assert "234 of 256 neurons measured" in shown(capsys, "info", str(tmp_path / "seven"))[1]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:30] + b"x" + data[31:], lambda data: b""]
)
def test_a_damaged_chip_is_one_line(tmp_path, capsys, damage):
    path = tmp_path / "mine.chip"
    measured().save(path)
    path.write_bytes(damage(path.read_bytes()))
    code, out, err = shown(capsys, "info", str(path))
    assert (code, out) == (1, "")
    assert err.startswith("error: info: ")
    assert err.count("\n") == 1
    assert shown(capsys, "info", str(tmp_path / "none.chip"))[0] == 1


def test_info_of_a_bundle_says_what_is_in_place(tmp_path, capsys):
    path, net = str(tmp_path / "net.bundle"), firing_net()
    bh.deploy.export_bundle(net, path)
    assert "in place" not in shown(capsys, "info", path)[1]
    bh.sample_chip(net, 1)
    bh.deploy.export_bundle(net, path)
    assert "in place    a chip of its own: layers.0" in shown(capsys, "info", path)[1]
    bh.silicon.put_chip(net, measured())
    known = sum(int(mask.sum()) for layer in net.layers[1::2] for mask in layer.known.values())
    assert 0 < known < 312
    bh.deploy.export_bundle(net, path)
    assert f"in place    a measured chip: {known} of 312 values of neurons measured" in shown(capsys, "info", path)[1]
    whole = bh.silicon.MeasuredChip(measured().spec, np.full((8, 256), 9.0) * u.ms, np.full(256, 95.0) * u.mV)
    bh.silicon.put_chip(net, whole)
    bh.deploy.export_bundle(net, path)
    assert "312 of 312 values" in shown(capsys, "info", path)[1]
