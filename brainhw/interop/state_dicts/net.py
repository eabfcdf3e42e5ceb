"""Network that was read from a state dict: a chain of brainhw modules."""

from __future__ import annotations

import re
from typing import Any

import brainstate
import brainunit as u

from brainhw import _arguments
from brainhw.interop.own_step import check_own_step

__all__ = ["StateDictNet"]


class StateDictNet(brainstate.nn.Module):
    """A chain of synapses and neurons from a state dict. It runs and trains like any other network.

    Attributes
    ----------
    dt : Quantity
        Time step of the network. You must run the network with this time step, because the decay factors in the state
        dict are valid only for this time step.
    in_size, out_size : tuple of int
        Numbers of input and output channels, as tuples with one entry.
    names : tuple of str
        Attribute names of the modules in execution order. An attribute name is the name in the state dict, but ``_``
        replaces all characters other than letters and digits. A name that starts with a digit gets the prefix
        ``part_``.
    """

    def __init__(self, parts: dict[str, brainstate.nn.Module], dt: u.Quantity) -> None:
        super().__init__()
        self.dt = dt
        taken = set(dir(self))
        names = []
        for name, part in parts.items():
            plain = re.sub(r"\W", "_", name)
            plain = plain if plain and not plain[0].isdigit() else f"part_{plain}"
            while plain in taken:
                plain += "_"
            taken.add(plain)
            names.append(plain)
            setattr(self, plain, part)
        self.names = tuple(names)
        modules = list(parts.values())
        self.in_size, self.out_size = tuple(modules[0].in_size), tuple(modules[-1].out_size)

    def update(self, x: Any) -> Any:
        """Advance one step.

        Parameters
        ----------
        x : array
            Dimensionless array, ``[N_in]`` or ``[B, N_in]``.

        Returns
        -------
        array or Quantity
            Array ``[..., N_out]`` of spikes, or of voltages in mV if the last module is a ``Linear``.

        Raises
        ------
        RuntimeError
            If no time step is set, or if it differs from the time step of the network.
        TypeError, ValueError
            If the input is not a dimensionless array of this shape.
        """
        call = f"{type(self).__name__}.update"
        check_own_step(self.dt, call=call, what="state dict", reader="from_snntorch, from_norse or from_spikingjelly")
        _arguments.step_input(x, self.in_size[-1], call=call, ndims=(1, 2))
        for name in self.names:
            x = getattr(self, name)(x)
        return x
