"""A measured chip in a bundle: values, marks of what was measured, spec and place come back to the bit."""

import json

import brainstate
import brainunit as u
import numpy as np
import pytest
from silicon_chips import firing_net, inputs, measured

import brainhw as bh
from brainhw._plain_json import text_of
from brainhw.deploy.bundle import BundleError, write_plain
from brainhw.silicon import put_chip

Piece = bh.deploy.Piece
ELSEWHERE = (
    Piece("layers.1", 0, 16, 0, 0, "frontend"),
    Piece("layers.5", 0, 59, 1, 5),
    Piece("layers.5", 59, 51, 2, 1),
    Piece("layers.3", 0, 30, 3, 20, "RC"),
)
both = pytest.mark.parametrize("family", ["H1v1", "H1v2"])


@pytest.fixture(autouse=True)
def one_ms():
    with brainstate.environ.context(dt=1.0 * u.ms):
        yield


def spikes(net):
    return np.asarray(bh.rollout(net, inputs())[0])


def on_chip(family="H1v1", placement=None):
    net = firing_net(family)
    put_chip(net, measured(family), placement)
    return net


def reloaded(net, folder):
    bh.deploy.export_bundle(net, folder / "net.bundle")
    return bh.deploy.load_bundle(folder / "net.bundle")


def chip_of(net):
    """All numbers of the chip in place, what is known of it, and where."""
    nodes = {".".join(map(str, path)): node for path, node in net.nodes().items() if hasattr(node, "known")}
    return {
        path: (
            np.asarray(node.pinned_tau.value.mantissa).tolist(),
            np.asarray(node.pinned_V_th.value.mantissa).tolist(),
            {name: mask.tolist() for name, mask in sorted(node.known.items())},
            None if node.physical is None else node.physical.tolist(),
        )
        for path, node in nodes.items()
    }


@both
def test_every_spike_value_mark_and_place_comes_back(family, tmp_path):
    net = on_chip(family)
    loaded = reloaded(net, tmp_path)
    assert spikes(net).sum() > 500
    np.testing.assert_array_equal(spikes(loaded), spikes(net))
    assert chip_of(loaded) == chip_of(net)
    assert loaded.chip == measured(family).spec
    assert loaded.placement == bh.deploy.place(loaded) == bh.deploy.place(net)
    bh.deploy.export_bundle(loaded, tmp_path / "again.bundle")
    assert (tmp_path / "again.bundle").read_bytes() == (tmp_path / "net.bundle").read_bytes()


@both
def test_sampled_chips_are_the_same_after_loading(family, tmp_path):
    net = on_chip(family)
    loaded = reloaded(net, tmp_path)
    for one in (net, loaded):
        bh.sample_chip(one, 5)
    assert chip_of(loaded) == chip_of(net)
    # The sampled chip goes into a bundle too, with what is known of it.
    again = reloaded(net, tmp_path)
    assert chip_of(again) == chip_of(net)
    np.testing.assert_array_equal(spikes(again), spikes(net))


def test_a_place_of_ones_own_comes_back(tmp_path):
    net = on_chip(placement=bh.deploy.Placement(bh.chip.H1V1, ELSEWHERE))
    loaded = reloaded(net, tmp_path)
    assert loaded.placement.pieces == bh.deploy.place(net).pieces == ELSEWHERE
    assert chip_of(loaded) == chip_of(net)


def test_the_nominal_chip_is_the_mean_of_the_spec_and_knows_nothing(tmp_path):
    net = on_chip()
    loaded = reloaded(net, tmp_path)
    bh.nominal_chip(loaded)
    bh.deploy.export_bundle(loaded, tmp_path / "nominal.bundle")
    text = (tmp_path / "nominal.bundle").read_text()
    assert '"known"' not in text
    assert '"in_place"' not in text
    nominal = bh.deploy.load_bundle(tmp_path / "nominal.bundle")
    assert nominal.chip == measured().spec
    assert not np.array_equal(spikes(nominal), spikes(net))
    bh.nominal_chip(net)
    np.testing.assert_array_equal(spikes(nominal), spikes(net))


