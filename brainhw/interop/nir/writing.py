"""Export of a network as a NIR graph, exactly or with an error."""

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
    r"""Convert a network to a NIR graph; one error lists everything that NIR cannot represent.

    NIR defines a neuron as :math:`\tau \dot v = v_{leak} - v + R I` (Pedersen et al., Nature Communications, 2024) and
    leaves the discretisation to the reader. One step of brainhw is :math:`V' = \beta V + x`, where a spike adds a
    voltage step. A reader with a constant input during a step computes :math:`v' = \beta v + (1 - \beta) R I`. So the
    graph has

    .. math:: W_{NIR} = W / (1 - \beta), \qquad R = 1, \qquad \tau \text{ in seconds}

    and a reader with the same time step takes the same steps. ``v_threshold`` is the number just below ``V_th``,
    because NIR fires above its threshold and brainhw at or above it. Spikes on a recurrent connection arrive one step
    later. Modules without effect on the output are omitted. Images of the graph have channels first, whatever their
    order in the network.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, or one layer. If a sampled chip is active (:func:`brainhw.sample_chip`), it is exported.
    dt : Quantity
        Time step of the network, which determines :math:`\beta` and so the weights.
    voltage_unit : Unit or Quantity, optional
        Value of 1 in the graph. Default mV.
    reset : {'exact', 'continuous'}, optional
        ``'exact'`` (default) rejects neurons that subtract their threshold. ``'continuous'`` exports them with a reset
        to zero: the same in continuous time, an error of order ``dt`` in discrete time.
    discretisation : {'exact', 'euler'}, optional
        Discretisation of the reader: exponential (default), or forward Euler, for which
        :math:`\tau = \Delta t/(1 - \beta)` keeps the same fraction :math:`\beta`.
    gain : {'weights', 'R'}, optional
        Place of the factor :math:`1/(1 - \beta)`: the weights (default; every reader supports ``R = 1``), or ``R``,
        with unchanged weights.
    weights : {'float', 'codes'}, optional
        Rounded chip weights as voltages (default), or as integers and a ``Scale``; an error if no synapse has any.
    cuba_order : {'current-first', 'old-current', 'together'}, optional
        Order in which the reader steps ``CubaLIF`` and ``CubaLI``; see :func:`from_nir`. Default: that of the layer.
        ``CubaLIFLayer`` steps its current first: it becomes a ``CubaLIF`` with ``'euler'`` or ``'current-first'``,
        otherwise ``LI`` and ``LIF``, which every exact reader supports.
    if_input : {'per-second', 'per-step'}, optional
        Effect of an input ``x`` on an ``IF`` node in one step of the reader: :math:`R x \Delta t`, the equation of NIR
        (default), or :math:`R x`, as in most other readers.
    as_dt : Quantity, optional
        Fixed time step of the reader, for example 0.1 ms for snnTorch. All times are multiplied by ``as_dt/dt`` with
        unchanged gains, so that the reader takes the same steps as the network with ``dt``. :func:`from_nir` restores
        the times. Default: ``dt``.
    compatible : {'1.0.4'}, optional
        ``'1.0.4'`` writes the format that nir 1.0.4, sinabs 3.1 and Rockpool 3.1 read: without metadata, ``v_reset``
        and nested graphs, and ``Affine`` with a bias of zero for ``Linear``. Without metadata :func:`from_nir` needs
        ``discretisation=``, ``reset=`` and so on. Default: the current format.
    clamp : {'check', 'ignore'}, optional
        ``'check'`` (default) rejects chip neurons unless ``sample`` shows that clamping the membrane potential at zero
        has no effect. ``'ignore'`` exports them without this check.
    sample : array or Quantity, optional
        Input ``[T, N]`` or ``[T, B, N]`` for that check, and for the shape of the input if no module specifies it. For
        a network that takes images, their axes replace ``N``.

    Returns
    -------
    nir.NIRGraph
        Write it with ``nir.write``. Arrays are float64, so that float32 weights are read back bit-identically; the
        metadata ``"brainhw"`` holds the options of the export.

    Raises
    ------
    NIRError
        If anything has no NIR form; the message names every module, the reason and the fix. The network is not changed.
    TypeError, ValueError
        If an argument is invalid.
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
        raise RuntimeError(f"{call}: inside jit the weights have no values to write. Call it outside of jit.")
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
                f"{call}: sample must have shape [T, N] or [T, B, N], with the axes of an image instead of N if "
                f"the network takes images; got shape {shape}."
            )
        _arguments.check_finite(sample, call=call, name="sample")
    nir = nir_package(call)
    problems = Problems(call)
    check_ranges(net, call=call)
    # A NaN weight would make later checks misleading.
    _check_parameters(net, problems)
    problems.raise_any()
    with states_restored(net, keep_weights=False), brainstate.environ.context(dt=options.dt, fit=False):
        chip = net_chip(net, call=call)
        wiring = wiring_of(net, options.dt, sample, problems)
        if wiring is None:
            problems.raise_any()
        assert wiring is not None
        # The trace may have prepared a batch, whose states have an additional axis.
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
                problems.add(name, "a parameter", "holds NaN or infinite values; load or initialise it again.")


def _check_clamp(net: brainstate.nn.Module, layers: dict[str, Any], sample: Any, problems: Problems) -> None:
    """Add a problem for each clamped layer whose unclamped membrane potential turns negative on a sample ``[T, ...]``.

    Without a sample every clamped layer is a problem. The caller restores the states.
    """
    if not layers:
        return
    advice = "pass clamp='ignore' to export neurons without it, which then differ there"
    shares = None if sample is None else _clamped_shares(net, layers, sample)
    for path, layer in layers.items():
        if shares is None:
            why = (
                "clamps its membrane potential at zero, which NIR has no form for; pass sample=, an input [T, N] or "
                f"[T, B, N] on which the clamp has no effect, or {advice}."
            )
        elif shares[path] > 0:
            why = (
                f"clamps its membrane potential at zero in {shares[path]:.2%} of all steps and neurons of the sample; "
                f"NIR has no form for it. Train without inhibition that reaches below zero, or {advice}."
            )
        else:
            continue
        problems.add(path, type(layer).__name__, why)


def _clamped_shares(net: brainstate.nn.Module, layers: dict[str, Any], sample: Any) -> dict[str, float]:
    """Return for each layer the fraction of steps and neurons in which the clamp changes the membrane potential."""
    prepare_net(net, time_and_batch(net, sample, call="to_nir")[1])
    paths = {id(layer): path for path, layer in layers.items()}

    def step(x: Any) -> dict[str, Any]:
        shares = {}

        def hear(layer: Any, drive: Any, gave: Any, before: dict[str, Any]) -> None:
            if layer.topology == "RC":
                drive = drive + layer.recurrent_drive(before["spk"])
            # The recorded membrane potential is clamped, so its step is computed again without the clamp.
            free = layer.integrate(before["V"], drive, brainstate.environ.get("dt")).to(u.mV).mantissa
            shares[paths[id(layer)]] = jnp.mean(free < 0)

        with watch_calls(layers.values(), hear):
            net(x)
        return shares

    return {path: float(np.mean(shares)) for path, shares in brainstate.transform.for_loop(step, sample).items()}
