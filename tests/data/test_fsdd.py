from __future__ import annotations

import wave
from pathlib import Path

import brainunit as u
import numpy as np
import pytest

from brainhw.data import fsdd


def write(file: Path, samples=None, rate: int = 8000, channels: int = 1, width: int = 2) -> Path:
    samples = np.zeros(80, "<i2") if samples is None else np.asarray(samples, "<i2")
    with wave.open(str(file), "wb") as out:
        out.setparams((channels, width, rate, 0, "NONE", ""))
        out.writeframes(samples.tobytes())
    return file


@pytest.fixture
def recordings(tmp_path) -> Path:
    folder = tmp_path / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for name in ("9_theo_10", "9_theo_9", "0_lucas_5", "0_george_49", "0_george_0", "9_theo_4"):
        write(folder / f"{name}.wav")
    return folder


def test_the_split_follows_the_take_and_the_order_is_numeric(recordings):
    data = fsdd(recordings.parent)
    train = list(zip(data.train.y.tolist(), data.train.groups.tolist(), strict=True))
    assert train == [(0, "george"), (0, "lucas"), (9, "theo"), (9, "theo")]
    assert list(zip(data.test.y.tolist(), data.test.groups.tolist(), strict=True)) == [(0, "george"), (9, "theo")]
    assert data.rate.to_decimal(u.Hz) == 8000
    assert (data.n_classes, data.class_names[9]) == (10, "nine")


def test_takes_are_sorted_as_numbers(recordings):
    write(recordings / "9_theo_9.wav", np.full(90, 9))
    write(recordings / "9_theo_10.wav", np.full(100, 10))
    assert fsdd(recordings).train.lengths.tolist() == [80, 80, 90, 100]


def test_both_folders_are_accepted_and_so_is_the_variable(recordings, monkeypatch):
    for root in (recordings, recordings.parent, str(recordings.parent)):
        assert len(fsdd(root).train) == 4
    for folder in (recordings, recordings.parent, recordings.parent.parent):
        monkeypatch.setenv("BRAINHW_DATA", str(folder))
        assert len(fsdd().train) == 4


def test_audio_is_float32_between_minus_one_and_one(recordings):
    write(recordings / "0_george_0.wav", [-32768, 0, 16384, 32767])
    first = fsdd(recordings).test.x[0]
    assert first.dtype == np.float32
    assert first.tolist() == [-1.0, 0.0, 0.5, 32767 / 32768]


def test_other_files_and_hidden_files_are_left_alone(recordings):
    (recordings / "README.md").write_text("notes")
    (recordings / "._0_george_0.wav").write_bytes(b"not audio")
    assert len(fsdd(recordings).train) == 4


@pytest.mark.parametrize(
    "name", ["hello.wav", "0_george.wav", "10_george_0.wav", "0_george_50.wav", "0_george_05.wav", "0_george_1.WAV"]
)
def test_an_unexpected_name_is_refused(recordings, name):
    write(recordings / name)
    with pytest.raises(ValueError, match=rf"{name} is not named like .*Move it out of the folder"):
        fsdd(recordings)


@pytest.mark.parametrize(
    ("form", "found"),
    [
        ({"rate": 16000}, r"16000 Hz, 1 channel\(s\) and 16 bits"),
        ({"channels": 2}, r"8000 Hz, 2 channel\(s\)"),
        ({"width": 1}, "and 8 bits"),
    ],
)
def test_another_format_is_refused(recordings, form, found):
    write(recordings / "0_george_0.wav", **form)
    with pytest.raises(ValueError, match=rf"0_george_0.wav has .*{found}.*expected 8000 Hz"):
        fsdd(recordings)


@pytest.mark.parametrize("keep", [0, 6, 20, 44, 45, 60, 203])
def test_a_truncated_file_is_refused(recordings, keep):
    file = write(recordings / "0_george_0.wav")
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"0_george_0.wav .*Get this file again"):
        fsdd(recordings)


def test_a_file_without_sound_or_that_is_no_wav_is_refused(recordings):
    file = write(recordings / "0_george_0.wav", [])
    with pytest.raises(ValueError, match=r"0_george_0.wav is truncated"):
        fsdd(recordings)
    file.write_bytes(b"ID3 this is something else entirely, long enough to be read")
    with pytest.raises(ValueError, match=r"0_george_0.wav is not a readable WAV file"):
        fsdd(recordings)


def test_no_recordings_say_how_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"fsdd: root .*Free Spoken Digit Dataset"):
        fsdd(tmp_path)


@pytest.mark.parametrize(("take", "counts"), [(0, "0 recordings for training .* 1 for testing"), (5, "1 rec.* 0 for")])
def test_both_splits_need_recordings(tmp_path, take, counts):
    write(tmp_path / f"1_theo_{take}.wav")
    with pytest.raises(ValueError, match=rf"{counts}.*Both splits need at least one"):
        fsdd(tmp_path)
