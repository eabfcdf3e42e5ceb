"""Runs a script of the gallery as a user would, and sees that brainhw has nothing to warn of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import forked_python

GALLERY = Path(__file__).parents[2] / "gallery"
# Ours, or of ours and told of the line in the script that called us. After two epochs no classifier is expected to say
# something of all classes and recordings, of which `fit` warns.
OUR_WARNING = re.compile(r"^.*/(?:brainhw|gallery)/[\w/]+\.py:\d+: \w*Warning: (?!fit: ).*$", re.MULTILINE)


def environment() -> dict[str, str]:
    """Return the environment of a script, in which XLA compiles without optimisation.

    This saves a fifth of the CPU time of a script, because most scripts compile longer than they compute.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "TQDM_DISABLE": "1", "XLA_FLAGS": flags}


def smoke(
    script: str, *options: str | Path, fails: bool = False, warns: bool = False, new_python: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run ``gallery/SCRIPT --smoke``; ``fails`` and ``warns`` say that it is to fail, or that it may warn.

    ``new_python`` starts a Python that has imported nothing. The others save the two seconds of the imports.
    """
    command = [str(GALLERY / script), "--smoke", *map(str, options)]
    if new_python:
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, check=False, env=environment()
        )
    else:
        done = forked_python.run(command, environment())
    assert (done.returncode != 0) == fails, done.stderr[-3000:]
    assert warns or not OUR_WARNING.findall(done.stderr), done.stderr[-3000:]
    return done
