"""Filter bank that converts audio to frontend channels by band-pass filtering, rectification and smoothing."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal

import brainunit as u
import numpy as np
from scipy import signal

from brainhw._arguments import as_array, check_finite, choice, describe, positive_int, quantity
from brainhw._records import check_fields, is_in

__all__ = ["FilterbankDesign", "filterbank", "filterbank_design"]

# A chip has only some tens of channels. Filters of a higher order are unstable in float64.
_MOST_CHANNELS, _HIGHEST_ORDER = 2**16, 100
# A recording with more samples would be days of audio and would not fit into memory.
_MOST_NUMBERS = 2**31
# Recordings are filtered in blocks of about this many samples, which fit into the cache and limit the memory use.
_BLOCK_SAMPLES = 1 << 17


def _to_mel(hertz: np.ndarray) -> np.ndarray:
    return 2595 * np.log10(1 + hertz / 700)


def _from_mel(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mel / 2595) - 1)


Spacing = Literal["mel", "log"]
_SPACINGS: dict[Spacing, tuple[Callable, Callable]] = {"mel": (_to_mel, _from_mel), "log": (np.log, np.exp)}


@dataclasses.dataclass(frozen=True, eq=False)
class FilterbankDesign:
    """Frequencies of a filter bank.

    Parameters
    ----------
    centre
        Centre frequency of each band, ``[n_channels]``, in Hz. It is the middle of the band on the chosen scale.
    edges
        -3 dB frequencies, ``[n_channels + 1]``, in Hz. The pass band of channel ``i`` is ``edges[i]`` to
        ``edges[i + 1]``.
    """

    centre: u.Quantity
    edges: u.Quantity

    def __post_init__(self) -> None:
        hertz = is_in(u.Hz, positive=True, scalar=False)
        check_fields(self, centre=hertz, edges=hertz)
        shapes = np.shape(self.centre.mantissa), np.shape(self.edges.mantissa)
        if len(shapes[0]) != 1 or shapes[1] != (shapes[0][0] + 1,):
            raise ValueError(
                f"FilterbankDesign: centre must be [n] and edges [n + 1]; got shapes {shapes[0]} and {shapes[1]}."
            )


def rational(value: Any, unit: u.Unit, *, call: str, name: str) -> Fraction:
    """Return a positive scalar Quantity in ``unit`` as an exact fraction, without the rounding error of the float.

    No float represents 0.1 or 1/3 exactly. The float is therefore converted to a ratio of small integers if such a
    ratio is within the rounding error. Otherwise it is converted to the decimal number that Python prints. For example,
    1 s divided by 0.1 ms is exactly 10000.
    """
    if isinstance(value, u.Quantity):
        # Copy a JAX number to the host, because the arithmetic below runs in Python.
        value = u.Quantity(np.asarray(value.mantissa), unit=value.unit)
    quantity(value, unit, call=call, name=name, shapes=[()], positive=True)
    mantissa = value.mantissa[()]
    exact = Fraction(str(mantissa)) * Fraction(str(value.unit.magnitude)) / Fraction(str(unit.magnitude))
    single = mantissa.dtype.kind == "f" and mantissa.dtype.itemsize <= 4
    largest, rounding = (200, Fraction(1, 2**22)) if single else (10**6, Fraction(1, 2**51))
    simple = exact.limit_denominator(largest)
    return simple if abs(simple - exact) <= rounding * exact else exact


def _band_edges(n_channels: int, f_min: Any, f_max: Any, spacing: str, call: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre frequencies and the edges of the bands in Hz."""
    n_channels = positive_int(n_channels, call=call, name="n_channels", most=_MOST_CHANNELS)
    to_scale, from_scale = _SPACINGS[choice(spacing, _SPACINGS, call=call, name="spacing")]
    low = float(rational(f_min, u.Hz, call=call, name="f_min"))
    high = float(rational(f_max, u.Hz, call=call, name="f_max"))
    if not low < high:
        raise ValueError(f"{call}: f_min must be below f_max; got {low:g} Hz and {high:g} Hz.")
    points = np.linspace(to_scale(np.array(low)), to_scale(np.array(high)), 2 * n_channels + 1)
    frequencies = from_scale(points)
    # Use the given ends exactly, because f_max near half the rate must not increase by a rounding error.
    frequencies[0], frequencies[-1] = low, high
    return frequencies[1::2], frequencies[::2]


