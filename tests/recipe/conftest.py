"""Two trained classifiers for the tests of the recipe."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from recipe_sets import recordings

import brainhw as bh


@pytest.fixture(scope="session")
def classifier() -> Any:
    """Return a classifier with a tenth of the training, for tests that do not depend on its accuracy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["brainhw.recipe.train_classifier"], "_FEW_BATCHES", 6)
        return _train()


@pytest.fixture(scope="session")
def trained_classifier() -> Any:
    return _train()


def _train() -> Any:
    return bh.recipe.train_classifier(*recordings(45, 1), chip="h1v2", progress=False)
