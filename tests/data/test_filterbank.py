from __future__ import annotations

import importlib
from fractions import Fraction

import brainunit as u
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from brainhw.data import filterbank, filterbank_design

# The function shadows its module as an attribute of the package.
MODULE = importlib.import_module("brainhw.data.filterbank")
KHZ8 = 8 * u.kHz


def tone(frequency: float, n: int = 4000, rate: float = 8000.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(n) / rate)


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n)


@pytest.mark.parametrize(
    ("rate", "duration", "dt", "steps"),
    [
        (32 * u.kHz, 1.0 * u.second, 1.0 * u.ms, 1000),
        (16 * u.kHz, 0.5 * u.second, 2.0 * u.ms, 250),
        (44.1 * u.kHz, 0.7 * u.second, 0.1 * u.ms, 7000),
        (22050 * u.Hz, 0.3 * u.second, 0.001 * u.second, 300),
        (8000 * u.Hz, 0.0299 * u.second, 1 * u.ms, 29),
    ],
)
def test_number_of_frames(rate, duration, dt, steps):
    assert filterbank(np.zeros(10), rate, dt=dt, duration=duration, n_channels=2).shape == (steps, 2)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    rate=st.sampled_from([8000, 11025, 16000, 22050, 44100]),
    dt=st.integers(125, 3000),
    samples=st.integers(1, 2000),
    extra=st.integers(0, 999),
)
def test_frames_equal_exact_arithmetic(rate, dt, samples, extra):
    exact_dt = Fraction(dt, 10**6)
    exact = 3 * exact_dt + Fraction(extra, 10**6)
    out = filterbank(np.ones(samples), rate * u.Hz, dt=dt / 1000 * u.ms, duration=float(exact) * u.second, n_channels=1)
    assert out.shape == (exact // exact_dt, 1)
    by_length = Fraction(samples, rate) // exact_dt
    if by_length:
        assert filterbank(np.ones(samples), rate * u.Hz, dt=dt / 1000 * u.ms, n_channels=1).shape == (by_length, 1)


@pytest.mark.parametrize("dt", [1.0, 0.7, 2.3])
@pytest.mark.parametrize("smoothing", [5.0, None])
def test_against_a_plain_loop(dt, smoothing):
    """The documented equations written out sample by sample, on a rate that dt does not divide."""
    rate, n = 11025, 700
    audio = noise(n)
    edges = filterbank_design(n_channels=3).edges.to_decimal(u.Hz)
    got = filterbank(
        audio,
        rate * u.Hz,
        dt=dt * u.ms,
        n_channels=3,
        smoothing=None if smoothing is None else smoothing * u.ms,
    )
    a = 0.0 if smoothing is None else np.exp(-1 / (smoothing * 1e-3 * rate))
    for channel in range(3):
        b, poles = signal.butter(2, edges[channel : channel + 2], btype="bandpass", fs=rate)
        rectified = np.abs(signal.lfilter(b, poles, audio))
        envelope, last = [], 0.0
        for value in rectified:
            last = a * last + (1 - a) * value
            envelope.append(last)
        times = [Fraction(i, rate) for i in range(n)]
        step = Fraction(str(dt)) / 1000
        for k in range(len(got)):
            inside = [e for e, t in zip(envelope, times, strict=True) if k * step <= t < (k + 1) * step]
            np.testing.assert_allclose(got[k, channel], np.mean(inside), rtol=1e-5)


@pytest.mark.parametrize("spacing", ["mel", "log"])
@pytest.mark.parametrize("n_channels", [1, 8, 16])
def test_a_tone_at_a_centre_excites_its_channel_most(spacing, n_channels):
    arguments = {"n_channels": n_channels, "spacing": spacing}
    centres = filterbank_design(**arguments).centre.to_decimal(u.Hz)
    frames = filterbank([tone(centre) for centre in centres], KHZ8, **arguments)
    settled = frames[:, 250:].mean(axis=1)
    assert settled.argmax(axis=1).tolist() == list(range(n_channels))
    np.testing.assert_allclose(settled.max(axis=1), 2 / np.pi, rtol=0.03)


@pytest.mark.parametrize("spacing", ["mel", "log"])
def test_design_covers_the_range_with_touching_bands(spacing):
    design = filterbank_design(n_channels=16, f_min=0.2 * u.kHz, f_max=3 * u.kHz, spacing=spacing)
    centre, edges = design.centre.to_decimal(u.Hz), design.edges.to_decimal(u.Hz)
    assert centre.shape == (16,)
    assert edges.shape == (17,)
    assert (edges[0], edges[-1]) == (200.0, 3000.0)
    assert np.all(edges[:-1] < centre)
    assert np.all(centre < edges[1:])
    scale = np.log(edges) if spacing == "log" else np.log(1 + edges / 700)
    np.testing.assert_allclose(np.diff(scale), np.diff(scale).mean(), rtol=1e-9)
    if spacing == "log":
        np.testing.assert_allclose(centre, np.sqrt(edges[:-1] * edges[1:]))


@pytest.mark.parametrize("order", [1, 2, 4])
def test_band_edges_lie_at_minus_three_decibel(order):
    edges = filterbank_design().edges.to_decimal(u.Hz)
    for low, high, band_pass in zip(edges[:-1], edges[1:], MODULE._band_passes(edges, 8000.0, order), strict=True):
        _, response = signal.freqz_sos(band_pass, worN=[low, high], fs=8000.0)
        np.testing.assert_allclose(np.abs(response), np.sqrt(0.5), rtol=1e-6)


def test_silence_gives_zeros_also_as_integers():
    assert not filterbank(np.zeros(800), KHZ8).any()
    assert not filterbank(np.zeros(800, np.int16), KHZ8).any()


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.floats(0.001, 1000), st.integers(0, 5))
def test_linear_in_the_amplitude_and_blind_to_the_sign(gain, seed):
    audio = noise(400, seed)
    frames = filterbank(audio, KHZ8)
    assert frames.dtype == np.float32
    assert frames.min() >= 0
    np.testing.assert_allclose(filterbank(gain * audio, KHZ8), gain * frames, rtol=1e-5)
    np.testing.assert_array_equal(filterbank(-audio, KHZ8), frames)


