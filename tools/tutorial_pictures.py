"""Create the pictures of ``docs/tutorials.md``, ``docs/images/tutorials/NAME.png``, from the executed tutorials.

Build the site first, which writes the executed notebooks to
``docs/tutorials``. Then run ``python tools/tutorial_pictures.py``.
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
from gallery_thumbnails import PROJECT, save, thumbnail

NOTEBOOKS = PROJECT / "docs" / "tutorials"
FOLDER = PROJECT / "docs" / "images" / "tutorials"
WHOLE = (0.0, 0.0, 1.0, 1.0)


class Source(NamedTuple):
    """The number of a figure in a tutorial, and the part to show: left, top, right and bottom edge as fractions."""

    figure: int
    part: tuple[float, float, float, float] = WHOLE


SOURCES = {
    "01_units_and_your_first_neuron": Source(0),
    "02_build_a_network": Source(0),
    "03_h1_chips_against_lif": Source(0),
    "04_train_a_spiking_network": Source(2),
    "05_wake_a_network_with_fluct_init": Source(2),
    "06_adaptive_lif_on_ecg": Source(4),
    "07_fractional_memory": Source(0),
    "08_train_for_the_chip": Source(3),
    "09_long_rollouts_and_streaming": Source(0),
    "10_coming_from_other_libraries": Source(0),
    "11_a_chip_on_the_bench": Source(0, (0.0, 0.03, 0.5, 0.515)),
}


def figures(path: Path) -> list[bytes]:
    """Return the figures of an executed notebook as PNG, in their order in the notebook."""
    notebook = nbformat.read(path, as_version=4)
    return [
        base64.b64decode(output["data"]["image/png"])
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]


def main() -> None:
    """Create the picture of every tutorial."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        source = SOURCES[path.stem]
        picture = io.BytesIO(figures(path)[source.figure])
        size = save(thumbnail(picture, source.part), FOLDER / f"{path.stem}.png")
        sys.stdout.write(f"{path.stem}: {size} bytes\n")


if __name__ == "__main__":
    main()
