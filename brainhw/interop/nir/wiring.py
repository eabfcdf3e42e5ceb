"""What feeds what in a network: every module that one traced step calls, and where its input comes from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from brainhw.interop.nir.errors import Problems
from brainhw.nn import EffectiveWeight, MultiSynapseLayer, SpikingLayer
from brainhw.nn.tap import Wires, hidden_values, listening, same_value, tap_wire
from brainhw.transform.checks import registered_modules
from brainhw.transform.prepare import prepare_net
from brainhw.transform.trace import in_one_line, put_back_on_failure

__all__ = ["INPUT", "Call", "Wiring", "told_class", "wiring_of"]

# The path that stands for the input of the network where that of a module is expected.
INPUT = "input"


class Call(NamedTuple):
    """One module that a step calls.

    Attributes
    ----------
    path : str
        Its dotted path.
    module : brainstate.nn.Module
        The module.
    source : str
        Path of the module whose output it takes, or ``"input"``.
    takes, gives : brainunit.Unit
        Units of what goes in and comes out; mV for every voltage.
    """

    path: str
    module: Any
    source: str
    takes: u.Unit
    gives: u.Unit


class Wiring(NamedTuple):
    """One step of a network.

    Attributes
    ----------
    calls : dict
        What it calls, by path, in order.
    output : str
        Path of the module whose output the network returns.
    given : Any
        An input that the network takes: an array or Quantity of one step.
    returned_unit : brainunit.Unit
        Unit of what it returns.
    """

    calls: dict[str, Call]
    output: str
    given: Any
    returned_unit: u.Unit

    def needed(self) -> Wiring:
        """Return the wiring without the calls that the output does not depend on."""
        behind = {self.output}
        for path, call in reversed(self.calls.items()):
            behind |= {call.source} if path in behind else set()
        return self._replace(calls={path: call for path, call in self.calls.items() if path in behind})


def wiring_of(net: brainstate.nn.Module, dt: u.Quantity, sample: Any, problems: Problems) -> Wiring | None:
    """Trace one step and return its wiring; what cannot be told becomes a problem, with ``None`` if nothing can.

    The network is prepared by it; the caller puts the states back.
    """
    named = {path or type(net).__name__: module for path, module in registered_modules(net)}
    failure = None
    for x in [sample] if sample is not None else _likely_inputs(named):
        shape = jnp.shape(u.get_mantissa(x))
        try:
            prepare_net(net, shape[0] if len(shape) > 1 else None)
            return _traced(net, named, x, dt, problems)
        except Exception as error:  # whatever a network from outside raises, it is to be told
            failure = failure or error
    words = "no module says how wide its input is" if failure is None else in_one_line(failure)
    fix = "Pass sample=, an input [T, N] that the network takes." if sample is None else "Mend the network or sample."
    problems.add("the network", type(net).__name__, f"cannot be run for one step: {words.rstrip('.')}. {fix}")
    return None


def _likely_inputs(named: dict[str, Any]) -> list[Any]:
    """Return inputs that the network may take, that of the module registered first before the others."""
    found: dict[tuple[Any, ...], Any] = {}
    for module in named.values():
        size = getattr(module, "in_size", None)
        if not isinstance(size, tuple) or isinstance(module, (EffectiveWeight, brainstate.nn.Param)):
            continue
        unit = u.UNITLESS
        if isinstance(module, (SpikingLayer, MultiSynapseLayer)):
            unit = getattr(module, "drive_unit", u.mV)
        for batch in ((), (1,)):
            zeros = jnp.zeros((*batch, size[-1]), brainstate.environ.dftype())
            found.setdefault((*batch, size[-1], str(unit)), zeros if unit == u.UNITLESS else zeros * unit)
    return sorted(found.values(), key=lambda x: len(x.shape))


def _traced(net: Any, named: dict[str, Any], x: Any, dt: u.Quantity, problems: Problems) -> Wiring | None:
    paths = {id(module): path for path, module in named.items()}
    for path, module in named.items():
        if _is_known_base(type(module)) and told_class(module) is None:
            what = "changes what its class does in a step, so that its parameters do not tell it"
            problems.add(path, type(module).__name__, f"{what}; use the class itself.")
    silent = [module for module in named.values() if _tells_nothing(module)]
    told: dict[str, Any] = {}

    def one_step(x: Any) -> None:
        began = {id(module): hidden_values(module) for module in named.values()}
        wires = Wires()
        with listening(wires), _overheard(silent):
            returned = net(x)
        told["wiring"] = _told(x, wires, returned, named, paths, problems)
        for owner, wire in wires.calls:
            if owner in paths and not wire.is_all(named[paths[owner]], began[owner]):
                what = type(named[paths[owner]]).__name__
                problems.add(paths[owner], what, "has states that something else writes to as well; NIR has no form.")
            with jax.ensure_compile_time_eval():  # a change of unit would be traced
                same = wire.dt is dt or bool(u.math.allclose(wire.dt, dt))
            if owner in paths and not same:
                what = type(named[paths[owner]]).__name__
                problems.add(paths[owner], what, "runs with a time step of its own; a graph is read with one.")

    stepped = brainstate.transform.StatefulFunction(one_step, name="wiring_of")
    with put_back_on_failure(net):
        stepped.make_jaxpr(x)
        written = stepped.get_write_states(x)
    wiring = told["wiring"]
    if wiring is not None:
        _check_written(net, wiring, written, problems)
    return wiring


def _tells_nothing(module: Any) -> bool:
    """Whether a module must be listened to from outside: it computes something, alone, and does not tell its wires."""
    if isinstance(module, (brainstate.nn.Param, EffectiveWeight)):
        return False
    if isinstance(module, (MultiSynapseLayer, brainstate.nn.Linear)):
        return True
    if type(module).__module__.startswith("brainhw.nn."):
        return False
    return type(module).update is not brainstate.nn.Module.update and _is_foreign_leaf(module)


def _is_foreign_leaf(module: Any) -> bool:
    """Whether a module from elsewhere has none inside, so that what it does is its own."""
    parts = (brainstate.nn.Param, EffectiveWeight)
    inner = [m for _, m in registered_modules(module) if m is not module and not isinstance(m, parts)]
    return not inner and not isinstance(module, parts) and not _is_known_base(type(module))


def _is_known_base(kind: type) -> bool:
    return any(base.__module__.startswith("brainhw.nn.") and "update" in vars(base) for base in kind.__mro__)


@contextlib.contextmanager
def _overheard(modules: list[Any]) -> Iterator[None]:
    """Let modules tell their wires that do not do so themselves, while the block runs."""
    own = [vars(module).get("update") for module in modules]
    for module in modules:
        vars(module)["update"] = _telling(module, module.update)
    try:
        yield
    finally:
        for module, update in zip(modules, own, strict=True):
            del vars(module)["update"]
            if update is not None:
                vars(module)["update"] = update


def _telling(module: Any, update: Any) -> Any:
    def told(*given: Any, **options: Any) -> Any:
        before = hidden_values(module)
        gave = update(*given, **options)
        tap_wire(module, given[0] if len(given) == 1 and not options else (given, options), gave, before)
        return gave

    return told


def _told(
    x: Any, wires: Wires, returned: Any, named: dict[str, Any], paths: dict[int, str], problems: Problems
) -> Wiring | None:
    outputs: list[tuple[Any, str]] = [(x, INPUT)]
    calls: dict[str, Call] = {}
    heard = {owner for owner, _ in wires.calls}
    unknown = [f"{p} ({type(m).__name__})" for p, m in named.items() if id(m) not in heard and _is_foreign_leaf(m)]
    unheard = f"; not known as synapse, layer or readout: {', '.join(unknown)}" if unknown else ""
    for owner, wire in wires.calls:
        if owner not in paths or _same(wire.given, wire.gave):  # one that hands on its input, as dropout when tested
            continue
        path, module = paths[owner], named[paths[owner]]
        if path in calls:
            problems.add(path, type(module).__name__, "is called more than once in a step; use one module for each.")
            continue
        source = next((name for value, name in reversed(outputs) if _same(value, wire.given)), None)
        if source is None:
            problems.add(
                path,
                type(module).__name__,
                "takes what is neither the input of the network nor the unchanged output of one module in this step; "
                f"hand outputs on as they are, since what is computed in between has no NIR form{unheard}.",
            )
            source = INPUT
        calls[path] = Call(path, module, source, _coherent(wire.given), _coherent(wire.gave))
        outputs.append((wire.gave, path))
    output = next((name for value, name in reversed(outputs) if _same(value, returned)), None)
    if output is None or output == INPUT:
        problems.add(
            "the network", "its output", f"is not what one module gives; return the output of one module{unheard}."
        )
        return None
    return Wiring(calls, output, x, u.get_unit(returned))


def _coherent(value: Any) -> u.Unit:
    """Return the unit in which a graph is worked out: mV of voltages, none of ratios, else the value's own."""
    unit = u.get_unit(value) if isinstance(value, (jax.Array, u.Quantity)) else u.UNITLESS
    for other in (u.mV, u.UNITLESS):
        if u.have_same_dim(unit, other):
            return other
    return unit


