"""fluct_init as documented: call, printed lines, families, restored states, invalid arguments."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from seed_nets import TinyH1Net, TinyH1v2Net

import brainhw as bh

Sequential = brainstate.nn.Sequential
NUMBER = r"-?[\d.]+"


def synapse(family: str, n_in: int, n: int) -> Any:
    # Use zeros: drawing random numbers of a new shape takes longer than everything else in many tests.
    zeros = np.zeros((n_in, n))
    return getattr(bh.nn, f"{family}Synapse")(n_in, n, weight_init=zeros * u.mV if family == "LIF" else zeros)


class Loader:
    """Tuples of 16 samples in random order, in a new order each time, like those of a torch DataLoader."""

    def __init__(self, x: np.ndarray) -> None:
        self.x, self.rng, self.given = x, np.random.default_rng(1), 0

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = self.rng.permutation(len(self.x))
        for first in range(0, len(order), 16):
            self.given += 1
            yield self.x[order[first : first + 16]], np.zeros(16)


def quiet(net: brainstate.nn.Module, data: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bh.init.fluct_init(net, data, verbose=False, **options)


def spike_counts(net: brainstate.nn.Module, x: np.ndarray) -> np.ndarray:
    spikes, _ = bh.rollout(net, np.swapaxes(x, 0, 1))
    return np.asarray(spikes.sum(axis=(0, 1)))


# The call and the quick start -----------------------------------------------------------------------------------------


def test_signature_and_defaults_are_the_documented_ones() -> None:
    parameters = inspect.signature(bh.init.fluct_init).parameters
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == ["net", "dataloader", "xi_target", "alpha", "n_batches", "verbose"]
    defaults = {name: parameters[name].default for name in positional[2:]}
    assert defaults == {"xi_target": 2.0, "alpha": 1.0, "n_batches": 1, "verbose": True}
    assert all(p.default is not p.empty for p in parameters.values() if p.kind is p.KEYWORD_ONLY)


def test_quick_start_feed_forward(capsys: pytest.CaptureFixture) -> None:
    x = np.random.default_rng(0).random((64, 100, 16)) < 0.3
    net, loader = TinyH1Net(), Loader(x)
    synapse, layer, weights = net.synapse, net.layer, net.synapse.weight.value
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        given_back = bh.init.fluct_init(net, loader, xi_target=1.0, alpha=1.0, n_batches=4, verbose=True)
    assert given_back is None
    assert loader.given == 4
    assert (net.synapse, net.layer) == (synapse, layer)
    assert not np.array_equal(net.synapse.weight.value, weights)
    head, source, line, done = capsys.readouterr().out.splitlines()
    assert head == "[fluct_init] ξ=1.0 α=1.0 dt=1.0ms (stacked, adaptive µ) [H1v1]"
    rate = 1000 * x.mean()
    assert source == f"  Input → ν_mean={rate:.1f}Hz ν_var={rate:.1f}Hz ratio=1.0x"
    assert re.fullmatch(rf"  Layer 1 \| ν_in={rate:.1f}Hz µ_W={NUMBER} σ_FF={NUMBER} µ_U={NUMBER}", line), line
    assert done == "[fluct_init] done."
    assert np.all(spike_counts(net, x) > 0)
    # Sixteen inputs are few for a chip with a weight limit of 0.9, but a raised mean makes them suffice.
    assert [str(w.message) for w in caught] == []
    assert bh.train.out_of_range(net) == 0


def test_quick_start_of_weights_without_a_range(capsys: pytest.CaptureFixture) -> None:
    x = np.random.default_rng(0).random((64, 100, 16)) < 0.3
    net = TinyH1Net()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bh.init.fluct_init(net, Loader(x), xi_target=1.0, n_batches=4, in_range=False)
    assert len(caught) == 2
    assert "are outside [-0.9, 0.9] of H1v1" in str(caught[0].message)
    assert "The charge curve or the weight range prevents larger fluctuations" in str(caught[1].message)
    assert {w.filename for w in caught} == {__file__}
    assert bh.train.out_of_range(net) > 0
    assert capsys.readouterr().out.startswith("[fluct_init]")


def test_quick_start_recurrent(capsys: pytest.CaptureFixture) -> None:
    x = np.random.default_rng(0).random((64, 100, 8)) < 0.3
    net = TinyH1v2Net()
    before = [state.value for state in (net.syn.weight, net.lyr.recurrent_weight)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert bh.init.fluct_init(net, Loader(x), xi_target=1.0, alpha=0.85, n_batches=4, verbose=True) is None
    after = [state.value for state in (net.syn.weight, net.lyr.recurrent_weight)]
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert abs(after[1].mean()) < 0.1 * after[1].std()
    head, _, line, done = capsys.readouterr().out.splitlines()
    assert head == "[fluct_init] ξ=1.0 α=0.85 dt=1.0ms (stacked, adaptive µ) [H1v2]"
    fields = rf"  Layer 1 \| ν_in={NUMBER}Hz µ_W={NUMBER} σ_FF={NUMBER} σ_RC={NUMBER} µ_U={NUMBER}"
    assert re.fullmatch(fields, line), line
    assert done == "[fluct_init] done."
    assert np.all(spike_counts(net, x) > 0)


class FrontendFirst(brainstate.nn.Module):
    def __init__(self, family: str) -> None:
        super().__init__()
        kinds = (getattr(bh.nn, f"{family}{kind}") for kind in ("Synapse", "Layer", "Frontend"))
        synapse, layer, frontend = kinds
        # Alphabetical order would pair these wrongly; registration order is right.
        self.z_frontend = frontend(weight_init=np.full(16, layer.preset.weight_limit))
        self.y_layer = layer(16, tau=10 * u.ms)
        self.b_synapse, self.a_layer = synapse(16, 24), layer(24, tau=20 * u.ms)

    def update(self, x: jax.Array) -> jax.Array:
        return self.a_layer(self.b_synapse(self.y_layer(self.z_frontend(x))))


def test_frontend_is_skipped_and_its_spikes_are_the_first_layers_input(capsys: pytest.CaptureFixture) -> None:
    net = FrontendFirst("H1v1")
    x = (np.random.default_rng(0).random((8, 200, 16)) * 12).astype(np.float32)
    before = net.z_frontend.weight.value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = bh.init.fluct_init(net, [x], xi_target=1.0, return_report=True)
    assert net.z_frontend.weight.value is before
    head, source, line, _ = capsys.readouterr().out.splitlines()
    assert head.endswith("[H1v1]")
    _, records = bh.rollout(net, np.swapaxes(x, 0, 1), record=("y_layer.spk",))
    rate = 1000 * float(records["y_layer.spk"].mean())
    assert source == f"  Frontend → ν_out={rate:.1f}Hz (used as ν_in for layer 1)"
    assert line.startswith(f"  Layer 1 | ν_in={rate:.1f}Hz")
    assert float(report.layers[0].nu_in.to(u.Hz).mantissa) == pytest.approx(rate, rel=1e-4)
    assert report.layers[0].name == "a_layer"


@pytest.fixture(scope="module")
def stacked(fluct_run: Callable, poisson: Callable) -> Any:
    """Two layers, the first recurrent."""
    tau = np.where(np.arange(8) < 4, 20.0, 50.0) * u.ms
    net = Sequential(
        synapse("H1v1", 32, 24),
        bh.nn.H1v1Layer(24, tau=20 * u.ms, topology="RC"),
        synapse("H1v1", 24, 8),
        bh.nn.H1v1Layer(8, tau=tau),
    )
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("brainhw._printing.say", lines.append)
        run = fluct_run(net, [poisson(300, (8, 200, 32))], xi_target=1.0, alpha=0.85, verbose=True)
    return run, lines


def test_inputs_that_spike_in_most_steps_are_remarked_on(
    chip_pair: Callable, poisson: Callable, capsys: pytest.CaptureFixture
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bh.init.fluct_init(chip_pair("H1v2", 16, 4), [poisson(600, (4, 50, 16))])
    assert "ν·dt > 0.5: inputs spike in more than half of all steps" in capsys.readouterr().out.splitlines()[2]


def test_rates_are_handed_from_layer_to_layer_and_printed(stacked: Any) -> None:
    run, lines = stacked
    first, second = run.report.layers
    assert float(first.nu_out.mantissa) == pytest.approx(float(second.nu_in.mantissa), rel=1e-5)
    assert lines[2].startswith("  Layer 1 | ν_in=")
    assert lines[3] == f"  → ν_2 = {second.nu_in.to(u.Hz).mantissa:.1f} Hz"
    assert lines[4].startswith(f"  Layer 2 | ν_in={second.nu_in.to(u.Hz).mantissa:.1f}Hz")
    assert "σ_RC" in lines[2]
    assert "σ_RC" not in lines[4]
    assert lines[5:] == ["[fluct_init] done."]


def test_printed_numbers_are_those_of_the_report(stacked: Any) -> None:
    run, lines = stacked
    for line, layer in ((lines[2], run.report.layers[0]), (lines[4], run.report.layers[1])):
        found = {name: float(value) for name, value in re.findall(rf"(\S+?)=({NUMBER})", line)}
        assert found["µ_W"] == pytest.approx(layer.init.mu_W, abs=6e-5)
        assert found["σ_FF"] == pytest.approx(layer.init.sigma_FF, abs=6e-5)
        assert found["µ_U"] == pytest.approx(float(layer.init.mu_U.to(u.volt).mantissa), abs=6e-4)
        assert found.get("σ_RC") == (
            None if layer.init.sigma_RC is None else pytest.approx(layer.init.sigma_RC, abs=6e-5)
        )


def test_every_neuron_of_a_stack_fires(stacked: Any, poisson: Callable) -> None:
    run, _ = stacked
    assert np.all(spike_counts(run.net, poisson(300, (8, 200, 32))) > 0)
    assert [layer.dead for layer in run.report.layers] == [0, 0]


def test_mean_membrane_is_what_the_formula_says(
    fluct_run: Callable, poisson: Callable, chip_pair: Callable, capsys: pytest.CaptureFixture
) -> None:
    """mu_U = n_F mu_W nu eps_bar, for a mean raised by the search; without verbose nothing is printed."""
    run = fluct_run(chip_pair("H1v2", 20, 10), [poisson(200, (8, 150, 20))], xi_target=2.5, **bh.init.nwave_preset())
    layer = run.layer
    eps_bar = float(np.mean(layer.eps_bar.to(u.volt * u.second).mantissa))
    mu_U = 20 * layer.init.mu_W * float(layer.nu_in.to(u.Hz).mantissa) * eps_bar
    assert layer.init.mu_W > 0
    assert float(layer.init.mu_U.to(u.volt).mantissa) == pytest.approx(mu_U, rel=1e-4)
    assert capsys.readouterr() == ("", "")


# What it reaches ------------------------------------------------------------------------------------------------------

N_IN, N = 120, 40


def lif_pair(layer: Any) -> brainstate.nn.Module:
    return Sequential(synapse("LIF", N_IN, layer.in_size[-1]), layer)


NOISE = 2 * u.mV / u.second**0.5
SERVED: dict[str, tuple[Callable[[], Any], dict]] = {
    "H1v1": (lambda: Sequential(synapse("H1v1", N_IN, N), bh.nn.H1v1Layer(N, tau=20 * u.ms)), {}),
    "H1v2, xi 1": (
        lambda: Sequential(synapse("H1v2", N_IN, N), bh.nn.H1v2Layer(N, tau=20 * u.ms)),
        {"xi_target": 1.0},
    ),
    "H1v2, two taus, recurrent": (
        lambda: Sequential(
            synapse("H1v2", N_IN, N),
            bh.nn.H1v2Layer(N, tau=np.where(np.arange(N) < N // 2, 10.0, 50.0) * u.ms, topology="RC"),
        ),
        {"alpha": 0.9},
    ),
    "LIF, thresholds": (
        lambda: lif_pair(bh.nn.LIFLayer(N, tau=20 * u.ms, V_th=np.linspace(1, 3, N) * u.mV)),
        {"xi_target": 1.0},
    ),
    "ALIF, recurrent, noise, bias": (
        lambda: lif_pair(
            bh.nn.ALIFLayer(N, w_rec=True, noise_std=NOISE, bias=0.01 * u.mV, max_spikes_per_step=1, tau_syn=10 * u.ms)
        ),
        {"alpha": 0.9},
    ),
    "Cuba, two synapses": (lambda: lif_pair(bh.nn.CubaLIFLayer(N, 2, tau_syn=np.array([[5.0, 20.0]]) * u.ms)), {}),
    "fractional": (lambda: lif_pair(bh.nn.FractionalLIFLayer(N, alpha=0.6, tau=10 * u.ms)), {}),
}


@pytest.fixture(scope="module")
def served(fluct_run: Callable, poisson: Callable) -> Callable[[str], Any]:
    """Return a function that initialises a network of a kind; each network is built once."""
    x, runs = poisson(150, (16, 400, N_IN)), {}

    def run(kind: str) -> Any:
        if kind not in runs:
            make, options = SERVED[kind]
            # Use weights without a range: within a range the mean may be raised.
            runs[kind] = fluct_run(make(), [x], families="any", in_range=False, **options)
        return runs[kind]

    return run


kinds = pytest.mark.parametrize("kind", list(SERVED))


@kinds
def test_membranes_of_every_family_fluctuate_as_targeted(served: Callable, kind: str) -> None:
    layer = served(kind).layer
    assert layer.xi_median == pytest.approx(SERVED[kind][1].get("xi_target", 2.0), rel=0.05)
    assert layer.dead <= 2
    assert layer.saturated == 0
    low, high = layer.xi_quartiles
    assert high - low < 0.15 * layer.xi_median


@kinds
def test_only_documented_warnings_are_given(served: Callable, kind: str) -> None:
    known = ("are outside", "never spike on the data")
    assert [text for text in served(kind).warnings if not any(part in text for part in known)] == []


@pytest.mark.parametrize("kind", [kind for kind in SERVED if "alpha" in SERVED[kind][1]])
def test_recurrent_weights_carry_their_share(served: Callable, kind: str) -> None:
    run, share = served(kind), 1 - SERVED[kind][1]["alpha"]
    assert 0.7 * share <= run.layer.share_RC <= 1.8 * share
    assert run.layer.recurrent_spread == pytest.approx(run.layer.init.sigma_RC, rel=0.1)


@pytest.mark.parametrize("kind", ["ALIF, recurrent, noise, bias", "H1v2, two taus, recurrent"])
def test_recurrent_weights_are_row_centred_as_well(served: Callable, kind: str) -> None:
    """The layer's own mean rates, through its recurrent weights, do not shift the mean of any neuron."""
    run = served(kind)
    layer = run.net.layers[1]
    weights = layer.recurrent_weight.value if isinstance(layer, bh.nn.H1Layer) else layer.recurrent_matrix()
    weights = np.asarray(u.get_mantissa(weights), dtype=float)
    rates = np.asarray(run.layer.rates.to(u.Hz).mantissa, dtype=float)
    along = rates / np.linalg.norm(rates) @ weights
    # Without centring this would be as large as a single weight.
    assert np.sqrt(np.mean(along**2)) < 0.35 * np.sqrt(np.mean(weights**2))


