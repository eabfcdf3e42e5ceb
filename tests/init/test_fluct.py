"""fluct_init: what it measures, what it draws, what it refuses, what it leaves alone."""

from __future__ import annotations

import warnings

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.init.kernel import measure_kernel
from brainhw.init.moments import input_moments, membrane_basis
from brainhw.init.pair import FluctSettings, PairInitializer

FAMILIES = {
    "H1v1": (bh.nn.H1v1Synapse, bh.nn.H1v1Layer, bh.nn.H1v1Frontend, bh.chip.H1V1),
    "H1v2": (bh.nn.H1v2Synapse, bh.nn.H1v2Layer, bh.nn.H1v2Frontend, bh.chip.H1V2),
}
family = pytest.mark.parametrize("family", sorted(FAMILIES))


def poisson(rate: float, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < rate * 1e-3).astype(np.float32)


class OnePair(brainstate.nn.Module):
    def __init__(self, family: str, n_in: int = 64, n: int = 32, topology: str = "FF", tau: u.Quantity = 20 * u.ms):
        super().__init__()
        synapse, layer, _, _ = FAMILIES[family]
        self.synapse, self.layer = synapse(n_in, n), layer(n, tau=tau, topology=topology)

    def update(self, x: jax.Array) -> jax.Array:
        return self.layer(self.synapse(x))


class FrontendFirst(brainstate.nn.Module):
    def __init__(self, family: str, dense: bool = True):
        super().__init__()
        synapse, layer, frontend, chip = FAMILIES[family]
        # Alphabetical order would pair these wrongly: only registration order is right.
        self.z_frontend = frontend(weight_init=np.full(16, chip.weight_limit))
        self.y_frontend_layer = layer(16, tau=10 * u.ms)
        if dense:
            self.b_synapse, self.a_layer = synapse(16, 24), layer(24, tau=20 * u.ms)

    def update(self, x: jax.Array) -> jax.Array:
        spikes = self.y_frontend_layer(self.z_frontend(x))
        return self.a_layer(self.b_synapse(spikes))


