"""Connections between the modules of a network, found by tracing one time step."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from brainhw.interop.nir.errors import Problems
from brainhw.transform.prepare import prepare_net
from brainhw.transform.rollout import time_and_batch
from brainhw.transform.trace import Link, StepTrace, Value, in_one_line, registered_modules, trace_step

__all__ = ["INPUT", "Call", "Wiring", "wiring_of"]

# Used in place of the path of a module for the input of the network.
INPUT = "input"


class Call(NamedTuple):
    """One call of a module in a time step.

    ``source`` is the path of the module that provides the input, or ``"input"``. ``takes`` and ``gives`` are the units
    of input and output; the unit of a voltage is always mV. ``size_in`` and ``size_out`` are the shapes of input and
    output without the batch axis.
    """

    path: str
    module: Any
    source: str
    takes: u.Unit
    gives: u.Unit
    size_in: tuple[int, ...] = ()
    size_out: tuple[int, ...] = ()
    batched: bool = False


class Wiring(NamedTuple):
    """The module calls in a time step, in execution order. Keys are the paths of the modules.

    ``output`` is the path of the module that returns the output of the network. ``given`` and ``returned`` are the
    input and output of the network in the traced step. ``size_in`` and ``size_out`` are their shapes without the batch
    axis.
    """

    calls: dict[str, Call]
    output: str
    given: Value
    returned: Value
    size_in: tuple[int, ...]
    size_out: tuple[int, ...]

    def targets(self, path: str) -> list[Any]:
        """Return the modules that receive the output of a module. ``None`` stands for the output of the network."""
        fed = [call.module for call in self.calls.values() if call.source == path]
        return [*fed, None] if path == self.output else fed


def wiring_of(net: brainstate.nn.Module, dt: u.Quantity, sample: Any, problems: Problems) -> Wiring | None:
    """Trace one time step and return the connections between the modules of a network.

    If the network cannot be run or a module has a fault, add problems and return ``None`` or incomplete connections.
    The function calls `prepare_net`. The caller must restore the states of the network.
    """
    failure = None
    likely = _likely_inputs(net) if sample is None else [(sample[0], time_and_batch(net, sample, call="to_nir")[1])]
    for x, batch_size in likely:
        try:
            prepare_net(net, batch_size)
            return _wiring(net, trace_step(net, x, call="to_nir"), dt, batch_size is not None, problems)
        except Exception as error:  # user code may raise any error
            # The first candidate is the most likely input, so its error is reported.
            failure = failure or in_one_line(error)
    words = failure or "no module specifies the width of its input"
    fix = "Correct the network or sample."
    if sample is None:
        fix = "Pass sample=, an input [T, N] that the network accepts; for images, the image axes replace N."
    problems.add("the network", type(net).__name__, f"cannot be run for one step: {words.rstrip('.')}. {fix}")
    return None


def _likely_inputs(net: brainstate.nn.Module) -> list[tuple[Any, int | None]]:
    """Return inputs that the network may accept, each with its batch size.

    Inputs without a batch axis come before those with one. Within each group, the inputs are in the order in which the
    modules were registered. For each module, an input with its full input shape comes before an input with only the
    last axis of this shape.
    """
    found: dict[tuple[Any, ...], tuple[Any, int | None]] = {}
    for _, module in registered_modules(net):
        size = getattr(module, "in_size", None)
        if not isinstance(size, tuple) or not size:
            continue
        # A layer with a threshold takes voltages unless it specifies its own unit. Other modules take plain numbers.
        unit = getattr(module, "drive_unit", u.mV if hasattr(type(module), "threshold") else u.UNITLESS)
        for axes in (tuple(size), (size[-1],)):
            for batch in ((), (1,)):
                zeros = jnp.zeros((*batch, *axes), brainstate.environ.dftype())
                x = zeros if unit == u.UNITLESS else zeros * unit
                found.setdefault((batch, axes, str(unit)), (x, 1 if batch else None))
    return sorted(found.values(), key=lambda pair: pair[1] is not None)


def _wiring(net: Any, step: StepTrace, dt: u.Quantity, batched: bool, problems: Problems) -> Wiring | None:
    outputs: list[tuple[Value, str]] = [(step.given, INPUT)]
    calls: dict[str, Call] = {}
    undetected = _undetected_modules(net, step)

    def origin(value: Value) -> str | None:
        same = next((name for made, name in reversed(outputs) if made.same(value)), None)
        if same is not None:
            return same
        # `x * u.mV` attaches a unit to plain numbers and does not change them.
        return next((name for made, name in reversed(outputs) if _only_unit_differs(made, value)), None)

    def size(value: Value) -> tuple[int, ...]:
        return value.shape[1:] if batched else value.shape

    def computed_from(value: Value) -> str:
        link = step.link(value, [made for made, _ in outputs])
        sources = () if link is None else link.sources
        names = [name for made, name in outputs if any(made is source for source in sources)]
        if link is not None and _is_sum(link):
            return (
                f" (it is the sum of {' and '.join(names)}; NIR sums the edges into a node, but to_nir cannot export "
                "sums: merge the summands into one module, with concatenated inputs)"
            )
        return f" (it is computed from {', '.join(names)})" if names else ""

    for traced in step.calls:
        if traced.given.same(traced.gave):  # a module that passes its input on, like dropout outside of training
            continue
        module, path = traced.module, traced.path or type(net).__name__
        kind = type(module).__name__
        if not traced.owns_states:
            problems.add(path, kind, "has states that are also written outside of it, which NIR cannot represent.")
        if traced.dt is not dt and not np.isclose(_milliseconds(traced.dt), _milliseconds(dt), rtol=1e-5, atol=0):
            problems.add(path, kind, "runs with its own time step, but a graph has a single time step.")
        if path in calls:
            problems.add(path, kind, "is called more than once in a step; use a separate module for each call.")
            continue
        source = origin(traced.given)
        if source is None:
            problems.add(
                path,
                kind,
                "takes an input that is neither the input of the network nor the unchanged output of one module in "
                f"this step{computed_from(traced.given)}. Pass outputs on unchanged, because NIR cannot represent a "
                f"computation between modules{undetected}.",
            )
            source = INPUT
        units = _graph_unit(traced.given), _graph_unit(traced.gave)
        calls[path] = Call(path, module, source, *units, size(traced.given), size(traced.gave), batched)
        outputs.append((traced.gave, path))
    output = origin(step.returned)
    if output is None or output == INPUT:
        words = f"is not the output of one module{computed_from(step.returned)}"
        problems.add("the network", "its output", f"{words}. Return the output of one module unchanged{undetected}.")
        return None
    _check_written(net, calls, step, problems)
    # Modules that do not affect the output are omitted, because `from_nir` rejects a node without an output edge.
    used = {output}
    for path, call in reversed(calls.items()):
        if path in used:
            used.add(call.source)
    used_calls = {path: call for path, call in calls.items() if path in used}
    return Wiring(used_calls, output, step.given, step.returned, size(step.given), size(step.returned))


def _only_unit_differs(made: Value, value: Value) -> bool:
    """Return whether two values contain the same elements, and each is in mV or without a unit."""
    known = (u.UNITLESS, u.mV)
    return made.ids == value.ids and made.likes == value.likes and made.unit in known and value.unit in known


def _is_sum(link: Link) -> bool:
    """Test with random numbers whether a computation is the sum of its sources."""
    if len(link.sources) < 2 or link.states or any(len(source.likes) != 1 for source in link.sources):
        return False
    rng = np.random.default_rng(0)
    drawn = [source.holding([jnp.asarray(rng.normal(size=source.shape), np.float32)]) for source in link.sources]
    try:
        total = drawn[0]
        for one in drawn[1:]:
            total = total + one
        return bool(u.math.allclose(link(*drawn), total, rtol=1e-4))
    except Exception:  # the shapes or units cannot be added
        return False


def _undetected_modules(net: Any, step: StepTrace) -> str:
    """Return a text that lists the modules that a trace cannot detect, because they override ``__call__``."""
    traced = {id(call.module) for call in step.calls}
    names = [
        f"{path} ({type(module).__name__})"
        for path, module in registered_modules(net)
        if type(module).__call__ is not brainstate.nn.Module.__call__ and id(module) not in traced
        if not isinstance(module, brainstate.nn.Param) and len(registered_modules(module)) == 1
    ]
    return f"; not recognised as synapse, layer or readout: {', '.join(names)}" if names else ""


def _milliseconds(dt: Any) -> float:
    return float("nan") if dt is None else float(dt.to(u.ms).mantissa)


def _graph_unit(value: Value) -> u.Unit:
    """Return the unit used in the graph: mV for voltages, no unit for ratios, otherwise the unit of the value."""
    for other in (u.mV, u.UNITLESS):
        if u.have_same_dim(value.unit, other):
            return other
    return value.unit


def _check_written(net: Any, calls: dict[str, Call], step: StepTrace, problems: Problems) -> None:
    """Add a problem for each state that a step writes outside of the called modules.

    A graph cannot contain such a state.
    """
    known = {id(state) for call in calls.values() for state in call.module.states().values()}
    paths = {id(state): ".".join(map(str, path)) for path, state in net.states().items()}
    # The export rule of a layer with noise already reports its random numbers.
    noisy = any(getattr(call.module, "noise_std", None) is not None for call in calls.values())
    for state in step.written:
        is_random = state is brainstate.random.DEFAULT
        if id(state) not in known and not (noisy and is_random):
            where = paths.get(id(state), "a random number" if is_random else "a state")
            problems.add(where, type(state).__name__, "is written in a step outside of the modules of the graph.")
