"""The deployable bundle: what is exported is what runs, and what is not a bundle is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import pickle
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw._plain_json import text_of
from brainhw.chip import H1V1, H1V2, TabulatedCharge
from brainhw.chip.file import chip_from_text
from brainhw.deploy.bundle import BundleError, export_bundle, load_bundle
from brainhw.deploy.bundled_net import BundledNet
from brainhw.deploy.check import NotDeployableError, check_deployable

MEASURED = H1V2.replace(
    name="chip 7",
    charge=TabulatedCharge([-1.66, -0.3, 0.0, 0.7, 1.66], [-0.71, -0.14, 0.0, 0.3, 0.75] * u.fcoulomb),
    synapse_mismatch_std=0.05,
    weight_bits=4,
    provenance="measured",
    notes={"V_th": "Bench 3, 21 °C"},
)


class Forked(brainstate.nn.Module):
    """Frontend, one layer into two synapses, modules in a list and in a dict, several bits, mixed time constants."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__()
        weights = lambda *shape: rng.uniform(0, 0.9, shape)  # noqa: E731
        self.ears = bh.nn.H1v1Frontend(weight_init=weights(16), weight_bits="chip")
        self.first = bh.nn.H1v1Layer(16, tau=20 * u.ms)
        self.blocks = [
            bh.nn.H1v1Synapse(16, 6, weight_init=weights(16, 6), weight_bits="chip"),
            bh.nn.H1v1Layer(
                6,
                tau=np.array([5, 10, 5, 20, 10, 5.0]) * u.ms,
                topology="RC",
                recurrent_init=-weights(6, 6) * (rng.random((6, 6)) < 0.1),
                weight_bits=3,
            ),
        ]
        self.side = {
            "in": bh.nn.H1v1Synapse(16, 4, weight_init=weights(16, 4), weight_bits=2),
            "out": bh.nn.H1v1Layer(4, tau=2 * u.ms),
        }
        self.last = bh.nn.H1v1Synapse(6, 4, weight_init=weights(6, 4) * 3, weight_bits="chip")
        self.last.weight.value = jnp.minimum(self.last.weight.value, 0.9)
        self.voters = bh.nn.H1v1Layer(4, tau=50 * u.ms)

    def update(self, x: jax.Array) -> jax.Array:
        first = self.first(self.ears(x))
        middle = self.blocks[1](self.blocks[0](first))
        self.side["out"](self.side["in"](first))
        return self.voters(self.last(middle))


def chain(rng: np.random.Generator, chip: bh.chip.ChipSpec = MEASURED) -> brainstate.nn.Module:
    """A Sequential in a Sequential, on a measured chip with rounding of its own."""
    weights = lambda *shape: rng.uniform(0.2, 1.66, shape)  # noqa: E731
    bits = {"chip": chip, "weight_bits": "chip"}
    return brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(5, 8, weight_init=weights(5, 8), **bits),
        brainstate.nn.Sequential(
            bh.nn.H1v2Layer(8, tau=10 * u.ms, topology="RC", recurrent_init=weights(8, 8) * -0.3, **bits),
            bh.nn.H1v2Synapse(8, 3, weight_init=weights(8, 3), **bits),
        ),
        bh.nn.H1v2Layer(3, tau=20 * u.ms, chip=chip),
    )


def small(**changes: Any) -> brainstate.nn.Module:
    """One synapse and one layer."""
    synapse = {"weight_init": jnp.array([[0.3, 0.6]] * 3), "weight_bits": "chip", **changes}
    return brainstate.nn.Sequential(bh.nn.H1v1Synapse(3, 2, **synapse), bh.nn.H1v1Layer(2, tau=10 * u.ms))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, BundledNet, pathlib.Path, jax.Array]]:
    """Each net, what its bundle gives, the file, and input that makes it spike."""
    folder, found = tmp_path_factory.mktemp("bundles"), {}
    rng = np.random.default_rng(3)
    with brainstate.environ.context(dt=1.0 * u.ms):
        for name, net, n_in, gain in (("forked", Forked(rng), 16, 40), ("chain", chain(rng), 5, 8)):
            path = folder / f"{name}.bundle"
            export_bundle(net, path, n_classes=1, notes="two\nlines, µ")
            xs = jnp.asarray(rng.random((40, 3, n_in)) * gain, jnp.float32)
            found[name] = net, load_bundle(path), path, xs
    return found


