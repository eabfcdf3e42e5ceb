"""Error of the exponential approximation of fractional weights, for several numbers of exponentials and horizons.

``python -m benchmarks.fractional_error`` prints a Markdown table. Each entry is the largest
:func:`brainhw.kernel.weight_error` over orders from 0.05 to 0.99.
"""

from __future__ import annotations

import argparse

import brainhw as bh

ORDERS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
NUMBERS = (12, 16, 20, 24, 32, 48)
HORIZONS = (128, 512, 2048, 8192, 65536)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="gl", choices=sorted(bh.kernel.METHODS))
    method = parser.parse_args().method
    print("| steps | " + " | ".join(f"K = {n}" for n in NUMBERS) + " |")
    print("| --- " * (len(NUMBERS) + 1) + "|")
    for horizon in HORIZONS:
        errors = [max(bh.kernel.weight_error(method, alpha, n, horizon) for alpha in ORDERS) for n in NUMBERS]
        print(f"| {horizon} | " + " | ".join(f"{error:.0e}" for error in errors) + " |")


if __name__ == "__main__":
    main()
