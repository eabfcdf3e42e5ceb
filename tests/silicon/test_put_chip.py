"""A measured chip in place: the right number at the right neuron, and spikes that follow it everywhere."""

import copy

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from silicon_chips import TAUS, firing_net, inputs, measured

import brainhw as bh
from brainhw.silicon import MeasuredChip, put_chip

both = pytest.mark.parametrize("family", ["H1v1", "H1v2"])


@pytest.fixture(autouse=True)
def one_ms():
    with brainstate.environ.context(dt=1.0 * u.ms):
        yield


def spikes(net, xs=None, **given):
    return np.asarray(bh.rollout(net, inputs() if xs is None else xs, **given)[0])


def chip_states(net):
    return {
        path: state
        for path, state in net.states(brainstate.LongTermState).items()
        if not isinstance(state, brainstate.ParamState)
    }


def descend(net):
    weights = net.states(brainstate.ParamState)
    grads = brainstate.transform.grad(lambda: jnp.mean(bh.rollout(net, inputs())[0]), weights)()
    for path, state in weights.items():
        state.value = state.value - 0.5 * grads[path]


@both
def test_each_neuron_has_the_numbers_of_its_place(family):
    net, chip = firing_net(family), measured(family)
    placement = bh.deploy.place(net)
    assert placement.split  # so that a layer lies on two cores
    put_chip(net, chip)
    starts = np.concatenate([[0], np.cumsum(chip.spec.cores)])
    seen = 0
    for piece in placement.pieces:
        layer = net.layers[int(piece.layer.split(".")[1])]
        for k in range(piece.count):
            physical, neuron = starts[piece.core] + piece.offset + k, piece.first + k
            # 10 ms, 20 and 50 ms in turn, 20 ms
            setting = {"layers.1": 3, "layers.3": 4 if neuron % 2 else 5, "layers.5": 4}[piece.layer]
            tau, V_th = chip.tau.mantissa[setting, physical], chip.V_th.mantissa[physical]
            tau, V_th = (TAUS[setting] if np.isnan(tau) else tau), (93.0 if np.isnan(V_th) else V_th)
            assert layer.pinned_tau.value.mantissa[neuron] == np.float32(tau)
            assert layer.pinned_V_th.value.mantissa[neuron] == np.float32(V_th)
            seen += 1
    assert seen == 156


@both
def test_the_spikes_are_those_of_a_net_that_was_built_of_these_numbers(family):
    net, chip = firing_net(family), measured(family)
    before = spikes(net)
    put_chip(net, chip)
    after = spikes(net)
    assert after.sum() > 50
    assert not np.array_equal(before, after)
    # The same numbers by hand: a net built on the spec, with the values assigned.
    other = firing_net(family)
    kinds, built = bh.chip.get_family(family).modules, []
    for module in other.layers:
        weight = getattr(module, "weight", None)
        if isinstance(module, kinds["frontend"]):
            built.append(kinds["frontend"](chip=chip.spec, weight_init=weight.value, weight_bits="chip"))
        elif weight is not None:
            built.append(
                kinds["synapse"](*weight.value.shape, chip=chip.spec, weight_init=weight.value, weight_bits="chip")
            )
        else:
            recurrent = {}
            if module.topology == "RC":
                recurrent = {"topology": "RC", "recurrent_init": module.recurrent_weight.value, "weight_bits": "chip"}
            layer = kinds["layer"](module.in_size[0], TAUS[module.profiles] * u.ms, chip=chip.spec, **recurrent)
            at = net.layers[len(built)]
            layer.pinned_tau.value, layer.pinned_V_th.value = at.pinned_tau.value, at.pinned_V_th.value
            built.append(layer)
    np.testing.assert_array_equal(spikes(brainstate.nn.Sequential(*built)), after)


@both
def test_a_deep_copy_runs_as_its_original_and_keeps_what_is_known(family):
    net = firing_net(family)
    put_chip(net, measured(family))
    copied = copy.deepcopy(net)
    np.testing.assert_array_equal(spikes(copied), spikes(net))
    assert bh.deploy.place(copied) == bh.deploy.place(net)
    for one, other in zip(net.layers, copied.layers, strict=True):
        if hasattr(one, "known"):
            assert set(one.known) == set(other.known) == {"tau", "V_th"}


