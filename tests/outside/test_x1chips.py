"""A chip family outside brainhw: everything that H1 nets can do, with no line of brainhw changed."""

from __future__ import annotations

import os
import pathlib
import pickle
import re
import subprocess
import sys
import textwrap

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import x1chips
from x1chips import X1, X1_CHIP, Levels, X1Layer, X1Synapse

import brainhw as bh
from brainhw.deploy.rules import RULES

HERE = pathlib.Path(__file__).parent
N_IN, T, B = 12, 60, 3


def on_levels(shape: tuple[int, ...], seed: int, *, positive: float = 0.75) -> np.ndarray:
    rng = np.random.default_rng(seed)
    signs = np.where(rng.random(shape) < positive, 1, -1)
    return (signs * rng.choice(X1_CHIP.levels, shape)).astype(np.float32)


def net_of(topology: str = "RC", *, n_in: int = N_IN, **options) -> brainstate.nn.Sequential:
    recurrent = {"recurrent_init": on_levels((10, 10), 3), "weight_bits": "chip"} if topology == "RC" else {}
    return brainstate.nn.Sequential(
        X1Synapse(n_in, 10, weight_init=on_levels((n_in, 10), 1), weight_bits="chip", **options),
        X1Layer(10, tau=20 * u.ms, topology=topology, **recurrent, **options),
        X1Synapse(10, 4, weight_init=on_levels((10, 4), 2), weight_bits="chip", **options),
        X1Layer(4, tau=[5, 10, 10, 20] * u.ms, **options),
    )


@pytest.fixture
def xs() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).random((T, B, N_IN)) * 1.5, jnp.float32)


def stepwise(net: brainstate.nn.Module, xs: jax.Array, loop=brainstate.transform.for_loop) -> jax.Array:
    def run(xs: jax.Array) -> jax.Array:
        bh.prepare_net(net, B)
        return loop(net, xs)

    return brainstate.transform.jit(run)(xs)


def test_neurons_reset_above_zero_and_wait() -> None:
    layer = X1Layer(1, tau=20 * u.ms)
    bh.prepare_net(layer)
    seen = []
    for _ in range(8):
        spk = layer(jnp.array([7.0]) * u.fcoulomb)
        seen.append((float(spk[0]), round(float(layer.V.value.mantissa[0]), 3)))
    at = [step for step, (spk, _) in enumerate(seen) if spk]
    assert len(at) == 2
    assert at[1] - at[0] > X1_CHIP.refractory
    for step in range(at[0], at[0] + X1_CHIP.refractory + 1):
        assert seen[step][1] == X1_CHIP.V_reset.mantissa


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["FF", "RC"])
def test_every_way_to_run_gives_the_same_spikes(topology: str, xs: jax.Array) -> None:
    net = net_of(topology)
    expected = np.asarray(stepwise(net, xs))
    assert 10 < expected.sum() < expected.size / 2
    np.testing.assert_array_equal(bh.rollout(net, xs)[0], expected)
    np.testing.assert_array_equal(bh.rollout(net, xs, layerwise=False)[0], expected)
    np.testing.assert_array_equal(stepwise(net, xs, brainstate.transform.checkpointed_for_loop), expected)
    stream = bh.stream(net, batch_size=B)
    np.testing.assert_array_equal(np.stack([np.asarray(stream(x)) for x in xs]), expected)


def test_gradients_reach_the_weights_either_way(xs: jax.Array) -> None:
    found = []
    for layerwise in (True, False):
        net = net_of()
        loss = lambda net=net, layerwise=layerwise: bh.rollout(net, xs, layerwise=layerwise)[0].mean()  # noqa: E731
        found.append(brainstate.transform.grad(loss, net.states(brainstate.ParamState))())
    for one, other in zip(*(jax.tree.leaves(gradients) for gradients in found), strict=True):
        assert float(jnp.abs(one).max()) > 0
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)


def test_weights_start_from_the_fluctuations(xs: jax.Array) -> None:
    net = brainstate.nn.Sequential(X1Synapse(N_IN, 10), X1Layer(10, tau=20 * u.ms))
    before = np.asarray(net.layers[0].weight.value)
    bh.init.fluct_init(net, [np.asarray(xs.swapaxes(0, 1) > 0.75, np.float32)], verbose=False)
    after = np.asarray(net.layers[0].weight.value)
    assert np.abs(after - before).max() > 0
    assert np.abs(after).max() <= X1_CHIP.weight_limit


