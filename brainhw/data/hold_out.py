"""Stratified hold-out of recordings from a training split."""

from __future__ import annotations

import numpy as np

from brainhw._arguments import describe, flag, instance, number, whole_number
from brainhw.data.dataset import Split

__all__ = ["hold_out"]


def hold_out(split: Split, share: float = 0.2, *, seed: int = 0, whole_groups: bool = False) -> tuple[Split, Split]:
    """Divide recordings into two splits, one for training and one for validation.

    Parameters
    ----------
    split
        The recordings, such as ``dataset.train``.
    share
        Fraction that is held out, between 0 and 1. Default 0.2. The fraction applies to each class, and the number of
        recordings is rounded. Of each class with two or more recordings, at least one recording is held out.
    seed
        Seed of the random choice. Default 0.
    whole_groups
        Hold out this fraction of the groups instead of the recordings. A group, such as a speaker, is then never in
        both splits. Default False.

    Returns
    -------
    tuple of Split
        Remaining and held-out recordings, each in the order of ``split``.

    Raises
    ------
    TypeError, ValueError
        If ``split`` is not a Split, ``share`` is not between 0 and 1, groups are missing, or one of the resulting
        splits would be empty.

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
    # A recording with frame labels has no class, so all such recordings are treated as one class.
    of = np.zeros(len(split), int) if split.y.ndim > 1 else split.y
    held = np.zeros(len(split), bool)
    if flag(whole_groups, call=call, name="whole_groups"):
        if split.groups is None:
            raise ValueError(
                f"{call}: whole_groups requires a split with groups, but this split has none. Omit whole_groups."
            )
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
            f"{call}: with a share of {share:g} of {len(split)} recordings, one of the two splits would be empty. "
            f"Pass more {what}, or a different share."
        )
    return split.take(~held), split.take(held)
