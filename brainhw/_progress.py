"""Progress bars: a widget in a notebook, one line of text in a terminal."""

from __future__ import annotations

import warnings
from typing import Any

__all__ = ["progress_bar"]


def progress_bar(total: int, *, desc: str, shown: bool = True, only_terminal: bool = False, **options: Any) -> Any:
    """Return a tqdm bar, a widget in a notebook; ``only_terminal`` hides it where the standard error is a file."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # A notebook without ipywidgets: tqdm warns at its import, and then draws text.
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm
    if not shown:
        options["disable"] = True
    elif only_terminal:
        options["disable"] = None  # tqdm then asks the stream
    # Without `disable` the environment variable TQDM_DISABLE decides.
    return tqdm(total=total, desc=desc, **options)
