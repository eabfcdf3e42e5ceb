"""Recorded spikes and membranes replace those of the model: values of the chip, gradients of the model."""

from __future__ import annotations

import re

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

N_IN, N, N_OUT, T, B = 6, 12, 4, 23, 3
# A low threshold, so that small nets fire often.
CHIPS = {
    "H1v1": (bh.nn.H1v1Synapse, bh.nn.H1v1Layer, bh.chip.H1V1.replace(V_th=15.0 * u.mV), 0.6),
    "H1v2": (bh.nn.H1v2Synapse, bh.nn.H1v2Layer, bh.chip.H1V2.replace(V_th=15.0 * u.mV), 0.9),
}
LAYERS = {"hidden": N, "output": N_OUT}


@pytest.fixture(autouse=True)
def _dt():
    with brainstate.environ.context(dt=1.0 * u.ms):
        yield


class ChipNet(brainstate.nn.Module):
    """Two layers on a chip, the first optionally recurrent."""

    def __init__(self, family: str, topology: str = "FF", **options: object) -> None:
        super().__init__()
        synapse, layer, chip, scale = CHIPS[family]
        rng = np.random.default_rng(0)

        def weights(*shape: int) -> jax.Array:
            return jnp.asarray(rng.normal(0.2, scale, shape), jnp.float32)

        recurrent = {"recurrent_init": 0.2 * weights(N, N)} if topology == "RC" else {}
        self.first = synapse(N_IN, N, chip=chip, weight_init=weights(N_IN, N))
        self.hidden = layer(N, tau=20.0 * u.ms, topology=topology, chip=chip, **recurrent, **options)
        self.second = synapse(N, N_OUT, chip=chip, weight_init=weights(N, N_OUT))
        self.output = layer(N_OUT, tau=10.0 * u.ms, chip=chip, **options)

    def update(self, x: jax.Array) -> jax.Array:
        return self.output(self.second(self.hidden(self.first(x))))


def spikes(seed: int, shape: tuple[int, ...], rate: float = 0.4) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).random(shape) < rate, jnp.float32)


def recording(*names: str, seed: int = 5) -> dict[str, object]:
    """Return plausible recordings of a chip with other neurons."""
    found: dict[str, object] = {}
    for i, name in enumerate(names):
        path, _, kind = name.rpartition(".")
        shape = (T, B, LAYERS[path])
        if kind == "spk":
            found[name] = spikes(seed + i, shape, 0.2)
        else:
            rng = np.random.default_rng(seed + i)
            found[name] = jnp.asarray(rng.uniform(0, 14, shape), jnp.float32) * u.mV
    return found


XS = spikes(1, (T, B, N_IN))
KINDS = {
    "spikes": ("hidden.spk", "output.spk"),
    "all": ("hidden.spk", "hidden.V", "output.spk", "output.V"),
    "hidden": ("hidden.spk",),
    "output": ("output.spk", "output.V"),
}


def values_and_gradients(
    net: brainstate.nn.Module, recorded: object, *, xs: jax.Array = XS, **options: object
) -> tuple[dict, dict]:
    weights = net.states(brainstate.ParamState)

    def loss(recorded: object) -> tuple[jax.Array, object]:
        names = ("hidden.spk", "hidden.V", "hidden.V_pre", "output.V")
        out, seen = bh.rollout(net, xs, record=names, recorded=recorded, **options)
        t = jnp.arange(1, len(xs) + 1)[:, None, None] / len(xs)
        total = (out * t).sum() + 0.1 * (seen["hidden.spk"] * t).sum() + 0.01 * (seen["output.V"].mantissa ** 2).sum()
        return total, {"out": out, **{name: u.get_mantissa(value) for name, value in seen.items()}}

    step = brainstate.transform.jit(brainstate.transform.grad(loss, weights, has_aux=True))
    gradients, seen = step(recorded)
    return seen, gradients


def assert_close(found: dict, wanted: dict, rtol: float = 2e-5) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        scale = float(np.abs(value).max()) or 1.0
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=rtol * scale, err_msg=str(name))


