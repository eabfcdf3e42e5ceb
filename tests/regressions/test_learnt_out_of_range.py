"""Parameters that learning, or a later write, brought out of their range ran without an error.

A time constant of -5 ms gave 54 spikes (LIF), V_th <= 0 and decay factors above 1 gave others; ``to_nir`` wrote them.
Seen in snntorch issues 346 and 61; field cases 02 and 02b.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.interop.nir import to_nir

Param, Const = brainstate.nn.Param, brainstate.nn.Const
MS, MV = 20.0 * u.ms, 1.0 * u.mV
X = jnp.asarray(np.random.default_rng(0).uniform(0, 0.4, (6, 3)), jnp.float32) * u.mV


def lif(**given: Any) -> bh.nn.LIFLayer:
    return bh.nn.LIFLayer(3, **{"tau": MS, **given})


def fractional(**given: Any) -> bh.nn.FractionalLIFLayer:
    return bh.nn.FractionalLIFLayer(3, **{"alpha": 0.8, **given})


def adaptive(**given: Any) -> bh.nn.ALIFLayer:
    return bh.nn.ALIFLayer(3, **given)


def rockpool(leak: str) -> Callable[..., Any]:
    return lambda **given: bh.nn.CubaLIFLayer(3, leak=leak, **given)


FAULTS: list[tuple[Callable[..., Any], str, Any, Any, str]] = [
    (lif, "tau", MS, -5.0 * u.ms, r"LIFLayer.tau must be greater than zero; got -5 ms.*SoftplusT\(1 \* u.ms\)"),
    (lif, "V_th", MV, 0.0 * u.mV, r"LIFLayer.V_th must be greater than zero; got 0 mV.*SoftplusT\(0.1 \* u.mV\)"),
    (lif, "V_th", np.ones(3) * u.mV, np.array([1, -2, 1]) * u.mV, r"LIFLayer.V_th .* got -2 mV at index \(1,\)"),
    (lif, "tau", MS, np.nan * u.ms, "LIFLayer.tau must be greater than zero; got nan ms"),
    (lif, "tau", MS, -0.5 * u.second, "LIFLayer.tau must be greater than zero; got -500 ms"),
    (adaptive, "tau_ahp", MS, -5.0 * u.ms, "ALIFLayer.tau_ahp must be greater than zero; got -5 ms"),
    (rockpool("taus"), "tau_syn", MS, -5.0 * u.ms, "CubaLIFLayer.tau_syn .* got -5 ms"),
    (rockpool("decays"), "alpha", 0.5, 1.3, r"CubaLIFLayer.alpha must be from 0 to 1; got 1.3.*SigmoidT"),
    (rockpool("decays"), "beta", 0.5, -0.3, "CubaLIFLayer.beta must be from 0 to 1; got -0.3"),
    (rockpool("bitshifts"), "dash_mem", 1.0, -1.0, "CubaLIFLayer.dash_mem must be greater than zero; got -1"),
    (fractional, "alpha", 0.5, 1.2, "FractionalLIFLayer.alpha must be greater than 0 and at most 1; got 1.2"),
    (fractional, "tau", MS, -5.0 * u.ms, "FractionalLIFLayer.tau must be greater than zero; got -5 ms"),
]
IDS = [f"{fault[1]}={fault[3]}" for fault in FAULTS]


@pytest.mark.parametrize(("make", "name", "good", "bad", "words"), FAULTS, ids=IDS)
@pytest.mark.parametrize("kind", ["learnt", "frozen", "plain"])
def test_a_parameter_out_of_range_is_refused_by_path_value_and_range(
    make: Callable[..., Any], name: str, good: Any, bad: Any, words: str, kind: str
) -> None:
    held = {"learnt": Param, "frozen": Const, "plain": lambda value: value}[kind](good)
    layer = make(**{name: held})
    bh.prepare_net(layer)
    before = {path: state.value for path, state in layer.states(brainstate.HiddenState).items()}
    if kind == "learnt":
        getattr(layer, name).val.value = bad
    elif kind == "frozen":
        getattr(layer, name).val = bad
    else:
        setattr(layer, name, bad)
    with pytest.raises(ValueError, match=f"prepare_net: the parameter {words}"):
        bh.prepare_net(layer, 2)
    with pytest.raises(ValueError, match=f"rollout: the parameter {words}"):
        bh.rollout(layer, X, prepare=False)
    assert all(state.value is before[path] for path, state in layer.states(brainstate.HiddenState).items())


def bad_lif() -> Any:
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3), lif(tau=Param(MS)), bh.nn.LeakyReadout(3, 2, tau=MS))
    net.layers[1].tau.val.value = -5.0 * u.ms
    return net


def bad_chip() -> Any:
    net = brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(4, 3), bh.nn.H1v2Layer(3, tau=MS), bh.nn.LeakyReadout(3, 2, tau=Param(MS))
    )
    net.layers[2].tau.val.value = -5.0 * u.ms
    return net


def mean_output(net: Any) -> Any:
    return bh.rollout(net, SPIKES)[0].mean()


SPIKES = np.zeros((5, 2, 4), np.float32)
CALLS: dict[str, tuple[Callable[[], Any], Callable[[Any, Path], Any]]] = {
    "stream": (bad_lif, lambda net, _: bh.stream(net, 2)),
    "to_nir": (bad_lif, lambda net, _: to_nir(net, dt=1 * u.ms)),
    "fluct_init": (bad_lif, lambda net, _: bh.init.fluct_init(net, [SPIKES.swapaxes(0, 1)], families="any")),
    "fluct_report": (bad_lif, lambda net, _: bh.init.fluct_report(net, [SPIKES.swapaxes(0, 1)])),
    "check_deployable": (bad_chip, lambda net, _: bh.deploy.check_deployable(net)),
    "export_bundle": (bad_chip, lambda net, path: bh.deploy.export_bundle(net, path / "net.bundle")),
    "estimate_power": (bad_chip, lambda net, _: bh.deploy.estimate_power(net, SPIKES)),
    "robustness": (
        bad_chip,
        lambda net, _: bh.deploy.robustness(net, mean_output, n_chips=2, key=0),
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_that_runs_or_writes_a_net_refuses(call: str, tmp_path: Path) -> None:
    make, run = CALLS[call]
    path = "layers.1.tau" if make is bad_lif else "layers.2.tau"
    with brainstate.environ.context(dt=1.0 * u.ms), pytest.raises(ValueError, match=rf"{path} must .* got -5 ms"):
        run(make(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_compiled_function_is_loud_too() -> None:
    layer = lif(tau=Param(MS))
    run = brainstate.transform.jit(lambda: bh.rollout(layer, X, check_finite=True)[0])
    assert np.isfinite(np.asarray(run())).all()
    layer.tau.val.value = -5.0 * u.ms

    def watched() -> None:
        jax.block_until_ready(run())
        jax.effects_barrier()

    with pytest.raises(jax.errors.JaxRuntimeError, match=r"rollout: the parameter LIFLayer.tau is out of range"):
        watched()
    # A function that is traced now has the number.
    with pytest.raises(ValueError, match=r"LIFLayer.tau must be greater than zero; got -5 ms"):
        brainstate.transform.jit(lambda: bh.rollout(layer, X)[0])()


def test_the_check_adds_no_read_that_grad_would_see() -> None:
    used, idle = lif(tau=Param(MS)), lif(tau=Param(MS))
    net = brainstate.nn.Sequential(used)
    net.idle = idle
    of = brainstate.transform.make_jaxpr(lambda: bh.prepare_net(net))()[1]
    assert not [state for state in of if isinstance(state, brainstate.ParamState)]


def test_a_transform_with_the_range_is_never_refused() -> None:
    layer = lif(tau=Param(MS, t=brainstate.nn.SoftplusT(1.0 * u.ms)))
    layer.tau.val.value = jnp.asarray(-50.0)
    bh.prepare_net(layer)
    assert float(layer.tau.value().mantissa) == 1.0
    wrong = lif(tau=Param(MS, t=brainstate.nn.SoftplusT(-9.0 * u.ms)))
    wrong.tau.val.value = jnp.asarray(-50.0)
    with pytest.raises(ValueError, match=r"LIFLayer.tau must be greater than zero; got -9 ms"):
        bh.prepare_net(wrong)


class Damped(brainstate.nn.Module):
    """A module of another package with a range of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = Param(0.5)
        self.parameter_ranges = {"gain": bh.nn.protocols.Range(0.25, 1.0, includes_low=True), "absent": None}


def test_modules_of_other_packages_declare_ranges() -> None:
    module = Damped()
    bh.prepare_net(module)
    module.gain.val.value = jnp.asarray(0.125)
    with pytest.raises(ValueError, match=r"the parameter Damped.gain must be from 0.25 to 1; got 0.125. Assign"):
        bh.prepare_net(module)


def test_a_weight_of_another_unit_shape_or_type_is_named() -> None:
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3), lif())
    weight = net.layers[0].weight
    good = weight.value
    for bad, error, words in (
        (good.mantissa, TypeError, "must be a Quantity in mV"),
        (good[:, :2], ValueError, r"must have shape \(4, 3\); got shape \(4, 2\)"),
        (good * (1 + 2j), TypeError, "must be real; got numbers of dtype complex64"),
        (np.ones((4, 3), ">f4") * u.mV, TypeError, "must have the byte order .* got dtype >f4"),
    ):
        weight.value = bad
        with pytest.raises(error, match=f"prepare_net: the parameter layers.0.weight {words}"):
            bh.prepare_net(net)
    weight.value = good
    bh.prepare_net(net)
