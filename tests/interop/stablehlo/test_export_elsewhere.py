"""Exported steps on IREE, where it is installed: no spike differs, one sample or many at once."""

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
from brainhw.interop.stablehlo import export_step

T, N_IN = 25, 12


def weights(n_in: int, n_out: int, mean: float) -> np.ndarray:
    return np.random.default_rng(0).normal(mean, 1.0, (n_in, n_out)) / np.sqrt(n_in)


def lif() -> brainstate.nn.Module:
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(N_IN, 16, weight_init=weights(N_IN, 16, 0.5) * u.mV),
        bh.nn.LIFLayer(16, tau=8 * u.ms),
        bh.nn.LIFSynapse(16, 5, weight_init=weights(16, 5, 0.7) * u.mV),
        bh.nn.LIFLayer(5, tau=8 * u.ms),
    )


def h1(family: str) -> brainstate.nn.Module:
    synapse, layer = getattr(bh.nn, f"{family}Synapse"), getattr(bh.nn, f"{family}Layer")
    return brainstate.nn.Sequential(
        synapse(N_IN, 16, weight_init=np.clip(weights(N_IN, 16, 1.5), -0.9, 0.9), weight_bits="chip"),
        layer(16, tau=20 * u.ms, topology="RC", recurrent_init=0.3 * weights(16, 16, 0.0)),
        synapse(16, 5, weight_init=np.clip(weights(16, 5, 3.0), -0.9, 0.9), weight_bits="chip"),
        layer(5, tau=20 * u.ms),
    )


NETS: dict[str, tuple[Callable[[], brainstate.nn.Module], float]] = {
    "LIF": (lif, 2.0),
    "H1v1": (lambda: h1("H1v1"), 12.0),
    "H1v2": (lambda: h1("H1v2"), 20.0),
}


def data(kind: str, batch: int) -> np.ndarray:
    return (NETS[kind][1] * np.random.default_rng(batch).random((T, batch, N_IN))).astype(np.float32)


@pytest.mark.parametrize("kind", NETS)
def test_spikes_are_choices_and_not_comparisons_that_become_numbers(kind: str) -> None:
    # IREE 3.13 cannot compile a product of a vector of those.
    text = export_step(NETS[kind][0](), data(kind, 1)[0]).as_text()
    assert "stablehlo.select" in text
    assert not [line for line in text.splitlines() if "stablehlo.convert" in line and "xi1>) ->" in line]


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("kind", NETS)
def test_no_spike_differs_on_iree(kind: str, batch: int) -> None:
    compiler = pytest.importorskip("iree.compiler")
    runtime = pytest.importorskip("iree.runtime")
    net, xs = NETS[kind][0](), data(kind, batch)
    expected = np.asarray(bh.rollout(net, jnp.asarray(xs))[0])
    assert expected.mean() > 0.02
    program = export_step(net, xs[0])
    compiled = compiler.compile_str(program.as_text(), target_backends=["llvm-cpu"], input_type="stablehlo")
    context = runtime.SystemContext(config=runtime.Config("local-sync"))
    context.add_vm_module(runtime.VmModule.copy_buffer(context.instance, compiled))
    main = context.modules.jit_pure["main"]
    state: list[Any] = [np.zeros(port.shape, port.dtype) for port in program.arguments[:-1]]
    assert [port[:2] for port in program.results[:-1]] == [port[:2] for port in program.arguments[:-1]]
    differing = 0
    for x, y in zip(xs, expected, strict=True):
        *state, found = (np.asarray(one) for one in main(*state, x))
        differing += int(np.sum(found != y))
    assert differing == 0


def test_the_surrogate_is_the_same_function_as_before() -> None:
    spike = bh.surrogate.fast_sigmoid()
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        x = jnp.asarray([-1.0, -0.0, 0.0, 1e-7, 2.0], dtype)
        assert spike(x).dtype == dtype
        np.testing.assert_array_equal(np.asarray(spike(x), np.float32), [0, 1, 1, 1, 1])
    # NaN is no spike in a trace, where it cannot be refused.
    np.testing.assert_array_equal(jax.jit(spike)(jnp.asarray([np.nan, 1.0])), [0, 1])
