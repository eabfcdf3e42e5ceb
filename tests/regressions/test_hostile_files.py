"""Writers replaced devices and pipes, readers waited for pipes and read devices without end, and a crafted step program
ended Python: a custom call with a name of its own choosing.
"""

from __future__ import annotations

import io
import json
import os
import pathlib
import re
import socket
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from gallery_scripts import GALLERY
from jax.interpreters.mlir import make_ir_context
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

import brainhw as bh
from brainhw.cli import main
from brainhw.cli.data import read_inputs, read_labels
from brainhw.interop.nir import from_nir
from brainhw.interop.stablehlo import StepProgram, export_step, load_step
from brainhw.interop.stablehlo.file import digest
from brainhw.interop.stablehlo.reader import examine
from brainhw.train.run_file import RunFile

sys.path.insert(0, str(GALLERY))
from _saving import make_folder, save_figure

sys.path.remove(str(GALLERY))

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def archive(*members: tuple[str, bytes], packed: bool = True) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as there:
        for name, content in members:
            there.writestr(name, content)
    return held.getvalue()


def header(shape: str, kind: str = "<f4") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}"


VAST = npy(header("(100000, 100000, 4)"))
CONTENT: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(5000),
    "noise": np.random.default_rng(0).bytes(5000),
    "no line break": b"brainhw-bundle " * 10**5,
    "bundle of a claim": b"brainhw-bundle 1 " + b"a" * 64 + b" 99999999999\n{}",
    "run of a claim": b"brainhw-run 1 " + b"a" * 64 + b" 99999999999\n{}",
    "gzip": zlib.compress(bytes(10**6)),
    "vast npy": VAST,
    "negative npy": npy(header("(-1, -4, 4)"), bytes(16)),
    "objects": npy(header("(1, 1, 4)", "|O"), b"cos\nsystem\n(S'true'\ntR."),
    "deep header": npy("(" * 3000),
    "npz of a vast x": archive(("x.npy", VAST), ("y.npy", VAST), ("program.npy", VAST), ("description.npy", VAST)),
    "npz bomb": archive(("x.npy", npy(header("(2, 20000, 5)"), bytes(800000))), ("program.npy", bytes(4 * 10**7))),
    "npz of one name twice": archive(("x.npy", VAST), ("x", VAST)),
    "npz cut": archive(("x.npy", npy(header("(1, 1, 4)"), bytes(16))))[:-30],
    "deep lists": b"brainhw-step" + b"[" * 10**5,
    "deep toml": b"a = " + b"[" * 10**5,
    "broken link": b"",
}
KINDS = ("folder", "pipe", "socket", "endless device", "empty device", "link to itself", "null character")


@pytest.fixture
def hostile(tmp_path: pathlib.Path) -> Iterator[Callable[[str], str]]:
    sockets = []

    def make(kind: str) -> str:
        path = tmp_path / "hostile"
        path.unlink(missing_ok=True) if not path.is_dir() else path.rmdir()
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            sockets.append(socket.socket(socket.AF_UNIX))
            sockets[-1].bind(str(path))
        elif kind in ("endless device", "empty device"):
            path.symlink_to("/dev/zero" if kind == "endless device" else "/dev/null")
        elif kind == "link to itself":
            path.symlink_to(path)
        elif kind == "null character":
            return f"{path}\0"
        elif kind == "broken link":
            path.symlink_to(tmp_path / "nothing")
        else:
            path.write_bytes(CONTENT[kind])
        return str(path)

    yield make
    for one in sockets:
        one.close()


RUN_FILE = RunFile("training run", "fit", "brainhw-run")
READERS: dict[str, Callable[[str], Any]] = {
    "load_bundle": bh.deploy.load_bundle,
    "load_chip": bh.chip.load_chip,
    "load_step": load_step,
    "data": lambda path: read_inputs(path, 4, "float32", call="data"),
    "labels": lambda path: read_labels(path, 10, 2, call="labels", required=True),
    "from_nir": lambda path: from_nir(path, dt=1.0 * u.ms),
    "fit": lambda path: RUN_FILE.read(path, {"a": jnp.zeros(3)}, {}, call="fit"),
}


