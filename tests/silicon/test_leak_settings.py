"""Which leak setting is which profile, and profiles that were not measured."""

from __future__ import annotations

import numpy as np
import pytest

from brainhw.silicon.leak_settings import match_settings, scaled_profiles

pytestmark = pytest.mark.no_dt
PRESETS = np.array([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0])


def test_settings_that_fit_their_profiles_are_indices() -> None:
    matched, how = match_settings({3: 7.0, 4: 14.0, 5: 35.0}, PRESETS, None, "calibrate")
    assert matched == {3: 3, 4: 4, 5: 5}
    assert "indices" in how


def test_a_common_factor_does_not_shift_the_profiles() -> None:
    # Nearest in log tau would be 5, 10 and 50 ms.
    matched, how = match_settings({0: 7.0, 1: 14.0, 2: 35.0}, PRESETS, None, "calibrate")
    assert matched == {0: 3, 1: 4, 2: 5}
    assert "0 -> profile 3 (10 ms)" in how


def test_settings_need_not_be_in_order_and_close_rivals_are_named() -> None:
    matched, how = match_settings({0: 26.0, 1: 13.5, 2: 6.75}, PRESETS, None, "calibrate")
    assert matched == {0: 4, 1: 3, 2: 2}
    assert "almost as likely: settings 0=5, 1=4, 2=3" in how


def test_the_time_constants_of_the_data_sheet_leave_no_doubt() -> None:
    matched, how = match_settings({0: 9.8, 1: 20.5, 2: 51.0}, PRESETS, None, "calibrate")
    assert matched == {0: 3, 1: 4, 2: 5}
    assert "nearly" not in how


def test_given_settings_win() -> None:
    assert match_settings({0: 7.0}, PRESETS, {0: 4}, "calibrate") == (
        {0: 4},
        "leak settings are matched to profiles as passed in settings",
    )


def test_many_profiles_take_the_nearest() -> None:
    presets = np.geomspace(1, 1000, 60)
    means = {k + 100: 1.02 * presets[5 * k] for k in range(10)}
    assert match_settings(means, presets, None, "calibrate")[0] == {k + 100: 5 * k for k in range(10)}


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({}, "lacks setting 0"),
        ({0: 1, 9: 2}, "contains setting 9"),
        ({0: 8}, r"settings\[0\] must be at most 7"),
        ({0: -1}, r"settings\[0\] must be at least 0"),
    ],
)
def test_given_settings_must_suit_tables_and_chip(given: dict[int, int], match: str) -> None:
    with pytest.raises(ValueError, match=f"calibrate: .*{match}"):
        match_settings({0: 7.0}, PRESETS, given, "calibrate")


def test_two_settings_cannot_be_one_profile_and_no_more_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"calibrate: settings .*a different profile"):
        match_settings({0: 7.0, 1: 8.0}, PRESETS, {0: 3, 1: 3}, "calibrate")
    with pytest.raises(ValueError, match=r"calibrate: .*9 leak settings, but the chip has 8"):
        match_settings({k: 1.0 + k for k in range(9)}, PRESETS, None, "calibrate")


def test_profiles_without_data_are_scaled_like_their_neighbours() -> None:
    profiles, note = scaled_profiles({2: 6.0, 4: 22.0}, PRESETS, "calibrate")
    np.testing.assert_allclose(profiles[[0, 1, 2, 4, 5, 7]], [1.2, 2.4, 6.0, 22.0, 55.0, 220.0])
    assert 6.0 < profiles[3] < 22.0
    assert "0, 1, 3, 5, 6, 7" in note
    assert scaled_profiles(dict(enumerate(2 * PRESETS)), PRESETS, "calibrate")[1] == ""
    with pytest.raises(ValueError, match=r"calibrate: .*profile 2 has 9 ms and profile 3 has 8 ms"):
        scaled_profiles({2: 9.0, 3: 8.0}, PRESETS, "calibrate")
