"""Values as JSON holds them."""

import brainunit as u
import numpy as np
import pytest

from brainhw._plain_json import parse_json
from brainhw.cli.result import Result, json_text, plain

pytestmark = pytest.mark.no_dt


def test_arrays_become_lists_and_what_is_not_finite_null() -> None:
    given = {"a": np.array([1.5, np.nan, np.inf]), "b": (np.int64(2), np.bool_(True), -np.inf), "c": None, 3: "x"}
    assert plain(given) == {"a": [1.5, None, None], "b": [2, True, None], "c": None, "3": "x"}
    assert plain(np.float32(0.1)) == float(np.float32(0.1))


def test_a_quantity_is_refused_because_its_unit_would_be_lost() -> None:
    with pytest.raises(TypeError, match="Quantity cannot be converted to JSON"):
        plain({"a": 3.0 * u.ms})


def test_the_document_parses_and_holds_the_warnings() -> None:
    text = json_text("run", Result(("line",), {"name": 'ψ "\n', "x": float("nan")}, ("careful",)))
    assert text.isascii()
    held = parse_json(text)
    assert (held["name"], held["x"], held["warnings"], held["command"]) == ('ψ "\n', None, ["careful"], "run")
