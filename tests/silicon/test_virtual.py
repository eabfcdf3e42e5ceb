"""A virtual chip computes what the model computes, with values of its own that its key fixes."""

from __future__ import annotations

import dataclasses
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from deploy_nets import Chain, lively
from silicon_programs import on_grid, program_of

import brainhw as bh
from brainhw.silicon import ChipProgram, Device, DeviceError, VirtualChip, scaled_chip

SAME = {"leak_mismatch_std": None, "threshold_mismatch_std": None, "synapse_mismatch_std": None}
BAD = {"gain": 0.65, "threshold": 1.15, "tau": 0.7}
SPREADS = {"leak_mismatch_std": 0.4, "threshold_mismatch_std": 0.15, "synapse_mismatch_std": 0.2}


def preset(family: str) -> bh.chip.ChipSpec:
    return bh.chip.get_chip(family)


def records(net: Any, xs: Any, program: ChipProgram) -> dict[str, Any]:
    names = [f"{layer}.{name}" for layer in program.layers for name in ("spk", "V")]
    return bh.rollout(net, xs, record=names)[1]


def equal(recording: Any, recorded: dict[str, Any]) -> bool:
    return all(
        np.array_equal(recording.spikes[path], np.asarray(recorded[f"{path}.spk"], np.float32))
        and np.array_equal(recording.membranes[path].mantissa, recorded[f"{path}.V"].mantissa)
        for path in recording.spikes
    )


def on(chip: Any, program: ChipProgram, key: int = 0, **given: Any) -> VirtualChip:
    bench = VirtualChip(chip, key, **given)
    bench.program(program)
    return bench


@pytest.mark.parametrize("family", ["H1v1", "H1v2"])
@pytest.mark.parametrize("frontend", [False, True])
def test_a_chip_without_spread_and_noise_is_the_model_to_the_bit(family: str, frontend: bool) -> None:
    net, program = program_of(family, frontend=frontend)
    xs = lively(scale=14 if frontend else 0.5)
    bench = on(preset(family).replace(**SAME), program)
    assert isinstance(bench, Device)
    recording = bench.run(np.asarray(xs))
    assert recording.spikes["layer1"].sum() > 0 or frontend
    assert equal(recording, records(net, xs, program))


@pytest.mark.slow
@pytest.mark.parametrize("precision", [16, "bf16", 64])
def test_other_precisions_are_those_of_the_model(precision: Any) -> None:
    with brainstate.environ.context(precision=precision):
        net, program = program_of("H1v1")
        xs = lively().astype(brainstate.environ.dftype())
        expected = records(net, xs, program)
    # The bench sets the precision of its program itself.
    recording = on(bh.chip.H1V1.replace(**SAME), program).run(np.asarray(xs, np.float32))
    for path, spikes in recording.spikes.items():
        assert np.array_equal(spikes, np.asarray(expected[f"{path}.spk"], np.float32))


@pytest.mark.parametrize("family", ["H1v1", "H1v2"])
def test_hidden_values_are_those_of_a_net_that_has_them_in_place(family: str) -> None:
    _, program = program_of(family)
    chip = scaled_chip(preset(family), **BAD, **SPREADS)
    bench = on(chip, program, key=5, gain_std=0.03)
    net = program.to_net(chip)
    hidden = bench._hidden
    for path in program.layers:
        there = program.physical(path)
        layer = getattr(net, path)
        layer.pinned_tau.value = jnp.asarray(hidden.tau[program.leak(path), there], jnp.float32) * u.ms
        layer.pinned_V_th.value = jnp.asarray(hidden.V_th[there], jnp.float32) * u.mV
    rows = {"syn0": None, "syn1": program.physical("layer0"), "layer0": program.physical("layer0")}
    columns = {"syn0": "layer0", "syn1": "layer1", "layer0": "layer0"}
    for path, weight in bh.nn.chip_weights(net).items():
        drawn = hidden.synapses(rows[path], program.physical(columns[path]), program.n_in)
        added, gain = (one.astype(np.float32) for one in drawn)
        extra = chip.charge(weight.master.value) * gain + chip.charge.slope_at_zero * added
        weight.effective.mismatch.value = extra.in_unit(u.fcoulomb)
    xs = lively(scale=1.5)
    recording = bench.run(np.asarray(xs))
    expected = records(net, xs, program)
    assert recording.spikes["layer0"].sum() > 20
    # The deviations are computed inside one compiled function here and outside of it there: the last bits may differ.
    for path, spikes in recording.spikes.items():
        assert np.array_equal(spikes, expected[f"{path}.spk"])
        np.testing.assert_allclose(recording.membranes[path].mantissa, expected[f"{path}.V"].mantissa, atol=1e-3)


