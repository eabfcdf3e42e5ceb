"""Text for any encoding, and prints for any state of the standard output."""

from __future__ import annotations

import io
import sys

import pytest

from brainhw._printing import printable, say

pytestmark = pytest.mark.no_dt


def output(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


def test_utf8_holds_every_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", output("utf-8"))
    monkeypatch.setattr("locale.getpreferredencoding", lambda _: "utf-8")
    assert printable("ν ≥ 1 ─ größe") == "ν ≥ 1 ─ größe"
    # A path may hold bytes that are no text, which not even UTF-8 can write.
    assert printable("a\udcffb") == "a\\udcffb"


@pytest.mark.parametrize(
    ("encoding", "there"),
    [("cp1252", "nu_in +- 1 --- größe Delta u"), ("ascii", "nu_in +- 1 --- gr\\xf6\\xdfe Delta u")],
)
def test_other_encodings_get_names_and_escapes(monkeypatch: pytest.MonkeyPatch, encoding: str, there: str) -> None:
    monkeypatch.setattr(sys, "stdout", output(encoding))
    assert printable("ν_in ± 1 ─── größe Δ µ") == there


def test_the_encoding_of_text_files_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", output("utf-8"))
    monkeypatch.setattr("locale.getpreferredencoding", lambda _: "cp1252")
    assert printable("ξ = 1") == "xi = 1"


def test_say_prints_a_line_and_survives_every_output(monkeypatch: pytest.MonkeyPatch) -> None:
    there = output("cp1252")
    monkeypatch.setattr(sys, "stdout", there)
    say("→ ξ")
    there.flush()
    assert there.buffer.getvalue().split() == [b"->", b"xi"]  # type: ignore[attr-defined]
    closed = io.StringIO()
    closed.close()

    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    for stream in (None, closed, Gone()):
        monkeypatch.setattr(sys, "stdout", stream)
        say("ξ")
