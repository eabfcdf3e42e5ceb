"""Training spread over devices, in one process or in two, takes the steps of one device."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).parents[1] / "support" / "many_devices_worker.py"
NETS = ("h1v1", "lif")
# Sums over the batch are rounded in another order, one unit in the last place being 1e-7; what a step makes of that
# stays below 5e-7 with the surrogates chosen.
RELATIVE = 1e-5


def environment(n_devices: int | None) -> dict[str, str]:
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={n_devices}" if n_devices else "",
        "TQDM_DISABLE": "1",
        # Processes of one mesh wait for each other: one must not load what the other has to compile.
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }


def finished(commands: list[list[str]], n_devices: int | None, folder: Path, patience: float = 400.0) -> list[str]:
    """Run processes side by side and return what each printed; a failure of one ends all and shows every output."""
    logs = [folder / f"process{i}.log" for i in range(len(commands))]
    running = []
    for command, log in zip(commands, logs, strict=True):
        with log.open("w") as out:
            full = [sys.executable, *command]
            running.append(subprocess.Popen(full, stdout=out, stderr=subprocess.STDOUT, env=environment(n_devices)))
    deadline = time.monotonic() + patience
    try:
        while None in (codes := [process.poll() for process in running]) and not any(codes):
            assert time.monotonic() < deadline, "too slow:\n" + "\n".join(log.read_text()[-2000:] for log in logs)
            time.sleep(0.05)
    finally:
        for process in running:
            process.kill()
            process.wait()
    texts = [log.read_text() for log in logs]
    assert codes == [0] * len(codes), f"exit codes {codes}:\n" + "\n---\n".join(text[-3000:] for text in texts)
    return texts


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Return what every step gave on the default device and on meshes of two and of four."""
    folder = tmp_path_factory.mktemp("one_process")
    finished([[str(WORKER), str(folder / "out.npz"), "--devices", "2", "4"]], 4, folder)
    return dict(np.load(folder / "out.npz"))


def entries(results: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in results.items() if name.startswith(prefix)}


def assert_same_steps(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=RELATIVE)
    gradients = [name for name in expected if name.startswith("grad/")]
    assert gradients
    for name in gradients:
        for ours, theirs in zip(found[name], expected[name], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=RELATIVE * np.abs(theirs).max(), err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("n_devices", [2, 4])
def test_training_spread_over_devices_takes_the_steps_of_one_device(
    one_process: dict[str, np.ndarray], net: str, n_devices: int
) -> None:
    # That the program was really partitioned is asserted by the worker, where it runs.
    alone, together = entries(one_process, f"{net}/0/"), entries(one_process, f"{net}/{n_devices}/")
    assert_same_steps(together, alone)
    np.testing.assert_array_equal(together["votes"], alone["votes"])
    assert len(set(alone["loss"].tolist())) == len(alone["loss"]) > 2
    assert alone["votes"].sum() > 100


@pytest.mark.slow
def test_two_processes_with_half_of_the_batch_each_take_the_steps_of_one(
    one_process: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    outputs = [tmp_path / f"{i}.npz" for i in range(2)]
    shared = ["--devices", "4", "--coordinator", coordinator, "--process"]
    finished([[str(WORKER), str(out), *shared, str(i)] for i, out in enumerate(outputs)], 2, tmp_path)
    halves = [dict(np.load(out)) for out in outputs]
    for net in NETS:
        alone = entries(one_process, f"{net}/0/")
        found = [entries(half, f"{net}/4/") for half in halves]
        for half in found:
            assert_same_steps(half, alone)
            assert half["votes"].shape[1] == alone["votes"].shape[1] // 2
        np.testing.assert_array_equal(np.concatenate([half["votes"] for half in found], axis=1), alone["votes"])
    for half in halves:
        np.testing.assert_array_equal(half["chips/shared"], one_process["chips/alone"])


@pytest.mark.slow
def test_chips_spread_over_four_devices_score_as_on_one(one_process: dict[str, np.ndarray]) -> None:
    assert np.ptp(one_process["chips/alone"]) > 0
    np.testing.assert_array_equal(one_process["chips/spread"], one_process["chips/alone"])


@pytest.mark.slow
def test_the_gallery_script_gives_on_two_devices_what_it_gives_on_one(tmp_path: Path) -> None:
    script = str(ROOT / "gallery" / "many_devices.py")
    options = ["--devices", "2", "--smoke", "--compare", "--out", str(tmp_path / "run")]
    (printed,) = finished([["-W", "error:::brainhw", script, *options]], None, tmp_path)
    line = r"test accuracy [\d.]+ \|.* 2 devices \|.* loss within \S+ \(first epoch\) and (\S+) .*\| accuracy (\S+)"
    result = re.search(line, printed.splitlines()[-1])
    assert result, printed[-3000:]
    assert float(result[1]) < RELATIVE
    assert float(result[2]) == 0
    for name in ("training.run", "training.png", "raster.png", "weights.png", "result.json"):
        assert (tmp_path / "run" / name).stat().st_size > 100
