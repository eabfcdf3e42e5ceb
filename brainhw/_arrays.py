"""Read NumPy files from untrusted sources safely: read headers first, limit sizes, reject pickles."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import numpy as np

__all__ = ["ARRAY_STARTS", "ArrayFile", "Header", "ObjectsError"]

_NPY, _ZIP = b"\x93NUMPY", b"PK"
ARRAY_STARTS = (_NPY, _ZIP)
_ENDING = ".npy"


class ObjectsError(ValueError):
    """Error for an array of Python objects. Such an array is rejected, because loading its pickle can run code."""


class Header(NamedTuple):
    """Shape and dtype of an array, read from the header of its file."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Size of the array in memory, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"an array of shape {self.shape} and dtype {self.dtype}"


class ArrayFile:
    """A ``.npy`` or ``.npz`` file that is open for reading.

    If the file is corrupted, the errors may be of different classes, such as ``ValueError`` or ``zipfile.BadZipFile``.

    Parameters
    ----------
    stream : binary stream
        The file. It must stay open as long as this object is used.
    compressed : bool
        Whether members may be compressed. If False, the arrays cannot be larger than the file.

    Attributes
    ----------
    is_archive : bool
        Whether the file is an ``.npz`` file. A ``.npy`` file contains one array, which gets the name ``""``.
    names : tuple of str
        Names of the arrays.
    """

    def __init__(self, stream: IO[bytes], *, compressed: bool = True) -> None:
        self._stream, self._size = stream, stream.seek(0, 2)
        stream.seek(0)
        first = stream.read(len(_NPY))
        stream.seek(0)
        self.is_archive = first.startswith(_ZIP)
        self._members: dict[str, zipfile.ZipInfo] = {}
        self.names: tuple[str, ...] = ("",)
        if self.is_archive:
            self._open_archive(compressed)
        elif first != _NPY:
            raise ValueError("it is empty" if not first else "it is not in NumPy format")

    def _open_archive(self, compressed: bool) -> None:
        self._archive = zipfile.ZipFile(self._stream)
        for member in self._archive.infolist():
            name = member.filename.removesuffix(_ENDING)
            if name in self._members:
                raise ValueError(f"it contains two arrays named {name!r:.60}")
            if not compressed and member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its array {name!r:.60} is compressed")
            self._members[name] = member
        # In a malicious archive, members may overlap, so that a small file claims to contain many large arrays.
        if not compressed and sum(member.file_size for member in self._members.values()) > self._size:
            raise ValueError("its arrays need more bytes than the file has")
        self.names = tuple(self._members)

    def header(self, name: str) -> Header:
        """Return the shape and dtype of the array ``name``. Only the header of the array is read."""
        with self._opened(name) as (stream, size):
            return self._header(stream, size)

    def read(self, name: str, *, largest: int) -> np.ndarray:
        """Read the array ``name`` and return it.

        If the array has more than ``largest`` bytes, raise an error before its values are read.
        """
        with self._opened(name) as (stream, size):
            header = self._header(stream, size)
            if header.nbytes > largest:
                raise ValueError(
                    f"its array of shape {header.shape} has {header.nbytes} bytes, more than the limit of {largest}"
                )
        with self._opened(name) as (stream, _):
            # Reject pickles, because a pickle in an untrusted file can run arbitrary code.
            array = np.lib.format.read_array(stream, allow_pickle=False)
            # Read to the end, because zipfile verifies the checksum only there.
            stream.read(1)
        return array

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """Yield a stream at the first byte of an array, and the size of the array in bytes.

        If the file is a ``.npy`` file, the stream is the file itself and is not closed.
        """
        if self.is_archive:
            with self._archive.open(self._members[name]) as stream:
                yield stream, self._members[name].file_size
        else:
            self._stream.seek(0)
            yield self._stream, self._size

    @staticmethod
    def _header(stream: IO[bytes], size: int) -> Header:
        version = np.lib.format.read_magic(stream)
        readers: dict[Any, Any] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"its array has version {version} of the NumPy format, which is unsupported")
        shape, _, dtype = readers[version](stream)
        if dtype.hasobject:
            raise ObjectsError("it contains Python objects, which are not allowed; save text with .astype(str)")
        header = Header(shape, dtype)
        if any(length < 0 for length in shape) or header.nbytes != size - stream.tell():
            raise ValueError(
                f"its header specifies shape {shape} and dtype {dtype}, but {size - stream.tell()} bytes follow"
            )
        return header
