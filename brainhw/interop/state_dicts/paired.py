"""The order of modules where a state dict tells only that of its weights."""

from __future__ import annotations

from collections.abc import Mapping

from brainhw.interop.state_dicts.building import Neuron
from brainhw.interop.state_dicts.faults import Faults
from brainhw.interop.state_dicts.reading import Dense

__all__ = ["paired"]


def paired(dense: Mapping[str, Dense], neurons: Mapping[str, Neuron], faults: Faults) -> list[str]:
    """Return each ``Linear`` with the next neuron behind it; a neuron with weights of its own stands alone."""
    waiting = list(dense)
    order = []
    for name, neuron in neurons.items():
        if neuron.own is None and waiting:
            order.append(waiting.pop(0))
        order.append(name)
    if len(waiting) > 1:
        faults.add(
            f"neurons holds {len(neurons)}, but state {len(dense)} Linear ({', '.join(dense)}); a neuron must stand "
            "behind each, but perhaps the last. Name the others, or give order=."
        )
    return [*order, *waiting]
