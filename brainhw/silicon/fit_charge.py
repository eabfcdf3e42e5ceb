"""Fit of the charge curve (charge of one spike against weight code), with a gain for each synapse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import brainunit as u
import numpy as np
from scipy import stats
from scipy.optimize import isotonic_regression, least_squares

from brainhw import _arguments
from brainhw._drawn import Drawn
from brainhw._shown import Shown
from brainhw.chip import ChipSpec, TabulatedCharge, get_chip
from brainhw.kernel.quantize import lowest_code, stored_grid
from brainhw.silicon._results import corrected_std, counted, student_scale, with_error
from brainhw.silicon.odd_synapses import cell_means, odd_synapses, shares_codes
from brainhw.silicon.tables import ChargeTable, named

__all__ = ["ChargeFit", "fit_charge"]

LEAST_CODES = 3
# The fit of the saturating branches has five parameters and needs at least this many codes.
_SMOOTH_FROM = 8
# Significance level of the chi-square test of the branches. If the true curve consists of such branches, the test still
# rejects the fit for one of 1000 benches. The monotone table that is then used is also correct.
_POOR_FIT = 1e-3
# If the slope is smaller than this many standard errors, the data are rejected, because they show no charge curve.
_RISE = 3.0
# In a table with a few hundred pairs of codes, noise makes the charge of one pair fall by five standard errors in about
# 1 of 10,000 tables.
_FALL = 5.0


@final
@dataclass(frozen=True, eq=False, repr=False)
class ChargeFit(Shown, Drawn):
    """A fitted charge curve.

    brainhw assumes that the measured synapses have the same mean gain as all synapses of the chip. ``value +- 1.96
    error`` is a 95 % interval. The errors include the read noise and the error in the mean gain. Only a few synapses
    are measured, so an error in their mean gain scales the whole curve.

    Attributes
    ----------
    table : ChargeTable
        The measurement.
    curve : TabulatedCharge
        The fitted curve, a table over the weights ``codes * step``. The charge at code 0 is set to exactly zero if the
        fitted charge is within two standard errors of zero.
    codes : array of int, shape [K]
        Codes of ``curve``.
    charge, error : Quantity, shape [K]
        Fitted charge of an average synapse at each code of ``codes``, and its standard error, fC.
    measured_codes : array of int, shape [M]
        Codes of the measurement.
    measured : Quantity, shape [M]
        Measured charge at each code of ``measured_codes``, fC. The charge of each synapse is divided by the gain of the
        synapse, and the results are averaged over the synapses.
    residuals : Quantity, shape [R]
        Measured minus fitted charge of each row of the table, fC; NaN for synapses that were excluded.
    synapses : array of int, shape [S]
        Indices of the fitted synapses. A synapse is excluded if its charge is less than a fifth of the charge of the
        others, more than three times this charge, or of the opposite sign. The notes name each excluded synapse.
    gain, gain_error : array, shape [S]
        Gain of each synapse divided by the mean gain, and its standard error.
    gain_std, gain_std_error : float
        Relative standard deviation of the gain over the synapses, corrected for estimation errors. NaN for one synapse,
        or if the synapses share no codes.
    read_noise : Quantity, scalar
        Noise of one reading, fC.
    form : {"branches", "monotone"}
        ``"branches"`` is ``q(w) = q_0 + G w_s tanh(w / w_s)``, with separate ``G`` and ``w_s`` for each sign of ``w``.
        ``"monotone"`` is isotonic regression. It is used if the branches do not fit or there are too few codes to fit
        them.
    common_error : float
        Relative error that all codes share. It is the error in the mean gain of the measured synapses.
    notes : tuple of str
        Limits of the data, and assumptions.
    """

    table: ChargeTable
    curve: TabulatedCharge
    codes: np.ndarray
    charge: u.Quantity
    error: u.Quantity
    measured_codes: np.ndarray
    measured: u.Quantity
    residuals: u.Quantity
    synapses: np.ndarray
    gain: np.ndarray
    gain_error: np.ndarray
    gain_std: float
    gain_std_error: float
    read_noise: u.Quantity
    form: str
    common_error: float
    notes: tuple[str, ...]

    def _parts(self) -> Iterator[str]:
        charge, error = np.asarray(self.charge.mantissa), np.asarray(self.error.mantissa)
        zero = int(np.argmin(np.abs(self.codes)))
        lines = [
            f"charge curve: {counted(self.codes.size, 'code')} from "
            f"{counted(self.synapses.size, 'synapse')}, form {self.form!r}"
        ]
        lines.extend(
            f"  code {code:{'+d' if code else 'd'}}: {with_error(charge[place], error[place], 'fC')}"
            for place in dict.fromkeys((0, zero, self.codes.size - 1))
            for code in (int(self.codes[place]),)
        )
        known = np.isfinite(self.gain_std)
        spread = with_error(100 * self.gain_std, 100 * self.gain_std_error, "%") if known else "unknown"
        lines.append(f"  standard deviation of the gain: {spread}")
        lines.append(f"  read noise: {float(self.read_noise.mantissa):.3g} fC")
        yield from lines
        yield from (f"  {note}" for note in self.notes)

    def __repr__(self) -> str:
        return (
            f"ChargeFit({counted(self.codes.size, 'code')}, {counted(self.synapses.size, 'synapse')}, "
            f"form {self.form!r})"
        )


def fit_charge(table: ChargeTable, chip: ChipSpec | str) -> ChargeFit:
    """Fit the charge curve of an average synapse, and the gain of each measured synapse.

    The model is ``q[k, s] = g[s] c[k] + noise``. It is fitted by alternating least squares, with a mean gain of 1. The
    charges ``c[k]`` are then smoothed by a fit of the saturating branches (see ``form`` in `ChargeFit`). If a
    chi-square test rejects this fit, they are smoothed by isotonic regression (``scipy.optimize``). A synapse that is
    dead or whose charge has the opposite sign is excluded, and a note names this synapse.

    Parameters
    ----------
    table : ChargeTable
        The measurement, with at least 3 codes.
    chip : ChipSpec or str
        The chip, which determines the range and the number of bits of the weights.

    Returns
    -------
    ChargeFit
        The curve with its errors.

    Raises
    ------
    TypeError
        If ``table`` is not a :class:`ChargeTable`.
    ValueError
        If a code does not exist on the chip, if there are too few codes, if the charge does not increase with the code,
        or if the charge decreases between two codes by more than the noise.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u, numpy as np
    >>> codes, synapses = np.repeat(np.arange(-15, 16), 20), np.tile(np.arange(20), 31)
    >>> noise = np.random.default_rng(0).normal(0, 0.01, 620)
    >>> table = bh.silicon.ChargeTable(codes, synapses, (np.tanh(codes / 20) + noise) * u.fcoulomb)
    >>> fit = bh.silicon.fit_charge(table, "H1v1")
    >>> fit.form, bool(abs(fit.curve(0.9).to(u.fcoulomb).mantissa - np.tanh(0.75)) < 0.01)
    ('branches', True)
    """
    call = "fit_charge"
    _arguments.instance(table, ChargeTable, call=call, name="table", source="read_table")
    chip = get_chip(chip, call=call)
    grid = stored_grid(chip, chip.weight_bits)
    what = named(table)
    _check_codes(table.code, lowest_code(grid), grid.largest_code, call, what)
    rows, notes = odd_synapses(table.code, table.synapse, np.asarray(table.charge.mantissa))
    code, q = table.code[rows], np.asarray(table.charge.mantissa)[rows]
    codes, k = np.unique(code, return_inverse=True)
    synapses, s = np.unique(table.synapse[rows], return_inverse=True)
    if codes.size < LEAST_CODES:
        raise ValueError(
            f"{call}: {what} must contain at least {LEAST_CODES} codes; got {codes.size}. Measure more codes, of both "
            "signs and zero."
        )
    mean, count = cell_means(k, s, q)
    c, g = _rank_one(np.nan_to_num(mean), count)
    freedom = q.size - codes.size - synapses.size + 1
    if freedom > 0:
        sigma = float(np.sqrt(np.sum((q - c[k] * g[s]) ** 2) / freedom))
    else:
        sigma = float("nan")
        notes.append(
            "each code was measured once, so the read noise is estimated from the residuals of the fitted form"
        )
    sd = 1.0 / np.sqrt((count * g**2).sum(1))
    dense = np.arange(codes[0], codes[-1] + 1)

    def weights(codes: np.ndarray) -> np.ndarray:
        return np.asarray(grid.values(codes.astype(np.float32), np.float32), float)

    if np.isfinite(sigma):
        _check_rises(codes, c, sd * sigma, call, what)
    smooth = _branches(weights(codes), c, sd, sigma, weights(dense))
    if not np.isfinite(sigma):
        sigma = smooth.noise if smooth else float(np.std(np.diff(c, 2)) / np.sqrt(6)) if codes.size > 3 else 0.0
        _check_rises(codes, c, sd * sigma, call, what)
    if smooth is None or not smooth.fits:
        form, at = "monotone", codes
        value, error = _monotone(c, sd * sigma), sd * sigma
    else:
        form, at, value, error = "branches", dense, smooth.value, smooth.error * sigma
    power = (count * c[:, None] ** 2).sum(0)
    # The gain of a synapse is unknown if it was measured only at codes without charge.
    gain_error = np.divide(sigma, np.sqrt(power), out=np.full(power.shape, np.nan), where=power > 0)
    compared = shares_codes(count)
    spread, spread_error, common = _gain_spread(g, gain_error, compared)
    if synapses.size == 1:
        notes.append(
            "with one synapse, the standard deviation of the gain and the error common to all codes are unknown"
        )
    elif not compared:
        notes.append(
            "the synapses share no codes, so the standard deviation of the gain and the error common to all codes are "
            "unknown"
        )
    notes.append(
        "the gains are relative to the mean of the measured synapses, which is assumed to be the mean of the chip"
    )
    if not (codes[0] < 0 < codes[-1]):
        notes.append("codes of one sign only, so the curve is extrapolated as a straight line")
    fitted = value[np.searchsorted(at, code)]
    residuals = np.full(table.code.size, np.nan)
    residuals[rows] = q - fitted * g[s]
    curve = _zero_where_uncertain(at, value, error)
    return ChargeFit(
        table=table,
        curve=TabulatedCharge(weights(at), u.Quantity(curve, unit=u.fcoulomb)),
        codes=at,
        charge=u.Quantity(value, unit=u.fcoulomb),
        error=u.Quantity(np.hypot(error * student_scale(max(freedom, 3)), common * value), unit=u.fcoulomb),
        measured_codes=codes,
        measured=u.Quantity(c, unit=u.fcoulomb),
        residuals=u.Quantity(residuals, unit=u.fcoulomb),
        synapses=synapses,
        gain=g,
        gain_error=gain_error,
        gain_std=spread,
        gain_std_error=spread_error,
        read_noise=u.Quantity(sigma, unit=u.fcoulomb),
        form=form,
        common_error=common,
        notes=tuple(notes),
    )


def _zero_where_uncertain(codes: np.ndarray, charge: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return the charges. Set the charge of code 0 to exactly zero if it is within two standard errors of zero."""
    # With any other charge at code 0, the power estimate would count each unused synapse as an event.
    (place,) = np.nonzero(codes == 0)
    uncertain = place.size and abs(charge[place[0]]) < 2 * error[place[0]]
    # With a zero, the table is still increasing only if the charges of all lower codes are negative and the charges of
    # all higher codes are positive.
    if not uncertain or not (np.all(charge[: place[0]] < 0) and np.all(charge[place[0] + 1 :] > 0)):
        return charge
    return np.where(codes == 0, 0.0, charge)


