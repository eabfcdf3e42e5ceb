"""The scripts of ``gallery/`` as input of sphinx-gallery.

Copies in ``docs/_gallery`` get what the scripts do not contain: a title from the name, the figure
``docs/images/gallery/NAME.png`` on top, the accuracies from the second table of ``gallery/README.md``, and the command
that runs them. Cards are ``docs/images/gallery/cards/NAME.png``. The README also gives the introduction and the order.
"""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
GALLERY, STAGED = DOCS.parent / "gallery", DOCS / "_gallery"
README = (GALLERY / "README.md").read_text(encoding="utf-8")
PICTURES = "images/gallery"
NAMED = re.findall(r"\w+\.py", README)
WORDS = {
    "alif": "with adaptive LIF",
    "ecg": "ECG",
    "fractional": "with fractional neurons",
    "h1": "on H1",
    "japanese": "Japanese",
    "mnist": "MNIST",
    "mnist1d": "MNIST-1D",
}

TO_RUN = "Run it in a clone of the repository, because the scripts share code: ``python gallery/{name} --help``"
ALT = {stem: words for words, stem in re.findall(r"!\[([^]]+)\]\(\S+/(\w+)\.png\)", README)}
REACHED = [
    [cell.strip().replace("`", "``") for cell in line.strip()[1:-1].split("|")]
    for line in README.partition("## Accuracy reached")[2].splitlines()
    if line.startswith("|") and not line.startswith("| ---")
]


class ReadmeOrder:
    """The order of the scripts in the README; scripts that it does not name come last."""

    def __init__(self, src_dir: str) -> None:
        self.src_dir = src_dir

    def __call__(self, filename: str) -> tuple[int, str]:
        """Return the key by which sphinx-gallery sorts a script."""
        return (NAMED.index(filename) if filename in NAMED else len(NAMED), filename)

    def __repr__(self) -> str:
        return "ReadmeOrder()"


def title(path: Path) -> str:
    """Return the title of a script from its file name."""
    words = " ".join(WORDS.get(word, word) for word in path.stem.split("_"))
    return words[0].upper() + words[1:]


def reached(path: Path) -> str:
    """Return the rows of the README about a script as a table in reStructuredText, or nothing."""
    heading, *rows = REACHED
    mine = [row for row in rows if row[0] == f"``{path.name}``"]
    if not mine:
        return ""
    # Columns that are empty for this script are left out; the first one names the script.
    shown = [i for i in range(1, len(heading)) if any(row[i] for row in mine)]
    lines = [".. list-table:: Accuracy reached (mean over seeds)", "   :header-rows: 1", ""]
    for row in (heading, *mine):
        lines += [f"   {' ' if k else '*'} - {row[i]}".rstrip() for k, i in enumerate(shown)]
    return "\n".join(lines)


def staged(path: Path) -> str:
    """Return a script with the title, the figure and the comment that sphinx-gallery reads."""
    text = path.read_text(encoding="utf-8")
    first = ast.parse(text).body[0]
    lines = text.splitlines(keepends=True)
    docstring = "".join(lines[: first.end_lineno]).strip().removeprefix('"""').removesuffix('"""').strip()
    heading, picture, card = title(path), f"{PICTURES}/{path.stem}.png", f"{PICTURES}/cards/{path.stem}.png"
    parts = [f"{heading}\n{'=' * len(heading)}"]
    if (DOCS / picture).exists():
        parts.append(f".. image:: /{picture}\n   :alt: {ALT.get(path.stem, 'The figure of the script')}")
    parts += [docstring, reached(path), TO_RUN.format(name=path.name)]
    comment = f'\n# sphinx_gallery_thumbnail_path = "{card}"\n' if (DOCS / card).exists() else ""
    words = "\n\n".join(part for part in parts if part)
    return f'"""\n{words}\n"""\n{comment}{"".join(lines[first.end_lineno :])}'


def header() -> str:
    """Return the title and the introduction of the README, as reStructuredText."""
    paragraphs = README.partition("## ")[0].split("\n\n")[1:]
    words = "\n\n".join(paragraph for paragraph in paragraphs if not paragraph.lstrip().startswith(("|", "!", "<")))
    return f"Gallery\n=======\n\n{words.replace('`', '``')}\n"


def stage(app: Sphinx) -> None:
    """Write all copies again."""
    shutil.rmtree(STAGED, ignore_errors=True)
    STAGED.mkdir()
    (STAGED / "GALLERY_HEADER.rst").write_text(header(), encoding="utf-8")
    for path in GALLERY.glob("[!_]*.py"):
        (STAGED / path.name).write_text(staged(path), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the copies before sphinx-gallery reads them."""
    app.connect("builder-inited", stage, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
