"""Deployment check: every rule of the chip, judged on a finished network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import brainstate

from brainhw import _arguments, _records
from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.deploy.inputs import checked_data, input_fault
from brainhw.deploy.rules import RULES, Violation
from brainhw.deploy.survey import INPUT, Survey, survey

__all__ = ["DeployReport", "NotDeployableError", "check_deployable", "is_net_deployable", "judge"]


_INPUT_RULE = "input of the chip"


class NotDeployableError(ValueError):
    """A network breaks rules of its chip; the message lists all violations."""


@final
@dataclass(frozen=True)
class DeployReport(Shown):
    """The outcome of :func:`check_deployable`; ``print`` it for a table.

    Attributes
    ----------
    chip : str
        Name of the chip.
    rules : tuple of str
        Every rule that was checked.
    violations : tuple of Violation
        Every violation, module by module.
    """

    chip: str
    rules: tuple[str, ...]
    violations: tuple[Violation, ...]

    def __post_init__(self) -> None:
        _records.check_fields(
            self,
            chip=_arguments.text,
            rules=_records.each(_arguments.text, "text"),
            violations=_records.each(_records.is_a(Violation), "Violation"),
        )

    @property
    def ok(self) -> bool:
        """Whether the network breaks no rule."""
        return not self.violations

    def raise_if_not(self) -> None:
        """Raise `NotDeployableError` with every violation, unless there is none."""
        if not self.ok:
            listed = "\n".join(f"- {violation}" for violation in self.violations)
            raise NotDeployableError(
                f"check_deployable: the network breaks {len(self.violations)} rule(s) of {self.chip}:\n{listed}"
            )

    def _parts(self) -> Iterator[str | Table]:
        if self.ok:
            yield f"deployable on {self.chip}: all {len(self.rules)} rules hold"
            return
        headings = ("module", "rule", "found", "the chip takes", "how to fix it")
        yield f"not deployable on {self.chip}: {len(self.violations)} violation(s)"
        yield Table(headings, [(v.path, v.rule, v.found, v.limit, v.fix) for v in self.violations], left=headings)


def check_deployable(net: brainstate.nn.Module, data: Any = None) -> DeployReport:
    """Check a network against every rule of its chip and report all violations.

    The general rules: all modules of one family; only modules of that family; no operation between modules; finite
    weights; weights in range; one sign in every block; weights on the levels of the chip's bits (after rounding, where
    ``weight_bits`` rounds); time constants that are leak profiles; neurons that spike once; one frontend, at the input;
    no more neurons than the chip has; recurrent layers that fit a core; a placement of all layers. A chip family may
    leave some out and add its own (:class:`brainhw.chip.Family`); the report lists those that were judged. The chip's
    spec says which limits are documented by the vendor and which are assumed (``print(bh.chip.H1V1)``).

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. One step of it is traced to see its wiring; it stays as it was.
    data : array, optional
        Inputs ``[T, B, N]`` of a run, for one more rule: a chip takes no negative input, and at most 16 (assumed) per
        channel and step where there is no frontend.

    Returns
    -------
    DeployReport
        ``report.ok``, ``report.violations`` with module, finding, limit and fix; ``print`` it for a table;
        ``report.raise_if_not()`` raises with all of them.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is not a module, or has no module on a chip, or ``data`` are not finite numbers.
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
    call = "check_deployable"
    found = survey(net, call=call)
    report = judge(found)
    if data is None:
        return report
    fault = input_fault(checked_data(data, call=call), has_frontend=bool(found.frontends))
    broken = () if fault is None else (Violation(_INPUT_RULE, INPUT, *fault),)
    return DeployReport(report.chip, (*report.rules, _INPUT_RULE), (*report.violations, *broken))


def judge(found: Survey) -> DeployReport:
    """Check a network that was surveyed already: the general rules that its family keeps, then the family's own."""
    family = found.family
    rules = {name: rule for name, rule in RULES.items() if name not in set(family.without_rules)} | dict(family.rules)
    return DeployReport(found.chip.name, tuple(rules), tuple(v for rule in rules.values() for v in rule(found)))


def is_net_deployable(net: brainstate.nn.Module) -> bool:
    """Return whether a network breaks no rule of its chip; :func:`check_deployable` lists the violations.

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
    return judge(survey(net, call="is_net_deployable")).ok
