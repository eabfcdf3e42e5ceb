"""Files of training runs: trees come back to the bit, damage and other content is refused in one sentence.

Of 300 damaged checkpoints of an earlier version, 3 loaded with changed weights in silence, and 285 raised raw errors.
"""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw._files import FileKind, Sealed
from brainhw.train.run_file import RunFile

FILE = RunFile("training run", "f", "brainhw-run")
TREE = {"a": jnp.arange(3.0) * u.mV, "b": [jnp.ones(2, jnp.bfloat16), 3, 0.5]}


def test_a_tree_comes_back_to_the_bit(tmp_path: Path) -> None:
    FILE.write(tmp_path / "a", TREE, {"note": "größe"}, call="f")
    back, notes = FILE.read(tmp_path / "a", TREE, {}, call="f")
    assert notes == {"note": "größe"}
    assert back["a"].unit == u.mV
    assert back["b"][1:] == [3, 0.5]
    assert back["b"][0].dtype == jnp.bfloat16
    np.testing.assert_array_equal(back["a"].mantissa, np.arange(3.0))


@pytest.mark.parametrize(
    ("like", "match"),
    [
        ({**TREE, "c": jnp.ones(1)}, r"does not contain \['c'\]"),
        ({"a": TREE["a"]}, r"contains \['b'\]\[0\], which does not exist in this run"),
        ({**TREE, "a": jnp.arange(3.0) * u.volt}, r"contains \['a'\] with unit mV, but this run has V"),
        ({**TREE, "a": jnp.arange(3.0)}, r"with unit mV"),
        ({**TREE, "a": jnp.arange(3, dtype=jnp.float16) * u.mV}, r"with dtype float32, but this run has float16"),
        ({**TREE, "a": jnp.arange(4.0) * u.mV}, r"with shape \[3\], but this run has \[4\]"),
    ],
)
def test_another_tree_is_refused_by_the_name_of_the_leaf(tmp_path: Path, like: Any, match: str) -> None:
    FILE.write(tmp_path / "a", TREE, {}, call="f")
    with pytest.raises(
        ValueError, match=rf"^f: '.*a' .*{match}.*\. The file belongs to a different network, chip or optimizer"
    ):
        FILE.read(tmp_path / "a", like, {}, call="f")


def test_another_note_is_refused(tmp_path: Path) -> None:
    FILE.write(tmp_path / "a", TREE, {"epochs": "2"}, call="f")
    with pytest.raises(ValueError, match=r"^f: '.*a' was made with epochs '2', but in this run it is '3'"):
        FILE.read(tmp_path / "a", TREE, {"epochs": "3"}, call="f")


def header(**changes: Any) -> dict[str, Any]:
    leaf = {"name": "['a']", "dtype": "float32", "shape": [1], "unit": "", **changes}
    return {"notes": {}, "leaves": [leaf]}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"notes": [], "leaves": []},
        {"notes": {}, "leaves": [1]},
        header(dtype="object"),
        header(dtype="no type"),
        header(shape=[2]),
        header(shape=[-1]),
        header(shape=[10**9]),
        header(shape=[0.5]),
        {"notes": {}, "leaves": []},
    ],
)
def test_content_under_a_right_checksum_is_not_trusted(tmp_path: Path, content: Any) -> None:
    sealed = Sealed(FileKind("training run", "f", 1), "brainhw-run", 2**20)
    sealed.write(tmp_path / "a", json.dumps(content).encode() + b"\n1234", call="f")
    with pytest.raises(ValueError, match=r"^g: '.*a' has invalid content"):
        FILE.read(tmp_path / "a", {"a": jnp.zeros(1)}, {}, call="g")


X, Y = np.ones((4, 5, 2), np.float32), np.zeros(4, int)


def train(net: brainstate.nn.Module, path: Path, epochs: int = 2) -> bh.train.History:
    def loss(outputs: jax.Array, batch: bh.train.Batch) -> jax.Array:
        return jnp.mean(outputs)

    with brainstate.environ.context(dt=1.0 * u.ms):
        return bh.train.fit(net, (X, Y), loss=loss, epochs=epochs, checkpoint=path, progress=False)


def net_of(n: int = 3, seed: int = 0) -> brainstate.nn.Module:
    brainstate.random.seed(seed)
    return brainstate.nn.Sequential(bh.nn.LIFSynapse(2, n), bh.nn.LIFLayer(n, tau=5 * u.ms))


def numbers(net: brainstate.nn.Module) -> list[np.ndarray]:
    leaves = jax.tree.leaves([state.value for state in net.states(brainstate.ParamState).values()])
    return [np.asarray(leaf).copy() for leaf in leaves]


def damaged(content: bytes, seed: int) -> bytes:
    """Return the content with one fault: bits, bytes, blocks, ends."""
    rng = np.random.default_rng(seed)
    at, length = int(rng.integers(len(content))), int(rng.integers(1, 200))
    kinds = (
        lambda: content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :],
        lambda: content[:at],
        lambda: content[:at] + content[at + length :],
        lambda: content[:at] + rng.bytes(length) + content[at:],
        lambda: content[:at] + bytes(len(content[at : at + length])) + content[at + length :],
        lambda: content + rng.bytes(length),
    )
    return kinds[seed % len(kinds)]()


def test_300_damaged_files_are_refused_in_one_sentence_and_nothing_changes(tmp_path: Path) -> None:
    path, saved = tmp_path / "a.run", net_of()
    train(saved, path)
    whole = path.read_bytes()
    net = net_of(seed=1)
    before, refused = numbers(net), 0
    for seed in range(312):
        content = damaged(whole, seed)
        if content == whole:  # zeros over zeros
            continue
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"^fit: '.*a\.run' .*\.$") as caught:
            train(net, path)
        assert "\n" not in str(caught.value)
        refused += 1
        for old, new in zip(before, numbers(net), strict=True):
            np.testing.assert_array_equal(old, new)
    assert refused >= 300
    path.write_bytes(whole)
    train(net, path)
    for old, new in zip(numbers(saved), numbers(net), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_run_of_another_network_is_refused_whole(tmp_path: Path) -> None:
    train(net_of(), tmp_path / "a.run")
    wider = net_of(n=4)
    before = numbers(wider)
    with pytest.raises(ValueError, match=r"contains .* with shape \[2, 3\], but this run has \[2, 4\]"):
        train(wider, tmp_path / "a.run")
    for old, new in zip(before, numbers(wider), strict=True):
        np.testing.assert_array_equal(old, new)


def _write_often(path: str, value: float) -> None:
    for _ in range(30):
        FILE.write(path, {"a": np.full(1000, value, np.float32)}, {}, call="f")


@pytest.mark.slow
def test_two_runs_in_one_folder_do_not_collide(tmp_path: Path) -> None:
    path = str(tmp_path / "a.run")
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_write_often, args=(path, value)) for value in (1.0, 2.0)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    values = FILE.read(path, {"a": jnp.zeros(1000)}, {}, call="f")[0]["a"]
    assert len(np.unique(values)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.run"]
