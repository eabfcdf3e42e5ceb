"""Printing that never fails: text for any encoding, whatever the state of the standard output."""

from __future__ import annotations

import codecs
import contextlib
import locale
import sys
import unicodedata
from collections.abc import Iterator

__all__ = ["printable", "say"]

# Substitutes for output that is not Unicode. Greek letters are spelled out.
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
    """Return ``text`` in characters that the standard output and text files of this machine can encode.

    UTF-8 text stays unchanged. In other encodings Greek letters are spelled out, and other unsupported characters are
    replaced or escaped.
    """
    if text.isascii():
        return text
    for encoding in _encodings():
        if not _holds(encoding, text):
            text = "".join(_reduced(character, encoding) for character in text)
    return text


def say(text: str) -> None:
    """Print one line; a closed or missing standard output never raises."""
    # A windowed program has no standard output; a closed one or a broken pipe raises.
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(printable(text) + "\n")


def _encodings() -> Iterator[str]:
    # `print(report, file=open(...))` uses the encoding of the machine, not that of the standard output.
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
    # If the encoding is not Unicode, all symbols become ASCII: a table that mixes both spellings is harder to read, and
    # the other end of a pipe often decodes as UTF-8.
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
