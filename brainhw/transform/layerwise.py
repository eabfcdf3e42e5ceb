"""Run a chain of modules layer by layer, each over many steps at once, where that is faster than step by step."""

from __future__ import annotations

from typing import Any

import brainstate

from brainhw.nn.protocols import runs_whole_sequence
from brainhw.nn.tap import Wires, hidden_values, listening, same_value
from brainhw.transform.traced_step import put_back_on_failure

__all__ = ["can_be_cut", "chain_of", "offers", "run_layerwise", "steps_at_once"]

# Numbers that a layer hands on at once: enough for a large matrix product, and few enough to stay in the cache.
_NUMBERS = 2**17
# A run of no more numbers than this in all is not worth a second loop around the first.
_WHOLE = 2**19


def chain_of(net: brainstate.nn.Module, x: Any) -> list[Any] | None:
    """Return the modules of ``net`` one after the other if it is a chain that gains from running layer by layer.

    Whether it is one shows in a step that is traced and thrown away: each module that is called is known from inside,
    takes the very values that the one before gave, and nothing else is computed that outlives the step. So neither
    what a net's own ``update`` does in between nor a state of its own is passed over.

    Parameters
    ----------
    net : brainstate.nn.Module
        The prepared network.
    x : array, Quantity or pytree of them
        An input of one step.
    """
    chain: list[Any] = []

    def one_step(x: Any) -> None:
        chain[:] = _traced(net, x)

    stepped = brainstate.transform.StatefulFunction(one_step, name="chain_of")
    try:
        with put_back_on_failure(net):
            jaxpr = stepped.make_jaxpr(x).get_jaxpr(x)
    except Exception:  # whatever is wrong with the step, running it says so better
        return None
    states = [id(state) for part in chain for state in part.states(brainstate.HiddenState).values()]
    written = {id(state) for state in stepped.get_write_states(x)}
    if not chain or jaxpr.effects or len(set(states)) < len(states) or written - set(states):
        return None
    return chain if any(part.gains_from_sequence() for part in chain) else None


def _traced(net: brainstate.nn.Module, x: Any) -> list[Any]:
    """Return the modules that a step passes through, one after the other; none if it is more than that."""
    modules = {id(module): module for module in net.nodes().values() if runs_whole_sequence(module, call="rollout")}
    began = {key: hidden_values(module) for key, module in modules.items()}
    dt = brainstate.environ.get("dt", default=None)
    wires = Wires()
    with listening(wires):
        returned = net(x)
    passed = x
    for key, wire in wires.calls:
        if key not in modules or not same_value(wire.given, passed) or wire.dt is not dt:
            return []
        if not wire.is_all(modules[key], began[key]):
            return []
        passed = wire.gave
    keys = [key for key, _ in wires.calls]
    return [modules[key] for key in keys] if same_value(returned, passed) and len(set(keys)) == len(keys) else []


def offers(chain: list[Any], module: Any, name: str) -> bool:
    """Whether ``name`` can be recorded of ``module`` when the chain runs over a whole sequence."""
    return any(part is module for part in chain) and name in module.sequence_records


def can_be_cut(chain: list[Any]) -> bool:
    """Whether the chain may run some steps at a time and still have its lean backward pass."""
    return all(part.can_be_cut for part in chain)


def steps_at_once(chain: list[Any], n_steps: int, batch_size: int | None) -> int:
    """Return how many steps at once make matrix products that are large enough."""
    numbers = max(part.out_size[-1] for part in chain) * (batch_size or 1)
    return n_steps if n_steps * numbers <= _WHOLE else max(1, _NUMBERS // numbers)


def run_layerwise(chain: list[Any], xs: Any) -> Any:
    """Return what the chain gives for the whole input ``[T, ...]``, leaving the states as the steps would."""
    for part in chain:
        xs = part.update_sequence(xs)
    return xs
