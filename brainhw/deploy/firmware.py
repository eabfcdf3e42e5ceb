"""One time step of a bundled network in NumPy, and the same time step as a C header for a microcontroller."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw._files import check_target, path_text, write_whole
from brainhw.deploy.bundle import build_net, read_bundle
from brainhw.deploy.firmware_c import check_name, header_text, table_bytes
from brainhw.deploy.firmware_numbers import Charges, LayerNumbers, Numbers, numbers_of

__all__ = ["Firmware", "FirmwareState", "firmware"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class FirmwareState:
    """Membrane potentials and spikes of all layers after a step, by the path of the layer.

    Attributes
    ----------
    spikes : Mapping of str to numpy.ndarray
        Spikes of the last step, uint8, ``[N]`` or ``[B, N]``.
    """

    _millivolts: tuple[np.ndarray, ...]
    spikes: Mapping[str, np.ndarray]

    @property
    def V(self) -> dict[str, u.Quantity]:
        """The membrane potentials after the reset, mV."""
        return {path: u.Quantity(V, unit=u.mV) for path, V in zip(self.spikes, self._millivolts, strict=True)}

    def __repr__(self) -> str:
        return f"FirmwareState({', '.join(f'{path}: {list(spk.shape)}' for path, spk in self.spikes.items())})"


@final
class Firmware:
    """One time step of a network in pure NumPy, and the same step in C; made by :func:`firmware`.

    Charges are summed in float32, in the order of the inputs. An input value times the charge of its connection, and a
    membrane potential times its decay factor, are added with a fused multiply-add (C99 ``fmaf``). This operation rounds
    only once, after the addition. XLA does the same on a CPU. ``step`` and the C header produce bit-identical results.

    Attributes
    ----------
    n_in, n_out : int
        Number of inputs and of output neurons.
    dt : Quantity
        The time step for which the decay factors are computed, ms.
    chip : str
        Name of the chip.
    checksum : str
        SHA-256 of the bundle, in hexadecimal.
    """

    def __init__(self, numbers: Numbers, checksum: str) -> None:
        self._numbers, self.checksum = numbers, checksum
        self.n_in, self.n_out = numbers.n_in, numbers.layers[numbers.output].n
        self.dt, self.chip = numbers.dt_ms * u.ms, numbers.chip

    @property
    def state_bytes(self) -> int:
        """RAM in bytes that the state needs in C, without padding: one float and one byte per neuron."""
        return sum(5 * layer.n for layer in self._numbers.layers)

    @property
    def table_bytes(self) -> int:
        """Size in bytes of the constant arrays in C: charges, weight codes, decay factors and thresholds."""
        return table_bytes(self._numbers)

    def initial_state(self, batch_size: int | None = None) -> FirmwareState:
        """Return the resting state, for one sample or for a batch.

        Parameters
        ----------
        batch_size : int, optional
            Number of samples. Default: one sample without a batch axis.

        Returns
        -------
        FirmwareState
            Membrane potentials and spikes, all zero.
        """
        lead: tuple[int, ...] = ()
        if batch_size is not None:
            lead = (_arguments.positive_int(batch_size, call="Firmware.initial_state", name="batch_size", most=2**31),)
        layers = self._numbers.layers
        rest = tuple(np.zeros((*lead, layer.n), np.float32) for layer in layers)
        return FirmwareState(rest, {layer.path: np.zeros((*lead, layer.n), np.uint8) for layer in layers})

    def step(self, state: FirmwareState, x: Any) -> tuple[FirmwareState, np.ndarray]:
        """Advance the network by one time step.

        Parameters
        ----------
        state : FirmwareState
            The previous state, from :meth:`initial_state` or an earlier step. It is not modified.
        x : array
            Spikes or dimensionless values, ``[N_in]`` or ``[B, N_in]``.

        Returns
        -------
        state : FirmwareState
            The state after the step.
        spikes : numpy.ndarray
            Output spikes, uint8, 0 or 1, ``[N_out]`` or ``[B, N_out]``.

        Raises
        ------
        TypeError
            If ``state`` is not a ``FirmwareState``, or if ``x`` is not an array of real numbers.
        ValueError
            If ``state`` does not belong to this network, or if ``x`` has the wrong shape or contains non-finite values.
        """
        call = "Firmware.step"
        _arguments.instance(state, FirmwareState, call=call, name="state", source="initial_state")
        wanted = [(layer.path, layer.n) for layer in self._numbers.layers]
        if [(path, spk.shape[-1]) for path, spk in state.spikes.items()] != wanted:
            raise ValueError(f"{call}: state must belong to this network; got {state}. Create it with initial_state.")
        x = _arguments.as_array(x, call=call, name="x")
        lead = state._millivolts[0].shape[:-1]
        if np.shape(x) != (*lead, self.n_in):
            raise ValueError(f"{call}: x must have shape {(*lead, self.n_in)} to match state; got shape {np.shape(x)}.")
        _arguments.check_finite(x, call=call, name="x")
        values = np.asarray(x, np.float32)
        membranes: list[np.ndarray] = []
        spikes: list[np.ndarray] = []
        for layer, before, spk in zip(self._numbers.layers, state._millivolts, state.spikes.values(), strict=True):
            given = values if layer.source is None else spikes[layer.source]
            for held, one in zip((membranes, spikes), self._advance(layer, before, spk, given), strict=True):
                held.append(one)
        after = FirmwareState(tuple(membranes), dict(zip(state.spikes, spikes, strict=True)))
        return after, spikes[self._numbers.output]

    def run(self, xs: Any) -> np.ndarray:
        """Run a sequence from rest and return the output spikes.

        Parameters
        ----------
        xs : array
            Inputs ``[T, N_in]`` or ``[T, B, N_in]``.

        Returns
        -------
        numpy.ndarray
            Spikes, uint8, ``[T, N_out]`` or ``[T, B, N_out]``.

        Raises
        ------
        TypeError
            If ``xs`` is not an array of real numbers.
        ValueError
            If ``xs`` has the wrong shape or contains non-finite values.
        """
        call = "Firmware.run"
        xs = np.asarray(_arguments.as_array(xs, call=call, name="xs"))
        if xs.ndim not in (2, 3) or xs.shape[-1] != self.n_in or 0 in xs.shape:
            raise ValueError(
                f"{call}: xs must have shape [T, {self.n_in}] or [T, B, {self.n_in}] with T >= 1 and B >= 1; got "
                f"shape {xs.shape}."
            )
        _arguments.check_finite(xs, call=call, name="xs")
        state, outputs = self.initial_state(xs.shape[1] if xs.ndim == 3 else None), []
        for x in xs:
            state, spikes = self.step(state, x)
            outputs.append(spikes)
        return np.stack(outputs)

    def write_c(self, path: str | os.PathLike[str], name: str = "net") -> None:
        """Write the time step as a C header.

        The header contains the type of the state, the tables of constants, and the functions ``NAME_reset``,
        ``NAME_step`` and ``NAME_output``. It is valid C99 and C++11. It allocates no memory, and calls only ``fmaf``
        and ``memset`` of the C library. Include it in only one source file.

        Parameters
        ----------
        path : path
            The file, such as ``"net.h"``; its folder must exist. An existing file is replaced atomically.
        name : str, optional
            Prefix of all names in C; it must be a C identifier. Default ``"net"``.

        Raises
        ------
        TypeError
            If ``path`` is not a path, or if ``name`` is not text.
        ValueError
            If ``name`` is not a C identifier, or if the file cannot be written or is not a regular file.
        """
        call = "Firmware.write_c"
        check_target(path_text(path, call=call, what="the file to write"), call=call)
        text = header_text(self._numbers, check_name(name, call), self.checksum)
        write_whole(path, text.encode("ascii"), call=call)

    def __repr__(self) -> str:
        sizes = " -> ".join(str(layer.n) for layer in self._numbers.layers)
        return f"Firmware({self.chip}: {self.n_in} -> {sizes}, {self.state_bytes} bytes of state)"

    def _advance(
        self, layer: LayerNumbers, V: np.ndarray, before: np.ndarray, given: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return membrane potentials and spikes of a layer after a step; the C header does the same operations."""
        drive = _sum(given, layer.charges)
        if layer.recurrent is not None:
            drive = drive + _sum(before, layer.recurrent)
        # A charge in fC divided by a capacitance in fF gives V, and the factor 1000 gives mV. XLA multiplies by the
        # inverse of a constant instead of dividing by it, so this code does the same.
        V = _fused(V, layer.leak, (drive * self._numbers.per_C) * np.float32(1000))
        V = np.where(V > 0, V, np.float32(0))
        spk = (layer.V_th <= V).astype(np.uint8)
        rest = np.maximum(V - layer.V_th, np.float32(0)) if self._numbers.subtracts else np.float32(0)
        return np.where(spk != 0, rest, V).astype(np.float32), spk


