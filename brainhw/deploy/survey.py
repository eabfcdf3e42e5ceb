"""Survey of a network: the modules that are on a chip, and the connections between them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from brainhw import _arguments, _records
from brainhw.chip import ChipSpec, Family, UnknownFamilyError, get_family
from brainhw.nn import ChipWeight, chip_weights
from brainhw.nn.ranges import check_ranges
from brainhw.transform.prepare import prepare_net, states_restored
from brainhw.transform.trace import Call, StepTrace, Value, in_one_line, registered_modules, trace_step

__all__ = ["INPUT", "Stage", "Survey", "role_of", "survey"]

# Name of the input of the network, used in place of the path of a layer.
INPUT = "input"


@dataclass(frozen=True)
class Stage:
    """A synapse or frontend, the layer that it drives, and the source of its input.

    Attributes
    ----------
    source : str
        Path of the layer that provides the input, or ``"input"``.
    synapse_path, layer_path : str
        Paths of the synapse or frontend, and of the layer.
    is_frontend : bool
        Whether the synapse is the frontend.
    """

    source: str
    synapse_path: str
    layer_path: str
    is_frontend: bool

    def __post_init__(self) -> None:
        text = _arguments.text
        _records.check_fields(self, source=text, synapse_path=text, layer_path=text, is_frontend=_arguments.flag)


@dataclass(frozen=True)
class Survey:
    """The modules of a network that are on a chip, and their connections.

    Attributes
    ----------
    chips : dict
        The chip of each module, by path.
    synapses, frontends, layers : dict
        The modules by path, in registration order.
    weights : dict
        Every array of weights on a chip, by the path of the module that owns it.
    foreign : dict
        Modules that are not on a chip but have parameters or states, by path.
    stages : tuple of Stage
        The stages of one step that were found, in execution order.
    output : str or None
        Path of the layer whose spikes the network returns.
    tangles : dict
        Descriptions of connections that a chip does not support, by the path of the module.
    failure : str or None
        The error that the traced step raised, if it failed.
    """

    chips: dict[str, ChipSpec]
    synapses: dict[str, Any]
    frontends: dict[str, Any]
    layers: dict[str, Any]
    weights: dict[str, ChipWeight]
    foreign: dict[str, Any]
    stages: tuple[Stage, ...] = ()
    output: str | None = None
    tangles: dict[str, str] = field(default_factory=dict)
    failure: str | None = None

    @property
    def chip(self) -> ChipSpec:
        """The chip of the network; if its modules have different chips, the chip of the first module."""
        return next(iter(self.chips.values()))

    @property
    def family(self) -> Family:
        """The family of the chip."""
        return get_family(self.chip.family)

    def n_neurons(self, path: str) -> int:
        """Return the number of neurons of a layer."""
        return math.prod(self.layers[path].out_size)

    def is_recurrent(self, path: str) -> bool:
        """Return whether a layer is recurrent."""
        return getattr(self.layers[path], "topology", "FF") == "RC"


def role_of(module: Any) -> str | None:
    """Return ``'synapse'``, ``'layer'`` or ``'frontend'`` if a module belongs to a chip family, otherwise ``None``."""
    name = getattr(module, "family", None)
    if not isinstance(name, str) or not isinstance(getattr(module, "chip", None), ChipSpec):
        return None
    try:
        modules = get_family(name).modules
    except UnknownFamilyError:
        return None
    return next((role for role, kind in modules.items() if isinstance(module, kind)), None)


def survey(net: brainstate.nn.Module, *, call: str) -> Survey:
    """List the modules of ``net`` by role, and trace one time step of ``net`` to find their connections.

    The network itself is not modified.
    """
    _arguments.check_module(net, call=call)
    if _arguments.inside_jit():
        raise RuntimeError(f"{call}: weights cannot be read inside jit. Call it outside of jit.")
    # The network can be a single layer or synapse. Such a module has no path, so the name of its class is used.
    named = {path or type(module).__name__: module for path, module in registered_modules(net)}
    roles = {path: role for path, module in named.items() if (role := role_of(module)) is not None}
    if not roles:
        raise ValueError(f"{call}: the network has no module on a chip. Build it with modules of a chip family.")
    check_ranges(net, call=call)
    weights = chip_weights(net)
    # Effective weights are modules with states, but they are parts of synapses and layers, so they are not listed.
    parts = {id(weight.effective) for weight in weights.values()}
    of_role = {kind: {path: named[path] for path, role in roles.items() if role == kind} for kind in _ROLES}
    return Survey(
        chips={path: named[path].chip for path in roles},
        synapses=of_role["synapse"],
        frontends=of_role["frontend"],
        layers=of_role["layer"],
        weights=weights,
        foreign={
            path: module
            for path, module in named.items()
            if path not in roles and id(module) not in parts and _holds_states(module)
        },
        **_wiring(net, named, roles),
    )


_ROLES = ("synapse", "frontend", "layer")


def _holds_states(module: Any) -> bool:
    if isinstance(module, brainstate.nn.Param):
        return True
    own = jax.tree.leaves(
        [value for name, value in vars(module).items() if name not in module.graph_invisible_attrs],
        is_leaf=lambda leaf: isinstance(leaf, (brainstate.State, brainstate.graph.Node)),
    )
    return any(isinstance(leaf, brainstate.State) for leaf in own)


def _wiring(net: brainstate.nn.Module, named: dict[str, Any], roles: dict[str, str]) -> dict[str, Any]:
    """Trace one step. Return the `Survey` fields ``stages``, ``output`` and ``tangles``, or only ``failure``."""
    # The connections do not depend on the time step, but some networks only run with their own time step.
    own = getattr(net, "dt", None)
    dt = own if isinstance(own, u.Quantity) else brainstate.environ.get("dt", default=1.0 * u.ms)
    failure = None
    # fit=False, because with fit=True and stochastic rounding, preparing the network would advance the global random
    # state.
    with states_restored(net, keep_weights=False), brainstate.environ.context(dt=dt, fit=False):
        for shape in _input_shapes(named, roles):
            try:
                # A step with a NaN weight may raise an error. The weights can be replaced, because the
                # connections do not depend on them.
                for state in net.states(brainstate.ParamState).values():
                    state.value = jax.tree.map(jnp.nan_to_num, state.value)
                prepare_net(net, shape[0] if len(shape) > 1 else None)
                step = trace_step(net, jnp.zeros(shape, brainstate.environ.dftype()))
            except Exception as error:  # user code may raise any error, and the report shows it
                failure = failure or in_one_line(error)
            else:
                return _read(step, dt, named, roles)
    return {"failure": failure}


def _input_shapes(named: dict[str, Any], roles: dict[str, str]) -> list[tuple[int, ...]]:
    """Return candidate shapes of the network's input: ``[N]`` for each input width of a module, then ``[1, N]``."""
    # A network does not declare its input shape, so candidates are tried. Layers are omitted, because their input is
    # the drive from a synapse, not the input of the network.
    takers = [(path, module) for path, module in named.items() if not isinstance(module, brainstate.nn.Dynamics)]
    takers.sort(key=lambda pair: roles.get(pair[0]) != "frontend")
    sizes = [module.in_size[-1] for _, module in takers if isinstance(getattr(module, "in_size", None), tuple)]
    widths = list(dict.fromkeys(sizes)) or [1]
    return [*((n,) for n in widths), *((1, n) for n in widths)]


