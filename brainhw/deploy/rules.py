"""The general deployment rules, with one function for each rule.

Each function takes a :class:`~brainhw.deploy.survey.Survey` and yields the violations of its rule. The rules do not
overlap, so that one mistake in a network violates only one rule. A chip family can omit rules or add its own
(:class:`brainhw.chip.Family`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, final

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments, _records
from brainhw._printing import printable
from brainhw.chip import get_family
from brainhw.deploy.placement import PlacementError, needs_of, place_layers
from brainhw.deploy.survey import INPUT, Survey
from brainhw.kernel.quantize import lowest_code, stored_grid
from brainhw.kernel.signs import to_blocks
from brainhw.nn import ChipWeight

__all__ = ["RULES", "Violation"]

# This text replaces the path if a violation does not belong to a single module.
NETWORK = "the network"

# Relative tolerance of time constants, about 100 rounding errors of float32.
_ROUNDING = 1e-5


@final
@dataclass(frozen=True)
class Violation:
    """Violation of a deployment rule by a module or by the whole network.

    Attributes
    ----------
    rule : str
        Name of the rule.
    path : str
        Dotted path of the module, or ``"the network"``.
    found : str
        The value in the network that violates the rule.
    limit : str
        The limit of the chip.
    fix : str
        How to fix the network.
    where : tuple
        Indices of the affected weights or neurons. For a rule on blocks, these are the indices of the first weight of
        each block. Empty if the violation does not concern single weights or neurons.
    """

    rule: str
    path: str
    found: str
    limit: str
    fix: str
    where: tuple[tuple[int, ...], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        place = _records.each(_arguments.whole_number, "integers")
        text = _arguments.text
        _records.check_fields(
            self, rule=text, path=text, found=text, limit=text, fix=text, where=_records.each(place, "tuples of int")
        )

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.rule}: {self.found}; the chip takes {self.limit}. {self.fix}")


def one_family(net: Survey) -> Iterator[Violation]:
    """All modules are built for one chip."""
    if _is_mixed(net):
        listed = ", ".join(f"{path}: {chip.name}" for path, chip in net.chips.items())
        yield Violation(
            "one family", NETWORK, listed, "modules of one chip", "Build every module with the same family and chip."
        )


def known_modules(net: Survey) -> Iterator[Violation]:
    """Every module with parameters or states is an unmodified module of the chip."""
    changed = {
        path: module
        for path, module in {**net.synapses, **net.frontends, **net.layers}.items()
        # Require the exact class, because a subclass may compute a step that the chip cannot compute.
        if type(module) not in get_family(net.chips[path].family).modules.values()
    }
    for path, module in {**net.foreign, **changed}.items():
        yield Violation(
            "known modules",
            path,
            type(module).__name__ + (" with a bias" if _has_bias(module) else ""),
            ", ".join(kind.__name__ for kind in net.family.modules.values()),
            "Remove it from the deployed network, or replace it with one of these.",
        )


def known_wiring(net: Survey) -> Iterator[Violation]:
    """Synapses drive layers and layers drive synapses, without operations between them."""
    limit = "spikes into synapses, one synapse into each layer, the spikes of one layer out"
    fix = "Pass outputs on unchanged, without operations between modules, and call each module once per time step."
    # If the network contains unsupported modules, the connections are checked only after these modules are removed.
    if net.foreign or _is_mixed(net):
        return
    if net.failure is not None:
        yield Violation(
            "known wiring", NETWORK, f"a step fails: {net.failure}", "a network whose step runs without error", fix
        )
    for path, found in net.tangles.items():
        yield Violation("known wiring", path, found, limit, fix)


def finite_weights(net: Survey) -> Iterator[Violation]:
    """No weight is NaN or infinite."""
    for path, weight in net.weights.items():
        where = _indices(~np.isfinite(_master(weight)))
        if where:
            yield Violation(
                "finite weights",
                path,
                f"{_count(where, weight)} NaN or infinite, {_first(where)}",
                "finite values",
                "Load an earlier checkpoint; rollout(check_finite=True) finds the step that breaks training.",
                where,
            )


def weights_in_range(net: Survey) -> Iterator[Violation]:
    """Every weight is in range before rounding."""
    # Check the weights before rounding: the grid ends at the limit, so rounded weights are always in range.
    for path, weight in net.weights.items():
        values = np.asarray(weight.effective.signed(jnp.asarray(_finite(weight))))
        low, high = weight.chip.weight_range
        where = _indices((values > values.dtype.type(high)) | (values < values.dtype.type(low)))
        if where:
            farthest = np.abs([float(values[index]) for index in where])
            largest = where[int(np.argmax(farthest))]
            yield Violation(
                "weights in range",
                path,
                f"{_count(where, weight)} out of range, the largest {farthest.max():.4g} at {list(largest)}",
                f"{low:g} to {high:g}",
                "Call brainhw.train.clip_weights(net); in training, after every optimizer step.",
                where,
            )


def one_sign_in_a_block(net: Survey) -> Iterator[Violation]:
    """Every block has weights of one sign; a weight of zero is allowed in any block."""
    # For H1 the vendor documents blocks of 5. brainhw assumes that they run along the presynaptic axis
    # (chip.sign_axis).
    for path, weight in net.weights.items():
        values = _applied(weight)
        if values.ndim != 2:
            continue
        block, axis = weight.chip.sign_block, weight.chip.sign_axis
        blocks = np.asarray(to_blocks(jnp.asarray(values), block, axis))
        mixed = (blocks.max(axis=1) > 0) & (blocks.min(axis=1) < 0)
        first = _indices(mixed)
        where = tuple((b * block, line) if axis == "pre" else (line, b * block) for b, line in first)
        if where:
            yield Violation(
                "one sign in a block",
                path,
                f"{len(where)} of {mixed.size} blocks with mixed signs, {_first(where)}",
                f"one sign in every {block} weights along the {axis}synaptic axis",
                "Train with brainhw.train.SignAnnealing, or call brainhw.deploy.project_signs(net).",
                where,
            )


def weights_on_grid(net: Survey) -> Iterator[Violation]:
    """Every weight is a level that the chip's bits can store. If rounding is set, the rounded weights are checked."""
    for path, weight in net.weights.items():
        values, chip = _applied(weight), weight.chip
        grid = stored_grid(chip, chip.weight_bits)
        beside = np.abs(values - np.asarray(grid.quantize(jnp.asarray(values)))).astype(float)
        # Allow two rounding errors of the dtype: one for the product of code and step, and one for the step
        # itself.
        off = beside > 2 * float(jnp.finfo(values.dtype).eps) * np.abs(values).astype(float)
        low, high = (values.dtype.type(end) for end in chip.weight_range)
        where = _indices(off & (values >= low) & (values <= high))
        if where:
            bits = weight.effective.weight_bits
            yield Violation(
                "weights on grid",
                path,
                f"{_count(where, weight)} between levels ({'no rounding' if bits is None else f'{bits} bits'})",
                _levels(grid, chip.weight_bits),
                "Train with weight_bits='chip', or call brainhw.deploy.set_weight_bits(net, 'chip').",
                where,
            )


