"""Weight quantization: set the number of bits, and report the rounding errors."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import brainstate
import brainunit as u
import numpy as np

from brainhw import _arguments, _records
from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.kernel.quantize import lowest_code
from brainhw.nn import ChipWeight
from brainhw.nn.effective import Rounding
from brainhw.train.weights import on_chip

__all__ = ["QuantizationReport", "WeightReport", "describe", "set_weight_bits"]


def set_weight_bits(
    net: brainstate.nn.Module,
    weight_bits: int | str | Mapping[str, int | str | None] | None,
    *,
    rounding: Rounding = "nearest",
) -> None:
    """Set the number of bits to which the weights of a network are rounded.

    The trained weights do not change. The charges are computed from rounded weights, in training and in inference, as
    with ``weight_bits=`` in the constructors. This takes effect the next time the network is prepared. A function that
    ``brainstate.transform.jit`` already compiled is traced again.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.
    weight_bits : int, 'chip', None or mapping
        Number of bits of all weights on a chip. ``'chip'`` means the bits of the chip, and ``None`` means no rounding.
        A mapping sets the bits for each path of a weight. Its keys can contain the wildcards ``*`` and ``?``; if
        several keys match a path, the last one applies.
    rounding : {'nearest', 'stochastic'}, optional
        Rounding method, as in the constructors. Default ``'nearest'``.

    Raises
    ------
    ValueError
        If bits are out of range, or a key of the mapping matches no weight. In this case nothing is changed.
    TypeError
        If ``net`` is not a module, or if a number of bits is not an integer.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u
    >>> synapse = bh.nn.H1v1Synapse(4, 3)
    >>> bh.deploy.set_weight_bits(synapse, 4)
    >>> synapse.effective.weight_bits
    4
    """
    call = "set_weight_bits"
    weights = on_chip(net, call)
    wanted = _by_path(weight_bits, weights, call)
    # If some weights are rounded and others are not, `rounding` is meant for the rounded ones only. If no weight is
    # rounded, grid_of below reports stochastic rounding without bits as an error.
    nothing_rounded = all(bits is None for bits in wanted.values())
    how = {path: rounding if nothing_rounded or bits is not None else "nearest" for path, bits in wanted.items()}
    # Build all grids first, so that an error leaves every weight unchanged.
    for path, bits in wanted.items():
        weights[path].effective.grid_of(bits, how[path], call=call)
    for path, bits in wanted.items():
        weights[path].effective.set_grid(bits, how[path], call=call)


def _by_path(weight_bits: Any, weights: Mapping[str, ChipWeight], call: str) -> dict[str, Any]:
    if not isinstance(weight_bits, Mapping):
        return dict.fromkeys(weights, weight_bits)
    if not weight_bits:
        raise ValueError(
            f"{call}: weight_bits is an empty mapping, so no weight would change. Use a path or '*' as a key."
        )
    wanted = {}
    for pattern, bits in weight_bits.items():
        matched = fnmatch.filter(weights, pattern) if isinstance(pattern, str) else []
        if not matched:
            raise ValueError(
                f"{call}: the key {pattern!r} matches no weight on a chip. The weights are "
                f"{', '.join(map(repr, weights))}."
            )
        wanted.update(dict.fromkeys(matched, bits))
    return wanted


@final
@dataclass(frozen=True)
class WeightReport:
    """Statistics on the rounding of one array of weights.

    Attributes
    ----------
    path : str
        Dotted path of the module that owns the weights.
    shape : tuple of int
        Shape of the array.
    on_chip : bool
        Whether the weights are on a chip; other weights are never rounded.
    bits : int or None
        Number of bits of a weight, or ``None`` if the weights are not rounded.
    rounding : str
        ``'nearest'`` or ``'stochastic'``.
    step : float or None
        Distance between neighbouring levels (the smallest distance, if they are not evenly spaced).
    levels_used, levels : int or None
        Number of levels that at least one weight takes, and total number of levels.
    at_limit : float or None
        Fraction of weights at or beyond the lowest or the largest value of the range.
    changed : float or None
        Root mean square of the rounding error, in units of ``step``. For weights that are uniformly distributed between
        levels it is 0.29.
    """

    path: str
    shape: tuple[int, ...]
    on_chip: bool
    bits: int | None
    rounding: str
    step: float | None
    levels_used: int | None
    levels: int | None
    at_limit: float | None
    changed: float | None

    def __post_init__(self) -> None:
        count = _records.optional(_arguments.whole_number)
        number = _records.optional(functools.partial(_arguments.number, nonnegative=True))
        _records.check_fields(
            self,
            path=_arguments.text,
            shape=_records.each(_arguments.whole_number, "integers"),
            on_chip=_arguments.flag,
            bits=_records.optional(_arguments.positive_int),
            rounding=_arguments.text,
            step=_records.optional(functools.partial(_arguments.number, positive=True)),
            levels_used=count,
            levels=count,
            at_limit=_records.optional(_records.share),
            changed=number,
        )


@final
@dataclass(frozen=True)
class QuantizationReport(Shown):
    """Statistics on the rounding of all weights of a network; ``print`` it for a table.

    Attributes
    ----------
    weights : tuple of WeightReport
        One report per array of weights.
    """

    weights: tuple[WeightReport, ...]

    def __post_init__(self) -> None:
        _records.check_fields(self, weights=_records.each(_records.is_a(WeightReport), "WeightReport"))

    def _parts(self) -> Iterator[str | Table]:
        headings = ("weight", "shape", "bits", "rounding", "step", "levels used", "at limit", "rms change")
        yield Table(headings, [_row(weight) for weight in self.weights], left=("weight", "rounding"))


def describe(net: brainstate.nn.Module) -> QuantizationReport:
    """Report, for each weight array of a network, whether and how it is rounded.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.

    Returns
    -------
    QuantizationReport
        The report; ``print`` it for a table.

    Raises
    ------
    TypeError
        If ``net`` is not a module.
    ValueError
        If ``net`` has no weight on a chip.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> synapse = bh.nn.H1v1Synapse(2, 2, weight_init=jnp.array([[0.9, 0.1], [-0.4, 0.1]]), weight_bits="chip")
    >>> report = bh.deploy.describe(synapse)
    >>> report.weights[0].bits, report.weights[0].levels_used, report.weights[0].at_limit
    (5, 3, 0.25)
    """
    call = "describe"
    weights = on_chip(net, call)
    found = [_report(path, weight) for path, weight in weights.items()]
    known = {id(weight.master) for weight in weights.values()}
    for path, state in net.states(brainstate.ParamState).items():
        if id(state) not in known:
            # The layers of brainstate store weight and bias as a dict in one state.
            leaves = state.value.values() if isinstance(state.value, dict) else [state.value]
            shapes = [np.shape(u.get_mantissa(leaf)) for leaf in leaves]
            name, shape = ".".join(str(part) for part in path), shapes[0] if len(shapes) == 1 else ()
            found.append(WeightReport(name, shape, False, None, "nearest", None, None, None, None, None))
    return QuantizationReport(tuple(found))


def _report(path: str, weight: ChipWeight) -> WeightReport:
    master, effective = weight.master.value, weight.effective
    if not _arguments.is_concrete(master):
        raise RuntimeError("describe: weights cannot be read inside jit. Call it outside of jit.")
    grid = effective.grid
    # Convert the limits to the dtype of the weights, so that a clipped weight is equal to its limit.
    low, high = (np.asarray(master).dtype.type(end) for end in weight.chip.weight_range)
    at_limit = float(np.mean((np.asarray(master) <= low) | (np.asarray(master) >= high)))
    if grid is None:
        return WeightReport(path, master.shape, True, None, effective.rounding, None, None, None, at_limit, None)
    # Weights are rounded after sign annealing, so codes and errors are computed from the annealed weights.
    signed = effective.signed(master)
    codes = np.asarray(grid.codes(signed))
    changed = np.asarray(effective.applied(master)) - np.asarray(signed)
    return WeightReport(
        path=path,
        shape=master.shape,
        on_chip=True,
        bits=grid.bits,
        rounding=effective.rounding,
        step=grid.step,
        levels_used=len(np.unique(codes)),
        levels=grid.n_levels,
        at_limit=float(np.mean((codes == grid.largest_code) | (codes == lowest_code(grid)))),
        changed=float(np.sqrt(np.mean(changed**2))) / grid.step,
    )


def _row(weight: WeightReport) -> tuple[str, ...]:
    shape = " x ".join(str(n) for n in weight.shape)
    if not weight.on_chip:
        return (weight.path, shape, "-", "not on a chip", *["-"] * 4)
    at_limit = f"{weight.at_limit:.1%}"
    if weight.bits is None:
        return (weight.path, shape, "none", "not rounded", "-", "-", at_limit, "-")
    used = f"{weight.levels_used} of {weight.levels}"
    how = "stochastic while fit=True" if weight.rounding == "stochastic" else weight.rounding
    return (weight.path, shape, str(weight.bits), how, f"{weight.step:.4g}", used, at_limit, f"{weight.changed:.2f}")
