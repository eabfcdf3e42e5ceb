"""The networks of the seeds' own pages, in brainhw's names."""

from __future__ import annotations

from typing import Any

import brainstate
import braintools
import brainunit as u

import brainhw as bh

# Sizes of the classifier, small.
N_IN, N_REC, N_OUT, STEPS, BATCH = 20, 4, 2, 30, 8
strong = braintools.init.KaimingNormal(unit=u.mV, scale=20.0)


class SNN(brainstate.nn.Module):
    """The classifier of the training tutorial with any hidden layer; it may also stand in one ``Sequential``."""

    def __init__(self, i2r: Any, r: Any) -> None:
        super().__init__()
        self.i2r = i2r
        self.r = r
        self.o = bh.nn.LeakyReadout(N_REC, N_OUT, tau=10.0 * u.ms)

    def update(self, spike: Any) -> Any:
        return self.o(self.r(self.i2r(spike)))


def synapse() -> bh.nn.LIFSynapse:
    return bh.nn.LIFSynapse(N_IN, N_REC, weight_init=strong)


class TinyH1Net(brainstate.nn.Module):
    """The feed-forward network of the vendor's quick start."""

    def __init__(self) -> None:
        super().__init__()
        self.synapse = bh.nn.H1v1Synapse(16, 32)
        self.layer = bh.nn.H1v1Layer(32, tau=10 * u.ms, topology="FF", spk_fun=bh.surrogate.fast_sigmoid(slope=5.0))

    def update(self, x: Any) -> Any:
        cur = self.synapse(x)
        return self.layer(cur)


class TinyH1v2Net(brainstate.nn.Module):
    """The recurrent network of the vendor's quick start, with explicit pairs."""

    graph_invisible_attrs = ("layer_pairs",)

    def __init__(self) -> None:
        super().__init__()
        self.syn = bh.nn.H1v2Synapse(8, 16)
        self.lyr = bh.nn.H1v2Layer(16, tau=10 * u.ms, topology="RC", spk_fun=bh.surrogate.fast_sigmoid(slope=5.0))
        self.layer_pairs = [(self.syn, self.lyr)]

    def update(self, x: Any) -> Any:
        cur = self.syn(x)
        return self.lyr(cur)
