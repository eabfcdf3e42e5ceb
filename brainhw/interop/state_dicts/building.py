"""Build brainhw modules from the parameters of another library."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from brainhw._arguments import number
from brainhw.interop.nir.parts import BiasedSynapse
from brainhw.interop.state_dicts.faults import Faults
from brainhw.interop.state_dicts.net import StateDictNet
from brainhw.interop.state_dicts.parts import CurrentLIFLayer, DecayLIFLayer
from brainhw.interop.state_dicts.reading import Dense
from brainhw.kernel.leaky import Reset
from brainhw.nn import LIFLayer, LIFSynapse
from brainhw.nn.spiking import Topology

__all__ = ["Neuron", "build", "numbers"]

# Smallest decay factor for which a LIFLayer is made. For smaller factors the time constant would be very short, and a
# DecayLIFLayer, which stores the factor itself, is used.
_MIN_LIF_DECAY = 0.01
_TAU_SEARCH_ULPS = 12


class Neuron(NamedTuple):
    """Parameters of a neuron of another library. Arrays are scalars or ``[N]``.

    ``beta`` is the decay factor of the membrane potential. ``gain`` multiplies the input. brainhw divides the threshold
    by ``gain``, because multiplying the weights by ``gain`` would round them. A ``strict`` neuron fires only above its
    threshold; other neurons also fire at the threshold. With ``delays_reset``, a neuron resets one step after its
    spike. With ``is_refractory``, a neuron ignores its input in the step after a spike. ``current_decay`` is the decay
    factor of the synaptic current. ``input_weights`` is set for a neuron that contains its own input weights and
    therefore has no ``Linear`` before it.
    """

    beta: np.ndarray
    threshold: np.ndarray
    reset: Reset
    strict: bool
    gain: np.ndarray | float = 1.0
    delays_reset: bool = False
    is_refractory: bool = False
    current_decay: np.ndarray | None = None
    input_weights: Dense | None = None
    recurrent_weights: Dense | None = None


def numbers(value: Any, name: str, call: str, faults: Faults, *, low: float, high: float = np.inf) -> np.ndarray:
    """Return a parameter of a neuron as a scalar or an array ``[N]``. Add a fault unless ``low < value <= high``."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(number(value, call=call, name=name, shapes=None), float)
    array = array.reshape(()) if array.size == 1 else array
    if array.ndim > 1:
        faults.add(f"{name} has shape {array.shape}; it must be a scalar or have one value per neuron, [N].")
    elif not np.all((array > low) & (array <= high)):
        span = f"greater than {low:g}" if np.isinf(high) else f"greater than {low:g} and at most {high:g}"
        faults.add(f"{name} must be {span}; got {array.min():g}{f' to {array.max():g}' if array.ndim else ''}.")
    return array


def build(
    order: list[str], dense: dict[str, Dense], neurons: dict[str, Neuron], dt: u.Quantity, faults: Faults
) -> StateDictNet:
    """Build a network from the modules that ``order`` lists, in this order.

    Raise one ``ValueError`` that lists all faults if any fault was found.
    """
    _check_chain(order, dense, neurons, faults)
    faults.raise_any()
    parts: dict[str, brainstate.nn.Module] = {}
    for place, name in enumerate(order):
        if name in dense:
            after = order[place + 1] if place + 1 < len(order) else None
            parts[name] = _synapse(dense[name], None if after is None else neurons[after].recurrent_weights)
            continue
        neuron = neurons[name]
        if neuron.input_weights is not None:
            parts[f"{name}.input"] = _synapse(neuron.input_weights, neuron.recurrent_weights)
        parts[name] = _layer(neuron, int(parts[list(parts)[-1]].out_size[-1]), dt)
    return StateDictNet(parts, dt)


def _check_chain(order: list[str], dense: dict[str, Dense], neurons: dict[str, Neuron], faults: Faults) -> None:
    listed = ", ".join(order)
    if not order and not faults.found:
        faults.add("state contains no Linear, and neurons is empty; pass a network with at least one Linear.")
    width: int | None = None
    before = ""
    for name in order:
        if name not in dense and name not in neurons:
            return  # already reported
        input_weights = dense[name] if name in dense else neurons[name].input_weights
        needs_neuron = bool(before) and (before in dense) == (input_weights is not None)
        if needs_neuron or (input_weights is None and not before):
            follows = f"follows {before}" if before else "comes first"
            faults.add(
                f"order: {name} {follows} in {listed}; each Linear needs a neuron after it, and each neuron a Linear "
                "before it. Pass order=, the names in execution order."
            )
            return
        if input_weights is not None:
            n_out, n_in = input_weights.weight.shape
            if width is not None and n_in != width:
                faults.add(
                    f"order: {name} has {n_in} inputs, but {before} before it has {width} outputs; correct order=."
                )
                return
            width = n_out
        if name in neurons:
            _check_widths(name, neurons[name], int(width or 0), faults)
        before = name


