"""What every test starts from, and a check that none leaves anything behind for the next."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compilation is most of what the tests cost. Compiled programs are kept in this folder (git ignores it): scripts that
# tests start reuse them, and so does the next run of the tests.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import brainstate
import brainunit as u
import jax
import pytest

SEED = 2026

# Traced programs are millions of small objects that live as long as JAX's caches. With Python's default limits, the
# garbage collector reads them again and again, which takes a sixth of the time of the tests (tests/transform).
gc.set_threshold(100_000, 50, 50)


SLOW = frozenset((Path(__file__).parent / "slow.txt").read_text().splitlines())

# Files with few tests that take long, the longest first. pytest-xdist would start them last, because it sorts files by
# their number of tests, and one worker would still run such a file when the others have nothing left to do.
LONGEST = (
    "tests/regressions/test_nonsense.py",
    "tests/gallery/test_vowels_and_digits.py",
    "tests/docs/test_readme.py",
    "tests/transform/test_recorded.py",
    "tests/transform/test_rollout_leaky.py",
    "tests/gallery/test_deep.py",
    "tests/gallery/test_ecg.py",
    "tests/gallery/test_robustness.py",
    "tests/regressions/test_net_whole_after_failure.py",
    "tests/transform/test_rollout_currents.py",
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: scripts, statistics, what takes long; runs with `-m slow` alone")
    config.addinivalue_line("markers", "no_dt: the test sets the time step itself, or needs that there is none")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark the tests of ``slow.txt``, which ``tools/slow_tests.py`` writes from measured times, before `-m` chooses.

    Then sort the files of the chosen tests: the longest first, then those with many tests.
    """
    for item in items:
        if item.nodeid in SLOW:
            item.add_marker(pytest.mark.slow)
    yield
    files = [item.nodeid.split("::")[0] for item in items]
    n_tests, rank = Counter(files), {name: i for i, name in enumerate(LONGEST)}
    place = {name: (rank.get(name, len(rank)), -n_tests[name], i) for i, name in enumerate(dict.fromkeys(files))}
    items.sort(key=lambda item: place[item.nodeid.split("::")[0]])


def _global_state() -> dict[str, object]:
    settings = {name: str(value) for name, value in brainstate.environ.all().items()}
    return {"x64": jax.config.jax_enable_x64, "environ": settings}


@pytest.fixture(autouse=True)
def clean_start(request: pytest.FixtureRequest) -> Iterator[None]:
    """Seed the random numbers, set dt to 1 ms for this test only, and see that global settings come back."""
    before = _global_state()
    brainstate.random.seed(SEED)
    if request.node.get_closest_marker("no_dt"):
        yield
    else:
        with brainstate.environ.context(dt=1.0 * u.ms):
            yield
    if "matplotlib.pyplot" in sys.modules:
        # Which tests share a process is chance: figures that one leaves open would be too many for another.
        sys.modules["matplotlib.pyplot"].close("all")
    after = _global_state()
    assert after == before, f"the test changed global settings from {before} to {after}"
