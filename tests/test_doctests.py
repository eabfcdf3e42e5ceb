"""The examples in the docstrings, one test a module."""

from __future__ import annotations

import doctest
import importlib
import pathlib

import pytest

import brainhw

ROOT = pathlib.Path(brainhw.__file__).parent
MODULES = sorted(
    ".".join(("brainhw", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
)


@pytest.mark.no_dt
@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples in {name} failed, see above"


def test_every_public_class_and_function_of_nn_and_transform_has_an_example() -> None:
    shared = {"H1Frontend", "H1Layer", "H1Synapse", "SpikingLayer", "EffectiveWeight", "chip_weights", "net_chip"}
    public = [(brainhw.nn, name) for name in brainhw.nn.__all__ if name not in shared]
    public += [(brainhw.transform, name) for name in brainhw.transform.__all__]
    without = [name for wing, name in public if ">>>" not in (getattr(wing, name).__doc__ or "")]
    assert not without
