"""The examples of the how-to pages run, and what the pages promise about them holds."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import braintools
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((DOCS / "how_to").glob("*.md"))}
# The tests run under the time step of the pages; setting it for the whole process would reach other tests.
SETTING = "brainstate.environ.set(dt=1.0 * u.ms)\n"
# With so little data a recording may end in silence on another machine; each test asserts what the page promises.
pytestmark = pytest.mark.filterwarnings("ignore:fit.")
WITHOUT_CACHE = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)


def run(page: str) -> dict[str, Any]:
    """Run all blocks of a page in one namespace, and return its names."""
    names: dict[str, Any] = {"__name__": page}
    for code in blocks(page):
        exec(compile(code.replace(SETTING, ""), f"{page}.md", "exec"), names)
    return names


@pytest.mark.slow
def test_own_data(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("own_data")
    assert not set(names["train"].groups) & set(names["validation"].groups) & set(names["test"].groups)
    assert len(names["history"].epochs) == 12
    assert names["scores"].accuracy > 0.8
    assert names["names"] == names["class_names"] == ("left", "rest", "right")
    assert sorted(names["split"].lengths.tolist()) == [40, 41, 42, 43, 44, 45]
    assert "most often predicted as" in capsys.readouterr().out
    assert Path("mine.bundle").exists()


def test_save_and_resume(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("save_and_resume")
    assert capsys.readouterr().out.split() == ["6", "True", "True"]
    weights = [net.layers[0].weight.value.mantissa for net in (names["whole"], names["other"])]
    np.testing.assert_array_equal(*weights)


@pytest.mark.slow
def test_images() -> None:
    names = run("images")
    for history in (names["flat_history"], names["history"]):
        assert history.epochs[history.best]["validation_accuracy"] > 0.8


def test_events() -> None:
    names = run("events")
    assert names["split"].x.shape == (48, 30, 16)
    assert max(names["history"].column("validation_accuracy")) > 0.8


def test_lengths() -> None:
    names = run("lengths")
    assert names["same"] is True
    rates = names["mean_rate"](np.asarray(names["spikes"]), names["validation"])
    assert rates.shape == (len(names["validation"]), 10)
    assert (rates <= 1).all()


def test_static_data() -> None:
    assert run("static_data")["accuracies"][40] > 0.8
    rows = json.loads((DOCS / "results" / "static_steps.json").read_text(encoding="utf-8"))["rows"]
    for row in rows:
        assert f"{row['test_accuracy']:.3f}" in PAGES["static_data"]


@pytest.mark.slow
def test_class_imbalance() -> None:
    histories = run("class_imbalance")["histories"]
    rare = {name: history.report.recall[1] for name, history in histories.items()}
    assert rare["weights"] > rare["as it is"]
    assert rare["sampling"] > rare["as it is"]
    for history in histories.values():
        expected = np.mean(history.report.recall)
        assert history.epochs[history.best]["validation_balanced"] == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:fluct_")
def test_silent_net() -> None:
    names = run("silent_net")
    assert names["silent"] == ["layers.3"]
    assert 0 < names["highest"] < 1
    assert [layer.dead for layer in names["woken"].layers] == [0, 0]


def test_half_precision() -> None:
    found = run("half_precision")["found"]
    differing = [np.mean(found[precision] != found[32]) for precision in ("bf16", 16)]
    assert 0.1 > differing[0] > differing[1]


def test_threads(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("threads")
    assert capsys.readouterr().out.split() == ["True"]
    assert np.sum(names["answers"]) > 0


@pytest.mark.slow
def test_optuna() -> None:
    pytest.importorskip("optuna")
    names = run("optuna")
    assert len(names["study"].trials) == 3
    assert names["test_accuracy"] > 0.5


def test_compilation_cache(tmp_path: Path) -> None:
    # In a process of its own: the folder counts for the whole process.
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks("compilation_cache"))],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**WITHOUT_CACHE, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    (files, hits) = map(int, re.findall(r"(\d+) files, (\d+) programs read", done.stdout)[0])
    assert files > 0
    assert hits > 0


def test_every_page_has_its_test() -> None:
    assert {f"test_{page}" for page in PAGES} <= set(globals())


@pytest.mark.parametrize("page", PAGES)
def test_every_call_that_a_page_names_exists(page: str) -> None:
    for alias, package in (("bh", "brainhw"), ("braintools", braintools.__name__), ("brainstate", "brainstate")):
        for dotted in set(re.findall(rf"(?<![\w.]){alias}\.((?:\w+\.)*\w+)", PAGES[page])):
            thing: Any = importlib.import_module(package)
            for name in dotted.split("."):
                thing = getattr(thing, name, None) or importlib.import_module(f"{thing.__name__}.{name}")
            assert thing is not None


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_short_and_has_links(page: str) -> None:
    prose = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    assert len(prose.split()) < 900
    assert "\n## Links\n" in prose
