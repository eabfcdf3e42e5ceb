"""Free Spoken Digit Dataset, read from a folder of WAV files."""

from __future__ import annotations

import os
import re
import wave
from pathlib import Path

import brainunit as u
import numpy as np

from brainhw._files import open_regular
from brainhw.data.dataset import Dataset, Split
from brainhw.data.locate import locate

__all__ = ["fsdd"]

_RATE_HZ = 8000
# The authors use the first 10 % of the 50 takes of each speaker and digit as the test set.
_N_TEST_TAKES, _N_TAKES = 5, 50
_NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[^_.]+)_(?P<take>0|[1-9][0-9]*)\.wav")
_HOW_TO_GET = (
    "Get the Free Spoken Digit Dataset (DOI 10.5281/zenodo.1342401, CC BY-SA 4.0), whose folder 'recordings' contains "
    "files such as 7_jackson_32.wav."
)


def _list_recordings(folder: Path) -> list[tuple[int, str, int, Path]]:
    """Return one tuple ``(digit, speaker, take, file)`` per recording, sorted."""
    takes = []
    for file in folder.iterdir():
        # Skip hidden files, because macOS writes a file "._name.wav" beside each file on some disks.
        if file.name.startswith(".") or file.suffix.lower() != ".wav":
            continue
        match = _NAME.fullmatch(file.name)
        if match is None or int(match["take"]) >= _N_TAKES:
            raise ValueError(
                f"fsdd: {file} is not named like a recording of this data set, {{digit}}_{{speaker}}_{{take}}.wav with "
                f"digit 0 to 9 and take 0 to {_N_TAKES - 1}. Move it out of the folder."
            )
        takes.append((int(match["digit"]), match["speaker"], int(match["take"]), file))
    return sorted(takes)


def _read(file: Path) -> np.ndarray:
    try:
        with open_regular(file) as stream, wave.open(stream) as recording:
            form = (recording.getframerate(), recording.getnchannels(), 8 * recording.getsampwidth())
            n = recording.getnframes()
            content = recording.readframes(n)
    except (wave.Error, EOFError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it ends too early"
        raise ValueError(f"fsdd: {file} is not a readable WAV file ({reason}). Get this file again.") from None
    if form != (_RATE_HZ, 1, 16):
        raise ValueError(
            f"fsdd: {file} has {form[0]} Hz, {form[1]} channel(s) and {form[2]} bits; expected {_RATE_HZ} Hz, 1 "
            "channel and 16 bits, as in the published data set. Get this file again."
        )
    # A truncated file still has a valid header, and the wave module reads the remaining samples without an error.
    if n == 0 or len(content) != 2 * n:
        raise ValueError(
            f"fsdd: {file} is truncated: it has {len(content)} bytes of audio, but its header specifies {2 * n} bytes. "
            "Get this file again."
        )
    # WAV samples are little-endian on every machine.
    return np.frombuffer(content, "<i2").astype(np.float32) / np.float32(32768)


def _split(takes: list[tuple[int, str, int, Path]]) -> Split:
    digits, speakers, _, files = zip(*takes, strict=True)
    return Split(x=[_read(file) for file in files], y=np.array(digits), groups=np.array(speakers))


def fsdd(root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the Free Spoken Digit Dataset: spoken English digits as raw audio at 8 kHz.

    The official splits follow from the file names ``{digit}_{speaker}_{take}.wav``: takes 0 to 4 are the test split,
    takes 5 to 49 the training split. The full set has 3000 recordings, 300 of them for testing. The folder may contain
    only some of the recordings. Recordings are sorted by digit, speaker and take. Use :func:`brainhw.data.filterbank`
    to convert the recordings to frames.

    Parameters
    ----------
    root
        The folder that contains ``recordings/``, or the folder of recordings itself. ``None`` (default) searches the
        folders of :func:`brainhw.data.locate` for ``fsdd``.

    Returns
    -------
    Dataset
        ``x`` is a list of 1-D float32 arrays from -1 to 1, ``y`` the digit, ``groups`` the speaker, and ``rate`` 8 kHz.

    Raises
    ------
    FileNotFoundError
        If there are no recordings.
    ValueError
        If a WAV file has an unexpected name, format or length, or a split would be empty. The message names the file.

    References
    ----------
    Z. Jackson et al., Free Spoken Digit Dataset, DOI 10.5281/zenodo.1342401. Licence CC BY-SA 4.0.

    Examples
    --------
    >>> import tempfile
    >>> import wave
    >>> from pathlib import Path
    >>> from brainhw.data import fsdd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("3_ada_0.wav", "3_ada_5.wav"):
    ...         with wave.open(str(Path(folder) / name), "wb") as file:
    ...             file.setparams((1, 2, 8000, 0, "NONE", ""))
    ...             file.writeframes(bytes(1600))
    ...     data = fsdd(folder)
    >>> data.train
    Split(1 recordings, raw audio, lengths 800 to 800)
    >>> data.test.groups.tolist()
    ['ada']
    """
    folder = locate("fsdd", root, marker=("recordings/*.wav", "*.wav"), how_to_get=_HOW_TO_GET)
    if any((folder / "recordings").glob("*.wav")):
        folder = folder / "recordings"
    takes = _list_recordings(folder)
    test = [one for one in takes if one[2] < _N_TEST_TAKES]
    train = [one for one in takes if one[2] >= _N_TEST_TAKES]
    if not (test and train):
        raise ValueError(
            f"fsdd: {folder} contains {len(train)} recordings for training (takes {_N_TEST_TAKES} to {_N_TAKES - 1}) "
            f"and {len(test)} for testing (takes 0 to {_N_TEST_TAKES - 1}). Both splits need at least one."
        )
    return Dataset(
        name="fsdd",
        train=_split(train),
        test=_split(test),
        n_classes=10,
        class_names=("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
        licence="CC BY-SA 4.0",
        citation="Z. Jackson et al., Free Spoken Digit Dataset, DOI 10.5281/zenodo.1342401.",
        rate=_RATE_HZ * u.Hz,
    )
