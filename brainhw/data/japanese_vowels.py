"""Japanese Vowels data set, read from a file in the package."""

from __future__ import annotations

from importlib import resources

import numpy as np

from brainhw.data.dataset import Dataset, Split
from brainhw.data.locate import bundled_arrays

__all__ = ["japanese_vowels"]

_FILE = resources.files("brainhw.data") / "japanese_vowels.npz"
_SHA256 = "6a26d6ce74b68838655bb34708950320835803d703a5fd05194f61908627f5a3"
_N_TRAIN, _FRAMES, _CHANNELS, _SPEAKERS = 270, 29, 12, 9


def japanese_vowels() -> Dataset:
    """Load Japanese Vowels: recordings of nine speakers who say /ae/, to be classified by speaker.

    A frame contains 12 LPC cepstrum coefficients. There is one frame every 6.4 ms, and an utterance has 7 to 29 frames.
    The splits are the official splits: 270 utterances (30 of each speaker) for training and 370 for testing. The data
    are part of the package. Their checksum is verified at each load.

    Returns
    -------
    Dataset
        ``x`` is float32 ``[n, 29, 12]``, padded with zeros. ``y`` is the speaker, 0 to 8.

    Raises
    ------
    RuntimeError
        If the bundled file is missing or corrupted.

    References
    ----------
    M. Kudo, J. Toyama, M. Shimbo (1999). Multidimensional curve classification using passing-through regions. Pattern
    Recognition Letters 20, 1103-1111. Licence CC BY 4.0.

    Examples
    --------
    >>> from brainhw.data import japanese_vowels
    >>> data = japanese_vowels()
    >>> len(data.train), len(data.test), data.n_classes
    (270, 370, 9)
    """
    stored = bundled_arrays(_FILE, _SHA256, call="japanese_vowels")
    lengths = stored["lengths"].astype(np.int32)
    # The file stores differences of neighbouring frames as byte planes, which compress a third better than floats
    # (build_japanese_vowels.py).
    differences = np.ascontiguousarray(stored["planes"].T).view("<i4").reshape(-1, _CHANNELS)
    x = np.zeros((len(lengths), _FRAMES, _CHANNELS), np.float32)
    # The stored integers are in units of 1e-6. They are summed as integers, so that the published decimals stay exact.
    x[np.arange(_FRAMES) < lengths[:, None]] = np.cumsum(differences, axis=0, dtype=np.int64) / 1e6
    both = Split(x, stored["labels"], lengths)
    return Dataset(
        name="japanese_vowels",
        train=both.take(slice(None, _N_TRAIN)),
        test=both.take(slice(_N_TRAIN, None)),
        n_classes=_SPEAKERS,
        class_names=tuple(f"speaker {number}" for number in range(1, _SPEAKERS + 1)),
        licence="CC BY 4.0",
        citation=(
            "M. Kudo, J. Toyama, M. Shimbo (1999). Multidimensional curve classification using passing-through "
            "regions. Pattern Recognition Letters 20, 1103-1111. UCI Machine Learning Repository, DOI 10.24432/C5NS47."
        ),
    )
