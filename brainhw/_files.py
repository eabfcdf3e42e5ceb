"""Functions that write files atomically, and check the kind, size and checksum of files that they read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, final

from brainhw._arguments import describe
from brainhw._version import __version__

__all__ = [
    "FileKind",
    "NotRegularError",
    "Sealed",
    "check_target",
    "first_line",
    "may_replace",
    "open_regular",
    "path_text",
    "starts_with",
    "user_cache",
    "versions",
    "write_whole",
]

T = TypeVar("T")

# Tag, format number, SHA-256 in hexadecimal, and length of the payload. With a tag of 40 letters, 128 bytes suffice.
_HEADER = re.compile(rb"([a-z-]{1,40}) ([1-9][0-9]{0,5}) ([0-9a-f]{64}) ([1-9][0-9]{0,11})\n")
_LONGEST_HEADER = 128


def check_target(path: str | os.PathLike[str], *, call: str) -> Path:
    """Return the resolved path of a file to write. Raise a `ValueError` if `write_whole` could not write it.

    Call this function before a long computation whose result will be written to the file.
    """
    try:
        # Resolve links, so that the target of a link is replaced and not the link itself.
        target = Path(os.path.realpath(str(os.fsdecode(path))))
        name = target.with_name(target.name)
        kind = os.lstat(name).st_mode if os.path.lexists(name) else stat.S_IFREG
    except (ValueError, OSError) as error:  # the path has a null character or no file name
        raise ValueError(f"{call}: cannot write {str(path)!r}: {_reason(error)}. Pass the path of a file.") from error
    # If a file were renamed to the path of a device or pipe, it would replace the device for all programs.
    if not stat.S_ISREG(kind):
        raise ValueError(
            f"{call}: cannot write {str(path)!r}: it is {_kind_word(kind)}. Pass the path of a new or regular file."
        )
    there = os.path.isdir(target.parent)
    if not there or not os.access(target.parent, os.W_OK | os.X_OK):
        fault = "is not writable" if there else "does not exist"
        raise ValueError(
            f"{call}: cannot write {str(path)!r}: the folder {str(target.parent)!r} {fault}. Pass the path of a file "
            "in an existing, writable folder."
        )
    return target


def starts_with(path: str | os.PathLike[str], starts: tuple[bytes, ...]) -> bool:
    """Return whether a regular file begins with one of ``starts``. If the file cannot be read, return False."""
    try:
        with open_regular(path) as stream:
            return stream.read(max(map(len, starts))).startswith(starts)
    except (OSError, ValueError):  # reading the file later reports the error
        return False


def may_replace(path: Path, starts: tuple[bytes, ...]) -> bool:
    """Return whether a file may be replaced: it does not exist, is empty, or begins with one of ``starts``.

    ``starts`` lists the first bytes of files that may be replaced. The content of the file is checked and not its
    suffix, so that a file of a different kind is not overwritten if the user gives its name by mistake.
    """
    try:
        with open_regular(path) as stream:
            start = stream.read(max(map(len, starts)))
    except OSError:  # the file does not exist; in any other case, writing raises an error that names the reason
        return True
    return not start or start.startswith(starts)


def write_whole(path: str | os.PathLike[str], data: bytes, *, call: str) -> None:
    """Write ``data`` to a file atomically. On failure, raise a `ValueError` and keep the old file.

    A link stays a link, and an existing file keeps its permissions. Only regular files are written.
    """
    # Write to a hidden file in the same folder, flush it to disk, then rename it. The hidden file must be in the same
    # folder, because a rename is atomic only within one file system.
    target = check_target(path, call=call)
    # The temporary name must be unique, because two processes may write the same file at the same time. It is
    # shortened, because file names are limited to 255 bytes.
    part = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as stream:
            stream.write(data)
            stream.flush()
            # Without `fsync`, a power failure after the rename could leave an empty file with the new name.
            os.fsync(stream.fileno())
        if target.is_file():
            shutil.copymode(target, part)
        part.replace(target)
    except OSError as error:
        raise ValueError(
            f"{call}: cannot write {str(path)!r}: {_reason(error)}. Pass the path of a file in an existing, writable "
            "folder."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def first_line(error: BaseException, most: int = 200) -> str:
    """Return the first line of an error message, shortened to at most ``most`` characters.

    If the message is empty, return the name of the error class.
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (line if len(line) <= most else line[: most - 3] + "...").rstrip(".")


