"""The speed benchmark runs, its nets compute the same, and its report says what was and was not measured."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    # The folder is no part of what is installed.
    sys.path.append(str(ROOT))

from benchmarks.speed import agreement, figure, measure, process, report, runner, worker  # noqa: E402
from benchmarks.speed.adapters import ADAPTERS  # noqa: E402
from benchmarks.speed.cases import CASES, Definition, problem  # noqa: E402
from benchmarks.speed.contract import Adapter, Calls, Offer  # noqa: E402
from benchmarks.speed.measure import ROUNDS, Measurement  # noqa: E402


def built(name: str, case: str, **definition: Any) -> Calls:
    return ADAPTERS[name].build(problem(case, "tiny", definition), "cpu")


@functools.cache
def solved(name: str, case: str) -> dict[str, np.ndarray]:
    calls = built(name, case)
    assert calls.outputs is not None
    assert calls.gradients is not None
    return {"outputs": calls.outputs(), **calls.gradients()}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_brainhw_and_plain_jax_compute_the_same(case: str) -> None:
    found = agreement.compare(solved("brainhw", case), solved("jax", case))
    assert found["outputs"] <= (1e-5 if "w_out" in problem(case, "tiny").weights else 0.0)
    assert found["gradients"] < 1e-5
    assert found["mean_output"] > 1e-3
    assert all(np.any(g) for g in solved("jax", case).values())


def test_products_taken_out_of_the_scan_change_nothing() -> None:
    found = agreement.compare(solved("jax_ahead", "readout_h1v2"), solved("jax", "readout_h1v2"))
    assert max(found["outputs"], found["gradients"]) < 1e-5


@pytest.mark.parametrize("definition", [{"late": True}, {"reset": "zero"}])
def test_another_definition_of_the_neuron_is_told_apart(definition: dict[str, Any]) -> None:
    other = built("jax", "lif_rc", **definition).outputs
    assert other is not None
    ours = {"outputs": solved("brainhw", "lif_rc")["outputs"]}
    assert agreement.compare({"outputs": other()}, ours)["outputs"] > agreement.MOST_DIFFERING


@pytest.mark.slow
@pytest.mark.parametrize("name", ["brainhw", "jax", "products"])
def test_every_mode_is_measured(name: str) -> None:
    measurement = Measurement(built(name, "lif_ff"), ("forward", "both", "step"), repeats=2, seconds=0)
    measurement.warm_up()
    for _ in range(ROUNDS):
        measurement.run_round()
    records = measurement.records()
    assert [record["mode"] for record in records] == ["forward", "both", "step"]
    for record in records:
        assert 0 < record["min_ms"] <= record["q1_ms"] <= record["median_ms"] <= record["q3_ms"]
        assert record["device"].startswith("cpu")
    assert records[0]["temp_mib"] >= 0


def test_the_runner_keeps_failures_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise AssertionError("never called here")

    gone = Adapter("gone", ("no-such-distribution",), "pip install gone", {"lif_ff": Offer()}, fails)
    monkeypatch.setitem(ADAPTERS, "gone", gone)
    said: list[str] = []

    turns: list[str] = []

    class InThisProcess:
        """A worker without a process of its own."""

        def __init__(self, job: dict[str, Any], python: str, device: str) -> None:
            self.name, self.requests = job["adapter"], []
            self.answers = worker.do(job, iter(lambda: self.requests.pop() if self.requests else None, None))

        def next_answer(self) -> dict[str, Any]:
            return next(self.answers)

        def request_round(self) -> None:
            if self.name == "products":
                raise process.WorkerError("ValueError: a | broken library")
            turns.append(self.name)
            self.requests.append("round")
            self.next_answer()

        finish = next_answer

        def stop(self) -> None:
            pass

    monkeypatch.setattr(runner, "Worker", InThisProcess)
    monkeypatch.setattr(runner, "ask", lambda job, python: next(worker.do(job)))
    content = runner.run(
        cases=["lif_ff"],
        sizes=["tiny"],
        modes=["forward"],
        names=["gone", "products", "jax", "jax_ahead"],
        pythons={},
        repeats=2,
        seconds=0,
        device="cpu",
        save=tmp_path / "kept.json",
        say=said.append,
    )
    assert turns == ["jax", "jax_ahead"] * ROUNDS
    assert said[0].startswith("gone: not available (missing no-such-distribution); install it (pip install gone)")
    assert json.loads((tmp_path / "kept.json").read_text()) == json.loads(json.dumps(content))
    text = report.markdown(report.read([tmp_path / "kept.json"]))
    assert "- gone: not measured, missing no-such-distribution; to install: pip install gone" in text
    assert "| *floor: matrix products only* | failed: ValueError: a / broken library |" in text
    assert "| jax |" in text
    assert "took turns, in 5 rounds" in text
    assert "in all cases" not in text  # only the forward pass was measured


def test_a_worker_of_its_own_answers_with_one_line_and_names_its_error() -> None:
    found = process.ask({"do": "probe", "adapters": ["jax"]}, sys.executable)
    assert found["adapters"]["jax"]["available"]
    job = {
        "do": "time",
        "adapter": "jax",
        "case": "lif_ff",
        "size": "enormous",
        "modes": [],
        "repeats": 1,
        "seconds": 0,
    }
    with pytest.raises(process.WorkerError, match="KeyError: 'enormous'"):
        process.ask({**job, "repeats": 1, "seconds": 0, "device": "cpu"}, sys.executable)


def test_short_calls_are_repeated_before_and_while_they_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def call() -> None:
        nonlocal now
        now += 0.25

    monkeypatch.setattr(measure.time, "perf_counter", lambda: now)
    measurement = Measurement(Calls(call, call), ("forward",), repeats=15, seconds=2)
    measurement.warm_up()
    start = now
    measurement.run_round()
    # 2 s of calls that are not timed, then 2 s of timed ones, which are more than the 15 / 5 asked for
    assert now - start == 4
    assert measurement.runs["forward"][0].times_ms == [250.0] * 8


def test_a_worker_of_its_own_is_timed_in_rounds() -> None:
    job = {
        "do": "time",
        "adapter": "products",
        "case": "lif_ff",
        "size": "tiny",
        "modes": ["forward"],
        "repeats": 5,
        "seconds": 0,
    }
    ours = process.Worker({**job, "repeats": 5, "seconds": 0, "device": "cpu"}, sys.executable, "cpu")
    assert ours.next_answer() == {"ready": True}
    for _ in range(ROUNDS):
        ours.request_round()
    (found,) = ours.finish()["records"]
    assert found["repeats"] == ROUNDS
    assert ours.process.returncode is not None


def record(adapter: str, mode: str, size: str, ms: float) -> dict[str, Any]:
    times = {"median_ms": ms, "q1_ms": 0.9 * ms, "q3_ms": 1.2 * ms, "min_ms": 0.8 * ms, "repeats": 15}
    memory = {"compile_s": 0.25, "peak_mib": 30.0, "temp_mib": 1.5, "setting": "", "device": "cpu: cpu"}
    what = {"adapter": adapter, "case": "lif_ff", "size": size, "dims": "T=100", "mode": mode, "load": [0.5, 0, 0]}
    return {**what, **times, **memory}


@pytest.fixture
def content() -> dict[str, Any]:
    state = {"available": True, "python": "3.13.0", "install": "", "note": "a form", "versions": {"jax": "0.12"}}
    adapters = {name: {**state, "differs": {}} for name in ("brainhw", "products", "spyx")}
    adapters["spyx"]["differs"] = {"lif_ff": "spikes come later"}
    results = [
        record(name, mode, size, ms * (10 if mode == "both" else 1))
        for size in ("small", "medium")
        for name, ms in (("brainhw", 2.0), ("products", 0.5), ("spyx", 5.0))
        for mode in ("forward", "both")
    ]
    machine = {"cpu": "a processor", "cores": 2, "platform": "Linux"}
    return {"machine": machine, "settings": {"repeats": 15}, "adapters": adapters, "results": results}


def test_the_report_compares_with_brainhw_and_marks_other_definitions(content: dict[str, Any]) -> None:
    agreed = [{"case": "lif_ff", "adapter": "spyx", "outputs": 0.0, "gradients": 1e-7, "outputs_from_ours": 0.02}]
    text = report.markdown(content, [{**agreed[0], "differs": "spikes come later"}])
    assert "| **brainhw** | 2 [1.8-2.4] | 1.00 | 20 [18-24] | 1.00 | 0.25 / 0.25 | 30 (1.5) / 30 (1.5) |" in text
    assert "| spyx \\* | 5 [4.5-6] | 2.50 | 50 [45-60] | 2.50 |" in text
    assert "| *floor: matrix products only* | 0.5 [0.45-0.6] | 0.25 |" in text
    assert "\\* in lif_ff: spikes come later." in text
    assert "| lif_ff | spyx | 0.0e+00 | 1.0e-07 | 2.0e-02 | spikes come later |" in text


def test_a_file_of_something_else_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"report: .*other.json is not a result file of run"):
        report.read([tmp_path / "other.json"])


def test_the_figure_is_drawn(content: dict[str, Any], tmp_path: Path) -> None:
    figure.draw(content, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_a_library_that_fires_late_is_compared_with_its_own_definition() -> None:
    assert ADAPTERS["spyx"].offers["lif_ff"].definition == Definition(late=True, shift=1, detach=False)
    assert all(offer.differs for offer in ADAPTERS["spyx"].offers.values())