def firmware(path: str | os.PathLike[str]) -> Firmware:
    """Read a bundle and return a NumPy implementation of one time step of its network.

    ``write_c`` of the result writes the same time step as C code, for example for a microcontroller next to the chip.

    Parameters
    ----------
    path : path
        A file that :func:`export_bundle` wrote. The chip family must be H1v1 or H1v2, and the network must compute in
        float32.

    Returns
    -------
    Firmware
        The network, with ``step``, ``run`` and ``write_c``.

    Raises
    ------
    BundleError
        If :func:`load_bundle` rejects the file.
    TypeError
        If ``path`` is not a path.
    ValueError
        If the chip family is not H1v1 or H1v2, or the network does not compute in float32.
    RuntimeError
        If called inside ``jit``.

    Notes
    -----
    If the bundle contains a sampled or measured chip, the step uses the time constants and the thresholds of this chip,
    and the charge of each connection including its mismatch.

    Examples
    --------
    >>> import os, tempfile
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp, numpy as np
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.H1v1Synapse(4, 2, weight_init=jnp.full((4, 2), 0.3), weight_bits="chip"),
    ...     bh.nn.H1v1Layer(2, tau=10 * u.ms),
    ... )
    >>> xs = np.full((20, 4), 3.0, np.float32)
    >>> with tempfile.TemporaryDirectory() as folder, brainstate.environ.context(dt=1.0 * u.ms):
    ...     file = os.path.join(folder, "net.bundle")
    ...     bh.deploy.export_bundle(net, file)
    ...     step = bh.deploy.firmware(file)
    ...     step.write_c(os.path.join(folder, "net.h"))
    ...     spikes, _ = bh.rollout(net, xs)
    >>> step
    Firmware(H1v1: 4 -> 2, 10 bytes of state)
    >>> bool((step.run(xs) == spikes).all()), int(spikes.sum())
    (True, 12)
    """
    call = "firmware"
    content, checksum = read_bundle(path, call=call)
    if content.dtype != "float32":
        raise ValueError(
            f"{call}: the network of the bundle must compute in float32 (got {content.dtype}). Build the network in "
            "float32 and export it again."
        )
    return Firmware(numbers_of(content, build_net(content, path, call=call), call), checksum)


def _sum(given: np.ndarray, charges: Charges) -> np.ndarray:
    """Return the input charge of each neuron in a step, in fC. The charges are added in the order of the inputs."""
    values = charges.values
    if values.ndim == 1:
        return given.astype(np.float32) * values
    total = np.zeros((*given.shape[:-1], values.shape[1]), np.float32)
    for i, row in enumerate(values):
        one = given[..., i : i + 1]
        # A spike adds the charge of its connection. An analog input value adds this charge times the value.
        total = np.where(one != 0, total + row, total) if given.dtype == np.uint8 else _fused(one, row, total)
    return total


def _fused(a: Any, b: Any, c: Any) -> np.ndarray:
    """Return ``a * b + c`` of float32 values with a single rounding."""
    # The product of two float32 values is exact in float64. The sum is rounded in float64 to odd: an inexact sum is
    # rounded to the neighbour with an odd last bit. Rounding this sum to float32 then equals a single rounding (S.
    # Boldo and G. Melquiond, IEEE Trans. Comput. 57, 462, 2008).
    a, b, c = (np.asarray(one, np.float64) for one in (a, b, c))
    product = a * b
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)
    is_even = (total.view(np.int64) & 1) == 0
    odd = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & is_even, odd, total).astype(np.float32)
