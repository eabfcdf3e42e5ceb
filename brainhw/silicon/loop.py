"""Training with a chip in the loop: forward on the chip, backward through the model."""

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
    answer,
    check_same_chip,
    checked_optimizer,
    odd_targets,
    scalar_loss,
)
from brainhw.silicon.loop_notes import notes_of
from brainhw.silicon.membranes import fault_of_membranes
from brainhw.silicon.program import ChipProgram, with_weights
from brainhw.silicon.recording import Recording, check_recording
from brainhw.silicon.run_input import in_float32, of_shape
from brainhw.train import accuracy as most_active
from brainhw.train import clip_weights
from brainhw.train.run_file import RunFile
from brainhw.train.run_state import content_of, take_up
from brainhw.transform import rollout

__all__ = ["InTheLoop"]

_FILE = RunFile("training state", "InTheLoop.save", "brainhw-training")


@final
class InTheLoop:
    r"""Training with a chip in the loop: each step runs on the chip, and its gradient is that of the model.

    A step writes the present codes to the chip, runs the batch on it, and puts what was recorded in place of what the
    model computes (:func:`brainhw.rollout` with ``recorded``). With spikes :math:`s` of the model and :math:`\hat s` of
    the chip, each layer gives

    .. math:: s + \text{stop}(\hat s - s)

    so loss and resets are those of the chip and the gradient goes through the model. It corrects mismatch that the
    model does not know (Cramer et al. 2022, PNAS 119, e2109194119).

    Parameters
    ----------
    net : brainstate.nn.Module
        The network; it rounds its weights (``weight_bits="chip"``).
    device : Device
        The bench, or a :class:`VirtualChip`.
    loss : callable
        ``loss(outputs, y)`` gives a scalar: ``outputs [T, B, N_out]`` are the output spikes, ``y [B, ...]`` the targets
        of the batch. It may read the network, as :func:`brainhw.train.weight_magnitude_loss` does.
    optimizer : braintools.optim.Optimizer
        Any optimizer of braintools. Without weights of its own it gets all of the network.
    n_trials : int, optional
        How often each sample runs on the chip in one step; loss and gradient are means over the trials. Default 1.
    membranes : 'auto' or bool, optional
        Use recorded membranes: ``'auto'`` (default) those that the bench records, ``True`` demands them of every layer,
        ``False`` uses none. They tell the model where its neurons are, and help most where its numbers are wrong.
    accuracy : callable, optional
        ``accuracy(outputs, y)`` for :meth:`evaluate`. Default :func:`brainhw.train.accuracy`.
    constrain : callable or None, optional
        Called with the network after each update. Default :func:`brainhw.train.clip_weights`: a weight beyond the
        range has the code of the limit, and must come back a long way before the chip notices.
    placement : Placement, optional
        The place of each neuron. Default as in :meth:`ChipProgram.of`.

    Attributes
    ----------
    n_steps : int
        Number of updates so far.
    program : ChipProgram
        The program that was written last.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or the network breaks a rule of its chip.
    RuntimeError
        If no dt is set in ``brainstate.environ``.

    Notes
    -----
    If the bench fails, :meth:`step` raises a :class:`DeviceError` that names the step, and weights, optimizer and
    counter are those before it: repair the bench and call again. The order of the data is the caller's.

    The step is compiled once for each shape of a batch.

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
            Spikes or analog values, plain numbers, ``[T, B, N_in]``.
        y : array
            Targets, ``[B, ...]``.

        Returns
        -------
        float
            The loss of the chip's own spikes, before the update.

        Raises
        ------
        DeviceError
            If the bench fails, or returns something else than a recording of the program, or membranes beyond 100
            thresholds; nothing has changed.
        FloatingPointError
            If loss, gradient or updated weights are not finite; nothing has changed.
        TypeError, ValueError
            If ``x`` or ``y`` do not fit.
        """
        call = "InTheLoop.step"
        x, y = self._batch(x, y, call)
        if self._n_trials > 1:
            x, y = np.concatenate([x] * self._n_trials, axis=1), np.concatenate([y] * self._n_trials)
        # The time step of the chip, whatever is set by now.
        with brainstate.environ.context(dt=self.program.dt):
            self._check_loss(x, y, call)
            recording = self._on_chip(x, call)
            value, sound = self._update(x, y, self._recorded(recording, call))
        if not bool(sound):
            raise FloatingPointError(
                f"{call}: loss, gradient or new weights are not finite after {self.n_steps} updates (loss "
                f"{float(value):g}). Nothing has changed; look at the loss function{odd_targets(y, self._n_out)} "
                "and at the learning rate."
            )
        self.n_steps += 1
        return float(value)

    def run(self, x: Any) -> Recording:
        """Program the present weights, run ``x [T, B, N_in]`` on the chip, and return what it recorded.

        Parameters
        ----------
        x : array
            Spikes or analog values, plain numbers, ``[T, B, N_in]``.

        Returns
        -------
        Recording
            Spikes and membranes of all layers.

        Raises
        ------
        DeviceError
            If the bench fails or returns something else than a recording of the program.
        TypeError, ValueError
            If ``x`` does not fit.
        """
        call = "InTheLoop.run"
        return self._on_chip(self._input(x, call), call)

    def evaluate(self, x: Any, y: Any) -> float:
        """Return the accuracy of the present weights on the chip.

        Parameters
        ----------
        x : array
            Spikes or analog values, plain numbers, ``[T, B, N_in]``.
        y : array
            Targets, ``[B, ...]``.

        Returns
        -------
        float
            What ``accuracy`` gives for the output spikes of the chip.

        Raises
        ------
        DeviceError
            If the bench fails or returns something else than a recording of the program.
        TypeError, ValueError
            If ``x`` or ``y`` do not fit.
        """
        call = "InTheLoop.evaluate"
        x, y = self._batch(x, y, call)
        if self._accuracy is most_active:
            # Before the chip runs: it refuses labels of another kind.
            answer(most_active, "accuracy", jnp.zeros((1, len(y), self._n_out)), jnp.asarray(y), call)
            fix = "give accuracy=lambda outputs, y: brainhw.train.accuracy_population(outputs, y, {})"
            warn_of_classes(y, self._n_out, call=call, fix=fix)
        outputs = self._on_chip(x, call).spikes[self.program.output]
        return float(answer(self._accuracy, "accuracy", jnp.asarray(outputs, jnp.float32), jnp.asarray(y), call))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, optimizer and counter to one file, whole or not at all.

        Parameters
        ----------
        path : str or PathLike
            The file; an existing one is replaced in one step.

        Raises
        ------
        TypeError, ValueError
            If nothing can be written there, or the network was put on another chip since the loop was built.
        """
        call = "InTheLoop.save"
        check_same_chip(self._net, self.program.chip, call)
        state = content_of(self._net, self._optimizer, self.n_steps)
        _FILE.write(path_text(path, call=call, what="a training state"), state, self._notes(), call=call)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take up a saved run: from here on the updates are those of the run that was saved, to the bit.

        Network, chip in place, placement and optimizer must be built as for that run. The optimizer takes its state and
        schedules from the file, its present learning rate among them. A :class:`VirtualChip` repeats its noise if its
        ``n_runs`` is set to that of then.

        Parameters
        ----------
        path : str or PathLike
            A file that :meth:`save` wrote.

        Raises
        ------
        TypeError, ValueError
            If the file is damaged, or of another network, chip or optimizer; nothing has changed then.
        """
        call = "InTheLoop.load"
        check_same_chip(self._net, self.program.chip, call)
        like = content_of(self._net, self._optimizer, self.n_steps)
        content, _ = _FILE.read(path_text(path, call=call, what="a training state"), like, self._notes(), call=call)
        self.n_steps = take_up(content, self._net, self._optimizer)

    def __repr__(self) -> str:
        return f"InTheLoop({type(self._net).__name__} on {self._device!r}, {self.n_steps} updates)"

    def _notes(self) -> dict[str, str]:
        return notes_of(self._net, self.program) | {
            "n_trials": str(self._n_trials),
            "membranes": str(self._membranes),
        }

    def _check_loss(self, x: np.ndarray, y: np.ndarray, call: str) -> None:
        """Trace the loss once for each kind of batch: what it refuses must not cost a run of the chip."""
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
                        # Before and after it: a clip makes a number of infinity.
                        self._constrain(self._net)
                        fine &= self._finite()
                for state, before in zip(touched.states, touched.original_state_values, strict=True):
                    if state.value is not before:
                        state.value = jax.tree.map(functools.partial(jnp.where, fine), state.value, before)
                return fine

            # One program for gradient and update: a second call from Python costs as much as a tenth of a small step.
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
            # A copy: a bench that scales its input in place must not change the data of the gradient.
            recording = check_recording(self._device.run(x.copy()), program.layers, *x.shape[:2], call=call)
        except (Exception, SystemExit) as error:  # a bench of the user may raise anything
            self._stop(error, call)
        return recording

    def _stop(self, error: BaseException, call: str) -> NoReturn:
        text = " ".join(str(error).removeprefix(f"{call}: ").split())
        if not isinstance(error, (DeviceError, TypeError, ValueError)) or not text:
            text = f"{type(error).__name__}: {text}"
        raise DeviceError(
            f"{call}: the bench failed after {self.n_steps} updates: {text.rstrip(' .:')}. "
            "The training state has not changed: call again once the bench works."
        ) from error

    def _recorded(self, recording: Recording, call: str) -> dict[str, Any]:
        found: dict[str, Any] = {f"{path}.spk": spikes for path, spikes in recording.spikes.items()}
        if self._membranes is True and (missing := sorted(set(recording.spikes) - set(recording.membranes))):
            self._stop(
                ValueError(f"it records no membranes of {missing}, and membranes is True; use membranes='auto'."), call
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
            raise ValueError(
                f"{call}: y must hold one target for each of the {x.shape[1]} samples of x; got shape {y.shape}."
            )
        return x, y

    def _input(self, x: Any, call: str) -> np.ndarray:
        return in_float32(of_shape(x, self.program.n_in, call=call, name="x"), call=call, name="x")
