"""Export: a network of brainhw as a NIR graph, exactly or not at all."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.interop.nir.building import GraphBuilder, Options
from brainhw.interop.nir.errors import Problems, nir_package
from brainhw.interop.nir.metadata import graph_notes
from brainhw.interop.nir.steps import DISCRETISATIONS
from brainhw.interop.nir.wiring import wiring_of
from brainhw.nn import net_chip
from brainhw.transform.prepare import prepare_net
from brainhw.transform.restore import states_restored
from brainhw.transform.trace import watch_calls

__all__ = ["millivolts_in", "to_nir"]


def to_nir(
    net: brainstate.nn.Module,
    *,
    dt: u.Quantity,
    voltage_unit: Any = u.mV,
    reset: str = "exact",
    discretisation: str = "exact",
    gain: str = "weights",
    weights: str = "float",
    clamp: str = "check",
    sample: Any = None,
) -> Any:
    r"""Return a network as a NIR graph; whatever NIR has no form for is refused, all of it in one error.

    NIR writes a neuron as :math:`\tau \dot v = v_{leak} - v + R I` (Pedersen et al., Nature Communications, 2024) and
    says nothing about steps. One step of brainhw is :math:`V' = \beta V + x`, a spike being a voltage step, and that
    of a reader who holds its input over a step is :math:`v' = \beta v + (1 - \beta) R I`. So the graph carries

    .. math:: W_{NIR} = W / (1 - \beta), \qquad R = 1, \qquad \tau \text{ in seconds}

    and a reader with the same step takes the same steps. ``v_threshold`` is the number just below ``V_th``, since NIR
    fires above its threshold and brainhw at it or above. What goes back along a recurrent connection arrives one step
    later. What the output does not depend on is left out.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, or one layer. The chip in place (:func:`brainhw.sample_chip`) is the one that is exported.
    dt : Quantity
        Time step that the network runs with. It fixes :math:`\beta`, and with it the weights.
    voltage_unit : Unit or Quantity, optional
        What 1 in the graph stands for. Default mV.
    reset : {'exact', 'continuous'}, optional
        ``'exact'`` (default) refuses neurons that subtract their threshold. ``'continuous'`` exports them with a reset
        to zero: in continuous time the same, in steps of ``dt`` an error of order ``dt``.
    discretisation : {'exact', 'euler'}, optional
        How the reader steps: by the exponential (default), or by forward Euler, for which
        :math:`\tau = \Delta t/(1 - \beta)` keeps the same share :math:`\beta`.
    gain : {'weights', 'R'}, optional
        Where the factor :math:`1/(1 - \beta)` goes: into the weights (default; every reader takes ``R = 1``), or into
        ``R``, with the weights as they are.
    weights : {'float', 'codes'}, optional
        Rounded chip weights as the voltages that they are (default), or as whole numbers and a ``Scale``.
    clamp : {'check', 'ignore'}, optional
        ``'check'`` (default) refuses chip neurons unless ``sample`` shows that holding the membrane at zero changes
        nothing. ``'ignore'`` exports them without.
    sample : array or Quantity, optional
        An input ``[T, N]`` or ``[T, B, N]``, for that check and for the width of the input where no module tells it.

    Returns
    -------
    nir.NIRGraph
        Write it with ``nir.write``. Arrays are float64, so that float32 weights come back to the bit; metadata under
        ``"brainhw"`` say how it was made.

    Raises
    ------
    NIRError
        If anything has no NIR form; it names every module, the reason and what to do. The network stays as it was.
    TypeError, ValueError
        If an argument is bad.
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
        raise RuntimeError(f"{call}: it looks at weights, which jit hides; call it outside of jit.")
    dt = _arguments.quantity(dt, u.ms, call=call, name="dt", shapes=[()], positive=True)
    millivolts = millivolts_in(voltage_unit, call)
    options = Options(
        dt=dt,
        millivolts=millivolts,
        how=_arguments.choice(discretisation, DISCRETISATIONS, call=call, name="discretisation"),
        reset=_arguments.choice(reset, ("exact", "continuous"), call=call, name="reset"),
        gain=_arguments.choice(gain, ("weights", "R"), call=call, name="gain"),
        weights=_arguments.choice(weights, ("float", "codes"), call=call, name="weights"),
    )
    _arguments.choice(clamp, ("check", "ignore"), call=call, name="clamp")
    _check_sample(sample, call)
    nir = nir_package(call)
    problems = Problems(call)
    _refuse_infinite(net, problems)
    problems.raise_any()
    with states_restored(net, keep_weights=False), brainstate.environ.context(dt=dt, fit=False):
        net_chip(net, call=call)
        wiring = wiring_of(net, dt, None if sample is None else sample[0], problems)
        if wiring is None:
            problems.raise_any()
        assert wiring is not None
        prepare_net(net)
        builder = GraphBuilder(nir, wiring, options, problems)
        builder.apply_rules()
        problems.raise_any()
        if clamp == "check":
            _check_clamp(net, builder.clamped, sample, problems)
        problems.raise_any()
        chip = net_chip(net, call=call)
        notes = graph_notes(
            dt_s=float(dt.to(u.second).mantissa),
            millivolts=millivolts,
            how=options.how,
            reset=options.reset,
            gain=options.gain,
            chip=None if chip is None else chip.name,
        )
        return builder.graph(notes)


