"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: str | os.PathLike[str], data: bytes, *, call: str) -> None:
    """Write ``data`` to a file in one step: whatever happens meanwhile, the old file or the new one is whole.

    The bytes go to a hidden file beside the target, onto the disk, and then take its name. A link stays a link, and an
    existing file keeps its mode.

    Parameters
    ----------
    path : path
        The file; its folder must exist.
    data : bytes
        All that the file shall hold.
    call : str
        Who asks, for the error message.

    Raises
    ------
    ValueError
        If the file cannot be written; what stood there before is still whole, and nothing is left beside it.

    Examples
    --------
    >>> import os, tempfile
    >>> from brainhw._files import write_whole
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(os.path.join(folder, "note"), b"done", call="my function")
    ...     os.listdir(folder)
    ['note']
    """
    try:
        target = Path(os.path.realpath(path))
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    except ValueError as error:  # a path with a null character in it, or one that is no file's
        raise ValueError(f"{call}: cannot write {str(path)!r}: {error}; give the path of a file.") from error
    try:
        with part.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if target.is_file():
            shutil.copymode(target, part)
        part.replace(target)
    except OSError as error:
        raise ValueError(
            f"{call}: cannot write {str(path)!r}: {error.strerror or error}; give a file in an existing folder "
            "that may be written."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
