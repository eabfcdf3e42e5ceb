"""Accuracy after sign projection with and without reordered neurons: ``python -m benchmarks.order_rows``.

The network of ``gallery/deploy_spoken_digits.py`` is trained with free signs and then quantised to 5 bits. Its signs
are projected in two ways: with the neurons in the given order, and in the order of ``brainhw.train.order_rows``. Both
networks are then trained for a few more epochs. Their signs are annealed in the first of these epochs and fixed
afterwards. The script writes ``docs/results/order_rows.json``.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

import brainhw as bh
from benchmarks.machine import PROJECT, save

sys.path.insert(0, str(PROJECT / "gallery"))
import deploy_spoken_digits as digits
from _training import frames_of

ORDERS = ("as they stand", "ordered")


def copied(net: digits.DigitNet, chip: str, ordered: bool) -> tuple[digits.DigitNet, np.ndarray, float]:
    """Return a copy with projected signs, the order of its inputs, and the remaining fraction of squared weights."""
    first, second = (np.asarray(synapse.weight.value) for synapse in (net.to_hidden, net.to_output))
    of_inputs, of_hidden = np.arange(len(first)), np.arange(len(second))
    block = net.to_hidden.chip.sign_block
    if ordered:
        of_inputs, _ = bh.train.order_rows(first, block=block)
        of_hidden, _ = bh.train.order_rows(second, block=block)
    new = digits.DigitNet(chip, "chip")
    new.hidden = digits.FAMILIES[chip][1](len(second), tau=net.hidden.tau[of_hidden])
    new.to_hidden.weight.value = jnp.asarray(first[of_inputs][:, of_hidden])
    new.to_output.weight.value = jnp.asarray(second[of_hidden])
    before = sum(float(jnp.sum(w.weight.value**2)) for w in (new.to_hidden, new.to_output))
    bh.deploy.project_signs(new)
    after = sum(float(jnp.sum(w.weight.value**2)) for w in (new.to_hidden, new.to_output))
    return new, of_inputs, after / before


def study(chip: str, seed: int, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Train and project one network, and return one row for each order."""
    brainstate.random.seed(seed)
    train, test = digits.load(arguments.root, smoke=False)
    options: dict[str, Any] = {"seed": seed, "keep": "last", "progress": False}
    net = digits.DigitNet(chip, None)
    digits.start(net, train, seed)
    digits.learn(net, train, test, epochs=arguments.epochs, signs=False, sampled=True, **options)

    def accuracy(net: digits.DigitNet, order: np.ndarray) -> float:
        seen = brainstate.transform.jit(lambda x: bh.rollout(net, x)[0])(wired[..., order])
        return float(bh.train.accuracy_population(seen, jnp.asarray(test.y), digits.N_CLASSES))

    wired = digits.wired(digits.time_major(frames_of(test)))
    free, rows = accuracy(net, np.arange(wired.shape[-1])), []
    for kind in ORDERS:
        new, order, share = copied(net, chip, kind == "ordered")
        projected = accuracy(new, order)

        def rewired(x: jax.Array, order: np.ndarray = order) -> jax.Array:
            """Return the output of the encoder in the new order."""
            return digits.wired(x)[..., order]

        more: dict[str, Any] = {"epochs": arguments.more, "signs": True, "sampled": True, "inputs": rewired}
        digits.learn(new, train, test, **more, **options)
        report = bh.check_deployable(new)
        row = {
            "chip": chip,
            "neurons": kind,
            "seed": seed,
            "free": free,
            "kept": share,
            "projected": projected,
            "trained_on": accuracy(new, order),
            "violations": len(report.violations),
        }
        print(row, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    """Run all chips and seeds, and save the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="folder of the spoken digits; default: the folders of brainhw.data.fsdd")
    parser.add_argument("--epochs", type=int, default=20, help="epochs with free signs")
    parser.add_argument("--more", type=int, default=5, help="epochs after the projection")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    brainstate.environ.set(dt=digits.DT)
    rows = []
    for chip in ("h1v1", "h1v2"):
        for seed in range(arguments.seeds):
            rows += study(chip, seed, arguments)
            jax.clear_caches()
    save("order_rows", {"runs": rows})


if __name__ == "__main__":
    main()
