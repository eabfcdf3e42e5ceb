"""What a layer of neurons or a readout is in the numbers of NIR, before any node is made."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainunit as u
import jax.numpy as jnp
import numpy as np

from brainhw.interop.nir.errors import Problems
from brainhw.interop.nir.parts import IFLayer, Integrator
from brainhw.interop.nir.steps import below, tau_of
from brainhw.nn import ALIFLayer, H1Layer, LeakyReadout, LIFLayer, MultiSynapseLayer, SpikingLayer
from brainhw.nn.leak import LEAKS, decay_factor
from brainhw.nn.parameter import current_value
from brainhw.surrogate import MultiSpike

__all__ = ["Leaky", "is_neuron", "leaky_of", "membrane_share", "refuse_parts", "synaptic_shares"]

SUBTRACT = (
    "subtracts its threshold at a spike, which NIR has no form for, whose neurons go to v_reset; {fix}pass "
    "reset='continuous' to export a reset to zero: the same in continuous time, where a membrane never gets beyond its "
    "threshold, and an error of order dt in steps."
)

SPIKES = (
    "has a spk_fun that gives something else than 0 below the threshold and 1 from it on, which is what a neuron of "
    "NIR does; use one of brainhw.surrogate, for example fast_sigmoid()."
)


class Leaky(NamedTuple):
    """A membrane: share that a step leaves, time constant in seconds and threshold in mV, ``[N]`` each.

    ``tau`` is infinite for a membrane without leak, ``V_th`` is ``None`` for one that never fires.
    """

    beta: np.ndarray
    tau: np.ndarray
    V_th: np.ndarray | None


def is_neuron(kind: type | None) -> bool:
    """Whether a module of this class is a layer or readout that NIR has a form for, whatever its options."""
    if kind is None:
        return False
    return issubclass(kind, (LIFLayer, H1Layer, IFLayer, LeakyReadout, MultiSynapseLayer, Integrator))


def membrane_share(module: Any, dt: u.Quantity) -> np.ndarray:
    """Return the share that a step leaves of the membranes, just as the layer works it out, ``[N]``."""
    n = module.out_size[-1]
    if isinstance(module, SpikingLayer):
        share = module.decay(dt)
    elif isinstance(module, MultiSynapseLayer):
        share = decay_factor(module.leak, getattr(module, LEAKS[module.leak].names[0]), dt)
    elif isinstance(module, Integrator):
        share = module.beta
    else:
        share = u.math.exp(-dt / current_value(module.tau))
    return np.broadcast_to(_plain(share), (n,))


def leaky_of(module: Any, dt: u.Quantity, how: str) -> Leaky:
    """Return the membranes of a prepared layer."""
    n, beta = module.out_size[-1], membrane_share(module, dt)
    seconds = float(dt.to(u.second).mantissa)
    if isinstance(module, H1Layer):
        given: Any = module.chip_tau.value
    else:
        name = "tau_mem" if isinstance(module, MultiSynapseLayer) else "tau"
        parameter = getattr(module, name, None)
        given = None if parameter is None else current_value(parameter)
    if given is None or how != "exact":
        tau = tau_of(beta, seconds, how)
    else:
        tau = np.broadcast_to(_plain(given.to(u.ms).mantissa) / 1000, (n,))
    V_th = None
    if isinstance(module, (SpikingLayer, MultiSynapseLayer)):
        V_th = np.broadcast_to(below(_plain(module.threshold().to(u.mV).mantissa)), (n,))
    return Leaky(beta, tau, V_th)


def synaptic_shares(module: Any, dt: u.Quantity, how: str) -> list[Leaky]:
    """Return the leak of each synapse of a current-based layer, and of the after-hyperpolarisation as the last."""
    n, n_syn = module.n_neurons, module.n_synapses
    seconds = float(dt.to(u.second).mantissa)
    share = decay_factor(module.leak, getattr(module, LEAKS[module.leak].names[1]), dt)
    betas = list(np.broadcast_to(_plain(module.per_synapse(share)), (n, n_syn)).T)
    given: list[np.ndarray | None] = [None] * n_syn
    if module.leak == "taus" and how == "exact":
        each = _plain(module.per_synapse(current_value(module.tau_syn).to(u.ms).mantissa)) / 1000
        given = list(np.broadcast_to(each, (n, n_syn)).T)
    if isinstance(module, ALIFLayer):
        of_ahp = ("taus", module.tau_ahp) if module.gamma is None else ("decays", module.gamma)
        betas = [*betas, np.broadcast_to(_plain(decay_factor(*of_ahp, dt)), (n,))]
        exact = module.gamma is None and how == "exact"
        tau = _plain(current_value(module.tau_ahp).to(u.ms).mantissa) / 1000 if exact else None
        given = [*given, None if tau is None else np.broadcast_to(tau, (n,))]
    return [
        Leaky(beta, tau_of(beta, seconds, how) if tau is None else tau, None)
        for beta, tau in zip(betas, given, strict=True)
    ]


def refuse_parts(path: str, module: Any, reset: str, problems: Problems) -> None:
    """Note what a layer does that NIR has no form for."""
    kind = type(module).__name__
    if isinstance(module, MultiSynapseLayer):
        if reset != "continuous":
            problems.add(path, kind, SUBTRACT.format(fix=""))
        if isinstance(module.spk_fun, MultiSpike) and module.max_spikes_per_step != 1:
            problems.add(path, kind, "may fire more than once in a step; build it with max_spikes_per_step=1.")
        if module.noise_std is not None:
            problems.add(path, kind, "adds noise to its membrane; NIR has none, build it without noise_std.")
        elif not isinstance(module.spk_fun, MultiSpike) and not _is_step(module.spk_fun):
            problems.add(path, kind, SPIKES)
    elif isinstance(module, SpikingLayer):
        if not _is_step(module.spk_fun):
            problems.add(path, kind, SPIKES)
        if module.reset == "subtract" and reset != "continuous":
            fix = "build it with reset='zero', or " if isinstance(module, LIFLayer) else ""
            problems.add(path, kind, SUBTRACT.format(fix=fix))
        if module.reset == "none" and module.topology == "RC":
            problems.add(path, kind, "never resets and is recurrent; NIR has no such neuron, use reset='zero'.")


def _is_step(spk_fun: Any) -> bool:
    """Whether a spike function is 0 below the threshold and 1 from it on, as far as a few points show."""
    eps = float(np.finfo(np.float32).eps)
    try:
        given = np.asarray(spk_fun(jnp.asarray([-1.0, -eps, 0.0, eps, 1.0, 3.0], jnp.float32)))
    except Exception:  # the net has run, so a function that takes no such array is none of distances alone
        return False
    return given.shape == (6,) and bool(np.all(given == [0, 0, 1, 1, 1, 1]))


def _plain(value: Any) -> np.ndarray:
    return np.asarray(u.get_mantissa(value)).astype(float)
