"""Conversion of the values of a sampled or measured chip between a network and the JSON data of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from brainhw._arguments import describe, unit_name
from brainhw.deploy.placement import Placement
from brainhw.nn.effective import check_pinned
from brainhw.nn.known import checked_masks
from brainhw.nn.pinned import MISMATCH, has_sampled_chip, pinned_states

__all__ = ["chip_values", "known_in_place", "plain_values", "set_chip_values", "values_in_place"]

Values = Mapping[str, Mapping[str, u.Quantity]]
Masks = Mapping[str, Mapping[str, np.ndarray]]


def values_in_place(net: brainstate.nn.Module) -> dict[str, dict[str, u.Quantity]]:
    """Return the values of the current chip of a network, by module path and value name.

    Each value has the unit of the corresponding nominal value. For the nominal chip, the dict is empty.
    """
    found: dict[str, dict[str, u.Quantity]] = {}
    for pinned in pinned_states(net):
        name, nominal, positive = _state_name(pinned.name), pinned.nominal, pinned.name != MISMATCH
        value = pinned.state.value
        check_pinned(value, nominal.shape, nominal.unit, owner=pinned.path, name=name, positive=positive)
    if has_sampled_chip(net) or known_in_place(net):
        for pinned in pinned_states(net):
            found.setdefault(pinned.path, {})[pinned.name] = pinned.state.value.in_unit(pinned.nominal.unit)
    return found


def known_in_place(net: brainstate.nn.Module) -> dict[str, dict[str, np.ndarray]]:
    """Return masks that mark the measured values of a network, by module path and value name.

    If the chip is not measured, the dict is empty.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for place, node in net.nodes().items():
        if known := getattr(node, "known", None):
            found[".".join(map(str, place)) or type(node).__name__] = {name: known[name] for name in sorted(known)}
    return found


def set_chip_values(net: brainstate.nn.Module, values: Values, known: Masks, placement: Placement) -> None:
    """Set the values of the current chip of a network. Raise ``ValueError`` if they do not match the modules."""
    if not values:
        return
    wanted = {(pinned.path, pinned.name): pinned for pinned in pinned_states(net)}
    given = {(path, name) for path, named in values.items() for name in named}
    for path, name in sorted(wanted.keys() ^ given):
        raise ValueError(f"in_place: {name!r} of {path!r} is missing from the bundle or from the network")
    for (path, name), pinned in wanted.items():
        value, unit = values[path][name], pinned.nominal.unit
        if value.unit != unit:
            raise ValueError(f"in_place: {name} of {path!r} must be in {unit_name(unit)}; got {unit_name(value.unit)}")
        with np.errstate(over="ignore"):  # an overflow results in infinity, which the check below rejects
            numbers = jnp.asarray(np.asarray(value.mantissa), pinned.nominal.mantissa.dtype)
        held = u.Quantity(numbers, unit=unit)
        shape, positive = pinned.nominal.shape, name != MISMATCH
        check_pinned(held, shape, unit, owner="in_place", name=f"{path}.{name}", positive=positive)
        pinned.state.value = held
    nodes = {".".join(map(str, place)): node for place, node in net.nodes().items()}
    layers: dict[str, Any] = {path: nodes[path] for path in (placement.layers if known else ())}
    for path, masks in known.items():
        layer = layers.get(path)
        if layer is None or not hasattr(layer, "known"):
            raise ValueError(f"in_place: {path!r} must be a layer that can store measured values")
        layer.known = checked_masks(layer, masks, call=f"in_place: known of {path!r}")
    for path, layer in layers.items():
        # The values were measured with this placement, so the network keeps it.
        if hasattr(layer, "physical"):
            layer.physical = placement.physical_of(path)


def plain_values(values: Values, known: Masks) -> dict[str, Any]:
    """Return the values of a chip and the masks of the measured values as dicts, lists and numbers."""
    return {
        path: {
            name: {
                "unit": unit_name(value.unit),
                "values": np.asarray(value.mantissa, float).tolist(),
                # Omitted if the chip is not measured, so that older versions of brainhw can read the file.
                **({"known": known[path][name].tolist()} if name in known.get(path, {}) else {}),
            }
            for name, value in named.items()
        }
        for path, named in values.items()
    }


def chip_values(
    data: Any, paths: tuple[str, ...]
) -> tuple[dict[str, dict[str, u.Quantity]], dict[str, dict[str, np.ndarray]]]:
    """Convert the data of `plain_values` back to values and masks.

    `set_chip_values` checks that they match the network.
    """
    if not isinstance(data, dict):
        raise ValueError(f"in_place must be a mapping from module paths to values; got {describe(data):.80}")
    values: dict[str, dict[str, u.Quantity]] = {}
    known: dict[str, dict[str, np.ndarray]] = {}
    for path, named in data.items():
        if path not in paths or not isinstance(named, dict):
            raise ValueError(f"in_place: {path!r:.80} must be the path of a module, mapped to a mapping of its values")
        for name, entry in named.items():
            where = f"in_place: {name:.40} of {path:.80}"
            values.setdefault(path, {})[name] = _quantity(entry, where)
            if "known" in entry:
                known.setdefault(path, {})[name] = _mask(entry["known"], where)
    return values, known


def _mask(data: Any, where: str) -> np.ndarray:
    if not isinstance(data, list) or not data or any(type(item) is not bool for item in data):
        raise ValueError(f"{where}: known must be a list of booleans; got {describe(data):.80}")
    if not any(data):
        raise ValueError(f"{where}: known must contain at least one true value; omit known if nothing was measured")
    return np.array(data)


def _quantity(data: Any, where: str) -> u.Quantity:
    keys = set(data) - {"known"} if isinstance(data, dict) else set()
    if keys != {"unit", "values"} or not isinstance(data["unit"], str):
        raise ValueError(f"{where} must be a mapping with the keys unit and values; got {describe(data):.80}")
    unit = _UNITS.get(data["unit"])
    if unit is None:
        raise ValueError(f"{where}: the unit must be one of {', '.join(_UNITS)}; got {data['unit']!r:.40}")
    _check_numbers(data["values"], where)
    try:
        numbers = np.asarray(data["values"], np.float64)
    except ValueError:
        raise ValueError(f"{where}: all rows of values must have the same length") from None
    return u.Quantity(numbers, unit=unit)


# The units in which modules store the values that differ between chips.
_UNITS: Mapping[str, u.Unit] = {
    unit_name(unit): unit for unit in (u.ms, u.mV, u.fcoulomb, u.ffarad, u.pamp, u.nsiemens)
}


def _check_numbers(data: Any, where: str) -> None:
    for item in data if isinstance(data, list) else [data]:
        if isinstance(item, list):
            _check_numbers(item, where)
        elif type(item) is not float:
            raise ValueError(f"{where}: values must be floats, written with a decimal point; got {describe(item):.80}")


def _state_name(name: str) -> str:
    return name if name == MISMATCH else f"pinned_{name}"
