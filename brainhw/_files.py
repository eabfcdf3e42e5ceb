"""Atomic writing and checked reading of files."""

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
    "user_cache",
    "versions",
    "write_whole",
]

T = TypeVar("T")

# "kind", format number, SHA-256 in hex and length of the payload: 128 bytes suffice for a kind of 40 letters.
_HEADER = re.compile(rb"([a-z-]{1,40}) ([1-9][0-9]{0,5}) ([0-9a-f]{64}) ([1-9][0-9]{0,11})\n")
_LONGEST_HEADER = 128


def check_target(path: str | os.PathLike[str], *, call: str) -> Path:
    """Return the resolved path of a file to write; raise a `ValueError` if `write_whole` could not write it.

    Call it before a long computation whose result is written there.
    """
    try:
        # Links are resolved: the file behind a link is replaced, and the link stays.
        target = Path(os.path.realpath(str(os.fsdecode(path))))
        name = target.with_name(target.name)
        kind = os.lstat(name).st_mode if os.path.lexists(name) else stat.S_IFREG
    except (ValueError, OSError) as error:  # the path has a null character, or no file name
        raise ValueError(f"{call}: cannot write {str(path)!r}: {_reason(error)}; give the path of a file.") from error
    # Renaming over a device or pipe would delete it for all programs of the machine.
    if not stat.S_ISREG(kind):
        raise ValueError(
            f"{call}: cannot write {str(path)!r}: it is {_kind_word(kind)}; give the path of a new or regular file."
        )
    there = os.path.isdir(target.parent)
    if not there or not os.access(target.parent, os.W_OK | os.X_OK):
        fault = "may not be written" if there else "does not exist"
        raise ValueError(
            f"{call}: cannot write {str(path)!r}: the folder {str(target.parent)!r} {fault}; give a file in an "
            "existing folder that may be written."
        )
    return target


def may_replace(path: Path, starts: tuple[bytes, ...]) -> bool:
    """Return whether a file to write is new, empty, or begins as a file of its own kind does: with one of ``starts``.

    The content counts, not the suffix: a wrong name must not cost a user another file.
    """
    try:
        with open_regular(path) as stream:
            start = stream.read(max(map(len, starts)))
    except OSError:  # a new file; the error of writing names any other reason
        return True
    return not start or start.startswith(starts)


