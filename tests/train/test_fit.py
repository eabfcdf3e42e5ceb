"""The training loop: what an epoch reports, the best weights, resuming to the bit, refusals that change nothing."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_training import X, Y, accuracy, loss, net, train
from tqdm import tqdm

import brainhw as bh
from brainhw.data import Split


@pytest.fixture(autouse=True)
def _dt():
    with brainstate.environ.context(dt=1.0 * u.ms):
        yield


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
    history = train(model, epochs=1, learning_rate=None, optimizer=braintools.optim.SGD(lr=1e-9))
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


def test_a_parameter_that_leaves_its_range_ends_the_run_and_is_restored() -> None:
    V_th = brainstate.nn.Param(0.3 * u.mV)
    model = brainstate.nn.Sequential(
        bh.nn.LIFSynapse(4, 8, weight_init=braintools.init.Constant(1.0 * u.mV)),
        bh.nn.LIFLayer(8, tau=20 * u.ms, V_th=V_th),
    )
    options = {"loss": lambda outputs, batch: -outputs.mean(), "metrics": {}, "batch_size": 20}
    # The first step of Adam lowers the threshold by the learning rate, because a lower threshold causes more spikes.
    with pytest.raises(ValueError, match=r"^fit, epoch 1: the parameter layers.1.V_th must be .* zero; got -"):
        train(model, learning_rate=5.0, **options)
    assert V_th.value() == 0.3 * u.mV


def test_patience_ends_the_run() -> None:
    still = {"learning_rate": None, "optimizer": braintools.optim.SGD(lr=1e-12)}
    history = train(net(), epochs=50, patience=2, watch="loss", **still)
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
        ({"epochs": 5}, "epochs"),
        ({"seed": 1}, "seed"),
        ({"learning_rate": 0.4}, "learning_rate"),
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
    with pytest.raises(ValueError, match=r"^fit: .*was made with chips 'H1v1 \w+', but in this run it is 'H1v2 \w+'"):
        train(on(bh.nn.H1v2Synapse, bh.nn.H1v2Layer), epochs=1, checkpoint=tmp_path / "a.run")


def test_a_bar_that_the_environment_switches_off_stays_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # So tqdm takes TQDM_DISABLE: as another default.
    monkeypatch.setattr("tqdm.auto.tqdm", functools.partial(tqdm, disable=True))
    bh.train.fit(net(), (X, Y), loss=loss, epochs=1, progress=True)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"metrics": {"mean": lambda o, b: o.mean()}}, "numbers"),
        ({"schedules": [bh.train.SurrogateSchedule]}, "schedules"),
        ({"batch_size": 5}, "batch_size"),
        ({"learning_rate": 0.1}, "learning_rate"),
        ({"loss": lambda o, b: o.mean()}, "loss"),
    ],
)
def test_a_run_that_was_stopped_is_not_mixed_with_another(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    path = tmp_path / "a.run"
    train(net(), checkpoint=path, callbacks=[lambda epoch, numbers: numbers is not None and epoch == 1])
    held = path.read_bytes()
    if "schedules" in change:
        model = net()
        change = {"schedules": [bh.train.SurrogateSchedule(model, "slope", 3, start=1.0, end=2.0)]}
    else:
        model = net()
    with pytest.raises(ValueError, match=rf"^fit: .*was made with {match} .*Use the same value, or a different file"):
        train(model, checkpoint=path, **change)
    assert path.read_bytes() == held
    assert len(train(net(), checkpoint=path).epochs) == 4


def test_a_network_without_anything_to_learn_is_named() -> None:
    model = net()
    with pytest.raises(ValueError, match=r"^fit: net has no ParamState"):
        train(bh.nn.LIFLayer(2, tau=20 * u.ms))
    with pytest.raises(RuntimeError, match=r"^fit: fit compiles its own steps"):
        jax.jit(lambda x: train(model) and x)(1.0)


def test_a_bad_batch_of_a_loader_puts_everything_back() -> None:
    model = net()
    before = weights(model)
    with pytest.raises(ValueError, match="x has 5 entries, but y has 4"):
        train(model, [(X[:5], Y[:5]), (X[5:10], Y[5:10]), (X[:5], Y[:4])])
    for now, then in zip(weights(model), before, strict=True):
        np.testing.assert_array_equal(now, then)


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
        (X, "must yield pairs|must be a Split"),
        ([], "yielded no batch|number of batches"),
        (iter([(X, Y)]), "an iterable of pairs that can be iterated once per epoch"),
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


# One process imports once, and forks one that trains whenever a line arrives; no array of JAX is made before.
SCRIPT = """
import os, sys; sys.path.insert(0, {support!r})
import brainstate, brainunit as u
import small_training as t
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        print("child", os.getpid(), flush=True)
        break
    _, status = os.waitpid(child, 0)
    print("ended", os.waitstatus_to_exitcode(status), flush=True)
