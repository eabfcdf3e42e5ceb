"""The network that the README shows is one that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

BEFORE = """
import warnings
import numpy as np
warnings.filterwarnings("ignore", message="fluct_init")
inputs = np.random.default_rng(0).random((4, 60, 24)).astype(np.float32)
batches, x = [inputs], np.swapaxes(inputs, 0, 1)
"""
AFTER = """
assert spikes.shape == (60, 4, 9)
assert seen["hidden.V"].shape == (60, 4, 100)
"""


def test_the_network_of_the_readme_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    # A process of its own, because the code sets the time step for good.
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + code + AFTER],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr


def test_every_path_that_the_readme_names_exists() -> None:
    named = re.findall(r"(?:\]\(|`)((?:docs|tutorials|gallery|brainhw)/[\w./]+)", README)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
