"""Sign annealing: its schedule, what a net applies meanwhile, and how it ends."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.chip import H1V1
from brainhw.kernel import WeightGrid
from brainhw.kernel.signs import fold
from brainhw.train import SignAnnealing

N_IN, N, T, B = 8, 6, 12, 4
inf = float("inf")


class Net(brainstate.nn.Module):
    """Synapse and recurrent layer, weights in range and of either sign."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.syn = bh.nn.H1v1Synapse(N_IN, N, weight_init=rng.uniform(-0.6, 0.85, (N_IN, N)), **options)
        recurrent = rng.uniform(-0.8, 0.8, (N, N))
        self.hidden = bh.nn.H1v1Layer(N, tau=10 * u.ms, topology="RC", recurrent_init=recurrent, **options)

    def update(self, x: jax.Array) -> jax.Array:
        return self.hidden(self.syn(x))


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def xs() -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).random((T, B, N_IN)) * 12, jnp.float32)


def masters(net: Net) -> list[np.ndarray]:
    return [np.array(net.syn.weight.value), np.array(net.hidden.recurrent_weight.value)]


def charges(net: Net) -> list[np.ndarray]:
    bh.prepare_net(net)
    return [np.array(module.effective.charge.value.mantissa) for module in (net.syn, net.hidden)]


def alpha_of(module: Any) -> float:
    return float(module.effective.sign_alpha.value)


def n_mixed(weights: list[np.ndarray]) -> int:
    """Count the blocks of five rows that hold both signs."""
    columns = [column[start : start + 5] for w in weights for column in w.T for start in range(0, len(column), 5)]
    return sum(1 for run in columns if run.min() < 0 < run.max())


# ---------------------------------------------------------------- schedule


def test_hardness_grows_by_equal_ratios_and_is_infinite_after_the_last_epoch(net: Net) -> None:
    annealing = SignAnnealing(net, 5, alpha_start=0.25, alpha_end=4.0)
    seen = [annealing.alpha]
    for epoch in (0, 1, 2, 3, 4, 5, 9):
        annealing.step(epoch)
        seen.append(annealing.alpha)
        np.testing.assert_allclose(alpha_of(net.syn), annealing.alpha, rtol=1e-6)
        np.testing.assert_allclose(alpha_of(net.hidden), annealing.alpha, rtol=1e-6)
    assert seen == pytest.approx([0.25, 0.25, 0.5, 1.0, 2.0, 4.0, inf, inf])
    annealing.step(1)  # a resumed training starts where it stopped
    assert annealing.alpha == pytest.approx(0.5)


def test_the_documented_defaults_and_a_single_epoch(net: Net) -> None:
    annealing = SignAnnealing(net, 1)
    assert annealing.alpha == 0.5
    annealing.step(1)
    assert annealing.alpha == inf
    annealing.finish()
    annealing = SignAnnealing(net, 2)
    annealing.step(1)
    assert annealing.alpha == pytest.approx(20.0)


# ---------------------------------------------------------------- while it is attached


@pytest.mark.parametrize("bits", [None, 4])
def test_the_chip_gets_soft_signs_first_rounded_then_bent(bits: int | None) -> None:
    net = Net(weight_bits=bits)
    before = masters(net)
    annealing = SignAnnealing(net, 3)
    for epoch in (0, 2, 3):
        annealing.step(epoch)
        for charge, master in zip(charges(net), before, strict=True):
            applied = fold(jnp.asarray(master), annealing.alpha, block=5, axis="pre")
            if bits is not None:
                applied = WeightGrid(0.9, bits).quantize(applied)
            np.testing.assert_allclose(charge, H1V1.charge(applied).mantissa, atol=1e-6)
    for now, master in zip(masters(net), before, strict=True):
        np.testing.assert_array_equal(now, master)


def test_a_compiled_function_sees_the_hardness_of_the_epoch_without_being_compiled_again(net: Net) -> None:
    annealing = SignAnnealing(net, 4)
    traced = []

    @brainstate.transform.jit
    def prepared() -> jax.Array:
        traced.append(1)
        bh.prepare_net(net)
        return net.syn.effective.charge.value.mantissa

    for epoch in (0, 1, 3, 4, 1):
        annealing.step(epoch)
        applied = fold(net.syn.weight.value, annealing.alpha, block=5, axis="pre")
        np.testing.assert_allclose(prepared(), H1V1.charge(applied).mantissa, atol=1e-6)
    assert len(traced) == 1