def test_units_do_not_matter():
    audio = noise(1200)
    first = filterbank(audio, 8 * u.kHz, dt=1 * u.ms, duration=0.1 * u.second, f_max=3 * u.kHz, smoothing=4 * u.ms)
    second = filterbank(
        audio,
        8000.0 * u.Hz,
        dt=0.001 * u.second,
        duration=100 * u.ms,
        f_min=0.1 * u.kHz,
        f_max=3000 * u.Hz,
        smoothing=4000.0 * u.us,
    )
    np.testing.assert_array_equal(first, second)


def test_a_batch_equals_its_recordings_one_by_one(monkeypatch):
    recordings = [noise(n, n) for n in (300, 800, 8, 555)]
    duration = 0.09 * u.second
    together = filterbank(recordings, KHZ8, duration=duration)
    assert together.shape == (4, 90, 16)
    for one, frames in zip(recordings, together, strict=True):
        np.testing.assert_array_equal(filterbank(one, KHZ8, duration=duration), frames)
    monkeypatch.setattr(MODULE, "_BLOCK_SAMPLES", 1500)
    np.testing.assert_array_equal(filterbank(recordings, KHZ8, duration=duration), together)
    square = np.stack([noise(160, 1), noise(160, 2)])
    np.testing.assert_array_equal(filterbank(square, KHZ8), filterbank(list(square), KHZ8))
    assert filterbank(square[:1], KHZ8).shape == (1, 20, 16)


def test_short_recordings_are_filled_with_silence_and_long_ones_cut():
    audio = noise(803)
    frames = filterbank(audio, KHZ8)
    assert frames.shape == (100, 16)
    np.testing.assert_array_equal(filterbank(audio, KHZ8, duration=0.05 * u.second), frames[:50])
    longer = filterbank(audio, KHZ8, duration=0.2 * u.second)
    np.testing.assert_array_equal(longer, filterbank(np.pad(audio, (0, 797)), KHZ8))
    np.testing.assert_array_equal(longer[:100], frames)
    assert filterbank([audio, audio[:100]], KHZ8).shape == (2, 100, 16)


def test_no_frame_depends_on_later_audio():
    audio = noise(800)
    changed = np.concatenate([audio[:400], noise(400, 9)])
    np.testing.assert_array_equal(filterbank(changed, KHZ8)[:50], filterbank(audio, KHZ8)[:50])