else:
    sys.exit()
with brainstate.environ.context(dt=1.0 * u.ms):
    t.train(t.net(), epochs=30, checkpoint={path!r}, callbacks=[lambda e, n: n and print("epoch", e, flush=True)])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the trainings are forked")
def test_kill_at_random_moments_then_resume(tmp_path: Path) -> None:
    whole = net()
    train(whole, epochs=30)
    path = tmp_path / "killed.run"
    code = SCRIPT.format(support=str(Path(__file__).parents[1] / "support"), path=str(path))
    rng, killed = np.random.default_rng(0), 0
    with subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        for _ in range(30):
            process.stdin.write("next\n")
            process.stdin.flush()
            epochs, child, word = int(rng.integers(1, 4)), 0, ""
            while word != "ended":
                word, number = process.stdout.readline().split()
                if word == "child":
                    child = int(number)
                epochs -= word == "epoch"
                if not epochs and word == "epoch":
                    os.kill(child, signal.SIGKILL)
                    killed += 1
            if number == "0":
                break
            assert number == str(-signal.SIGKILL)
        process.stdin.close()
    assert killed >= 8
    other = net(seed=9)
    history = train(other, epochs=30, checkpoint=path)
    assert len(history.epochs) == 30
    assert same(other, whole)


def classifier(seed: int = 0, **options: Any) -> brainstate.nn.Module:
    brainstate.random.seed(seed)
    start = braintools.init.Normal(1.0, 0.4)
    return brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(4, 10, weight_init=start, **options),
        bh.nn.H1v2Layer(10, tau=20 * u.ms),
        bh.nn.H1v2Synapse(10, 6, weight_init=start, **options),
        bh.nn.H1v2Layer(6, tau=20 * u.ms),
    )


def test_a_classifier_by_its_number_of_classes() -> None:
    model = classifier()
    history = bh.train.fit(
        model, (X * 10, Y), 0.2, n_classes=2, epochs=20, batch_size=4, learning_rate=0.05, progress=False
    )
    assert list(history.epochs[0])[:4] == ["loss", "accuracy", "silent", "tied"]
    assert history.watched == "validation_accuracy"
    assert history.report.n_samples == 4
    assert history.report.accuracy == history.column("validation_accuracy")[history.best] == 1.0
    assert "most often predicted as" in str(history.report)


def test_a_report_is_that_of_the_weights_that_stay() -> None:
    model = classifier()
    history = bh.train.fit(
        model, (X * 10, Y), n_classes=2, epochs=3, learning_rate=0.03, progress=False, sample_chips=False
    )
    spikes = bh.rollout(model, jnp.asarray(X * 10).swapaxes(0, 1))[0]
    np.testing.assert_array_equal(history.report.confusion, bh.train.class_report(spikes, Y, 2).confusion)


def test_what_a_classifier_cannot_say_is_told() -> None:
    model = classifier()
    with pytest.warns(UserWarning, match=r"fit: 20 of 20 recordings have no output spike.*never predicted: class 1"):
        history = bh.train.fit(model, (X * 0, Y), n_classes=2, epochs=1, learning_rate=1e-6, progress=False)
    assert history.column("silent")[0] == 1.0
    assert "20 of 20 recordings have no output spike" in str(history)


@pytest.mark.slow
def test_training_samples_chips_and_evaluation_does_not() -> None:
    keys: list[Any] = []

    def forward(model: Any, batch: Any) -> Any:
        keys.append(batch.key)
        return bh.rollout(model, batch.x)[0]

    train(net(), validation=(X, Y), forward=forward, epochs=1)
    assert [key is None for key in keys] == [False, False, True, True]  # one trace for each size of batch
    # A chip with large mismatch shows in the loss of training, and a measured or sampled chip in place stays.
    losses = [
        bh.train.fit(classifier(), (X * 10, Y), n_classes=2, epochs=1, progress=False, sample_chips=sampled).column(
            "loss"
        )[0]
        for sampled in ("auto", True, False)
    ]
    assert losses[0] == losses[1] != losses[2]
    model = classifier()
    bh.sample_chip(model, 3)
    assert bh.train.fit(model, (X * 10, Y), n_classes=2, epochs=1, progress=False).column("loss")[0] not in losses


