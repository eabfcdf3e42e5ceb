"""Chip program of a network: integer codes, leak settings, and the position of each neuron."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, final

import brainstate
import brainunit as u
import jax
import numpy as np

from brainhw import _arguments
from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.chip import ChipSpec
from brainhw.deploy.bundle import codes_of, content_of
from brainhw.deploy.bundle_content import BundleContent, BundledLayer, BundledSynapse, Codes, Wire
from brainhw.deploy.bundled_net import BundledNet
from brainhw.deploy.placement import Placement
from brainhw.kernel import WeightGrid
from brainhw.nn import ChipWeight, chip_weights
from brainhw.silicon.program_files import Format, content_of_folder, places, write_folder

__all__ = ["ChipProgram", "on_chip", "with_weights"]

# Training may violate these two rules temporarily, so programs do not check them. The codes are the same as in the
# model, where rounding clips weights that are out of range.
_UNCHECKED = ("weights in range", "one sign in a block")


@final
@dataclass(frozen=True, eq=False)
class ChipProgram(Shown):
    """The data that a bench writes to a chip to run a network: codes, leak settings and neuron positions.

    :meth:`of` makes a program from a network, :meth:`load` reads a program from files, and :meth:`to_net` builds the
    network of a program. The how-to "Connect a bench" describes the files.

    Each neuron of a layer runs on the physical neuron with the index ``sum(chip.cores[:core]) + position``. Its leak
    setting is the index of its time constant in ``chip.tau_profiles``. A weight is stored as an integer code.

    Parameters
    ----------
    content : BundleContent
        The content of a bundle, from :meth:`of` or :meth:`load`.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.H1v2Synapse(4, 3, weight_init=jnp.full((4, 3), 1.66), weight_bits="chip"),
    ...     bh.nn.H1v2Layer(3, tau=20 * u.ms),
    ... )
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     program = bh.silicon.ChipProgram.of(net)
    >>> program.codes["layers.0"].tolist()[0], program.leak("layers.1").tolist(), program.physical("layers.1").tolist()
    ([15, 15, 15], [4, 4, 4], [0, 1, 2])
    """

    content: BundleContent

    def __post_init__(self) -> None:
        _arguments.instance(self.content, BundleContent, call="ChipProgram", name="content", source="ChipProgram.of")

    @staticmethod
    def of(net: brainstate.nn.Module, placement: Placement | None = None) -> ChipProgram:
        """Return the program of a network.

        The network must satisfy all rules of :func:`brainhw.deploy.check_deployable` except two, which training may
        violate temporarily: a weight may be out of range, and a sign block may have weights of both signs. A weight out
        of range is stored as the code of the limit. A bench that requires blocks of one sign must reject a program with
        mixed blocks.

        Parameters
        ----------
        net : brainstate.nn.Module
            The network. Its weights must be rounded (``weight_bits="chip"``).
        placement : Placement, optional
            The position of each neuron. Default: the placement of the bundle if the network was loaded from one, or
            else the result of :func:`brainhw.deploy.place`.

        Returns
        -------
        ChipProgram
            The program. If the current chip of the network is sampled or measured, the program stores the values of
            this chip, and :meth:`to_net` uses them.

        Raises
        ------
        TypeError
            If an argument has the wrong type.
        ValueError
            If the network violates a rule, or if ``placement`` belongs to another network.
        RuntimeError
            If no dt is set in ``brainstate.environ``, or if called inside ``jit``.
        """
        call = "ChipProgram.of"
        if placement is not None:
            _arguments.instance(placement, Placement, call=call, name="placement", source="brainhw.deploy.place")
        content = content_of(net, placement=placement, unchecked=_UNCHECKED, call=call)
        if placement is not None:
            sizes = {path: len(layer.profiles) for path, layer in content.layers.items()}
            if placement.layers != sizes or placement.chip.cores != content.chip.cores:
                raise ValueError(
                    f"{call}: placement must be for the layers {sizes} and the cores {content.chip.cores} of the "
                    f"network; got a placement for the layers {placement.layers} and the cores {placement.chip.cores}."
                )
            # Check the pieces of the placement again, because the kind of a layer determines the cores on which its
            # pieces may be placed.
            Placement.from_list(content.chip, placement.to_list(), sizes)
        return ChipProgram(content)

    def updated(self, net: brainstate.nn.Module) -> ChipProgram:
        """Return this program with the current weights of its network. This is much faster than :meth:`of`.

        Use it in training loops that program the chip after each update. Connections, placement and leak settings
        do not change.

        Parameters
        ----------
        net : brainstate.nn.Module
            The network from which the program was made, or a copy.

        Returns
        -------
        ChipProgram
            The program with the new codes. It stores no sampled or measured chip.

        Raises
        ------
        TypeError
            If ``net`` is not a module.
        ValueError
            If the chip of ``net``, or the paths or shapes of its weights, differ from those of the program, or if a
            weight is not a level of its grid.
        """
        _arguments.check_module(net, call="ChipProgram.updated")
        return with_weights(self, chip_weights(net))

    @property
    def chip(self) -> ChipSpec:
        """The chip that the network was built for."""
        return self.content.chip

    @property
    def dt(self) -> u.Quantity:
        """The time step, ms."""
        return self.content.dt

    @property
    def placement(self) -> Placement:
        """The position of each neuron."""
        return self.content.placement

    @property
    def wires(self) -> tuple[Wire, ...]:
        """Each synapse with its source (a layer path or ``"input"``) and its target layer, in execution order."""
        return self.content.wires

    @property
    def output(self) -> str:
        """The path of the output layer."""
        return self.content.output

    @property
    def n_in(self) -> int:
        """Number of input channels."""
        return self.content.n_in

    @property
    def layers(self) -> dict[str, int]:
        """Number of neurons of each layer, by the path of the layer, in execution order."""
        return {wire.layer: len(self.content.layers[wire.layer].profiles) for wire in self.content.wires}

    @property
    def frontend(self) -> str | None:
        """The path of the frontend, or None if the program has no frontend."""
        return next((path for path, synapse in self.content.synapses.items() if synapse.frontend), None)

    @property
    def codes(self) -> Mapping[str, np.ndarray]:
        """The codes of all weights, by the path of the synapse, frontend or recurrent layer.

        Codes have shape ``[N_in, N_out]`` for a synapse, ``[N]`` for a frontend, and ``[N, N]`` for a recurrent layer.
        """
        return MappingProxyType({path: codes.values for path, codes in self.content.weights()})

    @property
    def bits(self) -> dict[str, int]:
        """Number of weight bits, by the path of the synapse, frontend or recurrent layer."""
        return {path: codes.bits for path, codes in self.content.weights()}

    def leak(self, layer: str) -> np.ndarray:
        """Return the leak setting of each neuron of a layer as an index in ``chip.tau_profiles``, ``[N]``."""
        _arguments.choice(layer, self.content.layers, call="ChipProgram.leak", name="layer")
        return self.content.layers[layer].profiles

    def physical(self, layer: str) -> np.ndarray:
        """Return, for each neuron of a layer, the index of its physical neuron, ``[N]``.

        The index is ``sum(cores[:core]) + position``.
        """
        _arguments.choice(layer, self.content.layers, call="ChipProgram.physical", name="layer")
        return self.placement.physical_of(layer)

    def save(self, folder: str | os.PathLike[str], *, format: Format = "npz") -> None:
        """Write the program to a folder, as ``program.json`` with ``program.npz`` or with three CSV files.

        A missing folder is created, but its parent folder must exist. Files of an earlier program in the folder are
        replaced. If writing is interrupted, the folder has no ``program.json`` and :meth:`load` rejects it.

        Parameters
        ----------
        folder : path
            The folder.
        format : {'npz', 'csv'}, optional
            ``'csv'`` writes ``neurons.csv``, ``codes.csv`` and ``levels.csv`` instead of ``program.npz``.

        Raises
        ------
        TypeError
            If ``folder`` is not a path.
        ValueError
            If ``format`` is unknown, or if the folder cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> import brainhw as bh, brainstate, brainunit as u
        >>> net = brainstate.nn.Sequential(bh.nn.H1v1Frontend(weight_bits=5), bh.nn.H1v1Layer(16, tau=5 * u.ms))
        >>> with brainstate.environ.context(dt=1.0 * u.ms), tempfile.TemporaryDirectory() as folder:
        ...     program = bh.silicon.ChipProgram.of(net)
        ...     program.save(folder, format="csv")
        ...     sorted(os.listdir(folder)), bh.silicon.ChipProgram.load(folder) == program
        (['codes.csv', 'levels.csv', 'neurons.csv', 'program.json'], True)
        """
        write_folder(self.content, folder, files=format, call="ChipProgram.save")

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> ChipProgram:
        """Read a program from a folder that :meth:`save` wrote. The files may have been edited.

        Parameters
        ----------
        folder : path
            The folder.

        Returns
        -------
        ChipProgram
            The program.

        Raises
        ------
        TypeError
            If ``folder`` is not a path.
        ValueError
            If a file is missing, corrupted or truncated, or has an invalid value, such as a code that is not on the
            grid, two neurons at the same position or an unknown layer. The message names the error.
        """
        return ChipProgram(content_of_folder(folder, call="ChipProgram.load"))

    def to_net(self, chip: ChipSpec | None = None) -> BundledNet:
        """Build the network of the program. Its spikes are exactly those of the original network.

        Parameters
        ----------
        chip : ChipSpec, optional
            A different chip to run the network on. It must have the same family and cores. Default: the chip of the
            program. If the chip of the program was sampled or measured, its sampled or measured values are used.

        Returns
        -------
        BundledNet
            The network. Its modules have the same paths as in the original network. Run it inside
            ``brainstate.environ.context(dt=program.dt)``.

        Raises
        ------
        TypeError
            If ``chip`` is not a ``ChipSpec``.
        ValueError
            If ``chip`` does not match the program, or if ``brainstate.environ`` has a different precision.
        RuntimeError
            If called inside ``jit``.
        """
        call, content = "ChipProgram.to_net", self.content
        if _arguments.inside_jit():
            raise RuntimeError(f"{call}: jit would discard the states of the network. Call it outside of jit.")
        if chip is not None:
            _arguments.instance(chip, ChipSpec, call=call, name="chip")
            content = on_chip(content, chip, call)
        try:
            return BundledNet(content)
        except ValueError as error:
            raise ValueError(
                f"{call}: the network of the program cannot be built: {str(error).rstrip('.')}."
            ) from error

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChipProgram):
            return NotImplemented
        return _comparable(self.content) == _comparable(other.content)

    __hash__ = None  # type: ignore[assignment]

    def _parts(self) -> Iterator[str | Table]:
        rows = []
        for wire in self.wires:
            layer, codes = self.content.layers[wire.layer], self.content.synapses[wire.synapse].weight
            leak = ", ".join(map(str, np.unique(layer.profiles).tolist()))
            cores = ", ".join(map(str, np.unique(self.placement.core_of(wire.layer)).tolist()))
            shape = " x ".join(map(str, codes.values.shape))
            rows.append(
                (
                    wire.layer,
                    str(len(layer.profiles)),
                    layer.topology,
                    cores,
                    leak,
                    wire.source,
                    wire.synapse,
                    shape,
                    str(codes.bits),
                )
            )
        headings = ("layer", "neurons", "kind", "cores", "leak settings", "source", "synapse", "codes", "bits")
        dt = f"{self.dt.mantissa:.6g} ms"
        yield (
            f"program for {self.chip.name}: {sum(self.layers.values())} of {self.chip.n_neurons} neurons, steps of "
            f"{dt}, output {self.output}"
        )
        yield Table(headings, rows, left=("layer", "source", "synapse"))

    def __repr__(self) -> str:
        return f"ChipProgram({self.chip.name!r}, layers {self.layers})"


def with_weights(program: ChipProgram, weights: Mapping[str, ChipWeight]) -> ChipProgram:
    """Return the program with the current values of ``weights``, as :meth:`ChipProgram.updated` does.

    ``weights`` is the result of ``chip_weights(net)``. A training loop calls ``chip_weights`` only once.
    """
    call, content = "ChipProgram.updated", program.content
    chips = [weight.effective.chip for weight in weights.values()]
    if any(chip is not content.chip and chip != content.chip for chip in chips):
        raise ValueError(
            f"{call}: net must be on the chip of the program. Make a new program with ChipProgram.of(net)."
        )
    old = dict(content.weights())
    shapes = {path: tuple(weight.master.value.shape) for path, weight in weights.items()}
    wanted = {path: codes.values.shape for path, codes in old.items()}
    if shapes != wanted:
        raise ValueError(
            f"{call}: the weights of net must have the same paths and shapes as those of the program, {wanted}; got "
            f"{shapes}."
        )
    new = _codes(weights, call)
    synapses = {path: BundledSynapse(one.frontend, new[path]) for path, one in content.synapses.items()}
    layers = {path: BundledLayer(one.profiles, new.get(path)) for path, one in content.layers.items()}
    return ChipProgram(dataclasses.replace(content, synapses=synapses, layers=layers, in_place={}))


def _codes(weights: Mapping[str, ChipWeight], call: str) -> dict[str, Codes]:
    """Return the codes of each weight matrix, by path.

    Weights on a plain grid without sign annealing are rounded together in one compiled call. This is faster than a call
    to :func:`codes_of` for each matrix.
    """
    found, grids, masters = {}, {}, []
    for path, (master, _, effective) in weights.items():
        _arguments.check_finite(master.value, call=call, name=f"the weight of {path}", fix="load it again")
        # Rounding to this grid yields exact levels, so no check is needed.
        if type(effective.grid) is WeightGrid and effective.sign_alpha is None:
            grids[path] = effective.grid
            masters.append(master.value)
        else:
            found[path] = codes_of(path, weights[path], call)
    # Round all weights in one call, because starting a call takes longer than rounding (0.2 ms per program instead of 2
    # ms).
    for (path, grid), codes in zip(grids.items(), _rounded(tuple(grids.values()), masters), strict=True):
        found[path] = Codes(grid.bits, np.asarray(codes))
    return found


@functools.partial(jax.jit, static_argnums=0)
def _rounded(grids: tuple[WeightGrid, ...], masters: list[jax.Array]) -> list[jax.Array]:
    return [grid.codes(master) for grid, master in zip(grids, masters, strict=True)]


def on_chip(content: BundleContent, chip: ChipSpec, call: str) -> BundleContent:
    """Return the content of a program for a different chip.

    Raise ``ValueError`` if the chips differ in family, cores, number of frontend channels or number of leak settings.
    """
    old = content.chip
    for what, wanted, got in (
        ("family", old.family, chip.family),
        ("cores", old.cores, chip.cores),
        ("frontend_channels", old.frontend_channels, chip.frontend_channels),
        ("number of tau_profiles", _settings(old), _settings(chip)),
    ):
        if wanted != got:
            raise ValueError(f"{call}: chip must have the same {what} as the program, {wanted}; got {got}.")
    placement = Placement(chip, content.placement.pieces)
    return dataclasses.replace(content, chip=chip, placement=placement, in_place={})


def _settings(chip: ChipSpec) -> int:
    return len(chip.tau_profiles.values.mantissa)


def _comparable(content: BundleContent) -> dict[str, Any]:
    plain = content.to_plain()
    # Compare the positions of the neurons and not the pieces of the placement, because the files merge adjacent pieces.
    # Ignore the versions of the software that wrote the program.
    at = {layer: (core.tolist(), position.tolist()) for layer, (core, position) in places(content.placement).items()}
    return {**plain, "placement": at, "versions": None}
