"""Import of a NIR graph or file as a network."""

from __future__ import annotations

import importlib
import math
import os
import warnings
from typing import Any, Literal, TypeVar

import brainstate
import brainunit as u

from brainhw import _arguments
from brainhw._files import NotRegularError, open_regular
from brainhw.interop.nir.errors import NIRError, Problems, nir_package
from brainhw.interop.nir.file_check import check_file
from brainhw.interop.nir.graph import read_graph
from brainhw.interop.nir.import_rules import NetBuilder
from brainhw.interop.nir.net import NIRNet
from brainhw.interop.nir.node_kinds import notes_of
from brainhw.interop.nir.steps import (
    CUBA_ORDERS,
    DISCRETISATIONS,
    IF_INPUTS,
    CubaOrder,
    Discretisation,
    IfInput,
    Options,
    millivolts_in,
)

__all__ = ["from_nir"]


def from_nir(
    graph: Any,
    *,
    dt: u.Quantity,
    voltage_unit: Any = None,
    discretisation: Discretisation | None = None,
    reset: Literal["zero", "subtract"] | None = None,
    cuba_order: CubaOrder | None = None,
    if_input: IfInput | None = None,
) -> NIRNet:
    r"""Convert a NIR graph to a network for a given time step.

    If brainhw cannot run a node exactly, ``from_nir`` raises an error. The equation of each node is solved for an input
    that is constant during a step. The solution of :math:`\tau\dot v = v_{leak} - v + R I` is

    .. math:: v' = \beta v + (1 - \beta)(R I + v_{leak}), \qquad \beta = e^{-\Delta t/\tau}

    The weights before a neuron are therefore multiplied by :math:`(1 - \beta) R`. Supported nodes: ``Input``,
    ``Output``, ``NIRGraph``, ``Affine``, ``Linear``, ``Scale``, ``Conv1d``, ``Conv2d``, ``SumPool2d``, ``AvgPool2d``,
    ``Flatten``, ``Delay`` of an integer number of time steps, ``Threshold``, ``I``, ``IF``, ``LI``, ``LIF``, ``CubaLI``
    and ``CubaLIF``. In the imported network, images have channels first.

    Parameters
    ----------
    graph : nir.NIRGraph, str or path
        The graph, or a ``.nir`` file.
    dt : Quantity
        Time step of the network. If the graph was written for a different time step, ``from_nir`` warns: a spike lasts
        for one step, so its effect grows with the time step.
    voltage_unit : Unit or Quantity, optional
        Voltage that 1 in the graph represents. Default: the value in brainhw's metadata, or else mV.
    discretisation : {'exact', 'euler'}, optional
        ``'exact'`` uses the equation above, and ``'euler'`` uses :math:`\beta = 1 - \Delta t/\tau`. Default: the value
        in brainhw's metadata, or else ``'exact'``.
    reset : {'zero', 'subtract'}, optional
        Whether a spike resets the membrane potential to zero or subtracts the threshold. Default: ``'zero'``, as in
        NIR. For layers that subtract in brainhw and were exported with ``to_nir(..., reset='continuous')``, the default
        is ``'subtract'``.
    cuba_order : {'together', 'current-first', 'old-current'}, optional
        How a step of ``CubaLIF`` and ``CubaLI`` solves its two equations. ``'together'`` is the exact solution of both.
        ``'current-first'`` updates the current first, and the new current drives the membrane potential (snnTorch,
        Norse). With ``'old-current'``, the current before its update drives the membrane potential, so the input acts
        one step later. Default: the value in brainhw's metadata, or else ``'together'`` with ``discretisation='exact'``
        and ``'current-first'`` with ``'euler'``.
    if_input : {'per-second', 'per-step'}, optional
        What an input ``x`` adds to the membrane potential of an ``IF`` node in one step. ``'per-second'`` adds
        :math:`R x \Delta t`, as in the equation of NIR. ``'per-step'`` adds :math:`R x`, as most other libraries do.
        Default: the value in brainhw's metadata, or else ``'per-second'``. If the neurons would hardly ever fire
        because of this default, ``from_nir`` warns.

    Returns
    -------
    NIRNet
        The network. Prepare and run it like any other network, with this ``dt``.

    Raises
    ------
    NIRError
        If the file cannot be read or the graph cannot be run. The message lists all nodes with a problem, and the
        reasons.
    TypeError, ValueError
        If an argument is invalid.
    ImportError
        If the packages nir and h5py are not installed.

    Examples
    --------
    For a constant current of 0.5 and R = 1, the membrane potential converges to 0.5:

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
    if cuba_order is not None:
        _arguments.choice(cuba_order, CUBA_ORDERS, call=call, name="cuba_order")
    if if_input is not None:
        _arguments.choice(if_input, IF_INPUTS, call=call, name="if_input")
    millivolts = None if voltage_unit is None else millivolts_in(voltage_unit, call)
    nir = nir_package(call)
    if isinstance(graph, (str, os.PathLike)):
        graph = _read(nir, graph, call)
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(
            f"{call}: graph must be a nir.NIRGraph or the path of a .nir file; got {_arguments.describe(graph)}."
        )
    problems = Problems(call)
    notes = notes_of(graph)
    if millivolts is None:
        millivolts = _noted_number(notes, "millivolts_per_unit", problems, "pass voltage_unit=u.mV") or 1.0
    how = _noted_choice(notes, "discretisation", DISCRETISATIONS, discretisation, problems) or "exact"
    if cuba_order == "together" and how == "euler":
        raise ValueError(
            f"{call}: cuba_order='together' requires discretisation='exact'; got 'euler'. Pass discretisation='exact', "
            "or cuba_order='current-first' or 'old-current'."
        )
    if_input = _noted_choice(notes, "if_input", IF_INPUTS, if_input, problems)
    written_for = _noted_number(notes, "dt_s", problems, "remove it")
    stretch = _stretch(notes, written_for, dt, problems)
    flat = read_graph(graph, problems, stretch)
    reading = Options(dt, millivolts, how, reset, cuba_order=cuba_order, if_input=if_input, as_dt=dt / stretch)
    if written_for is not None and abs(written_for * stretch / reading.seconds - 1) > 1e-6:
        warnings.warn(
            f"{call}: the graph was written for dt = {written_for * stretch * 1000:g} ms and is read for "
            f"{reading.seconds * 1000:g} ms. Time constants are unchanged, but a spike lasts for one step, so its "
            "charge changes.",
            UserWarning,
            stacklevel=2,
        )
    for words in flat.warnings:
        warnings.warn(f"{call}: {words}", UserWarning, stacklevel=2)
    with brainstate.environ.context(dt=dt):
        builder = NetBuilder(flat, reading, problems)
        net = builder.net()
    if builder.silent:
        least = min(builder.silent.values())
        warnings.warn(
            f"{call}: {', '.join(builder.silent)} (IF): even if every input is 1, a neuron needs at least {least:.3g} "
            "steps to fire, because the equation of NIR multiplies the input by dt. Most libraries omit this factor. "
            "Pass if_input='per-step' to match these libraries, or 'per-second' to keep the equation of NIR.",
            UserWarning,
            stacklevel=2,
        )
    return net


def _stretch(notes: dict[str, Any], written_for: float | None, dt: u.Quantity, problems: Problems) -> float:
    """Return the factor that restores the time constants and delays of a graph that was written with ``as_dt``.

    For other graphs, return 1. Also return 1 if ``dt`` equals ``as_dt``, because the file contains the correct time
    constants and delays for this time step.
    """
    own = _noted_number(notes, "net_dt_s", problems, "remove it")
    if own is None or written_for is None or abs(written_for / float(dt.to(u.second).mantissa) - 1) <= 1e-6:
        return 1.0
    return own / written_for


_Option = TypeVar("_Option", bound=str)

# The location that messages name for problems in the metadata.
_NOTES = ("the metadata", "written by brainhw")


def _noted_choice(
    notes: dict[str, Any], name: str, choices: tuple[_Option, ...], given: _Option | None, problems: Problems
) -> _Option | None:
    """Return the option that the caller passed, or else the one in the metadata, or else ``None``."""
    value = notes.get(name) if given is None else given
    if value is None or (isinstance(value, str) and value in choices):
        return value
    problems.add(*_NOTES, f"has {name} = {value!r}; pass {name}={choices[0]!r}.")
    return None


def _noted_number(notes: dict[str, Any], name: str, problems: Problems, fix: str) -> float | None:
    """Return a positive number from the metadata, or ``None`` if it is missing. Add a problem for an invalid value."""
    if name not in notes:
        return None
    try:
        value = float(notes[name])
    except (TypeError, ValueError):
        value = math.nan
    if not 0 < value < math.inf:
        problems.add(*_NOTES, f"has {name} = {notes[name]!r}, expected a positive number; {fix}.")
        return None
    return value


def _read(nir: Any, path: str | os.PathLike[str], call: str) -> Any:
    try:
        with open_regular(path):  # if the path is a pipe, HDF5 would wait for a writer
            pass
        fault = check_file(importlib.import_module("h5py"), path)
        if fault is not None:
            raise NIRError(call, [f"{os.fspath(path)!r} {fault}; write it again with nir.write."])
        # No type check by nir, because it stops at the first fault. brainhw reports all faults in one error.
        return nir.read(path, type_check=False)
    except NIRError:
        raise
    except NotRegularError as error:
        raise NIRError(call, [f"{os.fspath(path)!r} is not a regular file ({error.strerror})."]) from None
    except FileNotFoundError:
        words = f"the NIR file {os.fspath(path)!r} does not exist; pass the path of a .nir file."
        raise NIRError(call, [words]) from None
    except Exception as error:  # h5py and nir raise many error classes for a corrupted file
        lines = str(error).strip().splitlines() or [""]
        reason = f"{type(error).__name__}: {lines[0].rstrip('.')}"
        words = f"{os.fspath(path)!r} is not a valid NIR file ({reason}); write it again with nir.write."
        raise NIRError(call, [words]) from error
