"""Hostile step files: crafted, altered and enormous ones, links and pipes are refused at once with one error."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.interop.stablehlo import StepProgram, export_step, load_step, reader
from brainhw.interop.stablehlo.file import digest


@pytest.fixture(scope="module")
def program() -> StepProgram:
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(3, 2), bh.nn.LIFLayer(2, tau=8 * u.ms))
    return export_step(net, jnp.zeros((1, 3)), dt=1.0 * u.ms)


@pytest.fixture(scope="module")
def content(program: StepProgram, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    path = tmp_path_factory.mktemp("steps") / "net.step"
    program.save(path)
    return dict(np.load(path))


def sealed(content: dict[str, np.ndarray], program: bytes | None = None, **changes: Any) -> bytes:
    """An archive with another program or description, whose digest fits."""
    program = content["program"].tobytes() if program is None else program
    description = json.loads(str(content["description"])) | changes
    states = {name.removeprefix("state/"): value for name, value in content.items() if name.startswith("state/")}
    description["sha256"] = digest(program, states, description)
    stream = io.BytesIO()
    arrays = {"program": np.frombuffer(program, np.uint8), "description": np.array(json.dumps(description))}
    np.savez(stream, **{**content, **arrays})
    return stream.getvalue()


def serialized(function: Any, like: Any) -> bytes:
    return bytes(jax.export.export(jax.jit(function))(*like).serialize())


def test_arguments_and_results_are_in_the_file_in_the_order_of_main(program: StepProgram, content: Any) -> None:
    told = json.loads(str(content["description"]))
    V = {"kind": "state", "name": "layers.1.V", "shape": [1, 2], "dtype": "float32", "unit": "mV"}
    spk = {**V, "name": "layers.1.spk", "unit": None}
    x = {"kind": "input", "name": "x", "shape": [1, 3], "dtype": "float32", "unit": None}
    assert told["arguments"] == [V, spk, x]
    assert told["results"] == [V, spk, {**spk, "kind": "output", "name": "y"}]
    # The spikes of a layer without recurrence are not read, and stay an argument.
    assert "@main(%arg0: tensor<1x2xf32>" in program.as_text()
    assert "%arg2: tensor<1x3xf32>" in program.as_text().partition("@main(")[2].partition("->")[0]
    assert [port.name for port in program.arguments] == ["layers.1.V", "layers.1.spk", "x"]
    assert program.arguments[0].unit == u.mV
    several = export_step(bh.nn.LIFLayer(2, tau=8 * u.ms), jnp.zeros(2) * u.mV, platforms=("cpu", "tpu"))
    assert [port.kind for port in several.arguments] == ["platform", "state", "state", "input"]
    assert several.arguments[-1].unit == u.mV


class Several(brainstate.nn.Module):
    def update(self, x: jax.Array) -> Any:
        return x * u.ms, {"b": x, "a": 2 * x}


def test_each_array_of_an_output_has_a_name_and_a_unit() -> None:
    ports = export_step(Several(), jnp.zeros(2)).results
    assert [(port.name, port.unit) for port in ports] == [("y[0]", u.ms), ("y[1]['a']", None), ("y[1]['b']", None)]


def test_a_file_of_the_format_before_is_read(program: StepProgram, content: Any, tmp_path: Path) -> None:
    # Format 2 has no list of arguments.
    (tmp_path / "old.step").write_bytes(sealed(content, format="brainhw-step/2", arguments=None, results=None))
    old = load_step(tmp_path / "old.step")
    assert old.arguments == program.arguments
    x = jnp.full((1, 3), 9.0)
    np.testing.assert_array_equal(old.step(old.initial_state, x)[1], program.step(program.initial_state, x)[1])


def test_weights_that_only_training_reads_are_not_in_the_program() -> None:
    weight = jnp.full((4, 2), 0.123)
    net = brainstate.nn.Sequential(
        bh.nn.H1v1Synapse(4, 2, weight_init=weight, weight_bits="chip"), bh.nn.H1v1Layer(2, tau=10 * u.ms)
    )
    text = export_step(net, jnp.zeros(4)).as_text()
    assert "dense<1.230000e-01>" not in text
    assert text.count("tensor<4x2xf32>") > 0


class LongProduct(brainstate.nn.Module):
    """A step whose product is large enough for the loops of the extra fast."""

    def update(self, x: jax.Array) -> jax.Array:
        from brainhw.kernel.events import event_product

        return event_product(x, jnp.ones((512, 512)))


def test_an_export_holds_no_loops_of_numba() -> None:
    assert "custom_call" not in export_step(LongProduct(), jnp.zeros((64, 512))).as_text()


def crafted(content: dict[str, np.ndarray]) -> dict[str, tuple[bytes, str]]:
    """Archives by name, each with the words of its refusal."""
    state = {name.removeprefix("state/"): value for name, value in content.items() if name.startswith("state/")}
    x = np.zeros((1, 3), np.float32)

    def step(change: Any) -> bytes:
        return serialized(lambda state, x: (state, change(x)), (state, x))

    library = step(lambda x: x + jnp.linalg.inv(jnp.eye(3) + x).sum())
    of_nobody = library.replace(b"lapack_sgetrf_ffi", b"lapack_xxxxxx_ffi")
    huge = step(lambda x: x + jnp.zeros((2**20, 2**20, 3)).sum())
    long = {"state/layers.1.V": np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (1, 2), (0, 0))}
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("program.npy", bytes(2**24))
    return {
        "a call of a library": (sealed(content, library), "it has an external call"),
        "a call of nobody": (sealed(content, of_nobody), "it has an external call"),
        "an array of terabytes": (sealed(content, huge), r"it has an array of \d+ bytes, more than"),
        "another program": (sealed(content, serialized(lambda x: x, (x,))), "is corrupted"),
        "bytes of zip bombs": (bomb.getvalue(), "is compressed"),
        "a header that claims much": (huge_header(sealed({**content, **long})), "truncated or corrupted"),
        "other arguments": (sealed(content, arguments=[]), "its arguments and results do not match the program"),
        "two units": (sealed(content, output_units=[None, None]), "states or its description do not match"),
    }  # fmt: skip


def huge_header(archive: bytes) -> bytes:
    """A state whose header claims a petabyte."""
    header = b"(1, 2)"
    return archive.replace(header, b"(1,9**9)"[: len(header)], 1).replace(b"'shape': (1,9**", b"'shape': (1,999")


NAMES = (
    "a call of a library", "a call of nobody", "an array of terabytes", "another program", "bytes of zip bombs",
    "a header that claims much", "other arguments", "two units",
)  # fmt: skip


@pytest.fixture(scope="module")
def archives(content: dict[str, np.ndarray]) -> dict[str, tuple[bytes, str]]:
    return crafted(content)


@pytest.mark.parametrize("name", NAMES)
def test_a_crafted_file_is_refused(archives: Any, tmp_path: Path, name: str) -> None:
    data, words = archives[name]
    (tmp_path / "net.step").write_bytes(data)
    with pytest.raises(ValueError, match=r"load_step: '.*net.step' ") as caught:
        load_step(tmp_path / "net.step")
    assert caught.match(words)


def refused(path: Path) -> bool:
    """Whether a file is refused, which must be in the words of the call."""
    try:
        load_step(path)
    except ValueError as error:
        return str(error).startswith("load_step: ")
    return False


def test_bytecode_that_ends_its_reader_is_refused(
    content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rng, whole = tmp_path / "net.step", random.Random(3), content["program"].tobytes()
    start = whole.index(b"ML\xefR")
    for _ in range(8):
        changed = bytearray(whole)
        for _ in range(8):
            changed[rng.randrange(start + 30, len(changed))] = rng.randrange(256)
        path.write_bytes(sealed(content, bytes(changed)))
        assert refused(path)
    # For some bytes jaxlib reads foreign memory, which may end its process or not: here it always does.
    (tmp_path / "reader.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr(reader, "__file__", str(tmp_path / "reader.py"))
    path.write_bytes(sealed(content))
    with pytest.raises(
        ValueError,
        match=r"load_step: .* cannot read \(the subprocess that read the program was stopped by signal 9\)",
    ):
        load_step(path)


def test_an_archive_with_any_bytes_changed_is_refused(content: Any, tmp_path: Path) -> None:
    whole, rng, path = sealed(content), random.Random(5), tmp_path / "net.step"
    # Between the members of an archive there is what does not matter, such as times.
    places = [at for part in ("program", "description") for at in places_of(whole, content[part].tobytes())]
    for _ in range(60):
        changed = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            changed[rng.choice(places)] ^= 1 << rng.randrange(8)
        path.write_bytes(changed if rng.random() < 0.7 else changed[: rng.randrange(len(changed))])
        assert refused(path)


def places_of(whole: bytes, part: bytes) -> range:
    start = whole.find(part[:64])
    return range(start, start + len(part) - 64)


def test_links_pipes_and_folders(content: Any, tmp_path: Path) -> None:
    (tmp_path / "net.step").write_bytes(sealed(content))
    (tmp_path / "link").symlink_to("net.step")
    assert load_step(tmp_path / "link").input_shape == (1, 3)
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "itself").symlink_to("itself")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to pipe").symlink_to("pipe")
    for name in ("pipe", "to pipe", ".", "nowhere", "itself"):
        with pytest.raises(ValueError, match=r"load_step: '.*' (is not a regular file|cannot be read)"):
            load_step(tmp_path / name)


def test_a_length_beyond_the_file_is_refused(content: Any, tmp_path: Path) -> None:
    whole = bytearray(sealed(content))
    # The size of the first member in the list at the end of the archive.
    at = whole.index(b"PK\x01\x02")
    whole[at + 24 : at + 28] = struct.pack("<I", 2**31)
    (tmp_path / "net.step").write_bytes(whole)
    with pytest.raises(ValueError, match="need more bytes than the file has"):
        load_step(tmp_path / "net.step")