def test_each_step_and_the_end_make_the_net_stale(net: Net, xs: jax.Array) -> None:
    bh.prepare_net(net, B)
    annealing = SignAnnealing(net, 4)
    for act in (lambda: None, lambda: annealing.step(1), annealing.finish):
        act()
        with pytest.raises(RuntimeError, match=r"H1v1Synapse.update: .* call brainhw.prepare_net"):
            net(xs[0])
        with pytest.raises(RuntimeError, match=r"H1v1Layer.update: .* call brainhw.prepare_net"):
            net.hidden(jnp.ones((B, N)) * u.fcoulomb)
        bh.prepare_net(net, B)
        net(xs[0])


def test_constrain_writes_hard_signs_and_no_soft_ones(net: Net) -> None:
    annealing = SignAnnealing(net, 2)
    constrain = brainstate.transform.jit(annealing.constrain)
    before = masters(net)
    for epoch in (0, 1):
        annealing.step(epoch)
        constrain()
        for now, master in zip(masters(net), before, strict=True):
            np.testing.assert_array_equal(now, master)
    annealing.step(2)
    hard = charges(net)
    constrain()
    constrained = masters(net)
    assert n_mixed(before) > 5
    assert n_mixed(constrained) == 0
    for now, then in zip(charges(net), hard, strict=True):
        np.testing.assert_array_equal(now, then)
    for now, master in zip(constrained, before, strict=True):
        np.testing.assert_array_equal(now, fold(jnp.asarray(master), jnp.inf, block=5, axis="pre"))


def test_frontends_are_left_alone() -> None:
    frontend = bh.nn.H1v1Frontend(weight_init=np.linspace(-0.8, 0.8, 16))
    net = brainstate.nn.Sequential(frontend, bh.nn.H1v1Layer(16, tau=10 * u.ms, topology="RC"))
    annealing = SignAnnealing(net, 1)
    annealing.step(1)
    bh.prepare_net(net)
    np.testing.assert_array_equal(frontend.effective.charge.value.mantissa, H1V1.charge(frontend.weight.value).mantissa)
    before = np.array(frontend.weight.value)
    annealing.constrain()
    annealing.finish()
    np.testing.assert_array_equal(frontend.weight.value, before)


def test_blocks_run_along_the_axis_of_the_chip() -> None:
    chip, weights = H1V1.replace(sign_axis="post"), np.array([[0.5, -0.2], [-0.4, 0.1]])
    synapse = bh.nn.H1v1Synapse(2, 2, chip=chip, weight_init=weights)
    annealing = SignAnnealing(synapse, 1)
    annealing.step(1)
    annealing.constrain()
    np.testing.assert_allclose(synapse.weight.value, [[0.5, 0.2], [-0.4, -0.1]])


def test_a_copy_is_annealed_no_further(net: Net) -> None:
    annealing = SignAnnealing(net, 1)
    twin = copy.deepcopy(net)
    soft = charges(twin)
    annealing.step(1)
    for now, then in zip(charges(twin), soft, strict=True):
        np.testing.assert_array_equal(now, then)
    assert any(not np.array_equal(a, b) for a, b in zip(charges(net), soft, strict=True))


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize("bits", [None, 4])
def test_a_finished_net_applies_what_it_applied_under_hard_signs(bits: int | None, xs: jax.Array) -> None:
    net = Net(weight_bits=bits)
    annealing = SignAnnealing(net, 3)
    annealing.step(3)
    hard, spikes = charges(net), bh.rollout(net, xs)[0]
    annealing.finish()
    for now, then in zip(charges(net), hard, strict=True):
        np.testing.assert_array_equal(now, then)
    np.testing.assert_array_equal(bh.rollout(net, xs)[0], spikes)
    assert spikes.sum() > 0
    assert n_mixed(masters(net)) == 0
    assert float(bh.train.topology_loss(net)) == 0.0


def test_a_finished_net_holds_nothing_of_the_annealing_and_may_be_annealed_again(net: Net) -> None:
    paths = set(net.states())
    annealing = SignAnnealing(net, 2)
    assert {path[-1] for path in set(net.states()) - paths} == {"sign_alpha"}
    annealing.finish()
    assert set(net.states()) == paths
    for method in (annealing.finish, annealing.constrain, lambda: annealing.step(1)):
        with pytest.raises(RuntimeError, match=r"SignAnnealing\.\w+: the annealing is finished. Create a new one"):
            method()
    SignAnnealing(net, 2).finish()
    assert set(net.states()) == paths


