"""A NIR graph that runs: modules of brainhw, and the order in which they step."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainstate
import brainunit as u
import numpy as np

from brainhw import _arguments

__all__ = ["NIRNet", "Step"]


class Step(NamedTuple):
    """One entry of the program: what it makes, with which module, out of what.

    Attributes
    ----------
    makes : str
        Key of the result.
    part : str or None
        Attribute of the module; ``None`` hands the input on.
    takes : tuple of (str, bool)
        Keys of what is summed up as its input; where True, the spikes of that layer in the previous step.
    """

    makes: str
    part: str | None
    takes: tuple[tuple[str, bool], ...]


class NIRNet(brainstate.nn.Module):
    """A network read from a NIR graph; :func:`from_nir` makes it, and it runs and trains like any other.

    Attributes
    ----------
    dt : Quantity
        The time step that the weights were worked out for; it runs with no other.
    in_size, out_size : tuple of int
        Width of input and output. Arrays with several axes are flat, the last axis fastest.
    millivolts : float
        How many millivolts the number 1 of the graph stands for.

    Notes
    -----
    Every node that needs one has a module under its own name (with ``_`` for what is no letter or digit), so that
    ``rollout(net, xs, record=("lif.V",))`` sees its membrane. What the graph leaves open is taken so: the input is
    held over a step; nodes step one after the other along the edges; spikes that go back arrive one step later; a
    neuron fires strictly above its threshold; membranes begin at zero.
    """

    def __init__(
        self,
        parts: dict[str, brainstate.nn.Module],
        program: list[Step],
        *,
        takes: str,
        returns: str,
        dt: u.Quantity,
        n_in: int,
        n_out: int,
        millivolts: float,
    ) -> None:
        super().__init__()
        self.dt = dt
        self.in_size, self.out_size = (n_in,), (n_out,)
        self.millivolts = millivolts
        self.program, self.takes, self.returns = tuple(program), takes, returns
        for name, part in parts.items():
            setattr(self, name, part)

    def update(self, x: Any) -> Any:
        """Advance one step.

        Parameters
        ----------
        x : array
            Plain numbers, ``[N_in]`` or ``[B, N_in]``: spikes, or currents in units of the graph.

        Returns
        -------
        array or Quantity
            ``[..., N_out]``: spikes, or what the last node gives.

        Raises
        ------
        RuntimeError
            If the time step is none or another than the network was read for.
        TypeError, ValueError
            If the input is no array of plain numbers of that width.
        """
        call = f"{type(self).__name__}.update"
        dt = _arguments.time_step(call=call)
        if not np.isclose(float(dt.mantissa), float(self.dt.to(u.ms).mantissa), rtol=1e-6, atol=0):
            raise RuntimeError(
                f"{call}: the graph was read for dt = {self.dt}, but brainstate.environ has dt = {dt}; read it again "
                "with from_nir(..., dt=...)."
            )
        _arguments.step_input(x, self.in_size[-1], call=call, ndims=(1, 2))
        # The parts get the very values that others gave: rollout sees by it whether they form a chain.
        known: dict[str, Any] = {self.takes: x}
        for step in self.program:
            values = [getattr(self, key).spk.value if late else known[key] for key, late in step.takes]
            total = values[0]
            for value in values[1:]:
                total = total + value
            known[step.makes] = total if step.part is None else getattr(self, step.part)(total)
        return known[self.returns]
