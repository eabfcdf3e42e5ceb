"""Time constants of a chip, and the nearest one to a requested value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import brainunit as u
import numpy as np

from brainhw._arguments import flag, text
from brainhw._records import check_fields, is_a, is_in, numbers
from brainhw.chip._units import exact

__all__ = ["TauProfiles", "TauSnap"]

# A tenth of the leak mismatch that is assumed for the presets: a smaller move is lost in the spread of a chip.
_MOVED = 0.01
_LISTED = 6


@final
@dataclass(frozen=True, init=False, repr=False)
class TauProfiles:
    """The membrane time constants that a chip's leak hardware offers.

    A requested time constant becomes the nearest profile in log tau, i.e. the one with the smallest ratio to it;
    exactly halfway, the shorter one. The vendor documents that a chip snaps; the list of profiles and the logarithmic
    distance are assumptions of brainhw, unless a lab has measured them.

    Parameters
    ----------
    values : Quantity, shape [K]
        The profiles in any unit of time: finite, greater than zero, strictly increasing, at least one.

    Raises
    ------
    TypeError, ValueError
        If ``values`` is not a time, or not a list of positive, strictly increasing numbers.

    Examples
    --------
    >>> import brainunit as u
    >>> from brainhw.chip import TauProfiles
    >>> profiles = TauProfiles([1, 2, 5, 10, 20] * u.ms)
    >>> snap = profiles.snap([5.0, 9.0] * u.ms)
    >>> [float(tau) for tau in snap.tau / u.ms], snap.index.tolist(), snap.moved
    ([5.0, 10.0], [2, 3], True)
    >>> print(profiles)
    1, 2, 5, 10, 20 ms
    """

    _ms: tuple[float, ...]

    def __init__(self, values: u.Quantity) -> None:
        numbers = exact(values, u.ms, call="TauProfiles", name="values", shapes=None, positive=True)
        if numbers.ndim != 1 or numbers.size == 0:
            raise ValueError(
                f"TauProfiles: values must be a list of at least one time, such as [5, 10] * u.ms; "
                f"got shape {numbers.shape}."
            )
        steps = np.flatnonzero(np.diff(numbers) <= 0)
        if steps.size:
            at = int(steps[0])
            raise ValueError(
                f"TauProfiles: values must be strictly increasing; value {at} is {numbers[at]:g} ms and "
                f"value {at + 1} is {numbers[at + 1]:g} ms; sort them and remove duplicates."
            )
        object.__setattr__(self, "_ms", tuple(numbers.tolist()))

    @property
    def values(self) -> u.Quantity:
        """The profiles in ms, shape ``[K]``, increasing."""
        return u.Quantity(np.asarray(self._ms), unit=u.ms)

    def snap(self, tau: u.Quantity, *, call: str = "TauProfiles.snap") -> TauSnap:
        """Return the profile nearest to each requested time constant in log tau; the caller warns of those that moved.

        Parameters
        ----------
        tau : Quantity, any shape
            The requested time constants: finite and greater than zero.
        call : str
            The call to name in errors.
        """
        text(call, call="TauProfiles.snap", name="call", some=True)
        requested = exact(tau, u.ms, call=call, name="tau", shapes=None, positive=True)
        profiles = np.asarray(self._ms)
        # The larger of the two ratios orders as |log ratio| does, without its rounding: 20 between 10 and 40 is a tie.
        # Of two that are equally near `argmin` takes the first, the shorter.
        ratio = requested[..., None] / profiles
        index = np.argmin(np.maximum(ratio, 1.0 / ratio), axis=-1)
        given = profiles[index]
        return TauSnap(
            tau=u.Quantity(given, unit=u.ms),
            index=np.asarray(index),
            moved=bool(np.any(np.abs(given / requested - 1.0) > _MOVED)),
            requested=u.Quantity(requested, unit=u.ms),
            profiles=self,
        )

    def __str__(self) -> str:
        return ", ".join(f"{value:.10g}" for value in self._ms) + " ms"

    def __repr__(self) -> str:
        return f"TauProfiles({self})"


@final
@dataclass(frozen=True, eq=False)
class TauSnap:
    """The profiles that a chip gives for requested time constants (see `TauProfiles.snap`).

    Attributes
    ----------
    tau : Quantity
        The profiles given, in ms, with the shape of the request.
    index : ndarray of int
        The number of each profile.
    moved : bool
        Whether any time constant moved by more than 1 %.
    requested : Quantity
        The requested time constants, in ms.
    profiles : TauProfiles
        The profiles of the chip.

    Examples
    --------
    >>> import brainunit as u
    >>> from brainhw.chip import H1V1
    >>> snap = H1V1.tau_profiles.snap(30.0 * u.ms)
    >>> print(snap.message("H1v1Layer"))  # doctest: +NORMALIZE_WHITESPACE
    H1v1Layer: 1 of 1 requested tau moved to the nearest hardware profile: 30 -> 20 ms;
    the chip offers 1, 2, 5, 10, 20, 50, 100, 200 ms.
    """

    tau: u.Quantity
    index: np.ndarray
    moved: bool
    requested: u.Quantity = field(repr=False)
    profiles: TauProfiles = field(repr=False)

    def __post_init__(self) -> None:
        times = is_in(u.ms, positive=True, scalar=False)
        check_fields(
            self,
            tau=times,
            index=numbers(whole=True),
            moved=flag,
            requested=times,
            profiles=is_a(TauProfiles),
        )
        shapes = {name: np.shape(u.get_mantissa(getattr(self, name))) for name in ("tau", "index", "requested")}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"TauSnap: tau, index and requested must have one shape; got {shapes}.")

    def message(self, call: str) -> str:
        """Return one sentence on the time constants that moved, for the warning of ``call``.

        Each pair (requested -> given) is listed once, and only the first six pairs.
        """
        text(call, call="TauSnap.message", name="call", some=True)
        requested, given = self.requested.mantissa.ravel(), self.tau.mantissa.ravel()
        moved = np.abs(given / requested - 1.0) > _MOVED
        if not moved.any():
            return f"{call}: every requested tau is a hardware profile to within {_MOVED:.0%}."
        pairs = sorted(set(zip(requested[moved].tolist(), given[moved].tolist(), strict=True)))
        listed = ", ".join(f"{before:.6g} -> {after:.6g} ms" for before, after in pairs[:_LISTED])
        rest = f" and {len(pairs) - _LISTED} more" if len(pairs) > _LISTED else ""
        return (
            f"{call}: {int(moved.sum())} of {requested.size} requested tau moved to the nearest hardware profile: "
            f"{listed}{rest}; the chip offers {self.profiles}."
        )
