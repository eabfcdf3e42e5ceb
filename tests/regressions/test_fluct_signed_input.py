"""Input of both signs was printed as a rate of -0.0 Hz with a ratio of -79796383 (issue 17, item 13)."""

from __future__ import annotations

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh

X = np.random.default_rng(0).normal(size=(8, 100, 16)).astype(np.float32)
X -= X.mean()


def test_no_rate_is_printed_for_negative_values(capsys):
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(16, 8), bh.nn.LIFLayer(8, tau=20 * u.ms))
    with brainstate.environ.context(dt=1.0 * u.ms):
        report = bh.fluct_init(net, [X], families="any", return_report=True)
    _, source, line, *_ = capsys.readouterr().out.splitlines()
    assert "Hz" not in source
    assert f"rms={np.sqrt(np.mean(X**2)):.3g}" in source
    assert "ν_in" not in line
    assert "Hz" not in line
    assert report.layers[0].signed_input
    assert "mean" in str(report)
    assert report.layers[0].mean_input == pytest.approx(float(X.mean()), abs=1e-7)


def test_rates_of_spikes_are_printed_as_before(capsys):
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(16, 8), bh.nn.LIFLayer(8, tau=20 * u.ms))
    x = (X > 1).astype(np.float32)
    with brainstate.environ.context(dt=1.0 * u.ms):
        bh.fluct_init(net, [x], families="any")
    assert f"ν_in={1000 * x.mean():.1f}Hz" in capsys.readouterr().out
