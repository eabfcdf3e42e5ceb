"""The report finds every violation that is there, no other, and says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from deploy_nets import MODULES, Chain, clean
from hypothesis import given, settings
from hypothesis import strategies as st

import brainhw as bh
from brainhw.deploy.rules import RULES

SIZES = [4, 6, 11]


def found(net: brainstate.nn.Module) -> set[tuple[str, str]]:
    report = bh.deploy.check_deployable(net)
    pairs = [(violation.rule, violation.path) for violation in report.violations]
    assert len(pairs) == len(set(pairs))
    assert report.ok == (not pairs)
    return set(pairs)


def weight_of(net: Chain, path: str) -> brainstate.ParamState:
    return getattr(net, path).master


def put(net: Chain, path: str, index: tuple[int, ...], value: float) -> None:
    state = weight_of(net, path)
    state.value = state.value.at[index].set(value)


# Each breaks one rule at one module and returns (rule, path, indices that the report must name).


def inject_nan(net: Chain, path: str, index: tuple[int, ...]) -> tuple[str, str, set]:
    put(net, path, index, np.nan)
    return "finite weights", path, {index}


def inject_large(net: Chain, path: str, index: tuple[int, ...]) -> tuple[str, str, set]:
    weight = weight_of(net, path)
    put(net, path, index, float(jnp.sign(weight.value[index])) * 2.5)
    return "weights in range", path, {index}


def inject_off_grid(net: Chain, path: str, index: tuple[int, ...]) -> tuple[str, str, set]:
    step = getattr(net, path).chip.weight_limit / 15
    put(net, path, index, float(weight_of(net, path).value[index]) * 0.999 + 0.0)
    assert abs(float(weight_of(net, path).value[index]) / step % 1 - 0.5) < 0.5
    return "weights on grid", path, {index}


def inject_sign(net: Chain, path: str, index: tuple[int, ...]) -> tuple[str, str, set]:
    put(net, path, index, -float(weight_of(net, path).value[index]))
    return "one sign in a block", path, {(index[0] // 5 * 5, index[1])}


def inject_tau(net: Chain, path: str, index: tuple[int, ...]) -> tuple[str, str, set]:
    layer = getattr(net, path)
    layer._tau = u.Quantity(layer.tau.mantissa.at[index[-1] % layer.n_neurons].set(13.0), unit=u.ms)
    return "hardware tau", path, {(index[-1] % layer.n_neurons,)}


def inject_spikes(net: Chain, path: str, index: tuple[int, ...]) -> tuple[str, str, set]:
    getattr(net, path).spk_fun = lambda x: jnp.where(x >= 5, 2.0, x >= 0)
    return "binary spikes", path, set()


@st.composite
def broken(draw: st.DrawFn) -> tuple[Chain, dict[tuple[str, str], set]]:
    """A clean net with up to four injected violations, each of another rule or module."""
    family = draw(st.sampled_from(["H1v1", "H1v2"]))
    n = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.sampled_from(SIZES), min_size=n + 1, max_size=n + 1))
    topologies = draw(st.lists(st.sampled_from(["FF", "RC"]), min_size=n, max_size=n))
    net = Chain(family, sizes, topologies=topologies, frontend=draw(st.booleans()), seed=draw(st.integers(0, 99)))
    dense = list(bh.nn.chip_weights(net))
    layers = [path for path in vars(net) if path.startswith(("layer", "frontend"))]
    injected: dict[tuple[str, str], set] = {}
    for _ in range(draw(st.integers(0, 4))):
        inject = draw(st.sampled_from(ON_WEIGHTS + ON_LAYERS))
        path = draw(st.sampled_from(dense if inject in ON_WEIGHTS else layers))
        shape = weight_of(net, path).value.shape if inject in ON_WEIGHTS else (7,)
        if inject is inject_sign and (len(shape) == 1 or min(5, shape[0]) < 2):
            continue
        # One change a module: a second in the same block could undo the first.
        if any(where == path for _, where in injected):
            continue
        index = tuple(draw(st.integers(0, min(m, 4) - 1)) for m in shape)
        rule, where, positions = inject(net, path, index)
        injected[rule, where] = positions
    return net, injected


ON_WEIGHTS: list[Callable] = [inject_nan, inject_large, inject_off_grid, inject_sign]
ON_LAYERS: list[Callable] = [inject_tau, inject_spikes]


# Rules that the tests below break in other ways.
BY_EXAMPLE = {
    "known modules",
    "one family",
    "known wiring",
    "frontend as built",
    "neurons on chip",
    "recurrent layer in a core",
    "placed",
}


def test_every_rule_is_broken_by_a_test() -> None:
    injected = {inject(chain(), "syn0", (1, 1))[0] for inject in ON_WEIGHTS}
    injected |= {inject(chain(), "layer0", (1,))[0] for inject in ON_LAYERS}
    assert set(RULES) == injected | BY_EXAMPLE


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=60)
@given(broken())
def test_the_report_finds_exactly_what_was_injected(case: tuple[Chain, dict[tuple[str, str], set]]) -> None:
    net, injected = case
    before = {path: np.asarray(state.value) for path, state in net.states(brainstate.ParamState).items()}
    with brainstate.environ.context(dt=1.0 * u.ms):
        assert found(net) == set(injected)
    for violation in bh.deploy.check_deployable(net).violations:
        assert set(violation.where) == injected[violation.rule, violation.path]
        assert violation.found
        assert violation.limit
        assert violation.fix
    for path, state in net.states(brainstate.ParamState).items():
        np.testing.assert_array_equal(state.value, before[path])


def chain(family: str = "H1v1", **kw) -> Chain:
    topologies = kw.pop("topologies", ["FF", "FF"])
    return Chain(family, [4, 6, 4], topologies=topologies, frontend=False, **kw)


def test_a_rule_of_a_family_has_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(net: bh.deploy.Survey) -> Iterator[bh.deploy.Violation]:
        yield bh.deploy.Violation("another name", "syn0", "this", "that", "Do so.")

    monkeypatch.setitem(vars(bh.chip.H1V1_FAMILY), "rules", {"my rule": rule})  # the family is frozen
    with pytest.raises(ValueError, match=r"check_deployable: the rule 'my rule' .* of the rule 'another name'"):
        bh.deploy.check_deployable(chain())


def test_what_is_wrong_with_the_whole_network_is_found_alongside() -> None:
    net = chain()
    net.extra = bh.nn.LIFLayer(3, tau=10 * u.ms)
    put(net, "syn0", (1, 1), 2.5 * float(jnp.sign(net.syn0.weight.value[1, 1])))
    assert found(net) == {("known modules", "extra"), ("weights in range", "syn0")}

    net = chain()
    net.gain_before = 1
    inject_tau(net, "layer1", (2,))
    assert {("known wiring", "syn1"), ("hardware tau", "layer1")} <= found(net)

    net = chain()
    net.layer1 = bh.nn.H1v2Layer(4, tau=10 * u.ms)
    assert found(net) == {("one family", "the network")}


def test_a_module_that_no_chip_has_is_named_with_its_bias() -> None:
    net = chain()
    net.readout = brainstate.nn.Linear(4, 2)
    (violation,) = bh.deploy.check_deployable(net).violations
    assert (violation.path, violation.found) == ("readout", "Linear with a bias")


@pytest.mark.parametrize(
    ("sizes", "topologies", "expected"),
    [
        ([4, 64, 64, 64, 64], ["FF"] * 4, set()),
        ([4, 64, 64, 64, 64], ["RC"] * 4, set()),
        ([4, 250, 6], ["FF"] * 2, set()),
        ([4, 250, 7], ["FF"] * 2, {("neurons on chip", "the network")}),
        ([4, 65, 6], ["RC", "FF"], {("recurrent layer in a core", "layer0")}),
        ([4, 40, 40, 40, 40, 40], ["RC"] * 5, {("placed", "the network")}),
        ([4, 65, 250], ["RC", "FF"], {("recurrent layer in a core", "layer0"), ("neurons on chip", "the network")}),
    ],
)
def test_neurons_cores_and_placement(sizes: list[int], topologies: list[str], expected: set) -> None:
    assert found(Chain("H1v1", sizes, topologies=topologies, frontend=False)) == expected


def test_a_frontend_stands_at_the_input_once_and_is_as_wide_as_the_chip_has_it() -> None:
    class Late(brainstate.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            rng = np.random.default_rng(0)
            self.syn = bh.nn.H1v1Synapse(4, 16, weight_init=clean(rng, "H1v1", (4, 16)))
            self.layer = bh.nn.H1v1Layer(16, tau=10 * u.ms)
            self.ears = bh.nn.H1v1Frontend(weight_init=clean(rng, "H1v1", (16,)))
            self.out = bh.nn.H1v1Layer(16, tau=10 * u.ms)

        def update(self, x):
            return self.out(self.ears(self.layer(self.syn(x))))

    (violation,) = bh.deploy.check_deployable(Late()).violations
    assert (violation.rule, violation.path, violation.found) == ("frontend as built", "ears", "fed by layer")

    net = Chain("H1v2", [16, 6], topologies=["FF"], frontend=True)
    net.ears.weight.value = jnp.ones((16, 16)) * 0.1106666
    with pytest.raises(ValueError, match=r"the parameter ears\.weight must have shape \(16,\); got shape \(16, 16\)"):
        bh.deploy.check_deployable(net)


def test_other_wiring_than_a_chip_has_is_told_apart() -> None:
    class Wired(Chain):
        kind = "plain"

        def update(self, x):
            spikes = self.layer0(self.syn0(x))
            if self.kind == "twice":
                spikes = self.layer0(self.syn0(x))
            if self.kind == "sum":
                return self.layer1(self.syn1(spikes) + self.syn1(spikes))
            if self.kind == "fails":
                raise ValueError("no such thing\nand more")
            out = self.layer1(self.syn1(self.layer0.spk.value + 0 if self.kind == "late" else spikes))
            return (out, spikes) if self.kind == "tuple" else out

    expected = {
        "plain": None,
        "twice": "is called 2 times in one step",
        "sum": "called more than once",
        "late": "its input is neither",
        "tuple": "does not return the spikes of exactly one layer",
        "fails": "a step fails: ValueError: no such thing",
    }
    for kind, words in expected.items():
        net = Wired("H1v1", [4, 6, 4], topologies=["FF", "FF"], frontend=False)
        net.kind = kind
        violations = bh.deploy.check_deployable(net).violations
        assert {v.rule for v in violations} == (set() if words is None else {"known wiring"})
        assert words is None or any(words in v.found for v in violations), (kind, violations)


def test_states_and_time_steps_that_a_net_changes_by_itself_are_found() -> None:
    class Meddling(Chain):
        kind = ""

        def update(self, x):
            if self.kind == "before":
                self.layer0.spk.value = self.layer0.spk.value * 0
            if self.kind == "dt":
                with brainstate.environ.context(dt=5.0 * u.ms):
                    return super().update(x)
            out = super().update(x)
            if self.kind == "after":
                self.layer0.V.value = self.layer0.V.value * 0.5
            return out

    expected = {
        "before": {("known wiring", "layer0")},
        "after": {("known wiring", "layer0")},
        "dt": {("known wiring", "layer0"), ("known wiring", "layer1")},
        "": set(),
    }
    for kind, rules in expected.items():
        net = Meddling("H1v1", [4, 6, 4], topologies=["RC", "FF"], frontend=False)
        net.kind = kind
        assert found(net) == rules


def test_other_neurons_than_those_of_the_chip_are_found() -> None:
    class Leakless(bh.nn.H1v1Layer):
        def integrate(self, V, drive, dt):
            return V + self.to_voltage(drive)

    net = chain()
    net.layer0 = Leakless(6, tau=10 * u.ms)
    net.layer1.reset = "subtract"
    assert found(net) == {("known modules", "layer0"), ("binary spikes", "layer1")}
    with pytest.raises(AttributeError):
        net.layer1.tau = 3 * u.ms


def test_the_order_of_registration_and_a_needed_batch_do_not_matter() -> None:
    class Backwards(brainstate.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            rng = np.random.default_rng(0)
            self.to_out = bh.nn.H1v1Synapse(6, 2, weight_init=clean(rng, "H1v1", (6, 2)))
            self.out = bh.nn.H1v1Layer(2, tau=10 * u.ms)
            self.to_hidden = bh.nn.H1v1Synapse(4, 6, weight_init=clean(rng, "H1v1", (4, 6)))
            self.hidden = bh.nn.H1v1Layer(6, tau=10 * u.ms)

        def update(self, x):
            assert x.ndim == 2
            return self.out(self.to_out(self.hidden(self.to_hidden(x))))

    assert bh.deploy.is_net_deployable(Backwards())


def test_one_synapse_cannot_drive_two_layers() -> None:
    class Forked(brainstate.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.syn = bh.nn.H1v1Synapse(4, 6, weight_init=clean(np.random.default_rng(0), "H1v1", (4, 6)))
            self.one, self.two = (bh.nn.H1v1Layer(6, tau=tau * u.ms) for tau in (10, 20))

        def update(self, x):
            charge = self.syn(x)
            self.one(charge)
            return self.two(charge)

    (violation,) = bh.deploy.check_deployable(Forked()).violations
    assert (violation.path, violation.found) == ("syn", "it drives more than one layer")


@pytest.mark.parametrize(("precision", "bits"), [("bf16", 5), (16, 5), (32, 5), (32, 16)])
def test_rounded_weights_of_any_precision_are_on_the_grid_and_others_are_not(precision, bits: int) -> None:
    chip = bh.chip.H1V1.replace(weight_bits=bits)
    rng = np.random.default_rng(0)
    with brainstate.environ.context(precision=precision):
        w = np.abs(rng.normal(size=(5, 40))) * 0.3
        free = bh.nn.H1v1Synapse(5, 40, chip=chip, weight_init=w)
        net = brainstate.nn.Sequential(free, bh.nn.H1v1Layer(40, tau=10 * u.ms, chip=chip))
        assert "weights on grid" in {v.rule for v in bh.deploy.check_deployable(net).violations}
        bh.deploy.set_weight_bits(net, "chip")
        assert "weights on grid" not in {v.rule for v in bh.deploy.check_deployable(net).violations}


def test_a_layer_that_no_chip_has_may_run_in_the_net_that_is_judged() -> None:
    lif = bh.nn.LIFSynapse(3, 4), bh.nn.LIFLayer(4, tau=10 * u.ms)
    net = brainstate.nn.Sequential(*lif, chain())
    assert found(net) == {("known modules", "layers.0"), ("known modules", "layers.1")}
    with pytest.raises(
        ValueError, match=r"connections of the network cannot be determined \(layers\.2\.syn0: its input is neither"
    ):
        bh.deploy.estimate_power(net, jnp.ones((5, 3)))


def test_a_module_that_takes_no_part_is_named() -> None:
    net = chain()
    net.idle = bh.nn.H1v1Synapse(4, 6, weight_init=clean(np.random.default_rng(0), "H1v1", (4, 6)))
    assert found(net) == {("known wiring", "idle")}


def test_rounding_and_annealing_are_judged_as_they_will_be_applied() -> None:
    net = chain()
    for path in ("syn0", "syn1"):
        shape = weight_of(net, path).value.shape
        weight_of(net, path).value = jnp.asarray(np.random.default_rng(1).uniform(-0.5, 0.5, shape), jnp.float32)
    rules = {rule for rule, _ in found(net)}
    assert rules == {"one sign in a block", "weights on grid"}
    bh.deploy.set_weight_bits(net, "chip")
    assert {rule for rule, _ in found(net)} == {"one sign in a block"}
    annealing = bh.train.SignAnnealing(net, 1)
    annealing.step(1)
    assert bh.deploy.is_net_deployable(net)
    annealing.finish()
    assert bh.deploy.is_net_deployable(net)
    bh.deploy.set_weight_bits(net, 8)
    (violation,) = {v for v in bh.deploy.check_deployable(net).violations if v.path == "syn0"}
    assert "8 bits" in violation.found


def test_a_clean_net_passes_and_stays_as_it_was() -> None:
    net = chain("H1v2", topologies=["RC", "FF"])
    bh.prepare_net(net, 3)
    net(jnp.ones((3, 4)))
    before = {path: u.get_mantissa(state.value) for path, state in net.states().items()}
    report = bh.deploy.check_deployable(net)
    assert report.ok
    report.raise_if_not()
    assert str(report) == f"deployable on H1v2: all {len(RULES)} rules hold"
    for path, state in net.states().items():
        np.testing.assert_array_equal(u.get_mantissa(state.value), before[path])
    net(jnp.ones((3, 4)))  # still prepared


def test_raising_lists_everything_and_the_table_shows_it() -> None:
    net = chain()
    put(net, "syn0", (0, 0), np.nan)
    inject_spikes(net, "layer1", (0,))
    report = bh.deploy.check_deployable(net)
    with pytest.raises(
        bh.deploy.NotDeployableError, match=r"violates 2 rule\(s\) of H1v1:\n- syn0: .*\n- layer1: "
    ) as caught:
        report.raise_if_not()
    assert isinstance(caught.value, ValueError)
    text = str(report)
    assert "not deployable on H1v1: 2 violation(s)" in text
    assert "1 of 24 weights NaN or infinite, the first at [0, 0]" in text


def test_what_is_no_chip_net_is_refused() -> None:
    with pytest.raises(TypeError, match="check_deployable: net must be"):
        bh.deploy.check_deployable(3)
    with pytest.raises(ValueError, match="check_deployable: the network has no module on a chip"):
        bh.deploy.check_deployable(bh.nn.LIFSynapse(2, 2))
    with pytest.raises(RuntimeError, match="outside of jit"):
        brainstate.transform.jit(lambda: bh.deploy.check_deployable(chain()).ok)()


def test_every_family_has_the_modules_of_this_test() -> None:
    assert set(MODULES) == {"H1v1", "H1v2"}
