"""A chip in place was lost by `export_bundle` without a word: 307 spikes for 292 after loading.

Pinned arrays of any shape and sign were taken, and `sample_chip(leak=False)` threw measured time constants away.
"""

from __future__ import annotations

import pathlib

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

XS = jnp.asarray((np.random.default_rng(0).random((40, 3, 4)) < 0.5), jnp.float32)


def net_of(kind: str = "H1v1", topology: str = "FF") -> brainstate.nn.Sequential:
    synapse, layer = {
        "H1v1": (bh.nn.H1v1Synapse, bh.nn.H1v1Layer),
        "H1v2": (bh.nn.H1v2Synapse, bh.nn.H1v2Layer),
    }[kind]
    recurrent = {"recurrent_init": jnp.full((5, 5), 0.2), "weight_bits": "chip"} if topology == "RC" else {}
    weights = jnp.linspace(0.2, 0.85, 20).reshape(4, 5)
    net = brainstate.nn.Sequential(
        synapse(4, 5, weight_init=weights, weight_bits="chip"),
        layer(5, tau=20 * u.ms, topology=topology, **recurrent),
    )
    return net


@pytest.mark.parametrize(("kind", "topology"), [("H1v1", "RC"), ("H1v2", "FF")])
def test_a_sampled_chip_comes_along(kind: str, topology: str, tmp_path: pathlib.Path) -> None:
    net = net_of(kind, topology)
    nominal = np.asarray(bh.rollout(net, XS)[0])
    bh.sample_chip(net, 3, leak=0.5)
    sampled = np.asarray(bh.rollout(net, XS)[0])
    assert (sampled != nominal).any()
    bh.deploy.export_bundle(net, tmp_path / "net.bundle")
    loaded = bh.deploy.load_bundle(tmp_path / "net.bundle")
    np.testing.assert_array_equal(bh.rollout(loaded, XS)[0], sampled)
    bh.deploy.export_bundle(loaded, tmp_path / "again.bundle")
    assert (tmp_path / "again.bundle").read_bytes() == (tmp_path / "net.bundle").read_bytes()
    bh.nominal_chip(loaded)
    np.testing.assert_array_equal(bh.rollout(loaded, XS)[0], nominal)
    bh.deploy.export_bundle(loaded, tmp_path / "nominal.bundle")
    assert b"in_place" not in (tmp_path / "nominal.bundle").read_bytes()


def test_measured_values_come_along_in_any_unit(tmp_path: pathlib.Path) -> None:
    net = net_of()
    net.layers[1].pinned_tau.value = jnp.linspace(0.01, 0.03, 5) * u.second
    right = np.asarray(bh.rollout(net, XS)[0])
    bh.deploy.export_bundle(net, tmp_path / "net.bundle")
    loaded = bh.deploy.load_bundle(tmp_path / "net.bundle")
    np.testing.assert_array_equal(bh.rollout(loaded, XS)[0], right)
    np.testing.assert_allclose(loaded.layers[1].pinned_tau.value.to(u.ms).mantissa, np.linspace(10, 30, 5), rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (jnp.full(4, 20.0) * u.ms, ValueError, r"H1v1Layer\.pinned_tau: .*\(5,\); got shape \(4,\)"),
        (jnp.full(1, 20.0) * u.ms, ValueError, r"H1v1Layer\.pinned_tau: .*\(5,\); got shape \(1,\)"),
        (-jnp.full(5, 20.0) * u.ms, ValueError, r"pinned_tau.* greater than zero; got -20 ms at index \(0,\)"),
        (jnp.full(5, jnp.nan) * u.ms, ValueError, r"pinned_tau.* greater than zero; got nan ms"),
        (jnp.full(5, 20.0) * u.mV, TypeError, r"pinned_tau.* ms; got .*\. Assign a value in range\.$"),
        (jnp.full(5, 20.0), TypeError, r"pinned_tau.* ms; got .*\. Assign a value in range\.$"),
    ],
)
def test_pinned_values_are_checked(value: object, error: type[Exception], match: str, tmp_path: pathlib.Path) -> None:
    net = net_of()
    net.layers[1].pinned_tau.value = value
    for call in (bh.prepare_net, lambda net: bh.rollout(net, XS)):
        with pytest.raises(error, match=match):
            call(net)
    with pytest.raises(error, match=r"layers\.1\.pinned_tau"):
        bh.deploy.export_bundle(net, tmp_path / "net.bundle")
    assert not list(tmp_path.iterdir())


def test_a_pinned_mismatch_of_another_shape_is_refused() -> None:
    net = net_of()
    net.layers[0].effective.mismatch.value = jnp.zeros((4, 1)) * u.fcoulomb
    with pytest.raises(ValueError, match=r"H1v1Synapse\.mismatch: .*\(4, 5\); got shape \(4, 1\)"):
        bh.prepare_net(net)
    # The remedy that the error names works.
    bh.nominal_chip(net)
    bh.prepare_net(net)
    assert net.layers[0].effective.mismatch.value.shape == (4, 5)


def test_a_map_over_chips_leaves_the_shape_of_a_chip_alone() -> None:
    # `vmap` of brainstate leaves the charges of all chips in their state, with an axis in front.
    net = net_of()
    charge = net.layers[0].effective.charge
    bh.prepare_net(net)
    right, sampled = np.asarray(bh.rollout(net, XS)[0]), np.asarray(bh.rollout(net, XS, key=3)[0])
    for run, spikes in ({}, right), ({"key": 3}, sampled):
        charge.value = u.math.stack([charge.value] * 3)
        np.testing.assert_array_equal(bh.rollout(net, XS, **run)[0], spikes)
        assert charge.value.shape == (4, 5)


def test_a_kind_that_is_switched_off_stays_as_it_is_in_place() -> None:
    net = net_of("H1v2")
    layer = net.layers[1]
    measured = jnp.linspace(10.0, 30.0, 5) * u.ms
    layer.pinned_tau.value = measured
    bh.sample_chip(net, 3, leak=False)
    np.testing.assert_array_equal(layer.pinned_tau.value.mantissa, measured.mantissa)
    assert np.std(layer.pinned_V_th.value.mantissa) > 0
    threshold = np.asarray(layer.pinned_V_th.value.mantissa)
    bh.sample_chip(net, 4, threshold=False)
    np.testing.assert_array_equal(layer.pinned_V_th.value.mantissa, threshold)
    assert (layer.pinned_tau.value.mantissa != measured.mantissa).any()
    bh.sample_chip(net, 4, leak=0.0)
    np.testing.assert_array_equal(layer.pinned_tau.value.mantissa, 20.0)


def test_robustness_shows_the_net_in_hand() -> None:
    net = net_of()

    def rate(net: brainstate.nn.Module) -> object:
        return bh.rollout(net, XS)[0].mean()

    assert bh.deploy.robustness(net, rate, 2, key=0, pbar=False).in_place is None
    bh.sample_chip(net, 3, leak=0.5)
    right = float(brainstate.transform.jit(lambda: rate(net))())
    report = bh.deploy.robustness(net, rate, 2, key=0, pbar=False)
    assert report.in_place == right != report.nominal
    assert f"current chip {right:.4f}" in " ".join(str(report).split())
    assert float(brainstate.transform.jit(lambda: rate(net))()) == right
