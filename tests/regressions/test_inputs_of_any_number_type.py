"""A bfloat16 or float16 net with float32 inputs, and big-endian recordings, ended in raw errors of JAX.

Complex weights lost their imaginary part in silence. Seen in ml_genn issue 86 and tonic issue 181; field case 14.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

SPIKES = np.random.default_rng(0).random((6, 2, 6)) < 0.5
TAU = 20.0 * u.ms


def net_of(kind: str) -> Any:
    layers = {
        "LIF": lambda: [bh.nn.LIFSynapse(6, 4), bh.nn.LIFLayer(4, tau=TAU, topology="RC")],
        "chip": lambda: [bh.nn.H1v2Synapse(6, 4), bh.nn.H1v2Layer(4, tau=TAU)],
        "current": lambda: [bh.nn.LIFSynapse(6, 4), bh.nn.CubaLIFLayer(4)],
        "fractional": lambda: [bh.nn.LIFSynapse(6, 4), bh.nn.FractionalLIFLayer(4)],
    }[kind]()
    return brainstate.nn.Sequential(*layers, bh.nn.LeakyReadout(4, 2, tau=TAU))


def streamed(net: Any, xs: Any) -> Any:
    step = bh.stream(net, 2)
    return np.stack([np.asarray(step(x), np.float32) for x in xs])


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "rollout": lambda net, xs: bh.rollout(net, xs)[0],
    "steps": lambda net, xs: bh.rollout(net, xs, layerwise=False)[0],
    "stream": streamed,
}


# Every pair costs a compilation, so that not all are crossed.
@pytest.mark.parametrize(
    ("kind", "precision", "way", "dtypes"),
    [
        ("LIF", "bf16", "rollout", (bool, ">i2", np.float16, np.float32, ">f4")),
        ("LIF", "bf16", "steps", (np.float32,)),
        ("LIF", "bf16", "stream", (np.float32, ">f4")),
        ("LIF", 32, "rollout", (jnp.bfloat16, ">f4")),
        ("LIF", 32, "stream", (">f4",)),
        ("chip", "bf16", "rollout", (np.float32,)),
        ("chip", 16, "steps", (np.float32,)),
        ("current", "bf16", "rollout", (np.float32, np.float16)),
        ("fractional", "bf16", "rollout", (np.float32,)),
        ("fractional", 16, "steps", (np.float32,)),
    ],
)
def test_inputs_of_any_number_type_give_the_same(kind: str, precision: Any, way: str, dtypes: Any) -> None:
    with brainstate.environ.context(precision=precision):
        net, run = net_of(kind), WAYS[way]
        right = np.asarray(run(net, jnp.asarray(SPIKES, brainstate.environ.dftype())), np.float32)
        for dtype in dtypes:
            got = run(net, SPIKES.astype(dtype))
            np.testing.assert_array_equal(np.asarray(got, np.float32), right, err_msg=f"{dtype}")


def test_float64_inputs_with_x64_beside_a_float32_net() -> None:
    with jax.enable_x64(True), brainstate.environ.context(precision=32):
        for kind, way in (("LIF", "rollout"), ("chip", "stream"), ("current", "rollout"), ("fractional", "steps")):
            net = net_of(kind)
            right = np.asarray(bh.rollout(net, SPIKES.astype(np.float32))[0])
            got = np.asarray(WAYS[way](net, SPIKES.astype(np.float64)))
            np.testing.assert_allclose(got, right, rtol=1e-5, err_msg=f"{way} {kind}")
            assert got.dtype == np.float32


def test_a_drive_of_another_byte_order() -> None:
    layer = bh.nn.LIFLayer(6, tau=TAU)
    right = np.asarray(bh.rollout(layer, SPIKES * 1.0 * u.mV)[0])
    for xs in (SPIKES.astype(">f4") * u.mV, SPIKES.astype(">i2") * u.mV):
        np.testing.assert_array_equal(bh.rollout(layer, xs)[0], right)
        bh.prepare_net(layer, 2)
        np.testing.assert_array_equal(np.stack([layer(x) for x in xs]), right)


class Tensor:
    """A tensor of torch, as far as readers see it: NumPy cannot take it in bfloat16."""

    def __init__(self, numbers: np.ndarray, dtype: str) -> None:
        self._numbers, self.dtype, self.shape = numbers, dtype, numbers.shape

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def float(self) -> Tensor:
        return Tensor(self._numbers.astype(np.float32), "torch.float32")

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self._numbers

    def numpy(self) -> np.ndarray:
        return self.__array__()


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16"])
def test_tensors_of_torch_are_read(dtype: str) -> None:
    net = net_of("LIF")
    right = np.asarray(bh.rollout(net, SPIKES.astype(np.float32))[0])
    np.testing.assert_array_equal(bh.rollout(net, Tensor(SPIKES.astype(np.float32), dtype))[0], right)


REFUSED = {
    "complex": SPIKES * (1 + 1j),
    "complex, JAX": jnp.asarray(SPIKES) * (1 + 1j),
    "objects": SPIKES.astype(object),
    "dates": np.zeros((6, 2, 6), "M8[s]"),
    "text": np.full((6, 2, 6), "1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_real_number_is_refused_by_name(name: str) -> None:
    net = net_of("LIF")
    with pytest.raises(TypeError, match=r"^rollout: xs must be (real|an array of numbers); got "):
        bh.rollout(net, REFUSED[name])
    with pytest.raises(TypeError, match=r"^stream: the input must be (real|an array of numbers); got "):
        bh.stream(net, 2)(REFUSED[name][0])


def test_complex_inputs_are_refused_inside_jit_too() -> None:
    net = net_of("chip")
    with pytest.raises(TypeError, match=r"^rollout: xs must be real; got numbers of dtype complex64"):
        brainstate.transform.jit(lambda xs: bh.rollout(net, xs)[0])(jnp.asarray(SPIKES) * 1j)


@pytest.mark.parametrize("make", [
    lambda w: bh.nn.LIFSynapse(3, 3, weight_init=w * u.mV),
    lambda w: bh.nn.LIFSynapse(3, 3, weight_init=lambda _: w * u.mV),
    lambda w: bh.nn.H1v2Synapse(3, 3, weight_init=w),
    lambda w: bh.nn.LIFLayer(3, tau=TAU, topology="RC", recurrent_init=w * u.mV),
    lambda w: bh.nn.CubaLIFLayer(3, w_rec=w * u.mV),
    lambda w: bh.nn.LeakyReadout(3, 3, tau=TAU, weight_init=w),
    lambda w: bh.nn.LIFLayer(3, tau=w[0] * u.ms),
])  # fmt: skip
def test_complex_weights_are_refused(make: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"^\w+: (weight_init|recurrent_init|w_rec|tau) must be real; got "):
        make(np.ones((3, 3)) * (1 + 2j))


def test_complex_weights_of_other_packages_are_refused_by_path() -> None:
    net = brainstate.nn.Sequential(brainstate.nn.Linear(6, 4), lambda x: x * u.mV, bh.nn.LIFLayer(4, tau=TAU))
    net.layers[0].weight.value = {name: w * (1 + 1j) for name, w in net.layers[0].weight.value.items()}
    with pytest.raises(TypeError, match=r"^prepare_net: the parameter layers.0.weight must be real; got .* complex64"):
        bh.rollout(net, SPIKES)
