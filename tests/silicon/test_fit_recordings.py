"""The fit from recordings finds the numbers of a bench in plain NumPy, and says what it cannot find."""

from __future__ import annotations

import re

import brainstate
import numpy as np
import pytest
from numpy_bench import NumpyBench, inputs, off, program_of, rms

import brainhw as bh
from brainhw.silicon import Recording, fit_recordings


@pytest.mark.parametrize("family", ["H1v1", "H1v2"])
def test_the_fit_finds_threshold_and_tau_of_every_neuron(family: str) -> None:
    program, bench, x = program_of(family), NumpyBench(3), inputs()
    bench.program(program)
    recording = bench.run(x)
    fit = fit_recordings(program, x, recording)
    one = fit.layers["layers.1"]
    fired = recording.spikes["layers.1"].sum(axis=(0, 1)) >= 20
    assert 3 <= np.sum(~fired) + 1 <= 5  # two or three neurons fire too little, and are named
    assert np.array_equal(fit.unmeasured["layers.1"], np.flatnonzero(~fired))
    assert np.array_equal(np.isnan(one.threshold.mantissa), ~fired)
    assert f"fewer than 20 spikes: neurons {np.flatnonzero(~fired)[0]}" in str(fit)
    threshold, tau = off(one.threshold, bench.V_th["layers.1"] / bench.gain), off(one.tau, bench.tau["layers.1"])
    assert rms(threshold) < 0.03
    assert rms(tau) < 0.05
    # Standard errors are those of the errors made: 21 neurons leave 40 % of room.
    for error, value, made in ((one.threshold_error, one.threshold, threshold), (one.tau_error, one.tau, tau)):
        assert 0.6 < rms(made / np.asarray(error / value)) < 1.5
    assert np.nanmedian(one.noise.mantissa) == pytest.approx(1.5 / bench.gain, rel=0.15)
    assert rms(one.residuals) == pytest.approx(1, abs=0.1)
    # The result says what spikes cannot tell.
    assert "threshold / (charge / capacitance)" in str(fit)
    # By physical neuron; one layer lies at the head of core 0, at the setting of 20 ms.
    assert np.array_equal(fit.measured.known_V_th, np.concatenate([fired, np.zeros(program.chip.n_neurons - 24, bool)]))
    assert np.array_equal(fit.measured.known_tau[4], fit.measured.known_V_th)
    assert not np.delete(fit.measured.known_tau, 4, axis=0).any()
    spec = fit.measured.spec
    assert spec.provenance["V_th"] == spec.provenance["tau_profiles"] == "measured"
    assert float(spec.tau_profiles.values.mantissa[4]) == pytest.approx(
        np.exp(np.log(bench.tau["layers.1"]).mean()), rel=0.1
    )


def test_measured_numbers_put_in_place_give_the_spikes_of_the_bench() -> None:
    program, bench, x = program_of("H1v2"), NumpyBench(3), inputs()
    bench.program(program)
    recording = bench.run(x)
    net = program.to_net()
    fit = fit_recordings(net, x, recording)  # a network brings its program along
    seen = recording.spikes["layers.1"]

    def share(spikes: np.ndarray) -> float:
        return float((spikes * seen).sum() / spikes.sum())

    def of_the_model() -> float:
        with brainstate.environ.context(dt=program.dt):
            return share(np.asarray(bh.rollout(net, x)[0]))

    preset = of_the_model()
    bh.silicon.put_chip(net, fit.measured)
    # Noise moves spikes by a step: the bench agrees with itself no better.
    ceiling = share(bench.run(x).spikes["layers.1"])
    assert of_the_model() > 2 * preset
    assert of_the_model() > 0.9 * ceiling


@pytest.mark.slow
def test_membranes_tell_the_gain_too() -> None:
    program, bench, x = program_of("H1v2"), NumpyBench(3, membranes=True, read_noise=0.4), inputs()
    bench.program(program)
    fit = fit_recordings(program, x, bench.run(x))
    one = fit.layers["layers.1"]
    assert one.gain is not None
    assert np.nanmedian(one.gain) == pytest.approx(bench.gain, rel=0.005)
    assert rms(off(one.threshold, bench.V_th["layers.1"] / bench.gain)) < 0.01
    assert rms(off(one.tau, bench.tau["layers.1"])) < 0.02
    # Thresholds and membranes in the mV of the bench; the capacitance takes the gain.
    assert rms(off(fit.measured.V_th[:24], bench.V_th["layers.1"])) < 0.01
    assert float(fit.measured.spec.C.mantissa) == pytest.approx(100 / bench.gain, rel=0.01)
    assert "twice the capacitance" in fit.cannot_tell


