"""Graphs and files that cannot be run are refused with every node and reason named."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import brainstate
import brainunit as u
import nir
import numpy as np
import pytest

import brainhw as bh
from brainhw.interop.nir import NIRError, from_nir, to_nir

DT = 1.0 * u.ms
TWO = np.ones(2)


@dataclass(eq=False)
class Resonator(nir.NIRNode):
    """A node that no version of NIR has."""

    def __post_init__(self) -> None:
        self.input_type, self.output_type = {"input": np.array([2])}, {"output": np.array([2])}


def lif(**changes) -> nir.LIF:
    arrays = {"tau": 0.02 * TWO, "r": TWO, "v_leak": 0 * TWO, "v_threshold": TWO, **changes}
    return nir.LIF(**arrays)


def ends(n_in: int = 2, n_out: int = 2) -> dict[str, nir.NIRNode]:
    given, gave = {"input": np.array([n_in])}, {"output": np.array([n_out])}
    return {"input": nir.Input(input_type=given), "output": nir.Output(output_type=gave)}


def chain(*between: nir.NIRNode, n_in: int = 2, n_out: int = 2) -> nir.NIRGraph:
    nodes = {f"n{i}": node for i, node in enumerate(between)}
    names = ["input", *nodes, "output"]
    return unchecked({**ends(n_in, n_out), **nodes}, list(itertools.pairwise(names)))


def unchecked(nodes: dict, edges: list) -> nir.NIRGraph:
    return nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)


def linear(n_out: int = 2, n_in: int = 2) -> nir.Linear:
    return nir.Linear(weight=np.ones((n_out, n_in)))


def changed(node: nir.NIRNode, **arrays: object) -> nir.NIRNode:
    for name, array in arrays.items():
        setattr(node, name, array)
    return node


def conv() -> nir.Conv2d:
    return nir.Conv2d((4, 4), np.full((1, 1, 3, 3), np.nan), 1, 0, 1, 1, np.zeros(1))


def inner_graph() -> nir.NIRGraph:
    return unchecked({**ends(), "b": lif()}, [("input", "b"), ("b", "output")])


def fork(name: str) -> list[tuple[str, str]]:
    return [("input", name), (name, "output")]


BACK = [("input", "a"), ("a", "w"), ("w", "a")]
LOOP = [("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")]
REFUSED = {
    "negative tau": (lambda: chain(lif(tau=-0.02 * TWO)), r"n0 \(LIF\) has a minimum tau of -0\.02 s"),
    "zero tau": (lambda: chain(lif(tau=0 * TWO)), r"n0 \(LIF\) has a minimum tau of 0 s"),
    "NaN tau": (lambda: chain(lif(tau=np.nan * TWO)), r"n0 \(LIF\) has NaN or infinite values in tau"),
    "infinite r": (lambda: chain(lif(r=np.inf * TWO)), r"n0 \(LIF\) has NaN or infinite values in r"),
    "NaN weight": (
        lambda: chain(nir.Linear(weight=np.full((2, 2), np.nan)), lif()),
        r"has NaN .* in weight",
    ),
    "threshold": (lambda: chain(lif(v_threshold=0 * TWO)), r"n0 \(LIF\) has a minimum v_threshold of 0"),
    "v_reset": (lambda: chain(lif(v_reset=-0.5 * TWO)), r"n0 \(LIF\) has a nonzero v_reset"),
    "no array": (lambda: chain(changed(lif(), tau=0.02)), r"n0 \(LIF\) has tau = 0\.02; it must be a numeric"),
    "shapes in a node": (lambda: chain(changed(lif(), r=np.ones(3))), r"n0 \(LIF\) has arrays of different shapes"),
    "no axis": (lambda: chain(nir.Scale(scale=np.zeros(0))), r"n0 \(Scale\) contains no array with a neuron axis"),
    "bias": (
        lambda: chain(changed(nir.Affine(weight=np.ones((2, 2)), bias=TWO), bias=np.ones(3)), lif()),
        r"n0 \(Affine\) has weight \(2, 2\), bias \(3,\)",
    ),
    "weight of three axes": (
        lambda: chain(nir.Linear(weight=np.ones((2, 2, 2)))),
        r"n0 \(Linear\) has a weight of sha",
    ),
    "shapes between nodes": (
        lambda: chain(linear(3, 2), lif()),
        r"the edge n0 -> n1 \(Linear -> LIF\) connects output shape \(3,\) to input shape \(2,\)",
    ),
    "negative delay": (lambda: chain(nir.Delay(delay=-TWO)), r"n0 \(Delay\) has a minimum delay of -1 s"),
    "part of a step": (
        lambda: chain(nir.Delay(delay=0.0015 * TWO)),
        r"n0 \(Delay\) has a delay of 0\.0015 s, which is",
    ),
    "unknown node": (lambda: chain(Resonator()), r"n0 \(Resonator\) is of an unknown node class"),
    "no input": (
        lambda: unchecked({"output": ends()["output"], "a": lif()}, [("a", "output")]),
        r"the graph \(NIRGraph\) has 0 Input nodes",
    ),
    "no output": (
        lambda: unchecked({"input": ends()["input"], "a": lif()}, [("input", "a")]),
        r"the graph \(NIRGraph\) has 0 Output nodes",
    ),
    "two inputs": (
        lambda: unchecked(
            {**ends(), "more": ends()["input"], "a": lif()}, [("input", "a"), ("more", "a"), ("a", "output")]
        ),
        r"the graph \(NIRGraph\) has 2 Input nodes \(input, more\)",
    ),
    "dangling edge": (
        lambda: unchecked({**ends(), "a": lif()}, [("input", "a"), ("a", "output"), ("a", "gone")]),
        r"the edge a -> gone \(dangling\) names gone, which is not in the graph",
    ),
    "the same edge twice": (
        lambda: unchecked({**ends(), "a": lif()}, [("input", "a"), ("a", "output"), ("input", "a")]),
        r"the edge input -> a \(duplicate\)",
    ),
    "a node alone": (
        lambda: unchecked({**ends(), "a": lif(), "b": lif()}, [*fork("a"), ("b", "output")]),
        r"b \(LIF\) has no input edge",
    ),
    "a cycle that never fires": (
        lambda: unchecked({**ends(), "a": linear(), "b": linear()}, LOOP),
        r"the cycle a, b \(feedback\) has no firing neuron",
    ),
    "a cycle of integrators": (
        lambda: unchecked({**ends(), "a": nir.LI(tau=TWO, r=TWO, v_leak=TWO), "b": linear()}, LOOP),
        r"the cycle a, b \(feedback\) has no firing neuron",
    ),
    "a cycle of two populations": (
        lambda: unchecked({**ends(), "a": lif(), "b": lif()}, LOOP),
        r"the cycle a, b \(feedback\) has more than one firing layer \(a, b\)",
    ),
    "a matrix of a cycle that also feeds the output": (
        lambda: unchecked({**ends(), "a": lif(), "w": linear()}, [*BACK, ("a", "output"), ("w", "output")]),
        r"w \(Linear\) is part of the cycle a, w and feeds output outside of it.*from a copy of w that a feeds",
    ),
    "a name with a dot that is a path": (
        lambda: unchecked({**ends(), "a": inner_graph(), "a.b": lif()}, [*fork("a"), *fork("a.b")]),
        r"a\.b \(LIF\) has the same path as a node of a nested graph",
    ),
    "Flatten": (
        lambda: chain(
            changed(nir.Flatten({"input": np.array([2])}, 0), output_type={"output": np.array([3])}), n_out=3
        ),
        r"n0 \(Flatten\) has output shape \(3,\) for input shape \(2,\)",
    ),
    "a cycle beside the neuron": (
        lambda: unchecked({**ends(), "a": linear(), "b": lif(), "c": linear()}, [*LOOP, ("a", "c"), ("c", "a")]),
        r"the cycle .* \(feedback\) bypasses the firing neuron",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_graph_that_cannot_be_run_is_refused_by_name(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(NIRError, match=words) as refusal:
        from_nir(make(), dt=DT)
    assert str(refusal.value).startswith("from_nir:")


def test_a_fault_of_an_edge_or_an_end_brings_no_false_line_after_it() -> None:
    lone = {**ends(), "a": lif(), "b": lif()}
    for nodes, edges, words in (
        (lone, [*fork("a"), ("b", "gone"), ("input", "b")], "names gone, which is not in the graph"),
        (lone, [*fork("a"), ("gone", "b"), ("b", "output")], "names gone, which is not in the graph"),
        (
            {**ends(), "more": ends()["output"], "a": lif()},
            [*fork("a"), ("a", "more")],
            "has 2 Output nodes (output, more); brainhw requires exactly one: keep one Output",
        ),
        (
            {**ends(), "more": ends()["input"], "a": lif()},
            [*fork("a"), ("more", "a")],
            "has 2 Input nodes (input, more); brainhw requires exactly one: keep one Input",
        ),
        ({"output": ends()["output"], "a": lif()}, [("a", "output")], "has 0 Input nodes"),
    ):
        with pytest.raises(NIRError) as refusal:
            from_nir(unchecked(nodes, edges), dt=DT)
        assert len(refusal.value.problems) == 1, refusal.value.problems
        assert words in refusal.value.problems[0]


def test_a_node_without_edges_is_left_out_with_a_warning() -> None:
    graph = unchecked({**ends(), "a": lif(), "b": lif()}, fork("a"))
    with pytest.warns(UserWarning, match="from_nir: b: nodes without edges are ignored"):
        net = from_nir(graph, dt=DT)
    assert not hasattr(net, "b")


def test_all_problems_of_a_graph_are_told_at_once() -> None:
    graph = chain(conv(), lif(tau=-TWO), Resonator(), lif(v_threshold=-TWO))
    with pytest.raises(NIRError, match="problems:") as refusal:
        from_nir(graph, dt=DT)
    told = " ".join(refusal.value.problems)
    assert all(f"{name} (" in told for name in ("n0", "n1", "n2", "n3"))


def test_a_problem_in_a_graph_inside_a_graph_is_named_with_its_path() -> None:
    inner = unchecked({**ends(), "cell": lif(tau=-TWO)}, [("input", "cell"), ("cell", "output")])
    with pytest.raises(NIRError, match=r"n0\.cell \(LIF\) has a minimum tau of -1 s"):
        from_nir(chain(inner), dt=DT)


def test_a_time_constant_that_euler_or_float32_cannot_step_is_named() -> None:
    with pytest.raises(NIRError, match=r"n0 \(LIF\) has a minimum tau of 0\.02 s, which must be longer than dt"):
        from_nir(chain(lif()), dt=20.0 * u.ms, discretisation="euler")
    with pytest.raises(NIRError, match=r"n0 \(LIF\) has a time constant so long that its decay factor"):
        from_nir(chain(lif(tau=1e9 * TWO)), dt=DT)


def test_a_file_that_is_cut_off_no_file_or_none_of_nir_is_one_clear_error(tmp_path) -> None:
    path = tmp_path / "net.nir"
    nir.write(path, chain(linear(), lif()))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no HDF5"):
        path.write_bytes(content)
        with pytest.raises(NIRError, match=r"net\.nir' is not a valid NIR file \(OSError"):
            from_nir(path, dt=DT)
    with pytest.raises(NIRError, match=r"the NIR file '.*gone\.nir' does not exist"):
        from_nir(str(tmp_path / "gone.nir"), dt=DT)


def test_a_file_with_an_array_or_a_node_type_gone_is_one_clear_error(tmp_path) -> None:
    import h5py

    path = tmp_path / "net.nir"
    for spoil in ("node/nodes/n1/tau", "node/nodes/n1/type", "node/edges", "node"):
        nir.write(path, chain(linear(), lif()))
        with h5py.File(path, "a") as file:
            del file[spoil]
        with pytest.raises(NIRError, match=r"net\.nir' is not a valid NIR file"):
            from_nir(path, dt=DT)


def test_a_bad_argument_is_named() -> None:
    graph = chain(linear(), lif())
    with pytest.raises(TypeError, match="from_nir: dt must have the dimension of ms"):
        from_nir(graph, dt=1.0 * u.mV)
    with pytest.raises(ValueError, match="from_nir: reset must be one of 'zero', 'subtract'"):
        from_nir(graph, dt=DT, reset="none")
    with pytest.raises(ValueError, match="from_nir: discretisation must be one of"):
        from_nir(graph, dt=DT, discretisation="heun")
    with pytest.raises(TypeError, match=r"from_nir: graph must be a nir\.NIRGraph or the path"):
        from_nir(lif(), dt=DT)


def test_metadata_that_cannot_be_are_refused_and_foreign_ones_ignored() -> None:
    for notes, words in (
        (
            {"millivolts_per_unit": "many"},
            r"has millivolts_per_unit = 'many', expected a positive number; pass voltage_unit",
        ),
        ({"dt_s": -1.0}, r"has dt_s = -1\.0"),
        ({"discretisation": "heun"}, r"has discretisation = 'heun'; pass discretisation='exact'"),
    ):
        graph = chain(linear(), lif())
        graph.metadata = {"brainhw": notes}
        with pytest.raises(NIRError, match=words):
            from_nir(graph, dt=DT)
    graph.metadata = {"brainhw": "text", "other": {"dt_s": -1.0}}
    assert from_nir(graph, dt=DT).millivolts == 1.0


def test_another_time_step_than_the_graph_was_written_for_warns() -> None:
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(2, 2), bh.nn.LIFLayer(2, tau=10.0 * u.ms, reset="zero"))
    with pytest.warns(UserWarning, match=r"written for dt = 1 ms and is read for 2 ms"):
        from_nir(to_nir(net, dt=DT), dt=2.0 * u.ms)


def test_a_net_runs_only_with_the_time_step_and_the_input_that_it_was_read_for() -> None:
    net = from_nir(chain(linear(), lif()), dt=2.0 * u.ms)
    with pytest.raises(RuntimeError, match=r"the graph was read for dt = 2 ms, but brainstate\.environ has dt = 1 ms"):
        net(np.ones(2, np.float32))
    with brainstate.environ.context(dt=2.0 * u.ms):
        with pytest.raises(ValueError, match=r"NIRNet\.update: the last axis of the input must have length 2"):
            net(np.ones(3, np.float32))
        with pytest.raises(TypeError, match=r"NIRNet\.update: the input must be plain numbers"):
            net(np.ones(2, np.float32) * u.mV)