def reference(net: ChipNet, xs: jax.Array, recorded: dict[str, object], masters: list[jax.Array]) -> jax.Array:
    """The equations of the chip in a plain scan: the loss of the outputs as a function of the master weights."""
    chip = net.hidden.chip
    C, V_th = chip.C.to(u.ffarad).mantissa, chip.V_th.to(u.mV).mantissa
    charges = [chip.charge(w).to(u.fcoulomb).mantissa for w in masters]

    @jax.custom_jvp
    def fire(v: jax.Array) -> jax.Array:
        return (v >= 0).astype(jnp.float32)

    # The derivative of the fast sigmoid of slope 5, the default of the layers (Zenke and Ganguli 2018). Clamps are
    # `relu` as in the layers: at zero `maximum` has half a derivative.
    fire.defjvp(lambda p, t: (fire(p[0]), t[0] / (1 + 5.0 * jnp.abs(p[0])) ** 2))

    def layer(V: jax.Array, charge: jax.Array, tau: float, spk: object, V_rec: object) -> tuple:
        V_pre = jax.nn.relu(jnp.exp(-1.0 / tau) * V + 1000.0 * charge / C)
        s = fire((V_pre - V_th) / V_th)
        if spk is not None:
            s = s + jax.lax.stop_gradient(spk - s)
        of_reset = jax.lax.stop_gradient(s)
        V = V_pre * (1 - of_reset) if chip.reset == "zero" else jax.nn.relu(V_pre - of_reset * V_th)
        if V_rec is not None:
            V = V + jax.lax.stop_gradient(V_rec - V)
        elif spk is not None:
            V = V + jax.lax.stop_gradient(jnp.where(spk == 0, jnp.minimum(V, V_th), V) - V)
        return V, s

    def step(carry: tuple, given: tuple) -> tuple:
        V1, s1, V2 = carry
        x, found = given
        charge = x @ charges[0] + (s1 @ charges[2] if len(charges) > 2 else 0.0)
        V1, s1 = layer(V1, charge, 20.0, found.get("hidden.spk"), found.get("hidden.V"))
        V2, s2 = layer(V2, s1 @ charges[1], 10.0, found.get("output.spk"), found.get("output.V"))
        return (V1, s1, V2), s2

    start = jnp.zeros((B, N)), jnp.zeros((B, N)), jnp.zeros((B, N_OUT))
    plain = {name: u.get_mantissa(value) for name, value in recorded.items()}
    out = jax.lax.scan(step, start, (xs, plain))[1]
    return (out * (jnp.arange(1, T + 1)[:, None, None] / T)).sum()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("family", "topology"), [("H1v1", "FF"), ("H1v2", "RC")])
def test_gradients_are_those_of_a_plain_scan(family: str, topology: str, kind: str) -> None:
    net, recorded = ChipNet(family, topology), recording(*KINDS[kind])
    states = [net.first.weight, net.second.weight, *([net.hidden.recurrent_weight] if topology == "RC" else [])]
    wanted = jax.grad(lambda masters: reference(net, XS, recorded, masters))([state.value for state in states])

    def loss(recorded: dict[str, object]) -> jax.Array:
        out, _ = bh.rollout(net, XS, recorded=recorded)
        return (out * (jnp.arange(1, T + 1)[:, None, None] / T)).sum()

    weights = {str(i): state for i, state in enumerate(states)}
    found = brainstate.transform.jit(brainstate.transform.grad(loss, weights))(recorded)
    assert_close(found, {str(i): value for i, value in enumerate(wanted)})


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("family", "topology"), [("H1v1", "RC"), ("H1v2", "FF"), ("H1v2", "RC")])
def test_layer_by_layer_and_step_by_step_agree(family: str, topology: str, kind: str) -> None:
    # A remainder of three steps is a second program in each run with segments, so only one kind has one.
    n_steps = T if kind == "spikes" else 20
    recorded = {name: value[:n_steps] for name, value in recording(*KINDS[kind]).items()}
    runs = [
        values_and_gradients(ChipNet(family, topology), recorded, xs=XS[:n_steps], **options)
        for options in ({}, {"layerwise": False}, {"checkpoint": 5}, {"checkpoint": 4, "layerwise": False})
    ]
    for values, gradients in runs[1:]:
        assert_close(values, runs[0][0], 1e-6)
        assert_close(gradients, runs[0][1])


