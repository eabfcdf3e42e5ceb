"""Spikes of trained networks on other runtimes: jax.export, IREE, TensorFlow Lite, and C code for a microcontroller.

    python -m benchmarks.edge_targets --epochs 12

Each network classifies the speakers of Japanese Vowels. Every runtime runs the whole test set, and each output spike is
compared with ``bh.rollout``. For IREE run ``pip install iree-base-compiler iree-base-runtime``. For TensorFlow Lite run
``pip install tensorflow ai-edge-litert``. The C code requires a compiler named ``cc``. Missing runtimes are skipped.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import brainhw as bh
from benchmarks.machine import save
from brainhw.interop.stablehlo import StepProgram, export_step

N_CLASSES, N_HIDDEN, N_OUT = 9, 64, 45
PACKAGES = ("iree-base-compiler", "iree-base-runtime", "tensorflow", "ai-edge-litert")
# A function that takes the states, by name, and the input of one step. It returns the new states and the output as
# NumPy arrays.
Step = Callable[[dict[str, np.ndarray], np.ndarray], tuple[dict[str, np.ndarray], np.ndarray]]


def vowels(split: str) -> bh.data.Split:
    """Return the recordings of a split as nonnegative values ``[n, 116, 24]``."""
    data = bh.data.japanese_vowels()
    given = getattr(data, split)
    x = bh.data.split_on_off(bh.data.fit_channel_scale(data.train).apply(given).x)
    return bh.data.Split(x=bh.data.repeat_frames(x, 4), y=given.y, lengths=given.lengths * 4)


def nets() -> dict[str, brainstate.nn.Module]:
    """Return untrained networks."""
    tau = 20 * u.ms

    def chip(family: str, topology: str) -> brainstate.nn.Module:
        synapse, layer = getattr(bh.nn, f"{family}Synapse"), getattr(bh.nn, f"{family}Layer")
        bits = {"weight_bits": "chip"}
        return brainstate.nn.Sequential(
            synapse(24, N_HIDDEN, **bits),
            layer(N_HIDDEN, tau=tau, topology=topology, **(bits if topology == "RC" else {})),
            synapse(N_HIDDEN, N_OUT, **bits),
            layer(N_OUT, tau=tau),
        )

    return {
        "LIF": brainstate.nn.Sequential(
            bh.nn.LIFSynapse(24, N_HIDDEN), bh.nn.LIFLayer(N_HIDDEN, tau=tau),
            bh.nn.LIFSynapse(N_HIDDEN, N_OUT), bh.nn.LIFLayer(N_OUT, tau=tau),
        ),
        "H1v1": chip("H1v1", "FF"),
        "H1v1, recurrent": chip("H1v1", "RC"),
        "H1v2": chip("H1v2", "FF"),
    }  # fmt: skip


def train(name: str, net: brainstate.nn.Module, epochs: int) -> float:
    """Train a network within the rules of its chip, and return the accuracy on the test set."""
    train_set, test_set = vowels("train"), vowels("test")
    on_chip = name.startswith("H1")
    extra = {"alpha": 0.9} if "recurrent" in name else {} if on_chip else {"families": "any"}
    bh.init.fluct_init(net, [train_set], xi_target=1.0, in_range=on_chip, key=0, **extra)

    def loss(spikes: jax.Array, batch: bh.train.Batch) -> jax.Array:
        votes = bh.train.population_votes(spikes, N_CLASSES)
        error = braintools.metric.softmax_cross_entropy_with_integer_labels(votes, batch.y).mean()
        return error + (bh.train.weight_magnitude_loss(net) if on_chip else 0.0)

    bh.train.fit(
        net, train_set, n_classes=N_CLASSES, loss=loss, batch_size=54, learning_rate=1e-2, epochs=epochs,
        sample_chips=False, seed=0, progress=False,
    )  # fmt: skip
    if on_chip:
        bh.train.clip_weights(net)
        bh.deploy.project_signs(net)
    spikes, _ = bh.rollout(net, jnp.asarray(test_set.x).swapaxes(0, 1))
    votes = np.asarray(spikes).sum(0).reshape(len(test_set), N_CLASSES, -1).sum(-1)
    return float(np.mean(votes.argmax(1) == test_set.y))


def with_jax(program: StepProgram, folder: Path) -> tuple[Step, int]:
    """Load the exported file and run it with JAX, without brainhw."""
    path = folder / "net.step"
    program.save(path)
    bytecode = np.load(path)["program"].tobytes()
    call = jax.jit(jax.export.deserialize(bytearray(bytecode)).call)

    def step(state: dict[str, np.ndarray], x: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        after, y = call(state, x)
        return after, np.asarray(y)

    return step, path.stat().st_size


def with_iree(program: StepProgram, folder: Path) -> tuple[Step, int]:
    """Compile the StableHLO for the CPU with IREE."""
    import iree.compiler
    import iree.runtime

    compiled = iree.compiler.compile_str(
        program.as_text(), target_backends=["llvm-cpu"], input_type="stablehlo",
        extra_args=["--iree-llvmcpu-target-cpu=host"],
    )  # fmt: skip
    context = iree.runtime.SystemContext(config=iree.runtime.Config("local-sync"))
    context.add_vm_module(iree.runtime.VmModule.copy_buffer(context.instance, compiled))
    main = context.modules.jit_pure["main"]
    names = [port.name for port in program.arguments[:-1]]

    def step(state: dict[str, np.ndarray], x: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        # Arguments and results are in the order of `program.arguments` and `program.results`.
        *after, y = (np.asarray(one) for one in main(*(state[name] for name in names), x))
        return dict(zip(names, after, strict=True)), y

    return step, len(compiled)


def with_tflite(program: StepProgram, folder: Path) -> tuple[Step, int]:
    """Convert the program to TensorFlow Lite, and run it with LiteRT."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter
    from jax.experimental import jax2tf

    # TensorFlow does not allow dots in names of arguments.
    names = {port.name.replace(".", "_"): port for port in program.arguments}
    states = [name for name, port in names.items() if port.kind == "state"]

    def plain(given: dict[str, Any]) -> dict[str, Any]:
        after, y = program.exported.call({names[name].name: given[name] for name in states}, given["x"])
        return {**{name: after[names[name].name] for name in states}, "y": y}

    module = tf.Module()
    module.step = tf.function(lambda **given: jax2tf.convert(plain, with_gradient=False)(given), autograph=False)
    like = {name: tf.TensorSpec(port.shape, port.dtype, name=name) for name, port in names.items()}
    tf.saved_model.save(module, str(folder / "saved"), signatures=module.step.get_concrete_function(**like))
    model = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved")).convert()
    run = Interpreter(model_content=model).get_signature_runner()

    def step(state: dict[str, np.ndarray], x: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        found = run(**{name: state[names[name].name] for name in states}, x=x)
        return {names[name].name: found[name] for name in states}, found["y"]

    return step, len(model)


TARGETS = {
    "jax.export": (with_jax, ()),
    "IREE": (with_iree, ("iree.compiler", "iree.runtime")),
    "TensorFlow Lite": (with_tflite, ("tensorflow", "ai_edge_litert")),
}

MAIN = """
#include <stdio.h>
#include "net.h"
int main(void)
{
    static net_state state;
    float x[NET_INPUTS];
    int t;
    for (;;) {
        net_reset(&state);
        for (t = 0; t < STEPS; t++) {
            if (fread(x, sizeof x, 1, stdin) != 1) return 0;
            net_step(&state, x);
            fwrite(net_output(&state), 1, NET_OUTPUTS, stdout);
        }
    }
}
"""
COMPILED = {
    "C, as the header says": ("-ffp-contract=off",),
    "C, two roundings for a product and a sum": ("-ffp-contract=off", "-DNET_FMA(a,b,c)=((a)*(b)+(c))"),
    "C, -ffast-math": ("-ffast-math", "-march=native"),
}


def stepped(step: Step, program: StepProgram, xs: np.ndarray) -> tuple[np.ndarray, float]:
    """Run ``xs [T, B, N]`` in batches of the size of the program. Return the outputs and the microseconds per step."""
    size, outputs, seconds = program.input_shape[0], [], []
    for start in range(0, xs.shape[1], size):
        part = xs[:, start : start + size]
        n = part.shape[1]
        part = np.pad(part, ((0, 0), (0, size - n), (0, 0)))
        state = {name: np.array(u.get_mantissa(value)) for name, value in program.initial_state.items()}
        found = []
        for x in part:
            before = time.perf_counter()
            state, y = step(state, np.ascontiguousarray(x))
            seconds.append(time.perf_counter() - before)
            found.append(np.array(y[:n]))
        outputs.append(np.stack(found))
    return np.concatenate(outputs, axis=1), 1e6 * float(np.median(seconds))


def in_c(header: Path, xs: np.ndarray, options: tuple[str, ...]) -> tuple[np.ndarray, float]:
    """Compile the header and run the test set. Return the spikes and the microseconds per step."""
    folder = header.parent
    (folder / "main.c").write_text(MAIN)
    command = ["cc", "-std=c99", "-O2", f"-DSTEPS={len(xs)}", *options, "-o", "main", "main.c", "-lm"]
    subprocess.run(command, check=True, cwd=folder)
    before = time.perf_counter()
    done = subprocess.run([folder / "main"], input=xs.swapaxes(0, 1).tobytes(), capture_output=True, check=True)
    seconds = time.perf_counter() - before
    spikes = np.frombuffer(done.stdout, np.uint8).reshape(xs.shape[1], len(xs), -1).swapaxes(0, 1)
    return spikes, 1e6 * seconds / (xs.shape[0] * xs.shape[1])


def measure(epochs: int) -> list[dict[str, Any]]:
    """Return a row of results for each network, runtime and batch size."""
    xs = np.ascontiguousarray(np.swapaxes(vowels("test").x, 0, 1), np.float32)
    rows: list[dict[str, Any]] = []
    for name, net in nets().items():
        brainstate.random.seed(0)
        accuracy = train(name, net, epochs)
        expected = np.asarray(bh.rollout(net, jnp.asarray(xs))[0])
        print(f"{name}: accuracy {accuracy:.3f}, {int(expected.sum())} of {expected.size} outputs are spikes")

        def add(
            name: str,
            target: str,
            spikes: np.ndarray,
            batch: int,
            size: int,
            us: float,
            expected: np.ndarray = expected,
        ) -> None:
            row = {
                "net": name, "target": target, "batch": batch, "differing": int(np.sum(spikes != expected)),
                "outputs": int(expected.size), "spikes": int(expected.sum()), "bytes": size, "us": round(us, 1),
            }  # fmt: skip
            rows.append(row)
            print(row)

        by_steps = np.asarray(bh.rollout(net, jnp.asarray(xs), layerwise=False)[0])
        add(name, "bh.rollout, layerwise=False", by_steps, xs.shape[1], 0, float("nan"))
        for target, (make, needs) in TARGETS.items():
            if not all(importlib.util.find_spec(one.split(".")[0]) for one in needs):
                continue
            for batch in (1, 32):
                program = export_step(net, xs[0, :batch])
                with tempfile.TemporaryDirectory() as folder:
                    step, size = make(program, Path(folder))
                    spikes, us = stepped(step, program, xs)
                add(name, target, spikes, batch, size, us)
        if name.startswith("H1"):
            with tempfile.TemporaryDirectory() as folder:
                bh.deploy.export_bundle(net, Path(folder) / "net.bundle")
                firmware = bh.deploy.firmware(Path(folder) / "net.bundle")
                before = time.perf_counter()
                spikes = firmware.run(xs)
                us = 1e6 * (time.perf_counter() - before) / len(xs)
                add(name, "NumPy reference", spikes, xs.shape[1], firmware.table_bytes, us)
                firmware.write_c(Path(folder) / "net.h")
                for target, options in COMPILED.items() if shutil.which("cc") else ():
                    add(name, target, *_with(in_c(Path(folder) / "net.h", xs, options), firmware))
    return rows


def _with(run: tuple[np.ndarray, float], step: bh.deploy.Firmware) -> tuple[np.ndarray, int, int, float]:
    spikes, us = run
    return spikes, 1, step.table_bytes + step.state_bytes, us


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if shutil.which("cc"):
        line = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout
        found["cc"] = line.splitlines()[0].split()[-1]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12, help="number of epochs to train each network (default: 12)")
    given = parser.parse_args()
    brainstate.environ.set(dt=1.0 * u.ms)
    found = measure(given.epochs)
    for row in found:
        row["us"] = None if row["us"] != row["us"] else row["us"]
    save("edge_targets", {"versions": _versions(), "epochs": given.epochs, "rows": found})
