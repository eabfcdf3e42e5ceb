"""Save figures and results of a run.

Each file is written completely or not at all, and only regular files are replaced.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from brainhw._files import check_target, write_whole

__all__ = ["make_folder", "save_arrays", "save_figure", "save_json", "save_text"]

_CALL = "--out"


def make_folder(folder: Path) -> None:
    """Create the folder of a run. If the script cannot write to it, exit with a message."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Scripts replace files in this folder, so none of them may be a device or a pipe.
        for path in folder.iterdir():
            if not path.is_dir():
                check_target(path, call=_CALL)
    except OSError as error:
        raise SystemExit(
            f"{_CALL}: {str(folder)!r} is not a usable folder ({error.strerror}). Pass a different folder."
        ) from None
    except ValueError as error:
        raise SystemExit(str(error)) from None


def save_figure(figure: Any, path: Path, **options: Any) -> None:
    """Save a figure as PNG. ``options`` are passed to ``savefig``; ``dpi`` is 120 by default."""
    # Draw into memory first. If matplotlib wrote the file itself, it would wait for the reader of a pipe, and a crash
    # would leave an incomplete file.
    held = io.BytesIO()
    figure.savefig(held, format="png", **{"dpi": 120, **options})
    write_whole(path, held.getvalue(), call=_CALL)


def save_json(content: Any, path: Path) -> None:
    """Save plain data as JSON."""
    save_text(json.dumps(content, indent=1) + "\n", path)


def save_arrays(path: Path, **arrays: Any) -> None:
    """Save arrays as a compressed .npz file."""
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)
    write_whole(path, held.getvalue(), call=_CALL)


def save_text(text: str, path: Path) -> None:
    """Save text in UTF-8."""
    write_whole(path, text.encode(), call=_CALL)
