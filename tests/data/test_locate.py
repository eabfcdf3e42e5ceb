from __future__ import annotations

from pathlib import Path

import pytest

from brainhw.data import locate


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty home without any of the variables set."""
    monkeypatch.delenv("BRAINHW_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def fill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "beeps.csv").write_text("1")
    return folder


def find(root=None, **arguments) -> Path:
    return locate("beeps", root, **({"marker": "beeps.csv", "how_to_get": "Record beeps."} | arguments))


def test_search_order_is_variable_then_extra_then_cache(home, monkeypatch):
    in_home = fill(home / ".cache" / "brainhw" / "beeps")
    assert find() == in_home
    cache = fill(home / "xdg" / "brainhw" / "beeps")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert find() == cache
    extra = fill(home / "extra")
    assert find(extra=[home / "nowhere", extra]) == extra
    itself = fill(home / "data")
    monkeypatch.setenv("BRAINHW_DATA", str(itself))
    assert find(extra=[extra]) == itself
    child = fill(home / "data" / "beeps")
    assert find(extra=[extra]) == child
    given = fill(home / "given")
    assert find(given, extra=[extra]) == given


def test_a_variable_without_this_data_set_is_passed_over(home, monkeypatch):
    cache = fill(home / ".cache" / "brainhw" / "beeps")
    monkeypatch.setenv("BRAINHW_DATA", str(home / "other sets"))
    assert find() == cache
    monkeypatch.setenv("BRAINHW_DATA", "")
    assert find() == cache


def test_a_relative_cache_variable_is_ignored(home, monkeypatch):
    cache = fill(home / ".cache" / "brainhw" / "beeps")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert find() == cache


def test_the_home_sign_is_expanded(home, monkeypatch):
    folder = fill(home / "sets" / "beeps")
    assert find("~/sets/beeps") == folder
    monkeypatch.setenv("BRAINHW_DATA", "~/sets")
    assert find() == folder


def test_one_of_several_patterns_is_enough(home):
    folder = fill(home / "sets")
    assert find(folder, marker=("x/*.csv", "*.csv")) == folder
    assert find(home, marker=("sets/*.csv", "*.wav")) == home


def test_a_missing_set_lists_every_place_and_how_to_get_it(home, monkeypatch):
    monkeypatch.setenv("BRAINHW_DATA", str(home / "data"))
    with pytest.raises(FileNotFoundError) as caught:
        find(extra=[home / "extra"])
    message = str(caught.value)
    cache = home / ".cache" / "brainhw" / "beeps"
    for place in (home / "data" / "beeps", home / "data", home / "extra", cache):
        assert f"\n  {place}\n" in message
    assert message.startswith("beeps: the data (beeps.csv) is in none of these folders")
    assert "Record beeps." in message
    assert f"put it into '{cache}'" in message
    assert "BRAINHW_DATA" in message


def test_an_explicit_root_without_the_data_is_an_error_at_once(home, monkeypatch):
    monkeypatch.setenv("BRAINHW_DATA", str(fill(home / "data")))
    (home / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"root '.*empty' contains no such file \(beeps.csv\).*Record beeps"):
        find(home / "empty")
    with pytest.raises(FileNotFoundError, match=r"root '.*absent' is not a folder"):
        find(home / "absent")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        find(home / "data" / "beeps.csv")