@pytest.mark.parametrize("kind", ["H1v1", "H1v2, xi 1", "LIF, thresholds", "Cuba, two synapses", "fractional"])
def test_no_neuron_is_off_its_mean_by_the_luck_of_its_draw(served: Callable, poisson: Callable, kind: str) -> None:
    """Centring removes the mean input from every weight column, or, for a bent charge curve, from the membranes."""
    run = served(kind)
    mean, theta = (np.asarray(q.to(u.mV).mantissa) for q in (run.layer.mean_membrane, run.layer.threshold))
    assert run.layer.init.mu_W == 0
    if kind.startswith("H1v1"):
        assert np.all(np.abs(mean) < 0.05 * theta)
        return
    weights = np.asarray(u.get_mantissa(run.net.layers[0].weight.value), dtype=float)
    rates = poisson(150, (16, 400, N_IN)).mean(axis=(0, 1))
    along = rates / np.linalg.norm(rates) @ weights
    assert np.all(np.abs(along) < 1e-5 * weights.std())


def test_weights_without_a_chip_are_voltages_and_printed_so(served: Callable) -> None:
    run = served("LIF, thresholds")
    assert run.net.layers[0].weight.value.unit == u.mV
    assert re.search(rf"µ_W={NUMBER}mV σ_FF={NUMBER}mV µ_U={NUMBER}mV$", run.layer.line())
    assert run.layer.weight_limit == np.inf


