"""The projection to blocks of one sign: none mixed afterwards, as little changed as can be."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import brainhw as bh
from brainhw.chip import H1V1

N_IN, N = 12, 7  # two blocks of five and a tail of two; in the other direction one and a tail
POST = H1V1.replace(sign_axis="post")


class Net(brainstate.nn.Module):
    """Frontend, its layer, synapse, recurrent layer."""

    def __init__(self, chip: Any = None) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.frontend = bh.nn.H1v1Frontend(chip=chip, weight_init=rng.normal(size=16))
        self.syn = bh.nn.H1v1Synapse(N_IN, N, chip=chip, weight_init=rng.normal(size=(N_IN, N)))
        self.hidden = bh.nn.H1v1Layer(
            N, tau=10 * u.ms, topology="RC", chip=chip, recurrent_init=rng.normal(size=(N, N))
        )


def mixed_blocks(weights: Any, axis: str = "pre", block: int = 5) -> list[tuple[int, int]]:
    """Walk over the weights one by one and name the blocks that hold both signs."""
    weights = np.asarray(weights)
    signs: dict[tuple[int, int], set[float]] = {}
    for i, j in np.ndindex(weights.shape):
        where = (i // block, j) if axis == "pre" else (j // block, i)
        signs.setdefault(where, set()).add(float(np.sign(weights[i, j])))
    return [where for where, seen in signs.items() if {-1.0, 1.0} <= seen]


def dense(net: Net) -> list[np.ndarray]:
    return [np.array(net.syn.weight.value), np.array(net.hidden.recurrent_weight.value)]


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["pre", "post"])
@pytest.mark.parametrize("compiled", [False, True])
def test_no_block_of_a_net_is_mixed_afterwards_and_frontends_are_left_alone(axis: str, compiled: bool) -> None:
    net = Net(POST if axis == "post" else None)
    before, diagonal = dense(net), np.array(net.frontend.weight.value)
    assert all(len(mixed_blocks(w, axis)) > 5 for w in before)
    assert float(bh.train.topology_loss(net)) > 0.1

    def project() -> None:
        bh.train.project_signs(net)

    (brainstate.transform.jit(project) if compiled else project)()
    once = dense(net)
    assert all(mixed_blocks(w, axis) == [] for w in once)
    assert float(bh.train.topology_loss(net)) == 0.0
    np.testing.assert_array_equal(net.frontend.weight.value, diagonal)
    for old, new in zip(before, once, strict=True):
        assert np.all((new == old) | (new == 0))
        assert np.any(new == 0)
        assert not np.any(np.signbit(new) & (new == 0))
    project()
    for first, second in zip(once, dense(net), strict=True):
        assert first.tobytes() == second.tobytes()


@given(arrays(np.float32, (N_IN, 2), elements=st.integers(-16, 16).map(lambda n: n / 16)))
@settings(derandomize=True, deadline=None, max_examples=30)
def test_blocks_that_agree_are_not_touched_and_no_nearer_ones_exist(weights: np.ndarray) -> None:
    synapse = bh.nn.H1v1Synapse(N_IN, 2, weight_init=weights)
    bh.train.project_signs(synapse)
    projected = np.asarray(synapse.weight.value)
    assert mixed_blocks(projected) == []
    mixed = mixed_blocks(weights)
    for column in range(2):
        for b, start in enumerate(range(0, N_IN, 5)):
            old, new = (w[start : start + 5, column] for w in (weights, projected))
            if (b, column) in mixed:
                cost = min(np.sum(old[old > 0] ** 2), np.sum(old[old < 0] ** 2))
                assert np.sum((new - old) ** 2) == cost
            else:
                np.testing.assert_array_equal(new, old)


@pytest.mark.slow
def test_the_block_is_that_of_the_chip_and_the_tail_is_one_too() -> None:
    weights = np.array([[0.5], [-0.2], [0.1], [-0.3], [0.4]])
    for block, wanted in ((2, [0.5, 0, 0, -0.3, 0.4]), (3, [0.5, 0, 0.1, 0, 0.4]), (9, [0.5, 0, 0.1, 0, 0.4])):
        synapse = bh.nn.H1v1Synapse(5, 1, chip=H1V1.replace(sign_block=block), weight_init=weights)
        bh.train.project_signs(synapse)
        np.testing.assert_allclose(synapse.weight.value[:, 0], wanted)


def test_a_prepared_net_is_stale_after_it() -> None:
    net = Net()
    bh.prepare_net(net)
    bh.train.project_signs(net)
    with pytest.raises(RuntimeError, match="the weights changed since the network was prepared"):
        net.syn(np.ones(N_IN))
    bh.prepare_net(net)
    net.syn(np.ones(N_IN))


def test_nets_without_weights_on_a_chip_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^project_signs: the network has no weight on a chip. Build it with modules of a chip family"
    ):
        bh.train.project_signs(bh.nn.LIFSynapse(2, 2))
    with pytest.raises(TypeError, match=r"^project_signs: net must be a brainstate.nn.Module; got 3"):
        bh.train.project_signs(3)