both = pytest.mark.parametrize("name", ["forked", "chain"])


def chip_of(net: brainstate.nn.Module) -> dict[str, np.ndarray]:
    """All that belongs to a prepared chip: charges, time constants, thresholds."""
    return {
        ".".join(map(str, path)): np.array(u.get_mantissa(state.value))
        for path, state in net.states(brainstate.ShortTermState).items()
        if not isinstance(state, brainstate.HiddenState)
    }


@pytest.mark.slow
@both
def test_the_spikes_of_a_loaded_net_are_those_of_the_exported_one_on_every_chip(pairs, name: str) -> None:
    net, loaded, _, xs = pairs[name]
    runs = [(n, brainstate.transform.jit(lambda n=n: bh.rollout(n, xs)[0])) for n in (net, loaded)]
    seen = []
    for key in (None, 0, 1):
        spikes = []
        for n, run in runs:
            if key is not None:
                bh.sample_chip(n, key)
            spikes.append(np.asarray(run()))
        np.testing.assert_array_equal(*spikes)
        assert 20 < spikes[0].sum() < 0.9 * spikes[0].size
        seen.append(spikes[0])
    assert not np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[1], seen[2])
    for n, _ in runs:
        bh.nominal_chip(n)


@both
def test_a_key_is_the_same_chip_for_both_to_the_bit(pairs, name: str) -> None:
    net, loaded, _, _ = pairs[name]
    seen = []
    for key in (None, 7):
        chips = []
        for n in (net, loaded):
            bh.prepare_net(n, key=key)
            chips.append(chip_of(n))
        assert set(chips[0]) == set(chips[1])
        for path, values in chips[0].items():
            np.testing.assert_array_equal(values, chips[1][path], err_msg=path)
        seen.append(chips[0])
    assert any(not np.array_equal(values, seen[0][path]) for path, values in seen[1].items())


@both
def test_modules_and_states_have_the_paths_that_they_had(pairs, name: str) -> None:
    net, loaded, _, _ = pairs[name]
    assert set(map(str, net.states())) == set(map(str, loaded.states()))
    on_chip = {str(path) for path, node in net.nodes().items() if hasattr(node, "chip")}
    assert on_chip == {str(path) for path, node in loaded.nodes().items() if hasattr(node, "chip") and path}


