"""Export of a network as a NIR graph."""

from __future__ import annotations

from typing import Any, Literal

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.interop.nir.building import GraphBuilder
from brainhw.interop.nir.errors import Problems, nir_package
from brainhw.interop.nir.old_format import OLD_VERSION, OldVersion, old_graph
from brainhw.interop.nir.steps import (
    CUBA_ORDERS,
    DISCRETISATIONS,
    IF_INPUTS,
    CubaOrder,
    Discretisation,
    IfInput,
    Options,
    millivolts_in,
)
from brainhw.interop.nir.wiring import wiring_of
from brainhw.nn import net_chip
from brainhw.nn.ranges import check_ranges
from brainhw.transform.prepare import prepare_net, states_restored
from brainhw.transform.rollout import time_and_batch
from brainhw.transform.trace import watch_calls

__all__ = ["to_nir"]


def to_nir(
    net: brainstate.nn.Module,
    *,
    dt: u.Quantity,
    voltage_unit: Any = u.mV,
    reset: Literal["exact", "continuous"] = "exact",
    discretisation: Discretisation = "exact",
    gain: Literal["weights", "R"] = "weights",
    weights: Literal["float", "codes"] = "float",
    cuba_order: CubaOrder | None = None,
    if_input: IfInput = "per-second",
    as_dt: u.Quantity | None = None,
    compatible: OldVersion | None = None,
    clamp: Literal["check", "ignore"] = "check",
    sample: Any = None,
) -> Any:
    r"""Convert a network to a NIR graph. Raise an error that lists everything that NIR cannot represent.

    NIR defines a neuron as :math:`\tau \dot v = v_{leak} - v + R I` (Pedersen et al., Nature Communications, 2024) and
    does not define a discretisation. A step of brainhw is :math:`V' = \beta V + x`, where :math:`x` is the sum of the
    weights of the arriving spikes. A library that imports the graph and assumes a constant input during a step computes
    :math:`v' = \beta v + (1 - \beta) R I`. The parameters in the graph are therefore

    .. math:: W_{NIR} = W / (1 - \beta), \qquad R = 1, \qquad \tau \text{ in seconds}

    With the same time step, this library then computes the same membrane potentials as brainhw. ``v_threshold`` is the
    float just below ``V_th``, because a NIR neuron fires only above its threshold, and a brainhw neuron at or above its
    threshold.
    Spikes on a recurrent connection arrive one step later. Modules that do not affect the output are omitted. In the
    graph, images have channels first, regardless of their order in the network.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, or a single layer. If a chip was sampled with :func:`brainhw.sample_chip`, its parameters are
        exported.
    dt : Quantity
        Time step of the network. It determines :math:`\beta`, and thereby the weights in the graph.
    voltage_unit : Unit or Quantity, optional
        Voltage that 1 in the graph represents. Default mV.
    reset : {'exact', 'continuous'}, optional
        ``'exact'`` (default) rejects neurons that subtract their threshold. ``'continuous'`` exports them with a reset
        to zero. In continuous time, both kinds of reset are the same. In discrete time, they differ by an error of
        order ``dt``.
    discretisation : {'exact', 'euler'}, optional
        Discretisation of the importing library: ``'exact'`` for the exponential decay (default), or ``'euler'`` for
        forward Euler. For forward Euler, the graph contains :math:`\tau = \Delta t/(1 - \beta)`, so that the library
        uses the same :math:`\beta`.
    gain : {'weights', 'R'}, optional
        Where to put the factor :math:`1/(1 - \beta)`. ``'weights'`` (default) multiplies the weights by it and sets
        ``R = 1``, which every library supports. ``'R'`` sets ``R`` to this factor and does not change the weights.
    weights : {'float', 'codes'}, optional
        How to write quantised chip weights: ``'float'`` as voltages (default), or ``'codes'`` as integers followed by a
        ``Scale``. ``'codes'`` raises an error if no synapse has quantised chip weights.
    cuba_order : {'current-first', 'old-current', 'together'}, optional
        Order in which the importing library solves the two equations of ``CubaLIF`` and ``CubaLI``, see
        :func:`from_nir`. Default: the order of the layer. A ``CubaLIFLayer`` updates its current first. With
        ``discretisation='euler'`` or ``cuba_order='current-first'`` it is exported as a ``CubaLIF``. Otherwise it is
        exported as ``LI`` and ``LIF``, which every library with exact integration supports.
    if_input : {'per-second', 'per-step'}, optional
        What the importing library adds to the membrane potential of an ``IF`` node for an input ``x`` in one step.
        ``'per-second'`` (default) means :math:`R x \Delta t`, as in the equation of NIR. ``'per-step'`` means
        :math:`R x`, as in most other libraries.
    as_dt : Quantity, optional
        Fixed time step of the importing library, for example 0.1 ms for snnTorch. All time constants and delays are
        multiplied by ``as_dt/dt``, and gains are not changed. One step of the library then has the same result as one
        step of the network. :func:`from_nir` restores the original values. Default: ``dt``.
    compatible : {'1.0.4'}, optional
        ``'1.0.4'`` writes the format that nir 1.0.4, sinabs 3.1 and Rockpool 3.1 read. This format has no metadata,
        ``v_reset`` or nested graphs, and ``Linear`` nodes become ``Affine`` nodes with a bias of zero. Because there is
        no metadata, you must pass ``discretisation=``, ``reset=`` and other options to :func:`from_nir`. Default: the
        current format.
    clamp : {'check', 'ignore'}, optional
        ``'check'`` (default) runs the network on ``sample`` and rejects chip neurons whose membrane potential is
        clamped at zero in this run. If ``sample`` is not given, all chip neurons are rejected. ``'ignore'`` exports
        chip neurons without this check.
    sample : array or Quantity, optional
        Input ``[T, N]`` or ``[T, B, N]`` for the check that ``clamp`` selects. ``sample`` also determines the input
        shape of the network. You must pass it if no module specifies an input shape. For images, the image axes replace
        ``N``.

    Returns
    -------
    nir.NIRGraph
        The graph; write it to a file with ``nir.write``. Arrays are float64, so that float32 weights can be recovered
        exactly. The metadata ``"brainhw"`` contains the options of the export.

    Raises
    ------
    NIRError
        If NIR cannot represent a part of the network. The message names each module, the reason and the fix.
    TypeError, ValueError
        If an argument is invalid.
    RuntimeError
        If the call is inside a compiled function.
    ImportError
        If the packages nir and h5py are not installed.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> from brainhw.interop.nir import to_nir
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.LIFSynapse(2, 1, weight_init=jnp.ones((2, 1)) * u.mV),
    ...     bh.nn.LIFLayer(1, tau=20 * u.ms, reset="zero"),
    ... )
    >>> graph = to_nir(net, dt=1 * u.ms)
    >>> list(graph.nodes), graph.nodes["layers_1"].tau
    (['input', 'layers_0', 'layers_1', 'output'], array([0.02]))
    >>> print(graph.nodes["layers_0"].weight.round(3))
    [[20.504 20.504]]
    """
    call = "to_nir"
    _arguments.check_module(net, call=call)
    if _arguments.inside_jit():
        raise RuntimeError(
            f"{call}: weights have no values inside jit, so they cannot be exported. Call it outside of jit."
        )
    options = Options(
        dt=_arguments.quantity(dt, u.ms, call=call, name="dt", shapes=[()], positive=True),
        millivolts=millivolts_in(voltage_unit, call),
        how=_arguments.choice(discretisation, DISCRETISATIONS, call=call, name="discretisation"),
        reset=_arguments.choice(reset, ("exact", "continuous"), call=call, name="reset"),
        gain=_arguments.choice(gain, ("weights", "R"), call=call, name="gain"),
        weights=_arguments.choice(weights, ("float", "codes"), call=call, name="weights"),
        cuba_order=None
        if cuba_order is None
        else _arguments.choice(cuba_order, CUBA_ORDERS, call=call, name="cuba_order"),
        if_input=_arguments.choice(if_input, IF_INPUTS, call=call, name="if_input"),
        as_dt=None
        if as_dt is None
        else _arguments.quantity(as_dt, u.ms, call=call, name="as_dt", shapes=[()], positive=True),
    )
    if compatible is not None:
        _arguments.choice(compatible, (OLD_VERSION,), call=call, name="compatible")
    _arguments.choice(clamp, ("check", "ignore"), call=call, name="clamp")
    if sample is not None:
        if not isinstance(sample, u.Quantity):
            sample = _arguments.as_array(sample, call=call, name="sample")
        shape = np.shape(u.get_mantissa(sample))
        if len(shape) < 2 or 0 in shape:
            raise ValueError(
                f"{call}: sample must have shape [T, N] or [T, B, N], where N stands for all axes of an image if "
                f"the inputs are images; got shape {shape}."
            )
        _arguments.check_finite(sample, call=call, name="sample")
    nir = nir_package(call)
    problems = Problems(call)
    check_ranges(net, call=call)
    # Checked first, because a NaN weight would cause misleading errors in later checks.
    _check_parameters(net, problems)
    problems.raise_any()
    with states_restored(net, keep_weights=False), brainstate.environ.context(dt=options.dt, fit=False):
        chip = net_chip(net, call=call)
        wiring = wiring_of(net, options.dt, sample, problems)
        if wiring is None:
            problems.raise_any()
        assert wiring is not None
        # The trace may have prepared the states for a batch. The rules need states without a batch axis.
        prepare_net(net)
        builder = GraphBuilder(nir, wiring, options, problems)
        builder.apply_rules()
        problems.raise_any()
        if clamp == "check":
            _check_clamp(net, builder.clamped, sample, problems)
        problems.raise_any()
        graph = builder.graph(None if chip is None else chip.name)
        return graph if compatible is None else old_graph(nir, graph, problems)


