"""Imported networks: modules of brainhw, and the order in which they step."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainstate
import brainunit as u

from brainhw import _arguments
from brainhw.interop.own_step import check_own_step

__all__ = ["NIRNet", "Step"]


class Step(NamedTuple):
    """One entry of the program: the module ``part`` makes the value ``makes`` of the sum of what it ``takes``.

    ``part`` is an attribute of the network; ``None`` hands the sum on. ``takes`` lists keys of values; with True, the
    key is the attribute of a layer, and the value its spikes of the previous step.
    """

    makes: str
    part: str | None
    takes: tuple[tuple[str, bool], ...]


class NIRNet(brainstate.nn.Module):
    """A network read from a NIR graph by :func:`from_nir`; it runs and trains like any other.

    Attributes
    ----------
    dt : Quantity
        Time step that the weights were computed for; it runs with no other.
    in_size, out_size : tuple of int
        Shape of input and output as the graph declares them: ``[N]``, or that of an image with channels first.
    millivolts : float
        How many millivolts the number 1 of the graph is.

    Notes
    -----
    The module of a node has the name of the node (with ``_`` for anything but letters and digits), so that
    ``rollout(net, xs, record=("lif.V",))`` records its membrane. NIR leaves the following open: the input is held
    over a step; nodes step one after the other along the edges; spikes that go back arrive one step later; a neuron
    fires strictly above its threshold; membranes begin at zero.
    """

    def __init__(
        self,
        parts: dict[str, brainstate.nn.Module],
        program: list[Step],
        *,
        takes: str,
        returns: str,
        dt: u.Quantity,
        in_size: tuple[int, ...],
        out_size: tuple[int, ...],
        millivolts: float,
    ) -> None:
        super().__init__()
        self.dt = dt
        self.in_size, self.out_size = in_size, out_size
        self.millivolts = millivolts
        self.program, self.takes, self.returns = tuple(program), takes, returns
        for name, part in parts.items():
            setattr(self, name, part)

    def update(self, x: Any) -> Any:
        """Advance one step.

        Parameters
        ----------
        x : array
            Plain numbers, ``[*in_size]`` or ``[B, *in_size]``: spikes, or currents in units of the graph.

        Returns
        -------
        array or Quantity
            ``[..., *out_size]``: spikes, or whatever the last node returns.

        Raises
        ------
        RuntimeError
            If no time step is set, or another one than the network was read for.
        TypeError, ValueError
            If the input is not an array of plain numbers of that shape.
        """
        call = f"{type(self).__name__}.update"
        check_own_step(self.dt, call=call, what="graph", reader="from_nir")
        _arguments.step_input(x, self.in_size[-1], call=call)
        _arguments.check_axes(x, self.in_size, call=call, name="the input")
        # The parts get the very arrays that others gave, without `0 + x`: by their identity rollout sees whether the
        # parts form a chain, which it runs layer by layer.
        known: dict[str, Any] = {self.takes: x}
        for step in self.program:
            values = [getattr(self, key).spk.value if late else known[key] for key, late in step.takes]
            total = values[0]
            for value in values[1:]:
                total = total + value
            known[step.makes] = total if step.part is None else getattr(self, step.part)(total)
        return known[self.returns]
