"""Mistakes of a bench that passed for measurements: each is refused or named, and none changes what it is given."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.silicon import ChargeTable, MeasuredChip, Recording, VirtualChip, calibrate, synthetic_bench


@pytest.fixture(autouse=True)
def _dt():
    with brainstate.environ.context(dt=1.0 * u.ms):
        yield


@pytest.fixture(scope="module")
def tables():
    return synthetic_bench("h1v2", seed=3, neurons=range(6), profiles=(3, 4))


class Bench:
    """A virtual chip; what it gets and what it gives can be changed."""

    def __init__(self, given: Any = lambda x: x, recorded: Any = lambda recording: recording) -> None:
        self.chip, self.given, self.recorded = VirtualChip(bh.chip.H1V2, key=7), given, recorded

    def program(self, program: Any) -> None:
        self.chip.program(program)

    def run(self, x: np.ndarray) -> Recording:
        recording = self.recorded(self.chip.run(x))
        self.given(x)
        return recording


def net_of(seed: int = 0) -> brainstate.nn.Module:
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> Any:
        return jnp.asarray(np.abs(rng.normal(0.9, 0.5, shape)), jnp.float32)

    return brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(6, 8, weight_init=weights(6, 8), weight_bits="chip"),
        bh.nn.H1v2Layer(8, tau=20.0 * u.ms),
        bh.nn.H1v2Synapse(8, 4, weight_init=weights(8, 4), weight_bits="chip"),
        bh.nn.H1v2Layer(4, tau=20.0 * u.ms),
    )


def loop_of(bench: Any, **options: Any) -> tuple[Any, Any]:
    net = net_of()

    def loss(outputs: Any, y: Any) -> Any:
        return braintools.metric.softmax_cross_entropy_with_integer_labels(outputs.sum(axis=0), y).mean()

    return net, bh.silicon.InTheLoop(net, bench, loss=loss, optimizer=braintools.optim.Adam(lr=0.03), **options)


X = np.random.default_rng(0).poisson(1.5, (60, 10, 6)).astype(np.float32)
Y = np.arange(10) % 4


def scale(x: np.ndarray) -> None:
    x *= 0


def late(recording: Recording) -> Recording:
    return Recording({k: np.concatenate([s[:1] * 0, s[:-1]]) for k, s in recording.spikes.items()})


def before_the_reset(recording: Recording) -> Recording:
    added = {k: m + recording.spikes[k] * 100 * u.mV for k, m in recording.membranes.items()}
    return Recording(recording.spikes, added)


@pytest.mark.slow
def test_a_bench_that_writes_into_its_input_changes_neither_data_nor_gradient() -> None:
    x = X.copy()
    found = []
    for given in (lambda x: None, scale):
        net, loop = loop_of(Bench(given))
        loop.step(x, Y)
        found.append(np.asarray(net.layers[0].weight.value))
        assert bh.silicon.compare(net, Bench(given), x, explain=False).layers["layers.1"].model_spikes.sum() > 0
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(*found)


def test_a_step_has_the_time_step_of_the_program() -> None:
    found = []
    for dt in (1.0, 0.25):
        net, loop = loop_of(Bench())
        with brainstate.environ.context(dt=dt * u.ms):
            loop.step(X, Y)
        found.append(np.asarray(net.layers[0].weight.value))
    np.testing.assert_array_equal(*found)


def test_a_bench_that_ends_the_process_is_a_device_error() -> None:
    def leave(_: Any) -> Any:
        raise SystemExit(3)

    net, loop = loop_of(Bench(recorded=leave))
    for act in (lambda: loop.step(X, Y), lambda: bh.silicon.compare(net, Bench(recorded=leave), X)):
        with pytest.raises(bh.silicon.DeviceError, match=r"SystemExit|\b3"):
            act()


def test_membranes_from_before_the_reset_are_refused() -> None:
    bench = Bench(recorded=before_the_reset)
    net, loop = loop_of(bench)
    with pytest.raises(
        bh.silicon.DeviceError, match=r"'layers\.1' must be read after the reset; .* median is [\d.]+ mV"
    ):
        loop.step(X, Y)
    program = bh.silicon.ChipProgram.of(net)
    bench.program(program)
    recording = bench.run(X)
    with pytest.raises(ValueError, match=r"^fit_recordings: membranes of 'layers\.1' must be read after the reset"):
        bh.silicon.fit_recordings(net, [X], [recording])
    in_volts = Recording(recording.spikes, {k: m / 1000 for k, m in bench.chip.run(X).membranes.items()})
    with pytest.raises(ValueError, match=r"^fit_recordings: the membranes of .* Check their unit"):
        bh.silicon.fit_recordings(net, [X], [in_volts])


def test_spikes_that_come_one_step_late_are_named() -> None:
    with pytest.warns(UserWarning, match=r"^compare: \d+% of the model's spikes occur on the bench 1 step later, but"):
        bh.silicon.compare(net_of(), Bench(recorded=late), X, explain=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bh.silicon.compare(net_of(), Bench(), X, explain=False)


def test_a_chip_whose_measured_neurons_are_not_in_use_is_named() -> None:
    n = bh.chip.H1V2.n_neurons
    V_th = np.full(n, np.nan)
    V_th[-3:] = 95.0
    tau = np.full((8, n), np.nan) * u.ms
    with pytest.warns(UserWarning, match=r"^put_chip: 3 neurons of the chip are measured, but none .* layers\.1"):
        bh.silicon.put_chip(net_of(), MeasuredChip(bh.chip.H1V2, tau, V_th * u.mV))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bh.silicon.put_chip(net_of(), MeasuredChip(bh.chip.H1V2, tau, np.full(n, np.nan) * u.mV))


@pytest.mark.slow
def test_a_dead_time_of_the_read_out_is_no_threshold(tables) -> None:
    rate = np.asarray(tables.rates.rate.mantissa)
    dead = dataclasses.replace(tables.rates, rate=np.round(rate / (1 + 0.002 * rate)) * u.Hz)
    with pytest.raises(ValueError, match=r"^fit_threshold: .* relative standard deviation of \d+ %.*at most 20 %"):
        bh.silicon.fit_threshold(dead, "h1v2", progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 4])
def test_few_points_of_synapses_that_differ_have_errors_that_hold_it(seed: int) -> None:
    bench = synthetic_bench("h1v2", seed=seed, neurons=range(12), drive_gains=True, inputs=(2, 4, 6, 8, 12, 16))
    done = calibrate(bench.charge, bench.decays, bench.rates, chip="h1v2", progress=False)
    z = (np.asarray(done.measured.V_th.mantissa) - np.asarray(bench.truth.V_th.mantissa))[:12]
    z /= np.asarray(done.measured.V_th_error.mantissa)[:12]
    known = np.isfinite(z)
    assert known.sum() >= 8
    assert np.abs(z[known]).max() < 4


def notes(charge: ChargeTable) -> str:
    return "\n".join(calibrate(charge, chip="h1v2", progress=False).notes)


def test_a_baseline_and_a_ceiling_of_charges_are_named(tables) -> None:
    table = tables.charge
    q = np.asarray(table.charge.mantissa)
    assert "code 0 has 21 % of the largest charge" in notes(dataclasses.replace(table, charge=(q + 0.2) * u.fcoulomb))
    capped = notes(dataclasses.replace(table, charge=np.minimum(q, 0.4) * u.fcoulomb))
    assert "exactly the largest value, 0.4 fC" in capped
    assert "smallest" not in capped
    assert "baseline" not in notes(table)
    assert "saturate" not in notes(table)


def test_noise_in_the_wrong_unit_is_refused(tables) -> None:
    options = {"chip": "h1v2", "progress": False}
    with pytest.raises(
        ValueError, match=r"^calibrate: noise_std must have the right unit: the capacitance is .* factor of 5"
    ):
        calibrate(tables.charge, tables.decays, tables.rates, noise_std=15.0 * u.mV, **options)
    right = calibrate(tables.charge, tables.decays, tables.rates, noise_std=1.5 * u.mV, **options)
    assert "check the unit" not in "\n".join(right.notes)