def filterbank_design(
    *,
    n_channels: int = 16,
    f_min: u.Quantity = 100 * u.Hz,
    f_max: u.Quantity = 3500 * u.Hz,
    spacing: Spacing = "mel",
) -> FilterbankDesign:
    """Return the bands of :func:`filterbank`. The bands are equally wide on the chosen scale and meet at -3 dB.

    Parameters
    ----------
    n_channels
        Number of bands. Default 16, as in an H1 frontend.
    f_min, f_max
        Lower edge of the first and upper edge of the last band. Default 100 Hz and 3500 Hz.
    spacing
        ``"mel"`` (default) spaces the bands evenly in ``m = 2595 log10(1 + f / 700 Hz)`` [1]_, which is nearly linear
        in f below 700 Hz. ``"log"`` spaces them evenly in ``log f``, so that a centre is the geometric mean of the two
        edges.

    Returns
    -------
    FilterbankDesign
        Centres and edges in Hz.

    Raises
    ------
    TypeError, ValueError
        If a frequency is not a positive Quantity in Hz, ``f_min`` is not below ``f_max``, or ``n_channels`` or
        ``spacing`` is invalid.

    References
    ----------
    .. [1] D. O'Shaughnessy (1987). Speech Communication: Human and Machine. Addison-Wesley.

    Examples
    --------
    >>> import brainunit as u
    >>> import numpy as np
    >>> from brainhw.data import filterbank_design
    >>> design = filterbank_design(n_channels=3, f_min=100 * u.Hz, f_max=800 * u.Hz, spacing="log")
    >>> np.round(design.edges.to_decimal(u.Hz)).astype(int).tolist()
    [100, 200, 400, 800]
    >>> np.round(design.centre.to_decimal(u.Hz)).astype(int).tolist()
    [141, 283, 566]
    """
    centre, edges = _band_edges(n_channels, f_min, f_max, spacing, "filterbank_design")
    return FilterbankDesign(u.Quantity(centre, unit=u.Hz), u.Quantity(edges, unit=u.Hz))


def _recordings(audio: Any) -> tuple[list[np.ndarray], bool]:
    """Return the recordings as a list, and whether ``audio`` is a single recording."""
    listed = isinstance(audio, (list, tuple))
    if isinstance(audio, u.Quantity) or not (listed or np.ndim(audio)):
        raise TypeError(
            "filterbank: audio must be plain numbers, one 1-D array, a list of them or an array [B, samples]; "
            f"got {describe(audio)}."
        )
    single = not listed and np.ndim(audio) == 1
    recordings = []
    for index, one in enumerate([audio] if single else audio):
        name = "audio" if single else f"audio[{index}]"
        try:
            array = np.asarray(as_array(one, call="filterbank", name=name))
        except TypeError:  # refused below with a clear message
            array = np.asarray(None)
        if array.ndim != 1 or array.dtype.kind not in "fiu":
            raise ValueError(
                f"filterbank: {name} must be one recording, a 1-D array of real numbers; got {describe(one)}. Pass one "
                "1-D array, a list of them, or an array [B, samples]."
            )
        if not len(array):
            raise ValueError(f"filterbank: {name} is empty. Remove this recording or read the file again.")
        check_finite(array, call="filterbank", name=name)
        recordings.append(array)
    if not recordings:
        raise ValueError("filterbank: audio contains no recordings. Pass at least one.")
    return recordings, single


