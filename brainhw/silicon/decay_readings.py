"""Find faulty readings of decays: single outliers and a saturated read-out."""

from __future__ import annotations

import numpy as np

from brainhw.silicon._results import counted
from brainhw.silicon.tables import DecayTable

__all__ = ["ceiling", "note_of_faulty", "outlier_readings", "reason_for_no_fit"]

# The distance of a reading is the amount by which it lies outside the range of its two neighbours. A reading is an
# outlier if its distance is more than ``_USUAL`` times the median distance, and more than the fraction ``_PART`` of the
# median height of a decay.
_USUAL, _PART = 30.0, 0.2
# The first reading of a decay is faulty if it exceeds the median maximum of the decays by this factor but the second
# reading does not exceed this maximum.
_FIRST = 5.0
# The read-out saturates if at least ``_PLATEAU`` readings of one decay equal the largest value of the table. In a
# quantised read-out, the next lower value occurs about as often. So the largest value must also occur more than
# ``_MORE`` times as often as the next lower value.
_PLATEAU, _MORE = 3, 4


def outlier_readings(d: np.ndarray, trial: np.ndarray, t: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Return a mask ``[R]`` of single readings that lie far outside their decay.

    For each reading, ``d`` is the index of the decay, ``trial`` is the index of the trial, ``t`` is the time, and ``V``
    is the membrane potential. The membrane potential falls during the whole decay, so a correct reading lies between
    its neighbours, apart from noise. The last reading is compared with the two readings before it. The first reading is
    compared with the median of the maxima of all decays. A comparison with the second reading is not enough, because a
    correct first reading is also far above the second reading if the time constant is short.
    """
    order = np.lexsort((t, trial, d))
    key = np.stack([d, trial])[:, order]
    W = V[order]
    same = (key[:, 1:] == key[:, :-1]).all(0)
    beyond = np.zeros(W.size)
    middle = np.flatnonzero(same[1:] & same[:-1]) + 1
    before, here, after = W[middle - 1], W[middle], W[middle + 1]
    beyond[middle] = here - np.clip(here, np.minimum(before, after), np.maximum(before, after))
    last = middle[~np.append(same, False)[middle + 1]] + 1
    # The last reading is faulty only if it rises, because the decay may continue to fall.
    beyond[last] = np.maximum(W[last] - np.maximum(W[last - 1], W[last - 2]), 0.0)
    height = np.median([np.ptp(W[key[0] == one]) for one in np.unique(d)])
    odd = np.abs(beyond) > max(_USUAL * float(np.median(np.abs(beyond[middle]))) if middle.size else 0, _PART * height)
    tops = np.array([np.abs(W[key[0] == one]).max() for one in np.unique(d)])
    first = np.flatnonzero(np.append(False, same)[:-1] < same)
    usual = float(np.median(tops))
    odd[first] = (np.abs(W[first]) > _FIRST * usual) & (np.abs(W[first + 1]) < usual)
    beyond[first] = np.where(odd[first], W[first], 0.0)
    # The neighbours of a faulty reading look faulty too. So of adjacent faulty readings, keep only the one that is
    # furthest outside.
    worst = odd.copy()
    for shift in (1, -1):
        near = np.roll(odd, shift) & (np.roll(key, shift, 1) == key).all(0)
        worst &= ~(near & (np.abs(np.roll(beyond, shift)) > np.abs(beyond)))
    found = np.zeros(V.size, bool)
    found[order] = worst
    return found


def ceiling(V: np.ndarray, used: np.ndarray) -> float:
    """Return the value at which the read-out saturates, or infinity if it does not saturate.

    ``V`` and ``used`` have one row per decay.
    """
    there = used > 0
    top = float(V[there].max())
    below = V[there & (top > V)]
    at_top = (there & (top == V)).sum(1)
    many = int(at_top[at_top >= _PLATEAU].sum())
    if not below.size or many < _PLATEAU or many <= _MORE * int((below == below.max()).sum()):
        return float("inf")
    return top


def note_of_faulty(table: DecayTable, faulty: np.ndarray) -> str:
    """Return a note that lists the faulty readings, which the fit excludes."""
    rows = np.flatnonzero(faulty)
    where = "; ".join(
        f"row {row + 1}, setting {table.setting[row]} neuron {table.neuron[row]}, {float(table.V.mantissa[row]):g} mV "
        f"at {float(table.t.mantissa[row]):g} ms"
        for row in rows[:5]
    )
    return f"excluded {counted(rows.size, 'reading')} far outside the decay: {where}"


def reason_for_no_fit(V: np.ndarray, used: np.ndarray) -> str:
    """Return the reason why no time constant could be fitted to any decay."""
    number = used.sum(1)
    place = (np.cumsum(used, 1) - 0.5) / number[:, None]
    early, late = used * (place < 0.25), used * (place > 0.75)
    fall = (early * V).sum(1) / np.maximum(early.sum(1), 1) - (late * V).sum(1) / np.maximum(late.sum(1), 1)
    steps = np.abs(np.diff(V, axis=1))[(used[:, 1:] * used[:, :-1]) > 0]
    noise = float(np.median(steps)) if steps.size else 0.0
    if np.median(fall) > 5 * noise and np.median(fall) > 0:
        return (
            f"the readings fall by {np.median(fall):.3g} mV, but not exponentially to a common level. Check the unit, "
            "and that the neuron has neither input nor spikes."
        )
    if -np.median(fall) > 5 * noise and np.median(fall) < 0:
        return f"the readings rise with time, by {-np.median(fall):.3g} mV. Check the sign of V and the times."
    return (
        "the readings do not fall by more than the noise. Start from a higher membrane potential, read for longer, or "
        "check for single bad readings."
    )
