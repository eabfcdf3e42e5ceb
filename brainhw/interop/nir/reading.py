"""Import: a NIR graph, or the file of one, as a network of brainhw."""

from __future__ import annotations

import os
import warnings
from typing import Any

import brainstate
import brainunit as u

from brainhw import _arguments
from brainhw.interop.nir.errors import NIRError, Problems, nir_package
from brainhw.interop.nir.graph import read_graph
from brainhw.interop.nir.import_rules import NetBuilder, Reading
from brainhw.interop.nir.metadata import noted, noted_choice, noted_number
from brainhw.interop.nir.net import NIRNet
from brainhw.interop.nir.steps import DISCRETISATIONS
from brainhw.interop.nir.writing import millivolts_in

__all__ = ["from_nir"]


def from_nir(
    graph: Any,
    *,
    dt: u.Quantity,
    voltage_unit: Any = None,
    discretisation: str | None = None,
    reset: str | None = None,
) -> NIRNet:
    r"""Return a NIR graph as a network that runs with a given time step; what cannot run exactly is refused.

    Every node is solved for an input that is held over the step, which for :math:`\tau\dot v = v_{leak} - v + R I` is

    .. math:: v' = \beta v + (1 - \beta)(R I + v_{leak}), \qquad \beta = e^{-\Delta t/\tau}

    so that :math:`(1 - \beta) R` goes into the weights of the layers of brainhw, whatever ``R`` is. ``CubaLIF`` is
    solved as both equations together. Taken are ``Input``, ``Output``, ``NIRGraph``, ``Affine``, ``Linear``, ``Scale``,
    ``Flatten``, ``Delay`` of whole steps, ``Threshold``, ``I``, ``IF``, ``LI``, ``LIF``, ``CubaLI`` and ``CubaLIF``.

    Parameters
    ----------
    graph : nir.NIRGraph, str or path
        The graph, or a ``.nir`` file.
    dt : Quantity
        Time step. A graph with spikes that was written for another one warns: a spike is held for a step, so it is
        worth more in a longer one.
    voltage_unit : Unit or Quantity, optional
        What 1 in the graph stands for. Default: what brainhw noted in the graph, else mV.
    discretisation : {'exact', 'euler'}, optional
        ``'euler'`` takes :math:`\beta = 1 - \Delta t/\tau`. Default: what brainhw noted, else ``'exact'``.
    reset : {'zero', 'subtract'}, optional
        What a spike does. Default: to zero as NIR says, but for layers of which brainhw noted that they subtracted
        their threshold before ``to_nir(..., reset='continuous')``.

    Returns
    -------
    NIRNet
        A module; prepare and run it like any other, with this ``dt``.

    Raises
    ------
    NIRError
        If the file cannot be read or the graph cannot be run; it names every node and the reason.
    TypeError, ValueError
        If an argument is bad.
    ImportError
        If the packages nir and h5py are not installed.

    Examples
    --------
    A constant current of 0.5 through R = 1 settles at 0.5:

    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp, nir, numpy as np
    >>> from brainhw.interop.nir import from_nir
    >>> one = np.ones(1)
    >>> lif = nir.LIF(tau=0.02 * one, r=one, v_leak=0 * one, v_threshold=one)
    >>> net = from_nir(nir.NIRGraph.from_list(lif), dt=1 * u.ms)
    >>> with brainstate.environ.context(dt=1 * u.ms):
    ...     spikes, seen = bh.rollout(net, jnp.full((500, 1), 0.5), record=("lif.V",))
    >>> print(seen["lif.V"][-1].round(4), int(spikes.sum()))
    [0.5] mV 0
    """
    call = "from_nir"
    dt = _arguments.quantity(dt, u.ms, call=call, name="dt", shapes=[()], positive=True)
    if reset is not None:
        _arguments.choice(reset, ("zero", "subtract"), call=call, name="reset")
    if discretisation is not None:
        _arguments.choice(discretisation, DISCRETISATIONS, call=call, name="discretisation")
    millivolts = None if voltage_unit is None else millivolts_in(voltage_unit, call)
    nir = nir_package(call)
    if isinstance(graph, (str, os.PathLike)):
        graph = _read(nir, graph, call)
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(
            f"{call}: graph must be a nir.NIRGraph or the path of a .nir file; got {_arguments.describe(graph)}."
        )
    problems = Problems(call)
    notes = noted(graph)
    if millivolts is None:
        millivolts = noted_number(notes, "millivolts_per_unit", problems, "pass voltage_unit=u.mV") or 1.0
    how = discretisation or noted_choice(notes, problems) or "exact"
    written_for = noted_number(notes, "dt_s", problems, "remove it")
    flat = read_graph(graph, problems)
    problems.raise_any()
    assert flat is not None
    seconds = float(dt.to(u.second).mantissa)
    if written_for is not None and abs(written_for / seconds - 1) > 1e-6:
        warnings.warn(
            f"{call}: the graph was written for dt = {written_for * 1000:g} ms and is read for {seconds * 1000:g} ms; "
            "time constants stay, but a spike is held for one step, so it now brings another charge.",
            UserWarning,
            stacklevel=2,
        )
    with brainstate.environ.context(dt=dt):
        net = NetBuilder(flat, Reading(dt, seconds, millivolts, how, reset), problems).net()
    problems.raise_any()
    assert net is not None
    return net


def _read(nir: Any, path: str | os.PathLike[str], call: str) -> Any:
    try:
        # What nir checks itself is checked here with the others, so that all is told at once.
        return nir.read(path, type_check=False)
    except FileNotFoundError:
        raise NIRError(call, [f"there is no file {os.fspath(path)!r}; give the path of a .nir file."]) from None
    except Exception as error:  # h5py and nir raise whatever they stumble over
        lines = str(error).strip().splitlines() or [""]
        raise NIRError(
            call,
            [
                f"{os.fspath(path)!r} is no sound NIR file ({type(error).__name__}: {lines[0].rstrip('.')}); write it "
                "again with nir.write."
            ],
        ) from error
