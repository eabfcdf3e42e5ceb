"""What a network consists of, seen from a chip: its modules, and what feeds what."""

from __future__ import annotations

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
from brainhw.nn.tap import Wire, Wires, hidden_values, listening
from brainhw.transform.checks import check_module, registered_modules
from brainhw.transform.prepare import prepare_net
from brainhw.transform.trace import in_one_line

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
    if _arguments.inside_jit():
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


def _wiring(net: brainstate.nn.Module, named: dict[str, Any]) -> dict[str, Any]:
    """Return stages, output and tangles of one step, or the reason why there was none."""
    # What feeds what does not depend on the time step, but a net may be made for one.
    own = getattr(net, "dt", None)
    dt = own if isinstance(own, u.Quantity) else brainstate.environ.get("dt", default=1.0 * u.ms)
    failure = None
    with states_restored(net, keep_weights=False), brainstate.environ.context(dt=dt, fit=False):
        for shape in _input_shapes(named):
            told: dict[str, Any] = {}

            def one_step(shape: tuple[int, ...] = shape, told: dict[str, Any] = told) -> None:
                _make_finite(net)
                prepare_net(net, shape[0] if len(shape) > 1 else None)
                told.update(_step(net, jnp.zeros(shape, brainstate.environ.dftype()), dt, named))

            try:
                # Traced only: who feeds whom shows without computing, or compiling, anything.
                brainstate.transform.StatefulFunction(one_step).make_jaxpr()
            except Exception as error:  # whatever a network from outside raises, it is to be told and not to be raised
                failure = failure or in_one_line(error)
            else:
                return told
    return {"failure": failure}


def _input_shapes(named: dict[str, Any]) -> list[tuple[int, ...]]:
    """Return the inputs that the network may take, the likeliest first: that of a synapse, alone or in a batch."""
    # A layer takes a drive and not what comes in.
    takers = [module for module in named.values() if not isinstance(module, brainstate.nn.Dynamics)]
    takers.sort(key=lambda module: not isinstance(module, H1Frontend))
    sizes = [module.in_size[-1] for module in takers if isinstance(getattr(module, "in_size", None), tuple)]
    widths = list(dict.fromkeys(sizes)) or [1]
    return [*((n,) for n in widths), *((1, n) for n in widths)]


def _make_finite(net: brainstate.nn.Module) -> None:
    """Let a network with NaN weights run its one step; weights are restored after it."""
    for state in net.states(brainstate.ParamState).values():
        state.value = jax.tree.map(jnp.nan_to_num, state.value)


def _step(net: brainstate.nn.Module, x: jax.Array, dt: u.Quantity, named: dict[str, Any]) -> dict[str, Any]:
    """Run one step of the prepared network and return its stages, output and tangles."""
    layers = {path: module for path, module in named.items() if isinstance(module, H1Layer)}
    began = {path: hidden_values(layer) for path, layer in layers.items()}
    wires = Wires()
    with listening(wires):
        returned = net(x)
    paths = {id(module): path for path, module in named.items() if _on_chip(module)}
    # Layers that no chip has tell of their wires too.
    calls = [(paths[owner], wire) for owner, wire in wires.calls if owner in paths]
    found = _traced(x, calls, returned, named)
    for path, wire in calls:
        if path in layers:
            if not wire.is_all(layers[path], began[path]):
                found["tangles"].setdefault(path, "its membrane or spikes are written to from outside")
            with jax.ensure_compile_time_eval():  # a change of unit would be traced
                same = wire.dt is dt or bool(u.math.allclose(wire.dt, dt))
            if not same:
                found["tangles"].setdefault(path, "it runs with a time step of its own")
    return found


def _traced(x: Any, wires: list[tuple[str, Wire]], returned: Any, named: dict[str, Any]) -> dict[str, Any]:
    spikes: list[tuple[Any, str]] = [(x, INPUT)]
    charges: list[tuple[Any, str, str]] = []
    stages: list[Stage] = []
    tangles: dict[str, str] = {}
    seen: set[str] = set()
    for path, (given, gave, *_) in wires:
        if path in seen:
            tangles[path] = "it is called more than once in a step"
            continue
        seen.add(path)
        if isinstance(named[path], H1Layer):
            spikes.append((gave, path))
            feeding = next(((syn, source) for charge, syn, source in charges if charge is given), None)
            if feeding is None:
                tangles[path] = "its drive is not what one synapse gives"
            elif any(stage.synapse_path == feeding[0] for stage in stages):
                tangles[feeding[0]] = "it drives more than one layer"
            else:
                stages.append(Stage(feeding[1], feeding[0], named[feeding[0]], path, named[path]))
            continue
        source = next((name for value, name in spikes if value is given), None)
        if source is None:
            tangles[path] = "its input is neither that of the network nor the spikes of a layer in this step"
        else:
            charges.append((gave, path, source))
    used = {part for stage in stages for part in (stage.synapse_path, stage.layer_path)}
    own = [path for path, module in named.items() if _on_chip(module)]
    for path in own:
        if path not in used and path not in tangles and not tangles.keys() & used:
            tangles[path] = "it takes no part in a step" if path not in seen else "what it gives drives no layer"
    output = next((name for value, name in spikes[1:] if value is returned), None)
    if output is None and not tangles:
        tangles[own[0]] = "the network returns something else than the spikes of one layer"
    return {"stages": tuple(stages), "output": output, "tangles": tangles}
