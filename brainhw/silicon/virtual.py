"""Virtual bench: a simulated chip with hidden neuron values, synapse values and noise."""

from __future__ import annotations

from typing import Any, final

import brainunit as u
import jax
import numpy as np

from brainhw import _arguments
from brainhw.chip import ChipSpec, get_chip
from brainhw.chip.spec import MOST_EVENTS
from brainhw.deploy.inputs import warn_of_input
from brainhw.silicon.device import DeviceError
from brainhw.silicon.hidden import HiddenValues
from brainhw.silicon.measured import MeasuredChip
from brainhw.silicon.program import ChipProgram, on_chip
from brainhw.silicon.recording import Recording
from brainhw.silicon.run_input import in_float32, of_shape
from brainhw.silicon.virtual_net import POOL, CompiledRun, settings_of, shape_of

__all__ = ["VirtualChip", "checked_run_input"]


@final
class VirtualChip:
    r"""A simulated chip on a virtual bench, to run and test all chip-in-the-loop code without hardware.

    The values of its neurons and synapses are hidden, because a device shows only spikes and, on request, membrane
    potentials. The normal random numbers :math:`\xi` are fixed for each chip. The normal random numbers :math:`\eta_t`
    are new in each step of each run. The chip computes

    .. math::
        q_{ij} &= q(w_{ij})(1 + \sigma_g\, \xi^g_{ij}) + q'(0)\, \sigma_w\, \xi_{ij} \\
        V' &= \max(e^{-\Delta t/\tau_{kj}} V_{t-1} + Q_t / C + \sigma\, \eta_t,\; 0)

    Spikes and resets are those of the chip family. The time constant :math:`\tau_{kj}` of leak setting ``k`` and
    physical neuron ``j`` is log-normal around ``chip.tau_profiles``. If two settings have the same standard deviation,
    a neuron deviates by the same factor at both settings. The threshold is normal around ``chip.V_th``. Each synapse
    has a fixed position on the chip, so the same program always uses the same synapses.

    Parameters
    ----------
    chip : ChipSpec
        The spec from which the hidden values are sampled. ``V_th`` is the mean of the thresholds, and ``tau_profiles``
        contains the medians of the time constants. The standard deviations are ``leak_mismatch_std``,
        ``threshold_mismatch_std``, ``synapse_mismatch_std`` and ``noise_std``. To simulate a chip that differs strongly
        from its data sheet, pass the spec that :func:`scaled_chip` returns.
    key : jax.Array or int
        PRNG key or seed of the chip. With the same ``chip``, the same key yields the same hidden values, and the same
        noise in runs with the same number.
    membranes : bool, optional
        Record membrane potentials too. Default True.
    gain_std : float, optional
        Relative standard deviation :math:`\sigma_g` of the charge of each synapse. Default 0.

    Attributes
    ----------
    n_runs : int
        Number of runs. The noise of a run depends on the key and on this number. Set it back to repeat a run.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument is out of range.

    Notes
    -----
    A run is compiled once for each shape of program (layers, wires, bits, dt) and each shape of input.
    Different codes, leak settings or positions do not need another compilation. The noise of each step is the sum of
    two windows of a fixed table of 2**20 normal random numbers. The position of each window is random.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(4, 3, weight_bits="chip"), bh.nn.H1v2Layer(3, tau=20 * u.ms))
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     program = bh.silicon.ChipProgram.of(net)
    >>> bench = bh.silicon.VirtualChip(bh.chip.H1V2, key=7)
    >>> bench.program(program)
    >>> bench.run(np.ones((50, 2, 4), np.float32))
    Recording('layers.1' (50, 2, 3); membranes of 1 of 1 layers)
    """

    def __init__(
        self, chip: ChipSpec | str, key: jax.Array | int, *, membranes: bool = True, gain_std: float = 0.0
    ) -> None:
        call = "VirtualChip"
        self._chip = get_chip(chip, call=call)
        self._membranes = _arguments.flag(membranes, call=call, name="membranes")
        gain_std = float(_arguments.number(gain_std, call=call, name="gain_std", nonnegative=True))
        key = _arguments.some_key(key, call)
        self._hidden = HiddenValues(self._chip, key, gain_std)
        self._program: ChipProgram | None = None
        # Compiled runs by the shape of the program. Codes, leak settings and positions are arguments of a compiled run.
        self._built: dict[Any, CompiledRun] = {}
        self._run: CompiledRun | None = None
        self._values: dict[str, Any] = {}
        self.n_runs = 0

    def program(self, program: ChipProgram) -> None:
        """Write a program to the chip.

        Parameters
        ----------
        program : ChipProgram
            The program.

        Raises
        ------
        TypeError
            If ``program`` is not a :class:`ChipProgram`.
        ValueError
            If the chip of ``program`` and this chip differ in family, cores, number of frontend channels or number of
            leak settings.
        """
        call = "VirtualChip.program"
        _arguments.instance(program, ChipProgram, call=call, name="program")
        content = on_chip(program.content, self._chip, call)
        shape = shape_of(program.content)
        if shape not in self._built:
            with settings_of(content):
                self._built[shape] = CompiledRun(content, self._hidden, membranes=self._membranes, call=call)
        self._run = self._built[shape]
        self._values = self._run.values_of(program)
        self._program = program

    def run(self, x: np.ndarray) -> Recording:
        """Run the program from rest, with new noise.

        Parameters
        ----------
        x : array
            Spikes or dimensionless analog values, ``[T, B, N_in]``.

        Returns
        -------
        Recording
            Spikes of all layers and, unless ``membranes=False``, their membrane potentials after the reset.

        Raises
        ------
        DeviceError
            If the chip is not programmed.
        TypeError
            If ``x`` is not an array of real numbers.
        ValueError
            If ``x`` does not have the shape ``[T, B, N_in]`` or contains non-finite values.
        """
        call = "VirtualChip.run"
        if self._program is None or self._run is None:
            raise DeviceError(f"{call}: the chip is not programmed. Call program(...) first.")
        x = checked_run_input(x, self._program, call=call)
        offsets = self._hidden.noise_stream(self.n_runs).integers(
            0, POOL, (2, len(self._program.wires), len(x)), np.int32
        )
        spikes, membranes = self._run(self._values, x, offsets)
        self.n_runs += 1
        return Recording(spikes, membranes)

    @property
    def truth(self) -> MeasuredChip:
        """The hidden values of all neurons, for tests and error tables. A calibration must not use them."""
        return MeasuredChip(self._chip, self._hidden.tau * u.ms, self._hidden.V_th * u.mV, notes="the hidden truth")

    def __repr__(self) -> str:
        return f"VirtualChip({self._chip.name!r}, {self._chip.n_neurons} neurons, {self.n_runs} runs)"


def checked_run_input(x: Any, program: ChipProgram, *, call: str) -> np.ndarray:
    """Return the input of a run in float32.

    Raise ``ValueError`` if the input does not have the shape ``[T, B, N_in]`` or contains non-finite values.
    """
    array = of_shape(x, program.n_in, call=call, name="x")
    # Fast path with two passes over the data. NaN fails both comparisons.
    if array.min() >= 0 and array.max() <= MOST_EVENTS:
        return array.astype(np.float32, copy=False)
    numbers = in_float32(array, call=call, name="x")
    warn_of_input(numbers, has_frontend=program.frontend is not None, call=call, stacklevel=4)
    return numbers