def test_the_draw_has_the_spreads_of_the_spec() -> None:
    chip = bh.chip.H1V2.replace(cores=(5000,), **SPREADS)
    bench = VirtualChip(chip, 1, gain_std=0.03)
    hidden = bench._hidden
    np.testing.assert_allclose(bench.truth.tau.mantissa, hidden.tau)
    np.testing.assert_allclose(bench.truth.V_th.mantissa, hidden.V_th)
    nominal = np.asarray(chip.tau_profiles.values.mantissa)
    logs = np.log(hidden.tau / nominal[:, None])
    np.testing.assert_allclose(logs.std(axis=1), 0.4, rtol=0.05)
    np.testing.assert_allclose(logs.mean(axis=1), 0, atol=0.03)
    # A neuron's leak deviates alike at all settings.
    np.testing.assert_allclose(logs, np.broadcast_to(logs[0], logs.shape), atol=1e-12)
    np.testing.assert_allclose((hidden.V_th / 100 - 1).std(), 0.15, rtol=0.05)
    added, gain = hidden.synapses(None, np.arange(5000), 3)
    np.testing.assert_allclose((added.std(), gain.std()), (0.2, 0.03), rtol=0.05)
    # One more input changes nothing about the others.
    assert np.array_equal(hidden.synapses(None, np.arange(5000), 4)[0][:3], added)


def test_the_key_fixes_the_chip_and_the_place_fixes_the_values() -> None:
    _, program = program_of("H1v2", recurrent=False)
    _, other = program_of("H1v2", recurrent=False, seed=4)
    chip = scaled_chip(bh.chip.H1V2, **SPREADS)
    x = np.asarray(lively(scale=2.0))
    bench = on(chip, program, 3)
    first = bench.run(x).spikes["layer0"]
    bench.program(other)
    assert not np.array_equal(bench.run(x).spikes["layer0"], first)
    bench.program(program)
    assert np.array_equal(bench.run(x).spikes["layer0"], first)
    assert np.array_equal(on(chip, program, 3).run(x).spikes["layer0"], first)
    assert not np.array_equal(on(chip, program, 4).run(x).spikes["layer0"], first)
    pieces = [dataclasses.replace(piece, core=1) for piece in program.placement.pieces]
    moved = ChipProgram.of(program.to_net(), bh.deploy.Placement(program.chip, tuple(pieces)))
    assert not np.array_equal(on(chip, moved, 3).run(x).spikes["layer0"], first)


@pytest.mark.parametrize("family", ["H1v1", "H1v2"])
def test_noise_has_its_size_and_is_another_one_in_each_run(family: str) -> None:
    # Two neurons whose membrane settles far from zero and threshold, so that neither clamp nor reset acts.
    chip = preset(family).replace(**SAME, noise_std=1.5 * u.mV, V_th=1000 * u.mV)
    net = on_grid(Chain(family, [4, 2], topologies=["FF"], frontend=False))
    net.syn0.weight.value = jnp.full((4, 2), 0.6 * chip.weight_limit)
    bench = on(chip, ChipProgram.of(net))
    x = np.full((300, 200, 4), 1.5, np.float32)
    first, second = (bench.run(x).membranes["layer0"].mantissa[150:] for _ in range(2))
    quiet = on(chip.replace(noise_std=None), ChipProgram.of(net)).run(x).membranes["layer0"].mantissa[150:]
    beta = np.exp(-1 / 20)
    np.testing.assert_allclose((first - quiet).mean(), 0, atol=0.15)
    np.testing.assert_allclose((first - quiet).std(), 1.5 / np.sqrt(1 - beta**2), rtol=0.02)
    # What a step adds is independent of the steps before it, of the other neuron and of the run before.
    steps = [(run - quiet)[1:] - beta * (run - quiet)[:-1] for run in (first, second)]
    np.testing.assert_allclose([step.std() for step in steps], 1.5, rtol=0.01)
    for one, two in (
        (steps[0][1:], steps[0][:-1]),
        (steps[0][..., 0], steps[0][..., 1]),
        (steps[0][:, 1:], steps[0][:, :-1]),
        (steps[0], steps[1]),
    ):
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.02
    kurtosis = (steps[0] ** 4).mean() / (steps[0] ** 2).mean() ** 2
    np.testing.assert_allclose(kurtosis, 3.0, atol=0.1)
    bench.n_runs = 0
    assert np.array_equal(bench.run(x).membranes["layer0"].mantissa[150:], first)


