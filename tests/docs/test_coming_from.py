"""The pages for users of other libraries: their code runs, gives the spikes that they promise, names what exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import brainstate
import braintools
import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs"
NAMES = ("snntorch", "nwave", "torch", "norse", "spikingjelly", "sinabs", "spyx")
PAGES = {page: (DOCS / f"coming_from_{page}.md").read_text(encoding="utf-8") for page in NAMES}


def run(page: str) -> dict[str, Any]:
    (block,) = re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, page, "exec"), names)
    return names


def test_the_net_of_the_page_for_snntorch_spikes() -> None:
    names = run("snntorch")
    assert names["spikes"].shape == names["seen"]["lif2.V_pre"].shape == (25, 4, 9)


def test_the_net_of_the_page_for_nwave_fires_and_keeps_the_paths_of_its_weights(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = run("nwave")
    assert names["spikes"].shape == names["seen"]["layer.V"].shape == (100, 64, 32)
    assert names["spikes"].sum() > 0
    assert list(names["net"].states(brainstate.ParamState)) == [("synapse", "weight")]
    printed = capsys.readouterr().out
    assert "weights in range" not in printed
    assert "weights on grid" in printed


def test_the_nets_of_the_page_about_state_dicts_spike() -> None:
    names = run("torch")
    assert names["spikes"].shape == (50, 4, 9)
    assert names["seen"]["lif1.spk"].sum() > 0
    assert names["from_norse"].names == names["from_jelly"].names == ("part_0", "part_1", "part_2", "part_3")


def test_the_net_of_the_page_for_norse_has_its_words() -> None:
    names = run("norse")
    assert names["spikes"].shape == names["others"].shape == (50, 4, 9)
    assert names["spikes"].sum() > 0


def test_both_nets_of_the_page_for_spikingjelly_are_the_same() -> None:
    names = run("spikingjelly")
    assert 0 < names["spikes"].mean() < 1
    np.testing.assert_array_equal(names["spikes"], names["others"])


def test_the_net_of_the_page_for_sinabs_steps_as_sinabs_does() -> None:
    names = run("sinabs")
    out = np.float32(names["x"].swapaxes(0, 1))
    for weight in names["weights"]:  # LIF with SingleSpike, MembraneSubtract and norm_input
        V, spikes = np.zeros((4, len(weight))), []
        for step in out:
            V = names["beta"] * V + (1 - names["beta"]) * (step @ weight.T)
            spikes.append((V >= 1).astype(np.float32))
            V = V - spikes[-1]
        out = np.stack(spikes)
    assert 0 < out.mean() < 1
    np.testing.assert_array_equal(names["spikes"], out)


def test_the_net_of_the_page_for_spyx_is_two_steps_ahead_of_spyx() -> None:
    names = run("spyx")
    out = names["x"]
    for kernel in names["kernels"]:
        V, spikes = np.zeros((4, kernel.shape[1])), []
        for step in out:
            spikes.append((V > 1).astype(np.float32))
            V = names["beta"] * V + step @ kernel - spikes[-1]
        out = np.stack(spikes)
    assert 0 < out.mean() < 1
    np.testing.assert_array_equal(names["spikes"][:-2], out[2:])


def found(package: str, dotted: str) -> Any:
    thing: Any = importlib.import_module(package)
    for name in dotted.split("."):
        if not hasattr(thing, name):
            thing = importlib.import_module(f"{thing.__name__}.{name}")
        else:
            thing = getattr(thing, name)
    return thing


@pytest.mark.parametrize("page", PAGES)
def test_every_call_that_the_page_names_exists(page: str) -> None:
    for alias, package in (("bh", "brainhw"), ("braintools", braintools.__name__), ("brainstate", brainstate.__name__)):
        for dotted in set(re.findall(rf"(?<![\w.]){alias}\.((?:\w+\.)*\w+)", PAGES[page])):
            assert found(package, dotted) is not None
