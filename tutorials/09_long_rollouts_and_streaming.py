# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Long sequences and streaming
#
# **What you learn.** How to train on sequences of thousands of steps with little memory, continue a run, choose what
# to record, and run a trained network live, step by step.
#
# **Who it is for.** Readers of [Train a spiking network](04_train_a_spiking_network.ipynb) with long recordings or
# with a sensor.
#
# About 8 minutes to read, 15 seconds to run.

# %%
import itertools
import statistics
import time

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import brainhw as bh

brainstate.environ.set(dt=1 * u.ms)
brainstate.random.seed(0)

# %% [markdown]
# ## A source with changing modes
#
# 24 channels spike at random. The source has three modes. The mode determines which eight channels spike at 60 Hz
# while the others spike at 15 Hz. A mode lasts for 300 ms on average. The task is to determine the current mode. A
# step of 1 ms contains less than one spike, so the task needs memory, and the recordings are long: 4 s are 4000
# steps.

# %%
n_in, n_modes, n_steps, batch_size = 24, 3, 4000, 8
rate = np.full((n_modes, n_in), 15.0)
rate[np.arange(n_modes).repeat(8), np.arange(n_in)] = 60.0
probability = np.asarray(rate * u.Hz * brainstate.environ.get_dt())


def source(seed):
    """Yield one step after the other, for ever: spikes [n_in] and the mode."""
    rng = np.random.default_rng(seed)
    mode = int(rng.integers(n_modes))
    while True:
        if rng.random() < float(brainstate.environ.get_dt() / (300 * u.ms)):
            mode = (mode + int(rng.integers(1, n_modes))) % n_modes
        yield (rng.random(n_in) < probability[mode]).astype(np.float32), mode


def recordings(seeds):
    """Return spikes [T, B, n_in] and modes [T, B] of several sources."""
    taken = [list(itertools.islice(source(seed), n_steps)) for seed in seeds]
    spikes = np.stack([[spikes for spikes, _ in one] for one in taken], axis=1)
    return jnp.asarray(spikes), jnp.asarray([[mode for _, mode in one] for one in taken]).T


x, y = recordings(range(batch_size))
x_test, y_test = recordings(range(100, 100 + batch_size))
print("input", x.shape, "modes", y.shape)


# %%
class Net(brainstate.nn.Module):
    def __init__(self, n_hidden=64):
        super().__init__()
        self.synapse = bh.nn.LIFSynapse(n_in, n_hidden)
        self.hidden = bh.nn.LIFLayer(n_hidden, tau=20 * u.ms, spk_fun=bh.surrogate.fast_sigmoid(5.0))
        self.readout = bh.nn.LeakyReadout(n_hidden, n_modes, tau=50 * u.ms)

    def update(self, x):
        return self.readout(self.hidden(self.synapse(x)))


net = Net()
weights = net.states(brainstate.ParamState)


def loss(x, y, **options):
    outputs, _ = bh.rollout(net, x, **options)  # [T, B, n_modes]
    return braintools.metric.softmax_cross_entropy_with_integer_labels(outputs, y).mean()


# %% [markdown]
# ## Memory of the backward pass
#
# The backward pass needs the membrane potentials of all 4000 steps of the forward pass. `checkpoint="auto"` stores
# the states of some steps only, and computes the others again when they are needed. The compiler reports the memory:


# %%
def gradient(**options):
    return brainstate.transform.jit(
        brainstate.transform.grad(lambda x, y: loss(x, y, **options), weights, return_value=True)
    )


ways = {
    "layerwise=False": gradient(layerwise=False),
    "rollout": gradient(),
    'checkpoint="auto"': gradient(checkpoint="auto"),
}
memory = {}
for name, way in ways.items():
    memory[name] = way.compile(x, y).memory_analysis().temp_size_in_bytes / 2**20
    print(f"{name:18} {memory[name]:5.1f} MiB")
assert memory['checkpoint="auto"'] < 0.5 * memory["rollout"]

# %% [markdown]
# `layerwise=False` is the plain loop over steps, which is used for arbitrary networks. `rollout` runs a chain of
# layers, such as this one, layer by layer, with a backward pass that needs less memory. With `checkpoint="auto"` the
# stored states grow with the square root of the number of steps instead of in proportion. Most of the remaining
# memory is due to the loss: it compares every step with a target, so outputs and their gradients are stored for every
# step in any case.
#
# All three ways give the same result. Spikes are equal. Gradients agree up to rounding, because sums have another
# order.

# %%
results = {name: way(x, y) for name, way in ways.items()}
for name, (gradients, value) in results.items():
    print(f"{name:18} loss {value:.6f}")
    for path, reference in results["rollout"][0].items():
        difference = u.math.abs(gradients[path] - reference).max() / u.math.abs(reference).max()
        assert float(difference) < 1e-3, (name, path, difference)

plain = bh.rollout(net, x, record=("hidden.spk",))[1]["hidden.spk"]
checkpointed = bh.rollout(net, x, record=("hidden.spk",), checkpoint="auto")[1]["hidden.spk"]
assert (plain == checkpointed).all()

# %% [markdown]
# ## Train
#
# Pass the option to `rollout` in the loss of the training step. Nothing else changes.

# %%
optimizer = braintools.optim.Adam(lr=1e-2)
optimizer.register_trainable_weights(weights)


@brainstate.transform.jit
def step(x, y):
    grads, value = brainstate.transform.grad(lambda: loss(x, y, checkpoint="auto"), weights, return_value=True)()
    optimizer.update(grads)
    return value