def hardware_tau(net: Survey) -> Iterator[Violation]:
    """Every time constant is a leak profile of the chip."""
    for path, layer in net.layers.items():
        taus = np.atleast_1d(np.asarray(layer.tau.to(u.ms).mantissa, float))
        profiles = np.asarray(layer.chip.tau_profiles.values.mantissa)
        known = np.any(np.abs(taus[:, None] / profiles - 1) < _ROUNDING, axis=1)
        where = _indices(~known)
        if where:
            yield Violation(
                "hardware tau",
                path,
                f"{len(where)} of {net.n_neurons(path)} time constants are not leak profiles, "
                f"e.g. {taus[where[0][0]]:.6g} ms",
                str(layer.chip.tau_profiles),
                "Set tau in the constructor of the layer, which selects the nearest profile.",
                where,
            )


def binary_spikes(net: Survey) -> Iterator[Violation]:
    """Every neuron spikes once per step at or above threshold, never below it, and has the reset of the chip."""
    # Also test far above threshold, because a function that emits several spikes may emit only one close to threshold.
    at = jnp.asarray([-1.0, -1e-3, 0.0, 1e-3, 1.0, 10.0])
    for path, layer in net.layers.items():
        try:
            gives = np.asarray(layer.spk_fun(at))
        except Exception:  # the rule on connections reports a step that fails
            continue
        if layer.reset != layer.chip.reset:
            yield Violation(
                "binary spikes",
                path,
                f"reset {layer.reset!r}",
                f"reset {layer.chip.reset!r}",
                "Keep the reset of the layer; chip.replace(reset=...) describes a different chip.",
            )
        elif not np.array_equal(gives, np.asarray(at) >= 0):
            yield Violation(
                "binary spikes",
                path,
                f"spk_fun returns {np.round(gives, 3).tolist()} at {[round(float(x), 3) for x in at]}",
                "0 below threshold, 1 at and above it",
                "Use a surrogate that returns only 0 or 1, such as brainhw.surrogate.fast_sigmoid().",
            )