def test_synapses_of_a_neuron_get_weights_alike(served: Callable) -> None:
    weights = np.asarray(served("Cuba, two synapses").net.layers[0].weight.value.mantissa).reshape(N_IN, N, 2)
    assert np.all(weights.std(axis=(0, 1)) > 0)
    assert abs(np.corrcoef(weights[..., 0].ravel(), weights[..., 1].ravel())[0, 1]) < 0.1


def test_bias_shortens_the_distance_that_is_left_to_the_weights(served: Callable) -> None:
    layer = served("ALIF, recurrent, noise, bias").layer
    offset = 0.01 / (1 - np.exp(-1 / 20))
    np.testing.assert_allclose(np.mean(layer.mean_membrane.to(u.mV).mantissa), offset, atol=0.02)


def test_same_key_same_weights_whatever_they_were_before(chip_pair: Callable, poisson: Callable) -> None:
    x, drawn, net = poisson(200, (4, 60, 64)), [], chip_pair("H1v1", 64, 8)
    for key in (3, jax.random.key(3), 4):
        net.layers[0].weight.value = net.layers[0].weight.value * 100
        brainstate.random.seed(len(drawn))  # the result must not depend on the global random source
        quiet(net, [x], key=key)
        drawn.append(np.asarray(net.layers[0].weight.value))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_signed_analog_input_has_no_mean_to_shift(fluct_run: Callable, chip_pair: Callable) -> None:
    """For input symmetric about zero, raising all weights does not raise a membrane, so only the spread is set."""
    x = np.random.default_rng(0).normal(size=(8, 300, 32)).astype(np.float32)
    run = fluct_run(chip_pair("H1v2", 32, 32, tau=50 * u.ms), [x], xi_target=1.0)
    weights = np.asarray(run.net.layers[0].weight.value)
    assert run.layer.init.mu_W == 0
    assert abs(weights.mean()) < 0.1 * weights.std()
    assert run.layer.xi_median == pytest.approx(1.0, rel=0.1)


