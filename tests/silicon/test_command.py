"""A command is a bench: the numpy example of the docs gives the model's spikes, and failures are one clear error."""

from __future__ import annotations

import sys
from pathlib import Path

import brainunit as u
import numpy as np
import pytest
from deploy_nets import lively
from silicon_programs import program_of

import brainhw as bh
from brainhw.silicon import CommandDevice, Device, DeviceError

EXAMPLE = Path(__file__).parents[2] / "docs" / "bench_example.py"


@pytest.mark.parametrize("family", ["H1v1", "H1v2"])
@pytest.mark.parametrize("frontend", [False, True])
def test_the_numpy_bench_of_the_docs_gives_the_spikes_of_the_model(family: str, frontend: bool) -> None:
    net, program = program_of(family, frontend=frontend)
    xs = lively(scale=14 if frontend else 0.8)
    bench = CommandDevice([sys.executable, EXAMPLE])
    assert isinstance(bench, Device)
    bench.program(program)
    recording = bench.run(np.asarray(xs))
    names = [f"{layer}.{name}" for layer in program.layers for name in ("spk", "V")]
    expected = bh.rollout(net, xs, record=names)[1]
    assert recording.spikes["layer0"].sum() > 10
    for layer in program.layers:
        assert np.array_equal(recording.spikes[layer], expected[f"{layer}.spk"])
        np.testing.assert_allclose(recording.membranes[layer].mantissa, expected[f"{layer}.V"].mantissa, atol=1e-3)


@pytest.mark.parametrize("family", ["H1v1", "H1v2"])
def test_a_bench_that_knows_csv_alone_gives_them_too(family: str) -> None:
    net, program = program_of(family, frontend=True)
    xs = lively(12, 2, scale=14)
    bench = CommandDevice([sys.executable, "-S", Path(__file__).parents[1] / "support" / "csv_bench.py"], format="csv")
    bench.program(program)
    recording = bench.run(np.asarray(xs))
    names = [f"{layer}.{name}" for layer in program.layers for name in ("spk", "V")]
    expected = bh.rollout(net, xs, record=names)[1]
    assert recording.spikes["frontend"].sum() > 10
    for layer in program.layers:
        assert np.array_equal(recording.spikes[layer], expected[f"{layer}.spk"])
        np.testing.assert_allclose(recording.membranes[layer].mantissa, expected[f"{layer}.V"].mantissa, atol=1e-3)


def test_what_is_no_command_is_refused() -> None:
    with pytest.raises(TypeError, match="CommandDevice: command must be a sequence of a program and its arguments"):
        CommandDevice("python bench.py")
    with pytest.raises(
        ValueError, match="CommandDevice: command must contain at least the name of a program; got none"
    ):
        CommandDevice([])
    with pytest.raises(TypeError, match=r"CommandDevice: command\[1\] must be text, not empty; got 3"):
        CommandDevice(["python", 3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="CommandDevice: timeout must be a Quantity"):
        CommandDevice(["true"], timeout=3.0)
    with pytest.raises(ValueError, match="CommandDevice: timeout must be greater than zero"):
        CommandDevice(["true"], timeout=0.0 * u.second)
    with pytest.raises(ValueError, match="CommandDevice: format must be one of 'npz', 'csv'; got 'hdf5'"):
        CommandDevice(["true"], format="hdf5")
    with pytest.raises(DeviceError, match=r"CommandDevice\.run: there is no program for the chip"):
        CommandDevice(["true"]).run(np.zeros((3, 2, 16)))
