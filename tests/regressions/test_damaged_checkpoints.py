"""Of 300 damaged checkpoints of the gallery 3 loaded with changed weights in silence, and 285 raised raw errors.

Two runs in one folder wrote to the same `run.part`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import pathlib
import sys
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from gallery_scripts import GALLERY

import brainhw as bh
from brainhw._files import FileKind, Sealed

sys.path.insert(0, str(GALLERY))
from _checkpoint import read_checkpoint, write_checkpoint
from _training import Training

sys.path.remove(str(GALLERY))


class Tiny(Training):
    setting = "tiny"

    def score(self, outputs: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean(outputs)


def run_in(folder: pathlib.Path, n: int = 3, **options: Any) -> Tiny:
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(2, n), bh.nn.LIFLayer(n, tau=5 * u.ms))
    arguments = argparse.Namespace(**{"out": folder, "epochs": 2, "resume": True, "stop_after": None, **options})
    return Tiny(net, arguments, n_train=4, learning_rate=0.1, batch_size=2, layers=())


def numbers(run: Training) -> list[np.ndarray]:
    leaves = jax.tree.leaves([run._content(), run.history])
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


def test_300_damaged_files_are_refused_in_one_sentence_and_nothing_changes(tmp_path: pathlib.Path) -> None:
    saved = run_in(tmp_path)
    saved.history = [{"loss": 1.0}]
    saved.save()
    path = tmp_path / "run.msgpack"
    whole = path.read_bytes()
    run = run_in(tmp_path)
    before = numbers(run)
    refused = 0
    for seed in range(306):
        content = damaged(whole, seed)
        if content == whole:  # zeros over zeros
            continue
        path.write_bytes(content)
        with pytest.raises(SystemExit, match=r"^--resume: '.*run\.msgpack' .*\.$") as caught:
            run.load()
        assert "\n" not in str(caught.value)
        refused += 1
        for old, new in zip(before, numbers(run), strict=True):
            np.testing.assert_array_equal(old, new)
    assert refused >= 300
    path.write_bytes(whole)
    run.load()
    for old, new in zip(numbers(saved), numbers(run), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_checkpoint_of_another_run_is_refused_whole(tmp_path: pathlib.Path) -> None:
    run_in(tmp_path).save()
    wider = run_in(tmp_path, n=4)
    before = numbers(wider)
    with pytest.raises(SystemExit, match=r"another network or optimizer: it holds .* with shape \[2, 3\], .* \[2, 4\]"):
        wider.load()
    with pytest.raises(SystemExit, match="was started with"):
        run_in(tmp_path, epochs=3).load()
    for old, new in zip(before, numbers(wider), strict=True):
        np.testing.assert_array_equal(old, new)


TREE = {"a": jnp.arange(3.0) * u.mV, "b": [jnp.ones(2, jnp.bfloat16), 3, 0.5]}


def test_a_tree_comes_back_to_the_bit(tmp_path: pathlib.Path) -> None:
    write_checkpoint(tmp_path / "a", TREE, {"note": "größe"}, call="f")
    read = read_checkpoint(tmp_path / "a", call="f")
    back = read.tree_like(TREE)
    assert read.notes == {"note": "größe"}
    assert back["a"].unit == u.mV
    assert back["b"][1:] == [3, 0.5]
    assert back["b"][0].dtype == jnp.bfloat16
    np.testing.assert_array_equal(back["a"].mantissa, np.arange(3.0))


@pytest.mark.parametrize(
    ("like", "match"),
    [
        ({**TREE, "c": jnp.ones(1)}, r"lacks \['c'\]"),
        ({"a": TREE["a"]}, r"holds \['b'\]\[0\], which is not here"),
        ({**TREE, "a": jnp.arange(3.0) * u.volt}, r"holds \['a'\] with unit mV, and here it is V"),
        ({**TREE, "a": jnp.arange(3.0)}, r"with unit mV"),
        ({**TREE, "a": jnp.arange(3, dtype=jnp.float16) * u.mV}, r"with dtype float32, and here it is float16"),
        ({**TREE, "a": jnp.arange(4.0) * u.mV}, r"with shape \[3\], and here it is \[4\]"),
    ],
)
def test_another_tree_is_refused_by_the_name_of_the_leaf(tmp_path: pathlib.Path, like: Any, match: str) -> None:
    write_checkpoint(tmp_path / "a", TREE, {}, call="f")
    with pytest.raises(ValueError, match=rf"f: '.*a' is the checkpoint of another network or optimizer: it .*{match}"):
        read_checkpoint(tmp_path / "a", call="f").tree_like(like)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"notes": {}, "leaves": []},
        {"notes": {"a": 1}, "leaves": {}},
        {"notes": {}, "leaves": {"a": 1}},
        {"notes": {}, "leaves": {"a": {"dtype": "object", "shape": [1], "unit": "", "data": b"12345678"}}},
        {"notes": {}, "leaves": {"a": {"dtype": "float32", "shape": [2], "unit": "", "data": b"1234"}}},
        {"notes": {}, "leaves": {"a": {"dtype": "float32", "shape": [10**9], "unit": "", "data": b"1234"}}},
    ],
)
def test_content_under_a_right_checksum_is_not_trusted(tmp_path: pathlib.Path, content: Any) -> None:
    sealed = Sealed(FileKind("checkpoint", "f", 1), "brainhw-checkpoint", 2**20)
    sealed.write(tmp_path / "a", msgpack.packb(content), call="f")
    with pytest.raises(ValueError, match=r"g: '.*a' has invalid content"):
        read_checkpoint(tmp_path / "a", call="g")


def _write_often(path: str, value: float) -> None:
    for _ in range(30):
        write_checkpoint(path, {"a": np.full(1000, value)}, {}, call="f")


def test_two_runs_in_one_folder_do_not_collide(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "run.msgpack")
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_write_often, args=(path, value)) for value in (1.0, 2.0)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    values = read_checkpoint(path, call="f").tree_like({"a": np.zeros(1000)})["a"]
    assert len(np.unique(values)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["run.msgpack"]