# What it leaves alone -------------------------------------------------------------------------------------------------


def chain() -> brainstate.nn.Module:
    return Sequential(
        synapse("LIF", 16, 8),
        bh.nn.ALIFLayer(8, w_rec=True, noise_std=NOISE),
        synapse("LIF", 8, 6),
        bh.nn.LIFLayer(6, tau=20 * u.ms),
        bh.nn.LeakyReadout(6, 2, tau=20 * u.ms),
    )


def disturbed_chain() -> tuple[brainstate.nn.Module, dict[Any, Any]]:
    net = chain()
    bh.prepare_net(net, 5)
    net.layers[1].V.value = net.layers[1].V.value + 0.3 * u.mV
    return net, {path: state.value for path, state in net.states().items()}


def changed(net: brainstate.nn.Module, before: dict[Any, Any]) -> set[Any]:
    return {path for path, state in net.states().items() if state.value is not before[path]}


DRAWN = {("layers", 0, "weight"), ("layers", 1, "recurrent_weight"), ("layers", 2, "weight")}


def test_all_but_the_weights_of_the_pairs_is_left_alone(poisson: Callable) -> None:
    net, before = disturbed_chain()
    noise = net.layers[1].noise_std
    quiet(net, [poisson(300, (4, 100, 16))], alpha=0.9, families="any", xi_target=1.0)
    assert changed(net, before) == DRAWN
    assert net.layers[1].noise_std is noise


