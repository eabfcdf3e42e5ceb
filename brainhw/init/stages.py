"""Which synapse feeds which layer, in the order in which the user registered them."""

from __future__ import annotations

import itertools
import warnings
from typing import Any, NamedTuple

import brainstate

from brainhw import _arguments
from brainhw.nn import (
    FractionalLayer,
    H1Frontend,
    H1Layer,
    H1Synapse,
    LIFLayer,
    LIFSynapse,
    MultiSynapseLayer,
    net_chip,
)
from brainhw.transform.checks import registered_modules

__all__ = ["FAMILIES", "Stages", "discover_frontend", "discover_stages"]

FAMILIES = ("H1", "any")

# Attributes that only point at modules registered elsewhere.
_POINTERS = ("layer_pairs", "frontend_stage")
_SOFTWARE_LAYERS = (LIFLayer, MultiSynapseLayer, FractionalLayer)
_SYNAPSES = (H1Synapse, LIFSynapse)
_LAYERS = (H1Layer, *_SOFTWARE_LAYERS)


class Stages(NamedTuple):
    """The stages of a network: an optional frontend with its layer, then dense pairs in order, and their paths."""

    frontend: tuple[H1Frontend, H1Layer] | None
    pairs: list[tuple[Any, Any]]
    paths: list[str]


def discover_stages(net: brainstate.nn.Module, *, families: str = "H1", call: str) -> Stages:
    """Find the dense pairs and the frontend stage of ``net``.

    Taken from the attributes ``layer_pairs`` (a list of ``(synapse, layer)``) and ``frontend_stage``
    (``(frontend, layer)``) where the network has them, else from the registration order: a synapse goes with the
    layer registered next after it, a frontend likewise.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.
    families : {'H1', 'any'}, optional
        Whether only chip layers are served (default), or LIF, adaptive and fractional ones as well.
    call : str
        The call to name in errors.

    Raises
    ------
    ValueError
        If chip families are mixed, the network holds layers that are not served, or it has no dense pair.
    TypeError
        If ``layer_pairs`` or ``frontend_stage`` hold something else.
    """
    registered = registered_modules(net, skip=_POINTERS)
    modules = [module for _, module in registered]
    net_chip(net, call=call)
    software = [m for m in modules if isinstance(m, (LIFSynapse, *_SOFTWARE_LAYERS))]
    if software and families == "H1":
        raise ValueError(
            f"{call}: only H1v1 and H1v2 networks are supported; got {type(software[0]).__name__}. Pass families='any' "
            "for LIF, adaptive and fractional layers."
        )
    frontend, pairs = _in_registration_order(modules)
    frontend = _given_frontend(net, modules, call) or frontend
    given = _explicit(net, "layer_pairs")
    if given is not None:
        if not isinstance(given, (list, tuple)):
            raise TypeError(
                f"{call}: layer_pairs must be a list of (synapse, layer); got {_arguments.describe(given)}."
            )
        pairs = [_checked(pair, _SYNAPSES, _LAYERS, "layer_pairs", call) for pair in given]
        _check_own(modules, [part for pair in pairs for part in pair], "layer_pairs", call)
    _warn_of_unpaired(modules, pairs, call)
    if not pairs:
        what = (
            "a frontend but no dense (synapse, layer) pair after it" if frontend else "no dense (synapse, layer) pair"
        )
        raise ValueError(
            f"{call}: the network has {what}; register a synapse right before its layer, or set "
            "net.layer_pairs = [(synapse, layer), ...]."
        )
    _check_once([*([frontend] if frontend else []), *pairs], call)
    _check_sizes(frontend, pairs, call)
    paths = {id(module): path for path, module in registered}
    return Stages(frontend, pairs, [paths[id(layer)] for _, layer in pairs])


def discover_frontend(net: brainstate.nn.Module, *, call: str) -> tuple[H1Frontend, H1Layer]:
    """Find the frontend of ``net`` and the layer that it feeds, with or without dense pairs after them.

    Raises
    ------
    ValueError
        If there is none.
    TypeError
        If ``frontend_stage`` holds something else.
    """
    modules = [module for _, module in registered_modules(net, skip=_POINTERS)]
    net_chip(net, call=call)
    frontend = _given_frontend(net, modules, call) or _in_registration_order(modules)[0]
    if frontend is None:
        raise ValueError(
            f"{call}: the network has no frontend; register an H1 frontend right before its H1 layer, or set "
            "net.frontend_stage = (frontend, layer)."
        )
    _check_sizes(frontend, [], call)
    return frontend


