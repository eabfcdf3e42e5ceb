"""Chip-in-the-loop training: forward pass on the chip, backward pass through the model."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from typing import Any, Literal, NoReturn, final

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw._files import path_text
from brainhw.deploy.placement import Placement
from brainhw.nn import chip_weights
from brainhw.silicon.class_note import warn_of_classes
from brainhw.silicon.device import Device, DeviceError, checked_device
from brainhw.silicon.loop_checks import (
    all_finite,
    call_function,
    check_same_chip,
    checked_optimizer,
    scalar_loss,
    target_fault,
)
from brainhw.silicon.loop_notes import notes_of
from brainhw.silicon.membranes import fault_of_membranes
from brainhw.silicon.program import ChipProgram, with_weights
from brainhw.silicon.recording import Recording, check_recording
from brainhw.silicon.run_input import in_float32, of_shape
from brainhw.train import accuracy as most_active
from brainhw.train import clip_weights
from brainhw.train.run_file import RunFile
from brainhw.train.run_state import content_of, restore_content
from brainhw.transform import rollout

__all__ = ["InTheLoop"]

_FILE = RunFile("training state", "InTheLoop.save", "brainhw-training")


@final
class InTheLoop:
    r"""Chip-in-the-loop training: the forward pass runs on the chip, and the gradient comes from the model.

    A training step writes the current codes to the chip and runs the batch on the chip. The recorded results then
    replace the results of the model (:func:`brainhw.rollout` with ``recorded``). With spikes :math:`s` of the model and
    :math:`\hat s` of the chip, each layer returns

    .. math:: s + \text{stop}(\hat s - s)

    so the loss and the resets use the spikes of the chip, and the gradient is computed with the model. In this way,
    training also corrects mismatch that the model does not include (Cramer et al. 2022, PNAS 119, e2109194119).

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. Its weights must be rounded (``weight_bits="chip"``).
    device : Device
        The bench, or a :class:`VirtualChip`.
    loss : callable
        ``loss(outputs, y)`` returns a scalar. ``outputs [T, B, N_out]`` are the output spikes, and ``y [B, ...]`` are
        the targets of the batch. The function may also use the weights of the network, as
        :func:`brainhw.train.weight_magnitude_loss` does.
    optimizer : braintools.optim.Optimizer
        An optimizer of braintools. If it has no weights registered, all weights of the network are registered.
    n_trials : int, optional
        Number of runs of each sample per step. Loss and gradient are averaged over the trials. Default 1.
    membranes : 'auto' or bool, optional
        Whether to use recorded membrane potentials. ``'auto'`` (default) uses them if the bench records them, ``True``
        requires them for every layer, and ``False`` ignores them. Recorded membrane potentials correct the states of
        the model. This correction helps most if the parameters of the model are wrong.
    accuracy : callable, optional
        Function that :meth:`evaluate` calls as ``accuracy(outputs, y)``. Default :func:`brainhw.train.accuracy`.
    constrain : callable or None, optional
        Function that is called with the network after each update. Default :func:`brainhw.train.clip_weights`. A weight
        out of range is stored as the code of the limit. Without clipping, such a weight may need many updates to return
        to the range.
    placement : Placement, optional
        The position of each neuron on the chip. Default: as in :meth:`ChipProgram.of`.

    Attributes
    ----------
    n_steps : int
        Number of updates.
    program : ChipProgram
        The program that was last written to the chip.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If the network cannot be programmed on its chip, or if ``optimizer`` contains weights of another network.
    RuntimeError
        If no dt is set in ``brainstate.environ``.

    Notes
    -----
    If the bench fails, :meth:`step` raises a :class:`DeviceError` with the step number. The weights, the optimizer and
    ``n_steps`` do not change, so you can repair the bench and call :meth:`step` again. The caller chooses the data of
    each step.

    The step is compiled once for each batch shape.

    Examples
    --------
    >>> import brainhw as bh, brainstate, braintools, brainunit as u, numpy as np
    >>> brainstate.random.seed(0)
    >>> net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(4, 3, weight_bits="chip"), bh.nn.H1v2Layer(3, tau=20 * u.ms))
    >>> bench = bh.silicon.VirtualChip(bh.chip.H1V2, key=7)
    >>> def loss(outputs, y):
    ...     return braintools.metric.softmax_cross_entropy_with_integer_labels(outputs.sum(axis=0), y).mean()
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     loop = bh.silicon.InTheLoop(net, bench, loss=loss, optimizer=braintools.optim.Adam(lr=0.03))
    ...     x, y = np.ones((50, 2, 4), np.float32), np.array([0, 2])
    ...     value = loop.step(x, y)
    >>> loop.n_steps, value > 0
    (1, True)
    """

    def __init__(
        self,
        net: brainstate.nn.Module,
        device: Device,
        *,
        loss: Callable[[jax.Array, jax.Array], jax.Array],
        optimizer: Any,
        n_trials: int = 1,
        membranes: bool | Literal["auto"] = "auto",
        accuracy: Callable[[jax.Array, jax.Array], jax.Array] = most_active,
        constrain: Callable[[brainstate.nn.Module], Any] | None = clip_weights,
        placement: Placement | None = None,
    ) -> None:
        call = "InTheLoop"
        _arguments.check_module(net, call=call)
        self._net = net
        self._device = checked_device(device, call)
        self._loss = _arguments.function(loss, call=call, name="loss")
        self._accuracy = _arguments.function(accuracy, call=call, name="accuracy")
        self._constrain = None if constrain is None else _arguments.function(constrain, call=call, name="constrain")
        self._n_trials = _arguments.positive_int(n_trials, call=call, name="n_trials")
        if not (type(membranes) is bool or (type(membranes) is str and membranes == "auto")):
            raise ValueError(f"{call}: membranes must be 'auto', True or False; got {_arguments.describe(membranes)}.")
        self._membranes = membranes
        self.program = ChipProgram.of(net, placement)
        self._chip_weights = chip_weights(net)
        self._optimizer, self._weights = checked_optimizer(optimizer, net, call)
        self.n_steps = 0
        self._n_out = self.program.layers[self.program.output]
        self._V_th = float(np.asarray(self.program.chip.V_th.to(u.mV).mantissa))
        self._warned: set[str] = set()
        self._traced: set[Any] = set()

    def step(self, x: Any, y: Any) -> float:
        """Run a batch on the chip, update the weights once, and return the loss.

        Parameters
        ----------
        x : array
            Spikes or dimensionless analog values, ``[T, B, N_in]``.
        y : array
            Targets, ``[B, ...]``.

        Returns
        -------
        float
            The loss for the spikes of the chip, before the update.

        Raises
        ------
        DeviceError
            If the bench fails or does not return a recording of the program, or if membrane potentials exceed 100 times
            the threshold. The training state has not changed.
        FloatingPointError
            If loss, gradient or updated weights are not finite. The training state has not changed.
        TypeError
            If ``x`` or ``y`` is not an array of real numbers.
        ValueError
            If ``x`` or ``y`` has the wrong shape or contains invalid values.
        """
        call = "InTheLoop.step"
        x, y = self._batch(x, y, call)
        if self._n_trials > 1:
            x, y = np.concatenate([x] * self._n_trials, axis=1), np.concatenate([y] * self._n_trials)
        # Use the time step of the program, even if the current environment sets a different one.
        with brainstate.environ.context(dt=self.program.dt):
            self._check_loss(x, y, call)
            recording = self._on_chip(x, call)
            value, sound = self._update(x, y, self._recorded(recording, call))
        if not bool(sound):
            raise FloatingPointError(
                f"{call}: loss, gradient or updated weights are not finite after {self.n_steps} updates (loss "
                f"{float(value):g}). The training state has not changed. Check the loss "
                f"function{target_fault(y, self._n_out)} "
                "and the learning rate."
            )
        self.n_steps += 1
        return float(value)

    def run(self, x: Any) -> Recording:
        """Program the current weights, run ``x [T, B, N_in]`` on the chip, and return the recording.

        Parameters
        ----------
        x : array
            Spikes or dimensionless analog values, ``[T, B, N_in]``.

        Returns
        -------
        Recording
            Spikes and membrane potentials of all layers.

        Raises
        ------
        DeviceError
            If the bench fails or does not return a recording of the program.
        TypeError
            If ``x`` is not an array of real numbers.
        ValueError
            If ``x`` has the wrong shape or contains values that are not finite in float32.
        """
        call = "InTheLoop.run"
        return self._on_chip(self._input(x, call), call)

    def evaluate(self, x: Any, y: Any) -> float:
        """Return the accuracy of the current weights on the chip.

        Parameters
        ----------
        x : array
            Spikes or dimensionless analog values, ``[T, B, N_in]``.
        y : array
            Targets, ``[B, ...]``.

        Returns
        -------
        float
            Result of ``accuracy`` for the output spikes of the chip.

        Raises
        ------
        DeviceError
            If the bench fails or does not return a recording of the program.
        TypeError
            If ``x`` or ``y`` is not an array of real numbers.
        ValueError
            If ``x`` or ``y`` has the wrong shape or contains invalid values.
        """
        call = "InTheLoop.evaluate"
        x, y = self._batch(x, y, call)
        if self._accuracy is most_active:
            # Call the accuracy function before the chip runs, because it raises an error for invalid labels.
            call_function(most_active, "accuracy", jnp.zeros((1, len(y), self._n_out)), jnp.asarray(y), call)
            fix = "pass accuracy=lambda outputs, y: brainhw.train.accuracy_population(outputs, y, {})"
            warn_of_classes(y, self._n_out, call=call, fix=fix)
        outputs = self._on_chip(x, call).spikes[self.program.output]
        return float(call_function(self._accuracy, "accuracy", jnp.asarray(outputs, jnp.float32), jnp.asarray(y), call))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights, the optimizer state and the number of updates to one file, atomically.

        Parameters
        ----------
        path : str or PathLike
            The file. An existing file is replaced.

        Raises
        ------
        TypeError
            If ``path`` is not a path.
        ValueError
            If the file cannot be written, or if the chip of the network was replaced after the loop was built.
        """
        call = "InTheLoop.save"
        check_same_chip(self._net, self.program.chip, call)
        state = content_of(self._net, self._optimizer, self.n_steps)
        _FILE.write(path_text(path, call=call, what="a training state"), state, self._notes(), call=call)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Resume a saved run. The following updates are bit-identical to those of the saved run.

        Network, current chip, placement and optimizer must be built as in the saved run. The optimizer reads its state
        and schedules, including the current learning rate, from the file. A :class:`VirtualChip` repeats its noise if
        you set its ``n_runs`` to the value that it had when the run was saved.

        Parameters
        ----------
        path : str or PathLike
            A file that :meth:`save` wrote.

        Raises
        ------
        TypeError
            If ``path`` is not a path.
        ValueError
            If the file is corrupted, or if it belongs to another network, chip or optimizer. In this case nothing is
            changed.
        """
        call = "InTheLoop.load"
        check_same_chip(self._net, self.program.chip, call)
        like = content_of(self._net, self._optimizer, self.n_steps)
        content, _ = _FILE.read(path_text(path, call=call, what="a training state"), like, self._notes(), call=call)
        self.n_steps = restore_content(content, self._net, self._optimizer)

    def __repr__(self) -> str:
        return f"InTheLoop({type(self._net).__name__} on {self._device!r}, {self.n_steps} updates)"

    def _notes(self) -> dict[str, str]:
        return notes_of(self._net, self.program) | {
            "n_trials": str(self._n_trials),
            "membranes": str(self._membranes),
        }

    def _check_loss(self, x: np.ndarray, y: np.ndarray, call: str) -> None:
        """Trace the loss once for each batch shape and dtype, so that an invalid batch fails before the chip runs."""
        kind = (x.shape, y.shape, y.dtype)
        if kind not in self._traced:
            forward = brainstate.transform.StatefulFunction(
                lambda x, y: scalar_loss(self._loss, rollout(self._net, x)[0], y, call)
            )
            forward.make_jaxpr(jnp.asarray(x), jnp.asarray(y))
            self._traced.add(kind)

    @functools.cached_property
    def _update(self) -> Callable[..., tuple[jax.Array, jax.Array]]:
        call = "InTheLoop.step"

        def loss(x: jax.Array, y: jax.Array, recorded: Any) -> jax.Array:
            outputs, _ = rollout(self._net, x, recorded=recorded)
            return scalar_loss(self._loss, outputs, y, call)

        gradient = brainstate.transform.grad(loss, self._weights, return_value=True)

        @brainstate.transform.jit
        def update(x: jax.Array, y: jax.Array, recorded: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
            with_units = {k: v * u.mV if k.endswith(".V") else v for k, v in recorded.items()}
            gradients, value = gradient(x, y, with_units)
            sound = all_finite((value, gradients))

            def learn() -> jax.Array:
                with brainstate.StateTraceStack() as touched:
                    self._optimizer.update(gradients)
                    fine = self._finite()
                    if self._constrain is not None:
                        # Check before and after `constrain`, because clipping makes infinite values finite.
                        self._constrain(self._net)
                        fine &= self._finite()
                for state, before in zip(touched.states, touched.original_state_values, strict=True):
                    if state.value is not before:
                        state.value = jax.tree.map(functools.partial(jnp.where, fine), state.value, before)
                return fine

            # Gradient and update are compiled as one function, because a second call from Python would take up to a
            # tenth of the time of a small step.
            return value, brainstate.transform.cond(sound, learn, lambda: jnp.asarray(False))

        return update

    def _finite(self) -> jax.Array:
        return all_finite([state.value for state in self._net.states(brainstate.ParamState).values()])

    def _on_chip(self, x: np.ndarray, call: str) -> Recording:
        try:
            self.program = program = with_weights(self.program, self._chip_weights)
        except ValueError:
            check_same_chip(self._net, self.program.chip, call)
            raise
        try:
            self._device.program(program)
            # Pass a copy, because a bench may scale its input in place, and the gradient needs the same data.
            recording = check_recording(self._device.run(x.copy()), program.layers, *x.shape[:2], call=call)
        except (Exception, SystemExit) as error:  # user code may raise any error
            self._stop(error, call)
        return recording

    def _stop(self, error: BaseException, call: str) -> NoReturn:
        text = " ".join(str(error).removeprefix(f"{call}: ").split())
        if not isinstance(error, (DeviceError, TypeError, ValueError)) or not text:
            text = f"{type(error).__name__}: {text}"
        raise DeviceError(
            f"{call}: the bench failed after {self.n_steps} updates: {text.rstrip(' .:')}. "
            "The training state has not changed. Repair the bench and call again."
        ) from error

    def _recorded(self, recording: Recording, call: str) -> dict[str, Any]:
        found: dict[str, Any] = {f"{path}.spk": spikes for path, spikes in recording.spikes.items()}
        if self._membranes is True and (missing := sorted(set(recording.spikes) - set(recording.membranes))):
            self._stop(
                ValueError(
                    f"membranes=True requires recorded membrane potentials of every layer; {missing} have none. Use "
                    "membranes='auto'."
                ),
                call,
            )
        if self._membranes is not False:
            for path, V in recording.membranes.items():
                fault, refused = fault_of_membranes(path, np.asarray(V.mantissa), recording.spikes[path], self._V_th)
                if refused:
                    self._stop(ValueError(fault), call)
                if fault and path not in self._warned:
                    self._warned.add(path)
                    warnings.warn(f"{call}: {fault}", UserWarning, stacklevel=3)
                found[f"{path}.V"] = V.mantissa
        return found

    def _batch(self, x: Any, y: Any, call: str) -> tuple[np.ndarray, np.ndarray]:
        x = self._input(x, call)
        y = np.asarray(_arguments.as_array(y, call=call, name="y"))
        if y.ndim == 0 or len(y) != x.shape[1]:
            raise ValueError(f"{call}: y must contain one target per sample of x, {x.shape[1]}; got shape {y.shape}.")
        return x, y

    def _input(self, x: Any, call: str) -> np.ndarray:
        return in_float32(of_shape(x, self.program.n_in, call=call, name="x"), call=call, name="x")