def test_schedules_run_and_end_and_the_best_epoch_has_hard_signs() -> None:
    model = classifier(weight_bits="chip")
    annealing = bh.train.SignAnnealing(model, total_epochs=4)
    history = bh.train.fit(
        model,
        (X * 10, Y),
        (X * 10, Y),
        n_classes=2,
        epochs=9,
        batch_size=4,
        learning_rate=0.05,
        schedules=[annealing],
        progress=False,
    )
    assert history.best >= 4
    assert not bh.check_deployable(model).violations
    with pytest.raises(RuntimeError, match="the annealing is finished"):
        annealing.step(0)
    with pytest.raises(ValueError, match=r"^fit: SignAnnealing has total_epochs 4, but must end before the last of 4"):
        bh.train.fit(model, (X, Y), n_classes=2, epochs=4, schedules=[bh.train.SignAnnealing(model, 4)])


def test_a_run_with_signs_that_harden_goes_on_to_the_bit(tmp_path: Path) -> None:
    def run(model: Any, callbacks: Any = (), name: str = "a.run") -> bh.train.History:
        schedules = [bh.train.SignAnnealing(model, total_epochs=3)]
        given = {
            "n_classes": 2,
            "epochs": 6,
            "batch_size": 4,
            "learning_rate": 0.05,
            "schedules": schedules,
            "progress": False,
        }
        return bh.train.fit(model, (X * 10, Y), 0.2, **given, callbacks=callbacks, checkpoint=tmp_path / name)

    whole, part, rest = (classifier(weight_bits="chip") for _ in range(3))
    expected = run(whole)
    stopped = run(part, [lambda epoch, numbers: numbers is not None and epoch == 1], "b.run")
    assert stopped.reason == "callback"
    assert stopped.keep == "last"  # the weights of the best epoch are set at the end of a whole run
    assert len(stopped.epochs) == 2
    history = run(rest, name="b.run")
    assert history.epochs == expected.epochs
    assert same(whole, rest)


