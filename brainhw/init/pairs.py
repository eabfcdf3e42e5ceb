"""Which synapse feeds which layer, in the order in which the user registered them."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import brainstate

from brainhw import _arguments
from brainhw.nn import H1Frontend, H1Layer, H1Synapse, LIFLayer, LIFSynapse, net_chip
from brainhw.transform.registration import registered_modules

__all__ = ["Stages", "discover_stages"]

# Attributes that only point at modules registered elsewhere.
_POINTERS = ("layer_pairs", "frontend_stage")


class Stages(NamedTuple):
    """The stages of a network: an optional frontend with its layer, then dense pairs in order."""

    frontend: tuple[H1Frontend, H1Layer] | None
    pairs: list[tuple[H1Synapse, H1Layer]]


def _explicit(net: brainstate.nn.Module, attribute: str) -> Any:
    return vars(net).get(attribute, getattr(type(net), attribute, None))


def discover_stages(net: brainstate.nn.Module, *, call: str) -> Stages:
    """Find the dense pairs and the frontend stage of ``net``.

    Taken from the attributes ``layer_pairs`` (a list of ``(synapse, layer)``) and ``frontend_stage``
    (``(frontend, layer)``) where the network has them, else from the registration order: a synapse goes with the H1
    layer registered next after it, a frontend likewise.

    Raises
    ------
    ValueError
        If the families are mixed, the network is made of LIF modules, or it has no dense pair.
    TypeError
        If ``layer_pairs`` or ``frontend_stage`` hold something else.
    """
    modules = [module for _, module in registered_modules(net, skip=_POINTERS)]
    net_chip(net, call=call)
    lif = [m for m in modules if isinstance(m, (LIFSynapse, LIFLayer))]
    if lif:
        raise ValueError(
            f"{call}: only H1v1 and H1v2 networks are supported; got {type(lif[0]).__name__}. Pass an initializer to "
            "LIFSynapse(weight_init=...) instead."
        )
    frontend, pairs = _in_registration_order(modules)
    given = _explicit(net, "frontend_stage")
    if given is not None:
        frontend = _checked(given, (H1Frontend, H1Layer), "frontend_stage", call)
    given = _explicit(net, "layer_pairs")
    if given is not None:
        if not isinstance(given, (list, tuple)):
            raise TypeError(
                f"{call}: layer_pairs must be a list of (synapse, layer); got {_arguments.describe(given)}."
            )
        pairs = [_checked(pair, (H1Synapse, H1Layer), "layer_pairs", call) for pair in given]
        here = {id(module) for module in modules}
        if any(id(part) not in here for pair in pairs for part in pair):
            raise ValueError(f"{call}: layer_pairs names a module that is not in the network; pair the network's own.")
    _warn_of_unpaired(modules, pairs, call)
    if not pairs:
        what = (
            "a frontend but no dense (synapse, layer) pair after it" if frontend else "no dense (synapse, layer) pair"
        )
        raise ValueError(
            f"{call}: the network has {what}; register an H1 synapse right before its H1 layer, or set "
            "net.layer_pairs = [(synapse, layer), ...]."
        )
    for synapse, layer in pairs:
        if synapse.out_size != layer.in_size:
            raise ValueError(
                f"{call}: a synapse with {synapse.out_size[-1]} outputs is paired with a layer of {layer.n_neurons} "
                "neurons; set net.layer_pairs to say which belong together."
            )
    return Stages(frontend, pairs)


def _in_registration_order(modules: list[Any]) -> tuple[tuple[Any, Any] | None, list[tuple[Any, Any]]]:
    frontend: tuple[Any, Any] | None = None
    pairs: list[tuple[Any, Any]] = []
    waiting: Any = None
    for module in modules:
        if isinstance(module, (H1Synapse, H1Frontend)):
            waiting = module
        elif isinstance(module, H1Layer) and waiting is not None:
            if isinstance(waiting, H1Frontend):
                frontend = frontend or (waiting, module)
            else:
                pairs.append((waiting, module))
            waiting = None
    return frontend, pairs


def _warn_of_unpaired(modules: list[Any], pairs: list[tuple[Any, Any]], call: str) -> None:
    paired = {id(synapse) for synapse, _ in pairs}
    alone = sum(isinstance(m, H1Synapse) and id(m) not in paired for m in modules)
    if alone:
        warnings.warn(
            f"{call}: {alone} synapse(s) stand in no pair and keep their weights; register each right before its layer "
            "or set net.layer_pairs to say which layer each feeds.",
            UserWarning,
            stacklevel=4,
        )


def _checked(pair: Any, kinds: tuple[type, type], name: str, call: str) -> tuple[Any, Any]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(map(isinstance, pair, kinds)):
        got = ", ".join(type(part).__name__ for part in pair) if isinstance(pair, (tuple, list)) else pair
        raise TypeError(
            f"{call}: {name} must hold ({kinds[0].__name__}, {kinds[1].__name__}); got {_arguments.describe(got)}."
        )
    return pair[0], pair[1]
