"""What a network consists of, seen from a chip: its modules, and what feeds what."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from brainhw import _arguments
from brainhw.chip import ChipSpec
from brainhw.init.batches import states_restored
from brainhw.nn import ChipWeight, EffectiveWeight, H1Frontend, H1Layer, H1Synapse, chip_weights
from brainhw.nn.tap import listening
from brainhw.transform.checks import check_module
from brainhw.transform.prepare import prepare_net
from brainhw.transform.registration import registered_modules

__all__ = ["INPUT", "Stage", "Survey", "survey"]

# The path that stands for the input of the network where that of a layer is expected.
INPUT = "input"


@dataclass(frozen=True)
class Stage:
    """A synapse or frontend, the layer that it drives, and where its input comes from.

    Attributes
    ----------
    source : str
        Path of the layer whose spikes come in, or ``"input"``.
    synapse_path, layer_path : str
        Paths of the two modules.
    synapse, layer : H1Synapse or H1Frontend, H1Layer
        The modules.
    """

    source: str
    synapse_path: str
    synapse: Any
    layer_path: str
    layer: H1Layer

    @property
    def is_frontend(self) -> bool:
        """Whether this is the frontend."""
        return isinstance(self.synapse, H1Frontend)


@dataclass(frozen=True)
class Survey:
    """A network as far as a chip is concerned.

    Attributes
    ----------
    chips : dict
        The chip that each module is built on, by path.
    synapses, frontends, layers : dict
        The modules by path, in registration order.
    weights : dict
        Every weight on a chip, by the path of its owner.
    foreign : dict
        Modules with parameters or states of their own that no chip has, by path.
    stages : tuple of Stage
        What runs in one step, in order; only what could be told.
    output : str or None
        Path of the layer whose spikes the network returns.
    tangles : dict
        Where wiring was found that no chip has: path to what was found.
    failure : str or None
        Why the network could not be run for one step, if it could not.
    """

    chips: dict[str, ChipSpec]
    synapses: dict[str, H1Synapse]
    frontends: dict[str, H1Frontend]
    layers: dict[str, H1Layer]
    weights: dict[str, ChipWeight]
    foreign: dict[str, Any]
    stages: tuple[Stage, ...] = ()
    output: str | None = None
    tangles: dict[str, str] = field(default_factory=dict)
    failure: str | None = None

    @property
    def chip(self) -> ChipSpec:
        """The one chip of the network; the first where they are mixed."""
        return next(iter(self.chips.values()))


def survey(net: brainstate.nn.Module, *, call: str) -> Survey:
    """Look at every module of ``net``, and trace one step of it; nothing is changed.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is no module, or has none on a chip.
    """
    check_module(net, call=call)
    modules = registered_modules(net)
    if not _arguments.is_concrete(jnp.zeros(())):
        raise RuntimeError(f"{call}: it looks at weights, which jit hides; call it outside of jit.")
    named = {path or type(module).__name__: module for path, module in modules}
    chips = {path: module.chip for path, module in named.items() if _on_chip(module)}
    if not chips:
        raise ValueError(f"{call}: the network has no module on a chip; build it with H1v1 or H1v2 modules.")
    parts: dict[str, Any] = {
        "chips": chips,
        "synapses": {path: m for path, m in named.items() if isinstance(m, H1Synapse)},
        "frontends": {path: m for path, m in named.items() if isinstance(m, H1Frontend)},
        "layers": {path: m for path, m in named.items() if isinstance(m, H1Layer)},
        "weights": chip_weights(net),
        "foreign": {path: m for path, m in named.items() if _is_foreign(m)},
    }
    return Survey(**parts, **_wiring(net, named))


def _on_chip(module: Any) -> bool:
    return isinstance(module, (H1Synapse, H1Frontend, H1Layer))


def _is_foreign(module: Any) -> bool:
    if _on_chip(module) or isinstance(module, EffectiveWeight):
        return False
    if isinstance(module, brainstate.nn.Param):
        return True
    own = jax.tree.leaves(
        [value for name, value in vars(module).items() if name not in module.graph_invisible_attrs],
        is_leaf=lambda leaf: isinstance(leaf, (brainstate.State, brainstate.graph.Node)),
    )
    return any(isinstance(leaf, brainstate.State) for leaf in own)


class _Calls(dict[tuple[int, str], Any]):
    """Everything that modules offered, each time anew and in order."""

    def __init__(self) -> None:
        super().__init__()
        self.wires: list[tuple[int, Any, Any]] = []

    def __setitem__(self, key: tuple[int, str], value: Any) -> None:
        if key[1] == "wires":
            self.wires.append((key[0], *value))


def _wiring(net: brainstate.nn.Module, named: dict[str, Any]) -> dict[str, Any]:
    """Return stages, output and tangles of one step, or the reason why there was none."""
    paths = {id(module): path for path, module in named.items() if _on_chip(module)}
    # A layer takes a drive; what the network takes, its first synapse does.
    takers = (m for m in named.values() if not isinstance(m, brainstate.nn.Dynamics))
    first = next((m for m in takers if isinstance(getattr(m, "in_size", None), tuple)), None)
    n_in = 1 if first is None else first.in_size[-1]
    told: dict[str, Any] = {}

    def one_step() -> None:
        calls = _Calls()
        x = jnp.zeros(n_in, brainstate.environ.dftype())
        _make_finite(net)
        prepare_net(net)
        with listening(calls):
            returned = net(x)
        told.update(_traced(x, calls.wires, returned, named, paths))

    with contextlib.ExitStack() as stack:
        stack.enter_context(states_restored(net, keep_weights=False))
        # What feeds what does not depend on the time step, but a net may be made for one.
        own = getattr(net, "dt", None)
        dt = own if isinstance(own, u.Quantity) else 1.0 * u.ms
        stack.enter_context(brainstate.environ.context(dt=dt, fit=False))
        try:
            # Traced only: who feeds whom shows without computing, or compiling, anything.
            brainstate.transform.StatefulFunction(one_step).make_jaxpr()
        except Exception as error:  # whatever a network from outside raises, it is to be told and not to be raised
            return {"failure": _in_one_line(error)}
    return told


def _make_finite(net: brainstate.nn.Module) -> None:
    """Let a network with NaN weights run its one step; weights are restored after it."""
    for state in net.states(brainstate.ParamState).values():
        state.value = jax.tree.map(jnp.nan_to_num, state.value)


def _traced(
    x: Any, wires: list[tuple[int, Any, Any]], returned: Any, named: dict[str, Any], paths: dict[int, str]
) -> dict[str, Any]:
    spikes: list[tuple[Any, str]] = [(x, INPUT)]
    charges: list[tuple[Any, str, str]] = []
    stages: list[Stage] = []
    tangles: dict[str, str] = {}
    seen: set[str] = set()
    for owner, given, gave in wires:
        path = paths[owner]
        if path in seen:
            tangles[path] = "it is called more than once in a step"
            continue
        seen.add(path)
        if isinstance(named[path], H1Layer):
            spikes.append((gave, path))
            feeding = next(((syn, source) for charge, syn, source in charges if charge is given), None)
            if feeding is None:
                tangles[path] = "its drive is not what one synapse gives"
            else:
                stages.append(Stage(feeding[1], feeding[0], named[feeding[0]], path, named[path]))
            continue
        source = next((name for value, name in spikes if value is given), None)
        if source is None:
            tangles[path] = "its input is neither that of the network nor the spikes of a layer in this step"
        else:
            charges.append((gave, path, source))
    used = {part for stage in stages for part in (stage.synapse_path, stage.layer_path)}
    for path in paths.values():
        if path not in used and path not in tangles:
            tangles[path] = "it takes no part in a step" if path not in seen else "what it gives drives no layer"
    output = next((name for value, name in spikes[1:] if value is returned), None)
    if output is None and not tangles:
        tangles[next(iter(paths.values()))] = "the network returns something else than the spikes of one layer"
    return {"stages": tuple(stages), "output": output, "tangles": tangles}


def _in_one_line(error: BaseException) -> str:
    # Containers such as Sequential wrap what went wrong in a printout of the module; the reason is what helps.
    while type(error) is brainstate.BrainStateError and error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