def write_whole(path: str | os.PathLike[str], data: bytes, *, call: str) -> None:
    """Write ``data`` to a file atomically; on failure raise a `ValueError` and keep the old file.

    A link stays a link, and an existing file keeps its mode. Only regular files are written.
    """
    # Write to a hidden file in the same folder, flush it to disk, then rename it. A rename is atomic only within one
    # file system, so a folder for temporary files would not do.
    target = check_target(path, call=call)
    # The temporary name is unique, because two processes may write one file at once. It is cut, because file names are
    # limited to 255 bytes.
    part = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as stream:
            stream.write(data)
            stream.flush()
            # Without it, a power cut after the rename could leave an empty file under the new name.
            os.fsync(stream.fileno())
        if target.is_file():
            shutil.copymode(target, part)
        part.replace(target)
    except OSError as error:
        raise ValueError(
            f"{call}: cannot write {str(path)!r}: {_reason(error)}; give a file in an existing folder "
            "that may be written."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def first_line(error: BaseException, most: int = 200) -> str:
    """Return the first line of an error of another package, cut to ``most`` characters, or the name of its class."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (line if len(line) <= most else line[: most - 3] + "...").rstrip(".")


def _kind_word(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
        stat.S_IFLNK: "a link that leads to itself",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")


class NotRegularError(OSError):
    """A path that leads to a folder, device, pipe or socket."""


@contextlib.contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a regular file for reading, or raise an `OSError` that names the kind of the path."""
    # Opening a pipe or a terminal would block, and reading a device may never end.
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise NotRegularError(0, f"it is {_kind_word(mode)}, not a regular file", os.fspath(path))
    with open(path, "rb") as stream:
        yield stream


def user_cache(name: str) -> Path:
    """Return ``brainhw/NAME`` in the cache folder of the user; the folder may not exist yet."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification: ignore a relative XDG_CACHE_HOME.
    base = Path(cache) if os.path.isabs(cache) else Path(os.path.expanduser("~/.cache"))
    return base / "brainhw" / name


def path_text(path: Any, *, call: str, what: str) -> str:
    """Return a path as text, or raise an error that names the file as ``what``."""
    try:
        name = str(os.fsdecode(path))
        # An empty path means the current folder, which is never intended.
        if not name:
            raise TypeError
        return name
    except TypeError:
        raise TypeError(f"{call}: path must be the path of {what}; got {describe(path)}.") from None


def versions() -> dict[str, str]:
    """Return the versions to record in a file: ``brainhw``, ``brainstate``, ``jax``, ``python``."""
    # Imported here, so that the command line shows its help without loading them.
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
    """A kind of file of this package; errors use ``noun`` and ``writer``, the call that writes it.

    ``format`` is the version number that is written, and the newest one that is read.
    """

    noun: str
    writer: str
    format: int
    error: type[ValueError] = ValueError

    @property
    def one(self) -> str:
        """The noun with its article."""
        return f"{'an' if self.noun[0] in 'aeiou' else 'a'} {self.noun}"

    def foreign(self, what: str, fault: str = "") -> ValueError:
        """Return the error for something that is not a file of this kind."""
        return self.error(f"{what} {fault or f'is not {self.one}'}; give a file that {self.writer} wrote.")

    def damaged(self, what: str, fault: str) -> ValueError:
        """Return the error for a damaged file of this kind."""
        return self.error(f"{what} {fault}; copy it again, or write it again with {self.writer}.")

    def read(self, path: Any, use: Callable[[IO[bytes], str], T], *, call: str) -> T:
        """Return ``use(stream, what)`` for an open regular file; ``what`` names call and file in errors."""
        name = path_text(path, call=call, what=self.one)
        what = f"{call}: {name!r}"
        try:
            with open_regular(name) as stream:
                return use(stream, what)
        except (OSError, ValueError) as error:  # a ValueError: the path has a null character
            if isinstance(error, self.error) and str(error).startswith(what):
                raise
            is_other = isinstance(error, NotRegularError)
            fault = "is not a regular file" if is_other else f"cannot be read: {_reason(error)}"
            raise self.foreign(what, fault) from error

    def check_format(self, number: int, what: str) -> None:
        """Raise if a file has a newer format than this package reads."""
        if number > self.format:
            raise self.error(
                f"{what} was written by a newer brainhw (format {number}, this one reads {self.format}): "
                "update brainhw."
            )


@final
@dataclass(frozen=True)
class Sealed:
    """A container file: a header line with tag, format number, SHA-256 and length, then the payload.

    A file that claims more than ``largest`` bytes is refused before it is read.
    """

    kind: FileKind
    tag: str
    largest: int

    def write(self, path: str | os.PathLike[str], payload: bytes, *, call: str) -> None:
        """Write a payload atomically; raise if `read` would refuse it."""
        if len(payload) > self.largest:
            raise ValueError(
                f"{call}: the {self.kind.noun} would be {len(payload) / 2**20:.0f} MiB, more than the limit of "
                f"{self.largest // 2**20} MiB. Networks for a chip of this format are smaller; write a smaller network."
            )
        header = f"{self.tag} {self.kind.format} {hashlib.sha256(payload).hexdigest()} {len(payload)}\n"
        write_whole(path, header.encode("ascii") + payload, call=call)

    def read(self, path: str | os.PathLike[str], *, call: str) -> tuple[bytes, str, str]:
        """Return the payload, its SHA-256 and the name of the file for errors; the content is not validated."""
        return self.kind.read(path, self._payload, call=call)

    def _payload(self, stream: IO[bytes], what: str) -> tuple[bytes, str, str]:
        kind, tag = self.kind, self.tag.encode()
        # A file of another kind may have no line break for gigabytes, so the read is limited.
        first = stream.readline(_LONGEST_HEADER)
        header = _HEADER.fullmatch(first)
        if header is None or header[1] != tag:
            if first.startswith(tag + b" "):
                raise kind.damaged(what, f"is a {kind.noun} with a damaged first line")
            raise kind.foreign(what, "" if first else "is empty")
        kind.check_format(int(header[2]), what)
        length, there = int(header[4]), os.fstat(stream.fileno()).st_size - len(first)
        if length > self.largest:
            raise kind.damaged(what, f"claims {length} bytes, more than the limit of {self.largest} for a {kind.noun}")
        # Read one byte more, to see whether the file grew after its size was taken.
        payload = stream.read(length + 1) if there == length else b""
        if len(payload) != length:
            fault = "is cut short" if there < length else "is too long"
            raise kind.damaged(what, f"{fault}: its first line gives {length} bytes, but {there} follow")
        checksum = header[3].decode("ascii")
        if hashlib.sha256(payload).hexdigest() != checksum:
            raise kind.damaged(what, "does not match its checksum, so it was damaged or changed by hand")
        return payload, checksum, what