def test_everything_is_as_before_where_a_later_layer_fails(poisson: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from brainhw.init.pair import PairInitializer

    net, before = disturbed_chain()
    noise = net.layers[1].noise_std
    solve = PairInitializer.solve

    def fails_at_the_second(self: Any) -> Any:
        if self.circuit.synapse is net.layers[2]:
            raise ZeroDivisionError("in layer 2")
        return solve(self)

    monkeypatch.setattr(PairInitializer, "solve", fails_at_the_second)
    with pytest.raises(ZeroDivisionError, match="in layer 2"):
        quiet(net, [poisson(300, (4, 100, 16))], alpha=0.9, families="any", xi_target=1.0)
    assert changed(net, before) == set()
    assert net.layers[1].noise_std is noise


def test_everything_is_as_before_where_a_warning_is_an_error(chip_pair: Callable, poisson: Callable) -> None:
    net = chip_pair("H1v2", 16, 4)
    bh.prepare_net(net, 5)
    before = {path: state.value for path, state in net.states().items()}
    with pytest.raises(UserWarning, match="fluct_init: layer 1: "):
        bh.init.fluct_init(net, [poisson(100, (4, 60, 16))], verbose=False)
    assert changed(net, before) == set()
    assert np.all(np.isfinite(net.layers[0](jnp.ones((5, 16))).mantissa))  # and it is still prepared


def test_frozen_recurrent_weights_are_left_alone(fluct_run: Callable, poisson: Callable) -> None:
    frozen = 0.05 * np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32) * u.mV
    layer = bh.nn.ALIFLayer(8, w_rec=brainstate.nn.Const(frozen))
    run = fluct_run(Sequential(synapse("LIF", 16, 8), layer), [poisson(300, (4, 100, 16))], families="any")
    np.testing.assert_array_equal(layer.recurrent_matrix().mantissa, frozen.mantissa)
    assert run.layer.init.sigma_RC is None
    assert run.told("alpha=") == []


