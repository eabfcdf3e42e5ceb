"""Batches from every kind of loader, and restored states."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.init.batches import take_batches
from brainhw.transform.prepare import states_restored


class Tensor:
    """The interface of a torch tensor: an array only after detach, cpu and numpy, in this order."""

    def __init__(self, values: np.ndarray, steps: tuple[str, ...] = ()) -> None:
        self.values, self.steps = values, steps

    def detach(self) -> Tensor:
        return Tensor(self.values, (*self.steps, "detach"))

    def cpu(self) -> Tensor:
        return Tensor(self.values, (*self.steps, "cpu"))

    def numpy(self) -> np.ndarray:
        assert self.steps == ("detach", "cpu")
        return self.values

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise RuntimeError("a tensor that carries a gradient cannot be read")


def spikes(n_samples: int = 2, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((n_samples, 5, 3)) < 0.4).astype(np.float32)


def taken(loader: Any, n_batches: Any = 1, n_in: int = 3) -> np.ndarray:
    return take_batches(loader, n_batches, n_in=n_in, call="test")


X = spikes()
FORMS = {
    "array": X,
    "jax array": jnp.asarray(X),
    "nested lists in a tuple": (X.tolist(),),
    "float64": X.astype(np.float64),
    "float16": X.astype(np.float16),
    "bool": X.astype(bool),
    "uint8": X.astype(np.uint8),
    "int64": X.astype(np.int64),
    "bfloat16": jnp.asarray(X, jnp.bfloat16),
    "tuple with labels": (X, np.zeros(2)),
    "list with labels": [X, np.zeros(2)],
    "tuple with labels that are no arrays": (X, ["a", "b"], {"id": 4}),
    "tensor": Tensor(X),
    "tensors": (Tensor(X), Tensor(np.zeros(2))),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_of_a_batch_is_read(form: str) -> None:
    found = taken([FORMS[form]])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, X)


def test_every_kind_of_loader_is_iterated() -> None:
    class Loader:
        def __iter__(self) -> Any:
            yield X, np.zeros(2)
            yield X + 1, np.zeros(2)

    class Sequence:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> np.ndarray:
            if index > 1:
                raise IndexError
            return X + index

    both = np.concatenate([X, X + 1])
    for loader in (Loader(), Sequence(), [X, X + 1], (X, X + 1), (batch for batch in (X, X + 1)), np.stack([X, X + 1])):
        np.testing.assert_array_equal(taken(loader, 2), both)


def test_no_more_than_asked_is_taken_from_a_loader_without_end() -> None:
    seen = []

    def endless() -> Any:
        while True:
            seen.append(0)
            yield X

    assert taken(endless(), 3).shape == (6, 5, 3)
    assert len(seen) == 3


def test_fewer_batches_than_asked_are_enough_and_the_last_may_be_smaller() -> None:
    np.testing.assert_array_equal(taken([X, spikes(1, seed=1)], 8), np.concatenate([X, spikes(1, seed=1)]))


def test_the_loaders_own_arrays_stay_theirs() -> None:
    mine = X.copy()
    found = taken([mine])
    found[:] = 7
    np.testing.assert_array_equal(mine, X)


@pytest.mark.parametrize(
    ("loader", "n_batches", "error", "message"),
    [
        (5, 1, TypeError, r"dataloader must be an iterable of batches \[B, T, N\]; got 5"),
        (None, 1, TypeError, "dataloader must be an iterable"),
        ([], 1, ValueError, "the dataloader yielded no batch .expected at least one"),
        (iter(()), 1, ValueError, "the dataloader yielded no batch"),
        ([X], 0, ValueError, "n_batches must be at least 1; got 0"),
        ([X], -2, ValueError, "n_batches must be at least 1"),
        ([X], 1.5, TypeError, "n_batches must be an integer; got 1.5"),
        ([X], True, ValueError, "n_batches must be at least 1; got True"),
        (X, 1, ValueError, r"must have shape \[B, T, N\]; got shape \(5, 3\). For one array, pass \[array\]"),
        ([X[None]], 1, ValueError, r"must have shape \[B, T, N\]; got shape \(1, 2, 5, 3\)"),
        ([1.0], 1, ValueError, r"must have shape \[B, T, N\]; got shape \(\)"),
        ([()], 1, ValueError, r"must have shape \[B, T, N\]; got shape \(0,\)"),
        ([X[:, :0]], 1, ValueError, r"at least one sample and one step; got shape \(2, 0, 3\)"),
        ([X[:0]], 1, ValueError, "at least one sample and one step"),
        ([X[..., :2]], 1, ValueError, r"the last axis of a batch must have length 3; got shape \(2, 5, 2\)"),
        ([np.swapaxes(X, 1, 2)], 1, ValueError, "the last axis of a batch must have length 3"),
        (
            [X, X[:, :4]],
            2,
            ValueError,
            r"batches must have the same T and N; got \(2, 5, 3\), \(2, 4, 3\). Use n_batches=1",
        ),
        ([X * np.nan], 1, ValueError, "a batch contains 30 NaN or infinite"),
        ([jnp.where(X == 1, jnp.inf, 0.0)], 1, ValueError, "a batch contains .* NaN or infinite"),
        ([np.full((1, 5, 3), 1e300)], 1, ValueError, "a batch contains 15 NaN or infinite"),
        (["abc"], 1, TypeError, "a batch must be an array of numbers"),
        ([{"x": X}], 1, TypeError, "a batch must be an array of numbers"),
        ([X * u.mV], 1, TypeError, "a batch must be plain numbers without a unit"),
        ([X * 1j], 1, TypeError, "a batch must be real"),
        ([([[[1.0, 2.0, 3.0]], [[1.0, 2.0]]],)], 1, TypeError, "a batch must be an array of numbers"),
    ],
)
def test_what_is_no_batch_is_named(loader: Any, n_batches: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=f"test: .*{message}"):
        taken(loader, n_batches)


def test_shapes_may_differ_where_only_one_batch_is_used() -> None:
    assert taken([X, X[:, :4]], 1).shape == X.shape


def test_error_of_the_loader_itself_is_passed_on() -> None:
    def broken() -> Any:
        yield X
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        taken(broken(), 2)


def net_with_states() -> brainstate.nn.Module:
    net = brainstate.nn.Sequential(bh.nn.H1v1Synapse(3, 4), bh.nn.H1v1Layer(4, tau=20 * u.ms, topology="RC"))
    bh.prepare_net(net, 2)
    return net


def scramble(net: brainstate.nn.Module) -> None:
    for state in net.states().values():
        state.value = state.value * 2 + 3 * (u.get_unit(state.value))


def values(net: brainstate.nn.Module) -> dict[Any, Any]:
    return {path: state.value for path, state in net.states().items()}


@pytest.mark.parametrize("keep_weights", [True, False])
def test_states_are_put_back_and_weights_only_if_asked(keep_weights: bool) -> None:
    net = net_with_states()
    before, weights = values(net), net.states(brainstate.ParamState)
    assert len(weights) == 2
    with states_restored(net, keep_weights=keep_weights):
        scramble(net)
    for path, value in values(net).items():
        assert (value is before[path]) == (not (keep_weights and path in weights)), path


@pytest.mark.parametrize("keep_weights", [True, False])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_everything_is_put_back_where_the_block_fails(keep_weights: bool, error: type[BaseException]) -> None:
    net = net_with_states()
    before = values(net)

    def fail() -> None:
        with states_restored(net, keep_weights=keep_weights):
            scramble(net)
            raise error("stop")

    with pytest.raises(error, match="stop"):
        fail()
    assert all(value is before[path] for path, value in values(net).items())
