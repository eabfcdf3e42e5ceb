"""Print text without errors for any encoding, and also if the standard output is closed or missing."""

from __future__ import annotations

import codecs
import contextlib
import locale
import sys
import unicodedata
from collections.abc import Iterator

__all__ = ["printable", "say"]

# Replacements for encodings that lack a character. Greek letters are not listed, because they are replaced by their
# names.
_PLAIN = {
    "─": "-",
    "→": "->",
    "←": "<-",
    "≥": ">=",
    "≤": "<=",
    "≈": "~",
    "±": "+-",
    "×": "x",
    "·": "*",
    "²": "^2",
    "∞": "inf",
    "…": "...",
    "–": "-",
    "µ": "u",
}


def printable(text: str) -> str:
    """Return ``text`` with only those characters that the standard output and text files of this machine can encode.

    If their encoding is UTF-8, the text does not change. In other encodings, Greek letters are replaced by their names,
    and other unsupported characters are replaced or escaped.
    """
    if text.isascii():
        return text
    for encoding in _encodings():
        if not _can_encode(encoding, text):
            text = "".join(_replacement(character, encoding) for character in text)
    return text


def say(text: str) -> None:
    """Print one line. If the standard output is closed or missing, do nothing."""
    # In a windowed program sys.stdout is None. Writing to a closed output or a broken pipe raises an error.
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(printable(text) + "\n")


def _encodings() -> Iterator[str]:
    # `print(report, file=open(...))` uses the default encoding of the machine, which may differ from the one of
    # sys.stdout.
    for encoding in (getattr(sys.stdout, "encoding", None), locale.getpreferredencoding(False)):
        if isinstance(encoding, str):
            yield encoding if _is_known(encoding) else "ascii"


def _is_known(encoding: str) -> bool:
    try:
        codecs.lookup(encoding)
    except LookupError:
        return False
    return True


def _can_encode(encoding: str, text: str) -> bool:
    # If the encoding does not support all symbols, replace all of them by ASCII. A table with only some symbols
    # replaced would be hard to read. In addition, a program that reads from a pipe often expects UTF-8, and ASCII is
    # valid UTF-8.
    try:
        (text + "ξ─").encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _replacement(character: str, encoding: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    name = unicodedata.name(character, "")
    if name.startswith("GREEK") and "LETTER" in name:
        letter = name.split(" LETTER ")[1].split()[0].lower()
        return letter if "SMALL" in name else letter.capitalize()
    return character.encode(encoding, "backslashreplace").decode(encoding)
