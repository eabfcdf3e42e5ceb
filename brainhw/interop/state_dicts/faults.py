"""Collection of faults, so that one error reports all faults of a state dict."""

from __future__ import annotations

__all__ = ["Faults"]


class Faults:
    """Collects the faults in a state dict and in the other arguments of an import, so that one error reports all."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.found: list[str] = []

    def add(self, text: str) -> None:
        """Record a fault as a sentence that names the argument, the fault and the fix."""
        if text not in self.found:
            self.found.append(text)

    def raise_any(self) -> None:
        """Raise a ``ValueError`` that lists all recorded faults. Return if there are none."""
        if len(self.found) == 1:
            raise ValueError(f"{self.call}: {self.found[0]}")
        if self.found:
            listed = "".join(f"\n- {text}" for text in self.found)
            raise ValueError(f"{self.call}: {len(self.found)} problems:{listed}")
