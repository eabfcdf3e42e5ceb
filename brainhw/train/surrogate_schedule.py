"""Schedule for a parameter of the surrogate gradients."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import brainstate
import braintools
import jax
import jax.numpy as jnp

from brainhw import _arguments

__all__ = ["SurrogateSchedule"]


def geometric(start: float, end: float, epoch: int, n_epochs: int) -> float:
    """Return the value of a geometric schedule from ``start`` to ``end`` in epoch ``epoch``, counted from 0.

    The value is ``end`` from epoch ``max(1, n_epochs - 1)`` on.
    """
    # The steps are geometric, because with linear steps from 0.5 to 20 the alpha of SignAnnealing would be below 3
    # (soft signs) in only an eighth of the epochs.
    return start * (end / start) ** min(1.0, epoch / max(1, n_epochs - 1))


class SurrogateSchedule:
    r"""Change one surrogate-gradient parameter of all layers geometrically from a start to an end value.

    .. math:: p_e = p_{start}\,(p_{end} / p_{start})^{e / (E - 1)}

    where :math:`p_e` is the value in epoch :math:`e`, counted from 0, and :math:`E` is the number of epochs. After
    these epochs, the value stays :math:`p_{end}`. Only the surrogate derivative changes, not the spikes. A wide
    derivative gives gradients to many neurons early in training. A narrow derivative gives more accurate gradients at
    the end.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. Create the schedule before you compile a training step. A new schedule replaces an earlier one. A
        copy of a network shares the schedule of the original until you create a schedule for the copy.
    parameter : str
        Name of the parameter, such as ``"slope"`` of :class:`brainhw.surrogate.FastSigmoid` or ``"alpha"`` of
        :class:`brainhw.surrogate.ATan` and the surrogates of braintools. Every layer's spike function must have this
        parameter.
    total_epochs : int
        Number of epochs over which the parameter changes.
    start, end : float
        First and last value, dimensionless, greater than zero.

    Attributes
    ----------
    value : float
        Current value.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, the network has no spiking layer, or a spike function lacks the parameter.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u
    >>> layer = bh.nn.LIFLayer(3, tau=10 * u.ms, spk_fun=bh.surrogate.fast_sigmoid(slope=5.0))
    >>> schedule = bh.train.SurrogateSchedule(layer, "slope", total_epochs=3, start=1.0, end=25.0)
    >>> for epoch in range(3):
    ...     schedule.step(epoch)  # and train for an epoch
    ...     print(round(schedule.value, 3), round(float(layer.spk_fun.surrogate_grad(0.1)), 3))
    1.0 0.826
    5.0 0.444
    25.0 0.082
    >>> schedule.finish()
    >>> layer.spk_fun
    FastSigmoid(slope=25.0)
    """

    def __init__(
        self, net: brainstate.nn.Module, parameter: str, total_epochs: int, *, start: float, end: float
    ) -> None:
        call = type(self).__name__
        _arguments.check_module(net, call=call)
        _arguments.text(parameter, call=call, name="parameter", some=True)
        self.total_epochs = _arguments.positive_int(total_epochs, call=call, name="total_epochs")
        self.start = _arguments.number(start, call=call, name="start", positive=True)
        self.end = _arguments.number(end, call=call, name="end", positive=True)
        layers = {path: node for path, node in net.nodes().items() if callable(getattr(node, "spk_fun", None))}
        if not layers:
            raise ValueError(f"{call}: net has no layer with a spike function (spk_fun). Pass a spiking network.")
        plain = {path: _plain(node.spk_fun) for path, node in layers.items()}
        names = {path: _attribute(spk_fun, parameter, call) for path, spk_fun in plain.items()}
        # The value is a state, so that an already compiled training step reads the new value.
        self.value = self.start
        self._value = brainstate.LongTermState(jnp.full((), self.value, brainstate.environ.dftype()))
        self._layers = list(layers.values())
        for path, layer in layers.items():
            layer.spk_fun = ScheduledSurrogate(plain[path], names[path], self._value)

    def step(self, epoch: int) -> None:
        """Set the parameter to its value in epoch ``epoch``, counted from 0."""
        epoch = _arguments.whole_number(epoch, call="SurrogateSchedule.step", name="epoch")
        if not self._layers:
            raise RuntimeError("SurrogateSchedule.step: the schedule is finished. Create a new one to continue.")
        new = geometric(self.start, self.end, epoch, self.total_epochs)
        self._value.value = jnp.full_like(self._value.value, new)
        self.value = new

    def finish(self) -> None:
        """End the schedule: every layer gets an ordinary spike function with the current value."""
        for layer in self._layers:
            if isinstance(layer.spk_fun, ScheduledSurrogate) and layer.spk_fun.value is self._value:
                layer.spk_fun = _with(layer.spk_fun.template, layer.spk_fun.attribute, self.value)
        self._layers = []


class ScheduledSurrogate(braintools.surrogate.Surrogate):
    """Spike function with one parameter stored in a ``State``, so that compiled functions read its current value."""

    def __init__(self, template: Any, attribute: str, value: brainstate.LongTermState) -> None:
        super().__init__()
        self.template, self.attribute, self.value = template, attribute, value

    def __call__(self, x: Any) -> jax.Array:
        return _spike(self.template, self.attribute, self.value.value, jnp.asarray(x))

    def surrogate_fun(self, x: Any) -> jax.Array:
        """Return the smooth function whose derivative is the surrogate, with the current value of the parameter."""
        return _with(self.template, self.attribute, self.value.value).surrogate_fun(x)

    def surrogate_grad(self, x: Any) -> jax.Array:
        """Return the surrogate derivative with the current value of the parameter."""
        return _with(self.template, self.attribute, self.value.value).surrogate_grad(x)

    def __repr__(self) -> str:
        return f"ScheduledSurrogate({self.template!r}, {self.attribute})"


# The parameter is a separate argument. Inside the template object, it would be a leaked tracer when JAX builds the
# backward pass.
@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _spike(template: Any, attribute: str, value: jax.Array, x: jax.Array) -> jax.Array:
    return template(x)


@_spike.defjvp
def _spike_jvp(template: Any, attribute: str, primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    value, x = primals
    derivative = _with(template, attribute, value).surrogate_grad(x)
    return _spike(template, attribute, value, x), derivative.astype(x.dtype) * tangents[1]


def _with(template: Any, attribute: str, value: Any) -> Any:
    changed = copy.copy(template)
    setattr(changed, attribute, value)
    return changed


def _plain(spk_fun: Any) -> Any:
    # The network may be a copy that was made during an earlier schedule, which the new schedule replaces.
    return spk_fun.template if isinstance(spk_fun, ScheduledSurrogate) else spk_fun


def _attribute(spk_fun: Any, parameter: Any, call: str) -> str:
    """Return the name of the attribute of ``spk_fun`` that stores ``parameter``.

    The attribute may have a different name. For example, ``alpha`` stores the parameter ``slope`` of ``FastSigmoid``.
    """
    if not hasattr(spk_fun, "surrogate_grad"):
        raise ValueError(
            f"{call}: {type(spk_fun).__name__} cannot be scheduled, because it has no surrogate_grad method. Use a "
            "surrogate with a parameter, such as brainhw.surrogate.fast_sigmoid()."
        )
    # braintools stores the steepness of every surrogate as `alpha`, but users know the name that is printed.
    numbers = {name: value for name, value in vars(spk_fun).items() if isinstance(value, (int, float))}
    known = {getattr(spk_fun, "_parameter", name) if name == "alpha" else name: name for name in numbers}
    if parameter not in known:
        raise ValueError(
            f"{call}: parameter must name a parameter of every spike function; got {_arguments.describe(parameter)}, "
            f"but {type(spk_fun).__name__} has {', '.join(map(repr, known)) or 'none'}."
        )
    return known[parameter]