def _explicit(net: brainstate.nn.Module, attribute: str) -> Any:
    return vars(net).get(attribute, getattr(type(net), attribute, None))


def _given_frontend(net: brainstate.nn.Module, modules: list[Any], call: str) -> tuple[Any, Any] | None:
    given = _explicit(net, "frontend_stage")
    if given is None:
        return None
    frontend = _checked(given, (H1Frontend,), (H1Layer,), "frontend_stage", call)
    _check_own(modules, list(frontend), "frontend_stage", call)
    return frontend


def _in_registration_order(modules: list[Any]) -> tuple[tuple[Any, Any] | None, list[tuple[Any, Any]]]:
    frontend: tuple[Any, Any] | None = None
    pairs: list[tuple[Any, Any]] = []
    waiting: Any = None
    for module in modules:
        if isinstance(module, (*_SYNAPSES, H1Frontend)):
            waiting = module
        elif isinstance(module, _LAYERS) and _fits(waiting, module):
            if isinstance(waiting, H1Frontend):
                frontend = frontend or (waiting, module)
            else:
                pairs.append((waiting, module))
            waiting = None
    return frontend, pairs


def _fits(synapse: Any, layer: Any) -> bool:
    return synapse is not None and isinstance(synapse, LIFSynapse) != isinstance(layer, H1Layer)


def _check_sizes(frontend: tuple[Any, Any] | None, pairs: list[tuple[Any, Any]], call: str) -> None:
    stages = [*([frontend] if frontend else []), *pairs]
    for synapse, layer in stages:
        if not _fits(synapse, layer):
            raise ValueError(
                f"{call}: {type(synapse).__name__} gives no drive that {type(layer).__name__} takes; pair modules of "
                "one family."
            )
        if synapse.out_size != layer.in_size:
            raise ValueError(
                f"{call}: a synapse with {synapse.out_size[-1]} outputs is paired with a layer of {layer.n_neurons} "
                f"neurons that takes {layer.in_size[-1]}; set net.layer_pairs to say which belong together."
            )
    for (_, before), (synapse, _) in itertools.pairwise(stages):
        if before.n_neurons != synapse.in_size[-1]:
            raise ValueError(
                f"{call}: a layer of {before.n_neurons} neurons comes before a synapse of {synapse.in_size[-1]} "
                "inputs; the pairs must form a chain, in order: set net.layer_pairs."
            )


def _check_once(stages: list[tuple[Any, Any]], call: str) -> None:
    parts = [part for stage in stages for part in stage]
    repeated = next((part for i, part in enumerate(parts) if any(part is other for other in parts[:i])), None)
    if repeated is not None:
        raise ValueError(
            f"{call}: one {type(repeated).__name__} stands in two pairs, but its weights can be drawn for one input "
            "only; give each pair modules of its own."
        )


def _warn_of_unpaired(modules: list[Any], pairs: list[tuple[Any, Any]], call: str) -> None:
    paired = {id(synapse) for synapse, _ in pairs}
    alone = sum(isinstance(m, _SYNAPSES) and id(m) not in paired for m in modules)
    if alone:
        warnings.warn(
            f"{call}: {alone} synapse(s) stand in no pair and keep their weights; register each right before its layer "
            "or set net.layer_pairs to say which layer each feeds.",
            UserWarning,
            stacklevel=4,
        )


def _check_own(modules: list[Any], parts: list[Any], name: str, call: str) -> None:
    here = {id(module) for module in modules}
    if any(id(part) not in here for part in parts):
        raise ValueError(f"{call}: {name} names a module that is not in the network; pair the network's own.")


def _checked(pair: Any, synapses: tuple[type, ...], layers: tuple[type, ...], name: str, call: str) -> tuple[Any, Any]:
    fits = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not (fits and isinstance(pair[0], synapses) and isinstance(pair[1], layers)):
        wanted = ", ".join(" or ".join(kind.__name__ for kind in kinds) for kinds in (synapses, layers))
        got = ", ".join(type(part).__name__ for part in pair) if isinstance(pair, (tuple, list)) else pair
        raise TypeError(f"{call}: {name} must hold ({wanted}); got {_arguments.describe(got)}.")
    return pair[0], pair[1]
