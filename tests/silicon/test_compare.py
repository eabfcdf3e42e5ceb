"""The comparison finds agreement, rates, accuracy and causes, on benches that are known."""

from __future__ import annotations

import re
from typing import Any

import brainstate
import brainunit as u
import numpy as np
import pytest
from numpy_bench import NumpyBench, inputs, program_of, rms

import brainhw as bh
from brainhw.silicon import ChipProgram, DeviceError, Recording, compare, put_chip
from brainhw.silicon.measured_bench import MeasuredBench


class Echo:
    """A bench that plays recordings, one after the other."""

    def __init__(self, *recordings: Any) -> None:
        self.recordings = list(recordings)

    def program(self, program: ChipProgram) -> None:
        self.held = program

    def run(self, x: np.ndarray) -> Recording:
        found = self.recordings.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def model_spikes(program: ChipProgram, x: np.ndarray) -> np.ndarray:
    with brainstate.environ.context(dt=program.dt):
        return np.asarray(bh.rollout(program.to_net(), x)[0]).astype(np.uint8)


def test_a_bench_like_the_model_agrees_in_every_spike_and_membrane() -> None:
    program, x = program_of("H1v2"), inputs(steps=60, runs=5)
    measured = bh.silicon.MeasuredChip(program.chip, np.full((8, 200), np.nan) * u.ms, np.full(200, np.nan) * u.mV)
    found = compare(program, MeasuredBench(measured), x, n_trials=2, explain=False)
    one = found.layers["layers.1"]
    assert found.agreement == found.ceiling == 1
    fired = one.model_spikes > 0
    assert np.all(one.found[fired] == 1)
    assert np.isnan(one.found[~fired]).all()
    assert np.array_equal(one.model_spikes, model_spikes(program, x).sum(axis=(0, 1)))
    assert np.allclose(one.model_rate.mantissa, one.model_spikes / (60 * 5 * 1e-3))
    assert one.membrane_rms is not None
    assert np.all(one.membrane_rms.mantissa == 0)
    assert found.worst() == []
    assert not any(one.reasons)
    assert found.model_accuracy is None


def test_every_number_of_a_known_recording() -> None:
    program, x = program_of("H1v2"), inputs(steps=60, runs=5)
    model = model_spikes(program, x)
    busy = int(model.sum(axis=(0, 1)).argmax())
    first, second = model.copy(), model.copy()
    first[..., busy] = 0  # dead in both
    second[..., busy] = 0
    other = int(np.argsort(model.sum(axis=(0, 1)))[-2])
    n = int(model[..., other].sum())
    step, sample = np.argwhere(model[..., other])[0]
    first[step, sample, other] = 0  # one spike of the model is missing in one of two trials
    always = int(np.argsort(model.sum(axis=(0, 1)))[-3])
    first[..., always] = second[..., always] = 1
    bench = Echo(Recording({"layers.1": first}), Recording({"layers.1": second}))
    found = compare(program, bench, x, n_trials=2, explain=False)
    one = found.layers["layers.1"]
    assert one.reasons[busy] == "dead: silent on the bench"
    assert one.found[busy] == 0
    assert np.isnan(one.predicted[busy])
    assert one.found[other] == pytest.approx(1 - 0.5 / n)
    assert one.predicted[other] == 1
    # Of the 2n - 1 spikes of both trials, n - 1 pairs agree.
    assert one.itself[other] == pytest.approx(2 * (n - 1) / (2 * n - 1))
    assert one.reasons[always] == "spikes in almost every time step on the bench"
    assert one.bench_rate[always] == 1000 * u.Hz
    assert one.membrane_rms is None
    assert found.worst(2) == [("layers.1", always), ("layers.1", busy)]
    text = str(found)
    assert text.index("spikes in almost every time step") < text.index("dead:")
    assert f"{busy}" in found.table(3)


def test_accuracy_of_both_with_populations_of_outputs() -> None:
    program, x = program_of("H1v2"), inputs(steps=60, runs=12)
    model = model_spikes(program, x)
    classes = model.sum(axis=0, dtype=int).reshape(12, 8, 3).sum(axis=-1).argmax(axis=-1)
    bench = Echo(Recording({"layers.1": np.zeros_like(model)}))
    found = compare(program, bench, x, classes, n_classes=8, explain=False)
    assert found.model_accuracy == 1
    assert found.bench_accuracy == np.mean(classes == 0)
    assert "accuracy: model 100.00%" in str(found)


def test_measured_numbers_at_least_double_the_agreement_and_are_named_as_causes() -> None:
    program, bench, x = program_of("H1v2"), NumpyBench(3), inputs()
    net = program.to_net()
    before = compare(net, bench, x, n_trials=2)
    one = before.layers["layers.1"]
    truth = bench.V_th["layers.1"] / bench.gain / 100
    assert rms(one.threshold_ratio / truth - 1) < 0.03
    assert rms(one.tau_ratio / (bench.tau["layers.1"] / 20) - 1) < 0.06
    worst = before.worst(1)[0][1]
    assert f"threshold x {one.threshold_ratio[worst]:.2f}" in one.reasons[worst]
    fit = bh.silicon.fit_recordings(net, x, bench.run(x))
    put_chip(net, fit.measured)
    after = compare(net, bench, x, n_trials=2, explain=False)
    assert after.agreement > 2 * before.agreement
    assert after.agreement > 0.9 * after.ceiling


def test_a_bench_that_fails_is_a_device_error_and_the_net_stays() -> None:
    program, x = program_of("H1v2"), inputs(steps=10, runs=2)
    good = Recording({"layers.1": np.zeros((10, 2, 24))})
    net = program.to_net()
    before = {path: state.value for path, state in net.states().items()}
    short = Recording({"layers.1": np.zeros((9, 2, 24))})
    for failing, match in (
        (DeviceError("the supply is off"), r"compare: the bench failed during trial 2 of 2: the supply is off"),
        (OSError("no\nlink"), r"trial 2 of 2: no link"),
        (short, r"trial 2 of 2: .*\(9, 2, 24\).*\(10, 2, 24\)"),
        (np.zeros(3), r"trial 2 of 2: .*must return a .*Recording"),
    ):
        with pytest.raises(DeviceError, match=match):
            compare(net, Echo(good, failing), x, n_trials=2, explain=False)
    assert all(net.states()[path].value is value for path, value in before.items())


def test_bad_arguments_are_refused_by_name() -> None:
    program, x = program_of("H1v2"), inputs(steps=10, runs=2)
    bench = Echo()
    with pytest.raises(TypeError, match=r"compare: device must have the methods .*; got 3"):
        compare(program, 3, x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=re.escape("compare: x must have shape [T, B, 16]") + r".*\(10, 2, 15\)"):
        compare(program, bench, x[..., 1:])
    with pytest.raises(
        ValueError, match=r"compare: n_classes must be a divisor of the number of output neurons, 24; got 7"
    ):
        compare(program, bench, x, n_classes=7)
    with pytest.raises(ValueError, match=r"compare: y must contain integers and have shape \(2,\).*\(3,\)"):
        compare(program, bench, x, np.zeros(3, int))
    with pytest.raises(ValueError, match=r"compare: y must contain class indices from 0 to 7; got 0 to 8"):
        compare(program, bench, x, np.array([0, 8]), n_classes=8)
