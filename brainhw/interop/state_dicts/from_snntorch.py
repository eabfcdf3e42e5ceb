"""Import of snnTorch state dicts with Leaky, Synaptic, RLeaky, RSynaptic and Linear modules."""

from __future__ import annotations

from typing import Any

import brainunit as u
import numpy as np

from brainhw._arguments import flag, quantity
from brainhw.interop.state_dicts.building import Neuron, build, numbers
from brainhw.interop.state_dicts.faults import Faults
from brainhw.interop.state_dicts.net import StateDictNet
from brainhw.interop.state_dicts.reading import Dense, arrays_of, in_order, key, refuse_rest, take_dense
from brainhw.kernel.leaky import Reset

__all__ = ["from_snntorch"]

_RESETS: tuple[Reset, ...] = ("subtract", "zero", "none")
_FIELDS = {
    "alpha", "beta", "threshold", "reset_mechanism_val", "graded_spikes_factor",
    "recurrent.weight", "recurrent.bias", "V", "recurrent.V", "mem", "spk", "syn",
}  # fmt: skip


def from_snntorch(state: Any, dt: u.Quantity, *, order: Any = None, reset_delay: bool = True) -> StateDictNet:
    r"""Read a snnTorch 1.0 state dict with ``Linear``, ``Leaky``, ``Synaptic``, ``RLeaky`` and ``RSynaptic`` modules.

    The imported network produces the same spikes. The decay factor of a step is ``beta``. A membrane potential of 1
    becomes 1 mV. snnTorch fires strictly above the threshold, and brainhw also at the threshold, so the imported
    threshold is the next larger float32 value. A ``Leaky`` that resets immediately and has a ``beta`` between 0.01 and
    1 becomes a :class:`brainhw.nn.LIFLayer` with :math:`\tau = -\Delta t/\ln \beta`.

    Parameters
    ----------
    state
        Mapping of names to arrays or tensors, such as ``net.state_dict()``.
    dt
        Duration of one time step.
    order
        Names of the modules in execution order, such as ``("fc1", "lif1", "fc2", "lif2")``. Default: the order of
        ``state``, which is the order in which ``__init__`` created the modules.
    reset_delay
        The option ``reset_delay`` of the snnTorch neurons. A state dict does not contain this option. With ``True``,
        the default of snnTorch, the threshold is subtracted one step after a spike, when the membrane potential has
        decayed.
        In brainhw, a fixed recurrent weight from each neuron to itself has this effect. This weight is not trainable.
        With ``False``, a neuron resets immediately. For neurons that subtract their threshold, the spikes then equal
        those of snnTorch only while no membrane potential reaches twice the threshold.

    Returns
    -------
    StateDictNet
        The network. Its modules have the names in ``state``.

    Raises
    ------
    TypeError
        If an argument has an invalid type.
    ValueError
        If the state dict or an argument is invalid. One error lists all problems: unknown keys, shapes that do not
        match, one-to-one recurrence (``all_to_all=False``), spikes with a value other than 1
        (``graded_spikes_factor``), and an ``order`` in which the sizes do not match.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> state = {
    ...     "fc1.weight": np.full((1, 2), 0.6), "lif1.beta": 0.5, "lif1.threshold": 1.0, "lif1.reset_mechanism_val": 1,
    ... }
    >>> net = bh.interop.state_dicts.from_snntorch(state, dt=1 * u.ms)
    >>> with brainstate.environ.context(dt=1 * u.ms):
    ...     spikes, _ = bh.rollout(net, np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    >>> print(spikes[:, 0])
    [1. 0. 1.]
    """
    call = "from_snntorch"
    dt = quantity(dt, u.ms, call=call, name="dt", shapes=[()], positive=True)
    delays_reset = flag(reset_delay, call=call, name="reset_delay")
    faults = Faults(call)
    arrays = arrays_of(state, ("recurrent",), call)
    default = list(arrays)
    dense = take_dense(arrays, faults)
    neurons = {}
    for name, own in list(arrays.items()):
        if "beta" in own and "threshold" in own:
            del arrays[name]
            neurons[name] = _neuron(name, own, delays_reset, call, faults)
            rest = {last: value for last, value in own.items() if last not in _FIELDS}
            if rest:
                arrays[name] = rest
    refuse_rest(arrays, faults, "Linear (weight, bias), Leaky, Synaptic, RLeaky, RSynaptic")
    known = [name for name in default if name in dense or name in neurons]
    names = in_order(order, known, {*dense, *neurons}, call, faults)
    return build(names, dense, neurons, dt, faults)


def _neuron(name: str, own: dict[str, np.ndarray], delays_reset: bool, call: str, faults: Faults) -> Neuron:
    def at(last: str) -> str:
        return f"state[{key(name, last)!r}]"

    mechanism = own.get("reset_mechanism_val", np.array(0))
    if mechanism.size != 1 or mechanism.item() not in (0, 1, 2):
        faults.add(f"{at('reset_mechanism_val')} must be 0 (subtract), 1 (zero) or 2 (none); got {mechanism.tolist()}.")
        mechanism = np.array(0)
    reset = _RESETS[int(mechanism.item())]
    if "V" in own or "recurrent.V" in own:
        faults.add(
            f"{at('V')} connects each neuron only with itself (all_to_all=False); brainhw requires a dense matrix. "
            "Write numpy.diag(V) as recurrent.weight, zeros as recurrent.bias, and remove V."
        )
    graded = own.get("graded_spikes_factor", np.array(1.0))
    if np.any(graded != 1):
        faults.add(
            f"{at('graded_spikes_factor')} is {graded.tolist()}; brainhw spikes have the value 1. Scale the weights "
            "after them."
        )
    recurrent_weights = None
    if "recurrent.weight" in own:
        weight = own["recurrent.weight"]
        if weight.ndim != 2:
            faults.add(f"{at('recurrent.weight')} has shape {weight.shape}; expected a dense matrix, [N, N].")
        else:
            bias = own.get("recurrent.bias")
            recurrent_weights = Dense(weight.astype(float), None if bias is None else bias.astype(float))
    # snnTorch clips beta and alpha to the range 0 to 1 in each step.
    leaks = {last: np.clip(own[last].astype(float), 0, 1) for last in ("beta", "alpha") if last in own}
    checked = {last: numbers(value, at(last), call, faults, low=-1.0, high=1.0) for last, value in leaks.items()}
    return Neuron(
        beta=checked["beta"],
        threshold=numbers(own["threshold"], at("threshold"), call, faults, low=0.0),
        reset=reset,
        strict=True,
        delays_reset=delays_reset and reset == "subtract",
        # With a delayed reset to zero, all snnTorch neurons except Leaky ignore their input in the step after a spike.
        is_refractory=delays_reset and reset == "zero" and ("alpha" in own or recurrent_weights is not None),
        current_decay=checked.get("alpha"),
        recurrent_weights=recurrent_weights,
    )
