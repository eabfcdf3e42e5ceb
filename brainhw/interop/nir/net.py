"""Imported network: modules of brainhw and their execution order."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainstate
import brainunit as u

from brainhw import _arguments
from brainhw.interop.own_step import check_own_step

__all__ = ["NIRNet", "Step"]


class Step(NamedTuple):
    """One entry of the program: the module ``part`` computes the value ``makes`` from the sum of the values ``takes``.

    ``part`` is an attribute of the network; ``None`` passes the sum on. ``takes`` lists keys of values; with True, the
    key is the attribute of a layer, and the value its spikes of the previous step.
    """

    makes: str
    part: str | None
    takes: tuple[tuple[str, bool], ...]


class NIRNet(brainstate.nn.Module):
    """A network read from a NIR graph by :func:`from_nir`; it runs and trains like any other network.

    Attributes
    ----------
    dt : Quantity
        Required time step, for which the weights were computed.
    in_size, out_size : tuple of int
        Shape of input and output as declared by the graph: ``[N]``, or an image with channels first.
    millivolts : float
        Number of millivolts that 1 in the graph represents.

    Notes
    -----
    The module of a node has the name of the node (with ``_`` for other characters than letters and digits), so
    ``rollout(net, xs, record=("lif.V",))`` records its membrane potential. NIR leaves the following open; here the
    input is held over a step, nodes step one after the other along the edges, spikes on feedback edges arrive one step
    later, a neuron fires strictly above its threshold, and membrane potentials start at zero.
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
            ``[..., *out_size]``: spikes, or the output of the last node.

        Raises
        ------
        RuntimeError
            If no time step is set, or it differs from that of the network.
        TypeError, ValueError
            If the input is not an array of plain numbers of that shape.
        """
        call = f"{type(self).__name__}.update"
        check_own_step(self.dt, call=call, what="graph", reader="from_nir")
        _arguments.step_input(x, self.in_size[-1], call=call)
        _arguments.check_axes(x, self.in_size, call=call, name="the input")
        # Parts must get the arrays of other parts unchanged, without `0 + x`: by their identity rollout detects a chain
        # of parts, which it runs layer by layer.
        known: dict[str, Any] = {self.takes: x}
        for step in self.program:
            values = [getattr(self, key).spk.value if late else known[key] for key, late in step.takes]
            total = values[0]
            for value in values[1:]:
                total = total + value
            known[step.makes] = total if step.part is None else getattr(self, step.part)(total)
        return known[self.returns]
