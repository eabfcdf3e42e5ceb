"""One step of a bundle in NumPy and in C: the spikes of the network on the test set of the vowels."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.deploy.firmware import _fused, firmware
from brainhw.deploy.firmware_c import _comment

CC = shutil.which("cc")
STRICT = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-ffp-contract=off")
MAIN = """
#include <stdio.h>
#include "net.h"

int main(void)
{
    static net_state state;
    float x[NET_INPUTS];
    int t, b, sizes[2];
    if (fread(sizes, sizeof sizes, 1, stdin) != 1) {
        return 1;
    }
    for (b = 0; b < sizes[1]; b++) {
        net_reset(&state);
        for (t = 0; t < sizes[0]; t++) {
            if (fread(x, sizeof x, 1, stdin) != 1) {
                return 2;
            }
            net_step(&state, x);
            fwrite(net_output(&state), 1, NET_OUTPUTS, stdout);
        }
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def vowels() -> np.ndarray:
    """The test set of the vowels, as the gallery's net takes it: ``[116, 370, 24]``."""
    data = bh.data.japanese_vowels()
    x = bh.data.split_on_off(bh.data.fit_channel_scale(data.train).apply(data.test).x)
    return np.ascontiguousarray(bh.data.repeat_frames(x, 4).swapaxes(0, 1), np.float32)


def weights(rng: np.random.Generator, n_in: int, n_out: int, largest: float) -> np.ndarray:
    """Weights in blocks of five with one sign, of a size at which layers are active."""
    signs = np.repeat(rng.choice([-1, 1, 1], (-(-n_in // 5), n_out)), 5, axis=0)[:n_in]
    return signs * rng.uniform(0, largest, (n_in, n_out))


def net(family: str, topology: str, *, frontend: bool = False) -> brainstate.nn.Sequential:
    rng = np.random.default_rng(3)
    synapse, layer = getattr(bh.nn, f"{family}Synapse"), getattr(bh.nn, f"{family}Layer")
    most = 0.9 if family == "H1v1" else 1.66
    recurrent = {"weight_bits": "chip", "recurrent_init": weights(rng, 40, 40, 0.4 * most)} if topology == "RC" else {}
    tau = np.resize([10, 20, 50], 40) * u.ms
    first = [synapse(24, 40, weight_init=weights(rng, 24, 40, most), weight_bits="chip")]
    if frontend:
        first = [
            getattr(bh.nn, f"{family}Frontend")(weight_init=np.full(16, most), weight_bits="chip"),
            layer(16, tau=20 * u.ms),
            synapse(16, 40, weight_init=weights(rng, 16, 40, most), weight_bits="chip"),
        ]
    return brainstate.nn.Sequential(
        *first,
        layer(40, tau=tau, topology=topology, **recurrent),
        synapse(40, 18, weight_init=weights(rng, 40, 18, most), weight_bits="chip"),
        layer(18, tau=20 * u.ms),
    )


def in_c(header: Path, xs: np.ndarray, *options: str) -> np.ndarray:
    """Compile the header and return the spikes of ``xs [T, B, N]``, one recording after the other."""
    folder = header.parent
    (folder / "main.c").write_text(MAIN)
    subprocess.run([CC, *STRICT, *options, "-o", folder / "main", folder / "main.c", "-lm"], check=True)
    n_steps, n_samples, _ = xs.shape
    given = np.array([n_steps, n_samples], np.int32).tobytes() + np.ascontiguousarray(xs.swapaxes(0, 1)).tobytes()
    done = subprocess.run([folder / "main"], input=given, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(n_samples, n_steps, -1).swapaxes(0, 1)


CASES: dict[str, tuple[Callable[[], brainstate.nn.Module], int | None]] = {
    "H1v1": (lambda: net("H1v1", "FF"), None),
    "H1v1 RC, a sampled chip": (lambda: net("H1v1", "RC"), 3),
    "H1v2 RC": (lambda: net("H1v2", "RC"), None),
    "H1v2 behind a frontend, a sampled chip": (lambda: net("H1v2", "FF", frontend=True), 5),
}


@pytest.mark.parametrize("case", CASES)
def test_numpy_and_c_give_the_spikes_of_the_net_on_the_vowels(case: str, vowels: np.ndarray, tmp_path: Path) -> None:
    make, key = CASES[case]
    made = make()
    if key is not None:
        bh.sample_chip(made, key)
    n_in = 16 if "frontend" in case else 24
    # A filter bank gives larger values.
    xs = 20 * vowels[..., :n_in] if "frontend" in case else vowels
    bh.deploy.export_bundle(made, tmp_path / "net.bundle")
    expected = np.asarray(bh.rollout(made, jnp.asarray(xs))[0])
    assert expected.mean() > 0.002
    step = firmware(tmp_path / "net.bundle")
    assert step.n_in == n_in
    # Every third recording in NumPy, which takes most of the time here.
    got = step.run(xs[:, ::3])
    assert int(np.sum(got != expected[:, ::3])) == 0
    if CC is None:
        pytest.skip("there is no C compiler")
    step.write_c(tmp_path / "net.h")
    assert int(np.sum(in_c(tmp_path / "net.h", xs) != expected)) == 0


@pytest.mark.parametrize(("bits", "kind"), [(8, "int8_t"), (9, "int16_t"), (16, "float")])
@pytest.mark.skipif(CC is None, reason="there is no C compiler")
def test_codes_of_more_bits_and_charges_where_a_table_would_be_larger(tmp_path: Path, bits: int, kind: str) -> None:
    rng = np.random.default_rng(0)
    wide = bh.chip.H1V2.replace(name="wide", weight_bits=bits)
    made = brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(40, 30, weight_init=weights(rng, 40, 30, 1.6), weight_bits="chip", chip=wide),
        bh.nn.H1v2Layer(30, tau=20 * u.ms, chip=wide),
    )
    bh.deploy.export_bundle(made, tmp_path / "net.bundle")
    xs = rng.integers(0, 2, (30, 5, 40)).astype(np.float32)
    step = firmware(tmp_path / "net.bundle")
    step.write_c(tmp_path / "net.h")
    text = (tmp_path / "net.h").read_text()
    assert f"static const {kind} net_{'q' if kind == 'float' else 'w'}0[30][40]" in text
    expected = np.asarray(bh.rollout(made, jnp.asarray(xs))[0])
    assert expected.mean() > 0.05
    for found in (step.run(xs), in_c(tmp_path / "net.h", xs)):
        assert int(np.sum(found != expected)) == 0


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "net.bundle"
    with brainstate.environ.context(dt=1.0 * u.ms):
        bh.deploy.export_bundle(net("H1v2", "RC"), path)
    return path


def test_one_sample_is_the_sample_in_a_batch_and_states_are_quantities(small: Path, vowels: np.ndarray) -> None:
    step = firmware(small)
    xs = vowels[:12, 5:8]
    whole, state = step.run(xs), step.initial_state()
    assert state.V["layers.1"].unit == u.mV
    for t, x in enumerate(xs[:, 1]):
        before = state
        state, spikes = step.step(state, x)
        np.testing.assert_array_equal(spikes, whole[t, 1])
        assert not np.shares_memory(state.V["layers.1"].mantissa, before.V["layers.1"].mantissa)
    np.testing.assert_array_equal(state.spikes["layers.3"], whole[-1, 1])
    # Membranes of the net, up to the rounding that XLA chooses.
    with brainstate.environ.context(dt=1.0 * u.ms):
        _, seen = bh.rollout(bh.deploy.load_bundle(small), jnp.asarray(xs[:, 1:2]), record=["layers.1.V"])
    np.testing.assert_allclose(state.V["layers.1"].mantissa, seen["layers.1.V"].mantissa[-1, 0], rtol=1e-5, atol=1e-3)


def test_the_fused_product_is_rounded_once() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=2000).astype(np.float32) for _ in range(2))
    # Sums that cancel, where two roundings show.
    c = (-a * b * (1 + rng.normal(size=2000) * 1e-7)).astype(np.float32)
    exact = [np.float32(float_of(*one)) for one in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(_fused(a, b, c), exact)
    assert np.sum((a * b + c) != np.array(exact)) > 100


def float_of(a: np.float32, b: np.float32, c: np.float32) -> Any:
    """``a * b + c`` rounded once to float32, through fractions."""
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    near = np.float32(float(exact))
    ends = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return min(ends, key=lambda one: (abs(Fraction(float(one)) - exact), int(one.view(np.int32)) & 1))


def test_the_header_says_its_sizes_and_cannot_be_broken_by_names(small: Path, tmp_path: Path) -> None:
    step = firmware(small)
    assert repr(step) == "Firmware(H1v2: 24 -> 40 -> 18, 290 bytes of state)"
    step.write_c(tmp_path / "net.h", name="tiny")
    text = (tmp_path / "net.h").read_text()
    assert "#define TINY_STATE_BYTES 290\n" in text
    # Charges of 31 codes, codes of both synapses and of the recurrence, decay factors of the first layer.
    assert f"#define TINY_TABLE_BYTES {31 * 4 + 24 * 40 + 40 * 40 + 40 * 18 + 40 * 4}\n" in text
    assert step.table_bytes == 31 * 4 + 24 * 40 + 40 * 40 + 40 * 18 + 40 * 4
    assert step.checksum in text
    assert text.count("/*") == text.count("*/")
    assert "*/" not in _comment("a*/ b */")
    assert _comment("\n\u00e9") == "?"


SIZES = """
#include "net.h"

int main(void)
{
    net_state state;
    float x[NET_INPUTS] = {0};
    net_reset(&state);
    net_step(&state, x);
    return sizeof(net_state) - NET_STATE_BYTES < 4 && !net_output(&state)[0] ? 0 : 1;
}
"""


@pytest.mark.skipif(CC is None, reason="there is no C compiler")
def test_sizes_in_c_are_those_of_the_header(small: Path, tmp_path: Path) -> None:
    firmware(small).write_c(tmp_path / "net.h")
    (tmp_path / "sizes.c").write_text(SIZES)
    subprocess.run([CC, *STRICT, "-o", tmp_path / "sizes", tmp_path / "sizes.c", "-lm"], check=True)
    assert subprocess.run([tmp_path / "sizes"], check=False).returncode == 0


@pytest.mark.parametrize("name", ["", "2net", "a-b", "a b", "x" * 41, "n\u00e9t", 3, None])
def test_a_name_that_is_none_in_c_is_refused(small: Path, tmp_path: Path, name: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"Firmware\.write_c: name must be"):
        firmware(small).write_c(tmp_path / "net.h", name=name)
    assert not (tmp_path / "net.h").exists()


def test_what_is_no_bundle_and_what_has_another_step_is_refused(small: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(small.read_bytes()[:-9])
    with pytest.raises(bh.deploy.BundleError, match=r"firmware: '.*cut' is truncated"):
        firmware(tmp_path / "cut")
    with brainstate.environ.context(precision=16):
        half = brainstate.nn.Sequential(
            bh.nn.H1v1Synapse(4, 2, weight_init=np.full((4, 2), 0.3), weight_bits="chip"),
            bh.nn.H1v1Layer(2, tau=10 * u.ms),
        )
        bh.deploy.export_bundle(half, tmp_path / "half.bundle")
    with pytest.raises(
        ValueError, match=r"firmware: the network of the bundle must compute in float32 \(got float16\)"
    ):
        firmware(tmp_path / "half.bundle")
    step = firmware(small)
    with pytest.raises(ValueError, match=r"Firmware.step: x must have shape \(24,\) to match state; got shape \(23,\)"):
        step.step(step.initial_state(), np.zeros(23))
    with pytest.raises(TypeError, match=r"Firmware.step: state must be a FirmwareState .*initial_state; got 3"):
        step.step(3, np.zeros(24))
    with pytest.raises(ValueError, match=r"Firmware.run: xs must have shape \[T, 24\] or \[T, B, 24\]"):
        step.run(np.zeros((3, 25)))
    with pytest.raises(ValueError, match=r"Firmware\.run: xs contains 1 NaN"):
        step.run(np.r_[np.nan, np.zeros(23)][None])
