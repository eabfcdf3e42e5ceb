"""The report of a deployment check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from brainhw._table import plain_table

__all__ = ["DeployReport", "NotDeployableError", "Violation"]

# The path of a violation that concerns no single module.
NETWORK = "the network"


class NotDeployableError(ValueError):
    """A network breaks rules of its chip; the message lists all violations."""


@final
@dataclass(frozen=True)
class Violation:
    """One rule that one module breaks.

    Attributes
    ----------
    rule : str
        Name of the rule.
    path : str
        Dotted path of the module, or ``"the network"``.
    found : str
        The finding.
    limit : str
        The limit of the chip.
    fix : str
        How to fix it.
    where : tuple
        Indices of the weights (for blocks: of their first weight) or neurons concerned, if any.
    """

    rule: str
    path: str
    found: str
    limit: str
    fix: str
    where: tuple[tuple[int, ...], ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return f"{self.path}: {self.rule}: {self.found}; the chip takes {self.limit}. {self.fix}"


@final
@dataclass(frozen=True)
class DeployReport:
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

    def __str__(self) -> str:
        if self.ok:
            return f"deployable on {self.chip}: all {len(self.rules)} rules hold"
        headings = ("module", "rule", "found", "the chip takes", "how to mend it")
        rows = [(v.path, v.rule, v.found, v.limit, v.fix) for v in self.violations]
        table = plain_table(headings, rows, left=headings)
        return f"not deployable on {self.chip}: {len(self.violations)} violation(s)\n{table}"
