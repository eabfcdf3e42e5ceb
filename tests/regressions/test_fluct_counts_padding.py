"""fluct_init counted the padding behind recordings of different lengths as data.

It drew weights that fired 0.29 times a step where 0.0035 are right, without a word (issue 17, case_03).
"""

from __future__ import annotations

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh

rng = np.random.default_rng(0)
X = (rng.random((16, 60, 100)) < 0.1).astype(np.float32)
PADDED = np.concatenate([X, np.zeros((16, 120, 100), np.float32)], axis=1)
LENGTHS = np.full(16, 60)


def start(data, **options):
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(100, 20), bh.nn.LIFLayer(20, tau=20 * u.ms))
    with brainstate.environ.context(dt=1.0 * u.ms):
        report = bh.fluct_init(net, data, families="any", verbose=False, return_report=True, **options)
        again = bh.init.fluct_report(net, data, **options)
    return np.asarray(net.layers[0].weight.value.mantissa), report.layers[0], again.layers[0]


@pytest.mark.slow
def test_lengths_give_the_start_of_the_data_without_padding():
    weights, layer, again = start([X])
    padded, of_padded, again_padded = start([PADDED], lengths=LENGTHS)
    np.testing.assert_allclose(padded, weights, rtol=1e-5)
    for one, other in ((layer, of_padded), (again, again_padded)):
        assert other.steps == one.steps == 960
        for name in ("nu_in", "nu_out"):
            assert float(getattr(other, name).mantissa) == pytest.approx(float(getattr(one, name).mantissa), rel=1e-5)
        assert other.xi_median == pytest.approx(one.xi_median, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("front", [False, True], ids=["behind", "in front"])
def test_padding_is_found_left_out_and_said(front):
    data = PADDED[:, ::-1] if front else PADDED
    clean = X[:, ::-1] if front else X
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(100, 20), bh.nn.LIFLayer(20, tau=20 * u.ms))
    with (
        brainstate.environ.context(dt=1.0 * u.ms),
        pytest.warns(UserWarning, match=r"fluct_init: 67% .* 16 of 16 .* 120 steps") as caught,
    ):
        bh.fluct_init(net, [data], families="any", verbose=False)
    assert len(caught) == 1
    assert "test_fluct_counts_padding" in caught[0].filename
    spread = float(np.std(net.layers[0].weight.value.mantissa))
    assert spread == pytest.approx(float(np.std(start([clean])[0])), rel=0.15)


def test_a_split_brings_its_lengths():
    split = bh.data.Split(PADDED, np.zeros(16, int), LENGTHS)
    np.testing.assert_allclose(start([split])[0], start([X])[0], rtol=1e-5)


def test_lengths_of_all_steps_count_everything():
    _, layer, _ = start([PADDED], lengths=np.full(16, 180))
    assert layer.steps == 16 * 180


@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_pauses_of_sparse_spikes_are_no_padding(rate):
    # Any warning is an error in this suite.
    x = (np.random.default_rng(1).random((32, 100, 2)) < rate).astype(np.float32)
    x[:, 0, 0] = 1
    from brainhw.init.batches import take_data

    assert take_data([x], 1, None, call="test").valid is None


def test_a_stimulus_that_stays_on_is_no_padding():
    from brainhw.init.batches import take_data

    x = np.concatenate([np.zeros((4, 20, 3)), np.ones((4, 80, 3))], axis=1)
    x[:, :20] = np.random.default_rng(0).random((4, 20, 3))
    assert take_data([x], 1, None, call="test").valid is None


@pytest.mark.parametrize(
    ("lengths", "match"),
    [
        (np.full(15, 60), r"fluct_init: lengths .* 16 .*\(15,\)"),
        (np.full(16, 181), r"fluct_init: lengths .* 1 and 180, .* 181"),
    ],
    ids=["too few", "too long"],
)
def test_lengths_that_do_not_fit_are_refused(lengths, match):
    with pytest.raises(ValueError, match=match):
        start([PADDED], lengths=lengths)