losses = [float(step(x, y)) for _ in range(30)]
run = brainstate.transform.jit(lambda x: bh.rollout(net, x)[0])
decided, right = np.asarray(run(x_test).argmax(axis=-1)), np.asarray(y_test)
accuracy = (decided == right).mean()
print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}; right in {accuracy:.3f} of all steps of fresh recordings")
lags = range(100)
agreement = [(decided[lag:] == right[: n_steps - lag]).mean() for lag in lags]
print(f"agrees best, in {max(agreement):.3f} of the steps, with the mode of {np.argmax(agreement)} ms ago")
assert losses[-1] < 0.7 * losses[0]
assert accuracy > 0.7

# %% [markdown]
# ## Run in pieces
#
# `prepare=False` continues from the current states. A recording that does not fit into memory can thus be processed
# in pieces. Here the second half follows the first, and the outputs are equal to those of one run. (Under `grad` each
# piece has its own gradient: truncated backpropagation.)

# %%
whole = run(x_test)
first, _ = bh.rollout(net, x_test[:2000])
second, _ = bh.rollout(net, x_test[2000:], prepare=False)
assert np.allclose(jnp.concatenate([first, second]), whole, atol=1e-3)

# %% [markdown]
# ## Record only what you need
#
# Recorded values are stored for every step, and `checkpoint` does not reduce them. Record one layer instead of all.
# Alternatively, run in pieces and reduce each piece before the next. Computing rates needs constant memory:


# %%
@brainstate.transform.jit
def spikes_of(piece):
    return bh.rollout(net, piece, record=("hidden.spk",), prepare=False)[1]["hidden.spk"].sum(axis=(0, 1))


bh.prepare_net(net, batch_size)
counts = sum(spikes_of(piece) for piece in jnp.split(x_test, 8))
rates = (counts / (n_steps * batch_size * brainstate.environ.get_dt())).in_unit(u.Hz)
_, seen = bh.rollout(net, x_test, record=("hidden.spk",))
assert (counts == seen["hidden.spk"].sum(axis=(0, 1))).all()
print(f"{seen['hidden.spk'].nbytes / 2**20:.0f} MiB of spikes, or {counts.nbytes} bytes of counts")
print(f"rates of the hidden neurons: {rates.min():.0f} to {rates.max():.0f}")

# %% [markdown]
# Two more options help to find errors: `check_finite=True` names the first state and step that is not finite, and
# `pbar=` shows the progress. Both run step by step.
#
# ## Live input
#
# `bh.stream(net)` is one compiled step with its own states. Call it with the input of one step, `[1, N]`, when it
# arrives.

# %%
live = bh.stream(net, record=("hidden.spk",))
truth, decisions, confidence = [], [], []
for spikes, mode in itertools.islice(source(100), 2000):
    logits = live(spikes[None])[0]
    truth.append(mode)
    decisions.append(int(logits.argmax()))
    confidence.append(np.asarray(jax.nn.softmax(logits)))
print(f"after {live.steps} steps: right in {np.mean(np.equal(truth, decisions)):.3f} of them")

figure, (top, bottom) = plt.subplots(2, figsize=(9, 4), height_ratios=[1, 2], sharex=True, layout="constrained")
top.step(range(2000), truth, where="post", color="0.3", label="mode of the source")
top.plot(decisions, ".", markersize=2, color="C3", label="decision of the network")
top.set(ylabel="mode", yticks=range(n_modes))
top.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, markerscale=4)
for k, values in enumerate(np.transpose(confidence)):
    bottom.plot(values, linewidth=1, label=f"mode {k}")
bottom.set(xlabel="time (ms)", ylabel="softmax of the readout", xlim=(0, 2000))
bottom.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# The network follows with the delay measured above, because it needs this time to be certain. The stream gives the
# same outputs as one run over the whole recording.

# %%
live.reset()  # states at rest, present weights
streamed = np.stack([live(np.asarray(frame)[None])[0] for frame in x_test[:500, 0]])
assert live.steps == 500
assert np.allclose(streamed, run(x_test)[:500, 0], atol=1e-3)
assert (np.asarray(live.records["hidden.spk"][0]) == seen["hidden.spk"][499, 0]).all()

# %% [markdown]
# - A stream has its own states. Several streams on one network do not affect each other, and the states of the
#   network do not change until `live.write_back()` copies them.
# - The first call compiles. To compile earlier, pass one step and call `reset()`.
# - Weights are read at the first step and at `reset()`. All other fixed properties of a layer are compiled in.
#
# The next cell measures the time of a step. This page is built on a possibly busy machine; `docs/speed.md` has
# numbers from an idle one.

# %%
frame, times = np.zeros((1, n_in), np.float32), []
for _ in range(2000):
    start = time.perf_counter()
    jax.block_until_ready(live(frame))
    times.append(time.perf_counter() - start)
print(f"median {1e6 * statistics.median(times):.0f} us per step")

# %% [markdown]
# Real time at a `dt` of 1 ms allows 1000 us. For a whole recording `rollout` is faster per step, and has gradients.
#
# ## Next steps
#
# - [Speed and memory](../docs/speed.md): the cost of a step, and comparisons with other libraries.
# - [Train on several devices](../docs/many_devices.md): distribute a batch, chips or seeds.
# - [H1 chips compared with LIF neurons](03_h1_chips_against_lif.ipynb): all of this also applies to chip layers.
