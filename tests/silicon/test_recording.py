"""A recording holds spikes and voltages of the right shape, and nothing else."""

from __future__ import annotations

from typing import Any

import brainunit as u
import numpy as np
import pytest

from brainhw.silicon.recording import Recording, check_recording

SPIKES = (np.random.default_rng(0).random((5, 2, 3)) < 0.5).astype(np.float32)


def test_spikes_of_any_number_type_are_kept_as_bytes() -> None:
    for kind in (bool, np.uint8, np.int64, np.float32):
        recording = Recording({"hidden": SPIKES.astype(kind)})
        assert recording.spikes["hidden"].dtype == np.uint8
        assert np.array_equal(recording.spikes["hidden"], SPIKES)
    assert (recording.n_steps, recording.batch_size) == (5, 2)


def test_membranes_come_in_any_unit_of_voltage_and_are_kept_in_millivolt() -> None:
    recording = Recording({"hidden": SPIKES}, {"hidden": 0.02 * np.ones(SPIKES.shape) * u.volt})
    assert recording.membranes["hidden"].unit == u.mV
    np.testing.assert_allclose(recording.membranes["hidden"].mantissa, 20.0, rtol=1e-6)


def with_value(value: float) -> np.ndarray:
    spikes = SPIKES.copy()
    spikes[3, 1, 2] = value
    return spikes


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"spikes": {}}, "at least one layer"),
        ({"spikes": SPIKES}, "spikes must be a mapping"),
        ({"spikes": {"hidden": SPIKES[0]}}, r"'hidden' must have shape \[T, B, N\]; got \(2, 3\)"),
        ({"spikes": {"hidden": with_value(2)}}, "'hidden' must be 0 or 1; got 2 at step 3, sample 1, neuron 2"),
        ({"spikes": {"hidden": with_value(np.nan)}}, "got nan at step 3"),
        ({"spikes": {"hidden": SPIKES.astype(str)}}, "must be an array of 0 and 1"),
        ({"spikes": {"a": SPIKES, "b": SPIKES[:4]}}, r"'a' \(5, 2, 3\), 'b' \(4, 2, 3\)"),
        ({"spikes": {"a": SPIKES}, "membranes": {"b": SPIKES * u.mV}}, "layer 'b', but spikes do not"),
        ({"spikes": {"a": SPIKES}, "membranes": {"a": SPIKES}}, "'a' must be a Quantity of voltage"),
        ({"spikes": {"a": SPIKES}, "membranes": {"a": SPIKES * u.ms}}, "'a' must be a Quantity of voltage"),
        ({"spikes": {"a": SPIKES}, "membranes": {"a": SPIKES[:2] * u.mV}}, r"\(5, 2, 3\); got \(2, 2, 3\)"),
        ({"spikes": {"a": SPIKES}, "membranes": {"a": with_value(np.inf) * u.mV}}, "step 3, sample 1, neuron 2"),
        (
            {"spikes": {"a": SPIKES}, "membranes": {"a": u.Quantity(np.where(SPIKES, 1e300, 0.0), unit=u.mV)}},
            "must be finite in float32; got inf",
        ),
    ],
)
def test_anything_else_is_refused_by_name(given: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"Recording: .*{words}"):
        Recording(**given)


@pytest.mark.parametrize(
    ("layers", "n_steps", "words"),
    [
        ({"hidden": 3, "output": 4}, 5, r"lacks the spikes of \['output'\]"),
        ({"output": 3}, 5, r"lacks the spikes of \['output'\]"),
        ({}, 5, r"unknown layers \['hidden'\]"),
        ({"hidden": 4}, 5, r"shape \(5, 2, 3\); expected \(5, 2, 4\)"),
        ({"hidden": 3}, 6, r"shape \(5, 2, 3\); expected \(6, 2, 3\)"),
    ],
)
def test_a_recording_of_another_program_is_refused(layers: dict[str, int], n_steps: int, words: str) -> None:
    recording = Recording({"hidden": SPIKES})
    assert check_recording(recording, {"hidden": 3}, 5, 2, call="my bench") is recording
    with pytest.raises(ValueError, match=rf"my bench: .*{words}"):
        check_recording(recording, layers, n_steps, 2, call="my bench")
