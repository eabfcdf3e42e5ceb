"""Reading of state dicts: assignment of arrays to modules, and detection of unused keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from brainhw._arguments import as_array, describe, several, text
from brainhw.interop.state_dicts.faults import Faults

__all__ = ["Arrays", "Dense", "arrays_of", "in_order", "options_of", "take_dense"]

# The outer key is the name of a module. The inner key is the name of an array in this module.
Arrays = dict[str, dict[str, np.ndarray]]


class Dense(NamedTuple):
    """The parameters of a torch ``Linear``: weights ``[out, in]``, and a bias ``[out]`` or None."""

    weight: np.ndarray
    bias: np.ndarray | None


def arrays_of(state: Any, inner: tuple[str, ...], call: str) -> Arrays:
    """Group the arrays of a state dict by module.

    ``inner`` lists the names of modules inside a neuron, such as ``recurrent``. Their arrays belong to the neuron.
    """
    if not isinstance(state, Mapping):
        raise TypeError(
            f"{call}: state must be a state dict, which maps names to arrays, such as net.state_dict(); got "
            f"{describe(state)}."
        )
    found: Arrays = {}
    for key, value in state.items():
        name = text(key, call=call, name="each name in state", some=True)
        array = np.asarray(as_array(value, call=call, name=f"state[{name!r}]"))
        if array.dtype.kind == "f" and array.dtype.itemsize < 4:
            array = array.astype(np.float32)
        if not np.all(np.isfinite(np.asarray(array, float))):
            raise ValueError(f"{call}: state[{name!r}] contains NaN or infinite values. Load finite weights.")
        owner, _, last = name.rpartition(".")
        above, _, own = owner.rpartition(".")
        if own in inner:
            owner, last = above, f"{own}.{last}"
        found.setdefault(owner, {})[last] = array
    return found


def take_dense(arrays: Arrays, faults: Faults) -> dict[str, Dense]:
    """Remove every ``Linear`` from ``arrays``, and return them in a dict by name."""
    found = {}
    for name, own in list(arrays.items()):
        if "weight" not in own or not set(own) <= {"weight", "bias"}:
            continue
        weight, bias = own["weight"], own.get("bias")
        if weight.ndim != 2 or 0 in weight.shape:
            faults.add(
                f"state[{key(name, 'weight')!r}] has shape {weight.shape}; expected a Linear, [out, in]. Unroll "
                "convolutions into dense weights, and fold normalisation layers into the weights."
            )
        elif bias is not None and bias.shape != weight.shape[:1]:
            faults.add(f"state[{key(name, 'bias')!r}] has shape {bias.shape}; it must be {weight.shape[:1]}.")
        else:
            found[name] = Dense(weight.astype(float), None if bias is None else bias.astype(float))
        del arrays[name]
    return found


def key(name: str, last: str) -> str:
    """Return the key in the state dict of the array ``last`` in the module ``name``."""
    return f"{name}.{last}" if name else last


def refuse_rest(arrays: Arrays, faults: Faults, known: str) -> None:
    """Add a fault if ``arrays`` still contains arrays, because no module uses them. ``known`` lists supported keys."""
    rest = [key(name, last) for name, own in arrays.items() for last in own]
    if rest:
        listed = ", ".join(rest[:12]) + (f" and {len(rest) - 12} more" if len(rest) > 12 else "")
        faults.add(f"state has unknown keys: {listed}. Supported are {known}; remove the other keys.")


def options_of(
    neurons: Any, kinds: Mapping[str, Mapping[str, Any]], call: str, faults: Faults
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the kind and the options of each neuron by name. Missing options have the default of the other library."""
    if not isinstance(neurons, Mapping):
        raise TypeError(
            f"{call}: neurons must map the name of each neuron to its options, such as {{'lif1': {{'kind': "
            f"{next(iter(kinds))!r}}}}}; got {describe(neurons)}."
        )
    found = {}
    for given, options in neurons.items():
        name = text(given, call=call, name="each name in neurons", some=True)
        if not isinstance(options, Mapping) or not all(isinstance(one, str) for one in options):
            raise TypeError(
                f"{call}: neurons[{name!r}] must map options to values, such as {{'kind': {next(iter(kinds))!r}}}; got "
                f"{describe(options)}."
            )
        kind = options.get("kind")
        if not isinstance(kind, str) or kind not in kinds:
            faults.add(f"neurons[{name!r}] has the unknown kind {kind!r}; known kinds are {', '.join(kinds)}.")
            continue
        unknown = [one for one in options if one != "kind" and one not in kinds[kind]]
        if unknown:
            faults.add(
                f"neurons[{name!r}] has unknown options for {kind}: {', '.join(unknown)}; known options are "
                f"{', '.join(kinds[kind])}."
            )
            continue
        found[name] = (kind, {**kinds[kind], **{one: value for one, value in options.items() if one != "kind"}})
    return found


def in_order(order: Any, default: list[str], there: set[str], call: str, faults: Faults) -> list[str]:
    """Return the names of the modules in execution order: ``order``, or ``default`` if ``order`` is ``None``.

    Add a fault if ``order`` contains an unknown name, contains a name twice, or omits a module.
    """
    if order is None:
        return default
    given = several(order, call=call, name="order", of="names of modules")
    names = [text(one, call=call, name="order", some=True) for one in given]
    for what, wrong in (
        ("names modules that are neither in state nor in neurons", [one for one in names if one not in there]),
        ("omits modules", [one for one in default if one not in names]),
        ("names modules twice", sorted({one for one in names if names.count(one) > 1})),
    ):
        if wrong:
            faults.add(f"order {what}: {', '.join(wrong)}; the modules are {', '.join(sorted(there)) or 'none'}.")
    return names