def _same(one: Any, other: Any) -> bool:
    arrays = (jax.Array, u.Quantity)
    return isinstance(one, arrays) and isinstance(other, arrays) and same_value(one, other)


def _check_written(net: Any, wiring: Wiring, written: Any, problems: Problems) -> None:
    known = {id(state) for call in wiring.calls.values() for state in call.module.states().values()}
    others = {id(state): ".".join(map(str, path)) for path, state in net.states().items() if id(state) not in known}
    noisy = any(getattr(call.module, "noise_std", None) is not None for call in wiring.calls.values())
    for state in written:
        if id(state) not in known and not (noisy and state is brainstate.random.DEFAULT):
            where = others.get(id(state), "a random number" if state is brainstate.random.DEFAULT else "a state")
            problems.add(where, type(state).__name__, "is written in a step outside of any module that NIR has.")


def told_class(module: Any) -> type | None:
    """Return the class of ours, or of brainstate, whose step a module takes; ``None`` if its own class changes it."""
    changed = replaced_on_instance(module)
    for kind in type(module).__mro__:
        if kind.__module__.split(".")[0] in ("brainhw", "brainstate"):
            return None if any(hasattr(kind, name) for name in changed) else kind
        changed |= {name for name in vars(kind) if not name.startswith(("__", "_abc_"))}
    return None


def replaced_on_instance(module: Any) -> set[str]:
    """Return the names of methods that were put on the module itself, before those of its class."""
    own = type(module)
    return {name for name, value in vars(module).items() if callable(value) and callable(getattr(own, name, None))}
