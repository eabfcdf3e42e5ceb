"""Weights of modules that do not know brainhw, such as ``brainstate.nn.Linear``."""

from __future__ import annotations

import functools
from typing import Any

import brainstate
import brainunit as u

from brainhw.nn.protocols import HasWeight, Slot, fulfils

__all__ = ["weight_slot_of"]


@functools.singledispatch
def weight_slot_of(module: Any, *, call: str = "weight_slot_of") -> Slot | None:
    """Return the weight of a synapse; ``None`` if the module has none that brainhw knows.

    A module answers by its method ``weight_slot``. For a class that cannot be changed, register a function:
    ``weight_slot_of.register(TheirClass)(lambda module, **options: Slot(module.w))``.

    Parameters
    ----------
    module : brainstate.nn.Module
        The module. ``Linear``, ``Conv1d``, ``Conv2d`` and ``Conv3d`` of ``brainstate.nn`` are known.
    call : str, optional
        The call to name in errors.

    Returns
    -------
    Slot or None
        The weight, in the unit in which the module stores it.

    Raises
    ------
    TypeError
        If the module fulfils only a part of the protocol.

    Examples
    --------
    >>> import brainstate
    >>> from brainhw.nn.foreign import weight_slot_of
    >>> slot = weight_slot_of(brainstate.nn.Linear(3, 2))
    >>> slot.value.shape, slot.out_axis
    ((3, 2), -1)
    """
    return module.weight_slot() if fulfils(module, HasWeight, call=call) else None


@weight_slot_of.register(brainstate.nn.Linear)
@weight_slot_of.register(brainstate.nn.Conv1d)
@weight_slot_of.register(brainstate.nn.Conv2d)
@weight_slot_of.register(brainstate.nn.Conv3d)
def _of_brainstate(module: Any, *, call: str = "weight_slot_of") -> Slot:
    if fulfils(module, HasWeight, call=call):  # a subclass that answers itself
        return module.weight_slot()
    # One parameter holds {'weight': ..., 'bias': ...}; kernels are [*window, in, out].
    return Slot(module.weight, unit=u.get_unit(module.weight.value["weight"]), key="weight")
