"""Deployment check: all rules of the chip, applied to a finished network."""

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
    """Raised for a network that breaks rules of its chip; the message lists all violations."""


@final
@dataclass(frozen=True)
class DeployReport(Shown):
    """Result of :func:`check_deployable`; ``print`` it for a table.

    Attributes
    ----------
    chip : str
        Name of the chip.
    rules : tuple of str
        Every rule that was checked.
    violations : tuple of Violation
        Every violation, ordered by rule.
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
        """Whether the network satisfies all rules."""
        return not self.violations

    def raise_if_not(self) -> None:
        """Raise `NotDeployableError` with every violation, if there are any."""
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

    General rules: all modules belong to one family; no other modules; no operation between modules; finite weights;
    weights in range; one sign in every block; weights on the levels of the chip's bits (after rounding, if
    ``weight_bits`` rounds); time constants are leak profiles; binary spikes; at most one frontend, at the input; no
    more neurons than the chip has; every recurrent layer fits a core; all layers can be placed. A chip family can omit
    rules and add its own (:class:`brainhw.chip.Family`); the report lists the rules that were checked.
    ``print(bh.chip.H1V1)`` shows which limits the vendor documents and which are assumed.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. One step of it is traced to find its wiring; it is not changed.
    data : array, optional
        Inputs ``[T, B, N]`` of a run, checked by one more rule: a chip takes no negative input and, without a frontend,
        at most 16 per channel and step (assumed).

    Returns
    -------
    DeployReport
        ``report.ok``, and ``report.violations`` with module, finding, limit and fix. ``print`` it for a table;
        ``report.raise_if_not()`` raises an error that lists all violations.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is not a module or has no module on a chip, or ``data`` are not finite numbers.
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
    """Check a surveyed network: first the general rules that apply to its family, then the family's own."""
    family = found.family
    rules = {name: rule for name, rule in RULES.items() if name not in set(family.without_rules)} | dict(family.rules)
    return DeployReport(found.chip.name, tuple(rules), tuple(v for rule in rules.values() for v in rule(found)))


def is_net_deployable(net: brainstate.nn.Module) -> bool:
    """Return whether a network satisfies all rules of its chip; :func:`check_deployable` lists the violations.

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