def test_other_codes_settings_and_places_compile_nothing_anew() -> None:
    net, program = program_of("H1v2", recurrent=False)
    _, other = program_of("H1v2", recurrent=False, seed=4)
    bench = on(scaled_chip(bh.chip.H1V2, **SPREADS), program)
    x = np.asarray(lively())
    bench.run(x)
    compiled = dict(bench._run._compiled)
    pieces = [dataclasses.replace(piece, core=1) for piece in program.placement.pieces]
    for one in (other, ChipProgram.of(net, bh.deploy.Placement(program.chip, tuple(pieces))), program):
        bench.program(one)
        bench.run(x)
    assert bench._run._compiled == compiled
    assert [run.func._cache_size() for run in compiled.values()] == [1]
    assert len(bench._built) == 1


def test_membranes_can_be_left_out() -> None:
    _, program = program_of()
    assert not on(bh.chip.H1V1, program, membranes=False).run(np.asarray(lively())).membranes


def test_what_does_not_fit_is_refused() -> None:
    _, program = program_of("H1v2")
    bench = VirtualChip(bh.chip.H1V2, 0)
    with pytest.raises(DeviceError, match=r"VirtualChip\.run: the chip is not programmed. Call program"):
        bench.run(np.zeros((3, 2, 16)))
    with pytest.raises(TypeError, match=r"VirtualChip\.program: program must be a ChipProgram; got 3"):
        bench.program(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"VirtualChip\.program: chip must have the same family as the program, H1v1"):
        bench.program(program_of("H1v1")[1])
    bench.program(program)
    for x, words in (
        (np.zeros((3, 2, 15)), r"x must have shape \[T, B, 16\]; got \(3, 2, 15\)"),
        (np.zeros((3, 16)), r"x must have shape \[T, B, 16\]; got \(3, 16\)"),
        (np.zeros((0, 2, 16)), r"got \(0, 2, 16\)"),
        (np.full((3, 2, 16), np.nan), "x contains 96 NaN"),
    ):
        with pytest.raises(ValueError, match=rf"VirtualChip\.run: .*{words}"):
            bench.run(x)
    with pytest.warns(UserWarning, match=r"VirtualChip\.run: 96 of 96 input values are negative"):
        bench.run(np.full((3, 2, 16), -1.0))
    assert bench.n_runs == 1
    with pytest.raises(TypeError, match="VirtualChip: key must be an integer"):
        VirtualChip(bh.chip.H1V2, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="VirtualChip: gain_std must be zero or greater"):
        VirtualChip(bh.chip.H1V2, 0, gain_std=-0.1)


def test_a_family_with_equations_of_its_own_is_refused() -> None:
    import x1chips

    weights = np.random.default_rng(2).choice([0.4, 0.8], (6, 5))
    net = brainstate.nn.Sequential(
        x1chips.X1Synapse(6, 5, weight_init=jnp.asarray(weights, jnp.float32), weight_bits="chip"),
        x1chips.X1Layer(5, tau=10 * u.ms),
    )
    with pytest.raises(ValueError, match=r"VirtualChip\.program: X1Layer at 'layers\.1' .*CallableDevice"):
        on(x1chips.X1_CHIP, ChipProgram.of(net))
