"""The scripts of ``gallery/`` as sphinx-gallery wants them, made from what readers of the repository see.

Copies in ``docs/_gallery`` get what the scripts need not carry: a title from the name, how to run them, and a picture,
``docs/images/gallery/NAME.png``. ``gallery/README.md`` gives the words on top and the order.
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

TO_RUN = "In a clone of the repository, because the scripts share code: ``python gallery/{name} --help``"


class ReadmeOrder:
    """The order in which the README names the scripts; what it does not name comes last."""

    def __init__(self, src_dir: str) -> None:
        self.src_dir = src_dir

    def __call__(self, filename: str) -> tuple[int, str]:
        """Return what sphinx-gallery sorts a script by."""
        return (NAMED.index(filename) if filename in NAMED else len(NAMED), filename)

    def __repr__(self) -> str:
        return "ReadmeOrder()"


def title(path: Path) -> str:
    """Return the name of a script in words."""
    words = " ".join(WORDS.get(word, word) for word in path.stem.split("_"))
    return words[0].upper() + words[1:]


def staged(path: Path) -> str:
    """Return a script with the title and the comment that sphinx-gallery looks for."""
    text = path.read_text(encoding="utf-8")
    first = ast.parse(text).body[0]
    lines = text.splitlines(keepends=True)
    docstring = "".join(lines[: first.end_lineno]).strip().removeprefix('"""').removesuffix('"""').strip()
    heading, picture = title(path), f"images/gallery/{path.stem}.png"
    parts = [f"{heading}\n{'=' * len(heading)}", docstring, TO_RUN.format(name=path.name)]
    comment = ""
    if (DOCS / picture).exists():
        parts.append(f".. image:: /{picture}\n   :alt: The figure that the script draws")
        comment = f'\n# sphinx_gallery_thumbnail_path = "{picture}"\n'
    words = "\n\n".join(parts)
    return f'"""\n{words}\n"""\n{comment}{"".join(lines[first.end_lineno :])}'


def header() -> str:
    """Return the title and the first words of the README, as reStructuredText."""
    paragraphs = README.split("\n\n")[1:]
    words = "\n\n".join(
        paragraph for paragraph in paragraphs if not paragraph.lstrip().startswith(("|", "#", "!", "<"))
    )
    return f"Gallery\n=======\n\n{words.replace('`', '``')}\n"


def stage(app: Sphinx) -> None:
    """Write the copies anew."""
    shutil.rmtree(STAGED, ignore_errors=True)
    STAGED.mkdir()
    (STAGED / "GALLERY_HEADER.rst").write_text(header(), encoding="utf-8")
    for path in GALLERY.glob("[!_]*.py"):
        (STAGED / path.name).write_text(staged(path), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Stage before sphinx-gallery looks."""
    app.connect("builder-inited", stage, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
