"""Find the option that is most similar to a misspelt word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["closest", "closest_option"]


def closest_option(text: str, options: Iterable[str]) -> str | None:
    """Return the option most similar to ``text``, ignoring case; ``None`` if none is similar."""
    folded = {option.casefold(): option for option in options}
    found = difflib.get_close_matches(text.casefold(), folded, n=1)
    return folded[found[0]] if found else None


def closest(text: str, options: Iterable[str]) -> str:
    """Return a hint that names the option most similar to ``text``; an empty string if none is similar."""
    option = closest_option(text, options)
    return "" if option is None else f" (did you mean {option!r}?)"
