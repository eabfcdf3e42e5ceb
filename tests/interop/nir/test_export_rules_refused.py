"""What NIR has no form for is refused by name, all of it at once, and the net stays as it was."""

from __future__ import annotations

import functools
import sys

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.interop.nir import NIRError, from_nir, to_nir

DT = 1.0 * u.ms
XS = (np.random.default_rng(0).random((40, 4)) < 0.5).astype(np.float32)


def lif(**options) -> bh.nn.LIFLayer:
    return bh.nn.LIFLayer(3, tau=10.0 * u.ms, **{"reset": "zero", **options})


def behind_synapse(layer: brainstate.nn.Module) -> brainstate.nn.Module:
    return brainstate.nn.Sequential(bh.nn.LIFSynapse(4, layer.in_size[-1]), layer)


def doubled(drive: u.Quantity) -> u.Quantity:
    return 2 * drive


def with_method(to_voltage) -> bh.nn.LIFLayer:
    layer = lif()
    layer.to_voltage = to_voltage
    return layer


class Louder(bh.nn.LIFSynapse):
    def update(self, x):
        return 2 * super().update(x)


class Wired(brainstate.nn.Module):
    """A net whose step is what a test makes it."""

    def __init__(self, step, **parts) -> None:
        super().__init__()
        self.syn, self.lif, self.count = bh.nn.LIFSynapse(4, 3), lif(), brainstate.ShortTermState(jnp.zeros(()))
        for name, part in parts.items():
            setattr(self, name, part)
        self.step = step

    def update(self, x):
        return self.step(self, x)


def counting(net, x):
    net.count.value = net.count.value + 1
    return net.lif(net.syn(x))


def rewriting(net, x):
    net.lif.V.value = net.lif.V.value * 0.5
    return net.lif(net.syn(x))


def own_step(net, x):
    with brainstate.environ.context(dt=0.5 * u.ms):
        return net.lif(net.syn(x))


