"""Create the pictures of the gallery from the figures that its scripts saved.

``python tools/gallery_thumbnails.py --runs runs`` reads the figures from the default output folders of the scripts. For
the page of a script it writes ``docs/images/gallery/NAME.png``, at most 900 pixels wide. For the overview it writes
``docs/images/gallery/cards/NAME.png`` of 400 x 280 pixels. If a figure is missing, the tool prints the name of its
script and keeps the old pictures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "docs" / "images" / "gallery"
CARD, WIDEST = (400, 280), 900
MOST_BYTES = 40_000
MOST_BYTES_OF_PAGES = 120_000  # with fewer bytes, so few colours remain that thin lines lose theirs


class Source(NamedTuple):
    """The path of a figure, and the part of it that the card shows: left, top, right and bottom edge as shares."""

    path: str
    part: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.507, 0.0, 1.0, 1.0)
SOURCES = {
    "japanese_vowels_h1": Source("japanese_vowels/raster.png"),
    "spoken_digits_h1": Source("spoken_digits/raster.png"),
    "deploy_spoken_digits": Source("docs/images/deploy_digits.png", (0.0, 0.1, 0.61, 1.0)),
    "ecg_alif": Source("ecg/segments.png"),
    "ecg_fractional": Source("ecg_fractional/orders.png"),
    "mnist1d_fractional": Source("mnist1d/orders.png"),
    "fashion_mnist": Source("fashion_mnist/fields_and_confusion.png", (0.0, 0.0, 0.49, 0.79)),
    "deep_networks": Source("deep_networks/initialisation.png", (0.292, 0.0, 0.722, 0.335)),
    "deep_on_a_chip": Source("deep_on_a_chip/raster.png"),
    "randman_depth": Source("randman_depth/depth.png", LEFT),
    "robustness_study": Source("robustness_study/robustness.png"),
    "many_devices": Source("many_devices/training.png", RIGHT),
    "chip_in_the_loop": Source("chip_in_the_loop/vowels_h1v2.png"),
}


def flat(path: Path | BinaryIO) -> Image.Image:
    """Return a picture on a white background, so that it is readable on dark pages."""
    with Image.open(path) as opened:
        white = Image.new("RGB", opened.size, "white")
        picture = opened.convert("RGBA")
        white.paste(picture, mask=picture)
    return white


def thumbnail(path: Path | BinaryIO, part: tuple[float, float, float, float]) -> Image.Image:
    """Return a part of a picture, reduced in size and centred on a white card."""
    picture = flat(path)
    left, top, right, bottom = (round(share * size) for share, size in zip(part, picture.size * 2, strict=True))
    cut = picture.crop((left, top, right, bottom))
    cut.thumbnail(CARD, Image.Resampling.LANCZOS)
    card = Image.new("RGB", CARD, "white")
    card.paste(cut, ((CARD[0] - cut.width) // 2, (CARD[1] - cut.height) // 2))
    return card


def save(picture: Image.Image, path: Path, most_bytes: int = MOST_BYTES) -> int:
    """Write a picture with as many colours as the limit on the file size allows, and return the file size in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for colors in (256, 128, 64, 32, 16):
        picture.quantize(colors, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < most_bytes:
            break
    return path.stat().st_size


def main() -> None:
    """Create the pictures, and print the names of missing figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=PROJECT / "runs", help="folder with the runs of the scripts")
    runs = parser.parse_args().runs
    scripts = {path.stem for path in (PROJECT / "gallery").glob("[!_]*.py")}
    if scripts != set(SOURCES):
        raise SystemExit(
            f"gallery_thumbnails: SOURCES and the scripts of gallery/ differ in {sorted(scripts ^ set(SOURCES))}."
        )
    for name, source in SOURCES.items():
        path = PROJECT / source.path if source.path.startswith("docs/") else runs / source.path
        if not path.exists():
            sys.stdout.write(f"{name}: {path} is missing, pictures not changed\n")
            continue
        size = save(thumbnail(path, source.part), FOLDER / "cards" / f"{name}.png")
        picture = flat(path)
        picture.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
        page = save(picture, FOLDER / f"{name}.png", MOST_BYTES_OF_PAGES)
        sys.stdout.write(f"{name}: {size} and {page} bytes, from {source.path}\n")


if __name__ == "__main__":
    main()
