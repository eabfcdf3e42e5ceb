"""Negative inputs and bytes of 0 to 255 ran on a chip without a word: no chip takes them."""

from __future__ import annotations

import pathlib
import warnings

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.cli import main

GOOD = np.random.default_rng(0).random((20, 2, 4)).astype(np.float32) * 3
NEGATIVE, BYTES = GOOD - 1.5, np.float32(GOOD * 80)


@pytest.fixture
def net() -> brainstate.nn.Sequential:
    weights = jnp.full((4, 2), 0.3)
    return brainstate.nn.Sequential(
        bh.nn.H1v1Synapse(4, 2, weight_init=weights, weight_bits="chip"), bh.nn.H1v1Layer(2, tau=20 * u.ms)
    )


@pytest.mark.parametrize(("data", "found"), [(NEGATIVE, r"the lowest -1\.\d+"), (BYTES, r"the largest 2\d\d\.\d+")])
def test_each_door_says_it_once(net, data: np.ndarray, found: str, tmp_path: pathlib.Path, capsys) -> None:
    report = bh.check_deployable(net, data)
    assert [violation.rule for violation in report.violations] == ["input of the chip"]
    with pytest.raises(ValueError, match=rf"(?s)check_deployable: .*input of the chip: \d+ of 160 .*{found}"):
        report.raise_if_not()
    with pytest.warns(UserWarning, match=rf"^estimate_power: \d+ of 160 .*{found}") as said:
        bh.deploy.estimate_power(net, data)
    assert len(said) == 1
    path = tmp_path / "net.bundle"
    bh.deploy.export_bundle(net, path)
    with pytest.warns(UserWarning, match=rf"^rollout: \d+ of 160 .*{found}") as said:
        bh.rollout(bh.deploy.load_bundle(path), data)
    assert len(said) == 1
    np.save(tmp_path / "x.npy", data.swapaxes(0, 1))
    for command in ("run", "power"):
        assert main([command, str(path), str(tmp_path / "x.npy")]) == 0
        assert capsys.readouterr().out.count("warning:") == 1


def test_good_inputs_pass(net) -> None:
    for data in (GOOD, GOOD > 1, np.int32(GOOD), jnp.asarray(GOOD, jnp.bfloat16)):
        report = bh.check_deployable(net, data)
        assert report.ok
        assert "input of the chip" in report.rules
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bh.deploy.estimate_power(net, GOOD)


def test_a_frontend_takes_values_of_any_scale_but_not_below_zero() -> None:
    net = brainstate.nn.Sequential(bh.nn.H1v1Frontend(weight_bits="chip"), bh.nn.H1v1Layer(16, tau=20 * u.ms))
    xs = np.full((5, 1, 16), 200.0, np.float32)
    assert bh.check_deployable(net, xs).ok
    assert not bh.check_deployable(net, -xs).ok


@pytest.mark.parametrize("data", [np.zeros((0, 2, 4)), np.full((3, 2, 4), np.nan), "data", None])
def test_data_that_are_no_numbers_are_refused(net, data: object) -> None:
    if data is None:
        assert bh.check_deployable(net, None).ok
        return
    with pytest.raises((ValueError, TypeError), match="check_deployable: data"):
        bh.check_deployable(net, data)
