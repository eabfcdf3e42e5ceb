"""Valid calls of modules, kernels and surrogates."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from valid_calls import B, K, M, N, T, add, chip_net, inputs

import brainhw as bh

MV = u.mV
WEIGHT = np.full((N, M), 0.6)
drive = jnp.ones((B, M)) * MV
drives = jnp.ones((T, B, M)) * MV
NAME = ("optional name", "here")


def spike() -> Any:
    return bh.surrogate.ATan()


LAYER = {
    "topology": ("choice", "RC"),
    "spk_fun": ("optional callable", spike()),
    "detach_reset": ("flag", True),
    "name": NAME,
}
ROUNDED = {"weight_bits": ("bits", 5), "rounding": ("choice", "stochastic")}

for kind in ("H1v1Layer", "H1v2Layer"):

    @add(f"nn.{kind}")
    def _(kind: str = kind) -> Any:
        chip = bh.chip.H1V1 if "v1" in kind else bh.chip.H1V2
        return getattr(bh.nn, kind), {
            "size": ("size", M), "tau": ("tau", 10 * u.ms), "chip": ("optional chip", chip),
            "recurrent_init": ("optional weights", np.full((M, M), 0.1)), **ROUNDED, **LAYER,
        }  # fmt: skip


for kind in ("H1v1Synapse", "H1v2Synapse"):

    @add(f"nn.{kind}")
    def _(kind: str = kind) -> Any:
        chip = bh.chip.H1V1 if "v1" in kind else bh.chip.H1V2
        return getattr(bh.nn, kind), {
            "in_size": ("one size", N), "out_size": ("one size", M), "chip": ("optional chip", chip),
            "weight_init": ("optional weights", WEIGHT), **ROUNDED, "name": NAME,
        }  # fmt: skip


for kind in ("H1v1Frontend", "H1v2Frontend"):

    @add(f"nn.{kind}")
    def _(kind: str = kind) -> Any:
        chip = bh.chip.H1V1 if "v1" in kind else bh.chip.H1V2
        weights = np.full(chip.frontend_channels, 0.5)
        return getattr(bh.nn, kind), {
            "chip": ("optional chip", chip), "weight_init": ("optional weights", weights), **ROUNDED, "name": NAME,
        }  # fmt: skip


@add("nn.LIFLayer")
def _() -> Any:
    return bh.nn.LIFLayer, {
        "size": ("size", M), "tau": ("parameter ms", 10 * u.ms), "V_th": ("parameter mV", 1.0 * MV),
        "reset": ("choice", "zero"), "recurrent_init": ("optional weights", np.full((M, M), 0.1) * MV), **LAYER,
    }  # fmt: skip


@add("nn.LIFSynapse")
def _() -> Any:
    return bh.nn.LIFSynapse, {
        "in_size": ("one size", N), "out_size": ("one size", M), "weight_init": ("optional weights", WEIGHT * MV),
        "name": NAME,
    }  # fmt: skip


@add("nn.LeakyReadout")
def _() -> Any:
    return bh.nn.LeakyReadout, {
        "in_size": ("one size", N), "out_size": ("one size", M), "tau": ("parameter ms", 10 * u.ms),
        "weight_init": ("optional weights", WEIGHT), "bias": ("flag", True), "name": NAME,
    }  # fmt: skip


CUBA = {
    "size": ("size", M), "n_synapses": ("count", 1), "tau_mem": ("optional parameter ms", 10 * u.ms),
    "tau_syn": ("optional parameter ms", 5 * u.ms), "bias": ("signed mV", 0.0 * MV), "V_th": ("parameter mV", 1.0 * MV),
    "w_rec": ("optional recurrent mV", None), "noise_std": ("optional noise", 0.1 * MV / u.second**0.5),
    "max_spikes_per_step": ("optional limit", 3), "spk_fun": ("optional callable", None),
    "detach_reset": ("flag", True), "leak": ("choice", "taus"), "name": NAME,
}  # fmt: skip
DECAYS = {
    "size": ("size", M), "n_synapses": ("count", 1), "leak": ("choice", "decays"),
    "alpha": ("optional decay", 0.9), "beta": ("optional decay", 0.8),
}  # fmt: skip
BITSHIFT = {
    "size": ("size", M), "leak": ("choice", "bitshifts"),
    "dash_mem": ("optional dash", 4.0), "dash_syn": ("optional dash", 3.0),
}  # fmt: skip


@add("nn.CubaLIFLayer")
def _() -> Any:
    return bh.nn.CubaLIFLayer, CUBA


@add("nn.CubaLIFLayer:decays")
def _() -> Any:
    return bh.nn.CubaLIFLayer, DECAYS


@add("nn.CubaLIFLayer:bitshifts")
def _() -> Any:
    return bh.nn.CubaLIFLayer, BITSHIFT


@add("nn.ALIFLayer")
def _() -> Any:
    own = {"tau_ahp": ("optional parameter ms", 20 * u.ms), "w_ahp": ("signed mV", -0.9 * MV)}
    return bh.nn.ALIFLayer, {**CUBA, **own}


@add("nn.ALIFLayer:decays")
def _() -> Any:
    return bh.nn.ALIFLayer, {**DECAYS, "gamma": ("optional decay", 0.9)}


FRACTIONAL = {
    "size": ("size", M), "alpha": ("order", 0.8), "coefficients": ("optional coefficients", None),
    "tau": ("parameter ms", 20 * u.ms), "V_th": ("parameter mV", 1.0 * MV), "time_scale": ("optional ms", 1.0 * u.ms),
    "method": ("choice", "gl"), "memory": ("optional count", None), "kernel": ("choice", "soe"),
    "n_exponentials": ("count", 8), "horizon": ("optional count", 100), "reset": ("choice", "current"),
    "history": ("choice", "keep"), "lookahead": ("optional ms", None), "learn_alpha": ("flag or choice", True),
    "learn_coefficients": ("flag or choice", False), "learn_tau": ("flag", True), "detach_reset": ("flag", True),
    "memory_rule": ("choice", "past"), "alpha_rule": ("choice", "exact"),
    "spk_fun": ("optional callable", spike()), "name": NAME,
}  # fmt: skip

for kind in ("FractionalLIFLayer", "FractionalIFLayer"):

    @add(f"nn.{kind}")
    def _(kind: str = kind) -> Any:
        return getattr(bh.nn, kind), FRACTIONAL


# Methods.


def lif() -> Any:
    layer = bh.nn.LIFLayer(M, tau=10 * u.ms, topology="RC", recurrent_init=np.full((M, M), 0.1) * MV)
    layer.init_state(B)
    return layer


def cuba() -> Any:
    layer = bh.nn.CubaLIFLayer(M, 1, tau_mem=10 * u.ms, tau_syn=5 * u.ms)
    layer.init_state(B)

    return layer


def fractional() -> Any:
    layer = bh.nn.FractionalLIFLayer(M, alpha=0.8)
    layer.init_state(B)
    return layer


def h1() -> Any:
    layer = bh.nn.H1v2Layer(M, tau=10 * u.ms, topology="RC", recurrent_init=np.full((M, M), 0.1))
    layer.init_state(B)
    layer.prepare()
    return layer


def prepared(module: Any) -> Any:
    module.prepare()
    return module


INPUT = {"x": "input", "xs": "input"}


@add("SpikingLayer.update", x="input")
def _() -> Any:
    return lif().update, {"x": ("drive", drive)}


@add("SpikingLayer.update_sequence", xs="input")
def _() -> Any:
    return lif().update_sequence, {"xs": ("drive", drives)}


@add("SpikingLayer.subthreshold", xs="input")
def _() -> Any:
    return lif().subthreshold, {"xs": ("drive", drives)}


@add("RestingStates.init_state")
def _() -> Any:
    return lif().init_state, {"batch_size": ("optional count", B)}


@add("H1Layer.init_state")
def _() -> Any:
    return h1().init_state, {"batch_size": ("optional count", B)}


@add("_ChipSynapse.init_state")
def _() -> Any:
    return bh.nn.H1v2Synapse(N, M, weight_init=WEIGHT).init_state, {"batch_size": ("optional count", B)}


@add("RestingStates.reset_state")
def _() -> Any:
    return lif().reset_state, {"batch_size": ("optional count", B)}


@add("FractionalLayer.init_state")
def _() -> Any:
    return fractional().init_state, {"batch_size": ("optional count", B)}


@add("FractionalLayer.reset_state")
def _() -> Any:
    return fractional().reset_state, {"batch_size": ("optional count", B)}


@add("LIFSynapse.update", x="input")
def _() -> Any:
    return bh.nn.LIFSynapse(N, M).update, {"x": ("plain input", inputs()[0])}


@add("LIFSynapse.update_sequence", xs="input")
def _() -> Any:
    return bh.nn.LIFSynapse(N, M).update_sequence, {"xs": ("plain input", inputs())}


@add("H1Synapse.update", x="input")
def _() -> Any:
    return prepared(bh.nn.H1v2Synapse(N, M, weight_init=WEIGHT)).update, {"x": ("plain input", inputs()[0])}


@add("H1Synapse.update_sequence", xs="input")
def _() -> Any:
    return prepared(bh.nn.H1v2Synapse(N, M, weight_init=WEIGHT)).update_sequence, {"xs": ("plain input", inputs())}


@add("H1Frontend.update", x="input")
def _() -> Any:
    return prepared(bh.nn.H1v2Frontend(weight_init=np.full(16, 0.5))).update, {"x": ("plain input", inputs(16)[0])}


@add("H1Frontend.update_sequence", xs="input")
def _() -> Any:
    call = prepared(bh.nn.H1v2Frontend(weight_init=np.full(16, 0.5))).update_sequence
    return call, {"xs": ("plain input", inputs(16))}


def readout() -> Any:
    layer = bh.nn.LeakyReadout(N, M, tau=10 * u.ms)
    layer.init_state(B)
    return layer


@add("LeakyReadout.update", x="input")
def _() -> Any:
    return readout().update, {"x": ("plain input", inputs()[0])}


@add("LeakyReadout.update_sequence", xs="input")
def _() -> Any:
    return readout().update_sequence, {"xs": ("plain input", inputs())}


@add("CubaLIFLayer.update", x="input")
def _() -> Any:
    return cuba().update, {"x": ("drive", drive)}


@add("CubaLIFLayer.update_sequence", xs="input")
def _() -> Any:
    return cuba().update_sequence, {"xs": ("drive", drives)}


@add("CubaLIFLayer.subthreshold", xs="input")
def _() -> Any:
    return cuba().subthreshold, {"xs": ("drive", drives)}


@add("FractionalLayer.update", x="input")
def _() -> Any:
    return fractional().update, {"x": ("drive", drive)}


@add("FractionalLayer.update_sequence", xs="input")
def _() -> Any:
    return fractional().update_sequence, {"xs": ("drive", drives)}


@add("FractionalLayer.subthreshold", xs="input")
def _() -> Any:
    return fractional().subthreshold, {"xs": ("drive", drives)}


@add("FractionalLayer.set_orders")
def _() -> Any:
    return fractional().set_orders, {
        "alpha": ("order", 0.7), "coefficients": ("optional coefficients", None),
        "learn_alpha": ("flag or choice", False), "learn_coefficients": ("flag or choice", False),
    }  # fmt: skip


@add("_ChipSynapse.prepare")
def _() -> Any:
    return bh.nn.H1v2Synapse(N, M, weight_init=WEIGHT).prepare, {"key": ("optional key", jax.random.key(1))}


@add("H1Layer.prepare")
def _() -> Any:
    return h1().prepare, {"key": ("optional key", jax.random.key(1))}


@add("nn.chip_weights")
def _() -> Any:
    return bh.nn.chip_weights, {"net": ("net", chip_net())}


@add("nn.net_chip")
def _() -> Any:
    return bh.nn.net_chip, {"net": ("net", chip_net()), "call": ("call", "net_chip")}


@add("nn.twin")
def _() -> Any:
    return bh.nn.twin, {"module": ("net", chip_net())}


@add("nn.spikede_preset")
def _() -> Any:
    return bh.nn.spikede_preset, {"time_unit": ("positive ms", 1.0 * u.ms)}


@add("nn.EffectiveWeight", calls=("here",))
def _() -> Any:
    return bh.nn.EffectiveWeight, {
        "master": ("weight state", brainstate.ParamState(jnp.asarray(WEIGHT))), "chip": ("chip", bh.chip.H1V2),
        "owner": ("text", "here"), **ROUNDED,
    }  # fmt: skip


# Kernels and surrogates.


@add("kernel.Firing")
def _() -> Any:
    return bh.kernel.Firing, {
        "spk_fun": ("callable", spike()), "reset": ("choice", "zero"), "detach": ("flag", True),
        "clamped": ("flag", True), "refractory": ("whole", 2),
    }  # fmt: skip


@add("kernel.FractionalMethod")
def _() -> Any:
    return bh.kernel.METHODS["gl"], {"compatible": ("flag", True)}


@add("kernel.WeightGrid")
def _() -> Any:
    return bh.kernel.WeightGrid, {
        "limit": ("positive number", 1.66),
        "bits": ("bit count", 5),
        "lowest": ("optional negative", -1.7),
    }


@add("WeightGrid.codes")
def _() -> Any:
    return bh.kernel.WeightGrid(1.66, 5).codes, {
        "weights": ("array", jnp.asarray(WEIGHT)),
        "key": ("optional key", jax.random.key(0)),
    }


@add("WeightGrid.quantize")
def _() -> Any:
    return bh.kernel.WeightGrid(1.66, 5).quantize, {
        "weights": ("array", jnp.asarray(WEIGHT)),
        "key": ("optional key", jax.random.key(0)),
    }


@add("WeightGrid.values")
def _() -> Any:
    return bh.kernel.WeightGrid(1.66, 5).values, {
        "codes": ("codes", np.array([1, 2])),
        "dtype": ("optional dtype", "float32"),
    }


@add("kernel.n_exponentials")
def _() -> Any:
    return bh.kernel.n_exponentials, {
        "tolerance": ("tolerance", 0.1), "horizon": ("count", 64), "method": ("choice", "gl"),
    }  # fmt: skip


@add("kernel.weight_error")
def _() -> Any:
    return bh.kernel.weight_error, {
        "method": ("choice", "gl"), "alpha": ("one order", 0.5), "n": ("count", 8), "horizon": ("count", 64),
    }  # fmt: skip


for kind, parameter in (("ATan", "alpha"), ("FastSigmoid", "slope"), ("Sigmoid", "slope")):

    @add(f"surrogate.{kind}", calls=("atan", "fast_sigmoid", "sigmoid"))
    def _(kind: str = kind, parameter: str = parameter) -> Any:
        return getattr(bh.surrogate, kind), {parameter: ("positive number", 2.0)}


for method in ("__call__", "surrogate_fun", "surrogate_grad"):

    @add(f"_HardThreshold.{method}", calls=("atan",))
    def _(method: str = method) -> Any:
        kind = "membranes over threshold" if method == "__call__" else "array"
        return getattr(spike(), method), {"x": (kind, jnp.ones(3))}


for kind in ("StepPWL", "PeriodicExponential"):

    @add(f"surrogate.{kind}")
    def _(kind: str = kind) -> Any:
        return getattr(bh.surrogate, kind), {"window": ("window", 0.5)}


@add("MultiSpike.__call__")
def _() -> Any:
    return bh.surrogate.StepPWL(), {
        "V": ("membrane", jnp.ones((B, K)) * MV), "V_th": ("optional threshold", 1.0 * MV),
        "max_spikes": ("optional limit", 3),
    }  # fmt: skip
