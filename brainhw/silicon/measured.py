"""Measured values of one chip: mean values, and the values of each physical neuron."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.chip import ChipSpec
from brainhw.silicon.measured_difference import ChipDifference

__all__ = ["MeasuredChip"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class MeasuredChip(Shown):
    """The values that a bench measured on one chip. ``print`` shows a table.

    A physical neuron has the index ``sum(cores[:core]) + position``. A leak setting is the index of a time constant in
    ``spec.tau_profiles``. NaN marks values that were not measured.

    Parameters
    ----------
    spec : ChipSpec
        The spec with the mean values of this chip and their provenance. It contains the charge curve, the capacitance,
        the mean threshold, ``tau_profiles`` (the mean time constant of each leak setting), the standard deviations over
        the neurons, and the noise.
    tau : Quantity, shape [n_settings, n_neurons]
        Membrane time constant of each neuron at each leak setting, stored in ms. Each value must be greater than zero,
        or NaN.
    V_th : Quantity, shape [n_neurons]
        Threshold of each neuron, stored in mV. Each value must be greater than zero, or NaN.
    tau_error, V_th_error : Quantity, optional
        Standard error of each value, in the same shape. NaN if unknown. Default: all are unknown.
    notes : str, optional
        Free text, such as the bench and the date.

    Raises
    ------
    TypeError
        If an array is not a ``Quantity`` with the required dimension.
    ValueError
        If an array does not have the shape that the spec requires, or if a value is infinite or not greater than zero.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u, numpy as np
    >>> spec = bh.chip.H1V2.replace(name="chip 7", V_th=95 * u.mV, provenance="measured")
    >>> tau = np.full((8, 200), np.nan)
    >>> tau[4] = 19.0
    >>> chip = bh.silicon.MeasuredChip(spec, tau * u.ms, np.full(200, np.nan) * u.mV)
    >>> chip.n_neurons, int(chip.known_tau.sum()), int(chip.known_V_th.sum())
    (200, 200, 0)
    """

    spec: ChipSpec
    tau: u.Quantity
    V_th: u.Quantity
    tau_error: u.Quantity | None = None
    V_th_error: u.Quantity | None = None
    notes: str = ""

    def __post_init__(self) -> None:
        call = "MeasuredChip"
        _arguments.instance(self.spec, ChipSpec, call=call, name="spec")
        _arguments.text(self.notes, call=call, name="notes")
        n_settings, n_neurons = len(self.spec.tau_profiles.values.mantissa), self.spec.n_neurons
        for name, unit, shape in (("tau", u.ms, (n_settings, n_neurons)), ("V_th", u.mV, (n_neurons,))):
            held = _values(getattr(self, name), unit, shape, positive=True, call=call, name=name)
            object.__setattr__(self, name, held)
            error = getattr(self, f"{name}_error")
            if error is not None:
                error = _values(error, unit, shape, positive=False, call=call, name=f"{name}_error")
                object.__setattr__(self, f"{name}_error", error)

    @property
    def n_neurons(self) -> int:
        """Number of neurons of the chip."""
        return self.spec.n_neurons

    @property
    def n_settings(self) -> int:
        """Number of leak settings."""
        return len(self.tau.mantissa)

    @property
    def known_tau(self) -> np.ndarray:
        """Mask of the measured time constants, ``[n_settings, n_neurons]``."""
        return ~np.isnan(self.tau.mantissa)

    @property
    def known_V_th(self) -> np.ndarray:
        """Mask of the measured thresholds, ``[n_neurons]``."""
        return ~np.isnan(self.V_th.mantissa)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the chip to a readable text file with a checksum. An existing file is replaced atomically.

        Parameters
        ----------
        path : path
            The file, by convention with the suffix ``.chip``. Its folder must exist.

        Raises
        ------
        TypeError
            If ``path`` is not a path.
        ValueError
            If the file cannot be written, or if the chip is of a family that is not registered.

        Examples
        --------
        >>> import os, tempfile
        >>> import brainhw as bh, brainunit as u, numpy as np
        >>> chip = bh.silicon.MeasuredChip(bh.chip.H1V2, np.full((8, 200), 20.0) * u.ms, np.full(200, 95.0) * u.mV)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     chip.save(os.path.join(folder, "mine.chip"))
        ...     bh.silicon.MeasuredChip.load(os.path.join(folder, "mine.chip")) == chip
        True
        """
        # Imported here to avoid a circular import, because the module of the file format imports this class.
        from brainhw.silicon.measured_file import save_measured

        save_measured(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> MeasuredChip:
        """Read a chip that :meth:`save` wrote.

        Parameters
        ----------
        path : path
            The file.

        Raises
        ------
        TypeError
            If ``path`` is not a path.
        ValueError
            If the file is not a measured chip, is corrupted, was written by a newer brainhw, has invalid content, or is
            for a chip family that is not registered.
        """
        from brainhw.silicon.measured_file import load_measured

        return load_measured(path)

    def difference(self, other: MeasuredChip) -> ChipDifference:
        """Return the change from this measurement to a later measurement. ``print`` shows a table.

        Parameters
        ----------
        other : MeasuredChip
            The later measurement, with the same cores and number of leak settings.

        Raises
        ------
        TypeError
            If ``other`` is not a :class:`MeasuredChip`.
        ValueError
            If the cores or the numbers of leak settings differ.
        """
        _arguments.instance(other, MeasuredChip, call="MeasuredChip.difference", name="other")
        return ChipDifference(self, other)

    def table(self) -> str:
        """Return an aligned table with the mean, the standard deviation and the range of each measured quantity."""
        return str(self)

    def _parts(self) -> Iterator[str | Table]:
        spec = self.spec
        n_known = int((self.known_tau.any(axis=0) | self.known_V_th).sum())
        yield f"{spec.name}: measured chip of family {spec.family}, {n_known} of {self.n_neurons} neurons measured"
        yield Table(_HEADINGS, self._rows(), left=("value",))
        yield f"charge  {spec.charge!r} ({spec.provenance['charge']})"
        yield f"C       {spec.C.mantissa:.6g} fF ({spec.provenance['C']})"
        if spec.noise_std is not None:
            yield f"noise   {spec.noise_std.mantissa:.4g} mV per step ({spec.provenance['noise_std']})"
        yield from (f"notes   {line}" for line in self.notes.splitlines())

    def _rows(self) -> Iterator[tuple[str, ...]]:
        means = self.spec.tau_profiles.values.mantissa
        errors = None if self.tau_error is None else self.tau_error.mantissa
        for setting, (mean, values) in enumerate(zip(means, self.tau.mantissa, strict=True)):
            yield _row(f"tau, profile {setting} [ms]", mean, values, None if errors is None else errors[setting])
        error = None if self.V_th_error is None else self.V_th_error.mantissa
        yield _row("V_th [mV]", self.spec.V_th.mantissa, self.V_th.mantissa, error)

    def __repr__(self) -> str:
        known = f"{int(self.known_tau.sum())} tau, {int(self.known_V_th.sum())} V_th measured"
        return f"MeasuredChip({self.spec.name!r}, family={self.spec.family!r}, {known})"

    def _key(self) -> tuple[Any, ...]:
        # Compare bytes, because NaN is not equal to itself.
        arrays = (self.tau, self.V_th, self.tau_error, self.V_th_error)
        return self.spec, self.notes, *(None if held is None else held.mantissa.tobytes() for held in arrays)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, MeasuredChip) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())


