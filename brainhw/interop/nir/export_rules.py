"""NIR export rules for layers, synapses and readouts. A rule adds the nodes for a module or rejects the module."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from brainhw.chip import LinearCharge
from brainhw.interop.nir.building import Codes, Export, Linear, Weights, register_export
from brainhw.interop.nir.image_export import ImageGain, image_gain
from brainhw.interop.nir.node_kinds import metadata
from brainhw.interop.nir.parts import (
    BiasedSynapse,
    Comparator,
    CubaCurrent,
    Gain,
    IFLayer,
    Integrator,
    WholeDelay,
)
from brainhw.interop.nir.steps import below, numbers_in, tau_of
from brainhw.interop.nir.wiring import INPUT
from brainhw.nn import (
    ALIFLayer,
    CubaLIFLayer,
    FractionalLayer,
    H1Frontend,
    H1Layer,
    H1Synapse,
    LeakyReadout,
    LIFLayer,
    LIFSynapse,
)
from brainhw.nn.leak import LEAKS, decay_factor
from brainhw.nn.parameter import current_value
from brainhw.surrogate import MultiSpike

__all__: list[str] = []

# In continuous time the membrane potential never exceeds the threshold, so subtracting the threshold is the same as a
# reset to zero (pull request 63 of NIR). In discrete time the membrane potential exceeds the threshold, which causes an
# error of order dt.
SUBTRACT = (
    "subtracts its threshold at a spike, but NIR neurons reset to v_reset; {fix}pass "
    "reset='continuous' to export a reset to zero, which is the same in continuous time and causes an error of order "
    "dt in discrete time."
)
SPIKES = (
    "has a spk_fun that is not a step function (0 below the threshold, 1 at or above it), but the spikes of NIR "
    "neurons are 0 or 1; use a function of brainhw.surrogate, for example fast_sigmoid()."
)


class LeakParameters(NamedTuple):
    """Leak parameters of ``N`` neurons or synaptic currents, arrays ``[N]``.

    ``beta`` is the decay factor per step and ``tau`` the time constant in s. The weights are multiplied by ``factor``,
    and ``r`` is the parameter ``R`` of the node. A library that imports the graph multiplies the input by ``1 - beta``.
    To compensate, one of ``factor`` and ``r`` is ``1/(1 - beta)``, and the other is 1.
    """

    beta: np.ndarray
    tau: np.ndarray
    factor: np.ndarray
    r: np.ndarray


# Synapses


@register_export(LIFSynapse)
@register_export(BiasedSynapse)
def lif_synapse(module: Any, at: Export) -> Weights:
    """Return the weights, which are voltages, and the bias if there is one."""
    return Weights(numbers_in(module.weight.value, at.weight_unit).T, _bias(module, at))


@register_export(Gain, images=True)
def gain(module: Any, at: Export) -> Weights | ImageGain | None:
    """Return the factors of a gain, one per channel. The builder multiplies the output of the previous node by them."""
    if len(module.in_size) > 1:
        return image_gain(module.factor.value, module.bias, at)
    return Weights(numbers_in(module.factor.value, at.weight_unit), _bias(module, at))


@register_export(brainstate.nn.Linear)
def linear(module: Any, at: Export) -> Weights:
    """Return the weight matrix multiplied by its mask, and the bias if there is one."""
    held = module.weight.value
    matrix = numbers_in(held["weight"], at.weight_unit)
    if module.w_mask is not None:
        matrix = matrix * np.asarray(u.get_mantissa(module.w_mask), float)
    return Weights(matrix.T, numbers_in(held["bias"], at.call.gives) if "bias" in held else None)


@register_export(H1Synapse)
def chip_synapse(module: Any, at: Export) -> Weights | None:
    """Return the change of the next layer's membrane potential that one spike causes through each connection.

    The charge curve maps each weight to a fixed charge, and the charges add up. A chip synapse is therefore linear in
    its input.
    """
    if any(not u.have_same_dim(getattr(target, "drive_unit", u.mV), u.fcoulomb) for target in at.targets):
        at.refuse("does not drive a chip layer, which converts its charge to a voltage; connect it to an H1 layer.")
        return None
    codes = None
    if at.options.weights == "codes":
        codes = _stored_codes(module, at)
        if codes is None:
            return None
    volts = at.target.to_voltage(module.effective.of(module.weight))
    bits = module.effective.weight_bits
    notes = {"chip": module.chip.name, "family": module.family, **({} if bits is None else {"bits": bits})}
    return Weights(numbers_in(volts, u.mV).T, notes=notes, codes=codes)


def _bias(module: Any, at: Export) -> np.ndarray | None:
    bias = getattr(module, "bias", None)
    return None if bias is None else numbers_in(bias.value, at.call.gives)


def _stored_codes(module: Any, at: Export) -> Codes | None:
    """Return the weights of a chip synapse as the integers that the chip stores.

    Reject the synapse and return ``None`` if no common factor converts the integers to voltages.
    """
    effective, why = module.effective, None
    if effective.grid is None:
        why = "has weights that are not quantised"
    elif not isinstance(module.chip.charge, LinearCharge):
        why = "has a nonlinear charge curve, so no single factor converts weight codes to voltages"
    elif np.any(np.asarray(effective.mismatch.value.mantissa)):
        why = "belongs to a sampled chip, with weights that are not integer multiples of one quantisation step"
    if why is not None:
        at.refuse(f"{why}; pass weights='float'.")
        return None
    # Files keep the dtype, so int8 or int16 makes the file as small as possible.
    codes = np.asarray(effective.grid.codes(effective.signed(module.weight.value))).T
    step = numbers_in(at.target.to_voltage(module.chip.charge(np.float32(effective.grid.step))), u.mV)
    return Codes(codes.astype(np.int8 if effective.grid.bits <= 8 else np.int16), float(step))


# Layers with a reset


@register_export(LIFLayer, images=True)
def lif_layer(module: Any, at: Export) -> str | None:
    """Add a ``LIF`` node.

    After a ``CubaCurrent``, add a ``CubaLIF`` node instead. For a layer without a reset, add ``LI`` and ``Threshold``.
    """
    # The message suggests reset='zero' only here, because the reset of a chip layer is fixed.
    _check_firing(module, at, fix="construct it with reset='zero', or ")
    if hasattr(at.source_module, "cuba_order"):
        return None if at.refused else _add_cuba_neuron(module, at, current_value(module.tau))
    return None if at.refused else _add_lif(module, at, current_value(module.tau))


@register_export(H1Layer)
def chip_layer(module: Any, at: Export) -> str | None:
    """Add a ``LIF`` node with the time constants and thresholds of the layer, for the sampled or the nominal chip."""
    if at.call.source == INPUT:
        at.refuse("receives the input of the network as a charge; add a synapse before it.")
        return None
    _check_firing(module, at)
    at.check_clamp()
    return None if at.refused else _add_lif(module, at, module.chip_tau.value)


class _Identity(Linear):
    """The identity function, which adds no node.

    The output of the node that provides its input is multiplied by the factor that the next neuron requires.
    """

    def add(self, at: Export, factor: np.ndarray) -> str:
        """Return the name of the node whose output is ``factor`` times the input."""
        return at.source(factor)


@register_export(CubaCurrent, images=True)
def cuba_current(module: Any, at: Export) -> _Identity | None:
    """Add no node, because the node of the next neuron also contains the equation of the synaptic current."""
    targets = at.targets
    # Only the rules of these two classes check whether a CubaCurrent provides the input. Any other module would treat
    # the current as a voltage.
    single = [type(target).__name__ for target in targets] in (["LIFLayer"], ["Integrator"])
    if not single or getattr(targets[0], "topology", "FF") != "FF" or getattr(targets[0], "reset", "zero") == "none":
        at.refuse(
            "is the synaptic current of CubaLIF or CubaLI neurons, so it must feed exactly one module: a feed-forward "
            "LIFLayer with a reset, or an Integrator."
        )
        return None
    order = at.options.cuba_order or module.cuba_order
    if order != module.cuba_order:
        at.refuse(f"solves its equations in the order {module.cuba_order!r}; omit cuba_order={order!r}.")
    elif order == "together" and at.options.how != "exact":
        at.refuse("solves both equations together, which forward Euler cannot; pass discretisation='exact'.")
    return None if at.refused else _Identity()


def _add_cuba_neuron(module: Any, at: Export, tau: Any) -> str:
    """Add one CubaLIF or CubaLI node for a CubaCurrent together with the layer or integrator that it drives."""
    current, fires = at.source_module, at.call.takes != u.UNITLESS
    leaky = _leak_parameters(module.decay(at.options.dt) if fires else module.beta, tau, module, at)
    beta = at.per_neuron(current.beta)
    syn = LeakParameters(beta, tau_of(beta, at.seconds, at.options.how), *at.gains(beta))
    one = at.options.millivolts if fires else 1.0
    if current.cuba_order == "together":
        # The exact solution of both equations depends on R and w_in, so their factors are not moved to the weights.
        r, w_in, factor = at.per_neuron(current.r), at.per_neuron(current.w_in), np.ones_like(beta)
    else:
        current_factor, input_factor = at.per_neuron(current.current_factor) / one, at.per_neuron(current.input_factor)
        r, w_in, factor = leaky.r, syn.r, current_factor * input_factor * leaky.factor * syn.factor
        if at.options.gain == "R":
            r, w_in, factor = r * current_factor, w_in * input_factor, np.ones_like(beta)
    arrays = {"tau_syn": syn.tau, "tau_mem": leaky.tau, "r": r, "w_in": w_in}
    arrays["v_leak"] = at.per_neuron(current.bias) / one / (1 - leaky.beta)
    # The input of a CubaCurrent has no unit. It is scaled as if it were a voltage, so that the source node returns the
    # same values.
    source = at.source(factor * one, voltage=True) if fires else at.source(factor)
    if not fires:
        return at.add(at.nir.CubaLI(**arrays), source, order=current.cuba_order, **_notes(module))
    node = at.nir.CubaLIF(v_threshold=_threshold(module, at), v_reset=np.zeros_like(beta), **arrays)
    return at.add(node, source, order=current.cuba_order, reset=module.reset, **_notes(module))


@register_export(IFLayer, images=True)
def if_layer(module: Any, at: Export) -> str | None:
    """Add an ``IF`` node.

    NIR multiplies the input by the time step and brainhw does not. Without ``if_input='per-step'``, ``R`` or the
    weights are therefore divided by the time step.
    """
    _check_firing(module, at)
    if at.refused:
        return None
    zeros = at.per_neuron(0.0)
    factor, r = np.full_like(zeros, 1 / at.options.if_seconds), np.ones_like(zeros)
    if at.options.gain == "R":
        factor, r = r, factor
    node = at.nir.IF(r=r, v_threshold=_threshold(module, at), v_reset=zeros)
    return _add_layer(module, at, node, factor)


def _add_lif(module: Any, at: Export, tau: Any) -> str:
    leaky = _leak_parameters(module.decay(at.options.dt), tau, module, at)
    V_th, zeros = _threshold(module, at), np.zeros_like(leaky.beta)
    if module.reset != "none":
        node = at.nir.LIF(tau=leaky.tau, r=leaky.r, v_leak=zeros, v_threshold=V_th, v_reset=zeros.copy())
        return _add_layer(module, at, node, leaky.factor)
    name = _add_layer(module, at, at.nir.LI(tau=leaky.tau, r=leaky.r, v_leak=zeros), leaky.factor)
    return at.add(at.nir.Threshold(threshold=V_th), name, suffix="threshold")


def _add_neuron(
    module: Any, at: Export, node: Any, factor: np.ndarray, notes: dict[str, Any], weight: np.ndarray | None
) -> str:
    """Add the neuron node of a layer.

    If the layer has recurrent weights, add a subgraph of four nodes. snnTorch, Spyx and Rockpool recognise it.
    """
    source = at.source(factor, voltage=True)
    if weight is None:
        return at.add(node, source, **notes)
    node.metadata = metadata(path=at.path, kind=type(module).__name__, **notes)
    shape = np.array([len(weight)])
    nodes = {
        "input": at.nir.Input(input_type={"input": shape}),
        "lif": node,
        "w_rec": at.nir.Linear(weight=weight * (factor / at.options.millivolts)[:, None]),
        "output": at.nir.Output(output_type={"output": shape}),
    }
    edges = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
    return at.add(at.nir.NIRGraph(nodes=nodes, edges=edges), source, **notes)


def _add_layer(module: Any, at: Export, node: Any, factor: np.ndarray) -> str:
    """Add the neurons of a layer, including its recurrent weights if it has any."""
    notes = {**_notes(module), "reset": module.reset}
    weight = None
    if module.topology == "RC":
        weight = numbers_in(module.to_voltage(module.recurrent_matrix()), u.mV).T
    return _add_neuron(module, at, node, factor, notes, weight)


def _check_firing(module: Any, at: Export, fix: str = "") -> None:
    if not _is_step(module.spk_fun):
        at.refuse(SPIKES)
    if module.reset == "subtract" and at.options.reset != "continuous":
        at.refuse(SUBTRACT.format(fix=fix))
    if module.reset == "none" and module.topology == "RC":
        at.refuse("is recurrent and has no reset, and NIR has no such neuron; use reset='zero'.")


# Readouts


@register_export(LeakyReadout)
def readout(module: Any, at: Export) -> str:
    """Add a ``Linear`` or ``Affine`` node for the weights, followed by an ``LI`` node."""
    tau = current_value(module.tau)
    leaky = _leak_parameters(u.math.exp(-at.options.dt / tau), tau, module, at)
    matrix, source = at.columns(np.asarray(module.weight.value, float).T * leaky.factor[:, None])
    weight = at.nir.Linear(weight=matrix)
    if module.bias is not None:
        weight = at.nir.Affine(weight=matrix, bias=np.asarray(module.bias.value, float) * leaky.factor)
    name = at.add(weight, source, suffix="weight", kind=type(module).__name__)
    node = at.nir.LI(tau=leaky.tau, r=leaky.r, v_leak=np.zeros_like(leaky.beta))
    return at.add(node, name, **_notes(module))


@register_export(Integrator, images=True)
def integrator(module: Any, at: Export) -> str | None:
    """Add an ``LI`` node, whose ``v_leak`` represents the constant input of the integrator.

    If there is no leak, add an ``I`` node instead. After a ``CubaCurrent``, add a ``CubaLI`` node.
    """
    if hasattr(at.source_module, "cuba_order"):
        return _add_cuba_neuron(module, at, None)
    beta, gain, bias = (at.per_neuron(values) for values in (module.beta, module.gain, module.bias))
    if np.any(beta == 1):
        if not np.all(beta == 1) or np.any(bias):
            at.refuse("has a leak in only some channels, or a constant input without a leak; NIR has no such node.")
            return None
        ones, per_step = np.ones_like(gain), gain / at.options.file_seconds
        r, factor = (per_step, ones) if at.options.gain == "R" else (ones, per_step)
        return at.add(at.nir.I(r=r), at.source(factor), **_notes(module))
    leaky = _leak_parameters(module.beta, None, module, at)
    node = at.nir.LI(tau=leaky.tau, r=leaky.r, v_leak=bias / (1 - leaky.beta))
    return at.add(node, at.source(gain * leaky.factor), **_notes(module))


@register_export(Comparator, images=True)
def comparator(module: Any, at: Export) -> str:
    """Add a ``Threshold`` node."""
    threshold = below(at.per_neuron(module.threshold))
    return at.add(at.nir.Threshold(threshold=threshold), at.source())


@register_export(WholeDelay, images=True)
def whole_delay(module: Any, at: Export) -> str:
    """Add a ``Delay`` node."""
    return at.add(at.nir.Delay(delay=at.per_neuron(module.steps) * at.seconds), at.source())


# Current-based layers


@register_export(CubaLIFLayer)
def current_based(module: Any, at: Export) -> str | None:
    """Add a ``CubaLIF`` node if the importing library updates the current first. Otherwise, add ``LI`` and ``LIF``.

    There is one ``LI`` node per synapse. The layer updates its current first, and then its membrane potential with the
    new current. A library that solves both equations of ``CubaLIF`` exactly would compute different results.
    """
    _check_current_based(module, at)
    order, n_syn = at.options.cuba_order, module.n_synapses
    if order is not None and order != "current-first":
        at.refuse(f"updates its current first, but cuba_order={order!r} is a different order; pass 'current-first'.")
    if order is not None and n_syn > 1:
        at.refuse(f"has {n_syn} synapses per neuron, but CubaLIF has one; omit cuba_order.")
    if at.refused:
        return None
    if n_syn == 1 and (order is not None or at.options.how == "euler"):
        return _add_cuba_lif(module, at)
    return _add_li_and_lif(module, at)[0]


def _add_cuba_lif(module: Any, at: Export) -> str:
    """Add a ``CubaLIF`` node. If the layer has recurrent weights, the node is inside a subgraph of four nodes."""
    leaky, (syn,) = _current_based_leak(module, at)
    bias = np.broadcast_to(numbers_in(current_value(module.bias), u.mV), leaky.beta.shape)
    node = at.nir.CubaLIF(
        tau_syn=syn.tau,
        tau_mem=leaky.tau,
        r=leaky.r,
        w_in=syn.r,
        v_leak=bias / (1 - leaky.beta) / at.options.millivolts,
        v_threshold=_threshold(module, at),
        v_reset=np.zeros_like(leaky.beta),
    )
    # In brainhw the current decays in the step in which the input arrives: an input w adds beta w in its first step.
    factor = syn.beta * syn.factor * leaky.factor
    notes = {**_notes(module), "reset": "subtract", "order": "current-first"}
    matrix = None if module.recurrent_weight is None else numbers_in(module.recurrent_matrix(), u.mV).T
    return _add_neuron(module, at, node, factor, notes, matrix)


@register_export(ALIFLayer)
def adaptive(module: Any, at: Export) -> str | None:
    """Add the nodes of a current-based layer, and an ``LI`` node that computes its after-hyperpolarisation."""
    _check_current_based(module, at)
    if at.options.cuba_order is not None:
        at.refuse("adds an after-hyperpolarisation to its current, but CubaLIF has none; omit cuba_order.")
    if at.refused:
        return None
    name, into = _add_li_and_lif(module, at)
    of_ahp = ("taus", module.tau_ahp) if module.gamma is None else ("decays", module.gamma)
    tau = current_value(module.tau_ahp) if module.gamma is None else None
    ahp = _leak_parameters(decay_factor(*of_ahp, at.options.dt), tau, module, at)
    # The after-hyperpolarisation of a spike decays once before it reaches the membrane potential in the next step.
    w_ahp = numbers_in(current_value(module.w_ahp), u.mV) * ahp.beta / at.options.millivolts
    scale = at.add(at.nir.Scale(scale=w_ahp * ahp.factor * into), name, suffix="w_ahp")
    node = at.nir.LI(tau=ahp.tau, r=ahp.r, v_leak=np.zeros_like(ahp.beta))
    at.connect(at.add(node, scale, suffix="ahp"), name)
    return name


def _add_li_and_lif(module: Any, at: Export) -> tuple[str, np.ndarray]:
    """Add a ``LIF`` node for the neurons of a layer, and one ``LI`` node per synapse.

    Return the name of the ``LIF`` node, and the factor by which its input weights must be multiplied.
    """
    millivolts, n_syn = at.options.millivolts, module.n_synapses
    leaky, synaptic = _current_based_leak(module, at)
    zeros = np.zeros_like(leaky.beta)
    bias = np.broadcast_to(numbers_in(current_value(module.bias), u.mV), zeros.shape)
    neuron = at.nir.LIF(
        tau=leaky.tau,
        r=leaky.r,
        v_leak=bias / (1 - leaky.beta) / millivolts,
        v_threshold=_threshold(module, at),
        v_reset=zeros,
    )
    name = at.add(neuron, reset="subtract", **_notes(module))
    synapses = []
    for k, leak in enumerate(synaptic):
        # The layer adds the current after its decay: an input w adds beta w in its first step.
        factor, r = leak.factor, leak.r
        if at.options.gain == "R":
            r = r * leak.beta
        else:
            factor = factor * leak.beta
        # The input channels of a layer with several synapses are ordered by neuron: neuron 0 synapse 0, neuron 0
        # synapse 1, and so on.
        rows = slice(k, None, n_syn) if n_syn > 1 else None
        source = at.source(factor * leaky.factor, voltage=True, rows=rows)
        suffix = f"syn{k}" if n_syn > 1 else "syn"
        synapse = at.add(at.nir.LI(tau=leak.tau, r=r, v_leak=zeros.copy()), source, suffix=suffix)
        at.connect(synapse, name)
        synapses.append((synapse, suffix, factor * leaky.factor / millivolts))
    at.move_to_end(name)  # some readers execute the nodes in the order of the list
    if module.recurrent_weight is not None:
        matrix = numbers_in(module.recurrent_matrix(), u.mV)
        for k, (synapse, suffix, factor) in enumerate(synapses):
            node = at.nir.Linear(weight=matrix[:, k::n_syn].T * factor[:, None])
            at.connect(at.add(node, name, suffix=f"{suffix}_rec"), synapse)
    return name, leaky.factor


def _current_based_leak(module: Any, at: Export) -> tuple[LeakParameters, list[LeakParameters]]:
    """Return the leak parameters of a current-based layer.

    The first value is for the membrane potentials. The list contains one entry for each synapse of a neuron.
    """
    of_mem, of_syn = LEAKS[module.leak].names
    decays = [decay_factor(module.leak, getattr(module, name), at.options.dt) for name in (of_mem, of_syn)]
    tau_mem, taus = None, [None] * module.n_synapses

    def for_each(values: Any) -> np.ndarray:
        return np.broadcast_to(_plain(module.per_synapse(values)), (module.n_neurons, module.n_synapses)).T

    if module.leak == "taus":
        tau_mem = current_value(module.tau_mem)
        taus = [u.Quantity(row, unit=u.ms) for row in for_each(current_value(module.tau_syn).to(u.ms).mantissa)]
    rows = zip(for_each(decays[1]), taus, strict=True)
    return _leak_parameters(decays[0], tau_mem, module, at), [
        _leak_parameters(decay, tau, module, at) for decay, tau in rows
    ]


def _check_current_based(module: Any, at: Export) -> None:
    counts = isinstance(module.spk_fun, MultiSpike)
    if at.options.reset != "continuous":
        at.refuse(SUBTRACT.format(fix=""))
    if counts and module.max_spikes_per_step != 1:
        at.refuse("may fire more than once per time step; construct it with max_spikes_per_step=1.")
    if module.noise_std is not None:
        at.refuse("adds noise to its membrane potential, which NIR cannot represent; construct it without noise_std.")
    elif not counts and not _is_step(module.spk_fun):
        at.refuse(SPIKES)


# Modules that NIR cannot represent


@register_export(FractionalLayer)
def fractional(module: Any, at: Export) -> None:
    """Reject a fractional layer: no NIR node has a power-law memory."""
    at.refuse("has a power-law memory of its whole history, which no NIR node has; use a LIFLayer.")


@register_export(H1Frontend)
def frontend(module: Any, at: Export) -> None:
    """Reject an analog frontend: NIR has no node for analog filters."""
    at.refuse(
        "represents the analog filters of the chip, for which NIR has no node; export only the modules after the next "
        "layer, with the spikes of that layer as input."
    )


# Numbers


def _leak_parameters(decay: Any, tau: Any, module: Any, at: Export) -> LeakParameters:
    """Return the leak parameters of a layer with the decay factor ``decay`` and the time constant ``tau``.

    If ``tau`` is ``None``, or if the importing library uses forward Euler, compute the time constant from ``decay``.
    """
    # The weights are divided by 1 minus the float32 decay factor that the layer itself uses. A constant current
    # therefore leads to the steady state of the equation.
    beta = at.per_neuron(_plain(decay))
    if tau is None or at.options.how != "exact":
        tau = tau_of(beta, at.seconds, at.options.how)
    else:
        tau = at.per_neuron(_plain(tau.to(u.ms).mantissa) / 1000)
    return LeakParameters(beta, tau, *at.gains(beta))


def _threshold(module: Any, at: Export) -> np.ndarray:
    """Return thresholds ``[N]`` for a graph.

    A NIR neuron fires only above its threshold, and a brainhw neuron also at its threshold. Each threshold in the graph
    is therefore the largest floating-point number below the threshold of the layer.
    """
    return at.per_neuron(below(numbers_in(module.threshold(), u.mV))) / at.options.millivolts


def _notes(module: Any) -> dict[str, Any]:
    """Return metadata that lists the parameters that the layer stores per neuron.

    Without this metadata, an import would store equal values as a scalar.
    """
    names = [name for name in ("tau", "V_th") if np.ndim(u.get_mantissa(current_value(getattr(module, name, 0.0)))) > 0]
    # One string, because nir does not read a list of strings back as a list.
    return {"per_neuron": " ".join(names) or None}


def _is_step(spk_fun: Any) -> bool:
    """Test at six points whether a spike function is 0 below the threshold and 1 at or above it."""
    # The points at a distance of eps and 0 detect a function that is 0 at the threshold, as in NIR. eps is the rounding
    # step at a threshold of 1.
    eps = float(np.finfo(np.float32).eps)
    try:
        spikes = np.asarray(spk_fun(jnp.asarray([-1.0, -eps, 0.0, eps, 1.0, 3.0], jnp.float32)))
    except Exception:  # the function ran in the network, so it needs more than the distance to the threshold
        return False
    return spikes.shape == (6,) and bool(np.all(spikes == [0, 0, 1, 1, 1, 1]))


def _plain(value: Any) -> np.ndarray:
    return np.asarray(u.get_mantissa(value)).astype(float)
