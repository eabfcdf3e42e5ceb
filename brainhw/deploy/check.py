"""Deployment check of a finished network against all rules of its chip."""

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
    """Raised if a network violates rules of its chip; the message lists all violations."""


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
        """Whether the network meets all rules."""
        return not self.violations

    def raise_if_not(self) -> None:
        """Raise `NotDeployableError`, which lists every violation, if the network violates a rule."""
        if not self.ok:
            listed = "\n".join(f"- {violation}" for violation in self.violations)
            raise NotDeployableError(
                f"check_deployable: the network violates {len(self.violations)} rule(s) of {self.chip}:\n{listed}"
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

    The general rules are:

    - All modules are built for one chip, and every module with parameters or states is an unmodified module of the
      chip's family.
    - The network performs no operation between two modules.
    - All weights are finite and in range, and each sign block has weights of one sign.
    - Each weight is a level that the chip's bits can store. If ``weight_bits`` is set, this is checked after rounding.
    - Each time constant is a leak profile of the chip.
    - Each neuron emits at most one spike per step, and its reset is the reset of the chip.
    - There is at most one frontend, and it receives the input of the network.
    - There are at most as many neurons as on the chip, each recurrent layer fits on one core, and all layers can be
      placed.

    A chip family can omit rules and add its own (:class:`brainhw.chip.Family`). The report lists the rules that were
    checked. ``print(bh.chip.H1V1)`` shows which limits the vendor documents and which are assumed.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. One step of the network is traced to find its connections. The network itself is not modified.
    data : array, optional
        Inputs ``[T, B, N]`` of a run. If given, one more rule is checked: no input may be negative and, without a
        frontend, no input may exceed 16 per channel and step. brainhw assumes this limit.

    Returns
    -------
    DeployReport
        ``report.ok`` is True if no rule is violated. ``report.violations`` contains the module, the finding, the limit
        and the fix of each violation. ``print`` the report for a table; ``report.raise_if_not()`` raises an error that
        lists all violations.

    Raises
    ------
    TypeError
        If ``net`` is not a module, or if ``data`` is not an array of real numbers.
    ValueError
        If ``net`` contains no module on a chip, or if ``data`` is empty, has fewer than two axes or contains non-finite
        values.
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
    """Check the network of a survey against the general rules that apply to its family and the rules of the family."""
    family = found.family
    rules = {name: rule for name, rule in RULES.items() if name not in set(family.without_rules)} | dict(family.rules)
    violations = []
    for name, rule in rules.items():
        for violation in rule(found):
            if violation.rule != name:
                raise ValueError(
                    f"check_deployable: the rule {name!r} of the family {family.name} returned a Violation of the rule "
                    f"{violation.rule!r}. Use one name in Family(rules=...) and in the Violation."
                )
            violations.append(violation)
    return DeployReport(found.chip.name, tuple(rules), tuple(violations))


def is_net_deployable(net: brainstate.nn.Module) -> bool:
    """Return whether a network meets all rules of its chip; :func:`check_deployable` lists the violations.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.

    Returns
    -------
    bool
        Whether no rule is violated.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u
    >>> net = brainstate.nn.Sequential(bh.nn.H1v1Synapse(8, 300), bh.nn.H1v1Layer(300, tau=10 * u.ms))
    >>> bh.deploy.is_net_deployable(net)
    False
    """
    return judge(survey(net, call="is_net_deployable")).ok
