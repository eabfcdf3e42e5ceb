"""What the troubleshooting page says that brainhw says, brainhw says."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def normal(text: str) -> str:
    return " ".join(text.split())


SHOWN = [normal(block) for block in re.findall(r"^ *```text\n(.*?)^ *```$", TEXT, re.DOTALL | re.MULTILINE)]
MISTAKES: dict[str, Callable[[pytest.MonkeyPatch, Path], Any]] = {}


def mistake(function: Callable[..., Any]) -> Callable[..., Any]:
    MISTAKES[function.__name__] = function
    return function


def on_chip(n: int = 3, n_in: int = 4, **options: Any) -> brainstate.nn.Sequential:
    return brainstate.nn.Sequential(bh.nn.H1v1Synapse(n_in, n, **options), bh.nn.H1v1Layer(n, tau=10 * u.ms))


def rare_spikes(probability: float, n_steps: int) -> list[np.ndarray]:
    return [(np.random.default_rng(0).random((4, n_steps, 4)) < probability).astype(np.float32)]


class Tracer(brainstate.nn.Module):
    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        self.trace = brainstate.HiddenState(jnp.zeros(3))

    def update(self, x: Any) -> Any:
        return x


@mistake
def tau_in_millivolts(*_: Any) -> None:
    bh.nn.LIFLayer(4, tau=20 * u.mV)


@mistake
def tau_without_unit(*_: Any) -> None:
    bh.nn.LIFLayer(4, tau=0.02)


@mistake
def spikes_into_a_layer(*_: Any) -> None:
    bh.nn.LIFLayer(4, tau=20 * u.ms)(jnp.ones(4))


@mistake
def mixed_families(*_: Any) -> None:
    bh.prepare_net(brainstate.nn.Sequential(bh.nn.H1v1Synapse(4, 3), bh.nn.H1v2Layer(3, tau=10 * u.ms)))


@mistake
def tau_that_no_chip_has(*_: Any) -> None:
    bh.nn.H1v1Layer(3, tau=15 * u.ms)


@mistake
def tau_of_a_chip_learnt(*_: Any) -> None:
    bh.nn.H1v1Layer(3, tau=brainstate.nn.Param(10 * u.ms))


@mistake
def no_time_step(patch: pytest.MonkeyPatch, _: Path) -> None:
    known = brainstate.environ.get

    def without_dt(key: str, *default: Any, **options: Any) -> Any:
        if key != "dt":
            return known(key, *default, **options)
        if "default" in options:
            return options["default"]
        raise KeyError(key)

    patch.setattr(brainstate.environ, "get", without_dt)
    bh.nn.LIFLayer(2, tau=10 * u.ms)(jnp.ones(2) * u.mV)


@mistake
def unprepared(*_: Any) -> None:
    bh.nn.H1v1Synapse(4, 3)(jnp.ones(4))


@mistake
def weights_changed(*_: Any) -> None:
    synapse = bh.nn.H1v1Synapse(4, 3)
    bh.prepare_net(synapse)
    synapse.weight.value = 0.5 * synapse.weight.value
    synapse(jnp.ones(4))


@mistake
def prepared_outside_of_grad(*_: Any) -> None:
    synapse = bh.nn.H1v1Synapse(4, 3)
    bh.prepare_net(synapse)
    weights = synapse.states(brainstate.ParamState)
    brainstate.transform.grad(lambda: synapse(jnp.ones(4)).sum() / u.fcoulomb, weights)()


@mistake
def one_axis(*_: Any) -> None:
    bh.rollout(on_chip(), jnp.ones(50))


@mistake
def batch_into_states_of_one_sample(*_: Any) -> None:
    bh.nn.LIFLayer(3, tau=20 * u.ms)(jnp.ones((8, 3)) * u.mV)


@mistake
def unknown_record(*_: Any) -> None:
    bh.rollout(on_chip(), jnp.ones((5, 4)), record=("hidden.V",))


@mistake
def module_without_reset_state(*_: Any) -> None:
    bh.prepare_net(brainstate.nn.Sequential(Tracer(), on_chip()))


@mistake
def layer_that_nobody_owns(*_: Any) -> None:
    layer = bh.nn.LIFLayer(3, tau=20 * u.ms)
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3), lambda x: layer(x))  # noqa: PLW0108
    bh.rollout(net, jnp.ones((5, 4)))


@mistake
def layer_in_two_places(*_: Any) -> None:
    layer = bh.nn.LIFLayer(3, tau=20 * u.ms)
    bh.rollout(brainstate.nn.Sequential(layer, bh.nn.LIFSynapse(3, 3), layer), jnp.ones((5, 3)) * u.mV)


class Counting(brainstate.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def update(self, x: Any) -> Any:
        self.seen += 1
        return x


@mistake
def memory_in_a_plain_attribute(*_: Any) -> None:
    bh.rollout(Counting(), jnp.ones((5, 4)))


@mistake
def states_of_a_function_that_ended(*_: Any) -> None:
    layer = bh.nn.LIFLayer(3, tau=20 * u.ms)
    brainstate.transform.jit(lambda x: (brainstate.nn.init_all_states(layer, 2), layer(x * u.mV))[1])(jnp.ones((2, 3)))
    bh.rollout(layer, jnp.ones((5, 2, 3)) * u.mV, prepare=False)


@mistake
def run_past_the_horizon(*_: Any) -> None:
    bh.rollout(bh.nn.FractionalLIFLayer(2, kernel="dense", horizon=10), jnp.ones((20, 2)) * u.mV)


@mistake
def too_few_spikes(*_: Any) -> None:
    bh.init.fluct_init(on_chip(), rare_spikes(0.02, 50), in_range=True, verbose=False)


@mistake
def weights_out_of_range(*_: Any) -> None:
    x = (np.random.default_rng(0).random((4, 100, 40)) < 0.1).astype(np.float32)
    bh.init.fluct_init(on_chip(n_in=40), [x], in_range=False, verbose=False)


@mistake
def deep_net_in_range(*_: Any) -> None:
    x = (np.random.default_rng(0).random((8, 100, 24)) < 0.1).astype(np.float32)
    stages = [(bh.nn.H1v1Synapse(n, 50), bh.nn.H1v1Layer(50, tau=20 * u.ms)) for n in (24, 50)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", ".*simultaneous spikes")
        bh.init.fluct_init(brainstate.nn.Sequential(*sum(stages, ())), [x], xi_target=1.0, in_range=True, verbose=False)


@mistake
def weights_that_round_to_zero(*_: Any) -> None:
    loud = [1000 * np.random.default_rng(0).random((4, 100, 40)).astype(np.float32)]
    bh.init.fluct_init(on_chip(n_in=40, weight_bits="chip"), loud, in_range=True, verbose=False)


@mistake
def populations_of_unequal_size(*_: Any) -> None:
    bh.train.population_votes(jnp.zeros((10, 2, 50)), 4)


@mistake
def labels_from_one(*_: Any) -> None:
    bh.train.accuracy_population(jnp.zeros((10, 2, 40)), jnp.array([1, 4]), 4)


@mistake
def no_spike_at_all(*_: Any) -> None:
    bh.init.fluct_init(on_chip(), [np.zeros((4, 50, 4), np.float32)], verbose=False)


@mistake
def fluct_init_without_a_chip(*_: Any) -> None:
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(2, 2), bh.nn.LIFLayer(2, tau=10 * u.ms))
    bh.init.fluct_init(net, [np.ones((2, 10, 2), np.float32)], verbose=False)


@mistake
def nan_input(*_: Any) -> None:
    bh.rollout(on_chip(), jnp.ones((5, 4)).at[2, 1].set(jnp.nan))


@mistake
def nan_weight(*_: Any) -> None:
    net = on_chip()
    net.layers[0].weight.value = net.layers[0].weight.value.at[0, 0].set(jnp.nan)
    bh.prepare_net(net)


@mistake
def infinite_membrane(*_: Any) -> None:
    synapse = bh.nn.LIFSynapse(2, 2, weight_init=jnp.full((2, 2), 10.0) * u.mV)
    net = brainstate.nn.Sequential(synapse, bh.nn.LIFLayer(2, tau=10 * u.ms))
    bh.rollout(net, jnp.ones((5, 2)).at[2].set(3e38), check_finite=True)


@mistake
def threshold_learnt_below_zero(*_: Any) -> None:
    layer = bh.nn.CubaLIFLayer(1, V_th=brainstate.nn.Param(1 * u.mV))
    layer.V_th.set_value(-0.5 * u.mV)
    bh.prepare_net(layer)


@mistake
def pattern_without_match(*_: Any) -> None:
    bh.deploy.set_weight_bits(on_chip(), {"hidden*": 5})


@mistake
def rounding_of_nothing(*_: Any) -> None:
    bh.nn.H1v1Synapse(4, 3, rounding="stochastic")


@mistake
def rule_broken(*_: Any) -> None:
    bh.deploy.check_deployable(on_chip(weight_init=jnp.full((4, 3), 0.06).at[0, 0].set(1.2))).raise_if_not()


@mistake
def recurrent_layer_too_large(*_: Any) -> None:
    layer = bh.nn.H1v1Layer(65, tau=10 * u.ms, topology="RC")
    bh.deploy.place(brainstate.nn.Sequential(bh.nn.H1v1Synapse(4, 65), layer))


@mistake
def too_many_neurons(*_: Any) -> None:
    bh.deploy.place(brainstate.nn.Sequential(bh.nn.H1v2Synapse(4, 201), bh.nn.H1v2Layer(201, tau=10 * u.ms)))


@mistake
def annealing_after_its_end(*_: Any) -> None:
    annealing = bh.train.SignAnnealing(on_chip(), 2)
    annealing.finish()
    annealing.step(0)


@mistake
def score_as_a_float(*_: Any) -> None:
    def rate(net: brainstate.nn.Module) -> float:
        return float(bh.rollout(net, jnp.ones((5, 2, 4)))[0].mean())

    bh.deploy.robustness(on_chip(), rate, 2, key=0, pbar=False)


@mistake
def chip_for_a_net_without(*_: Any) -> None:
    bh.sample_chip(bh.nn.LIFSynapse(2, 2), 0)


@mistake
def key_without_preparation(*_: Any) -> None:
    bh.rollout(on_chip(), jnp.ones((5, 4)), key=1, prepare=False)


def without_packages(patch: pytest.MonkeyPatch, *names: str) -> None:
    patch.setattr(sys, "path", [])
    for name in [loaded for loaded in sys.modules if loaded.split(".")[0] in names]:
        patch.delitem(sys.modules, name)


@mistake
def mnist1d_missing(patch: pytest.MonkeyPatch, _: Path) -> None:
    loader = bh.data.mnist1d
    without_packages(patch, "mnist1d")
    loader()


@mistake
def nir_missing(patch: pytest.MonkeyPatch, _: Path) -> None:
    from brainhw.interop import nir

    net = on_chip()
    without_packages(patch, "nir", "h5py")
    nir.to_nir(net, dt=1 * u.ms)


@mistake
def no_data(patch: pytest.MonkeyPatch, _: Path) -> None:
    patch.setenv("BRAINHW_DATA", "FOLDER")
    patch.setenv("XDG_CACHE_HOME", "/CACHE")
    bh.data.fsdd()


@mistake
def target_that_is_a_device(*_: Any) -> None:
    bh.chip.save_chip(bh.chip.H1V1, "/dev/null")


@mistake
def damaged_bundle(_: pytest.MonkeyPatch, folder: Path) -> None:
    path = folder / "net.bundle"
    bh.deploy.export_bundle(on_chip(weight_init=jnp.full((4, 3), 0.3), weight_bits="chip"), path)
    path.write_bytes(path.read_bytes().replace(b"H1v1", b"H1v3", 1))
    bh.deploy.load_bundle(path)


@pytest.mark.parametrize("name", MISTAKES)
def test_the_page_shows_what_brainhw_says(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(Exception) as caught, monkeypatch.context() as patch:  # noqa: PT011
        MISTAKES[name](patch, tmp_path)
    said = normal(str(caught.value).replace(str(tmp_path), "FOLDER").replace("/CACHE", "CACHE"))
    assert said in SHOWN


def test_every_message_on_the_page_is_provoked() -> None:
    assert len(SHOWN) == len(set(SHOWN)) == len(MISTAKES)


def test_the_wall_of_text_in_a_sequential_has_the_sentence_as_its_cause() -> None:
    with pytest.raises(Exception, match="failed to update with input") as caught:
        on_chip()(jnp.ones(4))
    assert normal(str(caught.value.__cause__)) in SHOWN


def test_least_rate_of_a_deep_net_is_computed_as_shown() -> None:
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "least =" in block]
    names: dict[str, Any] = {"bh": bh, "u": u, "np": np}
    exec(code, names)
    found = [float(names["step"].to(u.mV).mantissa), float(names["most"]), float(names["least"])]
    assert [f"{value:.3g}" for value in found] == ["8.6", "4.3", "0.0113"]


def test_each_batch_size_costs_one_program() -> None:
    traced: list[int] = []
    net = on_chip()

    @brainstate.transform.jit
    def run(x: Any) -> Any:
        traced.append(x.shape[1])
        return bh.rollout(net, x)[0]

    for batch in (2, 2, 1, 2, 1):
        run(jnp.ones((3, batch, 4)))
    assert traced == [2, 1]


def test_states_that_are_created_anew_are_those_of_a_compiled_function() -> None:
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3), bh.nn.LIFLayer(3, tau=10 * u.ms))
    bh.prepare_net(net, 2)
    run = brainstate.transform.jit(lambda x: bh.rollout(net, x, prepare=False)[0])
    run(0.1 * jnp.ones((3, 2, 4)))
    assert jnp.any(net.layers[1].V.value.mantissa != 0)
    brainstate.nn.init_all_states(net, 2)
    assert not jnp.any(net.layers[1].V.value.mantissa != 0)
    run(0.1 * jnp.ones((3, 2, 4)))
    assert jnp.any(net.layers[1].V.value.mantissa != 0)


def test_every_call_that_the_page_names_exists() -> None:
    for dotted in set(re.findall(r"\bbh((?:\.\w+)+)", TEXT)):
        thing: Any = bh
        for name in dotted[1:].split("."):
            thing = getattr(thing, name)
