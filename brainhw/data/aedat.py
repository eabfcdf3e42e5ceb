"""Read AEDAT4 files of event cameras with the package aedat."""

from __future__ import annotations

import os

import brainunit as u
import numpy as np

from brainhw._files import first_line, open_regular, path_text
from brainhw.data.events import Events

__all__ = ["read_aedat"]

_MAGIC = b"#!AER-DAT4.0"


def read_aedat(path: str | os.PathLike[str]) -> tuple[Events, tuple[int, int]]:
    """Read the events from an AEDAT4 file. iniVation event cameras and the software DV write such files.

    Requires the package ``aedat``: ``pip install "brainhw[aedat]"``. For AEDAT 2 and AEDAT 3 files (DVS128 Gesture, old
    DAVIS files), and for ``.dat`` and ``.raw`` files, use a reader of tonic or expelliarmus. Then pass its result to
    :func:`events_from_array`.

    Parameters
    ----------
    path
        The file. If the file has several event streams, the first one is read.

    Returns
    -------
    events : Events
        Times in microseconds since 1970, in the order of the file.
    sensor_size : tuple of int
        Columns and rows of the sensor, for :func:`events_to_frames`.

    Raises
    ------
    ImportError
        If the package ``aedat`` is missing.
    TypeError, ValueError
        If ``path`` is not an AEDAT4 file, or the file has no events.

    Examples
    --------
    >>> from brainhw.data import events_to_frames, read_aedat
    >>> events, sensor_size = read_aedat("hand.aedat4")  # doctest: +SKIP
    >>> frames = events_to_frames(*events, sensor_size, dt=10 * u.ms)  # doctest: +SKIP
    """
    call = "read_aedat"
    name = path_text(path, call=call, what="an AEDAT4 file")
    try:
        with open_regular(name) as stream:
            magic = stream.read(len(_MAGIC))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{call}: cannot read {name!r}: {why}. Pass the path of an AEDAT4 file.") from None
    if magic != _MAGIC:
        other = ", but an older AEDAT file, which tonic can read" if magic.startswith(b"#!AER-DAT") else ""
        raise ValueError(f"{call}: {name!r} is not an AEDAT4 file{other}. Pass a file written by DV or dv-processing.")
    try:
        import aedat
    except ImportError as error:
        raise ImportError(
            f'{call}: requires the package aedat, which cannot be imported ({error}). Run: pip install "brainhw[aedat]"'
        ) from error
    try:
        decoder = aedat.Decoder(name)
        streams = {i: one for i, one in decoder.id_to_stream().items() if one["type"] == "events"}
        chosen = min(streams, default=None)
        packets = [packet["events"] for packet in decoder if packet["stream_id"] == chosen]
    except RuntimeError as error:
        raise ValueError(f"{call}: {name!r} is corrupted: {first_line(error)}. Copy it again.") from None
    if chosen is None:
        raise ValueError(f"{call}: {name!r} contains no event stream. Pass a file with events.")
    fields = {
        field: np.concatenate([packet[field] for packet in packets]) if packets else np.zeros(0, np.int64)
        for field in ("t", "x", "y", "on")
    }
    size = streams[chosen]
    events = Events(u.Quantity(fields["t"], unit=u.us), fields["x"], fields["y"], fields["on"])
    return events, (int(size["width"]), int(size["height"]))
