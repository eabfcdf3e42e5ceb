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

# A tenth of the leak mismatch that is assumed for the presets: a smaller change is hidden by the variation of a chip.
_MOVED = 0.01
_LISTED = 6


@final
@dataclass(frozen=True, init=False, repr=False)
class TauProfiles:
    """Membrane time constants that the leak circuit of a chip supports.

    A requested time constant is rounded to the nearest profile in log tau, that is the profile with the smallest ratio
    to it, and exactly halfway to the shorter one. The vendor documents that a chip rounds; the list of profiles and the
    logarithmic distance are assumptions of brainhw, unless a lab has measured them.

    Parameters
    ----------
    values : Quantity, shape [K]
        Profiles in any unit of time: finite, greater than zero, strictly increasing, at least one.

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
        """Round each requested time constant to the nearest profile in log tau; the caller warns of changes.

        Parameters
        ----------
        tau : Quantity, any shape
            Requested time constants: finite and greater than zero.
        call : str
            Name of the call for errors.
        """
        text(call, call="TauProfiles.snap", name="call", some=True)
        requested = exact(tau, u.ms, call=call, name="tau", shapes=None, positive=True)
        profiles = np.asarray(self._ms)
        # The larger of the two ratios orders like |log ratio|, without its rounding error: 20 between 10 and 40 is a
        # tie. In a tie `argmin` takes the first, shorter profile.
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
    """Profiles that a chip uses for requested time constants (see `TauProfiles.snap`).

    Attributes
    ----------
    tau : Quantity
        Profiles in use, in ms, with the shape of the request.
    index : ndarray of int
        Index of each profile.
    moved : bool
        Whether any time constant changed by more than 1 %.
    requested : Quantity
        Requested time constants, in ms.
    profiles : TauProfiles
        Profiles of the chip.

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
        """Return a sentence that lists the changed time constants, for the warning of ``call``.

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
