"""A chip program holds the codes, settings and places of a network, and gives the network back."""

from __future__ import annotations

import dataclasses
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deploy_nets import Chain, lively, strong
from silicon_programs import on_grid, program_of

import brainhw as bh
from brainhw.silicon import ChipProgram

FAMILIES = ("H1v1", "H1v2")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("frontend", [False, True])
def test_the_program_gives_the_net_back_spike_for_spike(family: str, frontend: bool) -> None:
    net, program = program_of(family, frontend=frontend)
    xs = lively(scale=14 if frontend else 0.5)
    spikes, _ = bh.rollout(net, xs)
    again, _ = bh.rollout(program.to_net(), xs)
    assert spikes.sum() > 0 or frontend
    assert np.array_equal(spikes, again)


def test_a_chip_in_place_goes_with_the_program() -> None:
    net, _ = program_of()
    bh.sample_chip(net, 3)
    program = ChipProgram.of(net)
    assert np.array_equal(bh.rollout(net, lively())[0], bh.rollout(program.to_net(), lively())[0])
    assert not np.array_equal(bh.rollout(net, lively())[0], bh.rollout(program.to_net(bh.chip.H1V1), lively())[0])


def test_codes_settings_and_places_are_those_of_the_net() -> None:
    net, program = program_of(frontend=True)
    limit = bh.chip.H1V1.weight_limit
    for path, codes in program.codes.items():
        weight = bh.nn.chip_weights(net)[path]
        np.testing.assert_allclose(codes * limit / 15, weight.master.value, rtol=1e-5)
        assert program.bits[path] == 5
    assert program.layers == {"frontend": 16, "layer0": 12, "layer1": 6}
    taus = np.asarray(program.chip.tau_profiles.values.mantissa)
    for path in program.layers:
        assert np.array_equal(taus[program.leak(path)], np.asarray(getattr(net, path).tau.mantissa))
    assert (program.n_in, program.output, program.frontend) == (16, "layer1", "ears")
    assert "34 of 256 neurons" in str(program)


def test_a_neuron_counts_from_the_first_of_its_core() -> None:
    net = on_grid(Chain("H1v2", [8, 70, 40], topologies=["FF", "RC"], frontend=False))
    program = ChipProgram.of(net)
    first = np.concatenate([[0], np.cumsum(program.chip.cores)])
    for layer in program.layers:
        physical = program.physical(layer)
        assert np.array_equal(np.searchsorted(first, physical, side="right") - 1, program.placement.core_of(layer))
    every = np.concatenate([program.physical(layer) for layer in program.layers])
    assert len(set(every.tolist())) == 110
    assert every.max() < 200


def test_another_placement_moves_the_neurons_and_no_spike() -> None:
    net, program = program_of("H1v2", recurrent=False)
    pieces = [dataclasses.replace(piece, core=piece.core + 1) for piece in program.placement.pieces]
    moved = ChipProgram.of(net, bh.deploy.Placement(program.chip, tuple(pieces)))
    assert np.array_equal(moved.physical("layer0"), program.physical("layer0") + 50)
    assert np.array_equal(bh.rollout(net, lively())[0], bh.rollout(moved.to_net(), lively())[0])
    other = bh.deploy.place(Chain("H1v2", [16, 5, 6], topologies=["FF", "FF"], frontend=False))
    with pytest.raises(ValueError, match=r"ChipProgram\.of: placement .*'layer0': 5"):
        ChipProgram.of(net, other)


def test_an_update_takes_the_present_weights_and_nothing_else() -> None:
    net, program = program_of()
    assert program.updated(net) == program
    for state in net.states(brainstate.ParamState).values():
        state.value = jnp.clip(state.value + 0.2, -2.0, 2.0)
    with brainstate.environ.context(fit=True):
        updated = program.updated(net)
    assert updated != program
    assert updated == ChipProgram.of(net)
    net.syn0.weight.value = net.syn0.weight.value.at[0, 0].set(jnp.nan)
    with pytest.raises(ValueError, match=r"ChipProgram\.updated: the weight of syn0 contains 1 NaN"):
        program.updated(net)
    with pytest.raises(
        ValueError, match=r"ChipProgram\.updated: the weights of net must have the same paths and shapes"
    ):
        program.updated(on_grid(strong("H1v1", recurrent=False)))
    with pytest.raises(ValueError, match=r"ChipProgram\.updated: net must be on the chip"):
        program.updated(on_grid(strong("H1v2")))


def test_a_program_in_training_may_have_weights_out_of_range_and_mixed_signs() -> None:
    net, _ = program_of()
    net.syn0.weight.value = net.syn0.weight.value.at[0, 0].set(5.0).at[1, 0].set(-0.3)
    assert ChipProgram.of(net).codes["syn0"][:2, 0].tolist() == [15, -5]


def test_what_cannot_be_programmed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weights on grid.*set_weight_bits"):
        ChipProgram.of(_off_grid())
    with pytest.raises(TypeError, match=r"ChipProgram\.of: placement must be a Placement"):
        ChipProgram.of(strong("H1v1"), 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"ChipProgram: content must be a BundleContent"):
        ChipProgram({})  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"outside of jit"):
        jax.jit(lambda: program_of()[1].to_net() and 0)()


def _off_grid() -> Any:
    net = strong("H1v1")
    net.syn0.weight.value = net.syn0.weight.value * 0.99
    return net


def test_a_program_runs_on_another_chip_of_its_shape_only() -> None:
    _, program = program_of("H1v2")
    other = bh.chip.H1V2.replace(V_th=60 * u.mV)
    assert program.to_net(other).chip.V_th == 60 * u.mV
    assert bh.rollout(program.to_net(other), lively())[0].sum() > bh.rollout(program.to_net(), lively())[0].sum()
    for chip, words in (
        (bh.chip.H1V1, "family as the program, H1v2; got H1v1"),
        (bh.chip.H1V2.replace(cores=(50, 50)), r"same cores as the program, \(50, 50, 100\); got \(50, 50\)"),
        (
            bh.chip.H1V2.replace(tau_profiles=bh.chip.TauProfiles([10.0] * u.ms)),
            "tau_profiles as the program, 8; got 1",
        ),
    ):
        with pytest.raises(ValueError, match=rf"ChipProgram\.to_net: chip must have the .*{words}"):
            program.to_net(chip)
    for name in ("leak", "physical"):
        with pytest.raises(ValueError, match=rf"ChipProgram\.{name}: layer must be one of 'layer0', 'layer1'; got 'x'"):
            getattr(program, name)("x")
