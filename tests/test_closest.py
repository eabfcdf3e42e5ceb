"""The option nearest to a misspelt word, and the hint with it."""

from __future__ import annotations

from brainhw._closest import closest, closest_option


def test_the_most_similar_option_is_named_as_it_is_written() -> None:
    assert closest_option("v_th", ("V_th", "V_reset")) == "V_th"
    assert closest_option("xyz", ("V_th",)) is None
    assert closest("vth", ("V_th", "C")) == " (did you mean 'V_th'?)"
    assert closest("xyz", ("V_th",)) == ""
