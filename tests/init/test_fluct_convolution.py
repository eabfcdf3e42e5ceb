"""fluct_init of convolutions: weights per output channel, pooling, images; training of a small net."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

SIDE, T, B = 12, 12, 16
V_TH = 10 * u.mV  # the default weights of a convolution do not depend on it


class ConvNet(brainstate.nn.Module):
    """12x12 images, 5 channels of 3x3, max pooling by 2, 8 channels of 3x3, max pooling by 2, 4 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = brainstate.nn.Conv2d((SIDE, SIDE, 1), 5, 3)
        self.pool = brainstate.nn.MaxPool2d(2, 2, channel_axis=-1)
        self.l1 = bh.nn.LIFLayer(6 * 6 * 5, tau=20 * u.ms, V_th=V_TH)
        self.c2 = brainstate.nn.Conv2d((6, 6, 5), 8, 3)
        self.l2 = bh.nn.LIFLayer(3 * 3 * 8, tau=20 * u.ms, V_th=V_TH)
        self.s3 = bh.nn.LIFSynapse(72, 4, weight_init=np.zeros((72, 4)) * u.mV)
        self.l3 = bh.nn.LIFLayer(4, tau=20 * u.ms, V_th=V_TH)

    def update(self, x: Any) -> Any:
        n = x.shape[0]
        h = self.l1(self.pool(self.c1(x)).reshape(n, -1) * u.mV)
        h = self.l2(self.pool(self.c2(h.reshape(n, 6, 6, 5))).reshape(n, -1) * u.mV)
        return self.l3(self.s3(h))