def test_smoothing_evens_the_envelope_out_and_keeps_its_level():
    audio = tone(300)
    rough, smooth = (filterbank(audio, KHZ8, smoothing=s)[300:] for s in (None, 20 * u.ms))
    loudest = rough.mean(axis=0).argmax()
    assert smooth[:, loudest].std() < 0.2 * rough[:, loudest].std()
    np.testing.assert_allclose(smooth[:, loudest].mean(), rough[:, loudest].mean(), rtol=0.02)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"rate": 8000}, TypeError, "rate must be a Quantity with the dimension of Hz"),
        ({"rate": 8 * u.ms}, TypeError, "rate must have the dimension of Hz"),
        ({"rate": 0 * u.Hz}, ValueError, "rate must be greater than zero"),
        ({"dt": 1}, TypeError, "dt must be a Quantity"),
        ({"dt": 1 * u.mV}, TypeError, "dt must have the dimension of s"),
        ({"dt": 0.1 * u.ms}, ValueError, "dt must be at least one sample long, 0.125 ms at this rate; got 0.1 ms"),
        ({"duration": 0.5}, TypeError, "duration must be a Quantity"),
        ({"duration": 0.5 * u.ms}, ValueError, "duration must be at least one dt long, 1 ms; got 0.5 ms"),
        ({"duration": float("nan") * u.ms}, ValueError, "duration must be finite"),
        ({"audio": np.ones(5)}, ValueError, "the longest recording must be at least one dt long, 1 ms; got 0.625 ms"),
        ({"f_max": 4 * u.kHz}, ValueError, "f_max must be below half the sampling rate, 4000 Hz here; got 4000 Hz"),
        ({"rate": 6 * u.kHz}, ValueError, "3000 Hz here; got 3500 Hz. Lower f_max, or use audio with a higher"),
        ({"f_min": 0 * u.Hz}, ValueError, "f_min must be greater than zero"),
        ({"f_min": 4 * u.kHz}, ValueError, "f_min must be below f_max; got 4000 Hz and 3500 Hz"),
        ({"f_min": 100}, TypeError, "f_min must be a Quantity"),
        ({"n_channels": 0}, ValueError, "n_channels must be at least 1"),
        ({"order": 0}, ValueError, "order must be at least 1"),
        ({"spacing": "bark"}, ValueError, "spacing must be one of 'mel', 'log'; got 'bark'"),
        ({"smoothing": 5}, TypeError, "smoothing must be a Quantity"),
        ({"smoothing": 0 * u.ms}, ValueError, "smoothing must be greater than zero"),
        (
            {"rate": 1e15 * u.Hz, "f_min": 1e-3 * u.Hz, "f_max": 2e-3 * u.Hz},
            ValueError,
            "too narrow at a rate of 1e.15 Hz",
        ),
        ({"audio": np.ones(80) * u.mV}, TypeError, "audio must be plain numbers"),
        ({"audio": None}, TypeError, "audio must be plain numbers, .*; got None"),
        ({"audio": 1.0}, TypeError, "audio must be plain numbers, .*; got 1.0"),
        ({"audio": []}, ValueError, "audio contains no recordings"),
        ({"audio": np.zeros((0, 80))}, ValueError, "audio contains no recordings"),
        ({"audio": np.zeros(0)}, ValueError, "audio is empty"),
        ({"audio": [np.ones(80), np.zeros(0)]}, ValueError, r"audio\[1\] is empty"),
        ({"audio": [0.1, 0.2]}, ValueError, r"audio\[0\] must be one recording, a 1-D array"),
        ({"audio": [np.ones(80) * u.mV]}, ValueError, r"audio\[0\] must be one recording, .*Quantity in mV"),
        ({"audio": np.ones((2, 3, 80))}, ValueError, r"audio\[0\] must be one recording"),
        ({"audio": np.ones(80, complex)}, ValueError, "a 1-D array of real numbers"),
        ({"audio": [np.ones(80), np.full(80, np.nan)]}, ValueError, r"audio\[1\] contains 80 NaN"),
        (
            {"audio": np.array([0.0, np.inf] * 40)},
            ValueError,
            r"audio contains 40 NaN or infinite value\(s\), the first .*1",
        ),
    ],
)
def test_what_cannot_be_filtered_is_refused(changes, error, match):
    with pytest.raises(error, match=match) as caught:
        filterbank(**({"audio": np.ones(80), "rate": KHZ8} | changes))
    assert str(caught.value).startswith("filterbank: ")


def test_the_design_names_its_own_call():
    with pytest.raises(TypeError, match="filterbank_design: f_max must be a Quantity"):
        filterbank_design(f_max=3000)
