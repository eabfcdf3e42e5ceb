"""The class of the networks that :func:`load_bundle` builds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.chip import ChipSpec, get_family
from brainhw.deploy.bundle_chip import set_chip_values
from brainhw.deploy.bundle_content import DTYPES, BundleContent, Codes
from brainhw.deploy.inputs import warn_of_input
from brainhw.deploy.packing import FRONTEND, RECURRENT, Need
from brainhw.deploy.placement import Placement, pieces_at
from brainhw.deploy.survey import INPUT
from brainhw.kernel.quantize import stored_grid
from brainhw.nn import chip_weights

__all__ = ["BundledNet"]

# Relative tolerance of dt. The same time step differs in its last bits if it is stored in float32 or in another unit.
_SAME_DT = 1e-7


class BundledNet(brainstate.nn.Module):
    """A network that is built from the content of a bundle, usually by :func:`load_bundle`.

    The network runs, samples chips and trains like any other network. Modules and parameters have the same paths as in
    the exported network, so that the same PRNG key samples the same chip for both networks.

    The modules are built with the module classes of the chip's family, which are called as
    ``synapse(n_in, n_out, chip=, weight_init=, weight_bits=)``, ``frontend(chip=, weight_init=, weight_bits=)`` and
    ``layer(size, tau, topology=, chip=)``. A layer with topology ``'RC'`` also receives the arguments
    ``recurrent_init=, weight_bits=``.

    Parameters
    ----------
    content : BundleContent
        The content of the bundle.

    Raises
    ------
    ValueError
        If the network cannot be built exactly, because the chip family lacks a module, a path is not a valid attribute,
        the precision differs from the precision of ``brainstate.environ``, or a value is too large or too small for
        this precision.
    """

    def __init__(self, content: BundleContent) -> None:
        super().__init__()
        # Only `content` is stored here, not the modules: brainstate names a module by the path where it finds it, so a
        # second reference would rename the module.
        self._content = content
        if not _works_in(content.dtype):
            raise ValueError(
                f"the network computes in {content.dtype}, but the precision of brainstate.environ is "
                f"{np.dtype(brainstate.environ.dftype()).name}. Load it inside "
                f"brainstate.environ.context(precision={DTYPES[content.dtype]!r})"
            )
        tree = _tree(_build(content))
        for name in tree:
            # A module may have the name of a property, which then hides the module. It must not hide a method.
            if name in vars(self) or not isinstance(getattr(type(self), name, property()), property):
                raise ValueError(
                    f"the path of a module cannot begin with {name!r}, which is an attribute of BundledNet. Rename "
                    "the module"
                )
        self.__dict__.update(tree)
        set_chip_values(self, content.in_place, content.known, content.placement)
        self.in_size, self.out_size = (content.n_in,), (content.n_out,)

    @property
    def content(self) -> BundleContent:
        """The content of the bundle, such as the weight codes, the tau profiles and the connections."""
        return self._content

    @property
    def chip(self) -> ChipSpec:
        """The chip of the network."""
        return self._content.chip

    def take_chip(self, chip: ChipSpec) -> None:
        """Set the chip of the network. The modules of the network must already use this chip."""
        placement = Placement(chip, self._content.placement.pieces)
        self._content = replace(self._content, chip=chip, placement=placement)

    @property
    def dt(self) -> u.Quantity:
        """Time step of the network, ms."""
        return self._content.dt

    @property
    def placement(self) -> Placement:
        """The position of each neuron on the chip."""
        held = self._content.placement
        physical: dict[str, Any] = {
            piece.layer: getattr(self._at(piece.layer), "physical", None) for piece in held.pieces
        }
        if any(at is None for at in physical.values()):
            return held
        # put_chip was called after loading.
        needs = [Need(piece.layer, 1, piece.kind == RECURRENT, piece.kind == FRONTEND) for piece in held.pieces]
        pieces = [piece for need in dict.fromkeys(needs) for piece in pieces_at(self.chip, need, physical[need.name])]
        return Placement(self.chip, tuple(pieces))

    @property
    def versions(self) -> dict[str, str]:
        """The versions of ``brainhw``, ``brainstate``, ``jax`` and ``python`` that wrote the bundle."""
        return dict(self._content.versions)

    @property
    def n_classes(self) -> int | None:
        """Number of classes. The output neurons are divided into equal, consecutive populations, one per class."""
        return self._content.n_classes

    @property
    def notes(self) -> str:
        """Free text that was stored in the bundle."""
        return self._content.notes

    @property
    def encoding_fingerprint(self) -> str | None:
        """Fingerprint of the encoding that computes the inputs of the network, or None."""
        return self._content.encoding_fingerprint

    def check_input(self, xs: Any, *, call: str) -> None:
        """Warn if inputs are out of the range of a chip. :func:`brainhw.rollout` calls this method.

        Traced inputs are not checked.
        """
        has_frontend = any(synapse.frontend for synapse in self._content.synapses.values())
        warn_of_input(xs, has_frontend=has_frontend, call=call, stacklevel=5)

    def update(self, x: jax.Array) -> jax.Array:
        """Advance one step and return the spikes of the output layer.

        Parameters
        ----------
        x : jax.Array
            Spikes or dimensionless analog values, ``[N_in]`` or ``[B, N_in]``.

        Returns
        -------
        jax.Array
            Spikes, ``[N_out]`` or ``[B, N_out]``.

        Raises
        ------
        RuntimeError
            If the dt or the precision of ``brainstate.environ`` differs from that of the bundle.
        """
        call = f"{type(self).__name__}.update"
        if brainstate.environ.get("dt", default=None) is None:
            raise RuntimeError(f"{call}: no time step is set. Run it inside brainstate.environ.context(dt=net.dt).")
        # Inside jit the unit conversion would be traced, and a traced dt cannot be compared.
        with jax.ensure_compile_time_eval():
            dt, made_for = _arguments.time_step(call=call).mantissa, self.dt.mantissa
        if not (_arguments.is_concrete(dt) and math.isclose(dt, made_for, rel_tol=_SAME_DT)):
            has = f"{dt:.10g} ms" if _arguments.is_concrete(dt) else "a traced value"
            raise RuntimeError(
                f"{call}: the network was made for dt = {made_for:.10g} ms (got {has} from brainstate.environ). "
                "Run it inside brainstate.environ.context(dt=net.dt)."
            )
        if not _works_in(self._content.dtype):
            raise RuntimeError(
                f"{call}: the network computes in {self._content.dtype}, but brainstate.environ has a different "
                f"precision. Run it inside brainstate.environ.context(precision={DTYPES[self._content.dtype]!r})."
            )
        spikes = {INPUT: x}
        # Use the dt of the bundle: dt of environ may differ from it in its last bits, which would change the decays
        # slightly and could change a spike.
        with brainstate.environ.context(dt=self.dt):
            for wire in self._content.wires:
                charge = self._at(wire.synapse)(spikes[wire.source])
                spikes[wire.layer] = self._at(wire.layer)(charge)
        return spikes[self._content.output]

    def _at(self, path: str) -> Any:
        found: Any = vars(self)
        for part in path.split("."):
            found = found[part] if part in found else found[int(part)]
        return found


def _works_in(dtype: str) -> bool:
    return np.dtype(brainstate.environ.dftype()).name == dtype


def _build(content: BundleContent) -> dict[str, Any]:
    """Build the modules of a network, with weights that are exactly the levels of their codes.

    Return the modules by path, in execution order.
    """
    chip, dtype = content.chip, jnp.dtype(content.dtype)
    kinds = get_family(chip.family).modules
    needed = {"frontend" if synapse.frontend else "synapse" for synapse in content.synapses.values()} | {"layer"}
    if lacking := sorted(needed - kinds.keys()):
        raise ValueError(f"the chip family {chip.family} has no {lacking[0]} module, which the network needs")
    modules: dict[str, Any] = {}
    with np.errstate(all="ignore"):  # an overflow results in infinity, which the checks below reject
        _check_numbers("the chip", chip.V_th.mantissa, chip.C.mantissa, content.dt.mantissa, dtype=dtype)
        for wire in content.wires:
            synapse, layer = content.synapses[wire.synapse], content.layers[wire.layer]
            codes = synapse.weight
            init = {"chip": chip, "weight_init": _values(codes, chip, dtype), "weight_bits": codes.bits}
            modules[wire.synapse] = (
                kinds["frontend"](**init) if synapse.frontend else kinds["synapse"](*codes.values.shape, **init)
            )
            taus = np.asarray(chip.tau_profiles.values.mantissa)[layer.profiles]
            _check_numbers(wire.layer, *np.unique(taus), dtype=dtype)
            recurrent = {}
            if layer.recurrent is not None:
                codes = layer.recurrent
                recurrent = {"recurrent_init": _values(codes, chip, dtype), "weight_bits": codes.bits}
            modules[wire.layer] = kinds["layer"](
                len(taus), taus * u.ms, topology=layer.topology, chip=chip, **recurrent
            )
        for path, codes in content.weights():
            _check_rounding(path, modules[path], codes)
    return modules


def _values(codes: Codes, chip: ChipSpec, dtype: Any) -> jax.Array:
    return stored_grid(chip, codes.bits).values(codes.values, dtype)


def _check_rounding(path: str, module: Any, codes: Codes) -> None:
    """Raise ``ValueError`` unless the weights of a module are rounded to ``codes`` and have finite charges."""
    weight = next(iter(chip_weights(module).values()))
    # In a dtype of low precision, neighbouring levels may round to the same number, and a charge may overflow.
    grid = stored_grid(weight.chip, codes.bits)
    again = np.asarray(grid.codes(weight.master.value))
    charge = np.asarray(weight.chip.charge(weight.master.value).mantissa, np.float64)
    if not (np.array_equal(again, codes.values) and np.all(np.isfinite(charge))):
        raise ValueError(
            f"{path}: the chip's weights or charges are too large or too small for the network's precision"
        )


def _check_numbers(what: str, *numbers: float, dtype: Any) -> None:
    # XLA may replace numbers below the smallest normal number by zero, and later computations divide by these numbers.
    held = np.asarray(jnp.asarray(np.asarray(numbers, np.float64).astype(dtype)), np.float64)
    if not (np.all(np.isfinite(held)) and np.all(held >= float(jnp.finfo(dtype).tiny))):
        raise ValueError(
            f"{what}: a time, threshold or capacitance is too large or too small for the network's precision"
        )


def _tree(modules: Mapping[str, Any]) -> dict[str, Any]:
    """Return the modules as nested dicts, split at the dots of their paths."""
    tree: dict[str, Any] = {}
    for path, module in modules.items():
        *folders, name = path.split(".")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
            if not isinstance(branch, dict):
                raise ValueError(f"{path} is inside another module. Make each module an attribute of the network")
        if name in branch:
            raise ValueError(f"{path} contains other modules. Make each module an attribute of the network")
        branch[name] = module
    return {name: _numbered(branch) for name, branch in tree.items()}


def _numbered(branch: Any) -> Any:
    """Convert the keys of a dict to ints if all of them are integers, because brainstate names list entries by ints."""
    if not isinstance(branch, dict):
        return branch
    numbers = all(name.isdecimal() and name.isascii() and str(int(name)) == name for name in branch)
    return {int(name) if numbers else name: _numbered(value) for name, value in branch.items()}
