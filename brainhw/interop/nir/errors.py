"""What NIR or brainhw has no form for: every problem of a network in one error."""

from __future__ import annotations

__all__ = ["NIRError", "Problems"]


class NIRError(ValueError):
    """A network cannot be exchanged without changing what it computes, or a file is not sound.

    Attributes
    ----------
    problems : tuple of str
        One sentence for each: where, what it is, why it is refused and what to do.

    Examples
    --------
    >>> from brainhw.interop.nir import NIRError
    >>> NIRError("to_nir", ["hidden (a FractionalLIFLayer) has no NIR form; leave it out."]).problems
    ('hidden (a FractionalLIFLayer) has no NIR form; leave it out.',)
    """

    def __init__(self, call: str, problems: list[str] | tuple[str, ...]) -> None:
        self.problems = tuple(problems)
        listed = self.problems[0] if len(self.problems) == 1 else "".join(f"\n- {text}" for text in self.problems)
        count = "" if len(self.problems) == 1 else f" {len(self.problems)} problems:"
        super().__init__(f"{call}:{count}{'' if count else ' '}{listed}")


class Problems:
    """Collects what is wrong, so that all of it is told at once."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.found: list[str] = []

    def add(self, where: str, what: str, why: str) -> None:
        """Note that ``where``, which is ``what``, is refused for the reason and with the advice in ``why``."""
        text = f"{where} ({what}) {why}"
        if text not in self.found:
            self.found.append(text)

    def raise_any(self) -> None:
        """Raise everything that was found, if anything was."""
        if self.found:
            raise NIRError(self.call, self.found)
