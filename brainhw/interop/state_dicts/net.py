"""Network read from a state dict: a chain of brainhw modules."""

from __future__ import annotations

import re
from typing import Any

import brainstate
import brainunit as u

from brainhw import _arguments
from brainhw.interop.own_step import check_own_step

__all__ = ["StateDictNet"]


class StateDictNet(brainstate.nn.Module):
    """A chain of synapses and neurons read from a state dict; it runs and trains like any other network.

    Attributes
    ----------
    dt : Quantity
        Required time step, because the leak factors of a state dict hold for one step.
    in_size, out_size : tuple of int
        Width of input and output.
    names : tuple of str
        Attributes of the modules, in execution order: the names in the state dict, with ``_`` for other characters than
        letters and digits, and ``part_`` before a leading digit.
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
            Plain numbers, ``[N_in]`` or ``[B, N_in]``.

        Returns
        -------
        array or Quantity
            ``[..., N_out]``: spikes, or voltages in mV if the last module is a ``Linear``.

        Raises
        ------
        RuntimeError
            If no time step is set, or it differs from that of the network.
        TypeError, ValueError
            If the input is not an array of plain numbers of that width.
        """
        call = f"{type(self).__name__}.update"
        check_own_step(self.dt, call=call, what="state dict", reader="from_snntorch, from_norse or from_spikingjelly")
        _arguments.step_input(x, self.in_size[-1], call=call, ndims=(1, 2))
        for name in self.names:
            x = getattr(self, name)(x)
        return x