@both
def test_a_loaded_net_is_deployable_and_exports_the_same_bytes(pairs, name: str, tmp_path: pathlib.Path) -> None:
    _, loaded, path, _ = pairs[name]
    assert check_deployable(loaded).ok
    bh.sample_chip(loaded, 5)
    bh.nominal_chip(loaded)
    export_bundle(loaded, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    export_bundle(loaded, tmp_path / "again", notes="other")
    assert load_bundle(tmp_path / "again").notes == "other"


def test_a_loaded_net_knows_what_it_is(pairs) -> None:
    _, loaded, _, _ = pairs["chain"]
    assert loaded.chip == MEASURED
    assert loaded.dt == 1.0 * u.ms
    assert (loaded.n_classes, loaded.notes) == (1, "two\nlines, µ")
    assert loaded.versions["brainhw"] == bh.__version__
    assert loaded.versions["jax"] == jax.__version__
    assert loaded.placement.layers == {"layers.1.layers.0": 8, "layers.2": 3}
    assert (loaded.in_size, loaded.out_size) == ((5,), (3,))
    assert bh.nn.chip_weights(loaded)["layers.0"].effective.weight_bits == 4
    assert "BundledNet" in repr(loaded)


def test_the_file_is_text_to_look_into_and_its_checksum_that_of_any_tool(pairs) -> None:
    net, _, path, _ = pairs["forked"]
    first, _, rest = path.read_bytes().partition(b"\n")
    kind, version, checksum, length = first.decode().split()
    assert (kind, version, int(length)) == ("brainhw-bundle", "1", len(rest))
    assert checksum == hashlib.sha256(rest).hexdigest()
    data = json.loads(rest)
    assert chip_from_text("\n".join(data["chip"])) == H1V1
    codes = np.array(data["synapses"]["blocks.0"]["codes"])
    applied = net.blocks[0].effective.applied(net.blocks[0].weight.value)
    np.testing.assert_allclose(codes * 0.06, applied, atol=1e-6)
    assert data["layers"]["blocks.1"]["tau_profiles"] == [2, 3, 2, 4, 3, 2]
    assert [wire["source"] for wire in data["wires"]] == ["input", "first", "first", "blocks.1"]
    assert data["output"] == "voters"
    assert text_of(data).encode() == rest
    row = str(data["synapses"]["ears"]["codes"])
    assert row in rest.decode()


def test_a_bundle_of_an_earlier_brainhw_is_read_and_written_again(tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(__file__).parent / "files" / "format_1.bundle"
    net = load_bundle(path)
    x = np.random.default_rng(6).random((50, 2, 16)).astype(np.float32) * 9
    assert float(bh.rollout(net, x)[0].sum()) == 8.0
    export_bundle(net, tmp_path / "again")
    said, written = (json.loads(file.read_bytes().partition(b"\n")[2]) for file in (path, tmp_path / "again"))
    assert said.pop("versions").keys() == written.pop("versions").keys()
    # The words of the comments may differ, in the header and after values.
    for content in (said, written):
        content["chip"] = [line.partition("  #")[0] for line in content["chip"] if not line.startswith("#")]
    assert text_of(said) == text_of(written)


def test_weights_are_those_after_the_annealing(tmp_path: pathlib.Path) -> None:
    mixed = bh.nn.H1v1Synapse(3, 2, weight_init=jnp.array([[0.5, 0.2], [-0.2, 0.1], [0.1, -0.9]]), weight_bits="chip")
    net = brainstate.nn.Sequential(mixed, bh.nn.H1v1Layer(2, tau=10 * u.ms))
    annealing = bh.train.SignAnnealing(net, total_epochs=1)
    annealing.step(1)
    export_bundle(net, tmp_path / "net")
    loaded = load_bundle(tmp_path / "net")
    for n in (net, loaded):
        bh.prepare_net(n)
    charges = [n.states(brainstate.ShortTermState)["layers", 0, "effective", "charge"].value for n in (net, loaded)]
    np.testing.assert_array_equal(charges[0].mantissa, charges[1].mantissa)
    codes = loaded.content.synapses["layers.0"].weight.values
    assert np.all(codes.max(axis=0) * codes.min(axis=0) >= 0)
    assert not np.array_equal(codes, mixed.effective.grid.codes(mixed.weight.value))


class Twice(brainstate.nn.Module):
    """One synapse that drives two layers, of which the later one is a side branch."""

    def __init__(self) -> None:
        super().__init__()
        self.syn = bh.nn.H1v2Synapse(3, 2, weight_init=jnp.ones((3, 2)), weight_bits="chip")
        self.out, self.other = bh.nn.H1v2Layer(2, tau=10 * u.ms), bh.nn.H1v2Layer(2, tau=50 * u.ms)

    def update(self, x: jax.Array) -> jax.Array:
        charge = self.syn(x)
        spikes = self.out(charge)
        self.other(charge)
        return spikes


def test_a_synapse_cannot_drive_two_layers(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NotDeployableError, match="syn: known wiring: it drives more than one layer"):
        export_bundle(Twice(), tmp_path / "net")
    assert not (tmp_path / "net").exists()


@pytest.mark.no_dt
def test_a_loaded_net_runs_with_its_own_dt_only(tmp_path: pathlib.Path) -> None:
    net, xs = small(), jnp.full((20, 3), 3.0)
    with pytest.raises(RuntimeError, match="export_bundle: no time step is set"):
        export_bundle(net, tmp_path / "net")
    with brainstate.environ.context(dt=0.002 * u.second):
        export_bundle(net, tmp_path / "net")
        wanted, _ = bh.rollout(net, xs)
    loaded = load_bundle(tmp_path / "net")
    assert float(loaded.dt / u.ms) == 2.0
    for dt in (loaded.dt, 0.002 * u.second, jnp.float32(0.002) * u.second):
        with brainstate.environ.context(dt=dt):
            np.testing.assert_array_equal(bh.rollout(loaded, xs)[0], wanted)
    with (
        brainstate.environ.context(dt=1.0 * u.ms),
        pytest.raises(RuntimeError, match=r"made for dt = 2 ms .got 1 ms .*Run it inside .*context\(dt=net.dt\)"),
    ):
        bh.rollout(loaded, xs)
    with pytest.raises(RuntimeError, match=r"no time step is set. Run it inside .*context\(dt=net.dt\)"):
        bh.rollout(loaded, xs)


def test_a_bundle_of_another_dt_than_that_of_environ_can_be_checked_and_exported(tmp_path: pathlib.Path) -> None:
    with brainstate.environ.context(dt=2.0 * u.ms):
        export_bundle(small(), tmp_path / "net")
    loaded = load_bundle(tmp_path / "net")
    assert check_deployable(loaded).ok
    export_bundle(loaded, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "net").read_bytes()


def test_a_net_in_double_precision_stays_one(tmp_path: pathlib.Path) -> None:
    xs = np.random.default_rng(0).random((30, 2, 3)) * 3
    with brainstate.environ.context(precision=64):
        net = small()
        export_bundle(net, tmp_path / "net")
        loaded = load_bundle(tmp_path / "net")
        np.testing.assert_array_equal(*(bh.rollout(n, xs)[0] for n in (net, loaded)))
        assert net.layers[0].weight.value.dtype == loaded.states()["layers", 0, "weight"].value.dtype == np.float64
    with pytest.raises(BundleError, match=r"computes in float64, .* float32.*\(precision=64\)"):
        load_bundle(tmp_path / "net")
    with pytest.raises(ValueError, match=r"export_bundle: .* precision; got float32, float64. Export inside"):
        export_bundle(net, tmp_path / "other")


class OwnLayer(bh.nn.H1v1Layer):
    """What somebody derived from a layer."""


def own_layer() -> brainstate.nn.Module:
    net = small()
    net.layers = (net.layers[0], OwnLayer(2, tau=10 * u.ms))
    return net


class Named(brainstate.nn.Module):
    """Modules under names of choice."""

    def __init__(self, synapse: str, layer: str) -> None:
        super().__init__()
        parts = small().layers
        setattr(self, synapse, parts[0])
        setattr(self, layer, parts[1])
        self.names = synapse, layer

    def update(self, x: jax.Array) -> jax.Array:
        synapse, layer = self.names
        return getattr(self, layer)(getattr(self, synapse)(x))


class Inside(brainstate.nn.Module):
    """A synapse that its layer holds, or a layer that its synapse does."""

    def __init__(self, holder: str) -> None:
        super().__init__()
        layer, synapse = small().layers[1], bh.nn.H1v1Synapse(2, 2, weight_init=jnp.zeros((2, 2)), weight_bits="chip")
        self.out, inner = (layer, synapse) if holder == "layer" else (synapse, layer)
        self.out.inner = inner
        self.holder = holder

    def update(self, x: jax.Array) -> jax.Array:
        return self.out(self.out.inner(x)) if self.holder == "layer" else self.out.inner(self.out(x))


@pytest.mark.parametrize(
    ("net", "options", "match"),
    [
        (lambda: small(weight_init=jnp.full((3, 2), 2.0)), {}, "check_deployable: the network violates 1 rule"),
        (
            lambda: small(weight_bits=None),
            {"n_classes": 3},
            "n_classes must be a divisor of the number of output neurons, 2; got 3",
        ),
        (lambda: small(weight_bits=None), {"n_classes": 0}, "n_classes must be at least 1; got 0"),
        (
            lambda: small(weight_bits=None, weight_init=jnp.nextafter(jnp.full((3, 2), 0.3), 1.0)),
            {},
            r"6 of 6 weights of layers.0 are not exactly equal to a level.*set_weight_bits\(net, 'chip'\)",
        ),
        (small, {"notes": "\x1b[31m"}, "this network cannot be stored in a bundle: notes must be printable text"),
        (own_layer, {}, "layers.1: known modules: OwnLayer; the chip takes H1v1"),
        (lambda: Named("syn", "input"), {}, "the layer path 'input' is reserved for the network input"),
        (lambda: Named("syn", "soma_states"), {}, None),
        (lambda: Named("chip", "notes"), {}, None),
        (lambda: Named("named_children", "out"), {}, "cannot begin with 'named_children'"),
        (lambda: Inside("layer"), {}, "out contains other modules"),
        (lambda: Inside("synapse"), {}, "out.inner is inside another module"),
    ],
)
def test_only_what_can_be_rebuilt_is_exported(
    net: Callable[[], Any], options: dict, match: str | None, tmp_path: pathlib.Path
) -> None:
    made = net()
    if match is None:
        export_bundle(made, tmp_path / "net", **options)
        assert set(bh.nn.chip_weights(load_bundle(tmp_path / "net"))) == set(bh.nn.chip_weights(made))
        return
    with pytest.raises(ValueError, match=match):
        export_bundle(made, tmp_path / "net", **options)
    assert not os.listdir(tmp_path)


def test_other_arguments_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NotDeployableError, match="weights in range"):
        export_bundle(small(weight_init=jnp.full((3, 2), 2.0)), tmp_path / "net")
    with pytest.raises(TypeError, match=r"export_bundle: net must be a brainstate.nn.Module; got 3"):
        export_bundle(3, tmp_path / "net")
    with pytest.raises(TypeError, match="export_bundle: notes must be text; got 3"):
        export_bundle(small(), tmp_path / "net", notes=3)
    with pytest.raises(TypeError, match=r"export_bundle: encoding_fingerprint must be text; got 3"):
        export_bundle(small(), tmp_path / "net", encoding_fingerprint=3)
    with pytest.raises(ValueError, match=r"export_bundle: encoding_fingerprint must be 64 hexadecimal digits; got"):
        export_bundle(small(), tmp_path / "net", encoding_fingerprint="abc")
    with pytest.raises(TypeError, match=r"export_bundle: n_classes must be an integer; got 1.5"):
        export_bundle(small(), tmp_path / "net", n_classes=1.5)
    with pytest.raises(ValueError, match=r"export_bundle: cannot write .*\. Pass the path of a file in an existing"):
        export_bundle(small(), tmp_path / "none" / "net")
    net = small()
    with pytest.raises(RuntimeError, match="Call it outside of jit"):
        brainstate.transform.jit(lambda: export_bundle(net, tmp_path / "net"))()
    assert not os.listdir(tmp_path)


def test_a_failure_while_writing_leaves_the_bundle_that_was_there(
    pairs, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, loaded, path, _ = pairs["chain"]
    target = tmp_path / "net"
    target.write_bytes(path.read_bytes())

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(ValueError, match=r"export_bundle: cannot write .*No space left"):
            export_bundle(loaded, target, notes="other")
    assert target.read_bytes() == path.read_bytes()
    assert os.listdir(tmp_path) == ["net"]


class Trap:
    """Running this would be the end of the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.abort, ()


def wrapped(payload: bytes) -> bytes:
    return b"brainhw-bundle 1 %s %d\n" % (hashlib.sha256(payload).hexdigest().encode(), len(payload)) + payload


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty. Pass a file written by"),
        (b"hello\n", "is not a bundle. Pass a file written by"),
        (b"\x1f\x8b\x08\x00", "is not a bundle"),
        (b"\0" * 10**6, "is not a bundle"),
        (pickle.dumps(Trap()), "is not a bundle"),
        (wrapped(pickle.dumps(Trap())), "does not contain valid JSON"),
        (b"brainhw-bundle 1\n", "corrupted first line. Copy it again"),
        (b"brainhw-bundle 01 " + b"a" * 64 + b" 2\n{}", "corrupted first line"),
        (b"brainhw-bundle 1 " + b"a" * 64 + b" 2\r\n{}", "corrupted first line"),
        (
            b"brainhw-bundle 2 " + b"a" * 64 + b" 2\n{}",
            r"newer brainhw \(format 2, this version reads up to 1\). Update brainhw",
        ),
        (b"brainhw-bundle 1 " + b"a" * 64 + b" 2\n{}", "does not match its checksum. It was corrupted or edited"),
        (
            b"brainhw-bundle 1 " + b"a" * 64 + b" 3\n{}",
            "is truncated: its first line states a size of 3 bytes, but 2 bytes follow",
        ),
        (
            b"brainhw-bundle 1 " + b"a" * 64 + b" 1\n{}",
            "is too long: its first line states a size of 1 bytes, but 2 bytes follow",
        ),
        (b"brainhw-bundle 1 " + b"a" * 64 + b" 99999999999\n{}", "states a size of 99999999999 bytes, but"),
        (wrapped(b"[" * 10**6), "valid JSON.*recursion"),
        (wrapped(b'{"a":' * 10**5), "valid JSON.*recursion"),
        (wrapped(b"[" * 400 + b"]" * 400), "has invalid content: the file must be a mapping with the keys chip, dt_ms"),
        (wrapped(b"1" * 10**5), "valid JSON.*digits"),
        (wrapped(b"NaN"), "NaN is not allowed as a number in this file"),
        (wrapped(b"[-Infinity]"), "-Infinity is not allowed as a number"),
        (wrapped(b"\xff"), "valid JSON.*byte 0xff"),
        (wrapped('{"µ": 1}'.encode()), "not contain valid JSON"),
        (wrapped(b'{"chip": 1, "chip": 1}'), "the field 'chip' occurs twice"),
        (wrapped(b"{}"), "the file lacks chip, dt_ms, dtype"),
    ],
)
def test_what_is_no_bundle_is_refused(content: bytes, match: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "net.bundle"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=rf"load_bundle: '.*net\.bundle' .*{match}") as caught:
        load_bundle(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("name", ["none", ".", "fifo", "none/net", "a\0b", "n" * 1000])
def test_what_is_no_file_is_refused(name: str, tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(
        BundleError, match=r"load_bundle: '.*' (cannot be read: .*|is not a regular file)\. Pass a file written by"
    ):
        load_bundle(f"{tmp_path}/{name}")


def test_what_is_no_path_is_refused_and_jit_too(pairs) -> None:
    with pytest.raises(TypeError, match="load_bundle: path must be the path of a bundle; got 3"):
        load_bundle(3)
    with pytest.raises(RuntimeError, match=r"load_bundle: .*Call it outside of jit"):
        brainstate.transform.jit(lambda: load_bundle(pairs["chain"][2]) and None)()


def change(data: Any, at: str, value: Any) -> None:
    *folders, name = at.split("/")
    for folder in folders:
        data = data[int(folder) if isinstance(data, list) else folder]
    data[int(name) if isinstance(data, list) else name] = value


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        ("extra", 1, "the file has an unknown field 'extra'"),
        ("chip/0", 3, "a line of chip must be printable text; got 3"),
        ("chip", [], "chip must be a non-empty list"),
        ("chip/1", "[", "chip: the text is not valid TOML"),
        ("dt_ms", 0.0, "dt_ms must be a float greater than zero, written with a decimal point; got 0.0"),
        ("dt_ms", 1, "dt_ms must be"),
        ("dt_ms", True, "dt_ms must be"),
        ("dt_ms", 1e300, "too large or too small for the network's precision"),
        ("dtype", "int8", "dtype must be one of float16"),
        ("dtype", "float16", r"computes in float16, .*\(precision=16\)"),
        ("n_classes", 3, "n_classes must be a divisor of the number of output neurons, 4; got 3"),
        ("n_classes", True, "n_classes must be an integer from 1 to 4; got True"),
        ("n_classes", 5, "n_classes must be an integer from 1 to 4; got 5"),
        ("notes", "a\rb", "notes must be printable text"),
        ("notes", None, "notes must be printable text; got None"),
        ("encoding_fingerprint", "A" * 64, "encoding_fingerprint must be 64 hexadecimal digits; got"),
        ("encoding_fingerprint", 3, "encoding_fingerprint must be 64 hexadecimal digits; got"),
        ("output", "ears", "output must be one of .*; got 'ears'"),
        ("versions/jax", 1, "version of jax must be printable text"),
        ("versions/numpy", "2", "versions has an unknown field 'numpy'"),
        ("synapses", {}, "synapses must be a non-empty mapping of modules"),
        ("synapses/ears/frontend", 1, "synapse 'ears': frontend must be a boolean; got 1"),
        ("synapses/ears/frontend", False, "synapse 'ears': a row of codes must be a non-empty list"),
        ("synapses/last/frontend", True, "synapse 'last': codes must contain integers"),
        ("synapses/ears/codes", [1] * 15, "a frontend of H1v1 must have 16 codes; got 15"),
        ("synapses/ears/bits", 1, "synapse 'ears': bits must be an integer from 2 to 16; got 1"),
        ("synapses/ears/bits", True, "bits must be an integer"),
        ("synapses/ears/bits", 3, "synapse 'ears': codes must contain integers from -3 to 3; got"),
        ("synapses/last/codes/0/0", 16, "a row of codes must contain integers from -15 to 15; got 16"),
        ("synapses/last/codes/0/0", -16, "integers from -15 to 15; got -16"),
        ("synapses/last/codes/0/0", 1.0, "integers from -15 to 15; got 1.0"),
        ("synapses/last/codes/0/0", False, "integers from -15 to 15; got False"),
        ("synapses/last/codes/0", [1], "all rows of codes must have the same length"),
        (
            "synapses/last/codes",
            [[1] * 4] * 5,
            r"wire 3: 'last' has codes of shape \(5, 4\), but connects 6 inputs to 4",
        ),
        ("synapses/last/codes", [[1] * 5] * 6, "connects 6 inputs to 4 neurons"),
        ("synapses/first", {"bits": 5, "codes": [[1]], "frontend": False}, "'first' is not a valid module path"),
        ("synapses/idle", {"bits": 5, "codes": [[1]], "frontend": False}, "'idle' is not used by any wire"),
        (
            "synapses/" + "a." * 64 + "a",
            {"bits": 5, "codes": [[1]], "frontend": False},
            "is not a valid module path",
        ),
        ("synapses/a\n", {"bits": 5, "codes": [[1]], "frontend": False}, "a path in synapses must be printable"),
        (
            "layers/input",
            {"recurrent": None, "tau_profiles": [1], "topology": "FF"},
            "'input' is not a valid module path",
        ),
        ("layers/voters/tau_profiles/0", 8, "an entry of tau_profiles must be an integer from 0 to 7; got 8"),
        ("layers/voters/tau_profiles/0", -1, "from 0 to 7; got -1"),
        ("layers/voters/topology", "RC", "layer 'voters': topology RC does not fit a layer without recurrent codes"),
        ("layers/blocks.1/topology", "FF", "layer 'blocks.1': topology FF does not fit a layer with recurrent codes"),
        ("layers/voters/topology", ["FF"], "topology must be one of FF, RC"),
        ("layers/blocks.1/recurrent/codes", [[0]], "recurrent codes .* do not match 6 neurons"),
        ("layers/voters/tau_profiles", [1], r"wire 3: 'last' has codes of shape \(6, 4\), but connects 6 inputs to 1"),
        ("wires/0/source", "first", "wire 0: source must be 'input' or the layer of an earlier wire; got 'first'"),
        ("wires/1/source", "voters", "wire 1: source must be 'input' or the layer of an earlier wire"),
        ("wires/1/source", "input", None),
        ("wires/2/layer", "blocks.1", "'side.in' has codes of shape|another wire already uses"),
        ("wires/2/synapse", "none", "wire 2: synapse must be one of"),
        ("wires/2/layer", "first", "wire 2: another wire already uses 'first' or 'side.in'"),
        ("wires/3", {"source": "first"}, "wire 3 lacks synapse, layer"),
        ("placement", [], "Use the list that was made for this network"),
        ("placement/0/core", True, "Placement.from_list: piece 0: core must be"),
        ("placement/0/offset", 1, "overlap layer .first. at position 16 of core 0"),
        ("placement/1/kind", "FF", "placement: layer 'blocks.1' must have kind 'RC'; got 'FF'"),
        ("placement/1/offset", 60, "but the core has only 64 neurons"),
        ("placement/1/note", 1, "piece 1 must have exactly the keys"),
    ],
)
def test_every_slip_in_a_bundle_is_named(pairs, at: str, value: Any, match: str | None, tmp_path: pathlib.Path) -> None:
    data = json.loads(pairs["forked"][2].read_bytes().partition(b"\n")[2])
    change(data, at, value)
    path = tmp_path / "net.bundle"
    path.write_bytes(wrapped(text_of(data).encode()))
    if match is None:
        assert load_bundle(path).content.wires[1].source == "input"
        return
    with pytest.raises(
        BundleError,
        match=rf"load_bundle: '.*net\.bundle' (has invalid content|needs a chip family|contains a network).*({match})",
    ) as caught:
        load_bundle(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "match"),
    [
        (
            'family = "H1v1"',
            'family = "H1v3"',
            "needs a chip family that is not registered: .*'H1v3'",
        ),
        ("value = 0.9", "value = 1e-43", "too large or too small for the network's precision"),
        ("gain = 1.034", "gain = 1e300", "too large or too small for the network's precision"),
        ("value = 100.0", "value = 1e39", "the chip: a time, threshold or capacitance is too large or too small"),
        ("[1.0, 2.0", "[1e-300, 2.0", None),
        ("200.0]", "1e300]", None),
        ("value = 16", "value = 17", "a frontend of H1v1 must have 17 codes; got 16"),
        ("value = [64, 64, 64, 64]", "value = [16, 8]", "but the core has only 16 neurons"),
    ],
)
def test_a_chip_that_the_network_cannot_be_built_on_is_refused(
    pairs, before: str, after: str, match: str | None, tmp_path: pathlib.Path
) -> None:
    data = json.loads(pairs["forked"][2].read_bytes().partition(b"\n")[2])
    assert any(before in line for line in data["chip"])
    data["chip"] = [line.replace(before, after) for line in data["chip"]]
    path = tmp_path / "net.bundle"
    path.write_bytes(wrapped(text_of(data).encode()))
    if match is None:  # a profile that no neuron has
        assert load_bundle(path).chip != H1V1
        return
    with pytest.raises(BundleError, match=match):
        load_bundle(path)
