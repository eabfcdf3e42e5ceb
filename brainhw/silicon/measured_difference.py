"""Differences between two measurements of a chip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.chip.fields import info_of

if TYPE_CHECKING:
    from brainhw.silicon.measured import MeasuredChip

__all__ = ["ChipDifference"]


@final
@dataclass(frozen=True, eq=False)
class ChipDifference(Shown):
    """Differences between an earlier and a later measurement of a chip, later minus earlier. ``print`` shows a table.

    Parameters
    ----------
    before, after : MeasuredChip
        Two measurements of chips with the same cores and number of leak settings.

    Raises
    ------
    TypeError
        If an argument is not a :class:`MeasuredChip`.
    ValueError
        If the cores or the numbers of leak settings differ.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u, numpy as np
    >>> tau, V_th = np.full((8, 200), 20.0) * u.ms, np.full(200, 95.0) * u.mV
    >>> old = bh.silicon.MeasuredChip(bh.chip.H1V2, tau, V_th)
    >>> new = bh.silicon.MeasuredChip(bh.chip.H1V2, 1.1 * tau, V_th)
    >>> change = old.difference(new)
    >>> round(float(change.tau.mantissa.mean()), 6), change.fields
    (2.0, ())
    """

    before: MeasuredChip
    after: MeasuredChip

    def __post_init__(self) -> None:
        from brainhw.silicon.measured import MeasuredChip

        for name in ("before", "after"):
            _arguments.instance(getattr(self, name), MeasuredChip, call="ChipDifference", name=name)
        before, after = self.before, self.after
        for what, one, other in (
            ("cores", before.spec.cores, after.spec.cores),
            ("leak settings", before.n_settings, after.n_settings),
        ):
            if one != other:
                raise ValueError(
                    f"ChipDifference: the two chips must have the same {what}; got {one} and {other}. Neurons and "
                    "settings are compared by index."
                )

    @property
    def tau(self) -> u.Quantity:
        """Change of each time constant in ms, ``[n_settings, n_neurons]``. NaN if either measurement lacks it."""
        return self.after.tau - self.before.tau

    @property
    def V_th(self) -> u.Quantity:
        """Change of each threshold in mV, ``[n_neurons]``. NaN if either measurement lacks it."""
        return self.after.V_th - self.before.V_th

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of the spec whose values differ."""
        one, other = self.before.spec, self.after.spec
        names = dict.fromkeys((*info_of(one), *info_of(other)))
        return tuple(name for name in names if _plain(one, name) != _plain(other, name))

    def table(self) -> str:
        """Return a table of the changes and a table of the spec fields that differ.

        For each quantity, the first table shows the mean change, the standard deviation of the changes, and the change
        with the largest absolute value.
        """
        return str(self)

    def _parts(self) -> Iterator[str | Table]:
        before, after = self.before, self.after
        yield f"{before.spec.name} -> {after.spec.name}: later minus earlier value"
        yield Table(_HEADINGS, self._rows(), left=("value",))
        one, other = info_of(before.spec), info_of(after.spec)
        if self.fields:
            rows = [(name, _text(before.spec, name, one), _text(after.spec, name, other)) for name in self.fields]
            yield Table(("spec", "earlier", "later"), rows, left=("spec", "earlier", "later"))
        else:
            yield "The specs have the same values."

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for setting in range(self.before.n_settings):
            yield _row(
                f"tau, profile {setting} [ms]",
                self.before.tau.mantissa[setting],
                self.after.tau.mantissa[setting],
            )
        yield _row("V_th [mV]", self.before.V_th.mantissa, self.after.V_th.mantissa)
        spec, later = self.before.spec, self.after.spec
        # Compare the charges at the weights of the earlier chip, in fC.
        low, high = spec.weight_range
        weights = np.linspace(low, high, 2**spec.weight_bits - 1)
        yield _row("charge [fC]", np.asarray(spec.charge(weights).mantissa), np.asarray(later.charge(weights).mantissa))


_HEADINGS = ("value", "earlier mean", "later mean", "mean change", "std of change", "largest change", "at", "compared")


def _row(name: str, before: np.ndarray, after: np.ndarray) -> tuple[str, ...]:
    both = ~(np.isnan(before) | np.isnan(after))
    share = f"{int(both.sum())} of {both.size}"
    if not both.any():
        return (name, "-", "-", "-", "-", "-", "-", share)
    change = np.where(both, after - before, 0.0)
    at = int(np.argmax(np.abs(change)))
    numbers = (before[both].mean(), after[both].mean(), change[both].mean(), change[both].std(), change[at])
    return (name, *(f"{number:.4g}" for number in numbers), f"{at}", share)


def _plain(spec: Any, name: str) -> Any:
    # A Quantity field has a fixed unit, so comparing the mantissas is enough.
    return u.get_mantissa(getattr(spec, name, None))


def _text(spec: Any, name: str, infos: Any) -> str:
    return infos[name].text(getattr(spec, name)) if name in infos else "-"