def _check_parameters(net: brainstate.nn.Module, problems: Problems) -> None:
    for path, state in net.states(brainstate.ParamState).items():
        for leaf in jax.tree.leaves(state.value):
            if not np.all(np.isfinite(np.asarray(leaf, float))):
                name = ".".join(map(str, path))
                problems.add(name, "a parameter", "contains NaN or infinite values; load or initialise it again.")


def _check_clamp(net: brainstate.nn.Module, layers: dict[str, Any], sample: Any, problems: Problems) -> None:
    """Add a problem for each layer of ``layers`` whose clamp has an effect on the sample ``[T, ...]``.

    The clamp has an effect if the membrane potential would be negative without it. Without a sample, add a problem for
    every layer of ``layers``. The caller must restore the states.
    """
    if not layers:
        return
    advice = "pass clamp='ignore' to export neurons without a clamp, which then behave differently"
    shares = None if sample is None else _clamped_shares(net, layers, sample)
    for path, layer in layers.items():
        if shares is None:
            why = (
                "clamps its membrane potential at zero, which NIR cannot represent; pass sample=, an input [T, N] or "
                f"[T, B, N] on which the clamp has no effect, or {advice}."
            )
        elif shares[path] > 0:
            why = (
                f"clamps its membrane potential at zero in {shares[path]:.2%} of all steps and neurons of the sample; "
                f"NIR cannot represent this. Train it so that its membrane potentials stay non-negative, or {advice}."
            )
        else:
            continue
        problems.add(path, type(layer).__name__, why)


def _clamped_shares(net: brainstate.nn.Module, layers: dict[str, Any], sample: Any) -> dict[str, float]:
    """Return, for each layer, the fraction of steps and neurons in which the clamp changes the membrane potential."""
    prepare_net(net, time_and_batch(net, sample, call="to_nir")[1])
    paths = {id(layer): path for path, layer in layers.items()}

    def step(x: Any) -> dict[str, Any]:
        shares = {}

        def record_clamping(layer: Any, drive: Any, output: Any, before: dict[str, Any]) -> None:
            if layer.topology == "RC":
                drive = drive + layer.recurrent_drive(before["spk"])
            # The layer stores only the clamped membrane potential, so the step is computed again without the clamp.
            free = layer.integrate(before["V"], drive, brainstate.environ.get("dt")).to(u.mV).mantissa
            shares[paths[id(layer)]] = jnp.mean(free < 0)

        with watch_calls(layers.values(), record_clamping):
            net(x)
        return shares

    return {path: float(np.mean(shares)) for path, shares in brainstate.transform.for_loop(step, sample).items()}
