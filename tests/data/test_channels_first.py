from __future__ import annotations

import warnings

import numpy as np
import pytest

from brainhw.data import (
    Split,
    fit_channel_scale,
    hold,
    japanese_vowels,
    latency_spikes,
    population_currents,
    qtdb_excerpt,
    randman,
    rate_spikes,
    repeat_frames,
    split_on_off,
)

RNG = np.random.default_rng(0)
T = np.arange(100)
# Six noisy channels with phases of their own, 100 steps, stored as aeon stores them.
SIGNALS = np.sin(2 * np.pi * T / RNG.uniform(15, 40, (30, 6, 1)) + RNG.uniform(0, 6, (30, 6, 1)))
SIGNALS = SIGNALS + RNG.normal(0, 0.3, SIGNALS.shape)
# Pictures of 28 x 28 whose neighbouring pixels are alike.
PICTURES = RNG.random((30, 7, 7)).repeat(4, 1).repeat(4, 2).reshape(30, 784)
DIGITS = RNG.random((30, 64))
VOWELS = japanese_vowels().train


def scaled() -> np.ndarray:
    return fit_channel_scale(VOWELS).apply(VOWELS).x


WRONG = {
    "signals": lambda: SIGNALS,
    "one channel": lambda: SIGNALS[:, :1],
    "vowels": lambda: VOWELS.x.swapaxes(1, 2),
    "scaled vowels": lambda: scaled().swapaxes(1, 2),
    "vowels of four steps a frame": lambda: repeat_frames(scaled(), 4).swapaxes(1, 2),
}
RIGHT = {
    "signals": lambda: SIGNALS.swapaxes(1, 2),
    "noise": lambda: RNG.normal(size=(30, 6, 100)),
    "zeros": lambda: np.zeros((30, 6, 100)),
    "held digits": lambda: hold(DIGITS, 20),
    "held pictures": lambda: hold(PICTURES, 20),
    "held pictures with noise": lambda: hold(PICTURES, 20) + RNG.normal(0, 0.3, (30, 20, 784)),
    "pictures as rates": lambda: rate_spikes(PICTURES, 20, key=0),
    "pictures as latencies": lambda: latency_spikes(PICTURES, 20),
    "small spikes": lambda: 0.5 * latency_spikes(PICTURES, 20),
    "pictures as populations": lambda: hold(population_currents(PICTURES, 5), 3),
    "vowels": lambda: VOWELS.x,
    "scaled vowels": scaled,
    "vowels on and off": lambda: split_on_off(scaled()),
    "randman": lambda: randman(n_classes=3, n_train=30, n_test=30).train.x,
    "an electrocardiogram": lambda: qtdb_excerpt().train.x,
}


def warned(x: np.ndarray, **more: object) -> list[str]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        Split(x, np.zeros(len(x), int), **more)
    return [str(one.message) for one in said]


@pytest.mark.parametrize("name", WRONG)
def test_recordings_with_channels_first_are_suspected(name: str) -> None:
    x = WRONG[name]()
    (message,) = warned(x)
    assert message.startswith(f"Split: x of shape {x.shape}")
    assert f"[n, {x.shape[1]} channels, {x.shape[2]} steps]" in message
    assert "numpy.moveaxis(x, 1, 2)" in message


@pytest.mark.parametrize("name", RIGHT)
def test_recordings_with_channels_last_are_not(name: str) -> None:
    assert not warned(RIGHT[name]())


def test_lengths_say_where_time_is() -> None:
    assert not warned(SIGNALS, lengths=[5] * 30)
    # Pictures that a loader holds later, as in gallery/fashion_mnist.py.
    assert not warned(PICTURES[:, None], lengths=[1] * 30)


def test_what_the_message_advises_is_silent() -> None:
    assert not warned(np.moveaxis(SIGNALS, 1, 2))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_with_channels_first_are_refused(channels: int) -> None:
    x = np.ones((6, 2, channels, 8, 8))
    with pytest.raises(
        ValueError, match=rf"^Split: x must be .* got shape \(6, 2, {channels}, 8, 8\).*moveaxis\(x, 2, -1\)"
    ):
        Split(x, [0] * 6)
    assert not warned(np.moveaxis(x, 2, -1))


def test_static_images_with_channels_first_are_suspected() -> None:
    x = np.ones((6, 3, 8, 8))
    (message,) = warned(x)
    assert "(6, 3, 8, 8)" in message
    assert "brainhw.data.hold(numpy.moveaxis(x, 1, -1), 60, axis=1)" in message
    assert not warned(hold(np.moveaxis(x, 1, -1), 60, axis=1))