def test_values_are_the_recorded_ones() -> None:
    recorded = recording(*KINDS["all"])
    net = ChipNet("H1v1")
    out, seen = bh.rollout(net, XS, recorded=recorded, record=("hidden.spk", "hidden.V", "output.V"))
    np.testing.assert_array_equal(out, recorded["output.spk"])
    for name, value in seen.items():
        np.testing.assert_array_equal(u.get_mantissa(value), u.get_mantissa(recorded[name]))
    np.testing.assert_array_equal(net.hidden.V.value.mantissa, recorded["hidden.V"].mantissa[-1])
    np.testing.assert_array_equal(net.hidden.spk.value, recorded["hidden.spk"][-1])


def test_a_reset_follows_the_recorded_spikes() -> None:
    net, recorded = ChipNet("H1v1"), recording("hidden.spk")
    _, seen = bh.rollout(net, XS, recorded=recorded, record=("hidden.V", "hidden.V_pre"))
    kept = seen["hidden.V_pre"].mantissa * (1 - recorded["hidden.spk"])
    # A neuron that did not fire was not above its threshold.
    assert (kept > 15.0).any()
    np.testing.assert_array_equal(seen["hidden.V"].mantissa, np.minimum(kept, 15.0))


@pytest.mark.parametrize("kind", ["spikes", "all"])
@pytest.mark.parametrize("options", [{}, {"layerwise": False}], ids=["layers", "steps"])
@pytest.mark.parametrize(("family", "topology"), [("H1v1", "FF"), ("H1v2", "RC")])
def test_own_spikes_give_the_plain_run_to_the_bit(
    family: str, topology: str, options: dict[str, object], kind: str
) -> None:
    names = KINDS[kind]
    _, own = bh.rollout(ChipNet(family, topology), XS, record=names, **options)
    values, gradients = values_and_gradients(ChipNet(family, topology), own, **options)
    plain_values, plain_gradients = values_and_gradients(ChipNet(family, topology), None, **options)
    assert float(own["hidden.spk"].sum()) > 10
    if kind == "all" and not options:
        # With recorded membranes all steps are computed at once, and XLA rounds differently than in a loop.
        np.testing.assert_array_equal(values["out"], plain_values["out"])
        assert_close(values, plain_values, 1e-6)
        assert_close(gradients, plain_gradients)
        return
    for name, value in plain_values.items():
        np.testing.assert_array_equal(values[name], value, err_msg=name)
    for path, value in plain_gradients.items():
        np.testing.assert_array_equal(gradients[path], value, err_msg=str(path))


def test_whole_numbers_and_flags_are_spikes_too() -> None:
    recorded = recording("hidden.spk")
    wanted, _ = bh.rollout(ChipNet("H1v2"), XS, recorded=recorded)
    for dtype in (np.uint8, bool, np.int32, jnp.bfloat16):
        given = {"hidden.spk": np.asarray(recorded["hidden.spk"]).astype(dtype)}
        found, _ = brainstate.transform.jit(lambda given: bh.rollout(ChipNet("H1v2"), XS, recorded=given))(given)
        np.testing.assert_array_equal(found, wanted)


def test_a_recording_of_a_bench_is_taken_as_it_is() -> None:
    recorded = recording(*KINDS["output"], "hidden.spk")
    of_bench = bh.silicon.Recording(
        {path: np.asarray(recorded[f"{path}.spk"]) for path in LAYERS}, {"output": recorded["output.V"]}
    )
    wanted, _ = bh.rollout(ChipNet("H1v2"), XS, recorded=recorded)
    np.testing.assert_array_equal(bh.rollout(ChipNet("H1v2"), XS, recorded=of_bench)[0], wanted)


class Counting(bh.kernel.Firing):
    """A reset to a fifth of the threshold, for neurons that rest."""

    def after(self, V: jax.Array, spk: jax.Array, V_th: jax.Array) -> jax.Array:
        return jnp.where(spk > 0, 0.2 * V_th, V)


class RestingLayer(bh.nn.LIFLayer):
    """Two steps of refractory time."""

    refractory_steps = 2

    def firing(self) -> bh.kernel.Firing:
        return Counting(self.spk_fun, self.reset, self.detach_reset, self.clamped, self.refractory_steps)


