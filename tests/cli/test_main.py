"""The command line: what it shows, its exit codes, and one line for whatever goes wrong."""

from __future__ import annotations

import gzip
import os
import pathlib
import pickle
import re
import runpy
import signal
import subprocess
import sys

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.cli import main
from brainhw.deploy.bundle import export_bundle, load_bundle

pytestmark = pytest.mark.no_dt

COMMANDS = ("info", "check", "power", "run")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two bundles, data, labels, and files that are neither."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    net = brainstate.nn.Sequential(
        bh.nn.H1v1Synapse(5, 8, weight_init=rng.uniform(0.1, 0.9, (5, 8)), weight_bits="chip"),
        bh.nn.H1v1Layer(
            8,
            tau=[5, 5, 5, 5, 10, 10, 20, 20] * u.ms,
            topology="RC",
            recurrent_init=rng.uniform(-0.3, 0, (8, 8)),
            weight_bits=3,
        ),
        bh.nn.H1v1Synapse(8, 4, weight_init=rng.uniform(0.1, 0.9, (8, 4)), weight_bits="chip"),
        bh.nn.H1v1Layer(4, tau=20 * u.ms),
    )
    with brainstate.environ.context(dt=1.0 * u.ms):
        export_bundle(net, folder / "votes", n_classes=2, notes="first line\n[bold]second[/bold]")
        export_bundle(net, folder / "plain")
    mixed = bytearray((folder / "plain").read_bytes())
    (folder / "damaged").write_bytes(bytes(mixed[:-1]) + b"\0")
    x = rng.random((10, 20, 5)) * 5
    x[3] = 0
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", np.arange(10) % 2)
    np.savez(folder / "xy.npz", x=x.astype(np.float16), y=np.arange(10, dtype=np.uint8) % 4)
    np.savez(folder / "other.npz", z=x)
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    return folder


