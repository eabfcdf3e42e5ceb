"""Runs Python scripts in processes that are forked from one that has imported brainhw, JAX and matplotlib.

The imports of a script take two seconds of CPU time. Here they are done once for all scripts of a pytest worker.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# JAX starts no threads before its first computation. So the process may fork until then.
IMPORTS = ("brainhw.cli", "brainhw.deploy", "brainhw.init", "brainhw.recipe", "brainhw.silicon", "brainhw.train",
           "brainhw.visualize", "braintools", "matplotlib.pyplot", "optax", "scipy.io")  # fmt: skip


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Return what ``python SCRIPT ARGUMENTS`` returns and prints; ``command`` is the script and its arguments."""
    if not sys.platform.startswith("linux"):
        # Libraries of other systems do not work in a forked process.
        return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, env=environment)
    # pytest writes the name of each test into its environment.
    imported = tuple(sorted((k, v) for k, v in environment.items() if k != "PYTEST_CURRENT_TEST"))
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, name)) for name in ("stdout", "stderr")]
        server = _server(imported)
        assert server.stdin is not None
        assert server.stdout is not None
        request = {"command": command, "files": files, "folder": os.getcwd(), "environment": environment}
        print(json.dumps(request), file=server.stdin, flush=True)
        code = int(server.stdout.readline())
        stdout, stderr = (Path(file).read_text() for file in files)
    return subprocess.CompletedProcess(command, code, stdout, stderr)


@functools.cache
def _server(environment: tuple[tuple[str, str], ...]) -> subprocess.Popen[str]:
    """Start the process that forks. Modules read the environment when they are imported, so each one has its own."""
    server = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(environment)
    )
    atexit.register(server.communicate)
    return server


def _next_script() -> dict[str, Any] | None:
    """Fork for each request and return it in the new process; return None in the first one, at the end."""
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            return json.loads(line)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    return None


def _become(request: dict[str, Any]) -> None:
    """Make this process the one that ``python SCRIPT ARGUMENTS`` starts."""
    for number, name in enumerate((os.devnull, *request["files"])):
        file = os.open(name, os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["command"]
    sys.path[0] = str(Path(sys.argv[0]).parent)


if __name__ == "__main__":
    import importlib
    import random
    import runpy
    import warnings

    for name in IMPORTS:
        importlib.import_module(name)
    import brainstate
    import numpy as np

    # numpy has threads, of which Python warns. OpenBLAS ends them before a fork and starts them again.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        requested = _next_script()
    if requested:
        _become(requested)
        # A new process has random numbers of its own. With equal ones, no test would find a script that sets no seed.
        random.seed()
        np.random.seed()
        brainstate.random.seed()
        runpy.run_path(sys.argv[0], run_name="__main__")
