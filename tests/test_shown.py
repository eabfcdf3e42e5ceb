"""Reports as text and as HTML from the same lines and tables."""

from __future__ import annotations

import html.parser
import re

import jax
import numpy as np
import pytest
from deploy_nets import Chain, lively

import brainhw as bh
from brainhw._shown import Shown, as_html, as_text
from brainhw._table import Table


class Cells(html.parser.HTMLParser):
    """The texts of a page, tag by tag; a tag that is not closed is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def words(text: str) -> list[str]:
    return re.sub(r"[─-]{3,}", " ", text).split()


@pytest.fixture(scope="module")
def reports() -> dict[str, Shown]:
    import brainstate
    import brainunit as u

    with brainstate.environ.context(dt=1.0 * u.ms):
        net = Chain("H1v1", [5, 8, 4], topologies=["FF", "RC"], frontend=True)
        broken = Chain("H1v1", [5, 8, 4], topologies=["FF", "FF"], frontend=False)
        broken.syn0.weight.value = broken.syn0.weight.value.at[0, 0].set(7.0)
        xs = lively(16)
        classes = bh.train.ClassReport(
            np.array([[3, 1], [0, 0]]), tied=1, undecided=0, silent=1, names=("<a>", "b & c")
        )
        keys = jax.random.split(jax.random.key(0), 3)
        return {
            "deployable": bh.check_deployable(net),
            "not deployable": bh.check_deployable(broken),
            "placement": bh.deploy.place(net),
            "power": bh.deploy.estimate_power(net, xs),
            "rounding": bh.deploy.describe(net),
            "summary": bh.deploy.summary(net),
            "robustness": bh.deploy.RobustnessReport(np.array([0.5, 0.6, 0.4]), keys, 0.55),
            "classes": classes,
            "history": bh.train.History([{"loss": 2.0}, {"loss": 1.5}], best=1, watched="loss", report=classes),
        }


def test_html_holds_the_words_of_the_text_in_their_order(reports: dict[str, Shown]) -> None:
    for name, report in reports.items():
        page = report._repr_html_()
        assert words(" ".join(Cells(page).texts)) == words(str(report)), name


def test_no_colour_is_set_so_that_dark_and_light_notebooks_can_be_read(reports: dict[str, Shown]) -> None:
    for report in [*reports.values(), bh.chip.H1V1]:
        page = report._repr_html_()
        styles = {"text-align:left", "text-align:right", "white-space:pre-wrap"}
        assert set(re.findall(r'style="([^"]*)"', page)) <= styles
        assert not re.search(r"color|background|<style|class=|<script", page)


def test_names_are_escaped(reports: dict[str, Shown]) -> None:
    page = reports["classes"]._repr_html_()
    assert "&lt;a&gt;" in page
    assert "b &amp; c" in page
    assert "<a>" not in page
    assert as_html(["<b>", Table(("<i>",), [("<u>",)])]).count("&lt;") == 3


def test_assumed_stays_visible(reports: dict[str, Shown]) -> None:
    assert "assumed" in Cells(reports["power"]._repr_html_()).texts
    spec = bh.chip.H1V1
    texts = Cells(spec._repr_html_()).texts
    assert texts.count("assumed") == sum(source == "assumed" for source in spec.provenance.values())


def test_a_chip_that_differs_from_its_preset_shows_the_value_of_the_preset() -> None:
    changed = bh.chip.H1V1.replace(V_th=77 * bh.chip.H1V1.V_th / bh.chip.H1V1.V_th.mantissa, provenance="measured")
    texts = Cells(changed._repr_html_()).texts
    assert "preset" in texts
    assert any(text.startswith("(preset: ") for text in texts)
    assert "preset" not in Cells(bh.chip.H1V1._repr_html_()).texts
    # The text has the same cells.
    assert all(text in str(changed) for text in texts if text not in ("field", "value", "provenance", "preset"))


def test_empty_tables_and_lines() -> None:
    assert as_text([]) == ""
    assert as_html([]) == "<div></div>"
    assert Cells(as_html([Table(("a",), [])])).texts == ["a"]
