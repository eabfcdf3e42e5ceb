"""One pair: predicted spreads, centring, calibration, and the search for the mean weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import numpy as np
import pytest

import brainhw as bh
from brainhw.init.circuit import Circuit
from brainhw.init.pair import FluctSettings, PairInitializer, _centred, rise_steps
from brainhw.init.response import Response, input_moments, measure_response

DT = 1e-3
family = pytest.mark.parametrize("family", ["H1v1", "H1v2"])
DEFAULT = FluctSettings(xi=2.0, alpha=1.0, center="auto", exact=True, in_range=False)
VENDOR = FluctSettings(xi=2.0, alpha=1.0, center=False, exact=False, in_range=False)


def with_settings(settings: FluctSettings, **changes: Any) -> FluctSettings:
    return FluctSettings(**{**vars(settings), **changes})


def solver_of(net: Any, x: np.ndarray, settings: FluctSettings, key: int = 0) -> PairInitializer:
    circuit = Circuit(*net.layers)
    kernel = measure_response(circuit, 1.0 * u.ms, x.shape[1])
    return PairInitializer(circuit, x, kernel, input_moments(x, DT), settings, jax.random.key(key))


def plain(weights: Any) -> np.ndarray:
    return np.asarray(u.get_mantissa(weights), dtype=float)


# Sizes ----------------------------------------------------------------------------------------------------------------


def test_spread_without_a_mean_is_that_of_the_paper(chip_pair: Callable, poisson: Callable) -> None:
    """sigma_W = theta / (xi sqrt(N nu eps_hat / alpha)), different for each neuron if time constants differ."""
    net = chip_pair("H1v2", 20, 4, tau=np.array([5.0, 10.0, 20.0, 50.0]) * u.ms)
    for alpha in (1.0, 0.7):
        solver = solver_of(net, poisson(80, (4, 100, 20)), with_settings(VENDOR, alpha=alpha))
        mu_U, sizes = solver._sizes(0.0)
        nu, eps_hat = solver.moments.nu_var, solver.response.square_integral
        np.testing.assert_allclose(sizes.sigma_FF, 100.0 / 2.0 * np.sqrt(alpha / (20 * nu * eps_hat)), rtol=1e-6)
        assert np.all(np.diff(sizes.sigma_FF) < 0)
        np.testing.assert_array_equal(mu_U, 0)
        np.testing.assert_array_equal(sizes.mu_W, 0)
        assert not sizes.exhausted.any()


def test_mean_takes_its_part_of_the_variance_until_a_floor_is_left(chip_pair: Callable, poisson: Callable) -> None:
    """sigma^2 = max(((theta - mu_U)/xi)^2 / (N nu eps_hat) - mu_W^2, (mu_W/10)^2)."""
    solver = solver_of(chip_pair("H1v2", 20, 3), poisson(80, (4, 100, 20)), with_settings(VENDOR, xi=3.0))
    nu, kernel = solver.moments.nu_var, solver.response
    for level, exhausted in ((0.2, False), (0.9, True)):
        mu_U, sizes = solver._sizes(level)
        np.testing.assert_allclose(mu_U, 100 * level)
        np.testing.assert_allclose(sizes.mu_W, mu_U / (20 * solver.moments.nu_mean * kernel.integral), rtol=1e-6)
        left = ((100 - mu_U) / 3) ** 2 / (20 * nu * kernel.square_integral) - sizes.mu_W**2
        floor = (0.1 * sizes.mu_W) ** 2
        np.testing.assert_allclose(sizes.sigma_FF, np.sqrt(np.maximum(left, floor)), rtol=1e-6)
        assert np.all(sizes.exhausted == exhausted)
    # The mean at which no variance is left, in closed form.
    mu_W = 100 / (20 * nu * kernel.integral + 3 * np.sqrt(20 * nu * kernel.square_integral))
    spent = float((mu_W * 20 * nu * kernel.integral)[0] / 100)
    assert not solver._sizes(0.99 * spent)[1].exhausted.any()
    assert solver._sizes(1.01 * spent)[1].exhausted.all()


def test_recurrent_spread_follows_from_the_layers_own_rate(chip_pair: Callable, poisson: Callable) -> None:
    net = chip_pair("H1v2", 20, 6, topology="RC")
    solver = solver_of(net, poisson(80, (4, 100, 20)), with_settings(VENDOR, alpha=0.8))
    eps_hat = solver.response.square_integral
    for rate, used in ((30.0, 30.0), (0.0, 0.5)):  # a nearly silent layer would require unbounded weights
        solver.nu_rec = rate
        expected = np.sqrt(0.2 * 50.0**2 / (6 * used * eps_hat))
        np.testing.assert_allclose(solver._sizes(0.0)[1].sigma_RC, expected, rtol=1e-6)


def test_draws_share_their_random_numbers(chip_pair: Callable, poisson: Callable) -> None:
    solver = solver_of(chip_pair("H1v2", 20, 3), poisson(80, (4, 100, 20)), VENDOR)
    first, second = solver._draw(0.1), solver._draw(0.3)
    scaled = [(plain(d.weight) - d.sizes.mu_W) / d.sizes.sigma_FF for d in (first, second)]
    np.testing.assert_allclose(*scaled, rtol=1e-4, atol=1e-4)
    assert plain(second.weight).mean() > plain(first.weight).mean()
    assert solver.meter.n_runs == 2


# Centring -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rates", "center", "is_centred"),
    [
        ([50.0] * 8, "auto", True),
        ([50.0] * 7, "auto", False),  # with so few inputs nothing would be left
        ([50.0] * 7, True, True),
        ([50.0] * 20, False, False),
        ([500.0, 400.0, 300.0] + [1.0] * 20, "auto", False),  # three carry the mean
        ([500.0, 400.0, 300.0] + [1.0] * 20, True, True),
        ([50.0], True, False),  # a single input would be constant after centring
    ],
)
def test_centring_needs_enough_inputs(rates: list[float], center: Any, is_centred: bool, chip_pair: Callable) -> None:
    rng = np.random.default_rng(0)
    x = (rng.random((4, 200, len(rates))) < np.array(rates) * DT).astype(np.float32)
    circuit = Circuit(*chip_pair("H1v2", len(rates), 5).layers)
    kernel = measure_response(circuit, 1.0 * u.ms, 200)
    settings = with_settings(DEFAULT, center=center)
    solver = PairInitializer(circuit, x, kernel, input_moments(x, DT), settings, jax.random.key(0))
    along = solver.moments.rates / np.linalg.norm(solver.moments.rates) @ solver.z_ff
    assert (solver.direction is not None) == is_centred
    assert np.allclose(along, 0, atol=1e-6) == is_centred


def test_centred_columns_keep_their_spread() -> None:
    z = np.random.default_rng(0).normal(size=(8, 20_000))
    direction = np.arange(1.0, 9.0) / np.linalg.norm(np.arange(1.0, 9.0))
    assert _centred(z, direction).std() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(direction @ _centred(z, direction), 0, atol=1e-12)
    np.testing.assert_array_equal(_centred(z, None), z)


def test_inputs_that_move_as_one_are_not_centred(chip_pair: Callable, poisson: Callable) -> None:
    x = np.repeat(poisson(100, (4, 150, 1)), 16, axis=2)
    solver = solver_of(chip_pair("H1v2", 16, 4), x, DEFAULT)
    assert solver.direction is None
    assert np.all(solver.basis.of_spread > 0)


# Calibration ----------------------------------------------------------------------------------------------------------


def test_every_neuron_is_calibrated_to_its_target(chip_pair: Callable) -> None:
    """Twelve drifting analog channels: one random draw misses the prediction, but the calibrated membranes do not."""
    rng = np.random.default_rng(0)
    x = np.abs(np.cumsum(rng.normal(0, 0.1, (6, 300, 12)), axis=1)).astype(np.float32)
    solver = solver_of(chip_pair("H1v2", 12, 20), x, with_settings(DEFAULT, xi=1.5))
    before = solver.meter.feedforward_moments(solver._to_weight(solver._sizes(0.0)[1].sigma_FF * solver.z_ff))[1]
    assert np.max(np.abs(before * 1.5 / 100 - 1)) > 0.1
    solver._calibrate()
    after = solver.meter.feedforward_moments(solver._to_weight(solver._sizes(0.0)[1].sigma_FF * solver.z_ff))[1]
    np.testing.assert_allclose(after, 100 / 1.5, rtol=0.03)


def test_linear_synapse_is_calibrated_beyond_its_weight_range_too(chip_pair: Callable, poisson: Callable) -> None:
    """Weights out of range cause a warning, but the target must still be met."""
    solver = solver_of(chip_pair("H1v2", 100, 40), poisson(100, (8, 400, 100)), with_settings(DEFAULT, xi=1.0))
    assert np.median(solver._sizes(0.0)[1].sigma_FF) > 1.66
    solver._calibrate()
    after = solver.meter.feedforward_moments(solver._to_weight(solver._sizes(0.0)[1].sigma_FF * solver.z_ff))[1]
    np.testing.assert_allclose(after, 100, rtol=0.03)


def test_curve_with_two_slopes_and_a_charge_at_zero_is_calibrated_as_well(
    chip_pair: Callable, poisson: Callable
) -> None:
    """Centred weights alone would lift every membrane far above its target mean."""
    curve = bh.chip.TabulatedCharge([-0.9, -1e-5, 0.0, 1e-5, 0.9], [-0.35, 0.099995, 0.1, 0.10001, 1.0] * u.fcoulomb)
    chip = bh.chip.H1V1.replace(charge=curve, provenance="measured")
    solver = solver_of(chip_pair("H1v1", 40, 10, chip=chip), poisson(100, (8, 300, 40)), DEFAULT)
    before, _ = solver.meter.feedforward_moments(solver._to_weight(solver._sizes(0.0)[1].sigma_FF * solver.z_ff))
    solver._calibrate()
    mean, sd = solver.meter.feedforward_moments(solver._to_weight(solver._sizes(0.0)[1].sigma_FF * solver.z_ff))
    assert before.min() > 50
    np.testing.assert_allclose((100 - mean) / sd, 2.0, rtol=0.06)


def test_curve_that_saturates_does_not_blow_weights_up(chip_pair: Callable, poisson: Callable) -> None:
    curve = bh.chip.SaturatingCharge(1.034 * u.fcoulomb, saturation=0.3)
    chip = bh.chip.H1V1.replace(charge=curve, provenance="measured")
    solver = solver_of(chip_pair("H1v1", 40, 20, chip=chip), poisson(100, (4, 200, 40)), DEFAULT)
    predicted = solver._sizes(0.0)[1].sigma_FF
    solver._calibrate()
    assert np.all(solver._sizes(0.0)[1].sigma_FF <= 1.31 * np.maximum(predicted, 0.9))


# The search -----------------------------------------------------------------------------------------------------------


def spied(solver: PairInitializer) -> list[tuple[float, int]]:
    """Return a list that collects ``(level, dead)`` of every draw."""
    seen: list[tuple[float, int]] = []
    draw = solver._draw

    def spy(level: float) -> Any:
        drawn = draw(level)
        seen.append((level, drawn.dead))
        return drawn

    solver._draw = spy  # type: ignore[method-assign]
    return seen


@family
def test_vendor_search_ends_a_tenth_above_the_smallest_mean_without_dead_neurons(
    family: str, chip_pair: Callable, poisson: Callable
) -> None:
    solver = solver_of(chip_pair(family, 32, 40), poisson(300, (16, 100, 32)), with_settings(VENDOR, xi=1.0), key=1)
    seen = spied(solver)
    draw = solver.solve()
    assert draw.dead == 0
    assert seen[0][0] == 0
    smallest_awake = min(level for level, dead in seen[:-1] if dead == 0)
    largest_silent = max(level for level, dead in seen[:-1] if dead > 0 and level < smallest_awake)
    assert smallest_awake / largest_silent < 1.02
    assert draw.level / smallest_awake == pytest.approx(1.1, rel=1e-6)
    assert draw.mu_U.mean() == pytest.approx(100 * draw.level)
    assert len(seen) <= 20
    # The variance budget is exhausted, as in every printed example of the vendor.
    assert draw.sizes.exhausted.all()
    np.testing.assert_allclose(draw.sizes.sigma_FF / draw.sizes.mu_W, 0.1, rtol=1e-6)


def test_without_dead_neurons_the_mean_stays_zero(chip_pair: Callable, poisson: Callable) -> None:
    solver = solver_of(chip_pair("H1v2", 64, 10), poisson(300, (16, 150, 64)), with_settings(DEFAULT, xi=1.0))
    draw = solver.solve()
    assert draw.level == 0
    assert solver.meter.n_runs == 1


def test_one_input_must_reach_threshold_alone(chip_pair: Callable, poisson: Callable) -> None:
    """Negative weights never make a neuron fire: the mean rises until one spike suffices, and a spread remains."""
    net = chip_pair("H1v2", 1, 16, tau=100 * u.ms)
    solver = solver_of(net, poisson(300, (8, 400, 1)), VENDOR)
    draw = solver.solve()
    assert draw.dead == 0
    assert draw.sizes.exhausted.all()
    weights = plain(draw.weight)
    assert len(np.unique(weights)) == weights.size
    np.testing.assert_array_equal(plain(net.layers[0].weight.value), weights)


def test_only_silent_neurons_are_lifted_where_weights_are_centred(chip_pair: Callable, poisson: Callable) -> None:
    tau = np.where(np.arange(30) < 15, 5.0, 50.0) * u.ms
    solver = solver_of(chip_pair("H1v2", 32, 30, tau=tau), poisson(200, (32, 60, 32)), with_settings(DEFAULT, xi=3.0))
    solver._awake = lambda draw: draw.dead == 0  # type: ignore[method-assign] # no excuse of little data
    solver._calibrate()
    before = solver._draw(0.0)
    silent = before.counts == 0
    draw = solver.solve()
    assert 0 < silent.sum() < 15
    assert draw.dead == 0
    np.testing.assert_array_equal(draw.sizes.mu_W > 0, silent)
    np.testing.assert_array_equal(draw.counts[~silent], before.counts[~silent])
    np.testing.assert_allclose(draw.mu_U[silent], 100 * draw.level)


def test_neurons_silent_by_chance_on_little_data_are_let_be(chip_pair: Callable, poisson: Callable) -> None:
    solver = solver_of(chip_pair("H1v2", 64, 50), poisson(200, (1, 60, 64)), DEFAULT)
    draw = solver.solve()
    assert draw.dead > 0
    assert draw.level == 0


def test_best_draw_is_kept_where_no_mean_wakes_all(chip_pair: Callable, poisson: Callable) -> None:
    """Neurons leak within a step and spikes are rare: even the largest weight does not reach threshold."""
    net = chip_pair("H1v2", 4, 12, tau=1 * u.ms)
    solver = solver_of(net, poisson(20, (2, 60, 4)), with_settings(VENDOR, in_range=True))
    seen = spied(solver)
    draw = solver.solve()
    assert draw.dead > 0
    assert draw.dead == min(dead for _, dead in seen)
    assert np.max(draw.sizes.mu_W) <= 1.66 * (1 + 1e-6)


def test_input_without_a_mean_is_not_searched(chip_pair: Callable) -> None:
    x = np.random.default_rng(0).normal(size=(2, 60, 16)).astype(np.float32)
    solver = solver_of(chip_pair("H1v2", 16, 8), x, with_settings(VENDOR, xi=5.0))
    draw = solver.solve()
    assert draw.dead > 0
    assert draw.level == 0
    assert solver.meter.n_runs == 1


# Within the range -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "topology", "rate"), [("H1v1", "RC", 300), ("H1v1", "FF", 30), ("H1v2", "FF", 300)])
def test_no_weight_leaves_the_range_if_it_is_to_be_kept(
    family: str, topology: str, rate: float, chip_pair: Callable, poisson: Callable
) -> None:
    net = chip_pair(family, 64, 24, topology=topology)
    x = poisson(rate, (16, 200, 64))
    solver = solver_of(net, x, with_settings(DEFAULT, in_range=True, alpha=0.9 if topology == "RC" else 1.0))
    draw = solver.solve()
    limit = solver.circuit.weight_limit
    assert np.abs(plain(draw.weight)).max() <= limit * (1 + 1e-6)
    if topology == "RC":
        assert 0 < np.abs(plain(draw.recurrent)).max() <= limit * (1 + 1e-6)
    assert draw.sizes.sigma_FF.min() > 0
    assert bh.train.out_of_range(net) == 0
    if rate == 300:
        assert np.mean(draw.counts == 0) < 0.15
        mean, sd = solver.meter.feedforward_moments(draw.weight)
        assert np.median((100 - mean) / sd) == pytest.approx(2.0, rel=0.2)


def test_range_hardly_matters_where_it_is_wide_enough(chip_pair: Callable, poisson: Callable) -> None:
    x, drawn = poisson(300, (8, 150, 200)), []
    for in_range in (False, True):
        solver = solver_of(chip_pair("H1v2", 200, 10), x, with_settings(DEFAULT, xi=3.0, in_range=in_range))
        solver._calibrate()
        assert solver._level_in_range() < 0.05
        drawn.append(plain(solver._to_weight(solver._sizes(0.0)[1].sigma_FF * solver.z_ff)))
    assert np.abs(drawn[0]).max() < 1.66
    np.testing.assert_allclose(drawn[1], drawn[0], rtol=1e-5)


def test_range_means_nothing_without_a_chip(poisson: Callable) -> None:
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(30, 6), bh.nn.LIFLayer(6, tau=20 * u.ms, V_th=40 * u.mV))
    solvers = [
        solver_of(net, poisson(100, (4, 100, 30)), with_settings(VENDOR, in_range=kept)) for kept in (True, False)
    ]
    assert [solver._level_in_range() for solver in solvers] == [0, 0]
    np.testing.assert_array_equal(*(solver._sizes(0.7)[1].sigma_FF for solver in solvers))


# Recurrent weights ----------------------------------------------------------------------------------------------------


def test_alpha_one_leaves_recurrent_weights_zero(chip_pair: Callable, poisson: Callable) -> None:
    solver = solver_of(chip_pair("H1v1", 64, 8, topology="RC"), poisson(200, (2, 50, 64)), VENDOR)
    np.testing.assert_array_equal(solver._sizes(0.0)[1].sigma_RC, 0)


def test_rise_is_the_time_to_the_mean() -> None:
    beta = np.exp(-1 / np.array([5.0, 20.0]))
    kernel = Response(beta ** np.arange(400)[:, None], 1.0, np.zeros(2), DT)
    assert rise_steps(kernel) == pytest.approx(20 * np.log(100), abs=1.5)
    assert rise_steps(Response(np.ones((1, 1)), 1.0, np.zeros(1), DT)) == 0
