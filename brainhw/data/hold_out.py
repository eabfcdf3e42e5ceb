"""A share of a training split held out, of each class alike."""

from __future__ import annotations

import numpy as np

from brainhw._arguments import describe, flag, instance, number, whole_number
from brainhw.data.dataset import Split

__all__ = ["hold_out"]


def hold_out(split: Split, share: float = 0.2, *, seed: int = 0, whole_groups: bool = False) -> tuple[Split, Split]:
    """Split recordings in two: those to train with, and those that settings are chosen by.

    Parameters
    ----------
    split
        The recordings, such as ``dataset.train``.
    share
        Part that is held out, between 0 and 1; default 0.2. Of each class it is this part, rounded, and at least one
        recording if the class has two.
    seed
        Seed of the choice; default 0.
    whole_groups
        Hold out this part of the groups instead, each as a whole, so that no speaker is in both; default False.

    Returns
    -------
    tuple of Split
        What is left and what is held out, each in the order of ``split``.

    Raises
    ------
    TypeError, ValueError
        For anything but a Split, a ``share`` that is not between 0 and 1, groups that are missing, and if one of the
        two would be empty.

    Examples
    --------
    >>> from brainhw.data import hold_out, japanese_vowels
    >>> train, validation = hold_out(japanese_vowels().train, 0.2)
    >>> len(train), len(validation)
    (216, 54)
    """
    call = "hold_out"
    instance(split, Split, call=call, name="split")
    share = number(share, call=call, name="share", positive=True)
    if share >= 1:
        raise ValueError(f"{call}: share must lie between 0 and 1, as a part of the recordings; got {describe(share)}.")
    rng = np.random.default_rng(whole_number(seed, call=call, name="seed"))
    # A recording with a label for each frame has no class of its own.
    of = np.zeros(len(split), int) if split.y.ndim > 1 else split.y
    held = np.zeros(len(split), bool)
    if flag(whole_groups, call=call, name="whole_groups"):
        if split.groups is None:
            raise ValueError(f"{call}: whole_groups takes a split with groups, and this one has none; leave it out.")
        names = np.unique(split.groups)
        chosen = rng.permutation(names)[: round(share * len(names)) or 1]
        held = np.isin(split.groups, chosen)
    else:
        for one in np.unique(of):
            rows = rng.permutation(np.flatnonzero(of == one))
            held[rows[: max(round(share * len(rows)), int(len(rows) > 1))]] = True
    if held.all() or not held.any():
        what = "groups" if whole_groups else "recordings"
        raise ValueError(
            f"{call}: a share of {share:g} leaves nothing to train with, or nothing to hold out, of {len(split)} "
            f"recordings; give more {what}, or another share."
        )
    return split.take(~held), split.take(held)
