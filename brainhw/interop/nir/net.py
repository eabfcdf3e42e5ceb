"""Network that was imported from NIR: brainhw modules and their execution order."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainstate
import brainunit as u

from brainhw import _arguments
from brainhw.interop.own_step import check_own_step

__all__ = ["NIRNet", "Step"]


class Step(NamedTuple):
    """One instruction of the program of a `NIRNet`.

    The module ``part`` computes the value ``makes`` from the sum of the values in ``takes``. ``part`` is the name of a
    network attribute; with ``None``, the sum is passed on unchanged. ``takes`` lists pairs ``(key, late)``. If ``late``
    is False, ``key`` is the name of a value of the current time step. If ``late`` is True, ``key`` is the attribute
    name of a layer, and the spikes of this layer in the previous time step are used.
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
        Shapes of input and output in the graph: ``[N]``, or an image with channels first.
    millivolts : float
        Number of millivolts that 1 in the graph represents.

    Notes
    -----
    The module of a node has the name of the node, in which ``_`` replaces all characters other than letters and digits.
    For a node named ``lif``, ``rollout(net, xs, record=("lif.V",))`` therefore records the membrane potential. NIR does
    not define how a graph is simulated. In brainhw, the input is constant during a step. Nodes are updated one after
    the other along the edges. Spikes on feedback edges arrive one step later. A neuron fires strictly above its
    threshold; with ``reset='subtract'``, a neuron that brainhw did not export also fires at the threshold. Membrane
    potentials start at zero.
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
            Dimensionless array, ``[*in_size]`` or ``[B, *in_size]``: spikes, or currents in units of the graph.

        Returns
        -------
        array or Quantity
            ``[..., *out_size]``: spikes, or the output of the last node.

        Raises
        ------
        RuntimeError
            If no time step is set, or if it differs from the time step of the network.
        TypeError, ValueError
            If the input is not a dimensionless array of that shape.
        """
        call = f"{type(self).__name__}.update"
        check_own_step(self.dt, call=call, what="graph", reader="from_nir")
        _arguments.step_input(x, self.in_size[-1], call=call)
        _arguments.check_axes(x, self.in_size, call=call, name="the input")
        # Modules must receive the same array object that another module returned, not a copy such as `0 + x`. rollout
        # compares the identity of these arrays to detect a chain of modules, and runs such a chain layer by layer.
        known: dict[str, Any] = {self.takes: x}
        for step in self.program:
            values = [getattr(self, key).spk.value if late else known[key] for key, late in step.takes]
            total = values[0]
            for value in values[1:]:
                total = total + value
            known[step.makes] = total if step.part is None else getattr(self, step.part)(total)
        return known[self.returns]
