"""Chip layers with few inputs, as in the vendor's documents: no neuron is dead wherever weights exist that wake it.

H1v1 with 2 inputs at 150 Hz and tau 20 ms had 11 of 32 dead neurons and weights of 3.3; one input gave exact copies.
The grid of `benchmarks/fluct_few_inputs.py` in part.
"""

import re
import warnings

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh
from benchmarks.fluct_few_inputs import INPUTS, RATES, TAUS, cell

GRID = [(family, n, rate, tau) for family in ("H1v1", "H1v2") for n in INPUTS for rate in RATES for tau in TAUS]
# Some of each kind: in range, beyond it, and no weight at all.
SOME = [("H1v1", 1, 20, 5), ("H1v1", 1, 300, 20), ("H1v1", 1, 300, 50), ("H1v1", 2, 150, 20), ("H1v1", 8, 20, 50)]
SOME += [("H1v2", 1, 50, 5), ("H1v2", 2, 150, 50), ("H1v2", 8, 150, 5)]


def check(family, n_in, rate, tau):
    found = cell(family, n_in, rate, tau)
    if found.wakes_at_all:
        assert found.dead == 0
    if found.wakes_in_range:
        assert found.out_of_range == 0
    assert found.distinct == 32
    told = " ".join(found.warnings)
    if found.out_of_range:
        assert re.search(rf"{found.out_of_range} weight\(s\) are outside", told)
    if found.dead:
        # Said in numbers: what the largest weights reach, and what is missing.
        assert re.search(r"32 neuron\(s\) never spike.*reaches only [\d.]+ mV \(V_th is 100 mV\)", told)
    assert not ("smaller xi_target" in told and re.search(r"larger xi_target|xi_target=\d", told)), told


@pytest.mark.parametrize(("family", "n_in", "rate", "tau"), SOME)
def test_no_neuron_is_dead_where_weights_exist_that_wake_it(family, n_in, rate, tau):
    check(family, n_in, rate, tau)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "n_in", "rate", "tau"), GRID)
def test_the_whole_grid(family, n_in, rate, tau):
    check(family, n_in, rate, tau)


@pytest.mark.parametrize("xi_target", [1.0, 2.5])
@pytest.mark.parametrize("in_range", [True, False])
def test_the_advices_of_one_call_do_not_contradict_each_other(in_range, xi_target):
    x = (np.random.default_rng(0).random((8, 100, 2)) < 0.15).astype(np.float32)
    net = brainstate.nn.Sequential(bh.nn.H1v1Synapse(2, 16), bh.nn.H1v1Layer(16, tau=10 * u.ms))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bh.init.fluct_init(net, [x], xi_target, in_range=in_range, verbose=False)
    told = " ".join(str(w.message) for w in caught)
    assert "neuron(s)" in told
    assert not ("smaller xi_target" in told and re.search(r"larger xi_target|xi_target=\d[\d.]* ?[,(]", told)), told


@pytest.mark.parametrize(("family", "n_in"), [("H1v1", 16), ("H1v2", 8)])
def test_the_vendors_quick_starts_give_weights_that_the_chip_takes(family, n_in):
    x = (np.random.default_rng(0).random((64, 100, n_in)) < 0.3).astype(np.float32)
    synapse, layer = (getattr(bh.nn, family + kind) for kind in ("Synapse", "Layer"))
    recurrent = {"topology": "RC"} if family == "H1v2" else {}
    net = brainstate.nn.Sequential(synapse(n_in, 32), layer(32, tau=10 * u.ms, **recurrent))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bh.init.fluct_init(net, [x], xi_target=1.0, alpha=0.85 if recurrent else 1.0, verbose=False)
    assert bh.train.out_of_range(net) == 0
    assert bool((bh.rollout(net, np.swapaxes(x, 0, 1))[0].sum(axis=(0, 1)) > 0).all())
