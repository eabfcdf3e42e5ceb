"""Make ``docs/images/gallery/NAME.png`` for every script of the gallery, from the figures that its runs saved.

``python tools/gallery_thumbnails.py --runs runs`` reads the figures where the scripts put them by default and
leaves out, by name, those that are not there. Of a figure the part named below is shrunk to fit 400 x 280 pixels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "docs" / "images" / "gallery"
SIZE, MOST_BYTES = (400, 280), 40_000


class Source(NamedTuple):
    """A figure of a run, or of ``docs/images``, and the part of it to show: left, top, right, bottom as shares."""

    path: str
    part: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


LEFT = (0.0, 0.0, 0.5, 1.0)
SOURCES = {
    "japanese_vowels_h1": Source("japanese_vowels/raster.png"),
    "spoken_digits_h1": Source("spoken_digits/raster.png"),
    "deploy_spoken_digits": Source("docs/images/deploy_digits.png", LEFT),
    "ecg_alif": Source("ecg/segments.png"),
    "ecg_fractional": Source("ecg_fractional/orders.png"),
    "mnist1d_fractional": Source("mnist1d/orders.png"),
    "fashion_mnist": Source("fashion_mnist/fields_and_confusion.png", (0.0, 0.0, 0.49, 0.79)),
    "deep_networks": Source("deep_networks/initialisation.png"),
    "deep_on_a_chip": Source("deep_on_a_chip/raster.png"),
    "randman_depth": Source("randman_depth/depth.png", LEFT),
    "robustness_study": Source("robustness_study/robustness.png"),
    "many_devices": Source("many_devices/training.png"),
    "chip_in_the_loop": Source("chip_in_the_loop/vowels_h1v2.png"),
}


def thumbnail(path: Path | BinaryIO, part: tuple[float, float, float, float]) -> Image.Image:
    """Return the part of a picture that is to be seen, shrunk and in the middle of a white card."""
    with Image.open(path) as opened:
        flat = Image.new("RGB", opened.size, "white")
        picture = opened.convert("RGBA")
        flat.paste(picture, mask=picture)
    box = tuple(round(share * size) for share, size in zip(part, flat.size * 2, strict=True))
    cut = flat.crop(box)
    cut.thumbnail(SIZE, Image.Resampling.LANCZOS)
    card = Image.new("RGB", SIZE, "white")
    card.paste(cut, ((SIZE[0] - cut.width) // 2, (SIZE[1] - cut.height) // 2))
    return card


def save(card: Image.Image, path: Path) -> int:
    """Write a card with as many colours as its size in bytes allows, and return that size."""
    for colors in (256, 128, 64, 32, 16):
        card.quantize(colors, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < MOST_BYTES:
            break
    return path.stat().st_size


def main() -> None:
    """Make what can be made, and say what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=PROJECT / "runs", help="folder with the runs of the scripts")
    runs = parser.parse_args().runs
    scripts = {path.stem for path in (PROJECT / "gallery").glob("[!_]*.py")}
    if scripts != set(SOURCES):
        raise SystemExit(f"gallery_thumbnails: no figure is named for {sorted(scripts ^ set(SOURCES))}.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, source in SOURCES.items():
        path = PROJECT / source.path if source.path.startswith("docs/") else runs / source.path
        if path.exists():
            size = save(thumbnail(path, source.part), FOLDER / f"{name}.png")
            sys.stdout.write(f"{name}: {size} bytes, from {source.path}\n")
        else:
            sys.stdout.write(f"{name}: left as it is, there is no {path}\n")


if __name__ == "__main__":
    main()
