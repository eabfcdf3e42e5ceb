"""Names that clash, voltages as inputs, ratios as units, readouts that nothing uses: none changes what a net gives."""

from __future__ import annotations

import brainstate
import brainunit as u
import nir
import numpy as np
import pytest

import brainhw as bh
from brainhw.interop.nir import from_nir, to_nir

DT = 1.0 * u.ms
TWO = np.ones(2)
XS = np.ones((8, 2), np.float32)


def graph_of(nodes: dict, edges: list) -> nir.NIRGraph:
    ends = {"input": nir.Input({"input": np.array([2])}), "output": nir.Output({"output": np.array([2])})}
    return nir.NIRGraph({**ends, **nodes}, edges)


def lif(threshold: float = 0.05) -> nir.LIF:
    return nir.LIF(tau=0.01 * TWO, r=TWO, v_leak=0 * TWO, v_threshold=threshold * TWO)


def outputs(graph: nir.NIRGraph) -> np.ndarray:
    return np.asarray(bh.rollout(from_nir(graph, dt=DT), XS)[0])


@pytest.mark.parametrize("clashing", ["m.in", "m.current"])
def test_a_node_may_have_the_name_that_a_part_of_another_would_have(clashing: str) -> None:
    cuba = nir.CubaLI(tau_mem=0.01 * TWO, tau_syn=0.005 * TWO, r=TWO, v_leak=0 * TWO, w_in=TWO)
    given = []
    for name in (clashing, "gain"):
        nodes = {name: nir.Scale(3 * TWO), "m": lif() if clashing == "m.in" else cuba, "sum": nir.Scale(TWO)}
        edges = [("input", name), (name, "m"), (name, "sum"), ("m", "sum"), ("sum", "output")]
        given.append(outputs(graph_of(nodes, edges)))
    np.testing.assert_array_equal(*given)
    assert given[0].sum() > 3 * XS.sum()


@pytest.mark.parametrize(
    "name", ["", "update", "prepare", "init_state", "_in_size", "in_size", "takes", "chip", "pin_chip"]
)
def test_a_node_may_have_any_name(name: str) -> None:
    # The input is read once more after that node.
    edges = [("input", name), (name, "s"), ("input", "s"), ("s", "output")]
    ys = outputs(graph_of({name: lif(), "s": nir.Scale(TWO)}, edges))
    np.testing.assert_array_equal(ys, 2 * XS)


def test_a_delay_in_a_cycle_adds_to_the_one_step_of_the_cycle() -> None:
    edges = [("input", "a"), ("a", "d"), ("d", "w"), ("w", "a"), ("a", "output")]
    nodes = {"a": lif(), "w": nir.Linear(-50 * np.eye(2)), "d": nir.Delay(1e-3 * TWO)}
    delayed = outputs(graph_of(nodes, edges))[:, 0]
    del nodes["d"]
    plain = outputs(graph_of(nodes, [("input", "a"), ("a", "w"), ("w", "a"), ("a", "output")]))[:, 0]
    np.testing.assert_array_equal(plain[:3], [1, 0, 0])
    np.testing.assert_array_equal(delayed[:3], [1, 1, 0])


def test_one_in_the_graph_is_the_voltage_unit_for_an_input_in_volts_too() -> None:
    layer = bh.nn.LIFLayer(2, tau=10.0 * u.ms, reset="zero")
    linear = brainstate.nn.Linear((2,), (2,), w_init=np.eye(2, dtype=np.float32), b_init=None)
    xs = 0.4 * XS * u.mV
    expected = bh.rollout(layer, xs)[0]
    assert 0 < expected.sum() < expected.size
    for net in (layer, brainstate.nn.Sequential(linear, layer)):
        graph = to_nir(net, dt=DT, sample=xs, voltage_unit=u.volt)
        back = from_nir(graph, dt=DT)
        np.testing.assert_array_equal(bh.rollout(back, xs.to(u.volt).mantissa)[0], expected)


def test_weights_in_a_ratio_of_units_are_plain_numbers() -> None:
    ones = np.ones((2, 2), np.float32)

    def linear(unit: u.Unit) -> brainstate.nn.Linear:
        return brainstate.nn.Linear((2,), (2,), w_init=u.Quantity(ones, unit=unit), b_init=None)

    # A volt in the denominator makes a thousandth of the number: 2 mV/V, and 4 mV/V after two matrices of ones.
    for net, expected in (
        (linear(u.mV / u.volt), 2e-3),
        (brainstate.nn.Sequential(linear(u.mV), linear(u.UNITLESS / u.volt)), 4e-3),
    ):
        np.testing.assert_allclose(outputs(to_nir(net, dt=DT))[0], [expected] * 2, rtol=1e-6)


class Auxiliary(brainstate.nn.Module):
    """A readout that is returned, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.syn, self.aux = bh.nn.LIFSynapse(2, 2), bh.nn.LIFLayer(2, tau=10.0 * u.ms, reset="subtract")
        self.out = bh.nn.LIFLayer(2, tau=10.0 * u.ms, reset="zero")

    def update(self, x):
        drive = self.syn(x)
        self.aux(drive)
        return self.out(drive)


def test_what_the_output_does_not_depend_on_is_left_out() -> None:
    net = Auxiliary()
    graph = to_nir(net, dt=DT)
    assert list(graph.nodes) == ["input", "syn", "out", "output"]
    np.testing.assert_array_equal(outputs(graph), bh.rollout(net, XS)[0])
