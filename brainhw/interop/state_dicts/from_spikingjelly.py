"""Import of SpikingJelly state dicts with LIFNode, IFNode, ParametricLIFNode and Linear modules."""

from __future__ import annotations

from functools import partial
from typing import Any

import brainunit as u
import numpy as np

from brainhw._arguments import quantity
from brainhw.interop.state_dicts.building import Neuron, numbers
from brainhw.interop.state_dicts.faults import Faults
from brainhw.interop.state_dicts.net import StateDictNet
from brainhw.interop.state_dicts.paired import net_of_weights
from brainhw.interop.state_dicts.reading import key

__all__ = ["from_spikingjelly"]

_FIRE = {"v_threshold": 1.0, "v_reset": 0.0}
KINDS: dict[str, dict[str, Any]] = {
    "LIFNode": {"tau": 2.0, "decay_input": True, **_FIRE},
    "ParametricLIFNode": {"decay_input": True, **_FIRE},
    "IFNode": _FIRE,
}


def from_spikingjelly(state: Any, neurons: Any, dt: u.Quantity, *, order: Any = None) -> StateDictNet:
    r"""Read a SpikingJelly state dict with ``Linear``, ``LIFNode``, ``IFNode`` and ``ParametricLIFNode`` modules.

    The imported network produces the same spikes. The decay factor of a step is :math:`1 - 1/\tau`. The weights have
    the same values as in SpikingJelly, in mV. The membrane potential is measured from ``v_reset``. With
    ``decay_input``, SpikingJelly divides the input by :math:`\tau`, whereas brainhw multiplies the threshold by
    :math:`\tau`. A neuron fires at or above its threshold.

    Parameters
    ----------
    state
        Mapping of names to arrays or tensors, such as ``net.state_dict()``.
    neurons
        The options of each neuron by name, in execution order: ``{"1": {"kind": "LIFNode", "tau": 2.0}}``. The options
        and their defaults are those of the constructor in SpikingJelly: ``tau`` (2.0, in steps), ``decay_input``
        (True), ``v_threshold`` (1.0) and ``v_reset`` (0.0; with ``None``, a spike subtracts the threshold). The ``tau``
        of a ``ParametricLIFNode`` is computed from its weight ``w`` in ``state``.
    dt
        Duration of one time step.
    order
        Names of all modules in execution order. Default: each ``Linear`` in the order of ``state`` is followed by the
        next neuron in ``neurons``.

    Returns
    -------
    StateDictNet
        The network. Its modules have the given names.

    Raises
    ------
    TypeError
        If an argument has an invalid type.
    ValueError
        If the state dict or an argument is invalid. One error lists all problems: unknown keys, kinds and options,
        shapes that do not match, a ``tau`` below one step, a threshold that is not greater than ``v_reset``, and an
        ``order`` in which the sizes do not match.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> state = {"0.weight": np.full((1, 2), 1.0)}
    >>> net = bh.interop.state_dicts.from_spikingjelly(state, {"1": {"kind": "LIFNode"}}, dt=1 * u.ms)
    >>> with brainstate.environ.context(dt=1 * u.ms):
    ...     spikes, _ = bh.rollout(net, np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    >>> print(spikes[:, 0])
    [1. 0. 1.]
    """
    call = "from_spikingjelly"
    dt = quantity(dt, u.ms, call=call, name="dt", shapes=[()], positive=True)
    neuron, takes = partial(_neuron, call=call), "Linear (weight, bias), and w of ParametricLIFNode"
    return net_of_weights(state, neurons, order, dt, kinds=KINDS, neuron=neuron, takes=takes, call=call)


def _neuron(
    name: str, kind: str, options: dict[str, Any], arrays: dict[str, Any], *, call: str, faults: Faults
) -> Neuron:
    def option(last: str, low: float) -> np.ndarray:
        return numbers(options[last], f"neurons[{name!r}][{last!r}]", call, faults, low=low)

    rest = np.zeros(()) if options["v_reset"] is None else option("v_reset", -np.inf)
    threshold = option("v_threshold", -np.inf)
    if np.shape(rest) or np.shape(threshold):
        faults.add(f"neurons[{name!r}] must have a scalar v_threshold and a scalar v_reset.")
        rest = threshold = np.zeros(())
    elif threshold <= rest:
        faults.add(
            f"neurons[{name!r}] has v_threshold = {threshold:g}, which must be greater than "
            f"{'0' if options['v_reset'] is None else f'v_reset = {rest:g}'}."
        )
    loss = np.zeros(())  # fraction of the membrane potential that is lost per step
    if kind == "LIFNode":
        tau = option("tau", 0.0)
        if np.any(tau < 1):
            faults.add(f"neurons[{name!r}]['tau'] must be at least one step; got {tau.tolist()}.")
        loss = 1 / np.maximum(tau, 1e-30)
    elif kind == "ParametricLIFNode":
        held = arrays.pop(name, {})
        w = held.pop("w", None)
        if held:
            arrays[name] = held
        if w is None or w.size != 1:
            faults.add(f"state must contain {key(name, 'w')}, a scalar, for the ParametricLIFNode {name!r}.")
        else:
            loss = 1 / (1 + np.exp(-float(w.item()))) * np.ones(())
    decays = options.get("decay_input", False)
    if not isinstance(decays, bool):
        faults.add(f"neurons[{name!r}]['decay_input'] must be a bool; got {decays!r}.")
    return Neuron(
        beta=1 - loss,
        threshold=threshold - rest,
        reset="subtract" if options["v_reset"] is None else "zero",
        strict=False,
        gain=loss if decays is True else 1.0,
    )
