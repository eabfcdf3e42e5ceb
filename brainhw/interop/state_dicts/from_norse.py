"""Import of Norse state dicts with LIF, LIFRecurrent, their cells, LIFBoxCell and Linear modules."""

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
from brainhw.interop.state_dicts.reading import Dense, key

__all__ = ["from_norse"]

# The defaults of LIFParameters and LIFBoxParameters in Norse. Inverse time constants are in 1/s, and voltages have no
# unit.
_BOX = {"tau_mem_inv": 100.0, "v_leak": 0.0, "v_th": 1.0, "v_reset": 0.0}
_CURRENT = {"tau_syn_inv": 200.0, **_BOX}
KINDS: dict[str, dict[str, Any]] = {
    "LIFCell": _CURRENT,
    "LIF": _CURRENT,
    "LIFRecurrentCell": _CURRENT,
    "LIFRecurrent": _CURRENT,
    "LIFBoxCell": {**_BOX, "reset_method": "value"},
}


def from_norse(state: Any, neurons: Any, dt: u.Quantity, *, order: Any = None) -> StateDictNet:
    r"""Read a state dict of Norse 1.1: ``LIFCell``, ``LIF``, ``LIFRecurrentCell``, ``LIFRecurrent``, ``LIFBoxCell``.

    The imported network produces the same spikes. Norse uses forward Euler and updates the current before the membrane
    potential. With decay factors, its step is

    .. math::
        I_t &= (1 - \Delta t/\tau_{syn}) I_{t-1} + W x_t + W_{rec} s_{t-1} \\
        V' &= (1 - \Delta t/\tau_{mem}) V_{t-1} + I_t

    The weights have the same values as in Norse, in mV. The membrane potential is measured from ``v_leak`` and divided
    by :math:`\Delta t/\tau_{mem}`. The threshold is therefore ``(v_th - v_leak) / (dt * tau_mem_inv)`` mV. A neuron
    fires strictly above its threshold.

    Parameters
    ----------
    state
        Mapping of names to arrays or tensors, such as ``net.state_dict()``.
    neurons
        The options of each neuron by name, in execution order: ``{"1": {"kind": "LIFCell", "tau_mem_inv": 100.0}}``.
        The options and their defaults are those of Norse's ``LIFParameters``. Each option is a number, or an array with
        one value per neuron, in the units of Norse (``tau_mem_inv`` and ``tau_syn_inv`` in 1/s). ``LIFBoxCell`` has the
        additional option ``reset_method``: ``"value"`` (default) or ``"subtract"``.
    dt
        Time step of the Norse modules. The default of Norse is 1 ms.
    order
        Names of all modules in execution order. Default: each ``Linear`` in the order of ``state`` is followed by the
        next neuron in ``neurons``. A recurrent neuron contains its input weights, so it has no ``Linear`` before it.

    Returns
    -------
    StateDictNet
        The network. Its modules have the given names. The input weights of a recurrent cell are in the module
        ``NAME_input``.

    Raises
    ------
    TypeError
        If an argument has an invalid type.
    ValueError
        If the state dict or an argument is invalid. One error lists all problems: unknown keys, kinds and options,
        shapes that do not match, a time step longer than a time constant, a ``v_reset`` that differs from ``v_leak``,
        and an ``order`` in which the sizes do not match.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> state = {"0.weight": np.full((1, 2), 6.0)}
    >>> net = bh.interop.state_dicts.from_norse(state, {"1": {"kind": "LIFCell"}}, dt=1 * u.ms)
    >>> with brainstate.environ.context(dt=1 * u.ms):
    ...     spikes, _ = bh.rollout(net, np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]))
    >>> print(spikes[:, 0])
    [1. 0. 1.]
    """
    call = "from_norse"
    dt = quantity(dt, u.ms, call=call, name="dt", shapes=[()], positive=True)
    neuron = partial(_neuron, dt=float(dt.to(u.second).mantissa), call=call)
    takes = "Linear (weight, bias), and input_weights and recurrent_weights of recurrent neurons"
    return net_of_weights(state, neurons, order, dt, kinds=KINDS, neuron=neuron, takes=takes, call=call)


def _neuron(
    name: str, kind: str, options: dict[str, Any], arrays: dict[str, Any], *, dt: float, call: str, faults: Faults
) -> Neuron:
    def option(last: str, low: float, high: float = np.inf) -> np.ndarray:
        return numbers(options[last], f"neurons[{name!r}][{last!r}]", call, faults, low=low, high=high)

    # If the time step is longer than the time constant, the decay factor of forward Euler is negative and the membrane
    # potential oscillates.
    losses = {last: dt * option(last, 0.0, 1 / dt) for last in ("tau_mem_inv", "tau_syn_inv") if last in options}
    leak, reset = option("v_leak", -np.inf), option("v_reset", -np.inf)
    reset_method = options.get("reset_method", "value")
    if reset_method not in ("value", "subtract"):
        faults.add(f"neurons[{name!r}]['reset_method'] must be 'value' or 'subtract'; got {reset_method!r}.")
    if reset_method == "value" and np.any(leak != reset):
        faults.add(
            f"neurons[{name!r}] resets to v_reset = {reset.tolist()}, but decays to v_leak = {leak.tolist()}; the "
            "layers of brainhw require equal values. Pass the same value for both."
        )
    threshold = option("v_th", -np.inf)
    if np.shape(threshold) and np.shape(leak) and np.shape(threshold) != np.shape(leak):
        faults.add(f"neurons[{name!r}] has {len(leak)} values of v_leak, but {len(threshold)} of v_th.")
        leak = np.zeros(())
    if reset_method == "value" and np.any(threshold <= leak):
        faults.add(f"neurons[{name!r}] has v_th at or below v_leak and would fire at rest. Pass a greater v_th.")
    elif reset_method == "subtract" and np.any(leak != 0):
        faults.add(f"neurons[{name!r}] subtracts v_th, but decays to v_leak = {leak.tolist()}. Pass a v_leak of 0.")
    input_weights = recurrent_weights = None
    if kind.startswith("LIFRecurrent"):
        weights = arrays.pop(name, {})
        shapes = {last: np.shape(weights.get(last, 0.0)) for last in ("input_weights", "recurrent_weights")}
        wrong = [key(name, last) for last, shape in shapes.items() if len(shape) != 2]
        if wrong:
            faults.add(f"state must contain {' and '.join(wrong)} as matrices, [out, in], for the {kind} {name!r}.")
        else:
            input_weights, recurrent_weights = (
                Dense(weights[last].astype(float), None) for last in ("input_weights", "recurrent_weights")
            )
            rest = {last: value for last, value in weights.items() if last not in shapes}
            if rest:
                arrays[name] = rest
    return Neuron(
        beta=1 - losses["tau_mem_inv"],
        threshold=np.maximum(threshold - leak, 1e-30),
        reset="zero" if reset_method == "value" else "subtract",
        strict=True,
        gain=losses["tau_mem_inv"],
        current_decay=1 - losses["tau_syn_inv"] if "tau_syn_inv" in losses else None,
        input_weights=input_weights,
        recurrent_weights=recurrent_weights,
    )
