"""One trained classifier for all tests of the recipe."""

from __future__ import annotations

from typing import Any

import pytest
from recipe_sets import recordings

import brainhw as bh


@pytest.fixture(scope="session")
def classifier() -> Any:
    return bh.recipe.train_classifier(*recordings(45, 1), chip="h1v2", progress=False)