MULTI = {"tau_mem": 20.0 * u.ms, "tau_syn": 5.0 * u.ms, "max_spikes_per_step": 1}
REFUSED = {
    "subtract": (lambda: behind_synapse(lif(reset="subtract")), {}, r"layers\.1 \(LIFLayer\) subtracts its threshold"),
    "recurrent without reset": (
        lambda: behind_synapse(lif(reset="none", topology="RC")),
        {},
        r"layers\.1 \(LIFLayer\) is recurrent and has no reset",
    ),
    "cuba": (lambda: behind_synapse(bh.nn.CubaLIFLayer(3, **MULTI)), {}, r"layers\.1 \(CubaLIFLayer\) subtracts"),
    "alif": (lambda: behind_synapse(bh.nn.ALIFLayer(3, **MULTI)), {}, r"layers\.1 \(ALIFLayer\) subtracts"),
    "many spikes": (
        lambda: behind_synapse(bh.nn.CubaLIFLayer(3)),
        {"reset": "continuous"},
        r"CubaLIFLayer\) may fire more than once per time step; construct it with max_spikes_per_step=1",
    ),
    "a strict threshold": (
        lambda: behind_synapse(lif(spk_fun=lambda v: (v > 1).astype(jnp.float32))),
        {},
        r"layers\.1 \(LIFLayer\) has a spk_fun that is not a step function",
    ),
    "graded spikes": (lambda: behind_synapse(lif(spk_fun=jax.nn.sigmoid)), {}, r"LIFLayer\) has a spk_fun that"),
    "a partial as a step method": (
        lambda: behind_synapse(with_method(functools.partial(doubled))),
        {},
        r"layers\.1 \(LIFLayer\) overrides a member of the class",
    ),
    "a jitted step method": (
        lambda: behind_synapse(with_method(jax.jit(doubled))),
        {},
        r"layers\.1 \(LIFLayer\) overrides a member of the class",
    ),
    "noise": (
        lambda: behind_synapse(bh.nn.CubaLIFLayer(3, noise_std=0.1 * u.mV / u.second**0.5, **MULTI)),
        {"reset": "continuous"},
        r"CubaLIFLayer\) adds noise",
    ),
    "fractional": (
        lambda: behind_synapse(bh.nn.FractionalLIFLayer(3, alpha=0.5)),
        {},
        r"layers\.1 \(FractionalLIFLayer\) has a power-law memory of its whole history",
    ),
    "frontend": (
        lambda: brainstate.nn.Sequential(bh.nn.H1v1Frontend(), bh.nn.H1v1Layer(16, tau=10.0 * u.ms)),
        {"clamp": "ignore"},
        r"layers\.0 \(H1v1Frontend\) represents the analog filters .* export only the modules",
    ),
    "chip without sample": (
        lambda: brainstate.nn.Sequential(bh.nn.H1v1Synapse(4, 3), bh.nn.H1v1Layer(3, tau=10.0 * u.ms)),
        {},
        r"layers\.1 \(H1v1Layer\) clamps its membrane potential at zero.*pass sample=",
    ),
    "H1v2": (
        lambda: brainstate.nn.Sequential(bh.nn.H1v2Synapse(4, 3), bh.nn.H1v2Layer(3, tau=10.0 * u.ms)),
        {"clamp": "ignore"},
        r"layers\.1 \(H1v2Layer\) subtracts its threshold",
    ),
    "codes along a curve": (
        lambda: brainstate.nn.Sequential(bh.nn.H1v1Synapse(4, 3, weight_bits=5), bh.nn.H1v1Layer(3, tau=10.0 * u.ms)),
        {"clamp": "ignore", "weights": "codes"},
        r"layers\.0 \(H1v1Synapse\) has a nonlinear charge curve.*weights='float'",
    ),
    "charge as input": (
        lambda: bh.nn.H1v1Layer(3, tau=10.0 * u.ms),
        {"clamp": "ignore"},
        r"H1v1Layer \(H1v1Layer\) receives the input of the network as a charge",
    ),
    "charge as output": (lambda: bh.nn.H1v1Synapse(4, 3), {}, r"H1v1Synapse\) does not drive a chip layer"),
    "another library's module": (
        lambda: brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3), lif(), brainstate.nn.LayerNorm((3,))),
        {},
        r"layers\.2 \(LayerNorm\) has no export rule",
    ),
    "an activation": (
        lambda: brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3), lif(), brainstate.nn.ReLU()),
        {},
        r"its output\) is not the output of one module.*layers\.2 \(ReLU\)",
    ),
    "a changed class": (
        lambda: brainstate.nn.Sequential(Louder(4, 3), lif()),
        {},
        r"layers\.0 \(Louder\) overrides a member of the class",
    ),
    "something in between": (
        lambda: Wired(lambda net, x: net.lif(2 * net.syn(x))),
        {},
        r"lif \(LIFLayer\) takes an input that is neither .* \(it is computed from syn\)",
    ),
    "a sum": (
        lambda: Wired(lambda net, x: net.lif(net.syn(x) + net.syn2(x)), syn2=bh.nn.LIFSynapse(4, 3)),
        {},
        r"lif \(LIFLayer\) takes an input .* \(it is the sum of syn and syn2; .* merge the summands into one module",
    ),
    "a sum as output": (
        lambda: Wired(lambda net, x: net.lif(net.syn(x)) + net.lif2(net.syn(x)), lif2=lif()),
        {},
        r"its output\) is not the output of one module \(it is the sum of lif and lif2",
    ),
    "a convolution": (
        lambda: brainstate.nn.Sequential(brainstate.nn.ScaledWSConv1d((8, 1), 3, kernel_size=3)),
        {"sample": np.ones((2, 8, 1), np.float32)},
        r"layers\.0 \(ScaledWSConv1d\) is a convolution whose class has no export rule",
    ),
    "two outputs": (
        lambda: Wired(lambda net, x: (net.lif(net.syn(x)), x)),
        {},
        r"the network \(its output\) is not the output of one module",
    ),
    "used twice": (
        lambda: Wired(lambda net, x: net.lif(net.syn(net.syn2(net.lif(net.syn(x))))), syn2=brainstate.nn.Linear(3, 4)),
        {},
        r"the network \(Wired\) cannot be run for one step: the LIFLayer at 'lif' is called 2 times",
    ),
    "a state of its own": (lambda: Wired(counting), {}, r"count \(ShortTermState\) is written in a step outside"),
    "a membrane written to": (
        lambda: Wired(rewriting),
        {},
        r"lif \(LIFLayer\) has states that are also written outside of it",
    ),
    "a time step of its own": (lambda: Wired(own_step), {}, r"lif \(LIFLayer\) runs with its own time step"),
    "a step that fails": (
        lambda: Wired(lambda net, x: net.lif(net.syn(x[..., :2]))),
        {},
        r"the network \(Wired\) cannot be run for one step: ValueError",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_nir_form_is_named_with_its_path_and_the_way_out(name: str) -> None:
    make, options, words = REFUSED[name]
    net = make()
    before = {
        path: np.array(u.get_mantissa(state.value))
        for path, state in net.states().items()
        if not isinstance(state.value, dict)
    }
    with pytest.raises(NIRError, match=words) as refusal:
        to_nir(net, dt=DT, **options)
    assert str(refusal.value).startswith("to_nir:")
    for path, array in before.items():
        np.testing.assert_array_equal(array, u.get_mantissa(net.states()[path].value))


def test_all_problems_of_a_net_are_told_at_once() -> None:
    net = brainstate.nn.Sequential(
        bh.nn.LIFSynapse(4, 3),
        lif(reset="subtract"),
        bh.nn.LIFSynapse(3, 3),
        bh.nn.FractionalLIFLayer(3, alpha=0.5),
        bh.nn.LIFSynapse(3, 3),
        bh.nn.CubaLIFLayer(3, noise_std=0.1 * u.mV / u.second**0.5),
    )
    with pytest.raises(NIRError, match="to_nir: 5 problems:") as refusal:
        to_nir(net, dt=DT)
    assert [text.split()[0] for text in refusal.value.problems] == ["layers.1", "layers.3", *["layers.5"] * 3]


def test_weights_that_are_not_finite_are_named() -> None:
    net = behind_synapse(lif())
    net.layers[0].weight.value = net.layers[0].weight.value.at[0, 0].set(jnp.nan * u.mV)
    with pytest.raises(NIRError, match=r"layers\.0\.weight \(a parameter\) contains NaN"):
        to_nir(net, dt=DT)


BAD_ARGUMENTS = {
    "dt": (TypeError, "to_nir: dt must be a Quantity", {"dt": 1.0}),
    "dt of another dimension": (TypeError, "to_nir: dt must have the dimension of ms", {"dt": 1.0 * u.mV}),
    "dt of zero": (ValueError, "to_nir: dt must be greater than zero", {"dt": 0.0 * u.ms}),
    "voltage_unit": (TypeError, "to_nir: voltage_unit must have the dimension of mV", {"voltage_unit": 1.0 * u.ms}),
    "reset": (ValueError, "to_nir: reset must be one of 'exact', 'continuous'", {"reset": "zero"}),
    "discretisation": (ValueError, "to_nir: discretisation must be one of", {"discretisation": "heun"}),
    "gain": (ValueError, "to_nir: gain must be one of", {"gain": "both"}),
    "weights": (ValueError, "to_nir: weights must be one of", {"weights": "int4"}),
    "clamp": (ValueError, "to_nir: clamp must be one of", {"clamp": "no"}),
    "sample": (ValueError, r"to_nir: sample must have shape \[T, N\] or \[T, B, N\]", {"sample": np.ones(4)}),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_a_bad_argument_is_named(name: str) -> None:
    kind, words, options = BAD_ARGUMENTS[name]
    with pytest.raises(kind, match=words):
        to_nir(behind_synapse(lif()), **{"dt": DT, **options})


def test_no_module_and_a_call_inside_jit_are_refused() -> None:
    with pytest.raises(TypeError, match=r"to_nir: net must be a brainstate\.nn\.Module"):
        to_nir([], dt=DT)
    net = behind_synapse(lif())
    with pytest.raises(RuntimeError, match="to_nir: weights have no values inside jit"):
        jax.jit(lambda: to_nir(net, dt=DT))()


@pytest.mark.parametrize("missing", ["nir", "h5py"])
def test_without_the_packages_the_error_says_what_to_install(missing: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for call in (lambda: to_nir(behind_synapse(lif()), dt=DT), lambda: from_nir("net.nir", dt=DT)):
        with pytest.raises(ImportError, match=r"the packages nir and h5py are required.*pip install 'brainhw\[nir\]'"):
            call()


def test_a_chip_whose_clamp_does_nothing_on_the_sample_is_exported_and_one_where_it_does_is_not() -> None:
    def chip(weights: np.ndarray) -> brainstate.nn.Module:
        synapse = bh.nn.H1v1Synapse(4, 3, weight_init=weights.astype(np.float32))
        return brainstate.nn.Sequential(synapse, bh.nn.H1v1Layer(3, tau=10.0 * u.ms))

    excites = chip(np.full((4, 3), 0.6))
    graph = to_nir(excites, dt=DT, sample=XS)
    assert graph.metadata["brainhw"]["chip"] == "H1v1"
    inhibits = chip(np.array([[0.6], [0.6], [-0.9], [-0.9]]).repeat(3, 1))
    with pytest.raises(NIRError, match=r"clamps its membrane potential at zero in \d+\.\d+% of all steps and neurons"):
        to_nir(inhibits, dt=DT, sample=XS[:, None])
    assert to_nir(inhibits, dt=DT, clamp="ignore").nodes["layers_1"].v_leak[0] == 0
