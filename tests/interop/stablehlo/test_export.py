"""Exported steps: to the bit what the network gives, from a file, in another process, and clear words where not."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.interop.stablehlo import StepProgram, export_step, load_step
from brainhw.interop.stablehlo.file import digest

T, B, N_IN = 20, 2, 4


def layers(*modules: brainstate.nn.Module) -> brainstate.nn.Sequential:
    return brainstate.nn.Sequential(*modules)


def lif() -> brainstate.nn.Sequential:
    return layers(bh.nn.LIFSynapse(N_IN, 6), bh.nn.LIFLayer(6, tau=8 * u.ms))


def fractional(**arguments: Any) -> brainstate.nn.Sequential:
    return layers(
        bh.nn.LIFSynapse(N_IN, 3),
        bh.nn.FractionalLIFLayer(3, tau=5 * u.ms, alpha=[0.4, 0.9], coefficients=[1.0, 0.5], **arguments),
    )


NETS: dict[str, Callable[[], brainstate.nn.Module]] = {
    "LIF": lif,
    "H1v1": lambda: layers(bh.nn.H1v1Synapse(N_IN, 6, weight_bits="chip"), bh.nn.H1v1Layer(6, tau=10 * u.ms)),
    "H1v2 RC": lambda: layers(bh.nn.H1v2Synapse(N_IN, 6), bh.nn.H1v2Layer(6, tau=10 * u.ms, topology="RC")),
    "aLIF": lambda: layers(bh.nn.LIFSynapse(N_IN, 6), bh.nn.ALIFLayer(3, 2, w_rec=None)),
    "CubaLIF": lambda: layers(bh.nn.LIFSynapse(N_IN, 3), bh.nn.CubaLIFLayer(3)),
    "fractional": fractional,
    "readout": lambda: layers(
        bh.nn.LIFSynapse(N_IN, 3), bh.nn.LIFLayer(3, tau=8 * u.ms), bh.nn.LeakyReadout(3, 2, tau=9 * u.ms)
    ),
}


def inputs(kind: str) -> jax.Array:
    strength = {"H1v1": 40.0, "H1v2 RC": 60.0, "fractional": 20.0, "readout": 20.0}.get(kind, 4.0)
    return jnp.asarray(np.random.default_rng(0).random((T, B, N_IN)) * strength, jnp.float32)


def numbers(value: Any) -> np.ndarray:
    return np.asarray(u.get_mantissa(value))


def run(program: StepProgram, xs: Any) -> tuple[list[dict[str, Any]], list[Any]]:
    """States and outputs after every step from rest."""
    state, states, outputs = program.initial_state, [], []
    for x in xs:
        state, y = program.step(state, x)
        states.append(state)
        outputs.append(y)
    return states, outputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("steps")


@pytest.fixture(scope="module")
def made(folder: Path) -> dict[str, tuple[brainstate.nn.Module, Path]]:
    """Each net, and the file that its step was saved to."""
    found = {}
    for kind, make in NETS.items():
        brainstate.random.seed(4)
        net, path = make(), folder / f"{kind}.step"
        export_step(net, inputs(kind)[0], dt=1.0 * u.ms).save(path)
        found[kind] = net, path
    return found


@pytest.fixture(scope="module")
def lif_program(made) -> StepProgram:
    return load_step(made["LIF"][1])


@pytest.mark.parametrize("kind", NETS)
def test_a_reloaded_program_is_the_network_step_by_step_to_the_bit(made, folder: Path, kind: str) -> None:
    net, path = made[kind]
    xs, program = inputs(kind), load_step(path)
    names = list(program.state_units)
    step = bh.stream(net, B, record=names)
    states, outputs = run(program, xs)
    for x, state, y in zip(xs, states, outputs, strict=True):
        np.testing.assert_array_equal(y, step(x))
        for name in names:
            np.testing.assert_array_equal(numbers(state[name]), numbers(step.records[name]))
            assert u.get_unit(state[name]) == u.get_unit(step.records[name])
    whole, seen = bh.rollout(net, xs, layerwise=False, record=names)
    assert np.abs(whole).max() > 0
    if kind == "fractional":  # XLA sums the terms of its history in another order inside a loop
        np.testing.assert_allclose(np.stack(outputs), whole, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(np.stack(outputs), whole)
        for name in names:
            after = np.stack([numbers(state[name]) for state in states])
            np.testing.assert_array_equal(after, numbers(seen[name]))
    expected = {f"out{t}": numbers(y) for t, y in enumerate(outputs)}
    np.savez(folder / f"{kind}.npz", xs=xs, **expected)


_PLAIN = """
import sys
import jax, jax.export, numpy as np

