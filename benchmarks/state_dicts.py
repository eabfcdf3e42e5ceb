"""Compare spikes of snnTorch, Norse and SpikingJelly with those of brainhw after loading their state dicts.

    python -m benchmarks.state_dicts                  # compare (requires torch and at least one of the libraries)
    python -m benchmarks.state_dicts --golden FILE    # write the small networks of the tests (does not require brainhw)

A network has two Linear layers, each followed by a neuron layer. Weights and inputs are random, and scaled so that most
neurons fire sometimes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

N_IN, N_HIDDEN, N_OUT = 12, 20, 6
SCALES = (8.0, 4.0, 2.0, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.03, 0.02)
LIBRARIES = ("snntorch", "norse", "spikingjelly")


def _leaks(n: int) -> Any:
    import torch

    # The values include extreme cases: a neuron without memory, a neuron without leak, and a time constant far below a
    # step.
    return torch.linspace(0.3, 0.99, n) if n == N_HIDDEN else torch.tensor([0.0, 1.0, 0.004, 0.5, 0.9, 0.97])


def _snntorch() -> dict[str, tuple[Callable[[int], Any], dict[str, Any]]]:
    import snntorch as snn

    def make(kind: str, leaks: Callable[[int], dict[str, Any]], **options: Any) -> Callable[[int], Any]:
        def layer(n: int) -> Any:
            dense = {"linear_features": n} if kind.startswith("R") else {}
            return getattr(snn, kind)(**leaks(n), **dense, **options, init_hidden=True)

        return layer

    one = {"beta": 0.9}
    two = {"alpha": 0.7, "beta": 0.85}
    cases: dict[str, tuple[Callable[[int], Any], dict[str, Any]]] = {}
    for kind, leaks in (("Leaky", one), ("RLeaky", one), ("Synaptic", two), ("RSynaptic", two)):

        def given(n: int, leaks: dict[str, float] = leaks) -> dict[str, float]:
            return leaks

        for reset in ("subtract", "zero", "none"):
            # With reset_delay=False, RSynaptic of snnTorch 1.0.0 fails, because it reads mem before it is set.
            for late in (True,) if kind == "RSynaptic" or reset == "none" else (True, False):
                name = f"{kind} {reset}{'' if late else ' at once'}"
                options = {"reset_mechanism": reset, "reset_delay": late, "threshold": 0.8}
                cases[name] = (make(kind, given, **options), {"reset_delay": late})
    cases["Leaky leaks"] = (
        make("Leaky", lambda n: {"beta": _leaks(n)}, reset_delay=False, learn_beta=True),
        {"reset_delay": False},
    )
    return cases


def _norse() -> dict[str, tuple[Callable[[int], Any], dict[str, Any]]]:
    import norse.torch as norse
    import torch
    from norse.torch.functional.lif_box import LIFBoxParameters
    from norse.torch.functional.reset import reset_subtract

    def parameters(kind: Any, options: dict[str, Any]) -> Any:
        plain = {name: torch.as_tensor(value) for name, value in options.items() if name != "reset_method"}
        return kind(**plain, **({"reset_method": reset_subtract} if "reset_method" in options else {}))

    quick = {"tau_mem_inv": 300.0, "tau_syn_inv": 120.0, "v_th": 0.6}
    away = {"v_leak": -0.5, "v_reset": -0.5, "v_th": 0.3}
    sets: dict[str, tuple[str, dict[str, Any]]] = {
        "LIFCell": ("LIFCell", {}),
        "LIFCell quick": ("LIFCell", quick),
        "LIFCell away from zero": ("LIFCell", away),
        "LIFRecurrentCell": ("LIFRecurrentCell", quick),
        "LIFBoxCell": ("LIFBoxCell", {"v_th": 0.3}),
        "LIFBoxCell subtract": ("LIFBoxCell", {"v_th": 0.3, "reset_method": "subtract"}),
    }
    cases: dict[str, tuple[Callable[[int], Any], dict[str, Any]]] = {}
    for name, (kind, options) in sets.items():
        box = kind == "LIFBoxCell"
        sizes = (N_IN, N_HIDDEN, N_OUT)

        def layer(n: int, kind: str = kind, options: Any = options, box: bool = box, sizes: Any = sizes) -> Any:
            given = parameters(LIFBoxParameters if box else norse.LIFParameters, options)
            before = sizes[sizes.index(n) - 1]
            shape = (before, n) if kind.startswith("LIFRecurrent") else ()
            return getattr(norse, kind)(*shape, p=given)

        cases[name] = (layer, {"kind": kind, **options})
    return cases


def _spikingjelly() -> dict[str, tuple[Callable[[int], Any], dict[str, Any]]]:
    from spikingjelly.activation_based import neuron

    sets: dict[str, tuple[str, dict[str, Any]]] = {
        "LIFNode": ("LIFNode", {}),
        "LIFNode soft": ("LIFNode", {"v_reset": None, "tau": 3.0}),
        "LIFNode whole input": ("LIFNode", {"decay_input": False, "tau": 5.0}),
        "LIFNode away from zero": ("LIFNode", {"v_reset": -0.3, "v_threshold": 0.7}),
        "IFNode": ("IFNode", {}),
        "IFNode soft": ("IFNode", {"v_reset": None}),
        "ParametricLIFNode": ("ParametricLIFNode", {"v_threshold": 0.5}),
    }
    made: dict[str, tuple[Callable[[int], Any], dict[str, Any]]] = {}
    for name, (kind, options) in sets.items():

        def layer(n: int, kind: str = kind, options: Any = options) -> Any:
            return getattr(neuron, kind)(**options, **({"init_tau": 3.0} if kind == "ParametricLIFNode" else {}))

        made[name] = (layer, {"kind": kind, **options})
    return made


def _run(library: str, net: Any, x: Any) -> tuple[Any, float]:
    """Run a network from rest.

    Return its spikes ``[T, B, N]``, and the largest excess of the membrane potential over the threshold in snnTorch.
    """
    import torch

    for part in net.values():
        if hasattr(part, "reset_mem"):
            part.reset_mem()
        elif hasattr(part, "reset"):
            part.reset()
    states: dict[str, Any] = {}
    spikes, above = [], -1.0
    with torch.no_grad():
        for step in x:
            out = step
            for key, part in net.items():
                if library == "norse" and key.startswith("lif"):
                    out, states[key] = part(out, states.get(key))
                else:
                    out = part(out)
                    if library == "snntorch" and key.startswith("lif"):
                        above = max(above, float((part.mem - part.threshold).max()))
            spikes.append(out)
    return torch.stack(spikes), above


def _draw(net: Any, drawn: dict[str, Any], scale: float, tame: bool, coarse: bool) -> None:
    """Set random weights of the given scale. The scale of recurrent weights and biases is a fifth of it."""
    import torch

    with torch.no_grad():
        for key, value in net.named_parameters():
            if not key.endswith(("weight", "weights", "bias")):
                continue
            few = "recurrent" in key or "bias" in key
            steady = 0.7 if tame and value.ndim == 2 and not few else 0.0
            size = scale * (drawn[key] + steady) * (0.2 if few else 1.0)
            value.copy_(torch.round(32 * size) / 32 if coarse else size)


def cases(
    library: str, n_steps: int, n_samples: int, *, coarse: bool
) -> Iterator[tuple[str, dict[str, Any], Any, Any, Any]]:
    """Yield, for each network, its name, options for brainhw, state dict as arrays, inputs and spikes ``[T, B, N]``.

    With ``coarse``, weights are multiples of 1/32. Sums can then be exactly equal to a threshold, and the file is
    small.
    """
    import torch
    from torch import nn

    for name, (layer, told) in {"snntorch": _snntorch, "norse": _norse, "spikingjelly": _spikingjelly}[
        library
    ]().items():
        torch.manual_seed(7)
        own = told.get("kind", "").startswith("LIFRecurrent")
        parts: dict[str, Any] = {}
        for place, (n_in, n) in enumerate(((N_IN, N_HIDDEN), (N_HIDDEN, N_OUT)), 1):
            if not own:
                parts[f"fc{place}"] = nn.Linear(n_in, n)
            parts[f"lif{place}"] = layer(n)
        net = nn.ModuleDict(parts)
        x = (torch.rand(n_steps, n_samples, N_IN) < 0.35).float()
        drawn = {key: torch.randn(value.shape) for key, value in net.named_parameters() if value.ndim > 0}
        # With an immediate reset by subtraction, snnTorch doubles the threshold for one step if the membrane potential
        # is still above it after the reset. brainhw does not. Small constant inputs keep the membrane potential below
        # the threshold after a reset.
        tame = told.get("reset_delay") is False and "zero" not in name
        # Neurons must neither be silent nor fire in each step. The scale that achieves this depends on the type of
        # neuron, so try several.
        found = []
        for scale in SCALES:
            _draw(net, drawn, scale, tame, coarse)
            spikes, above = _run(library, net, x)
            rate = float(spikes.mean())
            found.append((abs(rate - 0.15) + (1 if tame and above > 0 else 0) + (1 if rate < 0.005 else 0), scale))
            if found[-1][0] < 0.1:
                break
        _draw(net, drawn, min(found)[1], tame, coarse)
        spikes, _ = _run(library, net, x)
        arrays = {key: value.detach().numpy() for key, value in net.state_dict().items()}
        yield name, told, arrays, x.numpy(), spikes.numpy()


def read(library: str, told: dict[str, Any], arrays: dict[str, Any]) -> Any:
    """Load the state dict, and return the network of brainhw."""
    import brainunit as u

    import brainhw as bh

    loads = bh.interop.state_dicts
    if library == "snntorch":
        return loads.from_snntorch(arrays, dt=1 * u.ms, **told)
    make = loads.from_norse if library == "norse" else loads.from_spikingjelly
    return make(arrays, {"lif1": told, "lif2": told}, dt=1 * u.ms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", metavar="FILE", help="write the small networks of the tests to this file")
    asked = parser.parse_args()
    kept: dict[str, Any] = {}
    for library in LIBRARIES:
        try:
            print(library, importlib.metadata.version(library), "torch", importlib.metadata.version("torch"))
        except importlib.metadata.PackageNotFoundError:
            print(f"{library} or torch is not installed")
            continue
        for name, told, arrays, x, spikes in cases(
            library, *((40, 4) if asked.golden else (300, 32)), coarse=bool(asked.golden)
        ):
            if asked.golden:
                at = f"{library}/{name}"
                kept[f"{at}/x"], kept[f"{at}/spikes"] = np.packbits(x > 0), np.packbits(spikes > 0)
                kept |= {f"{at}/state/{key}": value for key, value in arrays.items()}
                print(f"  {name:28} {spikes.mean():.2f} spikes per step")
                continue
            import brainstate
            import brainunit as u

            import brainhw as bh

            with brainstate.environ.context(dt=1 * u.ms):
                mine = np.asarray(bh.rollout(read(library, told, arrays), x)[0])
            print(f"  {name:28} {int(np.sum(mine != spikes)):6} of {spikes.size}, {spikes.mean():.2f} spikes per step")
    if asked.golden:
        np.savez_compressed(asked.golden, **kept)


if __name__ == "__main__":
    main()
