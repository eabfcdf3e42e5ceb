"""Process-wide switches: kept memory is not allocated again, compiled programs outlive their process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import brainhw as bh

# A step with about 100 MiB of working memory, and the smallest number of pages that a call of it fetches.
PAGES = """
import sys, resource
import brainhw as bh
kept = bh.keep_memory() if len(sys.argv) > 1 else None
import jax, jax.numpy as jnp

@jax.jit
def step(x):
    once = jax.lax.scan(lambda v, x: (0.9 * v + x, jnp.tanh(v)), jnp.zeros(x.shape[1:]), x)[1]
    again = jax.lax.scan(lambda v, x: (0.9 * v + x, jnp.tanh(v)), jnp.zeros(x.shape[1:]), once, reverse=True)[1]
    return jnp.sum(once * again)

x = jnp.ones((200, 65536))
fetched = []
for _ in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(x).block_until_ready()
    fetched.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
# The memory may still grow in one call or another.
print(kept, bh.keep_memory(), min(fetched))
"""

COMPILED = """
import sys
import brainhw as bh, jax, jax.numpy as jnp
hits = []
jax.monitoring.register_event_listener(lambda name, **given: hits.append(name) if name.endswith("cache_hits") else None)
for path in sys.argv[1:] or [None]:
    folder = bh.keep_compiled(path)
    jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))
print(folder, len(hits))
"""


def run(code: str, *words: str, **environment: str) -> str:
    left = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**left, "JAX_PLATFORMS": "cpu", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="for glibc")
def test_kept_memory_is_not_fetched_again() -> None:
    _, late, without = run(PAGES).split()
    kept, _, pages = run(PAGES, "keep").split()
    assert late == "False"  # JAX has already computed
    if kept == "False":
        pytest.skip("this C library cannot keep memory")
    assert int(without) > 10_000
    assert int(pages) < int(without) / 10


def test_compiled_programs_stand_in_the_folder_and_are_used_again(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "programs"
    assert run(COMPILED, str(folder)) == f"{folder} 0"
    assert list(folder.iterdir())
    again, hits = run(COMPILED, str(folder)).split()
    assert (again, int(hits) > 0) == (str(folder), True)
    # A second folder takes over, even in a process that has already used another.
    other = tmp_path / "other"
    assert run(COMPILED, str(folder), str(other)).split()[0] == str(other)
    assert list(other.iterdir())


def test_the_default_is_the_cache_of_the_user_and_what_was_set_stays(tmp_path: Path) -> None:
    assert run(COMPILED, XDG_CACHE_HOME=str(tmp_path)).split()[0] == str(tmp_path / "brainhw" / "compiled")
    mine = tmp_path / "mine"
    assert run(COMPILED, XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=str(mine)).split()[0] == str(mine)
    assert list(mine.iterdir())
    # An unwritable home folder is not an error.
    (tmp_path / "file").write_text("")
    assert run(COMPILED, XDG_CACHE_HOME=str(tmp_path / "file")).split()[0] == "None"


def test_bad_folders_and_sizes_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = jax.config.jax_compilation_cache_dir
    for folder in (tmp_path / "file" / "below", tmp_path / "file"):
        with pytest.raises(ValueError, match=r"^keep_compiled: path '.*file.*' cannot be used as a folder \("):
            bh.keep_compiled(folder)
    for path in (3, ""):
        with pytest.raises(TypeError, match=r"^keep_compiled: path must be"):
            bh.keep_compiled(path)
    with pytest.raises(ValueError, match=r"^keep_compiled: path must be a folder on this machine; got 'gs://b/x'"):
        bh.keep_compiled("gs://b/x")
    for largest in (0, 2048, 1.5):
        with pytest.raises((TypeError, ValueError), match=r"^keep_memory: largest must be"):
            bh.keep_memory(largest)
    assert jax.config.jax_compilation_cache_dir == before
