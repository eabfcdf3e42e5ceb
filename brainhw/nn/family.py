"""Which chip a module belongs to."""

from __future__ import annotations

import dataclasses
from typing import Any

import brainstate

from brainhw.chip import ChipSpec, get_chip
from brainhw.nn.effective import EffectiveWeight

__all__ = ["chip_of_family", "net_chip"]


def chip_of_family(chip: ChipSpec | str | None, owner: Any, *, call: str) -> ChipSpec:
    """Return the chip that ``owner`` is built on, by default its family's preset, refusing one of another family."""
    family = getattr(owner, "family", None)
    if family is None:
        raise TypeError(f"{call} is what both families share; use the class that names one, as H1v1 or H1v2.")
    if chip is None:
        chip = owner.preset
    chip = get_chip(chip, call=call)
    if chip.family != family:
        raise ValueError(
            f"{call}: chip must be of family {family!r}; got {chip.name!r} of family {chip.family!r}. "
            f"Use the module of that family, or pass {family!r}."
        )
    return chip


def net_chip(net: brainstate.nn.Module, *, call: str) -> ChipSpec | None:
    """Return the one chip that all modules of ``net`` are built on, ``None`` if it has no chip module.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.
    call : str
        Who asks, for the error message.

    Returns
    -------
    ChipSpec or None
        The chip.

    Raises
    ------
    ValueError
        If modules of two families, or of two different specs of one family, stand in the same network.

    Examples
    --------
    >>> import brainhw as bh
    >>> bh.nn.net_chip(bh.nn.H1v2Synapse(2, 3), call="my function").name
    'H1v2'
    """
    found: dict[str, ChipSpec] = {}
    for path, node in net.nodes().items():
        chip = getattr(node, "chip", None)
        if isinstance(chip, ChipSpec) and not isinstance(node, EffectiveWeight):  # part of a module that is listed
            found[".".join(str(part) for part in path) or type(node).__name__] = chip
    specs = list(dict.fromkeys(found.values()))
    if len(specs) <= 1:
        return specs[0] if specs else None
    listed = "; ".join(f"{path}: {chip.name} ({chip.family})" for path, chip in found.items())
    if len({chip.family for chip in specs}) > 1:
        problem = "families are mixed"
    else:
        fields = [
            f.name
            for f in dataclasses.fields(ChipSpec)
            if f.name != "notes" and len({str(getattr(s, f.name)) for s in specs}) > 1
        ]
        problem = f"the specs of one family differ in {', '.join(fields)}"
    raise ValueError(f"{call}: one network runs on one chip, but {problem} ({listed}). Build every module on one spec.")