def test_padding_changes_nothing() -> None:
    lengths = np.where(np.arange(20) % 3, 30, 12)
    padded = [np.where(np.arange(30)[:, None] < lengths[:, None, None], X * 10, fill) for fill in (0.0, 5.0)]
    models = [classifier(), classifier()]
    for model, x in zip(models, padded, strict=True):
        given = Split(x, Y, lengths)
        bh.train.fit(model, given, given, n_classes=2, epochs=2, learning_rate=0.03, progress=False)
    for one, other in zip(weights(models[0]), weights(models[1]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_schedule_of_the_learning_rate_and_a_bound_of_the_gradient() -> None:
    steps: list[int] = []
    model = net()
    before = weights(model)
    train(model, epochs=1, learning_rate=lambda n: steps.append(n) or 0.0, max_gradient=1.0)
    assert steps
    for now, then in zip(weights(model), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_the_last_smaller_batch_is_compiled_once() -> None:
    traces: list[tuple[int, ...]] = []

    def counting(model: Any, batch: Any) -> Any:
        traces.append(batch.x.shape)
        return bh.rollout(model, batch.x)[0]

    train(net(), validation=(X, Y), forward=counting, epochs=6)
    assert len(traces) == 4  # batches of 8 and of 4, in training and in validation


def test_a_mesh_of_devices_gives_the_same(tmp_path: Path) -> None:
    # One device here; more are simulated in the script of the gallery.
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    alone, shared = net(), net()
    expected, history = train(alone), train(shared, mesh=mesh, checkpoint=tmp_path / "m.run")
    np.testing.assert_allclose(history.column("loss"), expected.column("loss"), rtol=1e-6)
    for one, other in zip(weights(alone), weights(shared), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"loss": None}, r"^fit: loss is missing"),
        ({"n_classes": 1, "metrics": None}, r"labels of train must be between 0 and 0, because n_classes is 1; got 1"),
        (
            {"data": (X, np.arange(20) % 3), "n_classes": 3, "metrics": None},
            r"2 output neurons cannot form equal populations for 3 classes",
        ),
        ({"metrics": {"loss": accuracy}}, r"the name 'loss' is reserved by fit"),
        ({"metrics": {"a": lambda o, b: o}}, r"^fit: a must return a scalar; got shape \(30, 8, 2\)"),
        ({"metrics": {"a": lambda o, b: jnp.nan}}, r"^fit: a is nan in epoch 1 on train"),
        ({"watch": "validation_loss"}, "watch must be"),
        ({"keep": "first"}, "keep must be"),
        ({"validation": 1.5}, r"^fit: validation as a fraction must be between 0 and 1; got 1.5"),
        ({"data": [(X, Y)], "validation": 0.2}, r"holds out a fraction of train, so train must be a Split or arrays"),
        ({"data": (X, Y, np.full(20, 31))}, "lengths"),
        ({"data": (X, Y, np.zeros(20, int))}, r"train contains 20 recordings of length 0"),
        ({"schedules": [1]}, r"schedules must contain objects with a method step"),
        ({"mesh": 2}, r"mesh must be a jax.sharding.Mesh with one axis"),
        ({"sample_chips": True}, r"sample_chips=True requires a network with chip modules"),
        ({"epochs": 0}, r"epochs must be"),
        ({"learning_rate": -1.0}, r"learning_rate must be"),
        ({"patience": 0}, r"patience must be"),
        ({"callbacks": [3]}, r"each of callbacks"),
        ({"optimizer": "adam"}, r"optimizer must be an optimizer of braintools.optim"),
        (
            {"optimizer": braintools.optim.Adam(lr=0.1)},
            r"^fit: learning_rate has no effect if optimizer is passed",
        ),
        (
            {"optimizer": braintools.optim.Adam(lr=0.1), "learning_rate": None, "max_gradient": 1.0},
            r"^fit: max_gradient has no effect if optimizer is passed",
        ),
        ({"metrics": {"f1": lambda o, b: np.mean(np.asarray(b.y))}}, r"^fit: f1 must use only jax.numpy"),
        ({"loss": lambda o, b: float(o.sum())}, r"^fit: loss must use only jax.numpy"),
        ({"metrics": {"a": lambda o, b: 1.0 if o.sum() > 0 else 0.0}}, r"^fit: a must use only jax.numpy"),
        (
            {"metrics": {"a": lambda o, b: o[:, b.y == 1].mean()}},
            r"^fit: a must use only jax.numpy.*jnp.where",
        ),
        ({"metrics": {"a": lambda o, b: range(b.y.sum())}}, r"^fit: a must use only jax.numpy"),
        (
            {"forward": lambda net, b: np.asarray(b.x)},
            r"^fit: the step of net, or forward, must use only jax.numpy",
        ),
        (
            {"data": (X, np.eye(2)[Y]), "n_classes": 2, "metrics": None},
            r"^fit: y of train must contain class indices if n_classes is passed; got .*classifier_loss",
        ),
    ],
)
def test_bad_arguments_change_nothing(options: dict[str, Any], match: str) -> None:
    model = net()
    before = weights(model)
    with pytest.raises((TypeError, ValueError, FloatingPointError), match=match):
        train(model, **options)
    for now, then in zip(weights(model), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_classes_without_a_recording_are_warned_of() -> None:
    model = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 8), bh.nn.LIFLayer(8, tau=20 * u.ms))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        bh.train.fit(model, (X, Y), n_classes=8, epochs=1, progress=False)
    assert str(said[0].message).startswith("fit: train has no recording of 6 of 8 classes (2, 3, 4, 5, 6, ...)")


def test_the_report_is_that_of_the_weights_that_stay() -> None:
    for keep in ("last", "best"):
        model = net()
        history = bh.train.fit(
            model, (X, Y), (X[:8], Y[:8]), n_classes=2, epochs=3, keep=keep, learning_rate=0.05, progress=False
        )
        at = history.best if keep == "best" else -1
        assert history.report.accuracy == history.column("validation_accuracy")[at]
        spikes = bh.rollout(model, jnp.asarray(X[:8].swapaxes(0, 1)))[0]
        assert history.report.accuracy == float(bh.train.accuracy_population(spikes, jnp.asarray(Y[:8]), 2))


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.run"
    train(net(), epochs=2, checkpoint=path)
    good, rng = path.read_bytes(), np.random.default_rng(0)
    model = net(seed=4)
    before = weights(model)
    for i in range(300):
        data = bytearray(good)
        at = int(rng.integers(len(data)))
        kind = i % 4
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = rng.bytes(int(rng.integers(1, 9)))
        else:
            n = int(rng.integers(1, 200))
            data[at : at + n] = bytes(len(data[at : at + n]))
            if data == good:
                data[0] ^= 1
        path.write_bytes(bytes(data))
        with pytest.raises(ValueError, match=r"^fit: ") as caught:
            train(model, epochs=2, checkpoint=path)
        assert "\n" not in str(caught.value)
    for now, then in zip(weights(model), before, strict=True):
        np.testing.assert_array_equal(now, then)
