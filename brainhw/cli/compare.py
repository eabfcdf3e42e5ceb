"""Command that compares a bundle with a measured chip or a bench."""

from __future__ import annotations

import shlex
import warnings

import brainunit as u

from brainhw._files import check_target
from brainhw.cli.data import read_inputs, read_labels
from brainhw.cli.look import opened, say
from brainhw.cli.picture import figure_format, write_figure
from brainhw.silicon import CommandDevice, Device, MeasuredChip
from brainhw.silicon import compare as compare_nets
from brainhw.silicon.measured_bench import MeasuredBench

__all__ = ["compare"]


def compare(
    bundle: str,
    data: str,
    *,
    chip: str | None = None,
    device: str | None = None,
    timeout: float = 60.0,
    trials: int = 1,
    worst: int = 10,
    causes: bool = True,
    classes: int | None = None,
    labels: str | None = None,
    figure: str | None = None,
) -> int:
    """Run bundle and bench on the same data, and show where they differ."""
    call = "compare"
    if (chip is None) == (device is None):
        fault = "neither" if chip is None else "both"
        raise ValueError(
            f"{call}: give one of CHIP and --device; got {fault}. Write BUNDLE lab.chip DATA, for example."
        )
    if figure is not None:
        # Before the bench runs, which takes a while.
        check_target(figure, call=call)
        figure_format(figure, call=call)
    bench = _bench(chip, device, timeout, call)
    with opened(bundle, call=call) as (net, _):
        content = net.content
        x = read_inputs(data, content.n_in, content.dtype, call=call)
        n_classes = classes or content.n_classes
        y = read_labels(labels or data, len(x), n_classes or content.n_out, call=call, required=labels is not None)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            found = compare_nets(net, bench, x.swapaxes(0, 1), y, n_trials=trials, n_classes=n_classes, explain=causes)
    notes = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    say(f"bench       {chip or device}", found.table(worst))
    if notes:
        # On the command line the argument is an option.
        say(*(f"note: {note.replace('give n_classes=', 'give --classes ')}" for note in notes))
    if figure is not None:
        write_figure(figure, found, "plot_comparison", call=call)
    return 0


def _bench(chip: str | None, device: str | None, timeout: float, call: str) -> Device:
    if chip is not None:
        return MeasuredBench(MeasuredChip.load(chip))
    try:
        words = shlex.split(str(device))
    except ValueError as error:
        raise ValueError(f"{call}: --device must be a command and its arguments; got {device!r} ({error}).") from error
    if not words:
        raise ValueError(f"{call}: --device must be a command and its arguments; got {device!r}.")
    return CommandDevice(words, timeout=timeout * u.second)
