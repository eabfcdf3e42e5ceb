"""Files that a command writes: no input and no file of a different kind is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from brainhw.cli.outputs import check_output


def test_a_file_is_replaced_only_by_a_file_of_its_kind(tmp_path: Path) -> None:
    bundle, data, header = (tmp_path / name for name in ("net.bundle", "data.npz", "net.h"))
    bundle.write_bytes(b"brainhw-bundle 1")
    data.write_bytes(b"PK\x03\x04")
    header.write_bytes(b"/* One step of a network for H1v1")
    (tmp_path / "link").symlink_to(bundle)
    for path in (bundle, tmp_path / "link", tmp_path / "." / "net.bundle"):
        with pytest.raises(ValueError, match=r"^firmware: HEADER '.*' would overwrite '.*net\.bundle'"):
            check_output("HEADER", str(path), "C header", (str(bundle), None), call="firmware")
    with pytest.raises(ValueError, match=r"HEADER must be a new file or an existing C header file .*data\.npz"):
        check_output("HEADER", str(data), "C header", (str(bundle),), call="firmware")
    check_output("HEADER", str(header), "C header", (str(bundle),), call="firmware")
    check_output("HEADER", str(tmp_path / "new.h"), "C header", (str(bundle),), call="firmware")