def test_a_chip_put_into_a_loaded_net_is_that_of_its_next_bundle(tmp_path):
    loaded = reloaded(firing_net(), tmp_path)
    put_chip(loaded, measured())
    assert loaded.chip == loaded.placement.chip == measured().spec
    right = spikes(loaded)
    np.testing.assert_array_equal(right, spikes(on_chip()))
    again = reloaded(loaded, tmp_path)
    np.testing.assert_array_equal(spikes(again), right)
    assert chip_of(again) == chip_of(loaded)


def test_values_that_equal_the_mean_are_known_all_the_same(tmp_path):
    net, chip = firing_net(), measured()
    spec = chip.spec
    tau = np.broadcast_to(spec.tau_profiles.values.mantissa[:, None], (8, 256))
    put_chip(net, bh.silicon.MeasuredChip(spec, tau * u.ms, np.full(256, 93.0) * u.mV))
    loaded = reloaded(net, tmp_path)
    assert chip_of(loaded) == chip_of(net)
    assert all(mask for _, _, known, _ in chip_of(loaded).values() for mask in known.values())
    bh.sample_chip(loaded, 1)
    assert chip_of(loaded) == chip_of(net)


def test_a_program_holds_the_chip_in_place(tmp_path):
    net = on_chip()
    program = bh.silicon.ChipProgram.of(net)
    np.testing.assert_array_equal(program.physical("layers.5"), net.layers[5].physical)
    program.save(tmp_path / "program")
    again = bh.silicon.ChipProgram.load(tmp_path / "program")
    np.testing.assert_array_equal(spikes(again.to_net()), spikes(net))
    assert chip_of(again.to_net()) == chip_of(net)
    # Another place than that of the values would put them at other neurons.
    elsewhere = bh.deploy.Placement(bh.chip.H1V1, ELSEWHERE)
    with pytest.raises(ValueError, match=r"ChipProgram\.of: placement differs from the placement of the measured chip"):
        bh.silicon.ChipProgram.of(net, elsewhere)
    put_chip(net, measured(), elsewhere)
    assert bh.silicon.ChipProgram.of(net, elsewhere).placement.pieces == ELSEWHERE


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda entry: entry.update(known=[]), "known must be a list of booleans"),
        (lambda entry: entry.update(known=[1] * 30), "known must be a list of booleans"),
        (lambda entry: entry.update(known="all"), "known must be a list of booleans"),
        (lambda entry: entry.update(known=[False] * 30), "known must contain at least one true"),
        (lambda entry: entry["known"].pop(), r"tau must have shape \(30,\); got shape \(29,\)"),
        (lambda entry: entry.update(measured=True), "must be a mapping with the keys unit and values"),
    ],
)
def test_bad_marks_are_refused(change, match, tmp_path):
    bh.deploy.export_bundle(on_chip(), tmp_path / "net.bundle")
    data = json.loads((tmp_path / "net.bundle").read_bytes().partition(b"\n")[2])
    change(data["in_place"]["layers.3"]["tau"])
    write_plain(tmp_path / "net.bundle", data, call="test")
    assert text_of(data)
    with pytest.raises(BundleError, match=match):
        bh.deploy.load_bundle(tmp_path / "net.bundle")


def test_marks_at_the_charges_of_a_synapse_are_refused(tmp_path):
    bh.deploy.export_bundle(on_chip(), tmp_path / "net.bundle")
    data = json.loads((tmp_path / "net.bundle").read_bytes().partition(b"\n")[2])
    data["in_place"]["layers.2"]["mismatch"]["known"] = [True]
    write_plain(tmp_path / "net.bundle", data, call="test")
    with pytest.raises(BundleError, match=r"'layers\.2' must be a layer that can store measured"):
        bh.deploy.load_bundle(tmp_path / "net.bundle")