def _read(step: StepTrace, dt: u.Quantity, named: dict[str, Any], roles: dict[str, str]) -> dict[str, Any]:
    """Return the fields ``stages``, ``output`` and ``tangles`` of a `Survey` for a traced step.

    Two modules are connected if the output of one and the input of the other are the same traced value. An operation
    between them breaks this connection.
    """
    paths = {id(named[path]): path for path in roles}
    spikes: list[tuple[Value, str]] = [(step.given, INPUT)]
    charges: list[tuple[Value, str, str]] = []
    stages: list[Stage] = []
    tangles: dict[str, str] = {}
    seen: set[str] = set()
    calls = [(paths[id(call.module)], call) for call in step.calls if id(call.module) in paths]
    for path, call in calls:
        if path in seen:
            tangles[path] = "it is called more than once in a step"
            continue
        seen.add(path)
        if roles[path] != "layer":
            source = next((name for value, name in spikes if value.same(call.given)), None)
            if source is None:
                tangles[path] = "its input is neither that of the network nor the spikes of a layer in this step"
            else:
                charges.append((call.gave, path, source))
            continue
        spikes.append((call.gave, path))
        feeding = next(((syn, source) for charge, syn, source in charges if charge.same(call.given)), None)
        if feeding is None:
            tangles[path] = "its drive is not the output of one synapse"
        elif any(stage.synapse_path == feeding[0] for stage in stages):
            tangles[feeding[0]] = "it drives more than one layer"
        else:
            stages.append(Stage(feeding[1], feeding[0], path, roles[feeding[0]] == "frontend"))
    used = {part for stage in stages for part in (stage.synapse_path, stage.layer_path)}
    for path in roles:
        # If a module has unsupported connections, the stages of later modules cannot always be found. Then report only
        # the connections of this module.
        if path not in used and path not in tangles and not tangles.keys() & used:
            tangles[path] = "it is not used in the step" if path not in seen else "its output drives no layer"
    output = next((name for value, name in spikes[1:] if value.same(step.returned)), None)
    if output is None and not tangles:
        tangles[next(iter(roles))] = "the network does not return the spikes of exactly one layer"
    for path, what in _changed_layers(calls, dt, roles):
        tangles.setdefault(path, what)
    return {"stages": tuple(stages), "output": output, "tangles": tangles}


def _changed_layers(calls: list[tuple[str, Call]], dt: u.Quantity, roles: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each layer whose states or time step are set by code outside the layer, with a description of the fault."""
    for path, call in calls:
        if roles[path] != "layer":
            continue
        if not call.owns_states:
            yield path, "its membrane potential or spikes are overwritten from outside"
        if call.dt is not dt and not bool(u.math.allclose(call.dt, dt)):
            yield path, "it runs with a different time step"
