"""Events of event cameras and silicon cochleas: times, positions and polarities."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainunit as u
import numpy as np

from brainhw._arguments import as_array, describe, quantity

__all__ = ["Events", "checked_events", "events_from_array"]

# Names of the fields in tonic, SpikingJelly, expelliarmus, aedat and dv-processing.
_NAMES = {
    "t": ("t", "ts", "time", "timestamp"),
    "x": ("x",),
    "y": ("y",),
    "p": ("p", "polarity", "on"),
}
# Fields and dtypes of tonic.
_TYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.int8)])


class Events(NamedTuple):
    """One recording of events, as arrays of equal length.

    Parameters
    ----------
    t
        Times, a Quantity ``[n]``, in any order.
    x, y
        Column and row of the pixel, integers from 0, ``[n]``. ``y=None`` for sensors of one row, such as cochleas.
    p
        Polarity, ``[n]``: 0, False or -1 for off, 1 or True for on. ``None`` for a sensor without polarity.

    Examples
    --------
    >>> import brainunit as u
    >>> from brainhw.data import Events
    >>> events = Events([0, 1500] * u.us, [3, 4], [0, 1], [1, 0])
    >>> events.to_array()
    array([(3, 0,    0, 1), (4, 1, 1500, 0)],
          dtype=[('x', '<i2'), ('y', '<i2'), ('t', '<i8'), ('p', 'i1')])
    """

    t: u.Quantity
    x: Any
    y: Any = None
    p: Any = None

    def to_array(self) -> np.ndarray:
        """Return a structured array with the fields ``x, y, t, p`` of tonic, times in whole microseconds.

        A time between two microseconds is rounded up. If ``y`` is None, the row is 0; if ``p`` is None, the polarity is
        1.
        """
        events = checked_events(*self, call="Events.to_array")
        for name, values in (("x", events.x), ("y", events.y)):
            if values.size and not 0 <= values.min() <= values.max() <= np.iinfo(np.int16).max:
                raise ValueError(
                    f"Events.to_array: {name} must be between 0 and 32767, because tonic stores 16 bits; got "
                    f"{values.min()} to {values.max()}."
                )
        array = np.empty(len(events.x), _TYPE)
        # Round to nanoseconds first, so that 3.0000000001 becomes 3.
        array["t"] = np.ceil(np.round(events.t, 3))
        array["x"], array["y"], array["p"] = events.x, events.y, 1 if events.p is None else events.p
        return array


class Checked(NamedTuple):
    """Checked events: ``t`` is float64 in microseconds; ``x``, ``y`` and ``p`` are int64; ``p`` may be None."""

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray | None


def events_from_array(array: Any, *, unit: u.Unit = u.us) -> Events:
    """Convert a structured array of events to :class:`Events`.

    Packages such as tonic, SpikingJelly, expelliarmus and dv-processing use such arrays.

    Parameters
    ----------
    array
        Structured array ``[n]`` with the fields ``t`` (or ``ts``, ``time``, ``timestamp``), ``x``, optionally ``y``,
        and optionally ``p`` (or ``polarity``, ``on``); or a mapping of such names to arrays. Other fields are ignored.
    unit
        Unit of the times. Default: microseconds, as in tonic and in camera files.

    Returns
    -------
    Events
        The recording.

    Raises
    ------
    TypeError, ValueError
        If ``array`` is neither a structured array nor a mapping, or a field is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from brainhw.data import events_from_array
    >>> array = np.array([(3, 0, 10, True)], [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "?")])
    >>> events_from_array(array).t
    Quantity([10], "us")
    """
    call = "events_from_array"
    if not isinstance(unit, u.Unit) or not u.have_same_dim(1.0 * unit, u.us):
        raise TypeError(f"{call}: unit must be a unit of time, such as brainunit.us; got {describe(unit)}.")
    fields = _fields(array, call, "array")
    t = np.asarray(as_array(fields["t"], call=call, name="the field t of array"))
    # Keep the times in a NumPy array, because JAX would convert them to int32, which cannot represent microseconds
    # since 1970.
    return Events(u.Quantity(t, unit=unit), fields["x"], fields.get("y"), fields.get("p"))


def _fields(array: Any, call: str, name: str) -> dict[str, Any]:
    """Return those fields of ``array`` that contain t, x, y or p. Raise if t or x is missing."""
    dtype = getattr(array, "dtype", None)
    known = array.keys() if isinstance(array, dict) else getattr(dtype, "names", None)
    if known is None or (not isinstance(array, dict) and array.ndim != 1):
        raise TypeError(
            f"{call}: {name} must be a structured array [n] with the fields t, x, y and p; got {describe(array)}. For "
            "plain columns use brainhw.data.Events(t * u.us, x, y, p)."
        )
    # In arrays of aedat, the field of the polarity has a title and a name; `names` contains the name.
    found = {field: [one for one in others if one in known] for field, others in _NAMES.items()}
    missing = [field for field in ("t", "x") if not found[field]]
    if missing:
        raise ValueError(
            f"{call}: {name} must have a field for {' and '.join(missing)}; got the fields "
            f"{', '.join(map(str, known)) or 'of none'}."
        )
    return {field: array[names[0]] for field, names in found.items() if names}


def checked_events(t: Any, x: Any, y: Any, p: Any, *, call: str, at: str = "") -> Checked:
    """Check events, and return them as arrays of equal length. ``at`` is a prefix for argument names in errors."""
    wide = t
    if isinstance(t, u.Quantity):
        numbers = as_array(t.mantissa, call=call, name=f"{at}t")
        # Convert to float64 first, because float16 seconds, as in SHD, would overflow in microseconds.
        wide = u.Quantity(np.asarray(numbers, np.float64), unit=t.unit)
    times = np.asarray(quantity(wide, u.us, call=call, name=f"{at}t").mantissa)
    if times.ndim != 1:
        raise ValueError(f"{call}: {at}t must have shape [n], one time for each event; got shape {times.shape}.")
    columns = _whole(x, call, f"{at}x")
    rows = np.zeros(len(columns), np.int64) if y is None else _whole(y, call, f"{at}y")
    signs = None if p is None else _whole(p, call, f"{at}p", flags=True)
    for name, values in (("x", columns), ("y", rows), ("p", signs)):
        if values is not None and len(values) != len(times):
            raise ValueError(
                f"{call}: {at}{name} contains {len(values)} values, but {at}t contains {len(times)}. Pass one value "
                "per event."
            )
    if signs is not None and signs.size and signs.min() == -1:
        if not np.all(np.abs(signs) == 1):
            raise ValueError(
                f"{call}: {at}p must contain numbers from 0, or only -1 and 1; got both -1 and "
                f"{signs[np.abs(signs) != 1][0]}."
            )
        signs = (signs + 1) // 2
    return Checked(times, columns, rows, signs)


def _whole(values: Any, call: str, name: str, *, flags: bool = False) -> np.ndarray:
    array = np.asarray(as_array(values, call=call, name=name))
    if array.ndim != 1:
        raise ValueError(f"{call}: {name} must have shape [n], one value for each event; got shape {array.shape}.")
    if array.dtype.kind == "b" and not flags and array.size:
        raise TypeError(f"{call}: {name} must contain integers; got {describe(array)}.")
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    if array.size and not np.all(np.isfinite(array) & (np.abs(array) < 2**53) & (array == np.rint(array))):
        raise ValueError(f"{call}: {name} must contain integers; got {describe(array)} with other values.")
    return array.astype(np.int64)