def test_levels_are_applied_as_they_are() -> None:
    levels = Levels(X1_CHIP.levels, 4)
    every = levels.values(jnp.arange(-7, 8))
    np.testing.assert_array_equal(levels.codes(every), np.arange(-7, 8))
    np.testing.assert_array_equal(levels.codes(every, jax.random.key(0)), np.arange(-7, 8))
    np.testing.assert_array_equal(levels.quantize(jnp.array([0.29, 0.31, -3.0])), np.float32([0.2, 0.4, -1.0]))
    synapse = X1Synapse(3, 1, weight_init=jnp.array([[0.29], [0.31], [-0.7]]), weight_bits="chip")
    report = bh.deploy.describe(synapse).weights[0]
    assert (report.levels, report.levels_used, report.bits) == (15, 3, 4)
    with pytest.raises(ValueError, match="X1: weights have 4 bits; got 5"):
        X1Synapse(3, 1, weight_bits=5)


def test_a_key_is_one_chip_with_capacitances_of_its_own(xs: jax.Array) -> None:
    net = net_of()
    nominal = np.asarray(bh.rollout(net, xs)[0])
    bh.sample_chip(net, 3, leak=False)
    drawn = np.asarray(net.layers[1].pinned_C.value.mantissa)
    assert 0.01 < np.std(np.log(drawn / 100.0)) < 0.15
    np.testing.assert_array_equal(net.layers[1].chip_tau.value.mantissa, 20.0)
    assert (np.asarray(bh.rollout(net, xs)[0]) != nominal).any()
    bh.sample_chip(net, 4, leak=False, capacitance=False)
    np.testing.assert_array_equal(net.layers[1].pinned_C.value.mantissa, drawn)
    bh.sample_chip(net, 4, leak=False, capacitance=0.0)
    np.testing.assert_array_equal(bh.rollout(net, xs)[0], nominal)
    bh.nominal_chip(net)
    np.testing.assert_array_equal(bh.rollout(net, xs)[0], nominal)
    with pytest.raises(
        TypeError, match=r"sample_chip: threshold is not a kind of mismatch of the family X1 .*'leak', "
    ):
        bh.sample_chip(net, 3, threshold=0.1)
    with pytest.raises(ValueError, match=r"sample_chip: capacitance must be at most 0.5.*uneven; got 0.6"):
        bh.sample_chip(net, 3, capacitance=0.6)


@pytest.mark.slow
def test_robustness_varies_the_family_s_kinds(xs: jax.Array) -> None:
    net = net_of()
    step = jnp.arange(T)[:, None, None]
    score = lambda net: (bh.rollout(net, xs)[0] * step).sum()  # noqa: E731
    off = bh.deploy.robustness(net, score, 3, key=0, leak=False, capacitance=False, pbar=False)
    assert set(off.scores.tolist()) == {off.nominal}
    wide = bh.deploy.robustness(net, score, 3, key=0, leak=False, capacitance=0.3, pbar=False)
    assert wide.std > 0
    bh.sample_chip(net, wide.keys[1], leak=False, capacitance=0.3)
    assert float(brainstate.transform.jit(lambda: score(net))()) == wide.scores[1]


def test_the_rules_are_the_general_ones_and_the_family_s() -> None:
    report = bh.deploy.check_deployable(net_of())
    assert report.ok, report
    assert report.rules == (*(name for name in RULES if name != "one sign in a block"), "fan-in")
    broken = bh.deploy.check_deployable(net_of(n_in=30))
    assert [(v.rule, v.path, v.found) for v in broken.violations] == [("fan-in", "layers.0", "30 inputs")]
    off = net_of()
    bh.deploy.set_weight_bits(off, None)
    off.layers[0].weight.value = off.layers[0].weight.value.at[0, 0].set(0.5)
    (violation,) = bh.deploy.check_deployable(off).violations
    assert (violation.rule, violation.where) == ("weights on grid", ((0, 0),))
    assert "15 levels (4 bits)" in violation.limit


def test_families_do_not_mix_and_h1_stays_as_it_is() -> None:
    mixed = brainstate.nn.Sequential(*net_of().layers[:2], bh.nn.H1v1Synapse(10, 2), bh.nn.H1v1Layer(2, tau=10 * u.ms))
    assert "one family" in {v.rule for v in bh.deploy.check_deployable(mixed).violations}
    with pytest.raises(ValueError, match="X1Layer: chip must be of family 'X1'; got 'H1v1'"):
        X1Layer(2, tau=10 * u.ms, chip="h1v1")
    assert bh.chip.get_chip("x1") is X1_CHIP


def test_a_placement_and_a_power_estimate(xs: jax.Array) -> None:
    net = net_of()
    assert bh.deploy.place(net).layers == {"layers.1": 10, "layers.3": 4}
    report = bh.deploy.estimate_power(net, xs)
    assert report.synops > 0
    assert {cost.kind for cost in report.costs} == {"core", "spike", "event"}


