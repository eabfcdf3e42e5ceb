"""A process that is killed while it writes leaves the old file whole, and nothing that breaks the next run."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import brainhw as bh
from brainhw.train.run_file import RunFile

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the writers are forked")

# One process imports once, and forks a writer for each kill; no array of JAX is made before.
WRITER = """
import os, random, signal, sys, time
import numpy as np
from brainhw.train.run_file import RunFile
from brainhw.chip import H1V1, H1V2, save_chip
folder, delays = sys.argv[1], random.Random(0)
file = RunFile("training run", "f", "brainhw-run")
trees = [{"a": np.full(300_000, value, np.float32)} for value in (1, 2)]
for kill in range(30):
    child = os.fork()
    if child == 0:
        while True:
            for tree, chip in zip(trees, (H1V1, H1V2)):
                file.write(f"{folder}/training.run", tree, {}, call="f")
                save_chip(chip, f"{folder}/chip.toml")
    time.sleep(0.02 + 0.05 * delays.random())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    sys.stdout.write("killed\\n")
    sys.stdout.flush()
    sys.stdin.readline()
"""


def check(folder: pathlib.Path) -> float:
    tree, _ = FILE.read(folder / "training.run", {"a": LIKE}, {}, call="f")
    (values,) = np.unique(tree["a"])
    assert bh.chip.load_chip(folder / "chip.toml") in (bh.chip.H1V1, bh.chip.H1V2)
    return float(values)


FILE = RunFile("training run", "f", "brainhw-run")
LIKE = np.zeros(300_000, np.float32)


def test_30_kills_lose_nothing(tmp_path: pathlib.Path) -> None:
    FILE.write(tmp_path / "training.run", {"a": LIKE}, {}, call="f")
    bh.chip.save_chip(bh.chip.H1V1, tmp_path / "chip.toml")
    found = []
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        for _ in range(30):
            assert writer.stdout.readline() == "killed\n"
            found.append(check(tmp_path))
            writer.stdin.write("\n")
            writer.stdin.flush()
        _, errors = writer.communicate()
        assert writer.returncode == 0, errors
    assert {1.0, 2.0} & set(found)  # it was killed while it wrote, and not before
    # What a killed writer leaves is hidden beside the file, and the next run writes and reads as before.
    left = [path.name for path in tmp_path.iterdir() if path.name not in ("training.run", "chip.toml")]
    assert all(name.startswith(".") and name.endswith(".part") for name in left)
    FILE.write(tmp_path / "training.run", {"a": LIKE}, {}, call="f")
    assert check(tmp_path) == 0.0
