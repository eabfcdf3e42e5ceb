"""The home page, the index of the tutorials, and the check of the links of the site. Needs no sphinx and no network."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
if str(DOCS / "_ext") not in sys.path:
    sys.path.append(str(DOCS / "_ext"))

import site_links  # noqa: E402

# An address may hold a pair of brackets, and ends before the punctuation of a sentence.
ADDRESS = re.compile(r"https?://(?:[^\s<>\"'`()\[\]]|\([^\s()]*\))*[^\s<>\"'`()\[\].,;:]")
pytestmark = pytest.mark.no_dt
SOURCES = [
    path
    for folder in ("brainhw", "docs", "tutorials", "gallery")
    for ending in ("*.md", "*.py")
    for path in sorted((ROOT / folder).rglob(ending))
    if not {"_gallery", "jupyter_execute"} & set(path.relative_to(ROOT).parts)
]


def test_the_home_page_shows_the_code_of_the_readme() -> None:
    shown = re.findall(r"```python\n(.*?)```", (DOCS / "index.md").read_text(encoding="utf-8"), re.DOTALL)
    readme = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert shown == readme[:1]


def test_every_tutorial_has_a_card_with_a_picture() -> None:
    page = (DOCS / "tutorials.md").read_text(encoding="utf-8")
    tutorials = sorted(path.stem for path in (ROOT / "tutorials").glob("[0-9]*.py"))
    assert re.findall(r"^:link: tutorials/(\w+)$", page, re.MULTILINE) == tutorials
    pictures = re.findall(r"^:img-top: (\S+)$", page, re.MULTILINE)
    assert pictures == [f"images/tutorials/{name}.png" for name in tutorials]
    assert [picture for picture in pictures if not (DOCS / picture).exists()] == []


def test_addresses_of_other_sites_are_well_formed() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {address} {fault}"
        for path in [*SOURCES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
        for address in ADDRESS.findall(path.read_text(encoding="utf-8"))
        if (fault := site_links.outer_fault(address))
    }
    assert not found


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("https://example.org/a_(b)", ""),
        ("mailto:a@example.org", ""),
        ("https://example", "is not a host"),
        ("htps://example.org", "unknown scheme"),
        ("https://example.org/a.", "belong to the text"),
        ("https://example.org/a(b", "belong to the text"),
    ],
)
def test_a_malformed_address_is_found(address: str, fault: str) -> None:
    found = site_links.outer_fault(address)
    assert fault in found
    assert bool(fault) == bool(found)


def test_broken_links_of_a_built_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.html").write_text('<h1 id="here">b</h1><a href="../a.html">a</a>', encoding="utf-8")
    (tmp_path / "a.html").write_text(
        '<a href="sub/b.html#here"></a><a href="sub/b.html#there"></a><a href="c.html"></a><a href="#top"></a>'
        '<img src="https://example.org/i.png"><a href="https://example.org/"></a><link rel="icon" href="i.svg">',
        encoding="utf-8",
    )
    assert site_links.faults(tmp_path) == [
        "a.html: #top has no such anchor",
        "a.html: c.html does not exist",
        "a.html: https://example.org/i.png is loaded from another site",
        "a.html: i.svg does not exist",
        "a.html: sub/b.html#there has no such anchor",
    ]