def _kind_word(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
        stat.S_IFLNK: "a link to itself",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")


class NotRegularError(OSError):
    """Error for a path that is a folder, device, pipe or socket."""


@contextlib.contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a regular file for reading. For anything else, raise an `OSError` that names the kind, such as a folder."""
    # Opening a pipe or a terminal would block, and reading a device might never end.
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise NotRegularError(0, f"it is {_kind_word(mode)}, not a regular file", os.fspath(path))
    with open(path, "rb") as stream:
        yield stream


def user_cache(name: str) -> Path:
    """Return the path ``brainhw/NAME`` in the cache folder of the user. This folder may not exist yet."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # A relative XDG_CACHE_HOME must be ignored (XDG base directory specification).
    base = Path(cache) if os.path.isabs(cache) else Path(os.path.expanduser("~/.cache"))
    return base / "brainhw" / name


def path_text(path: Any, *, call: str, what: str) -> str:
    """Return a path as text. In the error message, ``what`` describes the expected file, such as "a folder"."""
    try:
        name = str(os.fsdecode(path))
        # Reject an empty path, which would mean the current folder.
        if not name:
            raise TypeError
        return name
    except TypeError:
        raise TypeError(f"{call}: path must be the path of {what}; got {describe(path)}.") from None


def versions() -> dict[str, str]:
    """Return the versions of ``brainhw``, ``brainstate``, ``jax`` and ``python``, to be stored in a file."""
    # Import these packages here, so that the command line can show its help without loading them.
    import brainstate
    import jax

    return {
        "brainhw": __version__,
        "brainstate": brainstate.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


@final
@dataclass(frozen=True)
class FileKind:
    """A kind of file that brainhw writes and reads.

    ``noun`` is the name of such a file in error messages, and ``writer`` is the call that writes it. ``format`` is the
    version number that is written, and also the newest version that can be read. ``error`` is the class of the errors.
    """

    noun: str
    writer: str
    format: int
    error: type[ValueError] = ValueError

    @property
    def noun_with_article(self) -> str:
        """``noun`` with its indefinite article, for error messages."""
        return f"{'an' if self.noun[0] in 'aeiou' else 'a'} {self.noun}"

    def wrong_kind(self, what: str, fault: str = "") -> ValueError:
        """Return the error to raise for a file that is not of this kind. ``what`` names the call and the file."""
        return self.error(
            f"{what} {fault or f'is not {self.noun_with_article}'}. Pass a file written by {self.writer}."
        )

    def corrupted(self, what: str, fault: str) -> ValueError:
        """Return the error to raise for a corrupted file of this kind. ``what`` names the call and the file."""
        return self.error(f"{what} {fault}. Copy it again, or write it again with {self.writer}.")

    def read(self, path: Any, use: Callable[[IO[bytes], str], T], *, call: str) -> T:
        """Open a regular file and return ``use(stream, what)``. ``what`` names the call and the file in errors."""
        name = path_text(path, call=call, what=self.noun_with_article)
        what = f"{call}: {name!r}"
        try:
            with open_regular(name) as stream:
                return use(stream, what)
        except (OSError, ValueError) as error:  # a ValueError is raised if the path has a null character
            if isinstance(error, self.error) and str(error).startswith(what):
                raise
            is_other = isinstance(error, NotRegularError)
            fault = "is not a regular file" if is_other else f"cannot be read: {_reason(error)}"
            full = f"{name}.{self.noun}"
            if isinstance(error, FileNotFoundError) and os.path.isfile(full):
                fault += f" (did you mean {full!r}?)"
            raise self.wrong_kind(what, fault) from error

    def check_format(self, number: int, what: str) -> None:
        """Raise if this version of brainhw is too old to read a file with the format number ``number``."""
        if number > self.format:
            raise self.error(
                f"{what} was written by a newer brainhw (format {number}, this version reads up to {self.format}). "
                "Update brainhw."
            )


@final
@dataclass(frozen=True)
class Sealed:
    """Format of files that consist of a header line and a payload.

    The header contains a tag, a format number, the SHA-256 of the payload, and the length of the payload. If the header
    states a length of more than ``largest`` bytes, the payload is not read.
    """

    kind: FileKind
    tag: str
    largest: int

    def write(self, path: str | os.PathLike[str], payload: bytes, *, call: str) -> None:
        """Write a payload atomically. Raise if the payload has more than ``largest`` bytes."""
        if len(payload) > self.largest:
            raise ValueError(
                f"{call}: the {self.kind.noun} would be {len(payload) / 2**20:.0f} MiB, more than the limit of "
                f"{self.largest // 2**20} MiB for such a file. Save a smaller one."
            )
        header = f"{self.tag} {self.kind.format} {hashlib.sha256(payload).hexdigest()} {len(payload)}\n"
        write_whole(path, header.encode("ascii") + payload, call=call)

    def read(self, path: str | os.PathLike[str], *, call: str) -> tuple[bytes, str, str]:
        """Return the payload, its SHA-256, and a text that names the call and the file in error messages.

        The content of the payload is not checked.
        """
        return self.kind.read(path, self._payload, call=call)

    def _payload(self, stream: IO[bytes], what: str) -> tuple[bytes, str, str]:
        kind, tag = self.kind, self.tag.encode()
        # Limit the length of the line, because a file of a different kind may have gigabytes without a line break.
        first = stream.readline(_LONGEST_HEADER)
        header = _HEADER.fullmatch(first)
        if header is None or header[1] != tag:
            if first.startswith(tag + b" "):
                raise kind.corrupted(what, f"is {kind.noun_with_article} with a corrupted first line")
            raise kind.wrong_kind(what, "" if first else "is empty")
        kind.check_format(int(header[2]), what)
        length, there = int(header[4]), os.fstat(stream.fileno()).st_size - len(first)
        if length > self.largest:
            raise kind.corrupted(
                what, f"states a size of {length} bytes, but {kind.noun_with_article} has at most {self.largest}"
            )
        # Try to read one more byte, to detect whether the file has grown since its size was determined.
        payload = stream.read(length + 1) if there == length else b""
        if len(payload) != length:
            fault = "is truncated" if there < length else "is too long"
            raise kind.corrupted(
                what, f"{fault}: its first line states a size of {length} bytes, but {there} bytes follow"
            )
        checksum = header[3].decode("ascii")
        if hashlib.sha256(payload).hexdigest() != checksum:
            raise kind.corrupted(what, "does not match its checksum. It was corrupted or edited by hand")
        return payload, checksum, what
