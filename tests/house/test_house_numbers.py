"""Limits on what a reader of the code must open: files a call, tests for classes, comments."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TOOLS = str(Path(__file__).parents[2] / "tools")
if TOOLS not in sys.path:
    sys.path.append(TOOLS)

import house_numbers  # noqa: E402

pytestmark = pytest.mark.no_dt

# `fluct_init` was to enter 12. A step, a preparation, a trace and the checks are ten files by themselves. The other six
# are one concept each (the call, pairs, circuit, response, draw, report), and with fewer each would pass 550 lines. The
# rules of a step are a file of their own since they must hold for every traced step. So are its time, the settings that
# it is compiled for, precisions, ranges of parameters and long steps, and for `fluct_init` batches, padding, kinds of
# input, normalisations, fields of reports; and for a rollout the products of spikes, and the programs that are kept
# between calls. Nothing wrong may be computed in silence, and each is one concept.
MOST = {"LIF step": 5, "H1 step": 6, "prepare_net": 9, "rollout LIF": 18, "rollout H1": 21, "fluct_init": 27}
# Share of comment lines in the code; the aim is 4 to 8 %.
LEAST_COMMENTS = 0.04


@pytest.fixture(scope="module")
def entered() -> dict[str, list[str]]:
    return house_numbers.entered()


@pytest.mark.parametrize("name", MOST)
def test_a_call_enters_few_files(entered: dict[str, list[str]], name: str) -> None:
    assert len(entered[name]) <= MOST[name], entered[name]


def test_few_lines_ask_for_the_class_of_a_module() -> None:
    found = house_numbers.class_tests()
    assert len(found) <= 10, found


def test_comments_say_why() -> None:
    assert house_numbers.lines().comment_share >= LEAST_COMMENTS


def test_the_counts_add_up() -> None:
    counted = house_numbers.lines()
    assert counted.code + counted.docstring + counted.comment < counted.total
    assert house_numbers.files_entered(lambda: None) == []
