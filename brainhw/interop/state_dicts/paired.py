"""Import of state dicts that contain only weights, so that the caller must describe the neurons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import brainunit as u

from brainhw.interop.state_dicts.building import Neuron, build
from brainhw.interop.state_dicts.faults import Faults
from brainhw.interop.state_dicts.net import StateDictNet
from brainhw.interop.state_dicts.reading import Dense, arrays_of, in_order, options_of, refuse_rest, take_dense

__all__ = ["net_of_weights"]


def net_of_weights(
    state: Any,
    neurons: Any,
    order: Any,
    dt: u.Quantity,
    *,
    kinds: dict[str, dict[str, Any]],
    neuron: Callable[..., Neuron],
    takes: str,
    call: str,
) -> StateDictNet:
    """Build the network from the weights in ``state`` and the description of the neurons in ``neurons``.

    ``kinds`` contains the options of each kind of neuron, with their defaults.
    ``neuron(name, kind, options, arrays, faults=faults)`` must return one `Neuron` and remove its weights from
    ``arrays``. ``takes`` lists the accepted keys for error messages.
    """
    faults = Faults(call)
    arrays = arrays_of(state, (), call)
    dense = take_dense(arrays, faults)
    described = options_of(neurons, kinds, call, faults)
    parsed = {name: neuron(name, kind, options, arrays, faults=faults) for name, (kind, options) in described.items()}
    refuse_rest(arrays, faults, takes)
    default = _default_order(dense, parsed, faults) if order is None else [*dense, *parsed]
    return build(in_order(order, default, {*dense, *parsed}, call, faults), dense, parsed, dt, faults)


def _default_order(dense: Mapping[str, Dense], neurons: Mapping[str, Neuron], faults: Faults) -> list[str]:
    """Return the default order: each ``Linear`` is followed by the next neuron.

    A neuron that contains its input weights has no ``Linear`` before it.
    """
    waiting = list(dense)
    order = []
    for name, neuron in neurons.items():
        if neuron.input_weights is None and waiting:
            order.append(waiting.pop(0))
        order.append(name)
    if len(waiting) > 1:
        faults.add(
            f"neurons contains {len(neurons)} neurons, but state contains {len(dense)} Linear ({', '.join(dense)}); "
            "each Linear except the last needs a neuron after it. Add the missing neurons, or pass order=."
        )
    return [*order, *waiting]