def _band_passes(edges: np.ndarray, rate: float, order: int) -> list[np.ndarray]:
    if edges[-1] >= rate / 2:
        raise ValueError(
            f"filterbank: f_max must be below half the sampling rate, {rate / 2:g} Hz here; got {edges[-1]:g} Hz. "
            "Lower f_max, or use audio with a higher sampling rate."
        )
    filters = []
    for low, high in itertools.pairwise(edges):
        # Use second-order sections, because the coefficients of a single polynomial are too inaccurate for a narrow
        # band.
        zeros, poles, gain = signal.butter(order, [low, high], btype="bandpass", fs=rate, output="zpk")
        if not np.abs(poles).max() < 1:
            raise ValueError(
                f"filterbank: the band {low:g} Hz to {high:g} Hz is too narrow at a rate of {rate:g} Hz for a stable "
                "filter. Use fewer channels, a lower order or a wider range from f_min to f_max."
            )
        filters.append(signal.zpk2sos(zeros, poles, gain))
    return filters


def _smoother(smoothing: Any, rate: Fraction) -> np.ndarray | None:
    if smoothing is None:
        return None
    tau = rational(smoothing, u.second, call="filterbank", name="smoothing")
    # This is the first-order low-pass filter e[n] = a e[n-1] + (1 - a) |y[n]|, written as a second-order section.
    decay = np.exp(-1 / float(tau * rate))
    return np.array([[1 - decay, 0, 0, 1, -decay, 0]])


def filterbank(
    audio: Any,
    rate: u.Quantity,
    *,
    dt: u.Quantity = 1 * u.ms,
    duration: u.Quantity | None = None,
    n_channels: int = 16,
    f_min: u.Quantity = 100 * u.Hz,
    f_max: u.Quantity = 3500 * u.Hz,
    spacing: Spacing = "mel",
    order: int = 2,
    smoothing: u.Quantity | None = 5 * u.ms,
) -> np.ndarray:
    """Convert audio to the envelopes of a bank of band-pass filters, one frame per ``dt``.

    Each channel applies a causal Butterworth band-pass filter, full-wave rectification and a first-order low-pass
    filter to the audio, and averages the result over each window of ``dt``. With ``y`` the band-pass filtered audio and
    ``a = exp(-1 / (smoothing * rate))``::

        e[n] = a e[n-1] + (1 - a) |y[n]|
        out[k] = mean of e[n] over the samples with k dt <= n / rate < (k + 1) dt

    For a steady tone of amplitude A in the middle of a band, the value of that channel settles at about
    2 A / pi = 0.64 A. The result is nonnegative and linear in the amplitude of the audio.

    Parameters
    ----------
    audio
        One recording (1-D array), or a batch: a list of 1-D arrays or an array ``[B, samples]``. The audio is not
        scaled, so divide integer samples by their range first.
    rate
        Sampling rate of the audio.
    dt
        Time step of the network. Default 1 ms. It must be at least one sample long, but need not be an integer
        number of samples.
    duration
        Length of the result. Longer recordings are cut, and shorter ones are padded with silence. Default ``None``: the
        length of the longest recording.
    n_channels, f_min, f_max, spacing
        The bands, as in :func:`filterbank_design`. ``f_max`` must be below half the sampling rate.
    order
        Order of the Butterworth prototype. Default 2. Each band-pass filter has twice as many poles.
    smoothing
        Time constant of the first-order low-pass filter. Default 5 ms. ``None`` omits this filter.

    Returns
    -------
    numpy.ndarray
        float32 ``[T, n_channels]`` for one recording, ``[B, T, n_channels]`` for a batch, with ``T = floor(duration /
        dt)`` computed exactly. For example, 1 s with a ``dt`` of 1 ms results in 1000 frames.

    Raises
    ------
    TypeError
        If an argument has a wrong unit or no unit.
    ValueError
        If the audio is empty or not finite, a band edge is at or above half the rate, ``dt`` is shorter than one
        sample, or ``duration`` is shorter than ``dt``.

    Examples
    --------
    >>> import brainunit as u
    >>> import numpy as np
    >>> from brainhw.data import filterbank, filterbank_design
    >>> rate = 8 * u.kHz
    >>> tone = 440  # Hz
    >>> audio = np.sin(2 * np.pi * tone * np.arange(4000) / 8000)
    >>> frames = filterbank(audio, rate, dt=1 * u.ms)
    >>> frames.shape
    (500, 16)
    >>> loudest = int(frames.mean(axis=0).argmax())
    >>> edges = filterbank_design().edges.to_decimal(u.Hz)
    >>> bool(edges[loudest] < tone < edges[loudest + 1])
    True
    """
    _, edges = _band_edges(n_channels, f_min, f_max, spacing, "filterbank")
    order = positive_int(order, call="filterbank", name="order", most=_HIGHEST_ORDER)
    exact_rate = rational(rate, u.Hz, call="filterbank", name="rate")
    filters, smoother = _band_passes(edges, float(exact_rate), order), _smoother(smoothing, exact_rate)
    exact_dt = rational(dt, u.second, call="filterbank", name="dt")
    if exact_dt * exact_rate < 1:
        raise ValueError(
            f"filterbank: dt must be at least one sample long, {1000 / float(exact_rate):g} ms at this rate; "
            f"got {1000 * float(exact_dt):g} ms. Use a longer dt, or audio with a higher rate."
        )
    recordings, single = _recordings(audio)
    if duration is None:
        exact_duration = max(len(one) for one in recordings) / exact_rate
    else:
        exact_duration = rational(duration, u.second, call="filterbank", name="duration")
    steps = exact_duration // exact_dt
    if steps < 1:
        what = "the longest recording" if duration is None else "duration"
        raise ValueError(
            f"filterbank: {what} must be at least one dt long, {1000 * float(exact_dt):g} ms; "
            f"got {1000 * float(exact_duration):g} ms. Use a longer duration or a shorter dt."
        )
    if steps * n_channels > _MOST_NUMBERS or exact_duration * exact_rate > _MOST_NUMBERS:
        raise ValueError(
            f"filterbank: duration must be at most {_MOST_NUMBERS / float(exact_rate):.3g} s for this rate, dt "
            f"and n_channels; got {float(exact_duration):g} s, which would be {steps} frames. Use a shorter duration."
        )
    out = _envelopes(recordings, filters, smoother, window_edges(steps, exact_dt * exact_rate))
    return out[0] if single else out


