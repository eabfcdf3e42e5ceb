"""Printed tables with Greek letters ended the run on a pipe of cp1252, and a closed output printed a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import warnings; warnings.simplefilter("ignore")
import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp, numpy as np
brainstate.environ.set(dt=1.0 * u.ms)
class Net(brainstate.nn.Module):
    def __init__(self):
        super().__init__()
        setattr(self, "größe_ψ", bh.nn.H1v2Synapse(8, 3))
        self.layer = bh.nn.H1v2Layer(3, tau=20 * u.ms)
    def update(self, x):
        return self.layer(getattr(self, "größe_ψ")(x))
net = Net()
x = (np.random.default_rng(0).random((4, 30, 8)) < 0.4).astype("f4")
xs = jnp.asarray(x.swapaxes(0, 1))
print(bh.init.fluct_init(net, [x], in_range=True, return_report=True))
print(bh.check_deployable(net))
bh.deploy.set_weight_bits(net, "chip")
print(bh.deploy.describe(net))
print(bh.deploy.place(net))
print(bh.deploy.estimate_power(net, xs))
print(bh.chip.H1V2.replace(name="Größe ψ"))
print(*bh.check_deployable(bh.nn.H1v2Synapse(8, 3)).violations)
"""


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_every_report_prints_in_every_encoding(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    printed = done.stdout.decode(encoding)
    assert ("ξ" if encoding == "utf-8" else "xi") in printed
    assert {"utf-8": "größe_ψ", "cp1252": "größe_psi", "ascii": "gr\\xf6\\xdfe_psi"}[encoding] in printed


@pytest.mark.skipif(os.name != "posix", reason="the shell closes the outputs")
@pytest.mark.parametrize(
    ("closing", "code", "said"),
    [
        (">&-", 1, "error: the standard output is closed"),
        ("2>&-", 1, ""),
        (">&- 2>&-", 1, ""),
        ("2>/dev/full", 1, ""),
    ],
)
def test_closed_outputs_of_the_command_line(closing: str, code: int, said: str) -> None:
    line = f'exec "$0" -m brainhw info nowhere.bundle {closing}'
    done = subprocess.run(["sh", "-c", line, sys.executable], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 1
