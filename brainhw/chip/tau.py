"""Time constants that a chip supports, and rounding of a requested time constant to the nearest one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import brainunit as u
import numpy as np

from brainhw._arguments import flag, text
from brainhw._records import check_fields, is_a, is_in, numbers
from brainhw.chip._units import exact

__all__ = ["TauProfiles", "TauSnap"]

# Smaller relative changes are not reported, because they are hidden by mismatch. The limit is a tenth of the leak
# mismatch that brainhw assumes for the presets.
_MOVED = 0.01
_LISTED = 6


@final
@dataclass(frozen=True, init=False, repr=False)
class TauProfiles:
    """Membrane time constants that the leak circuit of a chip supports.

    A requested time constant is rounded to the profile that is nearest on a logarithmic scale. If two profiles are
    equally near, the shorter one is used. The vendor documents that a chip rounds time constants to its profiles. The
    logarithmic scale is an assumption of brainhw. The list of profiles is also an assumption, unless a lab has measured
    it.

    Parameters
    ----------
    values : Quantity, shape [K]
        At least one profile, in any unit of time. The values must be finite, greater than zero and strictly increasing.

    Raises
    ------
    TypeError
        If ``values`` does not have a unit of time.
    ValueError
        If ``values`` is empty, not one-dimensional, not positive, or not strictly increasing.

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
                f"TauProfiles: values must be a list of at least one time constant, such as [5, 10] * u.ms; "
                f"got shape {numbers.shape}."
            )
        steps = np.flatnonzero(np.diff(numbers) <= 0)
        if steps.size:
            at = int(steps[0])
            raise ValueError(
                f"TauProfiles: values must be strictly increasing; got {numbers[at]:g} ms at index {at} and "
                f"{numbers[at + 1]:g} ms at index {at + 1}. Sort them and remove duplicates."
            )
        object.__setattr__(self, "_ms", tuple(numbers.tolist()))

    @property
    def values(self) -> u.Quantity:
        """The profiles in ms, shape ``[K]``, increasing."""
        return u.Quantity(np.asarray(self._ms), unit=u.ms)

    def snap(self, tau: u.Quantity, *, call: str = "TauProfiles.snap") -> TauSnap:
        """Round each requested time constant to the nearest profile on a logarithmic scale.

        This function does not warn of changes; `TauSnap.message` returns the text of a warning.

        Parameters
        ----------
        tau : Quantity, any shape
            Requested time constants. They must be finite and greater than zero.
        call : str
            Name of the calling function, for error messages.
        """
        text(call, call="TauProfiles.snap", name="call", some=True)
        requested = exact(tau, u.ms, call=call, name="tau", shapes=None, positive=True)
        profiles = np.asarray(self._ms)
        # Comparing max(ratio, 1 / ratio) is the same as comparing |log(ratio)|, but without the rounding error of the
        # logarithm: 20 is exactly halfway between 10 and 40. If two profiles are equally near, `argmin` takes the
        # first, shorter one.
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
    """The profiles to which requested time constants were rounded; returned by `TauProfiles.snap`.

    Attributes
    ----------
    tau : Quantity
        The profile of each requested time constant, in ms.
    index : ndarray of int
        Index of the profile of each requested time constant.
    moved : bool
        Whether any time constant changed by more than 1 %.
    requested : Quantity
        Requested time constants, in ms.
    profiles : TauProfiles
        All profiles of the chip.

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
            raise ValueError(f"TauSnap: tau, index and requested must have the same shape; got {shapes}.")

    def message(self, call: str) -> str:
        """Return a sentence that starts with ``call`` and lists the changed time constants.

        Each distinct change (requested -> rounded) is listed once. At most six changes are listed.
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