@pytest.fixture
def at_home(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.chdir(folder)
    return folder


def shown(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What a command writes; nothing goes to the standard error if it succeeds."""
    assert main(words) == code
    out, err = capsys.readouterr()
    assert err == ""
    return out


def failed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 1) -> str:
    """The one line that a command fails with."""
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: [^\n]*\n", err), err
    assert "Traceback" not in err
    return err


def test_info_shows_everything_that_a_bundle_holds(at_home: pathlib.Path, capsys) -> None:
    out = shown(capsys, "info", "votes")
    for text in (
        "chip        H1v1, family H1v1, 256 neurons in 4 core(s)",
        "time step   1 ms, float32",
        "input       5 channels",
        "output      layers.3, 4 neurons, 2 classes",
        "written by  brainhw ",
        "notes       [bold]second[/bold]",
    ):
        assert text in out
    checksum = (at_home / "votes").read_bytes().split()[2].decode()
    assert f"SHA-256     {checksum}\n" in out
    rows = [" ".join(line.split()) for line in out.splitlines()]
    used = len(np.unique(load_bundle("votes").content.synapses["layers.0"].weight.values))
    assert any(row.startswith(f"layers.1 input layers.0 8 RC 5, 10, 20 ms 5 x 8 5 {used} of 31 ") for row in rows)
    assert any(row.startswith("layers.1 itself recurrent weights 8 x 8 3 2 of 7 0.0%") for row in rows)
    assert "0 8-11 layers.3 FF 0-3 of 4" in rows
    assert "V_th" not in out
    assert "V_th" in shown(capsys, "info", "votes", "--chip")


def test_check_says_whether_a_chip_takes_it(at_home: pathlib.Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(capsys, "check", "votes")
    assert re.search(r"^deployable on H1v1: all \d+ rules hold\nchecksum correct: SHA-256 [0-9a-f]{64}\n$", out)
    crowded = load_bundle("votes").content.to_plain()
    crowded["synapses"]["layers.0"]["codes"][0][0] = -5
    from brainhw.deploy.bundle import write_plain

    write_plain("mixed", crowded, call="test")
    out = shown(capsys, "check", "mixed", code=1)
    assert "not deployable on H1v1: 1 violation(s)" in out
    assert "one sign in a block" in out
    assert "does not match its checksum" in failed(capsys, "check", "damaged")


def test_power_is_that_of_the_library(at_home: pathlib.Path, capsys) -> None:
    net = load_bundle("votes")
    with brainstate.environ.context(dt=net.dt):
        report = bh.deploy.estimate_power(net, np.load("x.npy").astype(np.float32).swapaxes(0, 1))
    out = shown(capsys, "power", "votes", "x.npy")
    first = f"energy {report.energy.mantissa:.4g} uJ per inference, power {report.power.mantissa:.4g} uW"
    assert out == f"{first} (coefficients assumed)\n{report}\n"


def test_run_predicts_what_the_library_does_whatever_the_batches(at_home: pathlib.Path, capsys) -> None:
    net, x = load_bundle("votes"), np.load("x.npy")
    with brainstate.environ.context(dt=net.dt):
        spikes = np.asarray(bh.rollout(net, jnp.asarray(x.swapaxes(0, 1), jnp.float32))[0])
    right = bh.train.accuracy_population(spikes, np.load("y.npy"), 2)
    outs = []
    for size in ("4", "64"):
        words = ("run", "votes", "x.npy", "--labels", "y.npy", "--out", "o.npz", "--batch-size", size, "--neurons")
        outs.append(shown(capsys, *words))
        with np.load("o.npz", allow_pickle=False) as held:
            np.testing.assert_array_equal(held["spikes"], spikes.swapaxes(0, 1))
            predicted = held["predicted"]
    assert outs[0] == outs[1]
    assert outs[0].startswith(f"accuracy {float(right):.2%} (")
    assert "silent in" not in shown(capsys, "run", "votes", "x.npy")
    rows = [" ".join(line.split()) for line in outs[0].splitlines()]
    assert "10 samples of 20 steps (20 ms) on the nominal chip of H1v1" in rows
    assert "1 of 10 recordings have no output spike; they count as class 0" in rows
    assert f"0 0 {spikes[..., 0].sum():.0f} {spikes[..., 0].sum() / 10:.2f} 10.0%" in rows
    hits = [np.sum((predicted == c) & (np.load("y.npy") == c)) for c in (0, 1)]
    for c in (0, 1):
        assert any(row.startswith(f"{c} {np.sum(predicted == c)} 5 {hits[c]} {hits[c] / 5:.1%}") for row in rows)


def test_run_reads_labels_beside_the_data_and_samples_chips(at_home: pathlib.Path, capsys) -> None:
    out = shown(capsys, "run", "plain", "xy.npz")
    assert "accuracy " in out
    assert re.search(r"\n +3 +\d+ +2 +\d +[\d.]+%", out)  # a class for each neuron where none are told
    assert "labelled" not in shown(capsys, "run", "plain", "x.npy")
    out = shown(capsys, "run", "plain", "xy.npz", "--chip-key", "7", "--out", "seven.npz")
    assert "on the chip of key 7 of H1v1" in out
    net, xs = load_bundle("plain"), jnp.asarray(np.load("xy.npz")["x"].swapaxes(0, 1), jnp.float32)
    with brainstate.environ.context(dt=net.dt):
        seven, nominal = (np.asarray(bh.rollout(net, xs, key=key)[0]).swapaxes(0, 1) for key in (7, None))
    np.testing.assert_array_equal(np.load("seven.npz")["spikes"], seven)
    assert not np.array_equal(seven, nominal)


def test_help_and_version(capsys) -> None:
    for command in COMMANDS:
        assert "BUNDLE" in shown(capsys, command, "--help")
    out = shown(capsys, "--help")
    assert all(command in out for command in COMMANDS)
    assert "[samples, steps, channels]" in " ".join(shown(capsys, "run", "--help").split())
    assert shown(capsys, "--version") == f"brainhw {bh.__version__}\n"


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["look", "votes"], "invalid choice: 'look'"),
        (["tarin", "x.npz"], "did you mean 'train'? (see"),
        (["completion", "bsh"], "did you mean 'bash'? (see"),
        (["info"], "the following arguments are required: BUNDLE"),
        (["run", "votes"], "the following arguments are required: DATA"),
        (["info", "votes", "--loud"], "unknown argument '--loud' (see brainhw info --help)"),
        (["info", "votes", "--jsn"], "unknown argument '--jsn'; did you mean '--json'? (see brainhw info --help)"),
        (["run", "votes", "x.npy", "--chip-kye=3"], "'--chip-kye=3'; did you mean '--chip-key'? (see brainhw run"),
        (["train", "x.npz", "--chp", "h1v2"], "unknown argument '--chp'; did you mean '--chip'?"),
        (["run", "votes", "x.npy", "--chip-key", "x"], "--chip-key: must be an integer from 0 to 4294967295"),
        (["run", "votes", "x.npy", "--chip-key", "4294967296"], "got '4294967296'"),
        (["run", "votes", "x.npy", "--batch-size", "0"], "--batch-size: must be an integer from 1"),
        (["run", "votes", "x.npy", "--batch-size", "²"], "--batch-size: must be an integer from 1"),
    ],
)
def test_words_that_make_no_command_end_with_2(at_home: pathlib.Path, capsys, words: list[str], match: str) -> None:
    assert match in failed(capsys, *words, code=2)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bundle_that_is_refused_ends_with_1(at_home: pathlib.Path, capsys, command: str) -> None:
    more = ("x.npy",) if command in ("power", "run") else ()
    for name, match in (
        ("none", "No such file"),
        (".", "not a regular file"),
        (
            "x.npy",
            f"is not a bundle, but a file of arrays. The order of the arguments is `brainhw {command} BUNDLE DATA`",
        )
        if more
        else ("x.npy", "is not a bundle"),
        ("damaged", ""),
    ):
        assert f"{command}: '{name}' " in failed(capsys, command, name, *more)
        assert match in failed(capsys, command, name, *more)


def test_a_bundle_is_known_by_its_content(at_home: pathlib.Path, capsys) -> None:
    pathlib.Path("renamed.npz").write_bytes(pathlib.Path("votes").read_bytes())
    assert main(["run", "renamed.npz", "x.npy", "--quiet"]) == 0
    capsys.readouterr()
    assert "'none.npz' cannot be read: No such file" in failed(capsys, "run", "none.npz", "x.npy")


def odd_file(name: str) -> None:
    """Write a file that is no data for the bundles."""
    x = np.load("x.npy")
    npy = pathlib.Path("x.npy").read_bytes()
    npz = pathlib.Path("xy.npz").read_bytes()
    held = {
        "empty": b"",
        "text": b"1,2,3\n",
        "pickle": pickle.dumps([1]),
        "gzip": gzip.compress(npy),
        "cut.npy": npy[:-9],
        "cut.npz": npz[: len(npz) // 2],
        "vast.npy": npy.replace(b"(10, 20, 5)", b"(10, 9999999999999999, 5)").replace(b" " * 17 + b"\n", b"\n"),
    }
    arrays = {
        "flat.npy": x[0],
        "wide.npy": x[..., :3],
        "none.npy": x[:0],
        "words.npy": x.astype(str),
        "complex.npy": x.astype(complex),
        "nan.npy": np.where(x > 4.9, np.nan, x),
        "large.npy": x * 1e300,
    }
    if name in arrays:
        np.save(name, arrays[name])
    else:
        pathlib.Path(name).write_bytes(held[name])


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("missing.npy", "the data of 'missing.npy' cannot be read: the file does not exist"),
        (".", "cannot be read: it is a folder"),
        ("empty", "is not a .npy or .npz file of numeric arrays"),
        ("text", "is not a .npy or .npz file of numeric arrays"),
        ("pickle", "is not a .npy or .npz file of numeric arrays"),
        ("gzip", "is not a .npy or .npz file of numeric arrays"),
        ("cut.npy", "or is corrupted"),
        ("cut.npz", "or is corrupted"),
        ("vast.npy", "corrupted"),
        ("objects.npy", r"the array contains Python objects.*\.astype\(str\)"),
        ("other.npz", "has no array 'x'; it contains 'z'"),
        (
            "flat.npy",
            r"must be a numeric array \[samples, steps, channels\], each at least 1; got an array of shape \(20,",
        ),
        ("none.npy", r"got an array of shape \(0, 20, 5\)"),
        ("words.npy", "must be a numeric array"),
        ("complex.npy", "must be a numeric array"),
        ("wide.npy", r"must have 5 channels on the last axis; got shape \(10, 20, 3\)"),
        ("nan.npy", r"contains \d+ values that are NaN, infinite or too large"),
        ("large.npy", "contains 9.. values that are NaN, infinite or too large"),
    ],
)
def test_data_that_does_not_fit_is_refused(at_home: pathlib.Path, capsys, name: str, match: str) -> None:
    if not os.path.exists(name) and name != "missing.npy":
        odd_file(name)
    for command in ("run", "power"):
        assert re.search(match, failed(capsys, command, "votes", name))


def test_labels_that_do_not_fit_are_refused(at_home: pathlib.Path, capsys) -> None:
    run = ("run", "votes", "x.npy", "--labels")
    for name, labels, match in (
        (
            "short.npy",
            np.arange(9) % 2,
            r"must be integers of shape \(10,\), one per sample; got an array of shape",
        ),
        ("real.npy", np.full(10, 0.5), r"names or integers; 10 of 10 are not. The first is 0.5. .*np.digitize"),
        (
            "lost.npy",
            np.where(np.arange(10) < 8, 1.0, np.nan),
            "2 of 10 are not. The first is nan. Remove the recordings",
        ),
        ("names.npy", np.array(["a"] * 10), r"must be integers of shape \(10,\).*--encoding FILE"),
        ("high.npy", np.arange(10), "must be classes from 0 to 1; got 0 to 9"),
        ("low.npy", np.arange(10) - 1, "must be classes from 0 to 1; got -1 to 8"),
    ):
        np.save(name, labels)
        assert re.search(match, failed(capsys, *run, name))
    np.save("floats.npy", np.arange(10.0) % 2)
    assert main((*run, "floats.npy")) == 0
    assert "accuracy" in capsys.readouterr().out
    assert "has no array 'y'; it contains 'z'" in failed(capsys, *run, "other.npz")
    assert "the file does not exist" in failed(capsys, *run, "missing.npy")
    assert "classes from 0 to 1; got 0 to 3" in failed(capsys, "run", "votes", "xy.npz")


def test_an_output_file_that_cannot_be_written_is_refused_and_no_input_is_overwritten(at_home, capsys) -> None:
    assert "cannot write 'none/o.npz'" in failed(capsys, "run", "votes", "x.npy", "--out", "none/o.npz")
    before = pathlib.Path("x.npy").read_bytes()
    for out in ("x.npy", "./votes", "y.npy"):
        words = ("run", "votes", "x.npy", "--labels", "y.npy", "--out", out)
        assert f"--out '{out}' would overwrite " in failed(capsys, *words)
    assert pathlib.Path("x.npy").read_bytes() == before


def test_only_an_old_result_is_overwritten(at_home, capsys) -> None:
    table = pathlib.Path("table.csv")
    table.write_text("a,b\n1,2\n")
    words = ("run", "votes", "x.npy", "--out")
    assert "--out must be a new file or an existing .npz file to replace; got 'table.csv'" in failed(
        capsys, *words, str(table)
    )
    assert table.read_text() == "a,b\n1,2\n"
    assert main([*words, "new.npz"]) == main([*words, "new.npz"]) == 0


def test_whatever_else_goes_wrong_is_one_line_too(at_home, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    from brainhw.cli import look

    for error, code, match in (
        (KeyError("lost\nkey"), 1, "error: KeyError: 'lost"),
        (MemoryError(), 1, "error: MemoryError"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
    ):

        def fail(*_: object, error: BaseException = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(look, "info", fail)
        assert match in failed(capsys, "info", "votes", code=code)


def test_python_m_brainhw_is_the_command_line(at_home, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["brainhw", "check", "none"])
    # A test that imports every module may have run before in this process; runpy warns of that.
    monkeypatch.delitem(sys.modules, "brainhw.__main__", raising=False)
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("brainhw", run_name="__main__")
    assert stop.value.code == 1
    assert "error: check: 'none' cannot be read" in capsys.readouterr().err


def test_ctrl_c_during_the_imports_ends_without_a_traceback(tmp_path: pathlib.Path) -> None:
    """Compiled modules print the exception of an interrupted import, or ignore it."""
    (tmp_path / "numpy.py").write_text(
        "import sys, time\nsys.stdout.write('importing\\n')\nsys.stdout.flush()\ntime.sleep(60)\n"
    )
    path = os.pathsep.join((str(tmp_path), str(pathlib.Path(bh.__file__).parents[1])))
    program = subprocess.Popen(
        [sys.executable, "-m", "brainhw", "info", "none.bundle"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "importing\n"
    program.send_signal(signal.SIGINT)
    _, error = program.communicate(timeout=60)
    # A shell reports the end by this signal as 130.
    assert (program.returncode, error) == (-signal.SIGINT, "")
