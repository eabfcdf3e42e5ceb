"""What must hold for adaptive and current-based neurons whatever the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainhw as bh
from brainhw.surrogate import PeriodicExponential, StepPWL

N, S, B, T = 4, 2, 3, 30
modest = settings(max_examples=6, deadline=None, derandomize=True)
BOTH = pytest.mark.parametrize("kind", [bh.nn.ALIFLayer, bh.nn.CubaLIFLayer])


@pytest.fixture
def double() -> Iterator[None]:
    with brainstate.environ.context(precision=64):
        yield


def drive(seed: int = 0, *, n: int = N * S, b: int = B, t: int = T, scale: float = 0.5) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(0.05, scale, (t, b, n)))


def weights(seed: int = 1, n: int = N, s: int = S) -> u.Quantity:
    return np.random.default_rng(seed).normal(-0.05, 0.1, (n, n * s)) * u.mV


def alif(**arguments: Any) -> bh.nn.ALIFLayer:
    given = {
        "tau_mem": [10.0, 20.0, 30.0, 15.0] * u.ms,
        "tau_syn": np.array([[3.0, 8.0], [4.0, 9.0], [5.0, 20.0], [6.0, 7.0]]) * u.ms,
        "tau_ahp": [30.0, 50.0, 80.0, 100.0] * u.ms,
        "w_ahp": [-0.2, -0.4, -0.6, -0.1] * u.mV,
        "w_rec": weights(),
        "V_th": [1.0, 0.8, 1.2, 1.1] * u.mV,
    }
    return bh.nn.ALIFLayer(N, S, **{**given, **arguments})


def record(layer: Any, x: jax.Array, *names: str, prepare: bool = True) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    spikes, seen = bh.rollout(layer, x * u.mV, record=[f".{name}" for name in names], prepare=prepare)
    return np.asarray(spikes), {name[1:]: np.asarray(u.get_mantissa(value)) for name, value in seen.items()}


def by_hand(layer: bh.nn.ALIFLayer, x: np.ndarray) -> dict[str, np.ndarray]:
    """Step in plain numpy, spelled after the equations, one sample and neuron at a time."""
    mem, syn, ahp = (
        np.exp(-1.0 / np.asarray(t.mantissa, float)) for t in (layer.tau_mem, layer.tau_syn, layer.tau_ahp)
    )
    w, w_ahp, V_th = (np.asarray(q.mantissa, float) for q in (layer.recurrent_matrix(), layer.w_ahp, layer.V_th))
    seen: dict[str, np.ndarray] = {name: np.zeros((len(x), B, N)) for name in ("V", "I_ahp", "spk")}
    for b in range(B):
        V, a, spk, current = np.zeros(N), np.zeros(N), np.zeros(N), np.zeros((N, S))
        for t in range(len(x)):
            before = spk.copy()
            for i in range(N):
                for k in range(S):
                    arriving = x[t, b, i * S + k] + sum(before[j] * w[j, i * S + k] for j in range(N))
                    current[i, k] = syn[i, k] * (current[i, k] + arriving)
                a[i] = ahp[i] * (a[i] + w_ahp[i] * before[i])
                p = mem[i] * V[i] + current[i].sum() + a[i]
                spk[i] = np.floor(p / V_th[i]) if p >= V_th[i] else 0
                V[i] = p - spk[i] * V_th[i]
            for name, value in (("V", V), ("I_ahp", a), ("spk", spk)):
                seen[name][t, b] = value
    return seen


def test_against_plain_numpy(double: None) -> None:
    layer, x = alif(), drive()
    spikes, seen = record(layer, x, "V", "I_ahp", "spk")
    expected = by_hand(layer, np.asarray(x))
    assert spikes.max() > 1
    np.testing.assert_array_equal(spikes, expected["spk"])
    np.testing.assert_array_equal(spikes, seen["spk"])
    for name in ("V", "I_ahp"):
        np.testing.assert_allclose(seen[name], expected[name], rtol=0, atol=1e-11)


def test_one_neuron_by_hand() -> None:
    x = jnp.zeros((6, 1)).at[0].set(1.2)
    spikes, seen = record(bh.nn.ALIFLayer(1), x, "I_ahp", "V_pre", "V")
    assert spikes[:, 0].tolist() == [1, 0, 0, 0, 0, 1]
    np.testing.assert_allclose(seen["I_ahp"][:, 0], [0, -0.8561, -0.8144, -0.7746, -0.7369, -0.7009], atol=5e-5)
    np.testing.assert_allclose(seen["V_pre"] - spikes, seen["V"], atol=1e-6)
    assert seen["V_pre"][0, 0] == pytest.approx(1.2 * np.exp(-1 / 20), rel=1e-6)


def test_a_bias_adds_up_without_any_input() -> None:
    layer = bh.nn.ALIFLayer(2, bias=0.1 * u.mV)
    _, seen = record(layer, jnp.zeros((30, 1, 2)), "V", "I_syn", "I_ahp")
    np.testing.assert_allclose(seen["V"][:2, 0, 0], [0.1, 0.1 * np.exp(-1 / 20) + 0.1], rtol=1e-6)
    assert (seen["I_syn"] == 0).all()
    assert (seen["I_ahp"] != 0).any()


@modest
@given(seed=st.integers(0, 99), w=st.floats(-2, -0.01))
def test_a_negative_w_ahp_only_pulls_down(seed: int, w: float) -> None:
    x = drive(seed, n=3, scale=0.6)
    adaptive, plain = bh.nn.ALIFLayer(3, w_ahp=w * u.mV), bh.nn.CubaLIFLayer(3)
    spikes, seen = record(adaptive, x, "I_ahp")
    free, _ = record(plain, x)
    assert (seen["I_ahp"] <= 0).all()
    # Where nothing has fired yet they are equal; from the first spike on the adaptive neuron cannot run ahead.
    assert (np.cumsum(spikes, axis=0) <= np.cumsum(free, axis=0)).all()


@BOTH
def test_w_ahp_of_zero_is_no_adaptation(kind: type) -> None:
    x = drive()
    arguments = {"w_rec": weights(), "tau_syn": [[5.0, 9.0]] * u.ms}
    spikes, seen = record(bh.nn.ALIFLayer(N, S, w_ahp=0 * u.mV, **arguments), x, "V")
    other, seen_other = record(bh.nn.CubaLIFLayer(N, S, **arguments), x, "V")
    np.testing.assert_array_equal(spikes, other)
    np.testing.assert_allclose(seen["V"], seen_other["V"], atol=1e-6)


@BOTH
@pytest.mark.parametrize("cut", [1, 17])
def test_split_calls_equal_one_call_for_every_sample(kind: type, cut: int) -> None:
    layer, x = kind(N, S, w_rec=weights()), drive()
    whole, seen = record(layer, x, "V", "I_syn")
    first, _ = record(layer, x[:cut])
    second, rest = record(layer, x[cut:], "V", "I_syn", prepare=False)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    for name, value in rest.items():
        np.testing.assert_array_equal(value, seen[name][cut:])


@BOTH
def test_one_sample_equals_its_row_of_a_batch(kind: type) -> None:
    layer, x = kind(N, S, w_rec=weights()), drive()
    batch, seen = record(layer, x, "V")
    for b in range(B):
        row, alone = record(layer, x[:, b : b + 1], "V")
        np.testing.assert_array_equal(row[:, 0], batch[:, b])
        np.testing.assert_allclose(alone["V"][:, 0], seen["V"][:, b], atol=1e-5)
    bare, alone = record(layer, x[:, 0], "V")
    assert alone["V"].shape == (T, N)
    np.testing.assert_array_equal(bare, batch[:, 0])


@BOTH
def test_units_do_not_matter(kind: type) -> None:
    x = drive()
    given = {"tau_mem": 12.0, "tau_syn": [[4.0, 9.0]], "bias": 0.01, "V_th": 0.9}
    units = ({"t": u.ms, "v": u.mV, "scale": 1.0}, {"t": u.second, "v": u.volt, "scale": 1e-3})
    results = []
    for unit in units:
        q = {
            k: np.asarray(v) * unit["scale"] * (unit["t"] if k.startswith("tau") else unit["v"])
            for k, v in given.items()
        }
        layer = kind(N, S, w_rec=weights().in_unit(unit["v"]), **q)
        spikes, seen = bh.rollout(layer, (x * unit["scale"]) * unit["v"], record=(".V",))
        assert u.get_unit(seen[".V"]) == u.mV
        results.append((np.asarray(spikes), np.asarray(seen[".V"].mantissa)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1], atol=2e-5)


def test_decays_and_bitshifts_say_the_same_as_time_constants(double: None) -> None:
    x = drive()
    share = 1 - 2.0**-3
    tau = -1 / np.log(share) * u.ms
    layers = [
        bh.nn.ALIFLayer(N, S, tau_mem=tau, tau_syn=tau, w_rec=weights()),
        bh.nn.ALIFLayer(N, S, leak="decays", alpha=share, beta=share, w_rec=weights()),
        bh.nn.ALIFLayer(N, S, leak="bitshifts", dash_mem=3, dash_syn=3, w_rec=weights()),
        bh.nn.ALIFLayer(N, S, leak="decays", alpha=share, beta=share, gamma=np.exp(-1 / 20), w_rec=weights()),
    ]
    (first, seen), *others = (record(layer, x, "V") for layer in layers)
    for spikes, other in others:
        np.testing.assert_array_equal(spikes, first)
        np.testing.assert_allclose(other["V"], seen["V"], atol=1e-10)


def test_defaults_of_the_leak_modes() -> None:
    assert bh.nn.CubaLIFLayer(2).tau_mem.to_decimal(u.ms) == 20
    decays, shifts = bh.nn.CubaLIFLayer(2, leak="decays"), bh.nn.ALIFLayer(2, leak="bitshifts")
    assert (decays.alpha, decays.beta) == (0.5, 0.5)
    assert (shifts.dash_mem, shifts.dash_syn) == (1.0, 1.0)
    assert shifts.tau_ahp.to_decimal(u.ms) == 20


@pytest.mark.slow
@pytest.mark.parametrize("leak", ["taus", "decays", "decays with gamma", "bitshifts"])
@pytest.mark.parametrize("s", [1, 2])
def test_adaptation_is_one_more_synapse(double: None, leak: str, s: int) -> None:
    """ALIF(S) == LIF(S + 1): forward, and every gradient, tau_ahp and w_ahp included."""
    param, rng, mode = brainstate.nn.Param, np.random.default_rng(s), leak.split(maxsplit=1)[0]
    leaks = {
        "taus": {"tau_mem": param(rng.uniform(5, 30, N) * u.ms), "tau_syn": param(rng.uniform(3, 30, (N, s)) * u.ms)},
        "decays": {"alpha": param(rng.uniform(0.5, 0.95, N)), "beta": param(rng.uniform(0.5, 0.95, (N, s)))},
        "bitshifts": {"dash_mem": param(rng.uniform(1, 4, N)), "dash_syn": param(rng.uniform(1, 4, (N, s)))},
    }[mode]
    ahp: dict[str, Any] = {"tau_ahp": param(rng.uniform(20, 90, N) * u.ms)}
    if "gamma" in leak:
        ahp = {"gamma": param(rng.uniform(0.8, 0.99, N))}
    layer = bh.nn.ALIFLayer(
        N, s, leak=mode, **leaks, **ahp, w_ahp=param(rng.uniform(-0.6, 0.2, N) * u.mV), w_rec=weights(3, N, s),
        V_th=param(rng.uniform(0.7, 1.2, N) * u.mV), bias=0.02 * u.mV, spk_fun=PeriodicExponential(),
    )  # fmt: skip
    lif = layer.as_lif_with_ahp_synapses()
    assert type(lif) is bh.nn.CubaLIFLayer
    assert lif.n_synapses == s + 1
    x, R = drive(s, n=N * s), drive(s + 1, n=N)

    def gradients(net: Any, widen: Any) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        states = net.states(brainstate.ParamState)
        bh.prepare_net(net, B)

        def loss(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            spikes, seen = bh.rollout(net, widen(x * u.mV), record=(".V",))
            return jnp.sum(spikes * R) + jnp.sum((seen[".V"] / u.mV) ** 2), (spikes, seen[".V"] / u.mV)

        of = brainstate.transform.grad(loss, states, argnums=0, has_aux=True)
        (grads, of_x), (spikes, V) = brainstate.transform.jit(of)(x)
        named = {path[0]: np.asarray(u.get_mantissa(g)) for path, g in grads.items()}
        return {**named, "x": np.asarray(of_x)}, np.asarray(spikes), np.asarray(V)

    mine, spikes, V = gradients(layer, lambda x: x)
    other, lif_spikes, lif_V = gradients(lif, layer.widen_input)
    assert spikes.sum() > 20
    np.testing.assert_array_equal(lif_spikes, spikes)
    np.testing.assert_allclose(lif_V, V, rtol=0, atol=1e-12)

    synapse = {"taus": "tau_syn", "decays": "beta", "bitshifts": "dash_syn"}[layer.leak]
    diagonal = np.einsum("iis->is", other["recurrent_weight"].reshape(N, N, s + 1))[:, s]
    expected = {
        "w_ahp": diagonal,
        "recurrent_weight": other["recurrent_weight"].reshape(N, N, s + 1)[:, :, :s].reshape(N, N * s),
        synapse: other[synapse][:, :s],
        "x": other["x"],
    }
    if leak == "taus":
        expected["tau_ahp"] = other[synapse][:, s]
    if "gamma" in leak:
        expected["gamma"] = other[synapse][:, s]
    shared = {name: other[name] for name in mine if name in ("V_th", "tau_mem", "alpha", "dash_mem")}
    for name, reference in {**expected, **shared}.items():
        np.testing.assert_allclose(mine[name], reference, rtol=0, atol=1e-6 * np.abs(reference).max(), err_msg=name)


def test_widened_input_skips_the_added_synapse() -> None:
    x = alif().widen_input(jnp.arange(1.0, 9.0) * u.mV)
    assert x.to(u.mV).mantissa.tolist() == [1, 2, 0, 3, 4, 0, 5, 6, 0, 7, 8, 0]
    with pytest.raises(
        ValueError, match=r"ALIFLayer.widen_input: the last axis of x must have length 8; got shape \(9,"
    ):
        alif().widen_input(jnp.ones(9) * u.mV)


def test_gradients_flow_through_an_initial_state() -> None:
    layer, x = alif(spk_fun=PeriodicExponential()), drive()
    bh.prepare_net(layer, B)

    def loss(V: jax.Array, current: jax.Array, ahp: jax.Array, spk: jax.Array) -> jax.Array:
        layer.V.value, layer.I_syn.value, layer.I_ahp.value = V * u.mV, current * u.mV, ahp * u.mV
        layer.spk.value = spk
        _, seen = bh.rollout(layer, x * u.mV, record=(".V",), prepare=False)
        return jnp.sum((seen[".V"] / u.mV) ** 2)

    at = [jnp.full(shape, 0.1) for shape in ((B, N), (B, N, S), (B, N), (B, N))]
    grads = brainstate.transform.jit(brainstate.transform.grad(loss, argnums=(0, 1, 2, 3)))(*at)
    assert [g.shape for g in grads] == [(B, N), (B, N, S), (B, N), (B, N)]
    assert all(np.isfinite(g).all() and (np.asarray(g) != 0).any() for g in grads)
    # The sample whose state is asked about is the only one it matters for.
    assert not np.allclose(grads[0][0], grads[0][1])


@BOTH
def test_an_ordinary_surrogate_fires_once_and_at_the_threshold(kind: type) -> None:
    layer = kind(1, leak="decays", alpha=1.0, beta=1.0, spk_fun=bh.surrogate.fast_sigmoid())
    spikes, seen = record(layer, jnp.array([[1.0], [2.0], [0.0]]), "V", "V_pre")
    assert seen["V_pre"][0, 0] == 1.0
    assert spikes[:, 0].tolist() == [1, 1, 1]
    assert seen["V"][1, 0] == pytest.approx(2.0 + (0.0 if kind is bh.nn.CubaLIFLayer else -0.9 * np.exp(-1 / 20)))


def test_the_threshold_of_a_single_spike_neuron_learns() -> None:
    layer = bh.nn.ALIFLayer(1, V_th=brainstate.nn.Param(2.0 * u.mV), spk_fun=bh.surrogate.fast_sigmoid(2.0))
    x = jnp.array([[1.0]])
    of = brainstate.transform.grad(lambda: jnp.sum(bh.rollout(layer, x * u.mV)[0]), layer.states(brainstate.ParamState))
    (gradient,) = (float(u.get_mantissa(g)) for g in of().values())
    V = np.exp(-1 / 20)
    # d/dV_th of (V - V_th)/V_th, times the derivative of the spike function there
    assert gradient == pytest.approx(-V / 4 / (2 * (1 - V / 2) + 1) ** 2, rel=1e-5)


def test_a_limit_leaves_the_rest_on_the_membrane() -> None:
    free, limited = (bh.nn.CubaLIFLayer(1, leak="decays", beta=1.0, max_spikes_per_step=m) for m in (None, 2))
    x = jnp.array([[5.5]])
    assert record(free, x, "V")[0][0, 0] == 5
    spikes, seen = record(limited, x, "V")
    assert spikes[0, 0] == 2
    assert seen["V"][0, 0] == pytest.approx(3.5)


@pytest.mark.parametrize("detach", [True, False])
def test_detaching_the_reset_stops_its_gradient(detach: bool) -> None:
    layer = bh.nn.CubaLIFLayer(1, leak="decays", alpha=0.5, beta=1.0, detach_reset=detach)

    def membrane(x: jax.Array) -> jax.Array:
        bh.prepare_net(layer)
        layer(x * u.mV)
        return layer.V.value.to(u.mV).mantissa[0]

    gradient = brainstate.transform.grad(membrane, argnums=0)(jnp.array([2.85]))
    assert float(gradient[0]) == (1.0 if detach else 0.0)


def test_no_limit_stays_finite_with_both_functions() -> None:
    for spike in (StepPWL(), PeriodicExponential()):
        layer = alif(spk_fun=spike, w_rec=None)
        of = brainstate.transform.grad(lambda x, net=layer: bh.rollout(net, x * u.mV)[0].sum(), argnums=0)
        gradient = of(drive(scale=20.0))
        assert np.isfinite(gradient).all()
        assert (np.asarray(gradient) != 0).any()


def test_noise_grows_as_the_square_root_of_time_and_is_new_at_every_step() -> None:
    n, t = 2000, 100
    unit = u.mV / u.second**0.5
    layer = bh.nn.CubaLIFLayer(n, leak="decays", alpha=1.0, noise_std=0.3 * unit, V_th=1e6 * u.mV)
    _, seen = record(layer, jnp.zeros((t, 2, n)), "V")
    for steps in (1, 25, 100):
        assert seen["V"][steps - 1].std() == pytest.approx(0.3 * np.sqrt(steps * 1e-3), rel=0.06)
    steps = np.diff(seen["V"], axis=0)
    assert abs(steps.mean()) < 1e-3
    assert abs(np.corrcoef(steps[0].ravel(), steps[1].ravel())[0, 1]) < 0.1
    assert abs(np.corrcoef(seen["V"][-1, 0], seen["V"][-1, 1])[0, 1]) < 0.1


def test_noise_follows_the_seed_and_dt_and_takes_either_unit() -> None:
    def membrane(noise: u.Quantity, seed: int = 3) -> np.ndarray:
        brainstate.random.seed(seed)
        return record(bh.nn.ALIFLayer(3, noise_std=noise), jnp.zeros((20, 3)), "V")[1]["V"]

    one = membrane(0.3 * u.mV / u.second**0.5)
    np.testing.assert_array_equal(one, membrane(0.3 * u.mV / u.second**0.5))
    np.testing.assert_allclose(one, membrane(0.3 * u.mV * u.Hz**0.5), rtol=1e-6)
    assert not np.allclose(one, membrane(0.3 * u.mV / u.second**0.5, seed=4))


def test_without_noise_nothing_is_drawn() -> None:
    before = np.asarray(jax.random.key_data(brainstate.random.DEFAULT.value))
    record(alif(), drive())
    np.testing.assert_array_equal(before, np.asarray(jax.random.key_data(brainstate.random.DEFAULT.value)))


@pytest.mark.parametrize("shape", ["scalar", "one", "per neuron", "per synapse", "shared by neurons", "flat"])
def test_every_shape_of_a_synaptic_time_constant(shape: str) -> None:
    full = np.array([[3.0, 8.0], [3.0, 8.0], [3.0, 8.0], [3.0, 8.0]])
    value, expected = {
        "scalar": (5.0, np.full((N, S), 5.0)),
        "one": (np.array([5.0]), np.full((N, S), 5.0)),
        "per neuron": (np.arange(1.0, N + 1), np.repeat(np.arange(1.0, N + 1)[:, None], S, axis=1)),
        "per synapse": (full, full),
        "shared by neurons": (full[:1], full),
        "flat": (full.ravel(), full),
    }[shape]
    x = drive()
    spikes, seen = record(bh.nn.ALIFLayer(N, S, tau_syn=value * u.ms), x, "I_syn")
    other, seen_other = record(bh.nn.ALIFLayer(N, S, tau_syn=brainstate.nn.Param(expected * u.ms)), x, "I_syn")
    np.testing.assert_array_equal(spikes, other)
    np.testing.assert_allclose(seen["I_syn"], seen_other["I_syn"], atol=1e-6)


def test_recurrent_weights_as_array_initializer_true_and_constant() -> None:
    given = weights()
    as_array = bh.nn.ALIFLayer(N, S, w_rec=given)
    as_block = bh.nn.ALIFLayer(N, S, w_rec=given.reshape((N, N, S)))
    np.testing.assert_array_equal(as_array.recurrent_weight.value.mantissa, as_block.recurrent_weight.value.mantissa)
    drawn = bh.nn.ALIFLayer(30, 2, w_rec=True).recurrent_weight.value.to(u.mV).mantissa
    bound = np.sqrt(6 / 60)
    assert drawn.shape == (30, 60)
    assert 0.95 * bound < np.abs(drawn).max() <= bound
    assert drawn.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
    called = bh.nn.CubaLIFLayer(N, S, w_rec=lambda shape: jnp.ones(shape) * u.mV)
    assert called.recurrent_weight.value.shape == (N, N * S)
    as_blocks = bh.nn.CubaLIFLayer(N, S, w_rec=lambda shape: given.reshape((N, N, S)))
    np.testing.assert_array_equal(as_blocks.recurrent_weight.value.mantissa, as_array.recurrent_weight.value.mantissa)
    frozen = bh.nn.CubaLIFLayer(N, S, w_rec=brainstate.nn.Const(given))
    assert not frozen.states(brainstate.ParamState)
    np.testing.assert_array_equal(record(frozen, drive())[0], record(bh.nn.CubaLIFLayer(N, S, w_rec=given), drive())[0])


def test_constrained_parameters_stay_positive_while_they_learn() -> None:
    param, softplus = brainstate.nn.Param, brainstate.nn.SoftplusT
    layer = bh.nn.ALIFLayer(
        N, S, tau_ahp=param(np.full(N, 2.0) * u.ms, t=softplus(0.5 * u.ms)),
        V_th=param(np.full(N, 0.2) * u.mV, t=softplus(0.1 * u.mV)), w_ahp=param(-0.5 * u.mV),
    )  # fmt: skip
    states = layer.states(brainstate.ParamState)
    assert {path[0] for path in states} == {"tau_ahp", "V_th", "w_ahp"}
    for state in states.values():
        state.value = state.value - (100.0 * u.mV if isinstance(state.value, u.Quantity) else 100.0)
    assert (layer.tau_ahp.value() >= 0.5 * u.ms).all()
    assert (layer.V_th.value() >= 0.1 * u.mV).all()
    assert np.isfinite(record(layer, drive())[0]).all()


@pytest.mark.slow
def test_compiled_equals_eager_and_segments_repeat_the_noise() -> None:
    layer, x = alif(noise_std=0.5 * u.mV / u.second**0.5), drive()
    bh.prepare_net(layer, B)

    def gradient(checkpoint: Any) -> np.ndarray:
        brainstate.random.seed(1)

        def loss(x: jax.Array) -> jax.Array:
            return jnp.sum(bh.rollout(layer, x * u.mV, checkpoint=checkpoint, record=(".V",))[1][".V"].mantissa ** 2)

        return np.asarray(brainstate.transform.grad(loss, argnums=0)(x))

    np.testing.assert_allclose(gradient(None), gradient("auto"), rtol=1e-5, atol=1e-6)

    quiet = alif()
    compiled, _ = record(quiet, x)
    bh.prepare_net(quiet, B)
    np.testing.assert_array_equal(compiled[:5], np.stack([np.asarray(quiet(step * u.mV)) for step in x[:5]]))
