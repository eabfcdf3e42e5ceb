"""The pages of the documentation: current, complete, and linked without a hole. Needs no sphinx."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import brainhw as bh

ROOT = Path(__file__).parents[2]
for folder in (ROOT, ROOT / "tools"):
    if str(folder) not in sys.path:
        # Neither is part of what is installed.
        sys.path.append(str(folder))

import pages  # noqa: E402

from benchmarks import results_page  # noqa: E402

DOCS = ROOT / "docs"
REFERENCE = {path: path.read_text(encoding="utf-8") for path in (*(DOCS / "reference").glob("*.md"), DOCS / "cli.md")}
MADE = {"tutorials", "gallery", "_gallery"}  # folders that a build of the site leaves in docs
TEXTS = [
    *(path for path in sorted(DOCS.rglob("*.md")) if path.relative_to(DOCS).parts[0] not in MADE),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "gallery/README.md")),
]

WINGS = [name for name in bh.__all__ if isinstance(getattr(bh, name), ModuleType)]
WINGS += ["nn.protocols", "interop.nir", "interop.stablehlo", "interop.state_dicts", "cli"]


def public() -> Iterator[tuple[str, Any]]:
    for name in bh.__all__:
        if name not in WINGS and not name.startswith("_"):
            yield f"brainhw.{name}", getattr(bh, name)
    for wing in WINGS:
        module = importlib.import_module(f"brainhw.{wing}")
        for name in getattr(module, "__all__", ()):
            if f"{wing}.{name}" in WINGS:
                continue
            yield f"brainhw.{wing}.{name}", getattr(module, name)


PUBLIC = dict(public())
DEFINED = {path: thing for path, thing in PUBLIC.items() if inspect.isclass(thing) or inspect.isfunction(thing)}


def sections(thing: Any) -> dict[str, str]:
    """Return the text below each underlined heading of a docstring, and the words before the first as ``""``."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.getdoc(thing) or "", flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def described(text: str) -> set[str]:
    """Return the names that a section of parameters describes."""
    lines = re.findall(r"^(\S.*?)(?: :.*)?$", text, re.MULTILINE)
    return {name.strip().lstrip("*") for line in lines for name in line.split(",")}


def taken(thing: Any) -> set[str]:
    """Return the names of what a call of ``thing`` takes."""
    if inspect.isclass(thing) and "__init__" not in vars(thing) and "__new__" not in vars(thing):
        return set()  # its base says it
    if inspect.isclass(thing) and not dataclasses.is_dataclass(thing) and "Parameters" not in sections(thing):
        return set()  # made by a function; its attributes are what is told
    names = set(inspect.signature(thing).parameters) - {"args", "kwargs"}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("path", DEFINED)
def test_every_public_name_has_a_docstring_with_what_it_takes_and_returns(path: str) -> None:
    thing = DEFINED[path]
    has = sections(thing)
    assert has[""].strip(), f"{path} has no docstring"
    assert has[""].split("\n\n")[0].strip().endswith("."), f"the docstring of {path} must begin with one sentence"
    for name in ("Parameters", "Attributes"):
        # A type followed by a sentence: the line break after the type is missing.
        joined = re.findall(r"^(\S[^\n]* : [^\n]*\.(?: [^\n]*)?)$", has.get(name, ""), re.MULTILINE)
        assert not joined, f"{path}: {joined[0]!r} holds more than a name and its type"
    told = described(has.get("Parameters", "")) | described(has.get("Attributes", ""))
    assert not taken(thing) - told, f"{path} does not say what {', '.join(sorted(taken(thing) - told))} means"
    if inspect.isfunction(thing) and inspect.signature(thing).return_annotation not in (None, "None"):
        assert has.keys() & {"Returns", "Yields"}, f"{path} does not say what it returns"


@pytest.mark.parametrize("path", [path for path, thing in DEFINED.items() if inspect.isclass(thing)])
def test_every_public_method_has_a_docstring(path: str) -> None:
    bare = [
        name
        for name, member in vars(DEFINED[path]).items()
        if not name.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, (property, classmethod, staticmethod)))
        and not (inspect.getdoc(getattr(DEFINED[path], name)) or "").strip()
    ]
    assert not bare


def test_every_public_name_has_an_entry_on_a_page_of_the_reference() -> None:
    entries = set()
    for text in REFERENCE.values():
        module = ""
        for directive, name in re.findall(r"^\.\. (currentmodule|auto\w+):: ([\w.]+)(?:\(.*\))?$", text, re.MULTILINE):
            if directive == "currentmodule":
                module = name
            elif directive != "automodule":
                entries.add(name if name.startswith("brainhw.") else f"{module}.{name}")
    assert not entries - set(PUBLIC), "entries of what is not public"
    shown = [PUBLIC[path] for path in entries]
    # What can be reached by two paths needs one entry.
    assert not [path for path, thing in PUBLIC.items() if path not in entries and not any(thing is s for s in shown)]


def test_every_page_of_the_reference_has_the_words_of_its_wing() -> None:
    named = re.findall(r"^\.\. automodule:: brainhw\.([\w.]+)$", "\n".join(REFERENCE.values()), re.MULTILINE)
    assert sorted(named) == sorted(set(WINGS) - {"cli"})


@pytest.mark.parametrize("page", pages.PAGES)
def test_what_the_package_says_of_itself_is_current(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert words(text) == words(pages.filled(page)), "run python tools/pages.py"


def words(text: str) -> list[str]:
    """Return the words of a page; argparse of Python 3.11 sets other columns, and repeats the value of an option."""
    return re.sub(r"(-\w) ([A-Z]+), (--\w+ \2)", r"\1, \3", text).split()


def test_the_page_of_results_is_current() -> None:
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    assert text == results_page.page(), "run python -m benchmarks.results_page"


def test_the_examples_on_the_page_about_chips_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", (DOCS / "chips.md").read_text(encoding="utf-8"), re.DOTALL):
        exec(code, names)
    assert names["chip"].provenance["charge"] == "measured"


def prose(path: Path) -> str:
    """Return a text without its code."""
    text = re.sub(r"^(```|~~~).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub and MyST make of the headings of a text."""
    text = re.sub(r"^(```|~~~).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^()\s]+)\)|(?:src|href)=\"([^\"]+)\"", prose(path))
    for target in (first or second for first, second in targets):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{target} leads nowhere"
        if anchor:
            assert anchor in anchors(there), f"{target}: no heading is called so"