def test_training_under_annealing_ends_with_signs_that_agree_and_weights_in_range(net: Net, xs: jax.Array) -> None:
    epochs, wanted = 4, jnp.arange(N) % 3 * 2.0
    annealing = SignAnnealing(net, epochs)
    weights = net.states(brainstate.ParamState)
    optimizer = braintools.optim.Adam(lr=0.05)
    optimizer.register_trainable_weights(weights)

    @brainstate.transform.jit
    def train_step() -> jax.Array:
        loss = lambda: jnp.mean((bh.rollout(net, xs)[0].sum(axis=0) - wanted) ** 2)  # noqa: E731
        grads, value = brainstate.transform.grad(loss, weights, return_value=True)()
        optimizer.update(grads)
        bh.train.clip_weights(net)
        annealing.constrain()
        return value

    start, losses, mixed = masters(net), [], []
    for epoch in range(epochs + 3):
        annealing.step(epoch)
        for _ in range(5):
            losses.append(float(train_step()))
            assert bh.train.out_of_range(net) == 0
        mixed.append(n_mixed(masters(net)))
    assert mixed[0] > 5
    assert mixed[epochs:] == [0, 0, 0]
    assert losses[-1] < losses[0]
    assert np.mean(np.abs(masters(net)[0] - start[0])) > 0.05
    trained = masters(net)
    annealing.finish()
    for now, then in zip(masters(net), trained, strict=True):
        np.testing.assert_array_equal(now, then)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"total_epochs": 0}, ValueError, "total_epochs must be at least 1; got 0"),
        ({"total_epochs": 2.5}, TypeError, "total_epochs must be an integer; got 2.5"),
        ({"total_epochs": True}, ValueError, "total_epochs must be at least 1; got True"),
        ({"total_epochs": 3, "alpha_start": 0}, ValueError, "alpha_start must be greater than zero"),
        ({"total_epochs": 3, "alpha_start": "soft"}, TypeError, "alpha_start must be a number; got 'soft'"),
        ({"total_epochs": 3, "alpha_end": inf}, ValueError, "alpha_end must be finite"),
        ({"total_epochs": 3, "alpha_end": float("nan")}, ValueError, "alpha_end must be finite"),
        ({"total_epochs": 3, "alpha_start": 5, "alpha_end": 2}, ValueError, "alpha_end must be at least alpha_start"),
    ],
    ids=str,
)
def test_a_schedule_that_cannot_be_is_refused_and_nothing_attached(
    net: Net, arguments: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^SignAnnealing: {message}"):
        SignAnnealing(net, **arguments)
    SignAnnealing(net, 3)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: 3, TypeError, "net must be a brainstate.nn.Module; got 3"),
        (lambda: bh.nn.LIFSynapse(2, 2), ValueError, "the network has no weight on a chip"),
        (bh.nn.H1v2Frontend, ValueError, "the network has no dense weight on a chip, only one-to-one frontends"),
    ],
)
def test_a_net_without_blocks_is_refused(build: Callable, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^SignAnnealing: {message}"):
        SignAnnealing(build(), 3)


def test_a_new_annealing_takes_over_and_the_old_one_says_so(net: Net) -> None:
    first = SignAnnealing(net, 3, alpha_start=2.0)
    twin = copy.deepcopy(net)
    second = SignAnnealing(net, 3, alpha_start=4.0)
    assert alpha_of(net.syn) == 4.0
    for method in (first.finish, first.constrain, lambda: first.step(1)):
        with pytest.raises(RuntimeError, match=r"SignAnnealing\.\w+: a new SignAnnealing has replaced"):
            method()
    second.step(1)
    SignAnnealing(twin, 1).finish()
    assert n_mixed(masters(twin)) == 0
    assert twin.syn.effective.sign_alpha is None


def test_functions_compiled_under_annealing_go_on_without_it_after_the_end(net: Net, xs: jax.Array) -> None:
    annealing = SignAnnealing(net, 1)
    run = brainstate.transform.jit(lambda: bh.rollout(net, xs)[0])
    run()
    annealing.step(1)
    annealing.finish()
    rng = np.random.default_rng(3)
    net.syn.weight.value = jnp.asarray(rng.uniform(-0.6, 0.85, (N_IN, N)), jnp.float32)
    np.testing.assert_array_equal(run(), bh.rollout(net, xs)[0])
    assert run().sum() > 0


@pytest.mark.parametrize(
    ("epoch", "error"), [(-1, ValueError), (True, ValueError), (1.5, TypeError), (None, TypeError)]
)
def test_an_epoch_is_a_whole_number(net: Net, epoch: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"^SignAnnealing.step: epoch must be .*; got {epoch}"):
        SignAnnealing(net, 3).step(epoch)
