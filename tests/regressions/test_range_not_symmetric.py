"""A chip whose weights reach further to one side: grid, codes, rules, losses, clips, annealing, starts and figures."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.kernel import WeightGrid
from brainhw.kernel.quantize import lowest_code

H1V1 = bh.chip.H1V1
NARROW = H1V1.replace(name="narrow", weight_lowest=-0.7, provenance="measured")
WIDE = H1V1.replace(name="wide", weight_lowest=-0.96, provenance="measured")  # one code more
STEP = 0.9 / 15


def synapse(chip, weights, **given):
    return bh.nn.H1v1Synapse(*np.shape(weights), chip=chip, weight_init=jnp.asarray(weights, jnp.float32), **given)


@pytest.mark.parametrize(
    ("lowest", "codes"), [(None, 15), (-0.9, 15), (-0.96, 16), (-5.0, 16), (-0.7, 11), (-0.06, 1), (-0.05, 0)]
)
def test_the_grid_ends_at_the_last_level_within_the_range(lowest, codes):
    grid = WeightGrid(0.9, 5, lowest)
    assert grid.step == STEP
    assert (grid.lowest_code, grid.largest_code, grid.n_levels) == (-codes, 15, 16 + codes)
    weights = jnp.linspace(-3.001, 3, 613)
    found = np.asarray(grid.codes(weights))
    np.testing.assert_array_equal(found, np.clip(np.round(np.asarray(weights) / np.float32(STEP)), -codes, 15))
    np.testing.assert_allclose(grid.quantize(weights), found * STEP, atol=1e-6)
    low = -0.9 if lowest is None else max(lowest, -16 * STEP)
    assert float(grid.quantize(weights).min()) >= np.float32(low)
    # Rounding at random stays within, too.
    at_random = np.asarray(grid.codes(weights, jax.random.key(0)))
    assert (at_random.min(), at_random.max()) == (-codes, 15)


def test_the_gradient_passes_within_the_range_and_stops_beyond():
    grid = WeightGrid(0.9, 5, -0.7)
    weights = jnp.array([-0.9, -0.71, -0.7, -0.68, 0.0, 0.9, 0.91])
    passed = jax.vmap(jax.grad(grid.quantize))(weights)
    np.testing.assert_array_equal(passed, [0, 0, 1, 1, 1, 1, 0])


def test_a_grid_of_a_family_without_a_lowest_code_is_symmetric():
    class Old:
        largest_code = 7

    assert lowest_code(Old()) == -7
    with pytest.raises(ValueError, match="WeightGrid: lowest must be less than zero; got 0"):
        WeightGrid(0.9, 5, 0.0)


def test_losses_counts_and_clips_know_both_ends():
    net = synapse(NARROW, [[0.95, -0.6], [-0.75, 0.2], [-0.7, 0.9]])
    np.testing.assert_allclose(bh.train.weight_magnitude_loss(net), 2 * 0.05**2 / 6, rtol=1e-4)
    grads = brainstate.transform.grad(lambda: bh.train.weight_magnitude_loss(net), net.weight)()
    np.testing.assert_allclose(grads, 2 / 6 * np.array([[0.05, 0], [-0.05, 0], [0, 0]]), atol=1e-6)
    assert bh.train.out_of_range(net) == 2
    bh.train.clip_weights(net)
    np.testing.assert_array_equal(net.weight.value, np.array([[0.9, -0.6], [-0.7, 0.2], [-0.7, 0.9]], np.float32))
    assert bh.train.out_of_range(net) == 0
    assert float(bh.train.weight_magnitude_loss(net)) == 0


def test_annealed_signs_stay_within_the_range():
    net = synapse(NARROW, [[0.85], [-0.69], [-0.69], [-0.69], [-0.69]])
    annealing = bh.train.SignAnnealing(net, 4)
    for epoch in range(6):
        annealing.step(epoch)
        signed = np.asarray(net.effective.signed(net.weight.value))
        assert signed.min() >= np.float32(-0.7)
        assert signed.max() <= np.float32(0.9)
    annealing.finish()
    np.testing.assert_allclose(net.weight.value, [[-0.7], [-0.69], [-0.69], [-0.69], [-0.69]], rtol=1e-6)


def net_of(chip, codes):
    weights = np.asarray(codes) * STEP
    return brainstate.nn.Sequential(
        synapse(chip, weights, weight_bits="chip"), bh.nn.H1v1Layer(np.shape(codes)[1], tau=20 * u.ms, chip=chip)
    )


def test_the_rule_on_the_range_and_the_report_on_rounding_know_both_ends():
    net = net_of(WIDE, [[15, -16], [3, -16]])
    assert bh.check_deployable(net).ok
    report = bh.deploy.describe(net)
    assert (report.weights[0].levels, report.weights[0].at_limit) == (32, 0.75)
    net.layers[0].weight.value = net.layers[0].weight.value.at[1, 1].set(-0.97)
    violation = bh.check_deployable(net).violations[0]
    assert (violation.rule, violation.limit, violation.where) == ("weights in range", "-0.96 to 0.9", ((1, 1),))
    assert not bh.check_deployable(net_of(H1V1, [[15, -16], [3, -16]])).ok
    assert "-0.7 to 0.9" in str(bh.check_deployable(net_of(NARROW, [[15, -12], [3, -1]])))


def test_a_bundle_and_a_program_hold_the_code_that_only_this_chip_has(tmp_path):
    net = net_of(WIDE, [[15, -16], [3, -16], [15, -2]])
    xs = jnp.asarray(np.random.default_rng(0).random((40, 3, 3)) < 0.7, jnp.float32)
    bh.deploy.export_bundle(net, tmp_path / "net.bundle")
    loaded = bh.deploy.load_bundle(tmp_path / "net.bundle")
    assert loaded.chip == WIDE
    assert loaded.content.synapses["layers.0"].weight.values.tolist() == [[15, -16], [3, -16], [15, -2]]
    np.testing.assert_array_equal(bh.rollout(loaded, xs)[0], bh.rollout(net, xs)[0])
    program = bh.silicon.ChipProgram.of(net)
    for files in ("npz", "csv"):
        program.save(tmp_path / files, format=files)
        assert bh.silicon.ChipProgram.load(tmp_path / files) == program
    assert "wide" in str(bh.deploy.load_bundle(tmp_path / "net.bundle").chip)


def test_starting_weights_lie_within_the_range():
    xs = (np.random.default_rng(0).random((6, 150, 30)) < 0.05).astype(np.float32)
    chip = bh.chip.H1V2.replace(weight_lowest=-1.0)
    brainstate.random.seed(0)
    net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(30, 40, chip=chip), bh.nn.H1v2Layer(40, tau=20 * u.ms, chip=chip))
    assert net.layers[0].weight_slot().limit == 1.0
    bh.fluct_init(net, [xs], key=0, in_range=True)
    assert bh.train.out_of_range(net) == 0


def test_figures_show_both_ends():
    net = synapse(NARROW, np.linspace(-0.8, 0.9, 12).reshape(6, 2), weight_bits="chip")
    ax = bh.visualize.plot_weight_histogram(net)
    ends = sorted(float(line.get_xdata()[0]) for line in ax.get_lines())
    np.testing.assert_allclose(ends, [-0.7, 0.9])
    assert "27 levels" in ax.get_xlabel()
    assert "1 of 12 out of range" in ax.get_legend().get_texts()[0].get_text()
    bh.visualize.plot_sign_blocks(net)
