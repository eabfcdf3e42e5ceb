"""Match leak settings of a bench to the tau profiles of a chip, and scale profiles that were not measured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from brainhw import _arguments

__all__ = ["match_settings", "scaled_profiles"]

# The number of each setting is used as the index of its profile if every time constant is within this factor of its
# profile.
_PLAUSIBLE = 2.0
# Standard deviations of the log of two factors. brainhw assumes that a factor that is common to all profiles varies
# more between chips than the factor of each single profile. For example, 7, 14 and 35 ms are then matched to profiles
# of 10, 20 and 50 ms, and not of 5, 10 and 50 ms.
_COMMON, _EACH = 0.5, 0.15
# If the log of every time constant is this close to the log of its profile, the second best assignment is not reported.
_NEAR = 0.2
# At most this many assignments are tried. If there are more, each setting is assigned to the nearest free profile.
_MOST_CHOICES = 20_000


def match_settings(
    means: Mapping[int, float], presets: np.ndarray, given: Mapping[int, int] | None, call: str
) -> tuple[dict[int, int], str]:
    """Return the index of the tau profile of each leak setting, and a sentence that explains the assignment.

    ``means`` contains the measured time constant of each leak setting. ``presets`` contains the time constants of the
    profiles. Both are in ms.
    """
    if len(means) > presets.size:
        raise ValueError(
            f"{call}: the tables contain {len(means)} leak settings, but the chip has {presets.size} tau_profiles. "
            "Check the chip, or remove the rows of some settings from the tables."
        )
    if given is not None:
        return _match_as_given(
            means, presets, given, call
        ), "leak settings are matched to profiles as passed in settings"
    by_index = all(
        setting < presets.size and abs(math.log(tau / presets[setting])) < math.log(_PLAUSIBLE)
        for setting, tau in means.items()
    )
    if by_index:
        return {setting: setting for setting in means}, "leak settings are the indices of the profiles"
    order = sorted(means, key=means.__getitem__)
    taus = np.log([means[setting] for setting in order])
    ranked = sorted((_cost(taus, np.log(presets[list(rows)])), rows) for rows in _choices(presets, taus))
    rows = ranked[0][1]
    matched = dict(zip(order, rows, strict=True))
    assignment = ", ".join(f"{s} -> profile {matched[s]} ({presets[matched[s]]:g} ms)" for s in sorted(matched))
    how = f"leak settings are matched to profiles by their time constants: {assignment}"
    apart = float(np.abs(taus - np.log(presets[list(rows)])).max())
    if apart > _NEAR and len(ranked) > 1 and ranked[1][0] - ranked[0][0] < 4.0:
        other = ", ".join(f"{s}={row}" for s, row in sorted(zip(order, ranked[1][1], strict=True)))
        how += f"; almost as likely: settings {other}"
    return {setting: matched[setting] for setting in sorted(matched)}, how


def _choices(presets: np.ndarray, taus: np.ndarray) -> Any:
    if math.comb(presets.size, taus.size) <= _MOST_CHOICES:
        return itertools.combinations(range(presets.size), taus.size)
    # With so many profiles, neighbouring profiles are close together. The nearest free profile is then as good as the
    # best assignment.
    rows: list[int] = []
    for place, tau in enumerate(taus):
        least, most = (rows[-1] + 1 if rows else 0), presets.size - (taus.size - place) + 1
        rows.append(least + int(np.argmin(np.abs(np.log(presets[least:most]) - tau))))
    return [tuple(rows)]


def _cost(taus: np.ndarray, presets: np.ndarray) -> float:
    ratio = taus - presets
    # The most likely common factor, if its log has a normal prior.
    common = ratio.sum() / (ratio.size + (_EACH / _COMMON) ** 2)
    return float(np.sum((ratio - common) ** 2) / _EACH**2 + (common / _COMMON) ** 2)


def _match_as_given(
    means: Mapping[int, float], presets: np.ndarray, given: Mapping[int, int], call: str
) -> dict[int, int]:
    matched = {
        _arguments.whole_number(setting, call=call, name="a key of settings"): _arguments.whole_number(
            row, call=call, name=f"settings[{setting!r}]", most=presets.size - 1
        )
        for setting, row in given.items()
    }
    missing = sorted(set(means) - set(matched))
    extra = sorted(set(matched) - set(means))
    if missing or extra:
        fault = f"lacks setting {missing[0]}" if missing else f"contains setting {extra[0]}, which is not in the tables"
        raise ValueError(f"{call}: settings {fault}; the tables have {sorted(means)}.")
    if len(set(matched.values())) < len(matched):
        raise ValueError(f"{call}: settings must map each leak setting to a different profile; got {matched}.")
    return matched


def scaled_profiles(measured: Mapping[int, float], presets: np.ndarray, call: str) -> tuple[np.ndarray, str]:
    """Return the time constants of all profiles in ms, and a note on those that were not measured.

    The time constant of a profile that was not measured is scaled by a factor that is interpolated between the measured
    profiles.
    """
    rows = np.array(sorted(measured))
    taus = np.array([measured[row] for row in rows])
    if np.any(np.diff(taus) <= 0):
        at = int(np.argmax(np.diff(taus) <= 0))
        raise ValueError(
            f"{call}: time constants must increase with the index of the profile; profile {rows[at]} has "
            f"{taus[at]:.4g} ms and profile {rows[at + 1]} has {taus[at + 1]:.4g} ms. Pass "
            "settings={leak setting: profile index, ...}, with a larger index for a longer time constant."
        )
    log = np.log(presets)
    # Interpolate the log of the scale factor linearly between measured profiles and keep it constant outside them, so
    # that the order of the time constants stays the same.
    ratio = np.interp(log, log[rows], np.log(taus) - log[rows])
    profiles = presets * np.exp(ratio)
    profiles[rows] = taus
    others = [row for row in range(presets.size) if row not in measured]
    if not others:
        return profiles, ""
    return profiles, (
        f"profiles {', '.join(map(str, others))} were not measured: brainhw assumes that their time constants are "
        f"scaled by {np.exp(ratio[others]).min():.3g} to {np.exp(ratio[others]).max():.3g} like the measured ones"
    )