def test_recurrent_weights_behind_a_transform_are_set(fluct_run: Callable, poisson: Callable) -> None:
    bounded = brainstate.nn.Param(np.zeros((8, 8)) * u.mV, t=brainstate.nn.SigmoidT(-9 * u.mV, 9 * u.mV))
    layer = bh.nn.ALIFLayer(8, w_rec=bounded)
    net = Sequential(synapse("LIF", 16, 8), layer)
    run = fluct_run(net, [poisson(300, (4, 100, 16))], families="any", alpha=0.85)
    assert layer.recurrent_weight is bounded
    spread = float(np.std(layer.recurrent_matrix().mantissa))
    assert spread == pytest.approx(run.layer.recurrent_spread, rel=1e-5)
    assert spread == pytest.approx(run.layer.init.sigma_RC, rel=0.2)


@pytest.mark.parametrize(
    "transform",
    [brainstate.nn.SoftplusT(0.0 * u.mV), brainstate.nn.SigmoidT(-0.02 * u.mV, 0.02 * u.mV)],
    ids=["one sign", "too narrow"],
)
def test_recurrent_weights_that_a_transform_cannot_give_are_refused(poisson: Callable, transform: Any) -> None:
    w_rec = brainstate.nn.Param(np.full((8, 8), 0.01) * u.mV, t=transform)
    net = Sequential(synapse("LIF", 16, 8), bh.nn.ALIFLayer(8, w_rec=w_rec))
    before = {path: state.value for path, state in net.states().items()}
    with pytest.raises(ValueError, match=f"fluct_init: w_rec has the transform {type(transform).__name__}, which"):
        quiet(net, [poisson(300, (4, 100, 16))], families="any", alpha=0.85)
    assert changed(net, before) == set()


# What it refuses ------------------------------------------------------------------------------------------------------

