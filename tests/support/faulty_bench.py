"""A bench in the standard library alone that fails in the way that the file of its first argument names.

It spikes in the first step of each sample. Each fault is a function of the folder; those that return arrays have them
written to ``output.npz``.
"""

from __future__ import annotations

import ast
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zipfile

Arrays = dict[str, tuple[str, tuple[int, ...], bytes]]


def npy(kind: str, shape: tuple[int, ...], data: bytes) -> bytes:
    head = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    head += " " * (63 - (10 + len(head)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + data


def npz(arrays: Arrays) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as members:
        for name, array in arrays.items():
            members.writestr(f"{name}.npy", npy(*array))
    return stream.getvalue()


def right(folder: str) -> Arrays:
    """Return an output that brainhw takes."""
    with zipfile.ZipFile(os.path.join(folder, "input.npz")) as given:
        head = given.read("x.npy")[10:].split(b"}")[0] + b"}"
        run = given.read("run.npy")[-8:]
    steps, samples, _ = ast.literal_eval(head.decode())["shape"]
    with open(os.path.join(folder, "program.json"), encoding="utf-8") as stream:
        stages = json.load(stream)["stages"]
    arrays: Arrays = {"run": ("<i8", (), run)}
    for stage in stages:
        n = stage["neurons"]
        arrays[f"spikes/{stage['layer']}"] = spikes(steps, samples, n)
        arrays[f"membranes/{stage['layer']}"] = "<f4", (steps, samples, n), struct.pack("<f", 2.5) * steps * samples * n
    return arrays


def spikes(steps: int, samples: int, n: int) -> tuple[str, tuple[int, ...], bytes]:
    return "|u1", (steps, samples, n), b"\1" * samples * n + b"\0" * (steps - 1) * samples * n


def write(folder: str, data: bytes) -> None:
    with open(os.path.join(folder, "output.npz"), "wb") as stream:
        stream.write(data)


def with_data(name: str, kind: str, one: bytes) -> object:
    """Return a fault in which the first number of an array is another one."""

    def fault(folder: str) -> Arrays:
        arrays = right(folder)
        shape = arrays[name][1]
        count = shape[0] * shape[1] * shape[2]
        zeros = struct.pack(f"<{'f' if len(one) == 4 else 'B'}", 0) * (count - 1)
        return {**arrays, name: (kind, shape, one + zeros)}

    return fault


def shaped(change: object) -> object:
    """Return a fault in which the spikes of ``layer1`` have another shape."""

    def fault(folder: str) -> Arrays:
        arrays = right(folder)
        return {**arrays, "spikes/layer1": spikes(*change(*arrays["spikes/layer1"][1]))}  # type: ignore[operator]

    return fault


def without(name: str) -> object:
    return lambda folder: {key: array for key, array in right(folder).items() if key != name}


def renamed(name: str, other: str) -> object:
    return lambda folder: {other if key == name else key: array for key, array in right(folder).items()}


def leave_child(folder: str) -> None:
    """Start a process that outlives this one, and tell who it is."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    with open(f"{sys.argv[1]}.pids", "a", encoding="utf-8") as stream:
        stream.write(f"{child.pid}\n")


def leave_session(folder: str) -> None:
    """Start a process in a session of its own, as a daemon is, which holds the streams of this one."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"], start_new_session=True)
    with open(f"{sys.argv[1]}.pids", "a", encoding="utf-8") as stream:
        stream.write(f"{child.pid}\n")


def then(*acts: object) -> object:
    def fault(folder: str) -> object:
        found = None
        for act in acts:
            found = act(folder)  # type: ignore[operator]
        return found

    return fault


def messages(text: str, times: int = 1, stream: int = 2) -> object:
    def fault(folder: str) -> None:
        for _ in range(times):
            os.write(stream, text.encode("utf-8", "surrogateescape"))

    return fault


def end(code: int) -> object:
    return lambda folder: os._exit(code)


def written(data: object) -> object:
    """Return a fault that writes other bytes than it should: ``data(right bytes)``."""

    def fault(folder: str) -> None:
        write(folder, data(npz(right(folder))))  # type: ignore[operator]

    return fault


def cut(share: float) -> object:
    return written(lambda data: data[: int(share * len(data))])


def flipped(data: bytes) -> bytes:
    at = data.index(b"\1\1")
    return data[:at] + b"\0" + data[at + 1 :]


def old_output(folder: str) -> Arrays:
    return {**right(folder), "run": ("<i8", (), struct.pack("<q", 12345))}


def sleep(folder: str) -> None:
    time.sleep(300)