def millivolts_in(voltage_unit: Any, call: str) -> float:
    """Return how many millivolts the number 1 of a graph stands for."""
    given = 1.0 * voltage_unit if isinstance(voltage_unit, u.Unit) else voltage_unit
    found = _arguments.quantity(given, u.mV, call=call, name="voltage_unit", shapes=[()], positive=True)
    return float(found.mantissa)


def _check_sample(sample: Any, call: str) -> None:
    if sample is None:
        return
    shape = np.shape(u.get_mantissa(sample))
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"{call}: sample must have shape [T, N] or [T, B, N]; got shape {shape}.")
    _arguments.check_finite(sample, call=call, name="sample")


def _refuse_infinite(net: brainstate.nn.Module, problems: Problems) -> None:
    for path, state in net.states(brainstate.ParamState).items():
        for leaf in _leaves(state.value):
            if not np.all(np.isfinite(np.asarray(u.get_mantissa(leaf), float))):
                name = ".".join(map(str, path))
                problems.add(name, "a parameter", "holds NaN or infinite values; load or initialise it again.")


def _leaves(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else [value]


def _check_clamp(net: brainstate.nn.Module, layers: dict[str, Any], sample: Any, problems: Problems) -> None:
    """Add a problem for each clamped layer whose free membrane falls below zero on a sample ``[T, ...]``.

    Without a sample every clamped layer is a problem. The caller puts the states back.
    """
    if not layers:
        return
    advice = "pass clamp='ignore' to export neurons without it, which then differ there"
    if sample is None:
        for path, layer in layers.items():
            problems.add(
                path,
                type(layer).__name__,
                "holds its membrane at zero or above, which NIR has no form for; pass sample=, an input [T, N] or "
                f"[T, B, N] on which it is checked that this changes nothing, or {advice}.",
            )
        return
    shape = np.shape(u.get_mantissa(sample))
    prepare_net(net, shape[1] if len(shape) == 3 else None)
    paths = {id(layer): path for path, layer in layers.items()}

    def step(x: Any) -> dict[str, Any]:
        shares = {}

        def hear(layer: Any, drive: Any, gave: Any, before: dict[str, Any]) -> None:
            shares[paths[id(layer)]] = _share_below(layer, drive, before)

        with watch_calls(layers.values(), hear):
            net(x)
        return shares

    for path, shares in brainstate.transform.for_loop(step, sample).items():
        share = float(np.mean(np.asarray(shares)))
        if share > 0:
            problems.add(
                path,
                type(layers[path]).__name__,
                f"holds its membrane at zero in {share:.2%} of all steps and neurons of the sample, which NIR has no "
                f"form for; train without inhibition that reaches below zero, or {advice}.",
            )


def _share_below(layer: Any, drive: Any, before: dict[str, Any]) -> Any:
    if layer.topology == "RC":
        drive = drive + layer.recurrent_drive(before["spk"])
    free = layer.integrate(before["V"], drive, brainstate.environ.get("dt")).to(u.mV).mantissa
    return jnp.mean(free < 0)
