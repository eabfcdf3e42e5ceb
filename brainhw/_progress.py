"""Progress bars: a widget in a notebook, and one line of text in a terminal."""

from __future__ import annotations

import warnings
from typing import Any

__all__ = ["progress_bar"]


def progress_bar(total: int, *, desc: str, shown: bool = True, only_terminal: bool = False, **options: Any) -> Any:
    """Return a tqdm progress bar, which is a widget in a notebook.

    With ``only_terminal`` the bar is hidden if the standard error is not a terminal.
    """
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # In a notebook without ipywidgets, tqdm warns when it is imported, and then uses text.
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm
    if not shown:
        options["disable"] = True
    elif only_terminal:
        options["disable"] = None  # tqdm then hides the bar if the stream is not a terminal
    # If `disable` is not set, the environment variable TQDM_DISABLE is used.
    return tqdm(total=total, desc=desc, **options)