@pytest.mark.parametrize("reader", READERS)
def test_readers_refuse_in_one_sentence(reader: str, hostile: Callable[[str], str]) -> None:
    for kind in (*CONTENT, *KINDS):
        path = hostile(kind)
        with pytest.raises(ValueError, match=rf"^{reader}: ") as caught:
            READERS[reader](path)
        said = str(caught.value)
        # The parser of NIR files and the TOML of a chip name the place of a fault, and no message is a page.
        assert "\n" not in said.strip(), (kind, said)
        assert len(said) < 700 + len(path), (kind, said)


def test_a_member_that_is_larger_than_the_memory_is_not_read(tmp_path: pathlib.Path) -> None:
    # All zeros: 4 GB of shape are packed into a few bytes here, and their header is read alone.
    path = tmp_path / "x.npz"
    path.write_bytes(archive(("x.npy", npy(header("(1000000, 1000000, 4)"), bytes(100)))))
    with pytest.raises(ValueError, match="bytes follow"):
        read_inputs(str(path), 4, "float32", call="data")


@pytest.fixture(scope="module")
def made() -> tuple[brainstate.nn.Module, StepProgram]:
    with brainstate.environ.context(dt=1.0 * u.ms):
        net = brainstate.nn.Sequential(
            bh.nn.H1v1Synapse(4, 2, weight_init=jnp.full((4, 2), 0.3), weight_bits="chip"),
            bh.nn.H1v1Layer(2, tau=10 * u.ms),
        )
        return net, export_step(net, jnp.zeros(4))


def writers(made: tuple[brainstate.nn.Module, StepProgram]) -> dict[str, Callable[[str], Any]]:
    import matplotlib.figure

    net, program = made
    return {
        "save_chip": lambda path: bh.chip.save_chip(bh.chip.H1V1, path),
        "export_bundle": lambda path: bh.deploy.export_bundle(net, path),
        "StepProgram.save": program.save,
        "f": lambda path: RUN_FILE.write(path, {"a": np.zeros(3)}, {}, call="f"),
        "--out": lambda path: save_figure(matplotlib.figure.Figure(), pathlib.Path(path)),
    }


def test_writers_leave_what_is_no_file_as_it_is(made, hostile: Callable[[str], str]) -> None:
    for call, write in writers(made).items():
        for kind in KINDS:
            path = hostile(kind)
            before = None if "\0" in path else os.lstat(path)
            with pytest.raises(ValueError, match=rf"^{call}: cannot write .*[.;] [Pp]ass .*file") as caught:
                write(path)
            assert "\n" not in str(caught.value)
            if before is not None:
                assert os.lstat(path).st_ino == before.st_ino
                assert os.listdir(os.path.dirname(path)) == ["hostile"]
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert stat.S_ISCHR(os.stat("/dev/zero").st_mode)


def test_a_broken_link_is_a_name_for_a_new_file(made, hostile: Callable[[str], str]) -> None:
    path = hostile("broken link")
    bh.chip.save_chip(bh.chip.H1V1, path)
    assert os.path.islink(path)
    assert bh.chip.load_chip(path) == bh.chip.H1V1


