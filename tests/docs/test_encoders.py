"""The code of the page about encoders runs, its calls exist, and its numbers are those of the measured file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import brainhw as bh

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "encoders.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.no_dt


def test_the_code_of_the_page_runs() -> None:
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(code, "encoders.md", "exec"), names)
    assert names["events"].shape == (*names["spikes"].shape[:2], 6)
    assert names["y"].tolist() == [0, 1, 2]
    assert names["held"].lengths.tolist() == [120, 200, 168]
    assert names["frames"].shape[1:] == (2, 32, 32)
    assert names["inputs"].shape[1:] == (128,)
    assert names["several"].x.shape[2] == 128
    assert names["again"].to_array().shape == (2000,)


def test_every_encoder_of_the_table_exists_and_none_is_left_out() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert all(callable(getattr(bh.data, name)) for name in named)
    assert named >= {name for name in bh.data.__all__ if name.endswith(("_spikes", "_currents", "_frames"))}


def test_the_accuracies_of_the_page_are_the_measured_ones() -> None:
    rows = json.loads((DOCS / "results" / "static_steps.json").read_text(encoding="utf-8"))["rows"]
    for row in rows:
        assert f"| {row['encoder']} | {row['steps']} | {row['inputs']} | {row['test_accuracy']:.3f} |" in PAGE