@pytest.mark.slow
def test_membranes_of_synapses_that_differ_by_a_third_still_have_an_optimum_for_every_neuron() -> None:
    # Every neuron was given up: one with a steep likelihood hid the slopes of all others.
    program, bench, x = program_of("H1v2"), NumpyBench(3, membranes=True, synapse_std=0.3), inputs()
    bench.program(program)
    fit = fit_recordings(program, x, bench.run(x))
    one = fit.layers["layers.1"]
    assert not [why for why in one.reasons if why and "spikes" not in why]
    assert np.nanmedian(one.threshold.mantissa) == pytest.approx(
        np.median(bench.V_th["layers.1"]) / bench.gain, rel=0.1
    )
    # What the model lacks counts as noise.
    assert np.nanmedian(one.noise.mantissa) > 1.2 * bench.noise / bench.gain


@pytest.mark.slow
def test_programs_of_a_loop_two_layers_and_runs_of_two_lengths() -> None:
    weak, strong = (program_of("H1v2", (12, 6), topology="RC", strength=s) for s in (0.45, 0.5))
    bench, xs = NumpyBench(5, gain=2.0, noise=0.5), [inputs(runs=20), inputs(steps=80, runs=20, seed=3)]
    recordings = []
    for program, x in zip((weak, strong), xs, strict=True):
        bench.program(program)
        recordings.append(bench.run(x))
    fit = fit_recordings([weak, strong], xs, recordings, per_layer=True)
    for path, one in fit.layers.items():
        good = np.array([not why for why in one.reasons])
        truth = bench.V_th[path] / bench.gain
        assert rms(off(one.threshold, truth)[good]) < 0.04
        assert rms(off(one.tau, bench.tau[path])[good]) < 0.1
        # The factors of the layer: spread of 10 % and 30 % between its neurons.
        assert one.shared is not None
        assert one.shared[0] == pytest.approx(np.mean(truth) / 100, rel=0.15)
        assert np.allclose(one.threshold.mantissa[~good], 100 * one.shared[0])
        assert np.isfinite(one.tau.mantissa).all()


def test_what_cannot_be_fitted_is_refused_with_the_number() -> None:
    program, bench, x = program_of("H1v2"), NumpyBench(3), inputs(steps=20, runs=3)
    bench.program(program)
    recording = bench.run(x)
    most = int(recording.spikes["layers.1"].sum(axis=(0, 1)).max())
    with pytest.raises(ValueError, match=rf"fit_recordings: recordings .* {most} times in 3 .*min_spikes is 500"):
        fit_recordings(program, x, recording, min_spikes=500)
    silent = Recording({"layers.1": np.zeros((20, 3, 24))})
    with pytest.raises(ValueError, match=r"recordings .* fired 0 times"):
        fit_recordings(program, x, silent)
    with pytest.raises(
        ValueError, match=re.escape("fit_recordings: xs[0] must have shape [T, B, 16]") + r".*\(20, 3, 15\)"
    ):
        fit_recordings(program, x[..., 1:], recording)
    with pytest.raises(
        ValueError, match=r"fit_recordings: the spikes of 'layers.1' have shape \(20, 3, 24\).*\(19, 3, 24\)"
    ):
        fit_recordings(program, x[1:], recording)
    with pytest.raises(ValueError, match=r"xs must be one item .* each of the 3 recordings; got 2"):
        fit_recordings(program, [x, x], [recording] * 3)
    with pytest.raises(ValueError, match=r"programs 0 and 1 differ"):
        fit_recordings([program, program_of("H1v1")], x, [recording] * 2)
    with pytest.raises(TypeError, match=r"fit_recordings: net must be a network or a ChipProgram; got 'chip'"):
        fit_recordings("chip", x, recording)
    with pytest.raises(TypeError, match=r"fit_recordings: recordings\[1\] must be a Recording"):
        fit_recordings(program, x, [recording, x])
