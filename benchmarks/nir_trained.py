"""Networks trained on Japanese Vowels, and the NIR export options for each reader."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

DT_MS = 1.0
N_HIDDEN, N_CLASSES, N_EPOCHS = 48, 9, 25
TAU_MS, TAU_SYN_MS = 20.0, 8.0
# Options of to_nir for each reader, with times in ms. The time step of snnTorch is always 0.1 ms, and sinabs measures
# time in steps.
WRITTEN_FOR: dict[str, dict[str, Any]] = {
    "brainhw": {},
    "jaxpike": {},
    "snntorch": {"discretisation": "euler", "gain": "R", "as_dt": 0.1},
    "norse": {"discretisation": "euler", "gain": "weights"},
    "spyx": {"discretisation": "euler", "gain": "R"},
    "sinabs": {"gain": "R", "as_dt": 1000.0, "compatible": "1.0.4"},
    "sinabs, one spike a step": {"gain": "R", "as_dt": 1000.0, "compatible": "1.0.4"},
    "rockpool": {"gain": "R", "compatible": "1.0.4"},
    "rockpool, dt, one spike a step, one decay": {"gain": "R", "compatible": "1.0.4"},
}


def data() -> tuple[Any, np.ndarray, np.ndarray]:
    """Return the training split, and the inputs ``[T, B, N]`` and labels of the 370 test recordings of 116 steps."""
    import brainhw as bh

    vowels = bh.data.japanese_vowels()
    scale = bh.data.fit_channel_scale(vowels.train)

    def encoded(split: Any) -> Any:
        x = bh.data.repeat_frames(bh.data.split_on_off(scale.apply(split).x), 4)
        return bh.data.Split(x, split.y, 4 * split.lengths)

    train, test = encoded(vowels.train), encoded(vowels.test)
    return train, np.moveaxis(np.asarray(test.x, np.float32), 1, 0), np.asarray(test.y)


def nets(n_in: int) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return untrained networks with their export options."""
    import brainstate
    import brainunit as u
    import nir

    import brainhw as bh
    from brainhw.interop.nir import from_nir

    rng = np.random.default_rng(0)

    def weights(a: int, b: int, size: float) -> Any:
        return rng.normal(0, size / np.sqrt(a), (a, b)).astype(np.float32) * u.mV

    def lif(n: int, reset: Literal["subtract", "zero", "none"], recurrent: bool = False) -> Any:
        rec = {"topology": "RC", "recurrent_init": weights(n, n, 0.3)} if recurrent else {}
        return bh.nn.LIFLayer(n, tau=TAU_MS * u.ms, reset=reset, **rec)

    def of_lif(reset: Literal["subtract", "zero", "none"], recurrent: bool = False) -> Any:
        return brainstate.nn.Sequential(
            bh.nn.LIFSynapse(n_in, N_HIDDEN, weight_init=weights(n_in, N_HIDDEN, 2.0)),
            lif(N_HIDDEN, reset, recurrent),
            bh.nn.LIFSynapse(N_HIDDEN, N_CLASSES, weight_init=weights(N_HIDDEN, N_CLASSES, 2.0)),
            lif(N_CLASSES, reset),
        )

    def cuba(n: int) -> Any:
        return bh.nn.CubaLIFLayer(n, tau_mem=TAU_MS * u.ms, tau_syn=TAU_SYN_MS * u.ms, max_spikes_per_step=1)

    subtracting = brainstate.nn.Sequential(
        bh.nn.LIFSynapse(n_in, N_HIDDEN, weight_init=weights(n_in, N_HIDDEN, 0.15)),
        cuba(N_HIDDEN),
        bh.nn.LIFSynapse(N_HIDDEN, N_CLASSES, weight_init=weights(N_HIDDEN, N_CLASSES, 0.15)),
        cuba(N_CLASSES),
    )

    def node(n: int) -> Any:
        dt, tau, syn = DT_MS / 1000, TAU_MS / 1000, TAU_SYN_MS / 1000
        one = np.ones(n)
        return nir.CubaLIF(
            tau_syn=syn * one, tau_mem=tau * one, r=tau / dt * one, w_in=syn / dt * one, v_leak=0 * one, v_threshold=one
        )

    graph = nir.NIRGraph.from_list(
        nir.Linear(weight=np.asarray(weights(n_in, N_HIDDEN, 0.15).mantissa).T),
        node(N_HIDDEN),
        nir.Linear(weight=np.asarray(weights(N_HIDDEN, N_CLASSES, 0.15).mantissa).T),
        node(N_CLASSES),
    )
    continuous = {"reset": "continuous"}
    return {
        "feed-forward LIF": (of_lif("zero"), {}),
        "recurrent LIF": (of_lif("zero", recurrent=True), {}),
        "CubaLIF": (from_nir(graph, dt=DT_MS * u.ms, discretisation="euler"), {}),
        "feed-forward LIF that subtracts": (of_lif("subtract"), continuous),
        "CubaLIF that subtracts": (subtracting, {**continuous, "cuba_order": "current-first"}),
    }


def trained() -> tuple[dict[str, tuple[Any, dict[str, Any], np.ndarray, float]], np.ndarray]:
    """Return the trained networks, with export options, outputs ``[T, B, 9]`` and accuracy, and the test input."""
    import brainstate
    import brainunit as u

    import brainhw as bh

    train, xs, y = data()
    made = {}
    with brainstate.environ.context(dt=DT_MS * u.ms):
        brainstate.random.seed(0)
        for name, (net, needs) in nets(xs.shape[-1]).items():
            # Current-based neurons integrate their input over two time constants, so a smaller learning rate is enough.
            rate = 0.0003 if "Cuba" in name else 0.004
            if needs:
                bh.fluct_init(net, [train], xi_target=1.0, families="any")
            bh.train.fit(net, train, n_classes=N_CLASSES, epochs=N_EPOCHS, batch_size=54, learning_rate=rate)
            spikes = np.asarray(bh.rollout(net, xs)[0])
            right = float(np.mean(spikes.sum(0).argmax(-1) == y))
            made[name] = (net, needs, spikes, right)
    return made, xs


def written_for(net: Any, reader: str, needs: dict[str, Any]) -> Any:
    """Return the NIR graph of a network with the export options for one reader."""
    import brainunit as u

    from brainhw.interop.nir import to_nir

    options = {**WRITTEN_FOR[reader]}
    if "as_dt" in options:
        options["as_dt"] = options["as_dt"] * u.ms
    return to_nir(net, dt=DT_MS * u.ms, **needs, **options)