def _check_codes(code: np.ndarray, lowest: int, largest: int, call: str, what: str) -> None:
    off = (code > largest) | (code < lowest)
    if off.any():
        raise ValueError(
            f"{call}: the codes of {what} must be from {lowest} to {largest}, the range of the grid of the chip; got "
            f"{code[int(np.argmax(off))]} in row {int(np.argmax(off)) + 1} (in {int(off.sum())} of {off.size} "
            "rows). Check the chip and its weight_bits."
        )


def _rank_one(mean: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the charges ``[K]`` and the gains ``[S]`` whose outer product is the best fit to ``mean [K, S]``.

    The fit minimises the sum of squares with the weights ``count [K, S]``. The gains have mean 1.
    """
    g = np.ones(mean.shape[1])
    for _ in range(100):
        c = (count * mean * g).sum(1) / (count * g**2).sum(1)
        power = (count * c[:, None] ** 2).sum(0)
        new = np.divide((count * mean * c[:, None]).sum(0), power, out=np.ones_like(g), where=power > 0)
        # The gain of a synapse without charge, or measured only at code 0, is unknown and set to 1.
        new = np.where(power > 1e-3 * power.max(), new, 1.0)
        new /= new.mean()
        if mean.shape[1] == 1 or np.max(np.abs(new - g)) < 1e-12:
            break
        g = new
    return (count * mean * g).sum(1) / (count * g**2).sum(1), g


def _gain_spread(g: np.ndarray, error: np.ndarray, compared: bool) -> tuple[float, float, float]:
    """Return three values: the standard deviation of the gains, its standard error, and the error in the mean gain.

    The mean gain of the measured synapses estimates the mean gain of the chip. The last value is the error in this
    estimate.
    """
    g, error = g[np.isfinite(error)], error[np.isfinite(error)]
    n = g.size if compared else 0
    if n < 2:
        return float("nan"), float("nan"), 0.0
    spread = corrected_std(g, error)
    return spread, float(np.std(g, ddof=1) / np.sqrt(2 * (n - 1))), spread / np.sqrt(n) * student_scale(n - 1)


@dataclass(frozen=True)
class _Smooth:
    """Result of a fit of the saturating branches, evaluated at the requested weights."""

    value: np.ndarray
    # Standard error, in units of the read noise.
    error: np.ndarray
    # Standard deviation of the residuals, in units of ``sd`` in `_branches`.
    noise: float
    # Whether the fit increases and a chi-square test accepts it.
    fits: bool


def _branches(w: np.ndarray, c: np.ndarray, sd: np.ndarray, sigma: float, at: np.ndarray) -> _Smooth | None:
    """Fit the charges ``c`` with an offset and a saturating branch for each sign of the weights ``w``.

    Return the fit at the weights ``at``, or ``None`` if there are too few codes.
    """
    if w.size < _SMOOTH_FROM or min((w > 0).sum(), (w < 0).sum()) < 3:
        return None
    limit = np.abs(w).max()
    slope = max((c[-1] - c[0]) / (w[-1] - w[0]), 1e-9)

    def form(p: np.ndarray, x: np.ndarray) -> np.ndarray:
        return p[0] + np.where(x > 0, p[1] * _saturating(x, p[2]), p[3] * _saturating(x, p[4]))

    # Allow a negative bend (a curve that gets steeper), so that noise does not bias the fit of a straight curve. The
    # limit keeps the tangent below its pole, at a bend of -(pi / 2 / limit)**2.
    least = -1.0 / limit**2
    found = least_squares(
        lambda p: (form(p, w) - c) / sd,
        [float(np.interp(0.0, w, c)), slope, 0.1 / limit**2, slope, 0.1 / limit**2],
        bounds=([-np.inf, 0, least, 0, least], np.inf),
        x_scale=[slope * limit, slope, 1 / limit**2, slope, 1 / limit**2],
        xtol=1e-12,
        ftol=1e-12,
    )
    freedom = w.size - 5
    square = float(np.sum(found.fun**2))
    noise = float(np.sqrt(square / freedom))
    # Without noise, the float32 rounding of the weights is the largest error.
    sigma = max(sigma, 1e-5 * (c[-1] - c[0])) if np.isfinite(sigma) else sigma
    fits = not np.isfinite(sigma) or bool(stats.chi2.sf(square / max(sigma, 1e-300) ** 2, freedom) > _POOR_FIT)
    step = 1e-6 * np.maximum(np.abs(found.x), 1e-3)
    slopes = np.stack([(form(found.x + d, at) - form(found.x - d, at)) / (2 * d.sum()) for d in np.diag(step)], 1)
    spread = np.einsum("ai,ij,aj->a", slopes, np.linalg.pinv(found.jac.T @ found.jac), slopes)
    value = form(found.x, at)
    rises = bool(np.all(np.diff(value) >= 0) and value[-1] > value[0])
    return _Smooth(value, np.sqrt(np.maximum(spread, 0.0)), noise, fits and rises)


def _saturating(x: np.ndarray, bend: float) -> np.ndarray:
    """Return ``w_s tanh(x / w_s)`` with ``bend = 1 / w_s**2``, or ``w_s tan(x / w_s)`` for a negative bend."""
    root = np.sqrt(abs(bend))
    if root * np.abs(x).max() < 1e-4:
        return x - bend * x**3 / 3
    return (np.tanh if bend > 0 else np.tan)(root * x) / root


def _monotone(c: np.ndarray, sd: np.ndarray) -> np.ndarray:
    weight = 1.0 / np.maximum(sd, 1e-12 * np.abs(c).max()) ** 2
    return np.asarray(isotonic_regression(c, weights=weight).x)


def _check_rises(codes: np.ndarray, c: np.ndarray, sd: np.ndarray, call: str, what: str) -> None:
    """Raise ``ValueError`` if the charge does not increase with the code.

    Also raise ``ValueError`` if the charge decreases between two codes by more than the noise.
    """
    sd = np.maximum(sd, max(1e-12 * np.abs(c).max(), 1e-300))
    i, j = np.triu_indices(codes.size, 1)
    fall = (c[i] - c[j]) / np.hypot(sd[i], sd[j])
    worst = int(np.argmax(fall))
    if fall[worst] > _FALL:
        raise ValueError(
            f"{call}: the charge must not decrease as the code increases; in {what} it falls from {c[i[worst]]:.4g} fC "
            f"at code {codes[i[worst]]} to {c[j[worst]]:.4g} fC at code {codes[j[worst]]}, a fall of {fall[worst]:.1f} "
            "standard errors. Check the sign of the codes and the bench, or measure again."
        )
    weight = (sd.min() / sd) ** 2
    middle = codes - np.average(codes, weights=weight)
    slope = (weight * middle * c).sum() / np.sqrt((weight * middle**2).sum()) / sd.min()
    if not (c[-1] > c[0] and slope > _RISE):
        raise ValueError(
            f"{call}: the charge must increase with the code by more than the noise; {what} has {c[0]:.4g} fC at code "
            f"{codes[0]} and {c[-1]:.4g} fC at code {codes[-1]}. Check the codes and the bench, or measure again."
        )
