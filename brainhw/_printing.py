"""Printing that never fails: text for any encoding, and prints for any state of the standard output."""

from __future__ import annotations

import codecs
import contextlib
import locale
import sys
import unicodedata
from collections.abc import Iterator

__all__ = ["printable", "say"]

# Substitutes where the output is not Unicode. Greek letters are spelled out.
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
    """Return ``text`` in characters that the standard output and text files of this machine can hold.

    On UTF-8 the text stays as it is. Elsewhere the name of a Greek letter stands for it, and an escape for what the
    encoding lacks.
    """
    if text.isascii():
        return text
    for encoding in _encodings():
        if not _holds(encoding, text):
            text = "".join(_reduced(character, encoding) for character in text)
    return text


def say(text: str) -> None:
    """Print a line for the reader; no state of the standard output ends the run of which it tells."""
    # There is none in a windowed program; it may be closed, and the reader of a pipe may be gone.
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(printable(text) + "\n")


def _encodings() -> Iterator[str]:
    # `print(report, file=open(...))` takes the encoding of the machine, whatever that of the standard output.
    for encoding in (getattr(sys.stdout, "encoding", None), locale.getpreferredencoding(False)):
        if isinstance(encoding, str):
            yield encoding if _is_known(encoding) else "ascii"


def _is_known(encoding: str) -> bool:
    try:
        codecs.lookup(encoding)
    except LookupError:
        return False
    return True


def _holds(encoding: str, text: str) -> bool:
    # Outside of Unicode the symbols of the package become ASCII as a whole: one table with a sign in this spelling and
    # its neighbour in another would be harder to read, and such a pipe is often read as UTF-8 at its other end.
    try:
        (text + "ξ─").encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _reduced(character: str, encoding: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    name = unicodedata.name(character, "")
    if name.startswith("GREEK") and "LETTER" in name:
        letter = name.split(" LETTER ")[1].split()[0].lower()
        return letter if "SMALL" in name else letter.capitalize()
    return character.encode(encoding, "backslashreplace").decode(encoding)
