"""Network of the classifier: one hidden layer and output populations, on a chip."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from brainhw.chip import ChipSpec, get_family
from brainhw.transform import prepare_net

__all__ = ["VoterNet", "n_voters", "run_constant_input"]

_TAU = 20.0 * u.ms
# Approximate number of output neurons, and their minimum and maximum number per class.
_OUTPUTS, _FEWEST, _MOST = 80, 5, 20


def n_voters(n_classes: int, n_neurons: int) -> int:
    """Return the number of output neurons per class on a chip with ``n_neurons``; 0 if there are too many classes."""
    wanted = min(max(_OUTPUTS // n_classes, _FEWEST), _MOST)
    return min(wanted, n_neurons // 2 // n_classes)


class VoterNet(brainstate.nn.Module):
    """Network with a hidden layer and an output layer. Together, the two layers use all neurons of a chip.

    Parameters
    ----------
    n_in, n_hidden, n_out : int
        Number of inputs, hidden neurons and output neurons.
    chip : ChipSpec
        The chip.
    """

    def __init__(self, n_in: int, n_hidden: int, n_out: int, chip: ChipSpec) -> None:
        super().__init__()
        modules = get_family(chip.family, call="train_classifier").modules
        synapse, layer = modules["synapse"], modules["layer"]
        self.to_hidden = synapse(n_in, n_hidden, chip=chip, weight_bits="chip")
        self.hidden = layer(n_hidden, tau=_TAU, chip=chip)
        self.to_output = synapse(n_hidden, n_out, chip=chip, weight_bits="chip")
        self.output = layer(n_out, tau=_TAU, chip=chip)

    def update(self, x: jax.Array) -> jax.Array:
        """Advance one step with the input ``[B, n_in]``, and return the output spikes ``[B, n_out]``."""
        return self.output(self.to_output(self.hidden(self.to_hidden(x))))


def run_constant_input(net: VoterNet, x: jax.Array, n_steps: int, key: jax.Array | None = None) -> Any:
    """Run a network for ``n_steps`` steps with a constant input ``[B, n_in]``, and return its output spikes.

    The result equals that of ``rollout``, but the input weights are applied only once.
    """
    prepare_net(net, len(x), key=key)
    charge = net.to_hidden(x)
    held = u.Quantity(jnp.broadcast_to(charge.mantissa, (n_steps, *charge.shape)), unit=charge.unit)
    hidden = net.hidden.update_sequence(held)
    return net.output.update_sequence(net.to_output.update_sequence(hidden))