def frontend_as_built(net: Survey) -> Iterator[Violation]:
    """There is at most one frontend. It is at the input, and has one weight for each channel of the chip."""
    # The vendor documents for H1: the chip has one frontend, and each of its filters drives one neuron, without fan-in
    # or fan-out.
    feeds = {stage.synapse_path: stage.source for stage in net.stages}
    for index, (path, frontend) in enumerate(net.frontends.items()):
        width, shape = frontend.chip.frontend_channels, np.shape(net.weights[path].master.value)
        if shape != (width,):
            found = f"weights of shape {list(shape)}"
        elif index:
            found = f"frontend number {index + 1}"
        elif feeds.get(path, INPUT) != INPUT:
            found = f"fed by {feeds[path]}"
        else:
            continue
        yield Violation(
            "frontend as built",
            path,
            found,
            f"one frontend, first in the network, {width} channels wide, one-to-one",
            "Use one frontend of the family at the input, followed by dense synapses.",
        )


def neurons_on_chip(net: Survey) -> Iterator[Violation]:
    """There are at most as many neurons in the network as on the chip."""
    total = sum(map(net.n_neurons, net.layers))
    if total > net.chip.n_neurons:
        yield Violation(
            "neurons on chip",
            NETWORK,
            f"{total} neurons in {len(net.layers)} layers",
            f"at most {net.chip.n_neurons} neurons",
            f"Remove {total - net.chip.n_neurons} neurons.",
        )


def recurrent_layer_in_a_core(net: Survey) -> Iterator[Violation]:
    """No recurrent layer is larger than the largest core."""
    # The vendor documents for H1: recurrent connections exist only inside a core, feed-forward ones also between cores.
    for path in net.layers:
        if _too_large(net, path):
            yield Violation(
                "recurrent layer in a core",
                path,
                f"{net.n_neurons(path)} recurrent neurons",
                f"at most {max(net.chip.cores)}, the size of its largest core; a recurrent layer cannot be split over "
                "cores",
                "Make the layer smaller, split it into two, or use topology='FF'.",
            )


def placed(net: Survey) -> Iterator[Violation]:
    """All layers fit on the cores together."""
    total = sum(map(net.n_neurons, net.layers))
    n_frontends = sum(stage.is_frontend for stage in net.stages)
    # Each of these mistakes violates a different rule, and must not be reported twice.
    if total > net.chip.n_neurons or n_frontends > 1 or any(_too_large(net, path) for path in net.layers):
        return
    try:
        place_layers(net.chip, needs_of(net), call="check_deployable")
    except PlacementError as error:
        yield Violation(
            "placed",
            NETWORK,
            error.reason,
            f"cores of {', '.join(str(n) for n in net.chip.cores)} neurons",
            f"{error.fix[0].upper()}{error.fix[1:]}.",
        )


RULES: dict[str, Callable[[Survey], Iterator[Violation]]] = {
    rule.__name__.replace("_", " "): rule
    for rule in (
        one_family,
        known_modules,
        known_wiring,
        finite_weights,
        weights_in_range,
        one_sign_in_a_block,
        weights_on_grid,
        hardware_tau,
        binary_spikes,
        frontend_as_built,
        neurons_on_chip,
        recurrent_layer_in_a_core,
        placed,
    )
}


def _is_mixed(net: Survey) -> bool:
    return len(set(net.chips.values())) > 1


def _levels(grid: Any, bits: int) -> str:
    """Return the levels of a weight grid as text: multiples of a step if they are evenly spaced, otherwise a list."""
    values = np.sort(np.unique(np.asarray(grid.values(jnp.arange(lowest_code(grid), grid.largest_code + 1)), float)))
    if np.allclose(np.diff(values), grid.step, rtol=1e-3):
        return f"multiples of {grid.step:.4g} ({bits} bits)"
    shown = ", ".join(f"{value:.4g}" for value in values[:9]) + (", ..." if len(values) > 9 else "")
    return f"{len(values)} levels ({bits} bits): {shown}"


def _has_bias(module: Any) -> bool:
    # The layers of brainstate store weight and bias as a dict in one state.
    held = [value.value for value in vars(module).values() if isinstance(value, brainstate.State)]
    own = any(isinstance(value, dict) and "bias" in value for value in held)
    return own or vars(module).get("bias") is not None


def _too_large(net: Survey, path: str) -> bool:
    return net.is_recurrent(path) and net.n_neurons(path) > max(net.chip.cores)


def _master(weight: ChipWeight) -> np.ndarray:
    return np.asarray(weight.master.value)


def _finite(weight: ChipWeight) -> np.ndarray:
    # Replace NaN and infinity by zero, which every rule accepts, so that only the rule on finite weights reports them.
    return np.nan_to_num(_master(weight), nan=0.0, posinf=0.0, neginf=0.0)


def _applied(weight: ChipWeight) -> np.ndarray:
    return np.asarray(weight.effective.applied(jnp.asarray(_finite(weight))))


def _indices(bad: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(i) for i in index) for index in np.argwhere(bad))


def _count(where: tuple[Any, ...], weight: ChipWeight) -> str:
    return f"{len(where)} of {weight.master.value.size} weights"


def _first(where: tuple[tuple[int, ...], ...]) -> str:
    return f"the first at {list(where[0])}"
