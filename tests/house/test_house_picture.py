"""The picture of the package in CONTRIBUTING agrees with its imports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TOOLS = str(Path(__file__).parents[2] / "tools")
if TOOLS not in sys.path:
    sys.path.append(TOOLS)

import house_picture  # noqa: E402

pytestmark = pytest.mark.no_dt
FIX = "run python tools/house_picture.py"


def test_the_diagram_and_the_image_are_current() -> None:
    page = house_picture.PAGE.read_text(encoding="utf-8")
    assert all(page.count(mark) == 1 for mark in house_picture.MARKS)
    assert page == house_picture.filled(page), FIX
    assert house_picture.IMAGE.read_text(encoding="utf-8") == house_picture.image(), FIX


def test_every_part_has_a_box_and_every_import_goes_down() -> None:
    order = house_picture.wings()
    folders = {path.parent.name for path in (house_picture.ROOT / "brainhw").glob("*/__init__.py")}
    assert set(order) == folders == set(house_picture.WORDS)
    assert all(order.index(above) < order.index(below) for above, below in house_picture.imports())