ONES = np.ones((2, 20, 64))


@pytest.mark.parametrize(
    ("options", "data", "error", "message"),
    [
        ({"xi_target": 0}, None, ValueError, "xi_target must be greater than zero"),
        ({"xi_target": -1.0}, None, ValueError, "xi_target must be greater than zero"),
        ({"xi_target": float("nan")}, None, ValueError, "xi_target must be finite"),
        ({"xi_target": float("inf")}, None, ValueError, "xi_target must be finite"),
        ({"xi_target": "2"}, None, TypeError, "xi_target must be a number"),
        ({"xi_target": 2 * u.mV}, None, TypeError, "xi_target must be a number without a unit"),
        ({"xi_target": [1.0, 2.0]}, None, ValueError, "xi_target must be a scalar"),
        ({"alpha": 1.5}, None, ValueError, "alpha is a fraction of the variance and must be at most 1; got 1.5"),
        ({"alpha": 0.0}, None, ValueError, "alpha must be greater than zero"),
        ({"alpha": float("nan")}, None, ValueError, "alpha must be finite"),
        ({"n_batches": 0}, None, ValueError, "n_batches must be at least 1"),
        ({"n_batches": 2.0}, None, TypeError, "n_batches must be an integer"),
        ({"center": "yes"}, None, ValueError, "center must be True, False or 'auto'; got 'yes'"),
        ({"center": 1}, None, ValueError, "center must be True, False or 'auto'; got 1"),
        ({"moments": "third"}, None, ValueError, "moments must be one of 'exact', 'second'; got 'third'"),
        ({"in_range": 1}, None, TypeError, "in_range must be True or False; got 1"),
        ({"families": "all"}, None, ValueError, "families must be one of 'H1', 'any'; got 'all'"),
        ({"key": None}, None, TypeError, "key must be an integer or a jax.random.key; got None"),
        ({"key": 0.5}, None, TypeError, "key must be an integer or a jax.random.key; got 0.5"),
        ({}, [], ValueError, "the dataloader yielded no batch"),
        ({}, 3, TypeError, "dataloader must be an iterable"),
        ({}, [np.zeros((4, 64))], ValueError, r"a batch must have shape \[B, T, N\]; got shape \(4, 64\)"),
        ({}, [np.zeros((2, 5, 63))], ValueError, "the last axis of a batch must have length 64"),
        (
            {},
            [np.zeros((2, 5, 64))],
            ValueError,
            "the data contain only zeros. Scale the input up, or check the loader",
        ),
        ({}, [np.full((2, 5, 64), np.nan)], ValueError, "a batch contains 640 NaN or infinite"),
        ({}, [ONES], ValueError, "no membrane potential of layer 1 can fluctuate, because its input is constant"),
    ],
)
def test_bad_input_is_named_and_everything_stays(
    chip_pair: Callable, poisson: Callable, options: dict, data: object, error: type, message: str
) -> None:
    net = chip_pair("H1v1", 64, 4)
    before = {path: state.value for path, state in net.states().items()}
    with pytest.raises(error, match=f"fluct_init: {message}"):
        quiet(net, [poisson(300, (2, 20, 64))] if data is None else data, **options)
    assert changed(net, before) == set()


def test_unsuitable_networks_are_refused() -> None:
    x = [np.ones((2, 20, 16))]
    lif = Sequential(synapse("LIF", 16, 4), bh.nn.LIFLayer(4, tau=20 * u.ms))
    with pytest.raises(ValueError, match="fluct_init: only H1v1 and H1v2 networks are supported; got LIFSynapse"):
        bh.init.fluct_init(lif, x)
    mixed = Sequential(
        synapse("H1v1", 16, 4), bh.nn.H1v1Layer(4, 20 * u.ms), synapse("H1v2", 4, 4), bh.nn.H1v2Layer(4, 20 * u.ms)
    )
    with pytest.raises(ValueError, match="fluct_init: one network runs on one chip, but families are mixed"):
        bh.init.fluct_init(mixed, x)
    only_frontend = Sequential(bh.nn.H1v1Frontend(), bh.nn.H1v1Layer(16, 20 * u.ms))
    with pytest.raises(ValueError, match="fluct_init: the network has a frontend but no dense"):
        bh.init.fluct_init(only_frontend, x)
    with pytest.raises(TypeError, match=r"fluct_init: net must be a brainstate.nn.Module; got 5"):
        bh.init.fluct_init(5, x)


