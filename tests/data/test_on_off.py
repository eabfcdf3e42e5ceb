from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brainhw.data import split_on_off

FEATURES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5),
    elements=st.floats(-100, 100, width=32),
)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(FEATURES)
def test_on_and_off_are_nonnegative_exclusive_and_give_x_back(x):
    both = split_on_off(x)
    c = x.shape[-1]
    on, off = both[..., :c], both[..., c:]
    assert both.shape == (*x.shape[:-1], 2 * c)
    assert both.dtype == np.float32
    assert both.min() >= 0
    assert not np.any((on > 0) & (off > 0))
    np.testing.assert_array_equal(on - off, x)


def test_on_off_of_unsigned_numbers_does_not_wrap():
    assert split_on_off(np.array([3, 0], np.uint8)).tolist() == [3, 0, 0, 0]


def test_a_single_number_has_no_channels() -> None:
    with pytest.raises(ValueError, match=r"^split_on_off: x must have a last axis of channels"):
        split_on_off(1.0)