def images(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return spikes ``[B, T, 12, 12, 1]`` of bars at one of four heights, and which height."""
    rng = np.random.default_rng(seed)
    label = np.arange(B) % 4
    rate = np.zeros((B, SIDE, SIDE, 1))
    for one, kind in zip(rate, label, strict=True):
        one[3 * kind : 3 * kind + 2] = 0.12
    return (rng.random((B, T, SIDE, SIDE, 1)) < rate[:, None]).astype(np.float32), label


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    return images()


@pytest.fixture(scope="module")
def run(data: tuple[np.ndarray, np.ndarray], fluct_run: Callable) -> Any:
    return fluct_run(ConvNet(), [data[0]], families="any")


@pytest.mark.slow
def test_median_neuron_of_every_channel_meets_the_target(run: Any) -> None:
    assert [found.n_neurons for found in run.report.layers] == [180, 72, 4]
    for found, channels in zip(run.report.layers[:2], (5, 8), strict=True):
        for of_channel in found.xi.reshape(-1, channels).T:
            assert np.median(of_channel[np.isfinite(of_channel)]) == pytest.approx(2.0, rel=0.05)
        assert found.xi_median == pytest.approx(2.0, rel=0.05)
        assert found.dead == np.sum(found.rates.mantissa == 0)
        # The largest of four membranes is above zero on average.
        assert np.mean(found.mean_membrane.mantissa) > 0
    assert not run.told("channel(s) never spike")


class TupleNet(brainstate.nn.Module):
    """A convolution with the given options, max pooling by 2, a layer of tuple size."""

    def __init__(self, stride: int, padding: str, bias: float) -> None:
        super().__init__()
        side, channels = SIDE // stride // 2 if padding == "SAME" else (SIDE - 2) // stride // 2, 12
        self.c1 = brainstate.nn.Conv2d(
            (SIDE, SIDE, 1),
            channels,
            3,
            stride=stride,
            padding=padding,
            b_init=braintools.init.Constant(bias) if bias else None,
        )
        self.pool = brainstate.nn.MaxPool2d(2, 2, channel_axis=-1)
        self.l1 = bh.nn.LIFLayer((side, side, channels), tau=5 * u.ms, V_th=V_TH)

    def update(self, x: Any) -> Any:
        return self.l1(self.pool(self.c1(x)) * u.mV)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stride", "padding", "bias"), [(1, "SAME", 0.0), (2, "SAME", 0.0), (1, "VALID", 0.0), (1, "SAME", 0.1)]
)
def test_median_neuron_meets_the_target_with_padding_stride_bias_and_an_empty_border(
    stride: int, padding: str, bias: float, fluct_run: Callable
) -> None:
    x = (np.random.default_rng(3).random((8, 40, SIDE, SIDE, 1)) < 0.1).astype(np.float32)
    x[:, :, :4] = 0  # two whole windows, in which neurons get no input at all
    run = fluct_run(TupleNet(stride, padding, bias), [x], families="any")
    assert run.layer.n_neurons >= 100
    assert not np.isfinite(run.layer.xi).all()
    assert run.layer.xi_median == pytest.approx(2.0, rel=0.05)
    assert bh.init.fluct_report(run.net, [x]).layers[0].xi_median == pytest.approx(2.0, rel=0.05)
    # Compute the report in another way: from the net's own drives, one neuron at a time.
    bh.prepare_net(run.net, 8)
    xs = jnp.asarray(np.swapaxes(x, 0, 1))
    drive = brainstate.transform.for_loop(lambda x: run.net.pool(run.net.c1(x)) * u.mV, xs)
    membrane = np.asarray(run.net.l1.subthreshold(drive).mantissa).reshape(40, 8, -1)[20:]
    moving = np.isfinite(run.layer.xi)
    xi = (10 - membrane.mean(axis=(0, 1))) / np.maximum(membrane.std(axis=(0, 1)), 1e-6)
    assert np.median(xi[moving]) == pytest.approx(2.0, rel=0.1)


def test_rates_of_the_report_are_those_of_the_net(run: Any, data: tuple[np.ndarray, np.ndarray]) -> None:
    bh.prepare_net(run.net, B)
    spikes = brainstate.transform.for_loop(run.net, jnp.asarray(np.swapaxes(data[0], 0, 1)))
    np.testing.assert_allclose(
        run.report.layers[2].rates.to(u.Hz).mantissa, 1e3 * np.asarray(spikes).mean(axis=(0, 1)), rtol=1e-5
    )


def test_images_that_the_net_does_not_take_are_refused() -> None:
    with pytest.raises((ValueError, TypeError)):
        bh.init.fluct_init(ConvNet(), [np.ones((2, 5, 12), np.float32)], families="any", verbose=False)


def losses(net: Any, x: np.ndarray, label: np.ndarray, steps: int = 20, lr: float = 0.2) -> list[float]:
    weights = net.states(brainstate.ParamState)
    optimizer = braintools.optim.Adam(lr=lr)
    optimizer.register_trainable_weights(weights)
    xs = jnp.asarray(np.swapaxes(x, 0, 1))

    def loss() -> Any:
        bh.prepare_net(net, B)
        counts = brainstate.transform.for_loop(net, xs).sum(axis=0)
        return braintools.metric.softmax_cross_entropy_with_integer_labels(counts, label).mean()

    @brainstate.transform.jit
    def step() -> Any:
        gradients, value = brainstate.transform.grad(loss, weights, return_value=True)()
        optimizer.update(gradients)
        return value

    return [float(step()) for _ in range(steps)]


@pytest.mark.slow
def test_net_trains_from_it_where_default_weights_stay_at_chance(data: tuple[np.ndarray, np.ndarray]) -> None:
    chance = np.log(4)
    default = ConvNet()
    default.s3.weight.value = bh.nn.LIFSynapse(72, 4).weight.value
    assert min(losses(default, *data)) > 0.95 * chance
    started = ConvNet()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short and sparse data cannot distinguish silent from dead neurons
        bh.init.fluct_init(started, [data[0]], xi_target=1.0, families="any", verbose=False)
    assert losses(started, *data)[-1] < 0.8 * chance
