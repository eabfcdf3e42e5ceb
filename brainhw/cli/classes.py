"""Class report as plain values for JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from brainhw.train.class_report import ClassReport

__all__ = ["class_data"]


def class_data(report: ClassReport, *, labelled: bool = True) -> dict[str, Any]:
    """Return the values of a class report as a dict; with ``labelled=False``, values that need labels are ``None``."""
    predicted, of_class = np.sum(report.confusion, axis=0), np.sum(report.confusion, axis=1)
    right = np.diag(report.confusion)
    names = report.names or tuple(map(str, range(len(predicted))))
    return {
        "accuracy": report.accuracy if labelled else None,
        "right": int(right.sum()) if labelled else None,
        "samples": report.n_samples,
        "silent": report.silent,
        "tied": report.tied,
        "undecided": report.undecided,
        "never_predicted": [names[one] for one in report.never_predicted],
        "classes": [
            {
                "class": name,
                "predicted": predicted[one],
                "labelled": of_class[one] if labelled else None,
                "right": right[one] if labelled else None,
                "recall": report.recall[one] if labelled else None,
            }
            for one, name in enumerate(names)
        ],
        "confusion": report.confusion if labelled else None,
    }
