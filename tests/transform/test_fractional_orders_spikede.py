"""The code on the page for users of spikeDE runs without a warning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "coming_from_spikede.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "coming_from_spikede.md", "exec"), names)
    assert names["spikes"].shape == (16, 4, 9)
    assert names["seen"]["hidden.V"].shape == (16, 4, 100)
    assert "orders" in capsys.readouterr().out
    assert [alpha.shape for alpha in names["bh"].get_per_layer_alpha(names["net"])] == [(1, 100), (1,)]


def test_every_call_and_option_that_the_page_names_exists() -> None:
    import brainhw as bh

    for dotted in set(re.findall(r"\bbh((?:\.\w+)+)", PAGE)):
        thing: Any = bh
        for name in dotted.strip(".").split("."):
            thing = getattr(thing, name)
