"""fluct_init and fluct_report followed the order of registration instead of the step of the network.

Gains, masks, biases, skips and another order of the calls gave rates that were not those of the network
(spikingjelly#611 at fluct_report).
"""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh

N = 16
X = (np.random.default_rng(0).random((8, 100, N)) < 0.2).astype(np.float32)
MASK = (np.arange(N) % 2).astype(np.float32)


class Net(brainstate.nn.Module):
    """Three pairs, registered in the order of their numbers."""

    def __init__(self) -> None:
        super().__init__()
        for i in (1, 2, 3):
            setattr(self, f"s{i}", bh.nn.LIFSynapse(N, N))
            setattr(self, f"l{i}", bh.nn.LIFLayer(N, tau=20 * u.ms))

    def first(self, z: Any) -> Any:
        return self.l1(self.s1(z))


class Gains(Net):
    def update(self, z: Any) -> Any:
        return self.l3(self.s3(4.0 * self.l2(0.5 * self.s2(self.first(3.0 * z)))))


class MaskAndBias(Net):
    def update(self, z: Any) -> Any:
        return self.l3(self.s3(self.l2(self.s2(MASK * self.first(z)) + 0.02 * u.mV)))


class Skip(Net):
    def update(self, z: Any) -> Any:
        first = self.first(z)
        return self.l3(self.s3(first + self.l2(self.s2(first))))


class Order(Net):
    def update(self, z: Any) -> Any:
        return self.l2(self.s2(self.l3(self.s3(self.first(z)))))


class Parallel(Net):
    def update(self, z: Any) -> Any:
        return self.l3(self.s3(self.first(z) + self.l2(self.s2(z))))


class ConvolutionInFront(Net):
    def __init__(self) -> None:
        super().__init__()
        self.conv = brainstate.nn.Conv1d((N, 1), 1, 3)

    def update(self, z: Any) -> Any:
        seen = abs(self.conv(z[..., None])[..., 0])
        return self.l3(self.s3(self.l2(self.s2(self.first(seen)))))


def rates_of(report: Any) -> list[float]:
    return [float(layer.nu_out.to(u.Hz).mantissa) for layer in report.layers]


def rates_of_the_steps(net: Any) -> list[float]:
    names = tuple(f"{layer}.spk" for layer in ("l1", "l2", "l3"))
    with brainstate.environ.context(dt=1.0 * u.ms):
        _, seen = bh.rollout(net, X.swapaxes(0, 1), record=names)
    return [1000 * float(seen[name].mean()) for name in names]


@pytest.mark.parametrize("kind", [Gains, MaskAndBias, Skip, Order, Parallel, ConvolutionInFront])
def test_the_numbers_are_those_of_the_step(kind: type) -> None:
    brainstate.random.seed(0)
    net = kind()
    with brainstate.environ.context(dt=1.0 * u.ms, fit=False):
        report = bh.fluct_init(net, [X], families="any", verbose=False, return_report=True)
    found = dict(zip((layer.name for layer in report.layers), rates_of(report), strict=True))
    assert [found[name] for name in ("l1", "l2", "l3")] == pytest.approx(rates_of_the_steps(net), rel=1e-5)
    assert min(found.values()) > 0
    for layer in report.layers:
        assert layer.xi_median == pytest.approx(2.0, rel=0.15)
