"""Files that are written whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import os
import pathlib
import stat
import subprocess
import sys

import pytest

from brainhw import _files
from brainhw._files import check_target, write_whole

pytestmark = pytest.mark.no_dt


@pytest.fixture
def old(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def test_what_is_written_is_there_and_nothing_else(tmp_path: pathlib.Path) -> None:
    data = bytes(range(256)) * 1000
    for path in (tmp_path / "file", str(tmp_path / "file")):
        write_whole(path, data, call="f")
        assert (tmp_path / "file").read_bytes() == data
    assert os.listdir(tmp_path) == ["file"]


def test_an_existing_file_keeps_its_mode_and_a_link_stays_one(old: pathlib.Path) -> None:
    old.chmod(0o640)
    link = old.with_name("link")
    link.symlink_to(old)
    write_whole(link, b"new", call="f")
    assert link.is_symlink()
    assert old.read_bytes() == b"new"
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


@pytest.mark.parametrize("place", ["fsync", "replace", "write"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
def test_a_failure_at_any_point_leaves_the_old_file_and_no_other(
    old: pathlib.Path, monkeypatch: pytest.MonkeyPatch, place: str, failure: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        if place == "fsync":
            patch.setattr(os, "fsync", fail)
        elif place == "replace":
            patch.setattr(pathlib.Path, "replace", fail)
        else:
            patch.setattr(_files.Path, "open", lambda self, mode: HalfWritten(self, mode, fail))
        if isinstance(failure, OSError):
            with pytest.raises(
                ValueError, match=r"f: cannot write '.*file': No space left on device. Pass the path of a"
            ):
                write_whole(old, b"new", call="f")
        else:
            with pytest.raises(type(failure)):
                write_whole(old, b"new", call="f")
    assert old.read_bytes() == b"old"
    assert os.listdir(old.parent) == ["file"]


class HalfWritten:
    """A file that fails after its first byte."""

    def __init__(self, path: pathlib.Path, mode: str, fail: object) -> None:
        self.stream, self.fail = open(path, mode), fail  # noqa: SIM115

    def __enter__(self) -> HalfWritten:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def write(self, data: bytes) -> None:
        self.stream.write(data[:1])
        self.fail()


@pytest.mark.parametrize("place", ["os.fsync", "pathlib.Path.replace"])
def test_a_process_that_dies_while_writing_leaves_the_old_file(old: pathlib.Path, place: str) -> None:
    code = (
        "import os, pathlib, runpy, sys\n"
        f"{place} = lambda *_: os._exit(9)\n"
        "runpy.run_path(sys.argv[1])['write_whole'](sys.argv[2], b'new' * 10**6, call='f')\n"
    )
    died = subprocess.run([sys.executable, "-c", code, _files.__file__, str(old)], check=False)
    assert died.returncode == 9
    assert old.read_bytes() == b"old"


def test_where_nothing_can_be_written_one_sentence_says_so(old: pathlib.Path) -> None:
    for path in (old.parent / "none" / "file", old / "file", old.parent, "a\0b", "/"):
        with pytest.raises(ValueError, match=r"f: cannot write '.*': .*[.] Pass .* file"):
            write_whole(path, b"new", call="f")
    assert os.listdir(old.parent) == ["file"]


def test_a_folder_that_may_not_be_written_is_refused_before_the_work(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write everywhere, so the answer of the system is replaced.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match=r"^f: cannot write .*: the folder .* is not writable"):
        check_target(tmp_path / "file", call="f")
