"""The file of a bundle: one line that says what follows, then readable JSON; read strictly, written whole."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from brainhw._arguments import describe
from brainhw._files import write_whole

__all__ = ["BundleError", "read_bundle_file", "text_of", "write_bundle_file"]

_KIND, _FORMAT = "brainhw-bundle", 1
_HEADER = re.compile(rb"brainhw-bundle ([1-9][0-9]{0,5}) ([0-9a-f]{64}) ([1-9][0-9]{0,11})\n")
_LONGEST_HEADER = 128
# Some hundred times what a chip of today fills: what claims more is not worth the memory to look at it.
_LARGEST = 64 * 2**20

_AGAIN = "copy it again, or export the network again with brainhw.deploy.export_bundle"


class BundleError(ValueError):
    """A file that is no bundle, or a damaged one; the message says what is wrong and what to do.

    Examples
    --------
    >>> import brainhw as bh
    >>> try:
    ...     bh.deploy.load_bundle("nowhere.bundle")
    ... except bh.deploy.BundleError as error:
    ...     print(str(error).partition(";")[0])
    load_bundle: 'nowhere.bundle' cannot be read: No such file or directory
    """


def write_bundle_file(path: str | os.PathLike[str], data: dict[str, Any], *, call: str) -> None:
    """Write plain dicts, lists, texts and numbers as a bundle file, in one step.

    The first line is ``brainhw-bundle``, the number of the format, the SHA-256 of the rest in hex and its length in
    bytes. The rest is JSON with sorted keys.

    Raises
    ------
    ValueError
        If the file cannot be written, or would be larger than a bundle may be.
    """
    payload = text_of(data).encode("ascii")
    if len(payload) > _LARGEST:
        raise ValueError(
            f"{call}: the bundle would be {len(payload) / 2**20:.0f} MiB, more than the {_LARGEST // 2**20} that are "
            "read again; a network of that size fits no chip that this format is for."
        )
    header = f"{_KIND} {_FORMAT} {hashlib.sha256(payload).hexdigest()} {len(payload)}\n"
    write_whole(path, header.encode("ascii") + payload, call=call)


def read_bundle_file(path: str | os.PathLike[str], *, call: str) -> tuple[Any, str]:
    """Return what a bundle file holds, and its checksum; nothing in it is trusted or run.

    Raises
    ------
    BundleError
        If it is not, to the byte, what `write_bundle_file` wrote, or JSON in it says something twice.
    TypeError
        If ``path`` is no path.
    """
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{call}: path must be the path of a bundle file; got {describe(path)}.") from None
    what = f"{call}: {name!r}"
    header, payload = _read(name, what)
    checksum = header[2].decode("ascii")
    if hashlib.sha256(payload).hexdigest() != checksum:
        raise BundleError(f"{what} does not match its checksum, so it was damaged or changed by hand; {_AGAIN}.")
    try:
        return _parsed(payload), checksum
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{what} is no JSON that a bundle is written in: {_clipped(error)}; {_AGAIN}.") from None


def _read(name: str, what: str) -> tuple[re.Match[bytes], bytes]:
    try:
        # A pipe or a terminal would be waited for, a device read without end.
        if not stat.S_ISREG(os.stat(name).st_mode):
            raise BundleError(f"{what} is no regular file; give the path of one that export_bundle wrote.")
        with Path(name).open("rb") as stream:
            first = stream.readline(_LONGEST_HEADER)
            header = _checked_header(first, what)
            length, there = int(header[3]), os.fstat(stream.fileno()).st_size - len(first)
            if length > _LARGEST:
                raise BundleError(f"{what} claims {length} bytes, more than the {_LARGEST} of a bundle; {_AGAIN}.")
            # One byte more than there should be shows what grew behind the back of the size.
            payload = stream.read(length + 1) if there == length else b""
    except (OSError, ValueError) as error:  # a ValueError: no path has a null character
        if isinstance(error, BundleError):
            raise
        reason = error.strerror if isinstance(error, OSError) else None
        raise BundleError(
            f"{what} cannot be read: {reason or error}; give the path of a file that export_bundle wrote."
        ) from error
    if len(payload) != length:
        fault = "is cut short" if there < length else "is too long"
        raise BundleError(f"{what} {fault}: {there} bytes follow its first line, which says {length}; {_AGAIN}.")
    return header, payload


def _checked_header(first: bytes, what: str) -> re.Match[bytes]:
    header = _HEADER.fullmatch(first)
    if header is None:
        if first.startswith(_KIND.encode() + b" "):
            raise BundleError(f"{what} is a bundle with a damaged first line; {_AGAIN}.")
        fault = "is no bundle" if first else "is empty"
        raise BundleError(f"{what} {fault}; give a file that brainhw.deploy.export_bundle wrote.")
    version = int(header[1])
    if version > _FORMAT:
        raise BundleError(
            f"{what} was written by a newer brainhw (format {version}, this one reads {_FORMAT}): update brainhw."
        )
    return header


def text_of(data: Any) -> str:
    """Return plain data as the JSON text of a bundle: sorted keys, a row of numbers on one line."""
    return _text(data, "\n") + "\n"


def _text(value: Any, end: str) -> str:
    # `end` is the line break with the indent of the closing bracket.
    inner = end + " "
    if isinstance(value, dict) and value:
        entries = [f"{json.dumps(key)}: {_text(value[key], inner)}" for key in sorted(value)]
        return "{" + inner + ("," + inner).join(entries) + end + "}"
    if isinstance(value, list) and any(isinstance(item, (dict, list, str)) for item in value):
        return "[" + inner + ("," + inner).join(_text(item, inner) for item in value) + end + "]"
    return json.dumps(value, allow_nan=False)


def _parsed(payload: bytes) -> Any:
    return json.loads(payload.decode("ascii"), object_pairs_hook=_once, parse_constant=_no_number)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the field {describe(key)} stands there twice")
        table[key] = value
    return table


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number that a bundle holds")


def _clipped(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."
