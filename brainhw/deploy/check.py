"""Whether a network can go on its chip as it is."""

from __future__ import annotations

import brainstate

from brainhw.deploy.report import DeployReport
from brainhw.deploy.rules import RULES
from brainhw.deploy.survey import Survey, survey

__all__ = ["check_deployable", "is_net_deployable", "judge"]


def check_deployable(net: brainstate.nn.Module) -> DeployReport:
    """Judge a network by every rule of its chip and report all that breaks one.

    The rules, each of its own: all modules of one family; no module that the chip lacks; no operation between modules;
    finite weights; weights in range; one sign in every block; weights on the grid of the chip's bits (as rounding makes
    them, where ``weight_bits`` rounds); time constants that are leak profiles; neurons that spike once; one frontend,
    at the input; no more neurons than the chip has; recurrent layers that fit a core; a placement of all layers. What
    of this the vendor documents, and what is assumed, stands in the chip's spec (``print(bh.chip.H1V1)``).

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. One step of it is traced to see what feeds what; it is left as it was.

    Returns
    -------
    DeployReport
        ``report.ok``, ``report.violations`` with module, finding, limit and fix; ``print`` it for a table;
        ``report.raise_if_not()`` raises with all of them.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is no module, or has none on a chip.
    RuntimeError
        If called inside ``jit``.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.H1v1Synapse(2, 1, weight_init=jnp.array([[1.2], [-0.3]])), bh.nn.H1v1Layer(1, tau=10 * u.ms)
    ... )
    >>> report = bh.deploy.check_deployable(net)
    >>> [violation.rule for violation in report.violations]
    ['weights in range', 'one sign in a block']
    >>> bh.train.clip_weights(net), bh.deploy.project_signs(net), bh.deploy.set_weight_bits(net, "chip")
    (None, None, None)
    >>> print(bh.deploy.check_deployable(net))
    deployable on H1v1: all 13 rules hold
    """
    return judge(survey(net, call="check_deployable"))


def judge(found: Survey) -> DeployReport:
    """Judge a network that was looked at already."""
    violations = [violation for rule in RULES.values() for violation in rule(found)]
    return DeployReport(found.chip.name, tuple(RULES), tuple(violations))


def is_net_deployable(net: brainstate.nn.Module) -> bool:
    """Return whether a network can go on its chip as it is; :func:`check_deployable` says why not.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.

    Returns
    -------
    bool
        Whether no rule is broken.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u
    >>> net = brainstate.nn.Sequential(bh.nn.H1v1Synapse(8, 300), bh.nn.H1v1Layer(300, tau=10 * u.ms))
    >>> bh.deploy.is_net_deployable(net)
    False
    """
    return check_deployable(net).ok
