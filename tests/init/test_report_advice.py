"""Warnings of fluct_init: their wording, and that their advice helps."""

from __future__ import annotations

import dataclasses
import itertools
import re
import warnings
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh
from brainhw.nn.protocols import Slot

Sequential = brainstate.nn.Sequential
family = pytest.mark.parametrize("family", ["H1v1", "H1v2"])
LIMITS = {"H1v1": 0.9, "H1v2": 1.66}


def synapse(family: str, n_in: int, n: int) -> Any:
    # Use zeros: drawing random numbers of a new shape takes longer than everything else in many tests.
    zeros = np.zeros((n_in, n))
    return getattr(bh.nn, f"{family}Synapse")(n_in, n, weight_init=zeros * u.mV if family == "LIF" else zeros)


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


def plain(weights: Any) -> np.ndarray:
    return np.asarray(u.get_mantissa(weights), dtype=float)


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topology", "options", "messages"),
    [
        ("FF", {}, []),
        ("FF", {"xi_target": 1.0}, []),
        ("FF", {"xi_target": 3.0}, []),
        ("FF", {"xi_target": 0.5}, [r"xi_target=0.5 is below 1\. .*rates can become very high.*1 to 3 is recommended"]),
        (
            "FF",
            {"xi_target": 3.5},
            [r"xi_target=3.5 is above 3\. .*hardly ever reach threshold.*1 to 3 is recommended"],
        ),
        ("FF", {"alpha": 0.5}, ["alpha=0.5, but no layer is recurrent, so the variance is smaller.* Use alpha=1"]),
        ("RC", {"alpha": 0.9}, []),
        ("RC", {}, ["alpha=1 leaves no variance for recurrent input, so the recurrent weights become zero"]),
        ("RC", {"xi_target": 0.9}, ["xi_target=0.9 is below 1", "alpha=1 leaves no variance"]),
        ("stray", {"alpha": 0.9}, [r"1 synapse\(s\) belong to no pair", "alpha=0.9, but no layer is recurrent"]),
    ],
)
def test_settings_that_deserve_a_warning(
    topology: str, options: dict, messages: list[str], monkeypatch: pytest.MonkeyPatch, chip_pair: Callable
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise InterruptedError

    monkeypatch.setattr("brainhw.init.fluct._own_step", stop)
    net = chip_pair("H1v1", 8, 4, topology="RC" if topology == "RC" else "FF")
    if topology == "stray":
        net.stray = synapse("H1v1", 3, 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(InterruptedError):
            bh.init.fluct_init(net, [np.ones((1, 5, 8))], verbose=False, **options)
    assert len(caught) == len(messages)
    for warning, message in zip(caught, messages, strict=True):
        assert warning.category is UserWarning
        assert re.match(f"fluct_init: {message}", str(warning.message))
        assert warning.filename == __file__


# Weights beyond the range ---------------------------------------------------------------------------------------------


RATE, INPUTS = 15, 300


@pytest.fixture(scope="module")
def again(fluct_run: Callable, poisson: Callable, chip_pair: Callable) -> Callable[..., Any]:
    """Return a function that initialises a recurrent pair of a family, by default with weights out of range."""

    def run(family: str, rate: float = RATE, n_in: int = INPUTS, **options: Any) -> Any:
        net = chip_pair(family, n_in, 20, topology="RC")
        return fluct_run(
            net, [poisson(rate, (8, 200, n_in))], **{"xi_target": 2.5, "alpha": 0.9, "in_range": False, **options}
        )

    return run


@pytest.fixture(scope="module")
def wide(again: Callable) -> dict[str, Any]:
    return {family: again(family) for family in LIMITS}


def beyond(run: Any, family: str) -> int:
    """Return the number of feed-forward weights that are out of range."""
    return int(np.sum(np.abs(plain(run.net.layers[0].weight.value)) > LIMITS[family]))


@family
def test_weights_beyond_the_range_are_counted_with_layer_chip_and_remedies(family: str, wide: dict) -> None:
    run, limit = wide[family], LIMITS[family]
    weights = [plain(run.net.layers[0].weight.value), plain(run.net.layers[1].recurrent_weight.value)]
    outside = sum(int(np.sum(np.abs(w) > limit)) for w in weights)
    (text,) = run.told("are outside")
    assert text.startswith(f"fluct_init: layer 1: {outside} weight(s) are outside [-{limit}, {limit}] of {family}, ")
    largest = max(np.abs(w).max() for w in weights)
    assert number(r"the largest is ([\d.]+);", text) == pytest.approx(largest, rel=0.01)
    assert number(r"xi_target=([\d.]+)", text) > 3
    assert "(above 3, where neurons become silent)" in text
    assert "in_range=True draws no weights out of range" in text
    assert "weight_magnitude_loss(net) to the loss brings the weights into range" in text
    assert bh.train.out_of_range(run.net) == outside
    assert beyond(run, family) > 10


@family
def test_advised_target_keeps_every_weight_in_range(family: str, wide: dict, again: Callable) -> None:
    target = number(r"xi_target=([\d.]+)", wide[family].told("are outside")[0])
    assert beyond(again(family, xi_target=target), family) == 0


@family
def test_advised_number_of_inputs_keeps_the_weights_in_range(family: str, wide: dict, again: Callable) -> None:
    """Other inputs use other random numbers, so one weight in a hundred thousand may be out of range."""
    times = number(r"about ([\d.]+) times as many inputs", wide[family].told("are outside")[0])
    n_in = round(INPUTS * times)
    assert beyond(again(family, n_in=n_in), family) <= 2e-5 * 20 * n_in
    assert beyond(wide[family], family) > 0.1 * 20 * INPUTS


@family
def test_advised_rate_keeps_every_weight_in_range(family: str, wide: dict, again: Callable) -> None:
    (text,) = wide[family].told("are outside")
    rate = number(r"times their rate \((\d+) Hz\)", text)
    assert rate == pytest.approx(RATE * number(r"or ([\d.]+) times their rate", text), rel=0.05)
    assert beyond(again(family, rate=rate), family) == 0


def test_advised_alpha_keeps_recurrent_weights_near_the_range(wide: dict, again: Callable) -> None:
    def largest(run: Any) -> float:
        return float(np.abs(plain(run.net.layers[1].recurrent_weight.value)).max())

    alpha = number(r"alpha=([\d.]+) would keep the recurrent weights in", wide["H1v2"].told("are outside")[0])
    assert largest(wide["H1v2"]) > 3 * 1.66
    assert 0.9 < alpha < 1
    assert 0.5 * 1.66 < largest(again("H1v2", alpha=alpha)) < 1.1 * 1.66


def test_no_rate_is_advised_where_none_would_do(fluct_run: Callable, poisson: Callable, chip_pair: Callable) -> None:
    """Spikes in half of all steps have the largest variance; higher rates would have less."""
    run = fluct_run(chip_pair("H1v2", 30, 8), [poisson(300, (4, 100, 30))], in_range=False)
    (text,) = run.told("are outside")
    assert "times as many inputs would keep them in" in text
    assert "rate" not in text


def test_advised_size_of_analog_values_keeps_every_weight_in_range(fluct_run: Callable, chip_pair: Callable) -> None:
    x = np.random.default_rng(0).random((8, 300, 60)).astype(np.float32)
    (text,) = fluct_run(chip_pair("H1v2", 60, 10), [x], in_range=False).told("are outside")
    times = number(r"or input values ([\d.]+) times as large", text)
    assert fluct_run(chip_pair("H1v2", 60, 10), [times * x], in_range=False).layer.out_of_range == 0


def test_mean_that_is_too_large_alone_has_no_target_to_advise(
    fluct_run: Callable, poisson: Callable, chip_pair: Callable
) -> None:
    """The 10 % that the vendor's rule adds to the smallest mean may put it out of range."""
    # Without a limit the mean becomes 0.120.
    chip = bh.chip.H1V2.replace(weight_limit=0.1145, provenance="measured")
    x, options = [poisson(300, (16, 100, 32))], {"xi_target": 1.0, "key": 1, **bh.init.nwave_preset()}
    run = fluct_run(chip_pair("H1v2", 32, 40, chip=chip), x, **options)
    assert run.layer.init.mu_W > 0.1145
    (text,) = run.told("are outside")
    assert (
        "; the mean weight alone is out of range for any xi_target, so more or stronger inputs are needed. in_r" in text
    )


def test_nothing_is_said_of_a_range_without_a_chip(fluct_run: Callable, poisson: Callable) -> None:
    net = Sequential(synapse("LIF", 40, 8), bh.nn.LIFLayer(8, tau=20 * u.ms, V_th=500 * u.mV))
    run = fluct_run(net, [poisson(100, (8, 150, 40))], families="any", xi_target=1.0)
    assert run.layer.largest > 10
    assert run.warnings == []


# Neurons that are driven by their mean, silent, saturated -------------------------------------------------------------


def test_single_input_is_told_to_be_mean_driven_and_its_weights_differ(
    fluct_run: Callable, poisson: Callable, chip_pair: Callable
) -> None:
    run = fluct_run(chip_pair("H1v1", 1, 16, tau=100 * u.ms), [poisson(500, (8, 300, 1))])
    (text,) = run.told("mean-driven instead of fluctuation-driven")
    assert text.startswith("fluct_init: layer 1: 16 neuron(s) need such a large mean weight that it uses up the")
    assert "set to 0.1 of the mean" in text
    assert "smaller xi_target" in text
    assert run.layer.init.exhausted == 16
    assert run.layer.init.sigma_FF / run.layer.init.mu_W == pytest.approx(0.1, rel=1e-6)
    assert len(np.unique(plain(run.net.layers[0].weight.value))) == 16
    assert run.layer.dead == 0


def test_dead_neurons_are_told_with_layer_and_count(fluct_run: Callable, poisson: Callable) -> None:
    x = poisson(300, (2, 60, 24))
    net = Sequential(
        synapse("LIF", 24, 30),
        bh.nn.LIFLayer(30, tau=20 * u.ms),
        synapse("LIF", 30, 25),
        bh.nn.LIFLayer(25, tau=5 * u.ms),
    )
    run = fluct_run(net, [x], families="any")
    spikes, seen = bh.rollout(net, np.swapaxes(x, 0, 1), record=("layers.1.spk",))
    for layer, counts in zip(run.report.layers, (seen["layers.1.spk"], spikes), strict=True):
        dead = int(np.sum(np.asarray(counts.sum(axis=(0, 1))) == 0))
        assert layer.dead == dead > 0
        (text,) = run.told(f"layer {layer.index}: {dead} neuron(s) never spike on the data")
        assert ". Try a smaller xi_target, more inputs, or more data." in text
        assert "Use more data (n_batches) to find those that never fire" in text
        assert "0.12 s of data" in text


def test_more_data_tell_silent_from_dead(fluct_run: Callable, poisson: Callable) -> None:
    net = Sequential(synapse("LIF", 24, 30), bh.nn.LIFLayer(30, tau=20 * u.ms))
    run = fluct_run(net, [poisson(300, (2, 60, 24), seed=i) for i in range(40)], families="any", n_batches=40)
    assert run.layer.dead == 0
    assert run.warnings == []


def test_saturated_neurons_are_told(fluct_run: Callable, poisson: Callable) -> None:
    """Weights without centring: by the random draw two means lie far above threshold, and none below."""
    net = Sequential(synapse("LIF", 20, 3), bh.nn.LIFLayer(3, tau=50 * u.ms))
    run = fluct_run(net, [poisson(300, (2, 100, 20))], families="any", xi_target=0.2, center=False)
    assert run.layer.saturated == np.sum(plain(run.layer.rates.to(u.Hz)) > 500) == 2
    (text,) = run.told("spike in more than half of all steps")
    assert text.startswith(f"fluct_init: layer 1: {run.layer.saturated} neuron(s) spike in more than half")
    assert "larger xi_target or weaker input" in text
    # Their target is missed too. Without a chip the charge curve cannot be the reason.
    (text,) = run.told("the target is missed")
    assert "too few inputs, too little data or strong recurrence" in text


def test_curve_that_bends_too_far_is_told(fluct_run: Callable, poisson: Callable, chip_pair: Callable) -> None:
    curve = bh.chip.SaturatingCharge(1.034 * u.fcoulomb, saturation=0.3)
    chip = bh.chip.H1V1.replace(charge=curve, provenance="measured")
    x = [poisson(200, (8, 200, 400))]
    run = fluct_run(chip_pair("H1v1", 400, 12, chip=chip), x, xi_target=1.0, in_range=False)
    assert run.layer.xi_median > 1.5
    (text,) = run.told("the target is missed")
    assert f"with xi={run.layer.xi_median:.3g} instead of 1" in text
    assert "The charge curve or the weight range prevents larger fluctuations" in text
    assert "times as many inputs or a rate higher by this factor, use a larger xi_target" in text


def test_range_that_is_kept_and_too_narrow_is_told(fluct_run: Callable, poisson: Callable, chip_pair: Callable) -> None:
    run = fluct_run(chip_pair("H1v2", 40, 16), [poisson(8, (8, 300, 40))], in_range=True)
    (text,) = run.told("the target is missed")
    assert "The charge curve or the weight range prevents larger fluctuations" in text
    times = number(r"about ([\d.]+) times as many inputs or a rate higher by", text)
    more = fluct_run(chip_pair("H1v2", 40, 16), [poisson(8 * times, (8, 300, 40))], in_range=True)
    assert more.layer.xi_median == pytest.approx(2.0, rel=0.1)
    assert more.layer.out_of_range == 0
    assert more.told("the target is missed") == []


class Normalised(brainstate.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.syn, self.norm = synapse("LIF", 24, 30), brainstate.nn.LayerNorm(30)
        self.lyr = bh.nn.LIFLayer(30, tau=20 * u.ms)

    def update(self, x: Any) -> Any:
        return self.lyr(0.1 * u.mV * self.norm(self.syn(x) / u.mV))


def test_normalisation_before_the_layer_is_the_reason_told(fluct_run: Callable, poisson: Callable) -> None:
    """A LayerNorm removes the size of the weights, so no weights bring the membranes to the target."""
    run = fluct_run(Normalised(), [poisson(200, (8, 100, 24))], families="any")
    (text,) = run.told("the target is missed")
    assert number(
        r"the standard deviation of the weights doubles, .* fluctuate only ([\d.]+) times as much", text
    ) == pytest.approx(1, abs=0.1)
    assert "between synapse and layer, such as a normalisation" in text
    assert "too few inputs" not in text
    # The search for the reason tries other weights, but must restore the original ones.
    assert plain(run.net.syn.weight.value).std() == pytest.approx(run.layer.init.sigma_FF, rel=0.1)


class BiasedConvolution(brainstate.nn.Module):
    def __init__(self, bias: float) -> None:
        super().__init__()
        self.syn = brainstate.nn.Conv2d((6, 6, 2), 4, 3, padding="SAME", b_init=lambda n, **_: np.full(n, bias))
        self.lyr = bh.nn.LIFLayer((6, 6, 4), tau=20 * u.ms)

    def update(self, x: Any) -> Any:
        return self.lyr(self.syn(x) * u.mV)


@pytest.mark.slow
def test_strong_bias_of_a_convolution_is_the_reason_told(fluct_run: Callable) -> None:
    x = (np.random.default_rng(0).random((4, 60, 6, 6, 2)) < 0.2).astype(np.float32)
    run = fluct_run(BiasedConvolution(0.0545), [x], families="any")
    (text,) = run.told("the target is missed")
    assert number(r"even with weights near zero, xi is ([\d.]+) and", text) < 0.5
    assert number(r"is ([\d.]+) mV \(V_th is 1 mV\). The cause is a bias", text) == pytest.approx(0.99, abs=0.02)
    assert "too few inputs" not in text
    assert not fluct_run(BiasedConvolution(0.03), [x], families="any").told("the target is missed")


def test_recurrent_share_that_is_missed_is_told(fluct_run: Callable, poisson: Callable, chip_pair: Callable) -> None:
    """A layer that hardly fires gets hardly any recurrent input."""
    run = fluct_run(chip_pair("H1v2", 60, 10, topology="RC"), [poisson(100, (2, 150, 60))], xi_target=3.0, alpha=0.3)
    told = run.told("recurrent input contributes")
    assert (len(told) == 1) == (not 0.35 <= run.layer.share_RC <= 1)
    assert len(told) == 1
    assert "of the variance instead of the 0.7 set by alpha=0.3, at a firing rate of" in told[0]
    assert "Use an alpha closer to 1 or a smaller xi_target" in told[0]


def test_neurons_that_hardly_leak_are_told_at_the_callers_line(
    poisson: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainhw.init.response._MAX_STEPS", 256)
    net = Sequential(synapse("LIF", 12, 2), bh.nn.LIFLayer(2, tau=100 * u.second))
    for function, options in ((bh.init.fluct_report, {}), (bh.init.fluct_init, {"families": "any", "verbose": False})):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function(net, [poisson(100, (2, 40, 12))], **options)
        texts = [warning for warning in caught if "to one spike has not decayed" in str(warning.message)]
        assert [warning.filename for warning in texts] == [__file__]


class Bounded(bh.nn.LIFSynapse):
    """A synapse of another package, with a range but without a chip."""

    def weight_slot(self) -> Slot:
        return dataclasses.replace(super().weight_slot(), limit=0.3)


@pytest.mark.parametrize("in_range", [False, True])
def test_a_range_without_a_chip_is_kept_or_named(in_range: bool) -> None:
    zeros = np.zeros((20, 30)) * u.mV
    net = Sequential(Bounded(20, 30, weight_init=zeros), bh.nn.LIFLayer(30, tau=10 * u.ms))
    x = (np.random.default_rng(0).random((8, 100, 20)) < 0.1).astype(np.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bh.fluct_init(net, [x], families="any", in_range=in_range, verbose=False)
    outside = np.abs(plain(net.layers[0].weight.value)) > 0.3 * (1 + 1e-6)
    said = [str(one.message) for one in caught if "are outside" in str(one.message)]
    assert outside.any() != in_range
    assert len(said) == (not in_range)
    assert all(f"{outside.sum()} weight(s) are outside [-0.3, 0.3], the largest" in one for one in said)


# Spikes of a layer before ---------------------------------------------------------------------------------------------


def chain(family: str, *sizes: int, tau: u.Quantity) -> brainstate.nn.Sequential:
    layer = getattr(bh.nn, f"{family}Layer")
    stages = [(synapse(family, n_in, n), layer(n, tau=tau)) for n_in, n in itertools.pairwise(sizes)]
    return Sequential(*itertools.chain(*stages))


def told_of_volleys(run: Any) -> list[str]:
    return [text for text in run.warnings if "after simultaneous spikes" in text]


@pytest.mark.slow
@family
def test_layer_whose_spikes_pass_only_as_volleys_is_told_with_rate_and_limit(
    family: str, fluct_run: Callable, poisson: Callable
) -> None:
    run = fluct_run(chain(family, 16, 12, 8, tau=20 * u.ms), [poisson(200, (8, 100, 16))], xi_target=1.0, in_range=True)
    (text,) = told_of_volleys(run)
    assert "layer 2: its 12 inputs" in text
    rate, least = number(r"fire at ([\d.]+) Hz", text), number(r"at least ([\d.]+) Hz", text)
    assert rate == pytest.approx(run.report.layers[0].nu_out.to(u.Hz).mantissa, rel=5e-3)
    chip = run.net.layers[1].chip
    step = (chip.charge(LIMITS[family]) / chip.C).to(u.mV).mantissa
    # With all weights at the limit a constant rate gives the mean membrane n r step / (1 - exp(-dt / tau)).
    expected = 1e3 * chip.V_th.to(u.mV).mantissa * (1 - np.exp(-1 / 20)) / (12 * float(step))
    assert least == pytest.approx(expected, rel=5e-3)
    assert rate < least


@pytest.mark.slow
def test_layers_that_fire_often_enough_or_have_no_limit_are_not_told_of(fluct_run: Callable, poisson: Callable) -> None:
    data = [poisson(200, (8, 100, 16))]
    # No warning: the first layer gets the data, a longer tau lowers the limit, and LIF layers have no limit.
    assert not told_of_volleys(fluct_run(chain("H1v1", 2, 8, tau=20 * u.ms), [poisson(20, (8, 100, 2))], in_range=True))
    assert not told_of_volleys(fluct_run(chain("H1v1", 16, 64, 8, tau=200 * u.ms), data, xi_target=1.0, in_range=True))
    assert not told_of_volleys(fluct_run(chain("LIF", 16, 12, 8, tau=20 * u.ms), data, families="any"))
    # Weights out of range bring enough drive, and cause their own warning.
    wide = fluct_run(chain("H1v1", 16, 12, 8, tau=20 * u.ms), data, in_range=False)
    assert wide.report.layers[1].out_of_range
    assert not told_of_volleys(wide)