def window_edges(steps: int, samples_per_step: Fraction) -> np.ndarray:
    """Return the ``steps + 1`` sample indices at which the windows of ``steps`` consecutive steps start and end.

    Sample n was taken at time n / rate and belongs to the step that contains this time. Window k therefore starts at
    the first sample at or after k dt, ``ceil(k * dt * rate)``. The windows do not overlap, and their lengths differ by
    at most one sample.
    """
    numerator, denominator = samples_per_step.as_integer_ratio()
    return np.array([-(-k * numerator // denominator) for k in range(steps + 1)], dtype=np.int64)


def _envelopes(
    recordings: Sequence[np.ndarray], filters: Sequence[np.ndarray], smoother: np.ndarray | None, edges: np.ndarray
) -> np.ndarray:
    n_samples, widths = int(edges[-1]), np.diff(edges)
    out = np.empty((len(recordings), len(widths), len(filters)), np.float32)
    block = max(1, _BLOCK_SAMPLES // n_samples)
    for first in range(0, len(recordings), block):
        rows = recordings[first : first + block]
        padded = np.zeros((len(rows), n_samples))
        for row, one in zip(padded, rows, strict=True):
            row[: len(one)] = one[:n_samples]
        for channel, band_pass in enumerate(filters):
            envelope = np.abs(signal.sosfilt(band_pass, padded))
            if smoother is not None:
                envelope = signal.sosfilt(smoother, envelope)
            # reduceat sums each window separately. With a cumulative sum, silence after sound would have rounding
            # errors.
            out[first : first + len(rows), :, channel] = np.add.reduceat(envelope, edges[:-1], axis=-1) / widths
    return out