_HEADINGS = ("value", "in the spec", "mean", "std / mean", "smallest", "largest", "measured", "error (median)")


def _row(name: str, in_spec: float, values: np.ndarray, errors: np.ndarray | None) -> tuple[str, ...]:
    known = values[~np.isnan(values)]
    share = f"{known.size} of {values.size}"
    if not known.size:
        return (name, f"{in_spec:.4g}", "-", "-", "-", "-", share, "-")
    given = np.empty(0) if errors is None else errors[~np.isnan(errors)]
    mean = known.mean()
    numbers = (in_spec, mean, None, known.min(), known.max())
    cells = [f"{known.std() / mean:.1%}" if number is None else f"{number:.4g}" for number in numbers]
    return (name, *cells, share, f"{np.median(given):.3g}" if given.size else "-")


def _values(value: Any, unit: u.Unit, shape: tuple[int, ...], *, positive: bool, call: str, name: str) -> u.Quantity:
    """Check measured values and return them as a read-only float64 array in ``unit``. NaN means not measured."""
    example = f"for example np.full({shape}, np.nan) * u.{_arguments.unit_name(unit)}"
    if not isinstance(value, u.Quantity) or not u.have_same_dim(value, unit):
        raise TypeError(
            f"{call}: {name} must be a Quantity with the dimension of {unit}; got {_arguments.describe(value)}. "
            f"Pass a value for every neuron, {example}."
        )
    if not _arguments.is_concrete(value):
        raise TypeError(
            f"{call}: {name} must contain concrete values, not values traced by JAX. Call it outside of jit."
        )
    numbers = np.asarray(value.to(unit).mantissa)
    if numbers.dtype.kind not in "iuf":
        raise TypeError(f"{call}: {name} must be real; got dtype {numbers.dtype}.")
    if numbers.shape != shape:
        raise ValueError(
            f"{call}: {name} must have shape {shape}, a value for every neuron of the chip; got shape {numbers.shape}. "
            "Use NaN for values that were not measured."
        )
    numbers = numbers.astype(np.float64)
    bad = np.isinf(numbers) | ((numbers <= 0) if positive else (numbers < 0))
    if bad.any():
        where = tuple(map(int, np.argwhere(bad)[0]))
        wanted = "greater than zero" if positive else "not negative"
        raise ValueError(
            f"{call}: {name} must be finite and {wanted}, or NaN; got {numbers[where]:g} {unit} at {where} "
            f"({int(bad.sum())} such values). Use NaN where a measurement failed."
        )
    # Use one bit pattern for all NaN, so that two chips can be compared by their bytes.
    numbers[np.isnan(numbers)] = np.nan
    numbers = numbers + 0.0
    numbers.flags.writeable = False
    return u.Quantity(numbers, unit=unit)