def deaf(folder: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def closed(folder: str) -> None:
    os.close(1)
    os.close(2)


def removed(folder: str) -> None:
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    os.rmdir(folder)


SECOND = struct.pack("<f", 0.5)
NAN = struct.pack("<f", float("nan"))
# Name: the fault, and words of the error. Those of HANGING end by the time-out alone.
FAULTS = {
    "crash": (then(messages("Traceback\nOSError: no board\n"), end(3)), "exit code 3.*no board"),
    "crash after a whole output": (then(written(bytes), end(1)), "exit code 1"),
    "killed": (lambda folder: os.kill(os.getpid(), signal.SIGKILL), "signal SIGKILL"),
    "aborted": (lambda folder: os.kill(os.getpid(), signal.SIGABRT), "signal SIGABRT"),
    "exception": (lambda folder: 1 / 0, "exit code 1.*ZeroDivisionError"),
    "no output": (lambda folder: None, "wrote no output.npz .*nothing"),
    "another name": (lambda folder: open(os.path.join(folder, "output.txt"), "w").close(), "output files: output.txt"),
    "empty": (lambda folder: write(folder, b""), "output.npz is corrupted"),
    "text": (lambda folder: write(folder, b"spikes: none\n"), "output.npz is corrupted"),
    "cut at the start": (cut(0.05), "output.npz is corrupted"),
    "cut in the middle": (cut(0.5), "output.npz is corrupted"),
    "cut at the end": (cut(0.98), "output.npz is corrupted"),
    "a byte changed": (written(flipped), "output.npz is corrupted.*CRC"),
    "a folder": (lambda folder: os.mkdir(os.path.join(folder, "output.npz")), "output.npz is corrupted.*a folder"),
    "a pipe": (lambda folder: os.mkfifo(os.path.join(folder, "output.npz")), "output.npz is corrupted.*a pipe"),
    "no end": (lambda folder: os.symlink("/dev/zero", os.path.join(folder, "output.npz")), "a device"),
    "folder gone": (removed, "wrote no output"),
    "fewer steps": (shaped(lambda t, b, n: (t - 1, b, n)), "have the same steps and samples"),
    "fewer samples": (shaped(lambda t, b, n: (t, b - 1, n)), "have the same steps and samples"),
    "fewer neurons": (shaped(lambda t, b, n: (t, b, n - 1)), r"'layer1' have shape \(4, 2, 5\); expected \(4, 2, 6\)"),
    "more neurons": (shaped(lambda t, b, n: (t, b, n + 1)), r"'layer1' have shape \(4, 2, 7\); expected"),
    "no steps": (shaped(lambda t, b, n: (0, b, n)), "output.npz is corrupted|must have shape"),
    "a layer lacks": (then(without("membranes/layer1"), without("spikes/layer0")), "'layer0'"),
    "unknown layer": (renamed("spikes/layer1", "spikes/ghost"), "unknown array 'spikes/ghost'"),
    "unknown array": (renamed("membranes/layer1", "times/layer1"), "unknown array 'times/layer1'"),
    "no run": (without("run"), "lacks the array run"),
    "old output": (old_output, "got 12345, which belongs to another run"),
    "NaN membrane": (with_data("membranes/layer0", "<f4", NAN), "membranes of 'layer0' must be finite"),
    "NaN spike": (with_data("spikes/layer0", "<f4", NAN), "spikes of 'layer0' must be 0 or 1; got nan"),
    "half a spike": (with_data("spikes/layer0", "<f4", SECOND), "spikes of 'layer0' must be 0 or 1; got 0.5"),
    "two spikes": (with_data("spikes/layer0", "|u1", b"\2"), "spikes of 'layer0' must be 0 or 1; got 2"),
    "minus one": (with_data("spikes/layer0", "|i1", b"\xff"), "spikes of 'layer0' must be 0 or 1; got -1"),
    "text spikes": (with_data("spikes/layer0", "|S1", b"1"), "must be an array of 0 and 1"),
    "objects": (lambda folder: {**right(folder), "spikes/layer0": ("|O", (1,), b"")}, "corrupted.*[Oo]bject"),
    "claims gigabytes": (
        lambda folder: {**right(folder), "spikes/layer0": ("|u1", (2**20, 2**12, 9), b"")},
        "output.npz is corrupted",
    ),
    "unpacks to too much": (
        lambda folder: {**right(folder), "spikes/layer0": ("|u1", (2**22, 1, 1), bytes(2**22))},
        "it unpacks to",
    ),
    "flood and crash": (
        then(messages("x" * 2**16, 200), messages("\nthe last\n"), end(9)),
        "exit code 9.*the last",
    ),
    "binary messages": (then(messages("\udcff\udc80\x1b[31mred\n" * 9), end(2)), "exit code 2.*red"),
    "closed streams and crash": (then(closed, end(4)), "exit code 4"),
    "crash with a child": (then(leave_child, end(5)), "exit code 5"),
}
HANGING = {
    "hangs": (sleep, "did not end within"),
    "hangs after a whole output": (then(written(bytes), sleep), "did not end within"),
    "hangs and is deaf": (then(deaf, sleep), "did not end within"),
    "hangs with a child": (then(leave_child, sleep), "did not end within"),
    "closed streams and hangs": (then(closed, sleep), "did not end within"),
    "floods for ever": (messages("y" * 2**12, 10**9), "did not end within"),
}
FINE = {
    "right": right,
    "flood": then(messages("x" * 2**16, 50), messages("z" * 2**16, 50, stream=1), right),
    "closed streams": then(closed, right),
    "child left": then(leave_child, right),
    "daemon left": then(leave_session, right),
    "no membranes": lambda folder: {key: one for key, one in right(folder).items() if "membranes" not in key},
    "big-endian": lambda folder: {
        key: (one[0].replace("<f4", ">f4"), one[1], one[2]) if "membranes/layer1" not in key else one
        for key, one in without("membranes/layer0")(folder).items()  # type: ignore[operator]
    },
}


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as stream:
        name = stream.read().strip()
    acts = {**{key: fault for key, (fault, _) in {**FAULTS, **HANGING}.items()}, **FINE}
    found = acts[name](sys.argv[-1])  # type: ignore[operator]
    if isinstance(found, dict):
        write(sys.argv[-1], npz(found))


if __name__ == "__main__":
    main()
