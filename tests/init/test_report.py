"""fluct_report: measures without changing the net; numbers, units, shapes, and the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

Sequential = brainstate.nn.Sequential
N_IN, N_1, N_2 = 40, 24, 12


def synapse(family: str, n_in: int, n: int) -> Any:
    # Use zeros: drawing random numbers of a new shape takes longer than everything else in many tests.
    zeros = np.zeros((n_in, n))
    return getattr(bh.nn, f"{family}Synapse")(n_in, n, weight_init=zeros * u.mV if family == "LIF" else zeros)


def chain() -> brainstate.nn.Module:
    """A recurrent chip layer, then one without recurrence."""
    return Sequential(
        synapse("H1v2", N_IN, N_1),
        bh.nn.H1v2Layer(N_1, tau=20 * u.ms, topology="RC"),
        synapse("H1v2", N_1, N_2),
        bh.nn.H1v2Layer(N_2, tau=np.where(np.arange(N_2) < 6, 20.0, 50.0) * u.ms),
    )


@pytest.fixture(scope="module")
def data(poisson: Callable) -> np.ndarray:
    return poisson(150, (6, 200, N_IN))


@pytest.fixture(scope="module")
def made(fluct_run: Callable, data: np.ndarray) -> Any:
    return fluct_run(chain(), [data], xi_target=1.5, alpha=0.9)


@pytest.fixture(scope="module")
def seen(made: Any, data: np.ndarray) -> bh.init.FluctReport:
    with brainstate.environ.context(dt=1.0 * u.ms):
        return bh.init.fluct_report(made.net, [data])


def plain(value: Any) -> Any:
    return np.asarray(u.get_mantissa(value), dtype=float) if not isinstance(value, (str, type(None))) else value


def test_report_of_the_network_is_that_of_its_initialisation(made: Any, seen: bh.init.FluctReport) -> None:
    assert len(seen.layers) == len(made.report.layers) == 2
    for now, then in zip(seen.layers, made.report.layers, strict=True):
        assert now.init is None
        assert then.init is not None
        for field in dataclasses.fields(now):
            if field.name in ("init", "expected_dead"):  # the expected number depends on how the weights were drawn
                continue
            a, b = getattr(now, field.name), getattr(then, field.name)
            assert type(a) is type(b), field.name
            assert u.get_unit(a) == u.get_unit(b), field.name
            if isinstance(a, (str, type(None))):
                assert a == b, field.name
            else:
                np.testing.assert_allclose(plain(a), plain(b), rtol=1e-5, atol=1e-5, err_msg=field.name)
        assert now.expected_dead == pytest.approx(then.expected_dead, rel=0.3, abs=0.1)


@pytest.mark.parametrize("index", [0, 1])
def test_fields_have_their_units_and_shapes(seen: bh.init.FluctReport, index: int) -> None:
    layer, n, n_in = seen.layers[index], (N_1, N_2)[index], (N_IN, N_1)[index]
    assert layer.index == index + 1
    assert layer.name == f"layers.{2 * index + 1}"
    assert layer.family == "H1v2"
    assert layer.n_neurons == n
    hz, mv = 1 * u.Hz, 1 * u.mV
    for name, unit, shape in (
        ("nu_in", hz, ()),
        ("nu_var", hz, ()),
        ("nu_out", hz, ()),
        ("rates", hz, (n,)),
        ("eps_bar", u.volt * u.second, (n,)),
        ("eps_hat", u.volt2 * u.second, (n,)),
        ("threshold", mv, (n,)),
        ("mean_membrane", mv, (n,)),
        ("membrane_sd", mv, (n,)),
        ("dt", u.ms, ()),
    ):
        value = getattr(layer, name)
        assert u.have_same_dim(value, unit), name
        assert np.shape(u.get_mantissa(value)) == shape, name
    assert layer.response.shape[1:] == (n,)
    assert layer.membrane_sample.shape[1:] == (n,)
    assert len(layer.membrane_sample) > 100
    assert layer.xi.shape == (n,)
    assert float(layer.dt.to(u.ms).mantissa) == pytest.approx(1)
    assert (layer.share_RC is None) == (layer.recurrent_spread is None) == (index == 1)
    assert layer.weight_limit == pytest.approx(1.66)
    assert n_in  # the input of each layer is the output of the one before
    low, high = layer.xi_quartiles
    assert low <= layer.xi_median <= high


def test_numbers_are_those_of_the_network_itself(made: Any, seen: bh.init.FluctReport, data: np.ndarray) -> None:
    net = made.net
    spikes, records = bh.rollout(net, np.swapaxes(data, 0, 1), record=("layers.1.spk",))
    first, second = seen.layers
    hidden = np.asarray(records["layers.1.spk"])
    np.testing.assert_allclose(plain(first.rates.to(u.Hz)), hidden.mean(axis=(0, 1)) * 1000, rtol=1e-5)
    np.testing.assert_allclose(plain(second.rates.to(u.Hz)), np.asarray(spikes).mean(axis=(0, 1)) * 1000, rtol=1e-5)
    assert float(first.nu_in.to(u.Hz).mantissa) == pytest.approx(data.mean() * 1000)
    assert float(first.nu_var.to(u.Hz).mantissa) == pytest.approx(data.mean() * 1000)  # spikes are their own square
    for layer in seen.layers:
        assert float(layer.nu_out.to(u.Hz).mantissa) == pytest.approx(plain(layer.rates.to(u.Hz)).mean(), rel=1e-5)
        assert layer.dead == np.sum(plain(layer.rates) == 0)
    assert float(second.nu_in.to(u.Hz).mantissa) == pytest.approx(float(first.nu_out.to(u.Hz).mantissa), rel=1e-5)
    weights = [np.asarray(net.layers[i].weight.value) for i in (0, 2)]
    recurrent = np.asarray(net.layers[1].recurrent_weight.value)
    for layer, weight in zip(seen.layers, weights, strict=True):
        assert layer.mean_weight == pytest.approx(weight.mean(), abs=1e-6)
        assert layer.weight_spread == pytest.approx(weight.std(), rel=1e-5)
    assert first.recurrent_spread == pytest.approx(recurrent.std(), rel=1e-5)
    assert first.largest == pytest.approx(max(np.abs(weights[0]).max(), np.abs(recurrent).max()))
    assert first.out_of_range == np.sum(np.abs(weights[0]) > 1.66) + np.sum(np.abs(recurrent) > 1.66)
    assert first.out_of_range + second.out_of_range == bh.train.out_of_range(net)


def test_membranes_are_those_that_the_inputs_make(made: Any, seen: bh.init.FluctReport, data: np.ndarray) -> None:
    """The second layer is not recurrent, so its sub-threshold membrane depends only on its input."""
    net, layer = made.net, seen.layers[1]
    spikes, records = bh.rollout(net, np.swapaxes(data, 0, 1), record=("layers.1.spk",))
    membrane = plain(net.layers[3].subthreshold(net.layers[2](records["layers.1.spk"])).to(u.mV))
    assert spikes.shape == membrane.shape
    settled = membrane[100:]  # the slowest membrane rises for longer than half of the data
    np.testing.assert_allclose(plain(layer.mean_membrane), settled.mean(axis=(0, 1)), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(plain(layer.membrane_sd), settled.std(axis=(0, 1)), rtol=1e-3)
    np.testing.assert_allclose(
        layer.xi, (plain(layer.threshold) - plain(layer.mean_membrane)) / plain(layer.membrane_sd), rtol=1e-5
    )
    sample = plain(layer.membrane_sample)
    np.testing.assert_allclose(sample.std(axis=0), plain(layer.membrane_sd), rtol=0.1)


def test_integrals_are_those_of_the_response(seen: bh.init.FluctReport) -> None:
    for layer in seen.layers:
        volts = plain(layer.response.to(u.volt))
        np.testing.assert_allclose(plain(layer.eps_bar.to(u.volt * u.second)), 1e-3 * volts.sum(axis=0), rtol=1e-5)
        eps_hat = plain(layer.eps_hat.to(u.volt2 * u.second))
        np.testing.assert_allclose(eps_hat, 1e-3 * (volts**2).sum(axis=0), rtol=1e-4)
    assert np.ptp(plain(seen.layers[1].eps_bar)) > 0  # two time constants


def test_table_has_its_headings_and_a_line_for_each_layer(made: Any, seen: bh.init.FluctReport) -> None:
    headings = ["layer", "neurons", "ν in", "ν out", "weights", "recurrent", "µ_U", "V_th", "ξ wanted"]
    headings += ["ξ (quartiles)", "dead", "saturated", "exhausted", "out of range", "runs"]
    for report, aim in ((made.report, "1.5"), (seen, "-")):
        top, *rest = str(report).splitlines()
        places = [top.index(heading) for heading in headings]
        assert places == sorted(places)
        lines = [line for line in rest if any(character.isalnum() for character in line)]
        assert len(lines) == 2
        for line, layer in zip(lines, report.layers, strict=True):
            assert f"{layer.index} {layer.name}" in line
            assert f"{layer.n_neurons} H1v2" in line
            assert f"{layer.xi_median:.2f} (" in line
            assert f" {aim} " in line
        assert "±" in lines[0]


def test_table_does_not_depend_on_window_terminal_or_notebook(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = str(made.report)
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(made.report) == before
    assert "\x1b" not in before


def test_nothing_is_changed_and_a_prepared_network_stays_prepared(data: np.ndarray) -> None:
    net = Sequential(synapse("H1v2", N_IN, 4), bh.nn.H1v2Layer(4, tau=20 * u.ms))
    bh.prepare_net(net, 2, key=5)
    net.layers[1].V.value = net.layers[1].V.value + 3 * u.mV
    before = {path: state.value for path, state in net.states().items()}
    expected = net.layers[0](jnp.ones((2, N_IN)))
    bh.init.fluct_report(net, [data])
    assert all(state.value is before[path] for path, state in net.states().items())
    np.testing.assert_array_equal(net.layers[0](jnp.ones((2, N_IN))).mantissa, expected.mantissa)


def test_network_without_a_chip_is_told_in_millivolt(data: np.ndarray) -> None:
    net = Sequential(
        synapse("LIF", N_IN, 20),
        bh.nn.CubaLIFLayer(10, 2, noise_std=1 * u.mV / u.second**0.5, V_th=np.linspace(1, 2, 10) * u.mV),
    )
    noise = net.layers[1].noise_std
    layer = bh.init.fluct_report(net, [data]).layers[0]
    assert net.layers[1].noise_std is noise
    assert layer.family == "CubaLIF"
    assert layer.weight_limit == np.inf
    assert layer.out_of_range == 0
    assert layer.recurrent_spread is None
    assert layer.eps_bar.shape == (10,)
    assert layer.response.shape[1] == 10
    np.testing.assert_allclose(plain(layer.threshold.to(u.mV)), np.linspace(1, 2, 10), rtol=1e-6)
    weights = np.asarray(net.layers[0].weight.value.to(u.mV).mantissa)
    assert layer.weight_spread == pytest.approx(weights.std(), rel=1e-5)


def test_silent_and_saturated_neurons_are_counted() -> None:
    """Four neurons: one without input, one that fires rarely, one in most steps, and one that fires once."""
    weights = np.zeros((5, 4))
    weights[:4, 1], weights[:4, 2], weights[4, 3] = 0.2, 5.0, 1.2
    net = Sequential(bh.nn.LIFSynapse(5, 4, weight_init=weights * u.mV), bh.nn.LIFLayer(4, tau=5 * u.ms))
    x = (np.random.default_rng(0).random((4, 100, 5)) < 0.3).astype(np.float32)
    x[..., 4] = 0
    x[2, 50, 4] = 1
    layer = bh.init.fluct_report(net, [x]).layers[0]
    assert (layer.dead, layer.saturated) == (1, 1)
    np.testing.assert_allclose(plain(layer.rates.to(u.Hz))[[0, 3]], [0, 2.5])
    assert layer.xi[0] == np.inf
    assert layer.xi[1] < np.inf


def test_several_batches_are_one_set_of_data(made: Any, seen: bh.init.FluctReport, data: np.ndarray) -> None:
    parts = bh.init.fluct_report(made.net, ((data[i : i + 2], 0) for i in (0, 2, 4)), n_batches=3)
    np.testing.assert_allclose(parts.layers[0].xi, seen.layers[0].xi, rtol=1e-4)


@pytest.mark.parametrize(
    ("net", "batches", "options", "error", "message"),
    [
        (5, [], {}, TypeError, "net must be a brainstate.nn.Module; got 5"),
        (None, [], {}, ValueError, "the dataloader yielded no batch"),
        (None, [np.ones((2, 5, 3))], {}, ValueError, "the last axis of a batch must have length 40"),
        (None, [np.ones((2, 5, 40))], {"n_batches": 0}, ValueError, "n_batches must be at least 1"),
        (None, [np.ones((2, 5, 40))], {"families": "LIF"}, ValueError, "families must be one of 'H1', 'any'"),
    ],
)
def test_bad_input_is_named(net: Any, batches: Any, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=f"fluct_report: {message}"):
        bh.init.fluct_report(chain() if net is None else net, batches, **options)


def test_weights_that_are_not_finite_are_named(data: np.ndarray) -> None:
    net = Sequential(synapse("H1v2", N_IN, 4), bh.nn.H1v2Layer(4, tau=20 * u.ms))
    net.layers[0].weight.value = net.layers[0].weight.value.at[2, 1].set(np.nan)
    with pytest.raises(ValueError, match="fluct_report: a weight of layer 1 contains 1 NaN or infinite"):
        bh.init.fluct_report(net, [data])


def test_software_networks_can_be_refused(data: np.ndarray) -> None:
    net = Sequential(synapse("LIF", N_IN, 4), bh.nn.LIFLayer(4, tau=20 * u.ms))
    with pytest.raises(ValueError, match="fluct_report: only H1v1 and H1v2 networks are supported"):
        bh.init.fluct_report(net, [data], families="H1")


@pytest.mark.no_dt
def test_time_step_must_be_set(data: np.ndarray) -> None:
    with pytest.raises(RuntimeError, match="fluct_report: no time step is set"):
        bh.init.fluct_report(chain(), [data])
