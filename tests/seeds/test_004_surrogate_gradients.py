"""Seed 004, the vendor's page on surrogate gradients: each promise as one test, in brainhw's names.

Names: ``spike_grad=`` is ``spk_fun=``, ``HWLayer`` is ``H1v1Layer``, ``thresholds=1.0`` is ``V_th=1 * u.mV``,
``reset_mechanism="subtraction"`` is ``reset="subtract"``, and ``dt`` stands in ``brainstate.environ``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

XS = np.array([-3.0, -0.7, -0.04, 0.0, 0.04, 0.7, 3.0])


def atan_slope(x: np.ndarray, alpha: float) -> np.ndarray:
    return (alpha / 2) / (1 + (np.pi / 2 * alpha * x) ** 2)


def fast_sigmoid_slope(x: np.ndarray, slope: float) -> np.ndarray:
    return 1 / (slope * np.abs(x) + 1) ** 2


def sigmoid_slope(x: np.ndarray, k: float) -> np.ndarray:
    return k * np.exp(-k * x) / (np.exp(-k * x) + 1) ** 2


# Factory, name of its parameter, its default, and the derivative as the page prints it.
FACTORIES: dict[str, tuple[Any, str, float, Callable[[np.ndarray, float], np.ndarray]]] = {
    "atan": (bh.surrogate.atan, "alpha", 2.0, atan_slope),
    "fast_sigmoid": (bh.surrogate.fast_sigmoid, "slope", 25.0, fast_sigmoid_slope),
    "sigmoid": (bh.surrogate.sigmoid, "slope", 25.0, sigmoid_slope),
}
each = pytest.mark.parametrize(("factory", "parameter", "default", "formula"), FACTORIES.values(), ids=FACTORIES)


def slope_of(spike: Any, x: Any = XS) -> np.ndarray:
    return np.asarray(jax.grad(lambda x: spike(x).sum())(jnp.asarray(x, jnp.float32)), float)


def layers(spk_fun: Any) -> dict[str, brainstate.nn.Module]:
    """Return one neuron of each kind that takes a surrogate."""
    return {
        "LIF": bh.nn.LIFLayer(1, tau=20 * u.ms, V_th=2 * u.mV, spk_fun=spk_fun),
        "H1v1": bh.nn.H1v1Layer(1, tau=20 * u.ms, spk_fun=spk_fun),
        "H1v2": bh.nn.H1v2Layer(1, tau=20 * u.ms, spk_fun=spk_fun),
        "CubaLIF": bh.nn.CubaLIFLayer(1, V_th=2 * u.mV, spk_fun=spk_fun),
        "ALIF": bh.nn.ALIFLayer(1, V_th=2 * u.mV, spk_fun=spk_fun),
        "FractionalLIF": bh.nn.FractionalLIFLayer(1, V_th=2 * u.mV, spk_fun=spk_fun),
    }


KINDS = tuple(layers(None))


def first_step(layer: Any, size: float = 0.6) -> tuple[float, float, float]:
    """Return the membrane before the reset over its threshold, the spike and its derivative by the drive's share."""
    bh.prepare_net(layer)
    unit = getattr(layer, "drive_unit", u.mV)
    V_th = float(np.max(layer.threshold().to(u.mV).mantissa))
    with brainstate.environ.context(dt=1.0 * u.ms):
        reach = float(layer.subthreshold(jnp.ones((1, 1)) * unit).to(u.mV).mantissa[0, 0])  # mV of one unit of drive
        drive = size * V_th / reach
        grad, spk = brainstate.transform.grad(lambda d: _spike(layer, d * unit), return_value=True)(drive)
    return reach * drive / V_th, float(spk), float(grad) * V_th / reach


def _spike(layer: Any, drive: u.Quantity) -> jax.Array:
    bh.prepare_net(layer)
    return layer(u.math.reshape(drive, (1,)))[0]