def plain(path):
    file = np.load(path)
    step = jax.jit(jax.export.deserialize(bytearray(file["program"].tobytes())).call)
    state = {name.removeprefix("state/"): file[name] for name in file.files if name.startswith("state/")}
    return step, state

def compare(step, state, known):
    for t, x in enumerate(known["xs"]):
        state, y = step(state, x)
        np.testing.assert_array_equal(np.asarray(y), known[f"out{t}"])

for path in sys.argv[1:]:
    compare(*plain(path), np.load(path.replace(".step", ".npz")))
assert not {name.partition(".")[0] for name in sys.modules} & {"brainhw", "brainstate", "brainunit"}
from brainhw.interop.stablehlo import load_step
for path in sys.argv[1:]:
    program = load_step(path)
    compare(program.step, program.initial_state, np.load(path.replace(".step", ".npz")))
print("equal")
"""


def test_a_fresh_process_runs_the_file_with_jax_alone_and_with_the_loader(made) -> None:
    kinds = ("H1v2 RC", "fractional", "readout")
    for kind in kinds:
        path = made[kind][1]
        if not path.with_suffix(".npz").exists():  # the test before was not selected
            outputs = run(load_step(path), inputs(kind))[1]
            np.savez(path.with_suffix(".npz"), xs=inputs(kind), **{f"out{t}": y for t, y in enumerate(outputs)})
    command = [sys.executable, "-c", _PLAIN, *(str(made[kind][1]) for kind in kinds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "equal\n", done.stderr


def test_what_a_program_says_of_itself_survives_the_file(made, lif_program: StepProgram) -> None:
    assert repr(lif_program).splitlines() == [
        "StepProgram for cpu, dt 1 ms",
        "  input: float32[2, 4] dimensionless",
        "  state layers.1.V: float32[2, 6] mV",
        "  state layers.1.spk: float32[2, 6] dimensionless",
        "  output: float32[2, 6] dimensionless",
    ]
    assert lif_program.input_shape == (2, 4)
    assert lif_program.state_units == {"layers.1.V": u.mV, "layers.1.spk": None}
    assert lif_program.output_units == (None,)
    assert lif_program.versions["jax"] == jax.__version__
    assert lif_program.as_text().startswith(("module @", "#loc", "sdy", "// "))
    assert "stablehlo.dot_general" in lif_program.as_text()


def test_a_program_stands_in_a_scan_and_takes_other_units_and_number_types(lif_program: StepProgram) -> None:
    xs = inputs("LIF")
    state, outputs = jax.lax.scan(lif_program.step, lif_program.initial_state, xs)
    states, one_by_one = run(lif_program, xs)
    np.testing.assert_allclose(outputs, np.stack(one_by_one))
    np.testing.assert_allclose(numbers(state["layers.1.V"]), numbers(states[-1]["layers.1.V"]), rtol=1e-5)
    other = {**states[3], "layers.1.V": states[3]["layers.1.V"].to(u.volt)}
    _, y = lif_program.step(other, np.asarray(xs[4], np.float64))
    np.testing.assert_array_equal(y, one_by_one[4])


class Pair(brainstate.nn.Module):
    """A net without states and with several outputs, in units that have no name of their own."""

    def update(self, x: u.Quantity) -> tuple[Any, dict[str, Any]]:
        return x / (2 * u.ms), {"b": [x, None], "a": (x.mantissa > 0.5).astype(jnp.int32)}


def test_units_go_in_and_come_out_whatever_the_structure_of_the_output(tmp_path: Path) -> None:
    export_step(Pair(), jnp.zeros(3) * u.mV).save(tmp_path / "pair.step")
    program = load_step(tmp_path / "pair.step")
    assert program.initial_state == {}
    state, (rate, rest) = program.step({}, np.array([1.0, 2.0, 0.0]) * 1e-3 * u.volt)
    assert state == {}
    assert u.have_same_dim(rate, u.mV / u.ms)
    np.testing.assert_allclose(rate.to(u.mV / u.ms).mantissa, [0.5, 1.0, 0.0])
    np.testing.assert_allclose(rest["b"][0].to(u.mV).mantissa, [1, 2, 0], rtol=1e-6)
    assert rest["b"][1] is None
    np.testing.assert_array_equal(rest["a"], [1, 1, 0])


def test_a_loaded_program_runs_forward_in_a_scan_and_refuses_vmap_grad_and_pickle(lif_program: StepProgram) -> None:
    rest, x = lif_program.initial_state, inputs("LIF")[0]
    with pytest.raises(NotImplementedError):
        jax.vmap(lif_program.step, in_axes=(None, 0))(rest, x[None])
    with pytest.raises(ValueError, match="VJP"):
        jax.grad(lambda x: lif_program.step(rest, x)[1].sum())(x)
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(lif_program)


def test_the_file_names_no_path_of_the_machine_that_wrote_it(made) -> None:
    for _, path in made.values():
        program = np.load(path)["program"].tobytes()
        assert b".py" not in program
        assert str(Path(bh.__file__).parent).encode() not in program


@pytest.mark.parametrize("n_in", [N_IN, N_IN + 1])
def test_the_global_random_state_is_left_as_it_was(n_in: int) -> None:
    net = layers(
        bh.nn.H1v1Synapse(N_IN, 2, weight_bits="chip", rounding="stochastic"), bh.nn.H1v1Layer(2, tau=10 * u.ms)
    )
    before, limit = brainstate.random.DEFAULT.value, jax.config.jax_traceback_in_locations_limit
    with brainstate.environ.context(fit=True):
        if n_in == N_IN:
            export_step(net, jnp.zeros(n_in))
        else:
            with pytest.raises(ValueError, match="must have length 4"):
                export_step(net, jnp.zeros(n_in))
    assert bool((brainstate.random.DEFAULT.value == before).all())
    assert jax.config.jax_traceback_in_locations_limit == limit


class MixedKeys(brainstate.nn.Module):
    def update(self, x: jax.Array) -> tuple[dict[Any, jax.Array]]:
        return ({"a": x, 1: x},)


def test_the_network_is_left_as_it_was(made) -> None:
    net, _ = made["H1v1"]
    bh.rollout(net, inputs("H1v1")[:7])
    before = {path: numbers(state.value) for path, state in net.states().items()}
    drawn = brainstate.random.get_state() if hasattr(brainstate.random, "get_state") else None
    export_step(net, jnp.zeros(N_IN), dt=2.0 * u.ms, key=3)
    for path, state in net.states().items():
        np.testing.assert_array_equal(numbers(state.value), before[path])
    if drawn is not None:
        np.testing.assert_array_equal(brainstate.random.get_state(), drawn)
    net(inputs("H1v1")[0])  # still prepared


def test_weights_and_the_sampled_chip_are_those_of_the_export(made) -> None:
    net, _ = made["H1v1"]
    xs = inputs("H1v1")[:, 0]
    program = export_step(net, xs[0], key=3)
    whole, _ = bh.rollout(net, xs, layerwise=False, key=3)
    synapse, kept = net.layers[0], net.layers[0].weight.value
    synapse.weight.value = 0.5 * kept
    try:
        np.testing.assert_array_equal(np.stack(run(program, xs)[1]), whole)
        assert np.abs(whole - bh.rollout(net, xs, layerwise=False)[0]).max() > 0
    finally:
        synapse.weight.value = kept


def test_a_program_for_another_platform_is_written_here_and_refuses_to_run_here(tmp_path: Path) -> None:
    export_step(lif(), jnp.zeros(N_IN), platforms=("cuda", "tpu")).save(tmp_path / "net.step")
    program = load_step(tmp_path / "net.step")
    assert program.platforms == ("cuda", "tpu")
    with pytest.raises(
        RuntimeError, match=r"exported for cuda, tpu, but JAX runs on cpu on this machine. Export it with platforms="
    ):
        program.step(program.initial_state, jnp.zeros(N_IN))
    twice = export_step(Double(), jnp.zeros(2), platforms=("cpu", "cpu"))
    assert twice.platforms == ("cpu",)


class Noisy(brainstate.nn.Module):
    def update(self, x: jax.Array) -> jax.Array:
        return x + brainstate.random.normal(size=x.shape)


class CallsBack(brainstate.nn.Module):
    def update(self, x: jax.Array) -> jax.Array:
        return jax.pure_callback(np.asarray, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


class Prints(brainstate.nn.Module):
    def update(self, x: jax.Array) -> jax.Array:
        jax.debug.print("{}", x)
        return x


class Both(NamedTuple):
    once: jax.Array
    twice: jax.Array


class ReturnsATypeOfItsOwn(brainstate.nn.Module):
    def update(self, x: jax.Array) -> Both:
        return Both(x, 2 * x)


@pytest.mark.parametrize(
    ("make", "arguments", "error", "words"),
    [
        (Noisy, {}, ValueError, "export_step: a step draws random numbers"),
        (CallsBack, {}, ValueError, "export_step: .*calls .*Python"),
        (Prints, {}, ValueError, "export_step: .*calls .*Python"),
        (ReturnsATypeOfItsOwn, {}, TypeError, "export_step: a step must return an array, a Quantity, or tuples"),
        (MixedKeys, {}, TypeError, "the keys of a dict that a step returns must be strings; got the key 1"),
        (
            lambda: fractional(kernel="dense", horizon=9),
            {},
            ValueError,
            "kernel='dense' can run for only 9 time steps.*kernel='soe'",
        ),
        (lif, {"x": jnp.zeros((3, 2, N_IN))}, ValueError, r"x must be the input of one step, \[N\] or \[B, N\]"),
        (lif, {"x": jnp.zeros((0, N_IN))}, ValueError, "x must be the input of one step.*at least 1"),
        (lif, {"x": [[1, 2], [3]]}, TypeError, "export_step: x must be an array of numbers"),
        (lif, {"x": jnp.zeros(3)}, ValueError, "LIFSynapse.update: the last axis of the input must have length 4"),
        (lif, {"dt": 1.0}, TypeError, "export_step: dt must be a Quantity"),
        (lif, {"dt": 0 * u.ms}, ValueError, "export_step: dt must be greater than zero"),
        (lif, {"platforms": ("xpu",)}, ValueError, "export_step: each entry of platforms must be one of 'cpu', 'cuda'"),
        (lif, {"platforms": "cpu"}, TypeError, r"platforms must be a sequence of names such as \('cpu',\); got 'cpu'"),
        (lif, {"platforms": ()}, TypeError, "platforms must be a sequence of names"),
        (lambda: 3, {}, TypeError, "export_step: net must be a brainstate.nn.Module; got 3"),
    ],
)
def test_what_cannot_be_exported_is_refused(make: Callable, arguments: dict, error: type, words: str) -> None:
    x = arguments.pop("x", np.zeros(N_IN, np.float32))
    with pytest.raises(error, match=words):
        export_step(make(), x, **arguments)


def test_export_needs_a_time_step_and_stands_outside_jit() -> None:
    net = lif()
    with pytest.raises(RuntimeError, match=r"export_step: .*cannot be exported inside jit"):
        jax.jit(lambda x: (export_step(net, x), x)[1])(jnp.zeros(N_IN))


@pytest.mark.no_dt
def test_export_without_a_time_step_says_how_to_set_it() -> None:
    with pytest.raises(RuntimeError, match="export_step: no time step is set"):
        export_step(lif(), jnp.zeros(N_IN))


@pytest.mark.parametrize(
    ("state", "x", "error", "words"),
    [
        (None, np.zeros((1, N_IN)), ValueError, r"the input must have shape \(2, 4\); got shape \(1, 4\)"),
        (None, np.zeros((B, N_IN)) + 1j, TypeError, "the input must be real"),
        (None, np.zeros((B, N_IN)) * u.mV, TypeError, "the input must be plain numbers without a unit"),
        (None, "x", TypeError, "the input must be an array of numbers; got 'x'"),
        ({}, None, TypeError, "state must be a mapping with layers.1.V, layers.1.spk.*got a mapping with nothing"),
        (3, None, TypeError, "state must be a mapping with layers.1.V, layers.1.spk, such as initial_state; got 3"),
        ({"layers.1.V": np.zeros((B, 6))}, None, TypeError, "the state layers.1.V must have the dimension of mV"),
        (
            {"layers.1.V": np.zeros((B, 6)) * u.ms},
            None,
            TypeError,
            "the state layers.1.V must have the dimension of mV",
        ),
        ({"layers.1.spk": np.zeros(6)}, None, ValueError, r"the state layers.1.spk must have shape \(2, 6\)"),
    ],
)
def test_a_step_refuses_what_does_not_fit(
    lif_program: StepProgram, state: Any, x: Any, error: type, words: str
) -> None:
    rest = lif_program.initial_state
    given = rest if state is None else {**rest, **state} if isinstance(state, dict) and state else state
    with pytest.raises(error, match=f"StepProgram.step: {words}"):
        lif_program.step(given, np.zeros((B, N_IN), np.float32) if x is None else x)


def test_whole_numbers_are_not_made_of_fractions() -> None:
    program = export_step(Double(), jnp.zeros(2, jnp.int32))
    with pytest.raises(TypeError, match="the input must have dtype int32; got dtype float32"):
        program.step({}, jnp.zeros(2))


class Double(brainstate.nn.Module):
    def update(self, x: jax.Array) -> jax.Array:
        return 2 * x


def test_a_file_that_is_cut_short_or_changed_anywhere_is_refused_in_words(made, tmp_path: Path) -> None:
    whole = made["LIF"][1].read_bytes()
    damaged = tmp_path / "damaged.step"
    cuts = [whole[:n] for n in (0, 1, 4, 300, len(whole) // 2, len(whole) - 1)]
    rng = np.random.default_rng(0)
    # Between the members of an archive there is what does not matter, such as the time of writing.
    parts = [np.load(made["LIF"][1])[name].tobytes() for name in ("program", "description")]
    places = [whole.index(part) + n for part in parts for n in range(len(part))]
    flips = []
    for _ in range(40):
        changed = bytearray(whole)
        changed[int(rng.choice(places))] ^= 1 << int(rng.integers(8))
        flips.append(bytes(changed))
    for content in [*cuts, *flips]:
        damaged.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"load_step: '.*damaged.step' (is truncated or corrupted|is empty|is not a step)"
        ):
            load_step(damaged)


def test_a_file_of_another_kind_is_refused(made, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", program=np.zeros(3), description=np.array("{}"))
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name in ("other.npz", "one.npy"):
        with pytest.raises(ValueError, match=rf"load_step: '.*{name}' is not a step program"):
            load_step(tmp_path / name)
    with pytest.raises(ValueError, match=r"load_step: '.*nowhere' cannot be read: No such file"):
        load_step(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is not a regular file"):
        load_step(tmp_path)
    with pytest.raises(TypeError, match="load_step: path must be the path of a step program; got 3"):
        load_step(3)
    content = dict(np.load(made["LIF"][1]))
    for change, words in (
        ({"description": np.array('{"format": "brainhw-step/4"}')}, "was written by a newer brainhw"),
        (
            {"description": np.array('{"format": "brainhw-step/1"}')},
            r"was written by an older brainhw \(format 1; expected 2 to 3\)",
        ),
        (
            {"description": np.array('{"format": "brainhw-step/2"}')},
            "is corrupted: its content does not match",
        ),
        ({"program": np.zeros(80, np.uint8)}, "is corrupted: its content does not match"),
    ):
        np.savez(tmp_path / "changed.npz", **{**content, **change})
        with pytest.raises(ValueError, match=rf"load_step: '.*changed.npz' {words}"):
            load_step(tmp_path / "changed.npz")


def write_by_hand(path: Path, content: dict[str, np.ndarray], changes: dict[str, Any]) -> None:
    """Write a changed archive whose digest fits; ``changes`` are arrays, or parts of the description."""
    arrays = {**content, **{name: value for name, value in changes.items() if isinstance(value, np.ndarray)}}
    description = json.loads(str(content["description"]))
    description |= {name: value for name, value in changes.items() if not isinstance(value, np.ndarray)}
    states = {name.removeprefix("state/"): value for name, value in arrays.items() if name.startswith("state/")}
    description["sha256"] = digest(arrays["program"].tobytes(), states, description)
    np.savez(path, **{**arrays, "description": np.array(json.dumps(description))})


def unit_of_rest(**changes: Any) -> dict[str, Any]:
    millivolt = {"name": "mV", "exponents": [2, 1, -3, -1, 0, 0, 0], "scale": -3, "factor": 1.0}
    return {"layers.1.V": {**millivolt, **changes}, "layers.1.spk": None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"program": np.zeros(80, np.uint8)}, "contains a program that jax .* cannot read"),
        ({"state/layers.1.V": np.zeros(3, np.float32)}, "is corrupted: its states or its description do not match"),
        ({"state/layers.1.V": np.ones((B, 6), np.int32)}, "is corrupted: its states or its description"),
        ({"state/layers.1.V": np.ones((B, 6), ">f4")}, "is corrupted: its states or its description"),
        ({"state/layers.1.V": np.full((B, 6), b"abcd")}, "is corrupted: its states or its description"),
        ({"state/more": np.zeros(3)}, "is corrupted: its states or its description"),
        ({"dt_ms": 0.0}, "is corrupted: dt_ms must be positive and finite; got 0.0"),
        ({"dt_ms": float("nan")}, "is corrupted: dt_ms must be"),
        ({"dt_ms": 10**400}, "is corrupted: dt_ms must be"),
        ({"dt_ms": [1.0]}, "is corrupted: dt_ms must be"),
        ({"dt_ms": True}, "is corrupted: dt_ms must be"),
        ({"state_units": unit_of_rest(name=None)}, "is corrupted: a unit must have a name"),
        ({"state_units": unit_of_rest(scale="x")}, "is corrupted: exponents and scale of a unit must be finite"),
        ({"state_units": unit_of_rest(factor=-1)}, "is corrupted: the factor of a unit must be positive and finite"),
        ({"state_units": unit_of_rest(exponents=[1, 2])}, "is corrupted: a unit must have a name and seven exponents"),
        ({"versions": [1]}, "is corrupted: its field 'versions' must map"),
    ],
)
def test_an_archive_written_by_hand_is_not_trusted(made, tmp_path: Path, changes: dict, words: str) -> None:
    write_by_hand(tmp_path / "changed.npz", dict(np.load(made["LIF"][1])), changes)
    with pytest.raises(ValueError, match=rf"load_step: '.*changed.npz' {words}"):
        load_step(tmp_path / "changed.npz")


def test_flipped_bits_under_right_checksums_of_the_archive_are_found(made, tmp_path: Path) -> None:
    content = dict(np.load(made["LIF"][1]))
    for name in ("program", "state/layers.1.V"):
        flipped = bytearray(content[name].tobytes())
        flipped[len(flipped) // 2] ^= 1
        changed = np.frombuffer(flipped, content[name].dtype).reshape(content[name].shape)
        np.savez(tmp_path / "flipped.npz", **{**content, name: changed})
        with pytest.raises(ValueError, match=r"is corrupted: its content does not match"):
            load_step(tmp_path / "flipped.npz")


def test_a_program_that_cannot_be_written_leaves_the_old_file(lif_program: StepProgram, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"StepProgram.save: cannot write"):
        lif_program.save(tmp_path / "no folder" / "net.step")
    with pytest.raises(TypeError, match=r"StepProgram.save: path must be the path of the file to write; got None"):
        lif_program.save(None)
    lif_program.save(tmp_path / "net.step")
    assert [path.name for path in tmp_path.iterdir()] == ["net.step"]
    lif_program.save(tmp_path / "again.step")
    assert (tmp_path / "again.step").read_bytes() == (tmp_path / "net.step").read_bytes()


def test_half_precision_survives_the_file(tmp_path: Path) -> None:
    with brainstate.environ.context(precision="bf16"):
        net = layers(bh.nn.LIFSynapse(N_IN, 2), bh.nn.LIFLayer(2, tau=8 * u.ms))
        program = export_step(net, jnp.ones(N_IN, jnp.bfloat16))
    program.save(tmp_path / "half.step")
    loaded = load_step(tmp_path / "half.step")
    assert {numbers(value).dtype.name for value in loaded.initial_state.values()} == {"bfloat16", "float32"}
    state, _ = loaded.step(loaded.initial_state, jnp.ones(N_IN, jnp.bfloat16))
    again, _ = program.step(program.initial_state, jnp.ones(N_IN, jnp.bfloat16))
    np.testing.assert_array_equal(numbers(state["layers.1.V"]), numbers(again["layers.1.V"]))


def test_a_program_in_double_precision_names_the_switch_that_it_needs(tmp_path: Path) -> None:
    code = (
        "import sys, jax; jax.config.update('jax_enable_x64', True)\n"
        "import brainhw as bh, brainunit as u, numpy as np\n"
        "from brainhw.interop.stablehlo import export_step\n"
        "import brainstate; brainstate.environ.set(precision=64)\n"
        "export_step(bh.nn.LIFLayer(2, tau=9 * u.ms), np.zeros(2) * u.mV, dt=1 * u.ms).save(sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "wide.step")], check=True)
    program = load_step(tmp_path / "wide.step")
    with pytest.raises(RuntimeError, match=r"uses float64.*jax_enable_x64"):
        program.step(program.initial_state, np.zeros(2) * u.mV)
