"""Seed 002, spikeDE's page on orders per layer: each promise as one test, in brainhw's names.

Names: ``SNNWrapper(my_model, integrator="fdeint", ...)`` is ``bh.set_fractional_orders(net, ...)`` on a net of
``FractionalLIFLayer``, ``net.get_per_layer_alpha()`` is ``bh.get_per_layer_alpha(net)``, ``net(x, t)`` is
``bh.rollout(net, x)`` with ``dt`` in ``brainstate.environ``.
"""

from __future__ import annotations

import itertools
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

N_IN, N_HIDDEN, N_OUT = 5, 4, 3


class Net(brainstate.nn.Module):
    """Two layers of fractional neurons."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        brainstate.random.seed(1)
        big = braintools.init.KaimingNormal(unit=u.mV, scale=30.0)
        self.to_hidden = bh.nn.LIFSynapse(N_IN, N_HIDDEN, weight_init=big)
        self.hidden = bh.nn.FractionalLIFLayer(N_HIDDEN, tau=5.0 * u.ms, **options)
        self.to_output = bh.nn.LIFSynapse(N_HIDDEN, N_OUT, weight_init=big)
        self.output = bh.nn.FractionalLIFLayer(N_OUT, tau=5.0 * u.ms, **options)

    def update(self, x: Any) -> Any:
        return self.output(self.to_output(self.hidden(self.to_hidden(x))))


@pytest.fixture
def my_model() -> Net:
    return Net()


def orders(net: Any) -> list[list[float]]:
    return [[round(float(a), 5) for a in alphas] for alphas in bh.get_per_layer_alpha(net)]


def coefficients(net: Any) -> list[list[float]]:
    return [[round(float(w), 5) for w in factors] for factors in bh.get_per_layer_coefficient(net)]


def learnt(net: Any) -> set[str]:
    names = {".".join(map(str, path)) for path in net.states(brainstate.ParamState)}
    return {name for name in names if "weight" not in name}


def impulse(alpha: Any, steps: int = 60, **options: Any) -> np.ndarray:
    """Return the membrane that one step of drive leaves, without a spike."""
    layer = bh.nn.FractionalLIFLayer(1, alpha=alpha, tau=10.0 * u.ms, V_th=1e6 * u.mV, **options)
    x = jnp.zeros((steps, 1)).at[0].set(1.0) * u.mV
    return np.asarray(bh.rollout(layer, x, record=(".V",))[1][".V"].to(u.mV).mantissa)[:, 0]


def gruenwald_letnikov(terms: dict[float, float], tau: float, x: np.ndarray) -> np.ndarray:
    """Solve ``tau sum_j w_j D^alpha_j V = -V + x`` for steps of 1, each from the voltage before it."""
    c = {alpha: np.ones(len(x) + 1) for alpha in terms}
    for alpha, values in c.items():
        for k in range(1, len(values)):
            values[k] = values[k - 1] * (1 - (1 + alpha) / k)
    V = [0.0]
    for drive in x:
        past = sum(w * sum(c[alpha][k] * V[-k] for k in range(1, len(V) + 1)) for alpha, w in terms.items())
        V.append(((drive - V[-1]) / tau - past) / sum(terms.values()))
    return np.array(V[1:])


def test_an_order_of_one_behaves_as_the_ordinary_equation() -> None:
    expected = 0.1 * 0.9 ** np.arange(60)  # the explicit step of tau dV/dt = -V + x
    np.testing.assert_allclose(impulse(1.0), expected, rtol=1e-3, atol=1e-6)


def test_lower_orders_keep_more_of_the_past() -> None:
    """Thirty time constants after a step of drive, by how much of it is left of what that step moved."""
    left = [float(V[-1]) / float(V.sum()) for V in (impulse(alpha, 300) for alpha in (1.0, 0.9, 0.7, 0.5))]
    assert left[0] < 1e-3 * left[1]
    assert left[1] < left[2] < left[3]


def test_the_past_fades_as_a_power_of_time() -> None:
    """Of the order alpha the response to an impulse fades as ``t ** -(1 + alpha)`` far behind it."""
    alpha, V = 0.5, impulse(0.5, steps=2000, kernel="dense", horizon=2000)
    slope = np.log(V[1999] / V[999]) / np.log(2.0)
    assert slope == pytest.approx(-(1 + alpha), abs=0.1)


def test_the_membrane_follows_the_caputo_equation_of_its_order() -> None:
    x = np.random.default_rng(0).random(50)
    layer = bh.nn.FractionalLIFLayer(1, alpha=0.6, tau=3.0 * u.ms, V_th=1e6 * u.mV, time_scale=1.0 * u.ms)
    _, seen = bh.rollout(layer, jnp.asarray(x, jnp.float32)[:, None] * u.mV, record=(".V",))
    np.testing.assert_allclose(seen[".V"].mantissa[:, 0], gruenwald_letnikov({0.6: 1.0}, 3.0, x), rtol=2e-4, atol=1e-5)


def test_one_order_goes_to_all_layers(my_model: Net) -> None:
    bh.set_fractional_orders(my_model, alpha=0.6, learn_alpha=False)
    assert orders(my_model) == [[0.6], [0.6]]
    assert not learnt(my_model)


@pytest.mark.parametrize("mode", ["auto", "per_layer", "multiterm"])
def test_the_mode_is_ignored_for_one_order(my_model: Net, mode: str) -> None:
    bh.set_fractional_orders(my_model, 0.5, alpha_mode=mode)
    assert orders(my_model) == [[0.5], [0.5]]


def test_each_layer_takes_its_own_order(my_model: Net) -> None:
    bh.set_fractional_orders(my_model, alpha=[0.3, 0.8], alpha_mode="per_layer", learn_alpha=True)
    assert orders(my_model) == [[0.3], [0.8]]
    assert len(learnt(my_model)) == 2


@pytest.mark.parametrize("alpha", [[0.3], [0.3, 0.5, 0.8]], ids=len)
def test_a_list_per_layer_must_be_as_long_as_there_are_layers(my_model: Net, alpha: list[float]) -> None:
    with pytest.raises(ValueError, match=rf"^set_fractional_orders: alpha_mode='per_layer' .* 2 .* got {len(alpha)}"):
        bh.set_fractional_orders(my_model, alpha, alpha_mode="per_layer")
    assert orders(my_model) == [[0.5], [0.5]]


def test_every_layer_takes_all_terms(my_model: Net) -> None:
    bh.set_fractional_orders(
        my_model,
        alpha=[0.3, 0.5, 0.7],
        multi_coefficient=[1.0, 0.5, 0.2],
        alpha_mode="multiterm",
        learn_coefficient=True,
    )
    assert orders(my_model) == [[0.3, 0.5, 0.7]] * 2
    assert coefficients(my_model) == [[1.0, 0.5, 0.2]] * 2
    assert len(learnt(my_model)) == 2


def test_several_terms_are_the_weighted_sum_of_derivatives() -> None:
    """``1.0 D^0.3 V + 0.5 D^0.5 V + 0.2 D^0.7 V``, solved in plain numpy."""
    x = np.random.default_rng(0).random(50)
    layer = bh.nn.FractionalLIFLayer(1, tau=3.0 * u.ms, V_th=1e6 * u.mV, time_scale=1.0 * u.ms)
    bh.set_fractional_orders(layer, [0.3, 0.5, 0.7], multi_coefficient=[1.0, 0.5, 0.2], alpha_mode="multiterm")
    _, seen = bh.rollout(layer, jnp.asarray(x, jnp.float32)[:, None] * u.mV, record=(".V",))
    expected = gruenwald_letnikov({0.3: 1.0, 0.5: 0.5, 0.7: 0.2}, 3.0, x)
    np.testing.assert_allclose(seen[".V"].mantissa[:, 0], expected, rtol=2e-4, atol=1e-5)


def test_each_layer_takes_its_own_terms_and_the_nesting_says_so(my_model: Net) -> None:
    # No mode and no warning: the tests turn warnings into errors.
    bh.set_fractional_orders(
        my_model,
        alpha=[[0.3, 0.5], [0.4, 0.6, 0.8]],
        multi_coefficient=[[1.0, 0.5], [1.0, 0.3, 0.1]],
    )
    assert orders(my_model) == [[0.3, 0.5], [0.4, 0.6, 0.8]]
    assert coefficients(my_model) == [[1.0, 0.5], [1.0, 0.3, 0.1]]


READINGS = {
    "number": (0.5, "auto", [[0.5], [0.5]]),
    "per_layer": ([0.3, 0.7], "per_layer", [[0.3], [0.7]]),
    "multiterm": ([0.3, 0.7], "multiterm", [[0.3, 0.7], [0.3, 0.7]]),
    "nested": ([[0.3], [0.7]], "auto", [[0.3], [0.7]]),
}


@pytest.mark.parametrize(("alpha", "mode", "expected"), READINGS.values(), ids=READINGS)
def test_each_structure_is_read_as_the_table_of_the_page_says(
    my_model: Net, alpha: Any, mode: str, expected: list[list[float]]
) -> None:
    bh.set_fractional_orders(my_model, alpha, alpha_mode=mode)
    assert orders(my_model) == expected


@pytest.mark.parametrize(("alpha", "terms"), [([0.3, 0.7], 1), ([0.3, 0.5, 0.7], 3)], ids=["as many", "more"])
def test_a_flat_list_without_a_mode_warns_of_both_readings(my_model: Net, alpha: list[float], terms: int) -> None:
    with pytest.warns(UserWarning, match="'per_layer'|'multiterm'"):
        bh.set_fractional_orders(my_model, alpha)
    assert [len(row) for row in orders(my_model)] == [terms, terms]


def test_terms_without_coefficients_have_ones(my_model: Net) -> None:
    bh.set_fractional_orders(my_model, [[0.3], [0.4, 0.6]])
    assert coefficients(my_model) == [[1.0], [1.0, 1.0]]


def test_coefficients_that_do_not_fit_their_terms_are_refused_before_a_layer_changes(my_model: Net) -> None:
    with pytest.raises(ValueError, match=r"multi_coefficient\[1\].*\b3\b"):
        bh.set_fractional_orders(my_model, [[0.3, 0.5], [0.4, 0.6, 0.8]], multi_coefficient=[[1.0, 0.5], [1.0, 0.3]])
    assert orders(my_model) == [[0.5], [0.5]]


@pytest.mark.parametrize("alpha", [0.0, 1.2, -0.5, [0.3, 1.5], [[0.3, 0.0], [0.4]]], ids=str)
def test_an_order_out_of_range_is_refused_with_its_number(my_model: Net, alpha: Any) -> None:
    with pytest.raises(ValueError, match=r"^set_fractional_orders: .*alpha.* (0|1\.2|-0\.5|1\.5)\b"):
        bh.set_fractional_orders(my_model, alpha, alpha_mode="per_layer")


FLAGS = list(itertools.product([False, True], repeat=2))


@pytest.mark.parametrize(("learn_alpha", "learn_coefficient"), FLAGS)
def test_the_flags_register_what_is_learnt_with_the_net(
    my_model: Net, learn_alpha: bool, learn_coefficient: bool
) -> None:
    bh.set_fractional_orders(
        my_model,
        [[0.3, 0.5], [0.4, 0.6]],
        learn_alpha=learn_alpha,
        learn_coefficient=learn_coefficient,
    )
    names = learnt(my_model)
    assert len(names) == 2 * (learn_alpha + learn_coefficient)
    for layer in bh.fractional_summary(my_model).layers:
        assert (layer.learns_orders, layer.learns_coefficients) == (learn_alpha, learn_coefficient)


def test_the_training_loop_of_the_page_learns_the_orders_and_leaves_the_coefficients() -> None:
    net = Net()
    bh.set_fractional_orders(
        net,
        alpha=[0.5, 0.5],  # Initial guess
        alpha_mode="per_layer",
        learn_alpha=True,  # Enable gradient updates for alpha
        learn_coefficient=False,
    )
    optimizer = braintools.optim.Adam(lr=0.01)
    optimizer.register_trainable_weights(net.states(brainstate.ParamState))
    rng = np.random.default_rng(0)
    batches = [(jnp.asarray(rng.random((20, 6, N_IN)), jnp.float32), rng.integers(0, N_OUT, 6)) for _ in range(4)]
    criterion = braintools.metric.softmax_cross_entropy_with_integer_labels

    @brainstate.transform.jit
    def step(x: Any, y: Any) -> Any:
        def loss() -> Any:
            return criterion(bh.rollout(net, x)[0].mean(axis=0), y).mean()

        grads, value = brainstate.transform.grad(loss, net.states(brainstate.ParamState), return_value=True)()
        optimizer.update(grads)
        return value

    losses = [float(step(*batch)) for batch in batches]
    assert np.all(np.isfinite(losses))
    learned = bh.get_per_layer_alpha(net)
    print("Learned Alphas:", learned)  # noqa: T201 - as on the page
    for alpha in learned:
        assert 0 < alpha[0] < 1
        assert abs(float(alpha[0]) - 0.5) > 1e-3
    assert coefficients(net) == [[1.0], [1.0]]


def test_gradient_descent_finds_the_order_of_a_teacher() -> None:
    x = jnp.asarray(np.random.default_rng(0).random((40, 1)), jnp.float32) * u.mV
    options = {"tau": 5.0 * u.ms, "V_th": 1e6 * u.mV}

    def membrane(layer: Any) -> jax.Array:
        return bh.rollout(layer, x, record=(".V",))[1][".V"].to(u.mV).mantissa

    wanted = membrane(bh.nn.FractionalLIFLayer(1, alpha=0.8, **options))
    student = bh.nn.FractionalLIFLayer(1, alpha=0.4, learn_alpha=True, **options)
    optimizer = braintools.optim.Adam(lr=0.1)
    optimizer.register_trainable_weights(student.states(brainstate.ParamState))

    @brainstate.transform.jit
    def step() -> None:
        grads = brainstate.transform.grad(
            lambda: jnp.mean((membrane(student) - wanted) ** 2), student.states(brainstate.ParamState)
        )()
        optimizer.update(grads)

    for _ in range(80):
        step()
    assert orders(student)[0][0] == pytest.approx(0.8, abs=0.02)


def test_the_summary_prints_one_line_per_layer(my_model: Net) -> None:
    # print_alpha_info() there.
    bh.set_fractional_orders(my_model, [0.3, 0.8], alpha_mode="per_layer", learn_alpha=True)
    lines = str(bh.fractional_summary(my_model)).splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [["hidden", "4", "gl", "0.3"], ["output", "3", "gl", "0.8"]]


def test_integer_and_fractional_layers_of_one_net_spike_at_their_own_pace(my_model: Net) -> None:
    """The order of one layer changes its spikes and those of no layer before it."""
    x = jnp.asarray(np.random.default_rng(0).random((20, 6, N_IN)), jnp.float32)

    def spikes(alpha: list[float]) -> tuple[np.ndarray, np.ndarray]:
        bh.set_fractional_orders(my_model, alpha, alpha_mode="per_layer")
        out, seen = bh.rollout(my_model, x, record=("hidden.spk",))
        return np.asarray(seen["hidden.spk"]), np.asarray(out)

    (hidden, out), (same, other) = spikes([0.5, 1.0]), spikes([0.5, 0.4])
    assert hidden.sum() > 0
    np.testing.assert_array_equal(hidden, same)
    assert np.any(out != other)