@pytest.mark.parametrize("inside", [False, True])
def test_a_function_compiled_before_runs_on_the_new_chip(inside):
    net, chips = firing_net(), [measured(), measured(seed=1)]
    traces = []

    @brainstate.transform.jit
    def compiled(xs):
        traces.append(1)
        return bh.rollout(net, xs, prepare=inside)[0]

    bh.prepare_net(net, 3)
    first = np.asarray(compiled(inputs()))
    for chip in (*chips, chips[0]):
        put_chip(net, chip)
        bh.prepare_net(net, 3)
        right = spikes(net)
        bh.prepare_net(net, 3)
        np.testing.assert_array_equal(compiled(inputs()), right)
        bh.prepare_net(net, 3)
        np.testing.assert_array_equal(compiled(inputs()), right)
        assert not np.array_equal(right, first)
    assert len(traces) == 4


def test_a_training_step_compiled_before_has_the_gradients_of_the_new_chip():
    net = firing_net("H1v2")
    weights = net.states(brainstate.ParamState)

    def loss():
        return jnp.sum(bh.rollout(net, inputs())[0].mean(0) ** 2)

    step = brainstate.transform.jit(brainstate.transform.grad(loss, weights))
    step()
    put_chip(net, measured("H1v2"))
    again = brainstate.transform.jit(brainstate.transform.grad(loss, weights))()
    for one, other in zip(jax.tree.leaves(step()), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@both
def test_training_keeps_the_chip(family):
    net, chip = firing_net(family), measured(family)
    put_chip(net, chip)
    held = {path: np.asarray(u.get_mantissa(state.value)) for path, state in chip_states(net).items()}
    descend(net)
    for path, state in chip_states(net).items():
        np.testing.assert_array_equal(u.get_mantissa(state.value), held[path])
    assert net.layers[0].chip == chip.spec
    # A net with these weights, on which the chip is put afterwards, is the same.
    other = firing_net(family)
    for path, state in other.states(brainstate.ParamState).items():
        state.value = net.states(brainstate.ParamState)[path].value
    put_chip(other, chip)
    np.testing.assert_array_equal(spikes(other), spikes(net))


def test_another_chip_replaces_the_first_wholly():
    net = firing_net()
    put_chip(net, measured())
    put_chip(net, measured(seed=1))
    other = firing_net()
    put_chip(other, measured(seed=1))
    np.testing.assert_array_equal(spikes(net), spikes(other))


def test_a_placement_may_be_given_and_is_kept():
    net = firing_net()
    pieces = bh.deploy.place(net).pieces
    elsewhere = (
        *(piece for piece in pieces if piece.layer == "layers.1"),
        bh.deploy.Piece("layers.3", 0, 30, 3, 20, "RC"),
        bh.deploy.Piece("layers.5", 0, 59, 1, 5),
        bh.deploy.Piece("layers.5", 59, 51, 2, 1),
    )
    other = bh.deploy.Placement(bh.chip.H1V1, elsewhere)
    put_chip(net, measured(), other)
    assert bh.deploy.place(net).pieces == other.pieces
    np.testing.assert_array_equal(net.layers[3].physical, 192 + 20 + np.arange(30))
    put_chip(net, measured(seed=1))
    assert bh.deploy.place(net).pieces == other.pieces


def test_what_does_not_fit_is_refused_and_changes_nothing():
    net = firing_net()
    before = spikes(net)
    chip = measured()

    def other(**fields):
        return MeasuredChip(chip.spec.replace(**fields), chip.tau, chip.V_th)

    bad = [
        (measured("H1v2"), None, ValueError, "put_chip: measured has family = H1v2"),
        (other(weight_limit=0.8), None, ValueError, "put_chip: measured has weight_limit = 0.8"),
        (other(weight_bits=4), None, ValueError, "put_chip: measured has weight_bits = 4"),
        (other(reset="subtract"), None, ValueError, "put_chip: measured has reset = subtract"),
        (chip.spec, None, TypeError, "put_chip: measured must be"),
        (chip, "here", TypeError, "put_chip: placement must be"),
        (chip, bh.deploy.Placement(bh.chip.H1V1, ()), ValueError, "put_chip: placement is for the layers"),
    ]
    profiles = chip.spec.replace(tau_profiles=bh.chip.TauProfiles(TAUS[:7] * u.ms))
    bad.append((MeasuredChip(profiles, chip.tau[:7], chip.V_th), None, ValueError, "measured has 7 leak settings"))
    for measurement, placement, error, match in bad:
        with pytest.raises(error, match=match):
            put_chip(net, measurement, placement)
    np.testing.assert_array_equal(spikes(net), before)
    assert net.layers[0].chip == bh.chip.H1V1
    with pytest.raises(ValueError, match="put_chip: the network has no module on a chip"):
        put_chip(bh.nn.LIFLayer(3, tau=10 * u.ms), chip)


def test_a_failure_half_way_leaves_the_net_as_it_was(monkeypatch):
    net = firing_net()
    before, marks = spikes(net), [getattr(node, "chip_version", None) for node in net.nodes().values()]

    def fails(chip):
        raise RuntimeError("broken")

    monkeypatch.setattr(net.layers[5], "take_chip", fails)
    with pytest.raises(RuntimeError, match="broken"):
        put_chip(net, measured())
    monkeypatch.undo()
    np.testing.assert_array_equal(spikes(net), before)
    assert [getattr(node, "chip_version", None) for node in net.nodes().values()] == marks
    assert net.layers[0].effective.chip == bh.chip.H1V1


@pytest.mark.slow
def test_robustness_keeps_what_is_known_and_samples_the_rest():
    net, xs = firing_net(), inputs(n_steps=20)
    put_chip(net, measured())
    right = spikes(net, xs)
    held = [
        (np.asarray(layer.pinned_tau.value.mantissa), np.asarray(layer.pinned_V_th.value.mantissa), layer.known)
        for layer in net.layers[1::2]
    ]

    def moved(net):
        """A thousand times the known values that a chip changes, and the unknown time constants that it changes."""
        bh.rollout(net, xs)
        known_moved = unknown_moved = 0
        for (tau, V_th, known), layer in zip(held, net.layers[1::2], strict=True):
            of_tau, of_V_th = layer.chip_tau.value.mantissa != tau, layer.chip_V_th.value.mantissa != V_th
            known_moved += jnp.sum(of_tau & known["tau"]) + jnp.sum(of_V_th & known["V_th"])
            unknown_moved += jnp.sum(of_tau & ~known["tau"])
        return 1000 * known_moved + unknown_moved

    unknown = sum(int((~known["tau"]).sum()) for _, _, known in held)
    report = bh.deploy.robustness(net, moved, 4, key=0, pbar=False, threshold=0.1)
    assert report.scores.tolist() == [unknown] * 4
    assert report.in_place == 0
    assert report.nominal >= 1000  # the mean chip knows nothing
    # The net is as it was.
    np.testing.assert_array_equal(spikes(net, xs), right)


@pytest.mark.slow
def test_robustness_scores_each_chip_as_it_is_alone_and_the_mean_chip_as_nominal():
    net, xs = firing_net("H1v2"), inputs(n_steps=20)
    put_chip(net, measured("H1v2"))
    count = lambda net: bh.rollout(net, xs)[0].sum()  # noqa: E731
    report = bh.deploy.robustness(net, count, 3, key=7, pbar=False)
    assert report.in_place == count(net)
    assert len({*report.scores, report.in_place, report.nominal}) > 3
    other = firing_net("H1v2")
    put_chip(other, measured("H1v2"))
    alone = brainstate.transform.jit(lambda: count(other))
    for key, score in zip(report.keys, report.scores, strict=True):
        bh.sample_chip(other, key)
        assert alone() == score
    bh.nominal_chip(net)
    assert count(net) == report.nominal


def test_a_stream_takes_the_new_chip_up_when_it_is_reset():
    net, chip, xs = firing_net(), measured(), np.asarray(inputs(n_steps=15))
    step = bh.stream(net, batch_size=3)
    before = np.stack([step(x) for x in xs])
    put_chip(net, chip)
    step.reset()
    after = np.stack([step(x) for x in xs])
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, spikes(net, xs))


def test_rounding_to_other_bits_is_not_forgotten_by_a_compiled_function():
    net = firing_net()
    compiled = brainstate.transform.jit(lambda: bh.rollout(net, inputs())[0])
    compiled()
    bh.deploy.set_weight_bits(net, 3)
    np.testing.assert_array_equal(compiled(), spikes(net))


def test_fluct_init_leaves_the_chip_in_place():
    net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(16, 30, weight_bits="chip"), bh.nn.H1v2Layer(30, tau=20 * u.ms))
    put_chip(net, measured("H1v2"))
    layer = net.layers[1]
    before = np.asarray(layer.pinned_tau.value.mantissa), layer.known, layer.physical
    xs = jnp.asarray(np.random.default_rng(0).random((50, 4, 16)) < 0.2, jnp.float32)
    bh.fluct_report(net, [np.moveaxis(xs, 0, 1)])
    assert layer.known is before[1]
    assert layer.physical is before[2]
    np.testing.assert_array_equal(layer.pinned_tau.value.mantissa, before[0])
