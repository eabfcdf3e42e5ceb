"""One trained bundle with its data, for all tests of the command line that run it."""

from __future__ import annotations

from pathlib import Path

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``net.bundle``, its test data ``test.npz`` and data of a class without samples."""
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    y = np.arange(24) % 3
    rates = 0.2 + 2.0 * (np.arange(6) // 2 == y[:, None])
    x = rng.poisson(rates[:, None], (24, 20, 6)).astype(np.float32)
    # Inputs and neurons of one class.
    own = (np.arange(6)[:, None] // 2 == np.arange(6) // 2) * 1.1
    brainstate.random.seed(0)
    net = brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(6, 6, weight_init=0.2 + own, weight_bits="chip"),
        bh.nn.H1v2Layer(6, tau=20.0 * u.ms),
    )
    with brainstate.environ.context(dt=1.0 * u.ms):
        bh.train.fit(net, (x, y), n_classes=3, epochs=2, learning_rate=0.02, progress=False)
        bh.deploy.project_signs(net)
        bh.deploy.export_bundle(net, folder / "net.bundle", n_classes=3, notes="trained for the tests")
    np.savez(folder / "test.npz", x=x, y=y)
    np.savez(folder / "two.npz", x=-x[y < 2], y=y[y < 2])
    return folder
