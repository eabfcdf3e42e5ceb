"""Draw the subpackages of ``brainhw`` and the imports between them.

``python tools/house_picture.py`` writes ``docs/images/house.svg`` and the mermaid diagram between the marks in
``CONTRIBUTING.md``. ``tests/house/test_house_picture.py`` fails if one of them is out of date.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
IMAGE = ROOT / "docs" / "images" / "house.svg"
MARKS = "<!-- house: begin -->", "<!-- house: end -->"

# A description of each subpackage.
WORDS = {
    "cli": "command line",
    "visualize": "figures",
    "recipe": "a classifier in one call",
    "silicon": "benches, calibration, chip in the loop",
    "interop": "NIR, StableHLO",
    "deploy": "rules, placement, power, bundles",
    "data": "data sets, encodings",
    "train": "training loop, losses, schedules",
    "init": "weight initialisation",
    "transform": "a network over time",
    "nn": "modules and protocols",
    "surrogate": "spike functions",
    "kernel": "numerics on plain arrays",
    "chip": "specs and families",
}


def wings() -> list[str]:
    """Return the subpackages in the order of the import contract, from the highest layer to the lowest."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    names = [layer.removeprefix("brainhw.") for layer in contract["layers"]]
    return [name for name in names if not name.startswith("_")]


def imports() -> Counter[tuple[str, str]]:
    """Return, for each pair of subpackages, the number of files of the first that import the second."""
    found: Counter[tuple[str, str]] = Counter()
    names = set(wings())
    for path in sorted((ROOT / "brainhw").rglob("*.py")):
        here = path.relative_to(ROOT / "brainhw").parts[0]
        if here not in names:
            continue
        there = {name.split(".")[1] for name in _imported(path) if name.startswith("brainhw.")}
        found.update((here, name) for name in there & names - {here})
    return found


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def diagram() -> str:
    """Return the diagram in mermaid syntax."""
    lines = ["```mermaid", "flowchart TD"]
    lines += [f'  {name}["{name}: {WORDS[name]}"]' for name in wings()]
    lines += [f"  {a} -->|{n}| {b}" for (a, b), n in sorted(imports().items(), key=lambda pair: _place(pair[0]))]
    return "\n".join([*lines, "```"])


def _place(pair: tuple[str, str]) -> tuple[int, int]:
    order = wings()
    return order.index(pair[0]), order.index(pair[1])


def image() -> str:
    """Return the picture as SVG, with subpackages on the diagonal and counts of imports in the triangle below.

    Arrows between the boxes would cross each other. In the triangle each count has its own cell.
    """
    order, count = wings(), imports()
    cell, left, top = 54, 20, 20
    width, height = left + cell * len(order) + 250, top + cell * len(order) + 56
    most = max(count.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="14">',
        "<title>The parts of brainhw, and how many files of each part import each part below it</title>",
        # Draw a white background, so that the text is readable on a dark page.
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
    ]
    for row, name in enumerate(order):
        x, y = left + cell * row, top + cell * row
        parts.append(f'<rect x="{x}" y="{y}" width="{cell + 40}" height="{cell - 8}" rx="6" fill="#1f4e79"/>')
        parts.append(f'<text x="{x + 8}" y="{y + 28}" fill="#ffffff" font-weight="bold">{name}</text>')
        parts.append(f'<text x="{x + cell + 50}" y="{y + 28}" fill="#202020">{WORDS[name]}</text>')
        for column, above in enumerate(order[:row]):
            n = count[above, name]
            if n:
                shade = 0.15 + 0.6 * n / most
                at = left + cell * column
                parts.append(
                    f'<rect x="{at}" y="{y}" width="{cell - 8}" height="{cell - 8}" rx="4" fill="#c8641e" '
                    f'fill-opacity="{shade:.2f}"/><text x="{at + cell / 2 - 4:g}" y="{y + 28}" text-anchor="middle" '
                    f'fill="#202020">{n}</text>'
                )
    words = "A number counts the files of the part above it (same column) that import the part on its right (same row)."
    parts.append(f'<text x="{left}" y="{height - 20}" fill="#202020">{words}</text>')
    return "\n".join([*parts, "</svg>", ""])


def filled(text: str) -> str:
    """Return the text of a page with the current diagram between its marks."""
    begin, end = MARKS
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{diagram()}\n{end}", text, flags=re.DOTALL)


def main() -> None:
    """Write the diagram and the image."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    IMAGE.write_text(image(), encoding="utf-8")


if __name__ == "__main__":
    main()
