"""fluct_init and fluct_report follow the network's own step: skips, scales, masks, biases, other orders."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

N_IN, N, T, B = 40, 100, 100, 16


def synapse(n_in: int, n: int) -> Any:
    return bh.nn.LIFSynapse(n_in, n, weight_init=np.zeros((n_in, n)) * u.mV)


def layer(n: int = N) -> Any:
    return bh.nn.LIFLayer(n, tau=20 * u.ms)


class Net(brainstate.nn.Module):
    """Two or three pairs, registered in the order of their numbers."""

    graph_invisible_attrs = ("layer_pairs",)

    def __init__(self, pairs: int = 2) -> None:
        super().__init__()
        for number in range(1, pairs + 1):
            setattr(self, f"s{number}", synapse(N_IN if number == 1 else N, N))
            setattr(self, f"l{number}", layer())

    def update(self, x: Any) -> Any:
        return self.l2(self.s2(self.l1(self.s1(x))))


class Chain(Net):
    pass


class Skip(Net):
    def __init__(self) -> None:
        super().__init__(3)

    def update(self, x: Any) -> Any:
        h = self.l1(self.s1(x))
        return self.l3(self.s3(h + self.l2(self.s2(h))))


class SkipOfDrive(Net):
    def __init__(self) -> None:
        super().__init__(3)

    def update(self, x: Any) -> Any:
        drive = self.s2(self.l1(self.s1(x)))
        return self.l3(self.s3(self.l2(drive)) + 0.3 * drive)


class Scaled(Net):
    def update(self, x: Any) -> Any:
        return self.l2(self.s2(4.0 * self.l1(0.2 * self.s1(x))))


class Order(Net):
    def __init__(self) -> None:
        super().__init__(3)

    def update(self, x: Any) -> Any:
        return self.l2(self.s2(self.l3(self.s3(self.l1(self.s1(x))))))


class Mask(Net):
    def update(self, x: Any) -> Any:
        return self.l2(self.s2(self.l1(self.s1(x)) * (jnp.arange(N) < 60)))


class Bias(Net):
    def update(self, x: Any) -> Any:
        bias = jnp.linspace(-0.02, 0.02, N) * u.mV
        return self.l2(self.s2(self.l1(self.s1(x) + bias)) + bias)


class TwoBranches(Net):
    def __init__(self) -> None:
        super().__init__()
        self.s2 = synapse(N_IN, N)

    def update(self, x: Any) -> Any:
        return jnp.concatenate([self.l1(self.s1(x)), self.l2(self.s2(x[..., ::-1]))], axis=-1)


class LinearInFront(Net):
    def __init__(self) -> None:
        super().__init__()
        weights = np.random.default_rng(0).normal(size=(N_IN, N_IN)) / 4
        self.front = brainstate.nn.Linear(N_IN, N_IN, w_init=weights.astype(np.float32), b_init=None)
        self.layer_pairs = [(self.s1, self.l1), (self.s2, self.l2)]

    def update(self, x: Any) -> Any:
        return super().update(jax.nn.relu(self.front(x)))


class LinearBetween(Net):
    """The weights of a brainstate Linear are drawn like those of any other synapse."""

    def __init__(self) -> None:
        super().__init__()
        self.s2 = brainstate.nn.Linear(N, N, w_init=np.zeros((N, N), np.float32))
        self.s1, self.l1, self.l2 = self.s1, self.l1, self.l2
        self.layer_pairs = [(self.s1, self.l1), (self.s2, self.l2)]

    def update(self, x: Any) -> Any:
        return self.l2(self.s2(self.l1(self.s1(x))) * u.mV)


class Feedback(Net):
    """The spikes of the last layer from the previous step are fed back to the input."""

    def update(self, x: Any) -> Any:
        return super().update(x + 0.5 * self.l2.spk.value[..., :N_IN])


KINDS = (
    Chain,
    Skip,
    SkipOfDrive,
    Scaled,
    Order,
    Mask,
    Bias,
    TwoBranches,
    LinearInFront,
    LinearBetween,
    Feedback,
)


@pytest.fixture(scope="module")
def x(poisson: Callable) -> np.ndarray:
    return poisson(200, (B, T, N_IN))


def rates_of(net: Any, x: np.ndarray, report: bh.init.FluctReport) -> None:
    """Check that the rates of a report equal those of the network, exactly in spikes."""
    names = [f"{found.name}.spk" for found in report.layers]
    _, seen = bh.rollout(net, np.swapaxes(x, 0, 1), record=names)
    for found, name in zip(report.layers, names, strict=True):
        wanted = np.asarray(seen[name].sum(axis=(0, 1)), float)
        steps = x.shape[0] * x.shape[1]
        np.testing.assert_allclose(np.asarray(found.rates.to(u.Hz).mantissa) * steps * 1e-3, wanted, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_step_starts_as_asked_and_is_reported_to_the_spike(
    kind: type, x: np.ndarray, fluct_run: Callable
) -> None:
    run = fluct_run(kind(), [x], families="any")
    assert not run.told("the target is missed")
    assert [found.index for found in run.report.layers] == list(range(1, len(run.report.layers) + 1))
    for found in run.report.layers:
        assert found.xi_median == pytest.approx(2.0, rel=0.05)
        assert found.dead <= 2
    rates_of(run.net, x, run.report)
    rates_of(run.net, x, bh.init.fluct_report(run.net, [x]))


def test_report_knows_each_neuron_of_a_net_with_gains(x: np.ndarray) -> None:
    net = Scaled()
    rng = np.random.default_rng(1)
    net.s1.weight.value = jnp.asarray(rng.normal(0.1, 0.6, (N_IN, N)), jnp.float32) * u.mV
    net.s2.weight.value = jnp.asarray(rng.normal(0, 0.05, (N, N)), jnp.float32) * u.mV
    report = bh.init.fluct_report(net, [x])
    rates_of(net, x, report)
    spikes = bh.rollout(net, np.swapaxes(x, 0, 1), record=("l1.spk",))[1]["l1.spk"]
    membrane = np.asarray(net.l2.subthreshold(net.s2(4.0 * spikes)).mantissa)[T // 2 :]
    np.testing.assert_allclose(report.layers[1].mean_membrane.mantissa, membrane.mean(axis=(0, 1)), rtol=0.1, atol=0.05)


def test_trained_body_stays_and_its_new_head_starts_on_what_the_body_brings(x: np.ndarray, fluct_run: Callable) -> None:
    net = Net()
    net.s1.weight.value = jnp.asarray(np.random.default_rng(2).normal(0.1, 0.5, (N_IN, N)), jnp.float32) * u.mV
    net.layer_pairs = [(net.s2, net.l2)]
    body = np.asarray(net.s1.weight.value.mantissa)
    run = fluct_run(net, [x], families="any")
    np.testing.assert_array_equal(net.s1.weight.value.mantissa, body)
    assert run.layer.xi_median == pytest.approx(2.0, rel=0.05)
    rates_of(net, x, run.report)


def test_rounding_is_part_of_what_a_layer_brings_the_next(fluct_run: Callable, poisson: Callable) -> None:
    zeros = np.zeros((N_IN, 30)), np.zeros((30, 8))
    net = brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(N_IN, 30, weight_init=zeros[0], weight_bits=3),
        bh.nn.H1v2Layer(30, tau=20 * u.ms),
        bh.nn.H1v2Synapse(30, 8, weight_init=zeros[1]),
        bh.nn.H1v2Layer(8, tau=20 * u.ms),
    )
    data = poisson(200, (4, 100, N_IN))
    run = fluct_run(net, [data], xi_target=1.0)
    rates_of(net, data, run.report)
    first, second = run.report.layers
    assert float(second.nu_in.mantissa) == pytest.approx(float(first.nu_out.mantissa), rel=1e-5)


class Shared(Net):
    def __init__(self) -> None:
        super().__init__(3)
        self.s3.weight = self.s2.weight

    def update(self, x: Any) -> Any:
        return self.l3(self.s3(super().update(x)))


class Twice(Net):
    def update(self, x: Any) -> Any:
        h = self.l1(self.s1(x))
        return self.l2(self.s2(h) + self.s2(h))


class Unreached(Net):
    def update(self, x: Any) -> Any:
        h = self.l1(self.s1(x))
        return self.s2(h).mantissa + self.l2(0.1 * h * u.mV)


class Uncalled(Net):
    def update(self, x: Any) -> Any:
        return self.l1(self.s1(x))


class InALoop(Net):
    def update(self, x: Any) -> Any:
        h = self.l1(self.s1(x))
        return self.l2(brainstate.transform.for_loop(lambda _: self.s2(h), jnp.arange(2))[0])


class Overdriven(Net):
    def update(self, x: Any) -> Any:
        return self.l2(self.s2(self.l1(self.s1(x))) + 0.2 * u.mV)


class Stateful(Net):
    def __init__(self) -> None:
        super().__init__()
        self.trace = brainstate.HiddenState(jnp.zeros((B, N)))

    def reset_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        self.trace.value = jnp.zeros((B, N))

    def update(self, x: Any) -> Any:
        drive = self.s2(self.l1(self.s1(x)))
        self.trace.value = 0.5 * self.trace.value + drive.mantissa
        return self.l2(self.trace.value * u.mV)


class WrittenFromOutside(Net):
    def update(self, x: Any) -> Any:
        h = self.l1(self.s1(x))
        self.l1.V.value = 0.5 * self.l1.V.value
        return self.l2(self.s2(h))


class Named(Net):
    def update(self, x: Any) -> Any:
        return self.l2(self.s2(x=self.l1(self.s1(x))))


class Remembers(Net):
    def __init__(self) -> None:
        super().__init__()
        self.last = None

    def update(self, x: Any) -> Any:
        h = self.l1(self.s1(x))
        self.last = h if self.last is None else h + 0.5 * self.last
        return self.l2(self.s2(self.last))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Remembers, "the step writes the plain attribute last of Remembers, .* Make it a brainstate.HiddenState"),
        (WrittenFromOutside, "the network changes the states of layer l1 outside of its update"),
        (
            Named,
            "the LIFSynapse, which is paired with layer l2, is called with several arguments or with keyword arguments",
        ),
        (Shared, "s[23] shares its weight with another synapse"),
        (Twice, r"the LIFSynapse, which is paired with layer l2, is called 2 times per time step \(expected once\)"),
        (Uncalled, "the LIFSynapse, which is paired with layer l2, is called 0 times"),
        (Unreached, "the LIFSynapse is paired with layer l2, but the input of this layer is not"),
        (InALoop, "update calls a module inside a loop or a compiled function"),
        (Overdriven, r"with all weights at zero, 100 neuron\(s\) or channel\(s\) of layer 2 are"),
        (Stateful, r"the network updates a state \(HiddenState\) between the LIFSynapse and layer l2"),
    ],
)
def test_what_cannot_start_right_is_refused_by_name_and_left_as_it_was(kind: type, message: str, x: np.ndarray) -> None:
    net = kind()
    before = {path: state.value for path, state in net.states().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=f"fluct_init: {message}"):
            bh.init.fluct_init(net, [x], families="any", verbose=False)
    assert all(state.value is before[path] for path, state in net.states().items())


def test_plain_attribute_that_a_refused_step_wrote_is_put_back(x: np.ndarray) -> None:
    net = Remembers()
    net.last = first = jnp.zeros((B, N))
    with pytest.raises(ValueError, match=r"fluct_report: the step writes the plain attribute last of Remembers"):
        bh.init.fluct_report(net, [x])
    assert net.last is first


class Dropped(Net):
    def __init__(self) -> None:
        super().__init__()
        self.drop = brainstate.nn.Dropout(0.8)

    def update(self, x: Any) -> Any:
        return self.l2(self.s2(self.drop(self.l1(self.s1(x)))))


def test_random_state_of_a_dropout_is_no_feedback(x: np.ndarray, fluct_run: Callable) -> None:
    with brainstate.environ.context(fit=True):
        run = fluct_run(Dropped(), [x], families="any")
    assert not run.told("feedback")
    assert [layer.xi_median for layer in run.report.layers] == pytest.approx([2.0, 2.0], rel=0.1)


class WeakSkip(Net):
    """The second layer gets a strong synapse from the first and a weak one from the input; the weak one is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.skip = synapse(N_IN, N)
        self.s2.weight.value = np.random.default_rng(3).normal(0, 0.1, (N, N)) * u.mV
        self.layer_pairs = [(self.s1, self.l1), (self.skip, self.l2)]

    def update(self, x: Any) -> Any:
        return self.l2(self.s2(self.l1(self.s1(x))) + 0.05 * self.skip(x))


def test_a_weak_synapse_beside_a_strong_one_is_still_measured() -> None:
    x = (np.random.default_rng(0).random((B, T, N_IN)) < 0.1).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = bh.fluct_init(WeakSkip(), [x], families="any", verbose=False, return_report=True)
    assert report.layers[1].xi_median == pytest.approx(2.0, rel=0.05)
