"""Collection of all faults of a state dict in one error."""

from __future__ import annotations

__all__ = ["Faults"]


class Faults:
    """Collects faults, so that one error lists all of them."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.found: list[str] = []

    def add(self, text: str) -> None:
        """Add a sentence that names the argument and ends with the advice."""
        if text not in self.found:
            self.found.append(text)

    def raise_any(self) -> None:
        """Raise one error with all faults, if there are any."""
        if len(self.found) == 1:
            raise ValueError(f"{self.call}: {self.found[0]}")
        if self.found:
            listed = "".join(f"\n- {text}" for text in self.found)
            raise ValueError(f"{self.call}: {len(self.found)} problems:{listed}")
