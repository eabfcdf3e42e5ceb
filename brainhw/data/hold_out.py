"""Stratified hold-out of a part of a training split."""

from __future__ import annotations

import numpy as np

from brainhw._arguments import describe, flag, instance, number, whole_number
from brainhw.data.dataset import Split

__all__ = ["hold_out"]


def hold_out(split: Split, share: float = 0.2, *, seed: int = 0, whole_groups: bool = False) -> tuple[Split, Split]:
    """Divide recordings into two splits, one for training and one for choosing settings.

    Parameters
    ----------
    split
        The recordings, such as ``dataset.train``.
    share
        Fraction that is held out, between 0 and 1; default 0.2. It applies to each class, rounded, with at least one
        recording of a class that has two.
    seed
        Seed of the choice; default 0.
    whole_groups
        Hold out this fraction of the groups instead, each as a whole, so that no speaker is in both splits. Default
        False.

    Returns
    -------
    tuple of Split
        Remaining and held-out recordings, each in the order of ``split``.

    Raises
    ------
    TypeError, ValueError
        If ``split`` is not a Split, ``share`` is not between 0 and 1, groups are missing, or one of the two would be
        empty.

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
        raise ValueError(f"{call}: share must be a fraction between 0 and 1; got {describe(share)}.")
    rng = np.random.default_rng(whole_number(seed, call=call, name="seed"))
    # A recording with frame labels has no class.
    of = np.zeros(len(split), int) if split.y.ndim > 1 else split.y
    held = np.zeros(len(split), bool)
    if flag(whole_groups, call=call, name="whole_groups"):
        if split.groups is None:
            raise ValueError(f"{call}: whole_groups needs a split with groups, but split has none; leave it out.")
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
