"""The training loop: what an epoch reports, the best weights, resuming to the bit, refusals that change nothing."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tqdm import tqdm

import brainhw as bh
from brainhw.data import Split

RNG = np.random.default_rng(0)
Y = np.arange(20) % 2
X = (RNG.random((20, 30, 4)) < (0.2 + 0.5 * (Y[:, None, None] == (np.arange(4) % 2)))).astype(np.float32)


@pytest.fixture(autouse=True)
def _dt():
    with brainstate.environ.context(dt=1.0 * u.ms):
        yield


def net(seed: int = 0) -> brainstate.nn.Module:
    brainstate.random.seed(seed)
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(4, 8, weight_init=braintools.init.Normal(0.0 * u.mV, 6.0 * u.mV)),
        bh.nn.LIFLayer(8, tau=20 * u.ms),
        bh.nn.LIFSynapse(8, 2, weight_init=braintools.init.Normal(3.0 * u.mV, 4.0 * u.mV)),
        bh.nn.LIFLayer(2, tau=20 * u.ms),
    )


def loss(outputs: jax.Array, batch: Any) -> jax.Array:
    return braintools.metric.softmax_cross_entropy_with_integer_labels(outputs.sum(axis=0), batch.y).mean()


def accuracy(outputs: jax.Array, batch: Any) -> jax.Array:
    return bh.train.accuracy(outputs, batch.y)


def train(model: Any, data: Any = (X, Y), validation: Any = None, **options: Any) -> bh.train.History:
    given = {"loss": loss, "metrics": {"accuracy": accuracy}, "epochs": 4, "batch_size": 8, "learning_rate": 0.5}
    return bh.train.fit(model, data, validation, progress=False, **{**given, **options})


def weights(model: Any) -> list[np.ndarray]:
    return [
        np.asarray(leaf) for leaf in jax.tree.leaves([s.value for s in model.states(brainstate.ParamState).values()])
    ]


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_it_learns_and_reports_each_epoch() -> None:
    model = net()
    history = train(model, epochs=10)
    assert list(history.epochs[0]) == ["loss", "accuracy"]
    assert history.column("loss")[-1] < history.column("loss")[0]
    assert history.column("accuracy").max() > 0.8
    assert history.watched == "accuracy"
    assert history.reason == "all epochs"
    assert f"{history.best + 1} *" in str(history)


def test_an_epoch_is_the_mean_over_samples() -> None:
    # 20 samples in batches of 8: the last one holds 4, and counts as half of the others.
    model, given = net(), Split(x=X, y=Y, lengths=np.full(20, 30))
    history = train(model, epochs=1, optimizer=braintools.optim.SGD(lr=1e-9))
    outputs = bh.rollout(net(), X.swapaxes(0, 1))[0]
    np.testing.assert_allclose(history.column("loss")[0], float(loss(outputs, bh.train.Batch(X, Y, 30, 0))), rtol=1e-4)
    assert len(given) == 20


def test_the_best_weights_stay() -> None:
    model, kept = net(), []
    history = train(
        model,
        validation=(X[::2], Y[::2]),
        epochs=6,
        learning_rate=3.0,
        callbacks=[lambda e, n: n and kept.append(weights(model))],
    )
    assert history.watched == "validation_accuracy"
    assert history.best == int(np.argmax(history.column("validation_accuracy")))
    for now, then in zip(weights(model), kept[history.best], strict=True):
        np.testing.assert_array_equal(now, then)


def test_patience_ends_the_run() -> None:
    history = train(net(), epochs=50, patience=2, watch="loss", optimizer=braintools.optim.SGD(lr=1e-12))
    assert history.reason == "patience"
    assert len(history.epochs) < 50


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3])
def test_a_run_goes_on_to_the_bit(tmp_path: Path, after: int) -> None:
    whole = net()
    expected = train(whole, validation=(X, Y), checkpoint=tmp_path / "whole.run")

    def stop(epoch: int, numbers: Any) -> None:
        if epoch == after and numbers is None:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(net(), validation=(X, Y), checkpoint=tmp_path / "part.run", callbacks=[stop])
    other = net(seed=5)
    history = train(other, validation=(X, Y), checkpoint=tmp_path / "part.run")
    assert same(other, whole)
    assert history.epochs == expected.epochs
    # A run that has ended is taken up as well: nothing is left to do.
    third = net(seed=6)
    train(third, validation=(X, Y), checkpoint=tmp_path / "part.run")
    assert same(third, whole)
    assert [file.name for file in tmp_path.iterdir() if "run" not in file.suffix] == []


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"data": (X + 1, Y)}, "data"),
        ({"epochs": 5}, "settings"),
        ({"seed": 1}, "settings"),
        ({"learning_rate": 0.4}, "settings"),
        ({"validation": (X, Y)}, "validation"),
    ],
)
def test_a_file_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    train(net(), epochs=2, checkpoint=tmp_path / "a.run")
    model = net(seed=3)
    before = weights(model)
    with pytest.raises(ValueError, match=rf"^fit: .*was made with {match}"):
        train(model, **{"epochs": 2, **change}, checkpoint=tmp_path / "a.run")
    for now, then in zip(weights(model), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_file_of_a_run_on_another_chip_is_refused(tmp_path: Path) -> None:
    # The weights of both have the same names and shapes.
    def on(synapse: Any, layer: Any) -> brainstate.nn.Module:
        return brainstate.nn.Sequential(synapse(4, 2), layer(2, tau=20 * u.ms))

    train(on(bh.nn.H1v1Synapse, bh.nn.H1v1Layer), epochs=1, checkpoint=tmp_path / "a.run")
    with pytest.raises(ValueError, match=r"^fit: .*was made with chips 'H1v1 \w+', and here it is 'H1v2 \w+'"):
        train(on(bh.nn.H1v2Synapse, bh.nn.H1v2Layer), epochs=1, checkpoint=tmp_path / "a.run")


def test_a_bar_that_the_environment_switches_off_stays_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # So tqdm takes TQDM_DISABLE: as another default.
    monkeypatch.setattr("brainhw.train.run.tqdm", functools.partial(tqdm, disable=True))
    bh.train.fit(net(), (X, Y), loss=loss, epochs=1, progress=True)
    assert not capsys.readouterr().err


def test_a_loss_that_is_not_finite_leaves_the_weights_before_the_epoch() -> None:
    model, seen = net(), []

    def broken(outputs: jax.Array, batch: Any) -> jax.Array:
        return loss(outputs, batch) * jnp.where(batch.x.shape[1] == 4, jnp.nan, 1.0)

    with pytest.raises(FloatingPointError, match=r"^fit: loss is nan in epoch 1 on train"):
        train(model, loss=broken, callbacks=[lambda e, n: seen.append(weights(model))])
    for now, then in zip(weights(model), seen[0], strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ((X[:0], Y[:0]), "train|empty|recording"),
        ((X[:, :, 0], Y), r"x of train must be \[B, T, \*N\]"),
        (X, "must give pairs|must be a Split"),
        ([], "gave no batch|number of batches"),
        (iter([(X, Y)]), "an iterable of pairs that can be gone through in each epoch"),
        ("train.npz", "must be a Split"),
    ],
)
def test_bad_data_is_named(data: Any, match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        train(net(), data)


def test_batches_of_a_loader() -> None:
    loader = [(X[i : i + 5], Y[i : i + 5]) for i in range(0, 20, 5)]
    model = net()
    assert train(model, loader, epochs=3).column("loss").shape == (3,)


SCRIPT = """
import sys; sys.path.insert(0, {tests!r})
import brainstate, brainunit as u
import test_fit as t
with brainstate.environ.context(dt=1.0 * u.ms):
    print("ready", flush=True)
    t.train(t.net(), epochs=30, checkpoint={path!r}, callbacks=[lambda e, n: n and print(e, flush=True)])
"""


@pytest.mark.slow
def test_kill_at_random_moments_then_resume(tmp_path: Path) -> None:
    whole = net()
    train(whole, epochs=30)
    path = tmp_path / "killed.run"
    code = textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent), path=str(path)))
    rng, killed = np.random.default_rng(0), 0
    for _ in range(30):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            epochs = int(rng.integers(1, 4))
            for line in process.stdout:
                epochs -= line.strip().isdigit()
                if not epochs:
                    os.kill(process.pid, signal.SIGKILL)
                    killed += 1
                    break
            process.stdout.read()
        if process.returncode == 0:
            break
    assert killed >= 8
    other = net(seed=9)
    history = train(other, epochs=30, checkpoint=path)
    assert len(history.epochs) == 30
    assert same(other, whole)