OTHERS = {
    "LIF": lambda: bh.nn.LIFLayer(N, tau=20 * u.ms, topology="RC"),
    "refractory": lambda: RestingLayer(N, tau=20 * u.ms),
    "Cuba": lambda: bh.nn.CubaLIFLayer(N, w_rec=True),
    "ALIF": lambda: bh.nn.ALIFLayer(N),
    "LIF, learnt, reset with gradient": lambda: bh.nn.LIFLayer(
        N,
        tau=brainstate.nn.Param(20.0 * u.ms, t=brainstate.nn.SoftplusT(1.0 * u.ms)),
        V_th=brainstate.nn.Param(1.0 * u.mV),
        detach_reset=False,
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_layers_take_recordings(name: str) -> None:
    brainstate.random.seed(3)
    weights = jnp.asarray(np.random.default_rng(2).normal(0.2, 1, (N_IN, N)), jnp.float32) * u.mV
    # Recorded spikes must be 0 or 1, so a layer that fires several times per step cannot take them.
    spk_fun = bh.surrogate.fast_sigmoid()
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(N_IN, N, weight_init=weights), OTHERS[name]())
    net.layers[1].spk_fun = spk_fun
    names = ("layers.1.spk", "layers.1.V")
    params = net.states(brainstate.ParamState)

    def run(recorded: object, **options: object) -> tuple:
        def loss(recorded: object) -> tuple:
            out, seen = bh.rollout(net, XS, recorded=recorded, record=names, **options)
            t = jnp.arange(1, T + 1)[:, None, None]
            return (out * t).sum() + (seen[names[1]].mantissa * t).sum(), seen

        return brainstate.transform.jit(brainstate.transform.grad(loss, params, has_aux=True))(recorded)

    plain_gradients, own = run(None)
    gradients, seen = run(own)
    for key, value in own.items():
        np.testing.assert_array_equal(u.get_mantissa(seen[key]), u.get_mantissa(value))
    jax.tree.map(np.testing.assert_array_equal, gradients, plain_gradients)
    other = {"layers.1.spk": spikes(7, (T, B, N), 0.1)}
    layers, steps = run(other), run(other, layerwise=False)
    np.testing.assert_array_equal(layers[1]["layers.1.spk"], other["layers.1.spk"])
    for found, wanted in zip(jax.tree.leaves(layers), jax.tree.leaves(steps), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5 * (float(jnp.abs(wanted).max()) or 1.0))


def test_one_sample_without_an_axis_of_its_own() -> None:
    recorded = {name: value[:, 0] for name, value in recording(*KINDS["all"]).items()}
    out, _ = bh.rollout(ChipNet("H1v1"), XS[:, 0], recorded=recorded)
    np.testing.assert_array_equal(out, recorded["output.spk"])


class TestRefusals:
    def test_unknown_layer(self) -> None:
        with pytest.raises(ValueError, match=r"^rollout: recorded contains 'other\.spk'.*'hidden', 'output'"):
            bh.rollout(ChipNet("H1v1"), XS, recorded={"other.spk": spikes(0, (T, B, N))})

    def test_unknown_kind(self) -> None:
        with pytest.raises(ValueError, match=r"^rollout: recorded contains 'hidden\.V_pre'"):
            bh.rollout(ChipNet("H1v1"), XS, recorded={"hidden.V_pre": spikes(0, (T, B, N)) * u.mV})

    def test_other_shape(self) -> None:
        for shape in ((T - 1, B, N), (T, B, N + 1), (T, N)):
            with pytest.raises(ValueError, match=re.escape(f"(23, 3, 12) (steps, samples, neurons); got {shape}")):
                bh.rollout(ChipNet("H1v1"), XS, recorded={"hidden.spk": spikes(0, shape)})

    def test_values_that_are_no_spikes(self) -> None:
        for bad in (2.0, 0.5, np.nan, -1.0):
            value = spikes(0, (T, B, N)).at[4, 1, 7].set(bad)
            with pytest.raises(
                ValueError,
                match=r"^rollout: recorded 'hidden\.spk' must contain only 0 and 1.*\[4, 1, 7\] \(invalid values: 1",
            ):
                bh.rollout(ChipNet("H1v1"), XS, recorded={"hidden.spk": value})

    def test_other_unit(self) -> None:
        value = {"hidden.spk": spikes(0, (T, B, N)), "hidden.V": jnp.ones((T, B, N)) * u.mA}
        with pytest.raises(TypeError, match=r"^rollout: recorded 'hidden\.V' must be a Quantity of voltage"):
            bh.rollout(ChipNet("H1v1"), XS, recorded=value)
        with pytest.raises(TypeError, match=r"^rollout: recorded 'hidden\.V' must be a Quantity of voltage"):
            bh.rollout(ChipNet("H1v1"), XS, recorded={**value, "hidden.V": jnp.ones((T, B, N))})
        with pytest.raises(ValueError, match=r"^rollout: recorded 'hidden\.V' must be finite"):
            bh.rollout(ChipNet("H1v1"), XS, recorded={**value, "hidden.V": jnp.full((T, B, N), jnp.nan) * u.mV})
        with pytest.raises(TypeError, match=r"^rollout: recorded 'hidden\.spk' must be an array of 0 and 1"):
            bh.rollout(ChipNet("H1v1"), XS, recorded={"hidden.spk": spikes(0, (T, B, N)) * u.mV})

    def test_volts_become_millivolts(self) -> None:
        recorded = recording(*KINDS["all"])
        volts = {n: v.in_unit(u.volt) if isinstance(v, u.Quantity) else v for n, v in recorded.items()}
        record = ("hidden.V_pre",)
        found = bh.rollout(ChipNet("H1v1"), XS, recorded=volts, record=record)[1]["hidden.V_pre"]
        wanted = bh.rollout(ChipNet("H1v1"), XS, recorded=recorded, record=record)[1]["hidden.V_pre"]
        np.testing.assert_allclose(found.to(u.mV).mantissa, wanted.to(u.mV).mantissa, rtol=1e-5, atol=1e-4)

    def test_membranes_alone(self) -> None:
        with pytest.raises(ValueError, match=r"^rollout: recorded has 'hidden\.V' but not 'hidden\.spk'"):
            bh.rollout(ChipNet("H1v1"), XS, recorded={"hidden.V": jnp.ones((T, B, N)) * u.mV})

    def test_nothing_and_other_things(self) -> None:
        with pytest.raises(ValueError, match=r"^rollout: recorded must contain"):
            bh.rollout(ChipNet("H1v1"), XS, recorded={})
        for other in (spikes(0, (T, B, N)), "hidden", 3):
            with pytest.raises(
                TypeError, match=r"^rollout: recorded must be a brainhw\.silicon\.Recording or a mapping"
            ):
                bh.rollout(ChipNet("H1v1"), XS, recorded=other)
        with pytest.raises(TypeError, match=r"^rollout: each name in recorded must be a string"):
            bh.rollout(ChipNet("H1v1"), XS, recorded={3: spikes(0, (T, B, N))})

    @pytest.mark.parametrize("layerwise", [True, False])
    def test_layers_that_cannot_take_a_recording(self, layerwise: bool) -> None:
        class Own(bh.nn.LIFLayer):
            def update(self, x: u.Quantity) -> jax.Array:
                self.V.value = self.V.value + x
                self.spk.value = (self.V.value.mantissa > 1).astype(jnp.float32)
                return self.spk.value

        layers = [Own(N, tau=10 * u.ms), bh.nn.FractionalLIFLayer(N, alpha=0.7, tau=10 * u.ms)]
        for layer in layers:
            net = brainstate.nn.Sequential(bh.nn.LIFSynapse(N_IN, N), layer)
            kind = type(layer).__name__
            with pytest.raises(
                ValueError, match=rf"^rollout: recorded contains values for 'layers\.1', a {kind}, which"
            ):
                bh.rollout(net, XS, recorded={"layers.1.spk": spikes(0, (T, B, N))}, layerwise=layerwise)
        readout = brainstate.nn.Sequential(bh.nn.LeakyReadout(N_IN, N, tau=10 * u.ms))
        with pytest.raises(
            ValueError, match=r"^rollout: recorded contains values for 'layers\.0', a LeakyReadout, which"
        ):
            bh.rollout(readout, XS, recorded={"layers.0.spk": spikes(0, (T, B, N))})