def quiet_init(net: brainstate.nn.Module, data: list[np.ndarray], **options: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bh.init.fluct_init(net, data, verbose=False, **options)


@family
def test_kernel_equals_the_closed_form(family: str) -> None:
    _, layer, _, chip = FAMILIES[family]
    dt, tau = 1e-3, np.array([0.01, 0.05])
    kernel = measure_kernel(layer(2, tau=tau * 1e3 * u.ms), chip, 1.0 * u.ms)
    first = float((chip.charge.slope_at_zero / chip.C).to(u.mV).mantissa)
    beta = np.exp(-dt / tau)
    np.testing.assert_allclose(kernel.integral, dt * first / (1 - beta), rtol=2e-4)
    np.testing.assert_allclose(kernel.square_integral, dt * first**2 / (1 - beta**2), rtol=2e-4)
    np.testing.assert_allclose(kernel.peak, first, rtol=2e-4)


def test_printed_frontend_example_of_the_vendor() -> None:
    """16 inputs at 145.2 Hz, tau 10 ms, dt 1 ms: eps_bar 1.087e-4 V s, and mu_W = 0.3841 gives mu_U = 0.097 V."""
    kernel = measure_kernel(bh.nn.H1v1Layer(1, tau=10 * u.ms), bh.chip.H1V1, 1.0 * u.ms)
    eps_bar = float(kernel.integral[0]) * 1e-3
    assert eps_bar == pytest.approx(1.087e-4, rel=0.01)
    assert 16 * 0.3841 * 145.2 * eps_bar == pytest.approx(0.097, abs=5e-4)


def test_second_moment_basis_is_campbell_theorem() -> None:
    x = poisson(50, (8, 400, 20))
    kernel = measure_kernel(bh.nn.H1v2Layer(3, tau=20 * u.ms), bh.chip.H1V2, 1.0 * u.ms)
    moments = input_moments(x, 1e-3)
    basis = membrane_basis(x, kernel, moments, exact=False, direction=None)
    np.testing.assert_allclose(basis.of_spread, 20 * moments.nu_var * kernel.square_integral)
    assert moments.nu_mean == pytest.approx(moments.nu_var)  # binary input


def test_exact_basis_knows_that_spikes_are_no_poisson_process() -> None:
    """Bernoulli spikes at rate nu have the variance nu (1 - nu dt), 0.6 of Poisson's at 400 Hz."""
    x = poisson(400, (16, 2000, 40))
    kernel = measure_kernel(bh.nn.H1v2Layer(1, tau=10 * u.ms), bh.chip.H1V2, 1.0 * u.ms)
    moments = input_moments(x, 1e-3)
    exact = membrane_basis(x, kernel, moments, exact=True, direction=None)
    second = membrane_basis(x, kernel, moments, exact=False, direction=None)
    assert exact.of_spread[0] / second.of_spread[0] == pytest.approx(0.6, rel=0.05)


@family
@pytest.mark.parametrize("xi", [1.0, 2.0])
def test_membranes_fluctuate_as_targeted(family: str, xi: float) -> None:
    """Each neuron's sub-threshold membrane has standard deviation V_th / xi about a mean of zero, within 5 %."""
    net = OnePair(family, n_in=128, n=48)
    x = poisson(200, (16, 500, 128))
    solver = PairInitializer(
        net.synapse, net.layer, x, 1.0 * u.ms, FluctSettings(xi, 1.0, "auto", True, False), jax.random.key(0)
    )
    solver.solve(1)
    sd = np.asarray(solver._measure_sd(net.synapse.weight.value, solver.xs))
    assert np.median(100.0 / sd) == pytest.approx(xi, rel=0.05)


@family
@pytest.mark.parametrize("topology", ["FF", "RC"])
def test_every_neuron_fires_and_states_are_as_before(family: str, topology: str) -> None:
    net = OnePair(family, topology=topology)
    bh.prepare_net(net, 5)
    net.layer.V.value = net.layer.V.value + 3 * u.mV
    before = net.layer.V.value
    old = net.synapse.weight.value
    x = poisson(300, (16, 200, 64))
    assert quiet_init(net, [x], alpha=1.0 if topology == "FF" else 0.9) is None
    assert u.math.array_equal(net.layer.V.value, before)
    assert not np.array_equal(net.synapse.weight.value, old)
    spikes, _ = bh.rollout(net, np.swapaxes(x, 0, 1))
    assert np.all(np.asarray(spikes.sum(axis=(0, 1))) > 0)
    if topology == "RC":
        assert float(jnp.std(net.layer.recurrent_weight.value)) > 0


@family
def test_vendor_faithful_mode_floors_the_spread_and_adds_the_margin(family: str) -> None:
    net = OnePair(family, n_in=32, n=40)
    x = poisson(300, (16, 100, 32))
    solver = PairInitializer(
        net.synapse, net.layer, x, 1.0 * u.ms, FluctSettings(1.0, 1.0, False, False, False), jax.random.key(1)
    )
    seen: list[tuple[float, int]] = []
    draw = solver._draw_and_run

    def spy(mu_U: float):
        outcome = draw(mu_U)
        seen.append((mu_U, outcome.dead))
        return outcome

    solver._draw_and_run = spy
    report, _ = solver.solve(1)
    assert report.dead == 0
    assert report.exhausted == 40
    assert report.sigma_FF / report.mu_W == pytest.approx(0.1, rel=1e-6)
    smallest_awake = min(mu for mu, dead in seen[:-1] if dead == 0)
    assert report.mu_U * 1000 / smallest_awake == pytest.approx(1.1, rel=1e-3)


def test_one_input_warns_and_still_breaks_the_symmetry() -> None:
    net = OnePair("H1v1", n_in=1, n=16, tau=100 * u.ms)
    with pytest.warns(UserWarning, match="mean-driven"):
        bh.init.fluct_init(net, [poisson(500, (8, 400, 1))], verbose=False)
    weights = np.asarray(net.synapse.weight.value)
    assert len(np.unique(weights)) == weights.size


def test_in_range_keeps_every_weight_in_range_and_the_neurons_awake() -> None:
    x = poisson(100, (16, 200, 64))
    wide, kept = OnePair("H1v2"), OnePair("H1v2")
    with pytest.warns(UserWarning, match=r"weight\(s\) lie outside \[-1.66, 1.66\] of H1v2.*in_range=True"):
        bh.init.fluct_init(wide, [x], verbose=False)
    assert bh.train.out_of_range(wide) > 0
    quiet_init(kept, [x], in_range=True)
    assert bh.train.out_of_range(kept) == 0
    spikes, _ = bh.rollout(kept, np.swapaxes(x, 0, 1))
    assert np.mean(np.asarray(spikes.sum(axis=(0, 1))) == 0) < 0.15


def test_same_key_same_weights() -> None:
    x = poisson(200, (8, 100, 64))
    nets = [OnePair("H1v1") for _ in range(3)]
    for net, key in zip(nets, (3, 3, 4), strict=True):
        quiet_init(net, [x], key=key)
    same, other = (np.asarray(nets[i].synapse.weight.value) for i in (1, 2))
    np.testing.assert_array_equal(nets[0].synapse.weight.value, same)
    assert not np.array_equal(same, other)


@family
def test_frontend_is_found_in_registration_order_and_left_alone(family: str, capsys: pytest.CaptureFixture) -> None:
    net = FrontendFirst(family)
    x = (np.random.default_rng(0).random((8, 300, 16)) * 30).astype(np.float32)
    before = net.z_frontend.weight.value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bh.init.fluct_init(net, [x], xi_target=1.0)
    np.testing.assert_array_equal(net.z_frontend.weight.value, before)
    printed = capsys.readouterr().out
    assert "Frontend → ν_out=" in printed
    assert "Layer 1 | ν_in=" in printed
    assert f"[{family}]" in printed


def test_verbose_prints_the_documented_fields(capsys: pytest.CaptureFixture) -> None:
    first, second = bh.nn.H1v1Synapse(32, 24), bh.nn.H1v1Synapse(24, 8)
    net = brainstate.nn.Sequential(
        first, bh.nn.H1v1Layer(24, tau=20 * u.ms, topology="RC"), second, bh.nn.H1v1Layer(8, tau=50 * u.ms)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bh.init.fluct_init(net, [poisson(300, (8, 200, 32))], xi_target=1.0, alpha=0.85)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[fluct_init] ξ=1.0 α=0.85 dt=1.0ms (stacked, adaptive µ) [H1v1]"
    assert lines[1].startswith("  Input → ν_mean=")
    for field in ("Layer 1 | ν_in=", "µ_W=", "σ_FF=", "σ_RC=", "µ_U="):
        assert field in lines[2]
    assert lines[3].startswith("  → ν_2 = ")
    assert "σ_RC" not in lines[4]
    assert lines[-1] == "[fluct_init] done."


def test_explicit_pairs_come_first() -> None:
    class Crossed(brainstate.nn.Module):
        graph_invisible_attrs = ("layer_pairs",)

        def __init__(self) -> None:
            super().__init__()
            self.layer_a, self.layer_b = bh.nn.H1v1Layer(12, 20 * u.ms), bh.nn.H1v1Layer(6, 20 * u.ms)
            self.into_a, self.into_b = bh.nn.H1v1Synapse(32, 12), bh.nn.H1v1Synapse(12, 6)
            self.layer_pairs = [(self.into_a, self.layer_a), (self.into_b, self.layer_b)]

        def update(self, x: jax.Array) -> jax.Array:
            return self.layer_b(self.into_b(self.layer_a(self.into_a(x))))

    net = Crossed()
    quiet_init(net, [poisson(300, (16, 200, 32))], xi_target=1.0)
    assert ("into_a", "weight") in net.states(brainstate.ParamState)
    spikes, _ = bh.rollout(net, np.swapaxes(poisson(300, (16, 200, 32)), 0, 1))
    assert np.all(np.asarray(spikes.sum(axis=(0, 1))) > 0)


def test_tuples_loaders_and_several_batches() -> None:
    x = poisson(300, (4, 100, 64))
    net, again = OnePair("H1v1"), OnePair("H1v1")
    quiet_init(net, ((jnp.asarray(x[i : i + 2]), np.zeros(2)) for i in (0, 2)), n_batches=2)
    quiet_init(again, [x])
    np.testing.assert_allclose(net.synapse.weight.value, again.synapse.weight.value, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "data", "error", "message"),
    [
        ({"xi_target": 0}, None, ValueError, "xi_target must be greater than zero"),
        ({"xi_target": float("nan")}, None, ValueError, "xi_target must be finite"),
        ({"alpha": 1.5}, None, ValueError, "alpha is a share of the variance, at most 1; got 1.5"),
        ({"n_batches": 0}, None, ValueError, "n_batches must be at least 1"),
        ({"center": "yes"}, None, ValueError, "center must be True, False or 'auto'"),
        ({"moments": "third"}, None, ValueError, "moments must be one of 'exact', 'second'"),
        ({}, [], ValueError, "the dataloader gave no batch"),
        ({}, 3, TypeError, "dataloader must be an iterable"),
        ({}, [np.zeros((4, 64))], ValueError, r"a batch must have shape \[B, T, N\]; got shape \(4, 64\)"),
        ({}, [np.zeros((2, 5, 63))], ValueError, "the last axis of a batch must have length 64"),
        ({}, [np.zeros((2, 5, 64))], ValueError, "the data hold only zeros"),
        ({}, [np.full((2, 5, 64), np.nan)], ValueError, "a batch holds 640 NaN or infinite"),
    ],
)
def test_bad_input_is_named_and_weights_stay(options: dict, data: object, error: type, message: str) -> None:
    net = OnePair("H1v1")
    before = net.synapse.weight.value
    with pytest.raises(error, match=f"fluct_init: .*{message}"):
        bh.init.fluct_init(net, [poisson(300, (2, 20, 64))] if data is None else data, verbose=False, **options)
    assert net.synapse.weight.value is before


def test_unsuitable_networks_are_refused() -> None:
    x = [poisson(300, (2, 20, 64))]
    lif = brainstate.nn.Sequential(bh.nn.LIFSynapse(64, 4), bh.nn.LIFLayer(4, tau=20 * u.ms))
    with pytest.raises(ValueError, match="only H1v1 and H1v2 networks are supported; got LIFSynapse"):
        bh.init.fluct_init(lif, x)
    mixed = brainstate.nn.Sequential(
        bh.nn.H1v1Synapse(64, 4), bh.nn.H1v1Layer(4, 20 * u.ms), bh.nn.H1v2Synapse(4, 4), bh.nn.H1v2Layer(4, 20 * u.ms)
    )
    with pytest.raises(ValueError, match="fluct_init: one network runs on one chip, but families are mixed"):
        bh.init.fluct_init(mixed, x)
    with pytest.raises(ValueError, match="a frontend but no dense"):
        bh.init.fluct_init(FrontendFirst("H1v1", dense=False), [np.ones((2, 20, 16))])
    with pytest.raises(ValueError, match="no dense"):
        bh.init.fluct_init(brainstate.nn.Sequential(bh.nn.H1v1Layer(4, 20 * u.ms)), x)
    unequal = brainstate.nn.Sequential(bh.nn.H1v1Synapse(64, 4), bh.nn.H1v1Layer(5, 20 * u.ms))
    with pytest.raises(ValueError, match="4 outputs is paired with a layer of 5 neurons"):
        bh.init.fluct_init(unequal, x)


def test_pairs_must_be_the_networks_own_and_all_of_it() -> None:
    x = [poisson(300, (4, 100, 64))]
    net = OnePair("H1v1")
    net.layer_pairs = [(bh.nn.H1v1Synapse(64, 4), bh.nn.H1v1Layer(4, 20 * u.ms))]
    with pytest.raises(ValueError, match="layer_pairs names a module that is not in the network"):
        bh.init.fluct_init(net, x, verbose=False)
    net.layer_pairs = 5
    with pytest.raises(TypeError, match=r"layer_pairs must be a list of \(synapse, layer\); got 5"):
        bh.init.fluct_init(net, x, verbose=False)
    net = OnePair("H1v1")
    net.second, net.third = bh.nn.H1v1Synapse(32, 8), bh.nn.H1v1Layer(8, 20 * u.ms)
    net.layer_pairs = [(net.synapse, net.layer)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bh.init.fluct_init(net, x, verbose=False)
    assert any("1 synapse(s) stand in no pair" in str(w.message) for w in caught)


def test_settings_that_deserve_a_warning() -> None:
    x = [poisson(300, (8, 100, 64))]
    for net, options, message in (
        (OnePair("H1v1"), {"xi_target": 0.5}, "xi_target=0.5 is below 1"),
        (OnePair("H1v1", topology="RC"), {}, "alpha=1 leaves nothing"),
        (OnePair("H1v1"), {"alpha": 0.5}, "no layer is recurrent"),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            bh.init.fluct_init(net, x, verbose=False, **options)
        assert sum(message in str(w.message) for w in caught) == 1


def test_signed_analog_input_has_no_mean_to_shift() -> None:
    """Input symmetric about zero: raising every weight would not raise a membrane, so only the spread is set."""
    net = OnePair("H1v2", n_in=32, tau=50 * u.ms)
    x = np.random.default_rng(0).normal(size=(8, 300, 32)).astype(np.float32)
    quiet_init(net, [x], xi_target=1.0)
    weights = np.asarray(net.synapse.weight.value)
    assert abs(weights.mean()) < 0.1 * weights.std()
