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
    public = [getattr(wing, name) for wing in (brainhw.nn, brainhw.transform) for name in wing.__all__]
    # A base that only others are built on is shown by them; effective weights are built by synapses alone.
    shared = {base for thing in public if isinstance(thing, type) for base in thing.__mro__[1:]}
    shared.add(brainhw.nn.EffectiveWeight)
    # The parts of a StepTrace are shown by trace_step, which makes them.
    shared |= {getattr(brainhw.transform, name) for name in ("Call", "Link", "StepTrace", "Value")}
    without = [thing.__name__ for thing in public if thing not in shared and ">>>" not in (thing.__doc__ or "")]
    assert not without
