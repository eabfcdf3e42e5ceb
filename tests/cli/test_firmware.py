"""`firmware`: the C header of a bundle, from the command line."""

import numpy as np
from silicon_chips import firing_net

import brainhw as bh
from brainhw.cli import main


def test_firmware_writes_the_header_and_says_its_sizes(tmp_path, capsys):
    bundle, header = tmp_path / "net.bundle", tmp_path / "tiny.h"
    bh.deploy.export_bundle(firing_net(), bundle)
    assert main(["firmware", str(bundle), str(header), "--name", "tiny"]) == 0
    out = capsys.readouterr().out
    step = bh.deploy.firmware(bundle)
    assert f"state       {step.state_bytes} bytes of RAM" in out
    assert f"tables      {step.table_bytes} bytes of flash" in out
    assert "tiny_step(tiny_state *state" in header.read_text()
    assert step.run(np.ones((2, step.n_in))).shape == (2, step.n_out)


def test_firmware_refuses_in_one_line(tmp_path, capsys):
    bundle = tmp_path / "net.bundle"
    bh.deploy.export_bundle(firing_net(), bundle)
    for words in (("nowhere.bundle", "net.h"), (str(bundle), str(tmp_path)), (str(bundle), "n.h", "--name", "a b")):
        assert main(["firmware", *words]) == 1
        assert capsys.readouterr().err.startswith("error: ")