def _check_widths(name: str, neuron: Neuron, n: int, faults: Faults) -> None:
    for what in ("beta", "threshold", "gain", "current_decay"):
        value = getattr(neuron, what)
        if value is not None and np.ndim(value) and len(value) != n:
            faults.add(f"{name} has {len(value)} parameter values for {n} neurons; pass one value, or one per neuron.")
            return
    recurrent = neuron.recurrent_weights
    if recurrent is not None and recurrent.weight.shape != (n, n):
        faults.add(f"the recurrent weights of {name} have shape {recurrent.weight.shape}; they must be {(n, n)}.")


def _synapse(dense: Dense, recurrent_weights: Dense | None) -> brainstate.nn.Module:
    """Return the synapse that drives a neuron layer. Its bias includes the bias of the layer's recurrent weights."""
    bias = dense.bias
    if recurrent_weights is not None and recurrent_weights.bias is not None:
        bias = recurrent_weights.bias if bias is None else bias + recurrent_weights.bias
    weight = dense.weight.T.astype(np.float32) * u.mV
    if bias is None:
        return LIFSynapse(*weight.shape, weight_init=weight)
    return BiasedSynapse(weight, bias.astype(np.float32) * u.mV)


def _layer(neuron: Neuron, n: int, dt: u.Quantity) -> brainstate.nn.Module:
    threshold = np.asarray(neuron.threshold / neuron.gain, np.float32)
    fires_at = np.nextafter(threshold, np.float32(np.inf)) if neuron.strict else threshold
    V_th = (fires_at if fires_at.ndim else float(fires_at)) * u.mV
    recurrent = neuron.recurrent_weights
    recurrent_init = None if recurrent is None else recurrent.weight.T.astype(np.float32) * u.mV
    beta = neuron.beta.astype(np.float32)
    plain = neuron.current_decay is None and not neuron.delays_reset and not neuron.is_refractory
    if plain and beta.min() >= _MIN_LIF_DECAY and beta.max() < 1:
        topology: Topology = "FF" if recurrent_init is None else "RC"
        return LIFLayer(n, _tau(beta, dt), V_th, reset=neuron.reset, topology=topology, recurrent_init=recurrent_init)
    options: dict[str, Any] = {
        "reset": "none" if neuron.delays_reset else neuron.reset,
        "recurrent_init": recurrent_init,
        "reset_voltage": np.broadcast_to(threshold, n) if neuron.delays_reset else None,
        "refractory_steps": int(neuron.is_refractory),
    }
    if neuron.current_decay is None:
        return DecayLIFLayer(np.broadcast_to(beta, n), V_th, **options)
    alpha = np.broadcast_to(neuron.current_decay, n).astype(np.float32)
    return CurrentLIFLayer(alpha, np.broadcast_to(beta, n), V_th, **options)


def _tau(beta: np.ndarray, dt: u.Quantity) -> u.Quantity:
    """Return the time constant whose float32 decay factor equals ``beta``, or is closest to it."""
    ms = float(dt.to(u.ms).mantissa)
    tau = (-ms / np.log(beta.astype(float))).astype(np.float32)
    nearby = tau + np.arange(-_TAU_SEARCH_ULPS, _TAU_SEARCH_ULPS + 1).reshape(-1, *[1] * tau.ndim) * np.spacing(tau)
    # The factors are computed with jax.numpy, as in the layer, because other libraries round exp differently.
    factors = np.asarray(jnp.exp(jnp.asarray(-np.float32(ms) / nearby.astype(np.float32))), float)
    best = np.argmin(np.abs(factors - beta) + 1e-12 * np.abs(nearby / tau - 1), axis=0)
    tau = np.take_along_axis(nearby, np.asarray(best)[None], axis=0)[0]
    return (tau.astype(np.float32) if tau.ndim else float(np.float32(tau))) * u.ms
