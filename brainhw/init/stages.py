"""The pairs to initialise, as the user names or registers them, and the data to do it on."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import brainstate
import numpy as np

from brainhw import _arguments
from brainhw.nn import net_chip
from brainhw.nn.protocols import HasWeight, Neuron, fulfils, weight_slot_of
from brainhw.transform.trace import registered_modules

__all__ = ["FAMILIES", "Stages", "discover_frontend", "discover_stages", "take_batches"]

FAMILIES = ("H1", "any")

# Attributes that only point at modules registered elsewhere.
_POINTERS = ("layer_pairs", "frontend_stage")


class Stages(NamedTuple):
    """The stages of a network: an optional frontend with its layer, then dense pairs in order, and their paths."""

    frontend: tuple[Any, Any] | None
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
        Whether only modules of a chip family are served (default), or every synapse and neuron: those of this package,
        ``Linear`` and ``Conv`` of brainstate, and modules of other packages that have the members.
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
    software = [m for m in modules if _family(m) is None and (_is_neuron(m, call) or _has_weight(m, call))]
    if software and families == "H1":
        raise ValueError(
            f"{call}: only H1v1 and H1v2 networks are supported; got {type(software[0]).__name__}. Pass families='any' "
            "for LIF, adaptive and fractional layers."
        )
    frontend, pairs = _in_registration_order(modules, families, call)
    frontend = _given_frontend(net, modules, call) or frontend
    given = _explicit(net, "layer_pairs")
    if given is not None:
        if not isinstance(given, (list, tuple)):
            raise TypeError(
                f"{call}: layer_pairs must be a list of (synapse, layer); got {_arguments.describe(given)}."
            )
        pairs = [_checked(pair, _is_dense, "(synapse, layer)", "layer_pairs", call) for pair in given]
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


def discover_frontend(net: brainstate.nn.Module, *, call: str) -> tuple[Any, Any]:
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
    frontend = _given_frontend(net, modules, call) or _in_registration_order(modules, "H1", call)[0]
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
    frontend = _checked(given, _is_frontend, "(frontend, layer)", "frontend_stage", call)
    _check_own(modules, list(frontend), "frontend_stage", call)
    return frontend


def _family(module: Any) -> str | None:
    return getattr(module, "family", None)


def _has_weight(module: Any, call: str) -> bool:
    return fulfils(module, HasWeight, call=call)


def _is_neuron(module: Any, call: str) -> bool:
    return fulfils(module, Neuron, call=call)


def _is_dense(module: Any, call: str) -> bool:
    """Return whether a module is a synapse with targets of its own, such as a dense one or a convolution."""
    fulfils(module, HasWeight, call=call)  # names what is missing of a protocol that is half there
    slot = weight_slot_of(module)
    return slot is not None and slot.out_axis is not None


def _is_frontend(module: Any, call: str) -> bool:
    """Return whether a module is a one-to-one synapse."""
    return _has_weight(module, call) and module.weight_slot().out_axis is None


def _in_registration_order(
    modules: list[Any], families: str, call: str
) -> tuple[tuple[Any, Any] | None, list[tuple[Any, Any]]]:
    frontend: tuple[Any, Any] | None = None
    pairs: list[tuple[Any, Any]] = []
    waiting: Any = None
    for module in modules:
        # A Linear of brainstate has no family: beside a chip it is a part of the net, not a synapse of the chip.
        if _is_frontend(module, call) or (_is_dense(module, call) and (families == "any" or _family(module))):
            waiting = module
        elif _is_neuron(module, call) and waiting is not None and _family(waiting) == _family(module):
            if _is_frontend(waiting, call):
                frontend = frontend or (waiting, module)
            else:
                pairs.append((waiting, module))
            waiting = None
    return frontend, pairs


def _check_sizes(frontend: tuple[Any, Any] | None, pairs: list[tuple[Any, Any]], call: str) -> None:
    for synapse, layer in [*([frontend] if frontend else []), *pairs]:
        if _family(synapse) != _family(layer):
            raise ValueError(
                f"{call}: {type(synapse).__name__} gives no drive that {type(layer).__name__} takes; pair modules of "
                "one family."
            )
        # Of other shapes only the net itself knows what it makes between the two: pooling, flattening.
        plain = len(synapse.out_size) == len(layer.in_size) == 1 and _has_weight(synapse, call)
        if plain and synapse.out_size != layer.in_size:
            raise ValueError(
                f"{call}: a synapse with {synapse.out_size[-1]} outputs is paired with a layer of "
                f"{layer.out_size[-1]} neurons that takes {layer.in_size[-1]}; set net.layer_pairs to say which belong "
                "together."
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
    alone = sum(
        _has_weight(m, call) and _is_dense(m, call) and m.weight_slot().learnt and id(m) not in paired for m in modules
    )
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


def _checked(pair: Any, is_synapse: Any, wanted: str, name: str, call: str) -> tuple[Any, Any]:
    fits = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not (fits and is_synapse(pair[0], call) and _is_neuron(pair[1], call)):
        got = ", ".join(type(part).__name__ for part in pair) if isinstance(pair, (tuple, list)) else pair
        raise TypeError(f"{call}: {name} must hold {wanted}; got {_arguments.describe(got)}.")
    return pair[0], pair[1]


def take_batches(dataloader: Iterable[Any], n_batches: Any, *, n_in: int | None, call: str) -> np.ndarray:
    """Return the first batches as one array ``[B, T, ...]`` of float32.

    Parameters
    ----------
    dataloader : iterable
        Batches ``[B, T, n_in]``, or tuples whose first element is that: torch, numpy or jax arrays.
    n_batches : int
        How many to take; fewer if the loader ends before.
    n_in : int or None
        Channels that the network takes; ``None`` for any shape of a step, such as an image ``[H, W, C]``.
    call : str
        The call to name in errors.

    Raises
    ------
    RuntimeError
        If it is called inside ``jit``.
    TypeError, ValueError
        If there is no batch, or one has another shape, does not fit the others, or is not finite.
    """
    wanted = _arguments.positive_int(n_batches, call=call, name="n_batches")
    if _arguments.inside_jit():
        raise RuntimeError(f"{call}: it looks at data and weights, which jit hides; call it outside of jit, before it.")
    try:
        batches = iter(dataloader)
    except TypeError:
        raise TypeError(
            f"{call}: dataloader must be an iterable of batches [B, T, N]; got {_arguments.describe(dataloader)}."
        ) from None
    taken = []
    for batch in batches:
        taken.append(_checked_batch(batch, n_in, call))
        if len(taken) == wanted:
            break
    if not taken:
        raise ValueError(f"{call}: the dataloader gave no batch; give at least one of shape [B, T, N].")
    if len({array.shape[1:] for array in taken}) > 1:
        shapes = ", ".join(str(array.shape) for array in taken)
        raise ValueError(f"{call}: batches must share T and N to be used together; got {shapes}. Use n_batches=1.")
    return np.concatenate(taken)


def _checked_batch(batch: Any, n_in: int | None, call: str) -> np.ndarray:
    first = batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch
    if hasattr(first, "detach"):  # a torch tensor, which may carry a gradient or lie on a GPU
        first = first.detach().cpu().numpy()
    array = np.asarray(_arguments.as_array(first, call=call, name="a batch"))
    if array.ndim < 3 or (n_in is not None and array.ndim > 3):
        raise ValueError(
            f"{call}: a batch must have shape [B, T, N]; got shape {array.shape}. For one array, pass [array]."
        )
    if 0 in array.shape:
        raise ValueError(f"{call}: a batch must hold at least one sample and one step; got shape {array.shape}.")
    if n_in is not None:
        _arguments.check_last_axis(array, n_in, call=call, name="a batch", ndims=(3,))
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is named
        array = array.astype(np.float32)
    _arguments.check_finite(array, call=call, name="a batch")
    return array
