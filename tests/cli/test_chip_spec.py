"""A chip on the command line: the name of a family, or a file."""

from __future__ import annotations

from pathlib import Path

import pytest

import brainhw as bh
from brainhw.cli.chip_spec import spec_from_name_or_file


def test_a_name_or_a_file_is_a_chip(tmp_path: Path) -> None:
    assert spec_from_name_or_file("H1v2", call="train") is bh.chip.H1V2
    lab = bh.chip.H1V2.replace(name="lab", weight_bits=4, provenance="measured")
    lab.save(tmp_path / "lab.toml")
    assert spec_from_name_or_file(str(tmp_path / "lab.toml"), call="train").weight_bits == 4
    with pytest.raises(ValueError, match=r"^train: chip must be one of 'h1v1', 'h1v2'"):
        spec_from_name_or_file("lab", call="train")
    with pytest.raises(ValueError, match=r"lab2\.toml"):
        spec_from_name_or_file(str(tmp_path / "lab2.toml"), call="train")