def test_the_quick_start_builds_its_two_layers() -> None:
    from brainhw.nn import H1v1Layer, LIFLayer
    from brainhw.surrogate import atan, fast_sigmoid, sigmoid

    hw = H1v1Layer(64, tau=20 * u.ms, spk_fun=fast_sigmoid())
    lif = LIFLayer(64, tau=20 * u.ms, V_th=1.0 * u.mV, reset="subtract", spk_fun=atan(alpha=2.0))
    assert (hw.spk_fun, lif.spk_fun) == (fast_sigmoid(25.0), atan(2.0))
    assert hw.out_size == lif.out_size == (64,)
    assert sigmoid() == sigmoid(25.0)


def test_time_constant_threshold_and_reset_of_the_quick_start_are_those_of_the_page() -> None:
    lif = bh.nn.LIFLayer(1, tau=20 * u.ms, V_th=1.0 * u.mV, reset="subtract", spk_fun=bh.surrogate.atan(alpha=2.0))
    assert lif(jnp.array([1.25]) * u.mV)[0] == 1
    np.testing.assert_allclose(lif.V.value.to(u.mV).mantissa, 0.25, rtol=1e-6)
    lif(jnp.zeros(1) * u.mV)
    np.testing.assert_allclose(lif.V.value.to(u.mV).mantissa, 0.25 * np.exp(-1 / 20), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_neuron_layer_accepts_a_surrogate(kind: str) -> None:
    spike = bh.surrogate.atan(alpha=3.0)
    assert layers(spike)[kind].spk_fun is spike


@each
def test_a_factory_has_the_argument_and_the_default_of_the_page(
    factory: Any, parameter: str, default: float, formula: Any
) -> None:
    (argument,) = inspect.signature(factory).parameters.values()
    assert (argument.name, argument.default) == (parameter, default)
    assert factory() == factory(default) == factory(**{parameter: default})


@each
def test_forward_is_a_hard_threshold(factory: Any, parameter: str, default: float, formula: Any) -> None:
    np.testing.assert_array_equal(factory()(jnp.asarray(XS)), XS >= 0)


@each
@pytest.mark.parametrize("steepness", [None, 0.5, 5.0])
def test_backward_is_the_formula_of_the_page(
    factory: Any, parameter: str, default: float, formula: Any, steepness: float | None
) -> None:
    value = default if steepness is None else steepness
    np.testing.assert_allclose(slope_of(factory(value)), formula(XS, value), rtol=2e-5)


@each
def test_the_derivative_is_smooth_and_not_zero_around_the_threshold(
    factory: Any, parameter: str, default: float, formula: Any
) -> None:
    xs = np.linspace(-1, 1, 2001)
    slopes = slope_of(factory(), xs)
    assert np.all(slopes > 0)
    assert np.max(np.abs(np.diff(slopes))) < 0.06 * slopes.max()


@pytest.mark.parametrize("kind", KINDS)
def test_the_surrogate_changes_gradients_and_never_a_spike(kind: str) -> None:
    spikes, grads = set(), set()
    for factory, _, _, _ in FACTORIES.values():
        _, spk, grad = first_step(layers(factory(3.0))[kind])
        spikes.add(spk)
        grads.add(round(grad, 6))
    assert spikes == {0.0}
    assert len(grads) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_layer_is_the_formula_at_the_distance_to_threshold(kind: str) -> None:
    reached, spk, grad = first_step(layers(bh.surrogate.atan(2.0))[kind])
    assert (reached, spk) == (pytest.approx(0.6), 0.0)
    assert grad == pytest.approx(float(atan_slope(np.array(reached - 1), 2.0)), rel=1e-4)


@each
def test_a_higher_value_concentrates_gradients_near_zero(
    factory: Any, parameter: str, default: float, formula: Any
) -> None:
    xs = np.linspace(-2, 2, 4001)
    shares = []
    for value in (2.0, 8.0, 32.0):
        slopes = slope_of(factory(value), xs)
        shares.append(slopes[np.abs(xs) < 0.1].sum() / slopes.sum())
    assert shares[0] < shares[1] < shares[2]


def test_atan_has_a_heavier_tail_than_the_sigmoid() -> None:
    tails = [slope_of(spike, 2.0) / slope_of(spike, 0.0) for spike in (bh.surrogate.atan(), bh.surrogate.sigmoid(4.0))]
    assert bh.surrogate.atan().surrogate_grad(0.0) == bh.surrogate.sigmoid(4.0).surrogate_grad(0.0) == 1.0
    assert tails[0] > 10 * tails[1] > 0


def test_the_derivative_of_the_sigmoid_stays_finite_far_below_threshold() -> None:
    # The formula as the page prints it is infinity over infinity there in float32.
    assert np.all(np.isfinite(slope_of(bh.surrogate.sigmoid(), [-100.0, -4.0, 100.0])))


def test_the_surrogate_that_was_asked_for_is_used_on_every_device_and_over_whole_sequences() -> None:
    # Kept otherwise: on a GPU the vendor's fast path takes a fixed slope of 25 in place of the one that was asked for.
    x = jax.device_put(jnp.asarray(np.random.default_rng(0).random((6, 3), np.float32)), jax.devices()[0])

    def gradient(spk_fun: Any, layerwise: bool) -> np.ndarray:
        layer = bh.nn.LIFLayer(3, tau=20 * u.ms, spk_fun=spk_fun)

        def total(x: jax.Array) -> jax.Array:
            return bh.rollout(layer, x * u.mV, layerwise=layerwise)[0].sum()

        return np.asarray(brainstate.transform.jit(brainstate.transform.grad(total))(x))

    asked, fixed = (bh.surrogate.atan(7.0), bh.surrogate.fast_sigmoid(25.0))
    by_layer, by_step = gradient(asked, True), gradient(asked, False)
    np.testing.assert_allclose(by_layer, by_step, rtol=1e-5)
    assert np.max(np.abs(by_layer - gradient(fixed, True))) > 0.1


def test_fast_sigmoid_is_the_baseline_of_the_layers() -> None:
    # The page starts with fast_sigmoid(); the layers without a chip take it when no surrogate is given.
    assert bh.nn.LIFLayer(1, tau=20 * u.ms).spk_fun == bh.surrogate.fast_sigmoid()
    assert bh.nn.FractionalLIFLayer(1).spk_fun == bh.surrogate.fast_sigmoid()
    # The vendor's quick starts of H1 nets write slope=5.0, which the chip layers take.
    assert bh.nn.H1v1Layer(1, tau=20 * u.ms).spk_fun == bh.surrogate.fast_sigmoid(slope=5.0)


@each
def test_a_lower_value_passes_more_gradient_far_from_threshold(
    factory: Any, parameter: str, default: float, formula: Any
) -> None:
    low, high = slope_of(factory(default / 5), [-0.8]), slope_of(factory(default), [-0.8])
    assert low[0] > high[0] > 0


def test_surrogates_are_compared_with_everything_else_fixed() -> None:
    """Same seed, same spikes: only gradients differ, and the same surrogate gives the same gradients to the bit."""

    def run(spk_fun: Any) -> tuple[np.ndarray, np.ndarray]:
        brainstate.random.seed(3)
        net = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3), bh.nn.LIFLayer(3, tau=20 * u.ms, spk_fun=spk_fun))
        x = jnp.asarray(np.random.default_rng(1).random((8, 4), np.float32))
        weights = net.states(brainstate.ParamState)

        def total() -> tuple[jax.Array, jax.Array]:
            spikes, _ = bh.rollout(net, x)
            return spikes.sum(), spikes

        grads, spikes = brainstate.transform.grad(total, weights, has_aux=True)()
        return np.asarray(spikes), np.asarray(u.get_mantissa(next(iter(grads.values()))))

    (first, grad), (again, same), (other, differs) = (
        run(s) for s in (bh.surrogate.atan(), bh.surrogate.atan(), bh.surrogate.fast_sigmoid())
    )
    assert first.sum() > 0
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(grad, same)
    np.testing.assert_array_equal(first, other)
    assert np.max(np.abs(grad - differs)) > 1e-3