def test_the_command_line_refuses_before_it_computes(
    made, hostile: Callable[[str], str], tmp_path: pathlib.Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, data = str(tmp_path / "net.bundle"), str(tmp_path / "x.npy")
    bh.deploy.export_bundle(made[0], bundle)
    np.save(data, np.ones((2, 5, 4)))
    monkeypatch.setattr("brainhw.cli.run._outputs", lambda *_: pytest.fail("it computes"))
    for kind in KINDS:
        assert main(["run", bundle, data, "--out", hostile(kind)]) == 1
        assert re.fullmatch(r"error: run: cannot write .*\n", capsys.readouterr().err)
        for words in (["info", hostile(kind)], ["run", bundle, hostile(kind)], ["power", bundle, hostile(kind)]):
            assert main(words) == 1
            assert re.fullmatch(rf"error: {words[0]}: .*\n", capsys.readouterr().err)


def test_the_folder_of_a_script_is_looked_through_first(hostile: Callable[[str], str]) -> None:
    path = pathlib.Path(hostile("pipe"))
    with pytest.raises(SystemExit, match=r"--out: cannot write .*hostile.*: it is a pipe"):
        make_folder(path.parent)
    with pytest.raises(SystemExit, match=r"--out: .* is not a usable folder"):
        make_folder(path)


# A step program: what it may not do, under checksums that are right.


def write_archive(path: pathlib.Path, content: dict[str, Any]) -> None:
    with path.open("wb") as stream:  # by name, NumPy would add an ending
        np.savez(stream, **content)


def crafted(program: StepProgram, path: pathlib.Path, exported: jax.export.Exported) -> None:
    program.save(path)
    content = dict(np.load(path))
    content["program"] = np.frombuffer(bytes(exported.serialize()), np.uint8)
    description = json.loads(str(content["description"]))
    states = {name.removeprefix("state/"): value for name, value in content.items() if name.startswith("state/")}
    description["sha256"] = digest(content["program"].tobytes(), states, description)
    write_archive(path, {**content, "description": np.array(json.dumps(description))})


def test_a_program_that_calls_a_library_is_not_loaded(made, tmp_path: pathlib.Path) -> None:
    _, program = made

    def calls(state: dict[str, jax.Array], x: jax.Array) -> Any:
        square = jnp.outer(x, x) + jnp.eye(4)
        return state, jnp.linalg.solve(square, x)[:2]

    exported = jax.export.export(jax.jit(calls))(*program.exported.in_tree.unflatten(program.exported.in_avals)[0])
    crafted(program, tmp_path / "net.step", exported)
    with pytest.raises(
        ValueError, match=r"load_step: '.*net\.step' contains a program .*: it has an external call to 'lapack_\w+'"
    ):
        load_step(tmp_path / "net.step")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("%0 = stablehlo.custom_call @evil(%x) : (F) -> F", "it has an external call to 'evil'"),
        ('%0 = stablehlo.custom_call @"e vil"(%x) : (F) -> F', "it has an external call to 'e vil'"),
        (
            '%0 = "stablehlo.custom_call"(%x) <{call_target_name = "evil"}> : (F) -> F',
            "it has an external call to 'evil'",
        ),
        (
            "%t = stablehlo.after_all : !stablehlo.token\n"
            '%0:2 = "stablehlo.infeed"(%t) : (!stablehlo.token) -> (F, !stablehlo.token)',
            "it has the operation infeed",
        ),
        (
            '%0 = "stablehlo.all_gather"(%x) '
            "<{all_gather_dim = 0 : i64, replica_groups = dense<0> : tensor<1x1xi64>}> : (F) -> F",
            "it has the operation all_gather",
        ),
        (
            "%0 = stablehlo.constant dense<0.0> : tensor<100000x100000xf32>",
            "it has an array of 40000000000 bytes",
        ),
    ],
)
def test_faults_of_a_program_are_named(line: str, fault: str) -> None:
    text = f"func.func public @main(%x: F) -> F {{\n{line}\nreturn %x : F\n}}".replace("F", "tensor<2xf32>")
    with make_ir_context():
        module = ir.Module.parse(text)
        bytecode = stablehlo.serialize_portable_artifact(module, stablehlo.get_minimum_version())
    assert any(found.startswith(fault) for found in examine(bytecode).faults)


def test_a_step_that_calls_a_library_is_not_exported() -> None:
    class Solving(brainstate.nn.Module):
        def update(self, x: jax.Array) -> jax.Array:
            return jnp.linalg.solve(jnp.outer(x, x) + jnp.eye(4), x)

    with pytest.raises(ValueError, match=r"export_step: .*it has an external call to 'lapack_\w+'"):
        export_step(Solving(), jnp.ones(4), dt=1.0 * u.ms, platforms=("cpu",))


@pytest.mark.parametrize("change", [{"dt_ms": 2.0}, {"input_unit": None, "state_units": {}}, {"versions": {}}])
def test_units_and_dt_stand_under_the_checksum(made, tmp_path: pathlib.Path, change: dict[str, Any]) -> None:
    path = tmp_path / "net.step"
    made[1].save(path)
    content = dict(np.load(path))
    description = json.loads(str(content["description"])) | change
    write_archive(path, {**content, "description": np.array(json.dumps(description))})
    with pytest.raises(ValueError, match=r"load_step: '.*net\.step' is corrupted: its content does not match"):
        load_step(path)


def test_a_compressed_program_is_refused_before_it_is_unpacked(made, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "net.step"
    made[1].save(path)
    np.savez_compressed(path.with_suffix(".npz"), **np.load(path))
    with pytest.raises(ValueError, match=r"load_step: .* its array 'program' is compressed|is compressed"):
        load_step(path.with_suffix(".npz"))