def test_frontend_that_gives_no_spike_is_told() -> None:
    net = FrontendFirst("H1v1")
    with pytest.raises(ValueError, match=r"fluct_init: the frontend does not spike on the data. Call .*frontend_init"):
        quiet(net, [np.full((2, 30, 16), 1e-3)])


def test_layer_that_gives_no_spike_has_no_next_one() -> None:
    """For input symmetric about zero means cannot be raised, and xi = 50 keeps membranes far below threshold."""
    x = np.random.default_rng(0).normal(size=(2, 30, 16)).astype(np.float32)
    net = Sequential(
        synapse("H1v2", 16, 8), bh.nn.H1v2Layer(8, 20 * u.ms), synapse("H1v2", 8, 4), bh.nn.H1v2Layer(4, 20 * u.ms)
    )
    before = {path: state.value for path, state in net.states().items()}
    with pytest.raises(ValueError, match="fluct_init: layer 1 does not spike, so the weights of layer 2"):
        quiet(net, [x], xi_target=50.0)
    assert changed(net, before) == set()


@pytest.mark.parametrize("bias", [0.2, 0.05])  # reaches threshold soon, and only in the steady state
def test_bias_that_fires_neurons_alone_is_refused(poisson: Callable, bias: float) -> None:
    biases = np.array([bias, 0.0, bias, 0.0]) * u.mV
    net = Sequential(synapse("LIF", 16, 4), bh.nn.CubaLIFLayer(4, tau_mem=20 * u.ms, bias=biases))
    with pytest.raises(ValueError, match=r"fluct_init: the bias alone drives 2 neuron\(s\) of layer 1 to"):
        quiet(net, [poisson(300, (2, 20, 16))], families="any")


@pytest.mark.no_dt
def test_time_step_must_be_set(chip_pair: Callable) -> None:
    with pytest.raises(RuntimeError, match="fluct_init: no time step is set"):
        bh.init.fluct_init(chip_pair("H1v1", 64, 4), [ONES])


@pytest.mark.no_dt
def test_other_time_steps_are_printed_and_count(chip_pair: Callable, capsys: pytest.CaptureFixture) -> None:
    x = (np.random.default_rng(0).random((8, 300, 64)) < 0.1).astype(np.float32)
    net = chip_pair("H1v2", 64, 16)
    with brainstate.environ.context(dt=0.5 * u.ms), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = bh.init.fluct_init(net, [x], return_report=True)
    assert " dt=0.5ms " in capsys.readouterr().out
    assert float(report.layers[0].nu_in.to(u.Hz).mantissa) == pytest.approx(2000 * x.mean(), rel=1e-4)
    assert float(report.layers[0].dt.to(u.ms).mantissa) == pytest.approx(0.5)
    assert report.layers[0].xi_median == pytest.approx(2.0, rel=0.1)


def test_frozen_body_stays_and_the_rest_is_initialised(fluct_run: Callable, poisson: Callable) -> None:
    body, head = bh.nn.LIFSynapse(40, 30), bh.nn.LIFSynapse(30, 20)
    body.weight = brainstate.LongTermState(body.weight.value)
    before = body.weight.value
    net = brainstate.nn.Sequential(body, bh.nn.LIFLayer(30, tau=20 * u.ms), head, bh.nn.LIFLayer(20, tau=20 * u.ms))
    run = fluct_run(net, [poisson(200, (8, 100, 40))], families="any")
    assert body.weight.value is before
    assert [layer.init is None for layer in run.report.layers] == [True, False]
    assert run.report.layers[1].xi_median == pytest.approx(2.0, rel=0.05)