def test_the_spec_is_a_file_and_a_table(tmp_path: pathlib.Path) -> None:
    chip = X1_CHIP.replace(V_reset=30 * u.mV, provenance="measured")
    chip.save(tmp_path / "x1.toml")
    assert bh.chip.load_chip(tmp_path / "x1.toml") == chip == pickle.loads(pickle.dumps(chip))
    assert "(preset: 20 mV, assumed)" in str(chip)
    with pytest.raises(ValueError, match="X1Spec: levels must increase"):
        X1_CHIP.replace(levels=(0.5, 0.2, 1.0))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("x1") / "x1.bundle"
    with brainstate.environ.context(dt=1.0 * u.ms):
        bh.deploy.export_bundle(net_of(), path, n_classes=2, notes="from outside")
    return path


def test_a_bundle_out_and_back(bundle: pathlib.Path, xs: jax.Array, tmp_path: pathlib.Path) -> None:
    loaded = bh.deploy.load_bundle(bundle)
    assert loaded.chip == X1_CHIP
    assert type(loaded.chip) is X1.spec_class
    np.testing.assert_array_equal(bh.rollout(loaded, xs)[0], bh.rollout(net_of(), xs)[0])
    for net in (one := net_of(), loaded):
        bh.sample_chip(net, 5)
    np.testing.assert_array_equal(bh.rollout(loaded, xs)[0], bh.rollout(one, xs)[0])
    bh.deploy.export_bundle(loaded, tmp_path / "sampled")
    again = bh.deploy.load_bundle(tmp_path / "sampled")
    np.testing.assert_array_equal(bh.rollout(again, xs)[0], bh.rollout(one, xs)[0])
    bh.nominal_chip(loaded)
    bh.deploy.export_bundle(loaded, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == bundle.read_bytes()


def fresh(*words: str, path: str = "") -> subprocess.CompletedProcess:
    python_path = os.pathsep.join(filter(None, (path, str(pathlib.Path(bh.__file__).parents[1]))))
    env = {**os.environ, "PYTHONPATH": python_path}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=env)


@pytest.mark.slow
def test_without_the_package_the_error_says_what_to_import(bundle: pathlib.Path) -> None:
    done = fresh("-m", "brainhw", "info", str(bundle))
    assert done.returncode == 1
    for words in ("the chip family 'X1' is not registered", "'H1v1', 'H1v2'", "import x1chips first"):
        assert words in done.stderr
    code = f"import x1chips, brainhw as bh; print(bh.deploy.load_bundle({str(bundle)!r}).notes)"
    done = fresh("-c", f"import brainstate, brainunit as u; {code}", path=str(HERE))
    assert done.stdout.strip() == "from outside", done.stderr


@pytest.mark.slow
def test_the_command_line_finds_an_installed_family(
    bundle: pathlib.Path, xs: jax.Array, tmp_path: pathlib.Path
) -> None:
    # A package that is installed leaves its entry points in such a folder.
    installed = tmp_path / "x1chips-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: x1chips\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[brainhw.chip_families]\nX1 = x1chips:X1\n")
    (tmp_path / "x1chips.py").write_text((HERE / "x1chips.py").read_text(encoding="utf-8"), encoding="utf-8")
    np.save(tmp_path / "x.npy", np.asarray(xs.swapaxes(0, 1)))
    script = textwrap.dedent(f"""
        import brainhw as bh
        from brainhw.cli import main
        assert bh.chip.get_chip("x1").family == "X1"
        bundle, data = {str(bundle)!r}, {str(tmp_path / "x.npy")!r}
        for words in (["info", bundle, "--chip"], ["check", bundle], ["run", bundle, data], ["power", bundle, data]):
            assert main(words) == 0, words
    """)
    done = fresh("-c", script, path=str(tmp_path))
    assert done.returncode == 0, done.stderr
    for words in ("family X1", "V_reset", "20 mV", "deployable on X1: all 13 rules hold", "on the nominal chip of X1"):
        assert words in done.stdout


@pytest.mark.slow
def test_a_package_that_cannot_be_imported_is_named(bundle: pathlib.Path, tmp_path: pathlib.Path) -> None:
    installed = tmp_path / "x1chips-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: x1chips\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[brainhw.chip_families]\nX1 = x1chips:X1\n")
    done = fresh("-m", "brainhw", "check", str(bundle), path=str(tmp_path))
    assert done.returncode == 1
    assert "the chip family 'X1' cannot be loaded from 'x1chips:X1' (ModuleNotFoundError" in done.stderr


def test_nir_refuses_it_by_name() -> None:
    nir = pytest.importorskip("nir")
    assert nir
    with pytest.raises((TypeError, ValueError), match=r"(?s)to_nir: .*X1(Layer|Synapse)"):
        bh.interop.nir.to_nir(net_of("FF"), dt=1.0 * u.ms)


def test_the_file_imports_public_names_only() -> None:
    text = (HERE / "x1chips.py").read_text(encoding="utf-8")
    assert "from brainhw" not in text
    assert not re.findall(r"(?<!self)\._(?!_)", text)
    assert x1chips.X1 in bh.chip.families()
