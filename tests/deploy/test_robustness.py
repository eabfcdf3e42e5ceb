"""Many chips at once: each gives what it gives alone, to the bit, and the report says how they spread."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from types import SimpleNamespace

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deploy_nets import lively, strong

import brainhw as bh

XS = lively(batch=4)


def score(net: brainstate.nn.Module) -> jax.Array:
    """Return a number that shows nearly any change of any spike, and that floats hold exactly."""
    spikes, seen = bh.rollout(net, XS, record=("layer0.spk",))
    step = jnp.arange(1, len(spikes) + 1)[:, None, None] ** 2
    return (spikes * step).sum() + (seen["layer0.spk"] * step).sum()


@pytest.fixture(scope="module", params=["H1v1", "H1v2"])
def case(request: pytest.FixtureRequest):
    with brainstate.environ.context(dt=1.0 * u.ms):
        net = strong(request.param)
        bh.deploy.set_weight_bits(net, "chip")
        return net, bh.deploy.robustness(net, score, 7, key=3, chunk=3, pbar=False)


def alone(net: brainstate.nn.Module, keys: jax.Array) -> np.ndarray:
    @brainstate.transform.jit
    def one(key: jax.Array) -> jax.Array:
        bh.sample_chip(net, key)
        return score(net)

    try:
        return np.array([one(key) for key in keys])
    finally:
        bh.nominal_chip(net)


@pytest.mark.slow
def test_every_chip_gives_what_it_gives_alone_to_the_bit(case) -> None:
    net, report = case
    assert report.n_chips == 7
    assert len(set(report.scores.tolist())) > 3
    np.testing.assert_array_equal(report.scores, alone(net, report.keys))
    assert report.nominal == float(brainstate.transform.jit(lambda: score(net))())


@pytest.mark.slow
def test_how_chips_are_bundled_does_not_matter(case) -> None:
    net, report = case
    for options in ({"chunk": 7}, {"max_memory": 1}):
        again = bh.deploy.robustness(net, score, 7, key=3, pbar=False, **options)
        np.testing.assert_array_equal(again.scores, report.scores)
    named = bh.deploy.robustness(net, score, key=report.keys[jnp.array([4, 0])], pbar=False)
    np.testing.assert_array_equal(named.scores, report.scores[[4, 0]])


@pytest.mark.slow
def test_switched_off_mismatch_makes_every_chip_nominal(case) -> None:
    net, _ = case
    off = bh.deploy.robustness(net, score, 3, key=0, synapse=False, leak=False, threshold=False, pbar=False)
    assert set(off.scores.tolist()) == {off.nominal}
    wide = bh.deploy.robustness(net, score, 3, key=0, leak=0.5, pbar=False)
    assert wide.std > 0


@pytest.mark.slow
def test_the_net_stays_as_it_was_and_its_own_chip_in_place(case) -> None:
    net, report = case
    bh.sample_chip(net, 11)
    bh.prepare_net(net, 4)
    before = {path: np.asarray(u.get_mantissa(state.value)) for path, state in net.states().items()}
    again = bh.deploy.robustness(net, score, 7, key=3, chunk=3, pbar=False)
    np.testing.assert_array_equal(again.scores, report.scores)
    assert again.nominal == report.nominal
    for path, state in net.states().items():
        np.testing.assert_array_equal(u.get_mantissa(state.value), before[path])
    net(XS[0])
    bh.nominal_chip(net)


def test_the_numbers_of_the_report() -> None:
    report = bh.deploy.RobustnessReport(np.array([0.9, 0.8, 0.95, 0.85]), jax.random.split(jax.random.key(0), 4), 0.93)
    assert report.mean == pytest.approx(0.875)
    assert report.std == pytest.approx(np.std([0.9, 0.8, 0.95, 0.85], ddof=1))
    assert report.worst == 1
    assert report.quantile(0.0) == 0.8
    assert report.quantile(0.5) == pytest.approx(0.875)
    assert report.yield_above(0.9) == 0.5
    for words in ("nominal chip", "mean of 4 chips", "5 % quantile", "worst (chip 1)"):
        assert words in str(report)
    with pytest.raises(ValueError, match="q must be from 0 to 1"):
        report.quantile(5)
    assert bh.deploy.RobustnessReport(report.scores[:1], report.keys[:1], 0.9).std == 0.0


def test_bad_calls_are_named() -> None:
    net = strong("H1v1")
    with pytest.raises(TypeError, match="robustness: evaluate must be a function"):
        bh.deploy.robustness(net, 0.9, key=0)
    with pytest.raises(TypeError, match=r"JAX operations only.*without float"):
        bh.deploy.robustness(net, lambda net: float(score(net)), 2, key=0, pbar=False)
    with pytest.raises(TypeError, match="evaluate must return a scalar"):
        bh.deploy.robustness(net, lambda net: bh.rollout(net, XS)[0], 2, key=0, pbar=False)
    with pytest.raises(ValueError, match="n_chips must be at least 1"):
        bh.deploy.robustness(net, score, 0, key=0)
    with pytest.raises(TypeError, match="key must be an integer"):
        bh.deploy.robustness(net, score, 2, key=None)
    with pytest.raises(ValueError, match="key must be a PRNG key or a non-empty list of PRNG keys; got an empty list"):
        bh.deploy.robustness(net, score, key=[])
    with pytest.raises(ValueError, match="inside the evaluate function of robustness"):
        bh.deploy.robustness(net, lambda net: bh.rollout(net, XS, key=3)[0].sum(), 2, key=0, pbar=False)
    with pytest.raises(TypeError, match=r"robustness: delay is not a kind of mismatch of the family H1v1 .*'leak'"):
        bh.deploy.robustness(net, score, 2, key=0, delay=0.1)
    with pytest.raises(ValueError, match="NaN or infinity for 2 of 2 chips"):
        bh.deploy.robustness(net, lambda net: score(net) * jnp.nan, 2, key=0, pbar=False)
    with pytest.raises(TypeError, match="evaluate must return a scalar"):
        bh.deploy.robustness(net, lambda net: score(net) * 1j, 2, key=0, pbar=False)
    with pytest.raises(ValueError, match="devices must contain at least one device; got none"):
        bh.deploy.robustness(net, score, 2, key=0, devices=[], pbar=False)
    elsewhere = SimpleNamespace(process_index=1)
    with pytest.raises(
        ValueError, match=r"of process 1, but this is process 0\. In each process, pass jax.local_devices"
    ):
        bh.deploy.robustness(net, score, 2, key=0, devices=[elsewhere], pbar=False)
    with pytest.raises(RuntimeError, match="outside of jit"):
        brainstate.transform.jit(lambda: bh.deploy.robustness(net, score, 2, key=0, pbar=False).mean)()
    with pytest.raises(ValueError, match="no module on a chip"):
        bh.deploy.robustness(bh.nn.LIFSynapse(2, 2), score, 2, key=0, pbar=False)


@pytest.mark.slow
def test_chips_spread_over_devices_give_the_same() -> None:
    script = textwrap.dedent("""
        import os
        os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
        import brainstate, brainunit as u, jax, numpy as np
        import brainhw as bh
        from test_robustness import score
        from deploy_nets import strong
        brainstate.environ.set(dt=1.0 * u.ms)
        net = strong("H1v1")
        assert jax.device_count() == 2
        one = bh.deploy.robustness(net, score, 6, key=1, chunk=4, pbar=False)
        two = bh.deploy.robustness(net, score, 6, key=1, chunk=3, devices=jax.devices(), pbar=False)
        np.testing.assert_array_equal(one.scores, two.scores)
        assert one.std > 0
    """)
    here = __file__.rsplit("/", 1)[0]
    code = f"import sys; sys.path[:0] = [{here!r}, {here!r} + '/../support']\n{script}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
