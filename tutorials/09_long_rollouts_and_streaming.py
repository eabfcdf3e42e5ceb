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
# # Long rollouts and streaming
#
# **What you learn.** Train on sequences of thousands of steps in little memory; go on from where a run stopped; choose
# what to record; and run a trained network live, one step at a time.
#
# **Who it is for.** Readers of [Train a spiking network](04_train_a_spiking_network.ipynb) with long recordings, or
# with a sensor.
#
# Some eight minutes to read, a quarter of a minute to run.

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
# ## A source that changes its mind
#
# 24 channels fire at random. The source is in one of three modes, which says which eight channels fire at 60 Hz while
# the others fire at 15 Hz. A mode lasts for 300 ms on average. Which is it now? A step of 1 ms holds less than one
# spike, so the answer takes memory, and the recordings are long: 4 s are 4000 steps.

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
# ## What a gradient keeps
#
# The backward pass needs the membranes of the forward pass, all 4000 steps of them. `checkpoint="auto"` keeps the
# states of some steps only, and computes the ones in between a second time when they are needed. The compiler says how
# much memory it sets aside:


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
# `layerwise=False` is the plain loop over steps, which other networks take; `rollout` runs a chain of layers, as this
# one is, layer by layer, with a leaner backward pass. With `checkpoint="auto"` the kept states grow as the root of the
# number of steps instead of in proportion. What remains is mostly due to the loss: it compares every step with a
# target, so outputs and their gradients are kept for every step in any case.
#
# The three ways compute the same. Spikes are equal; gradients agree up to the rounding of sums in another order.

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
# Nothing else changes: the option goes into the loss of the training step.

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
# ## In pieces
#
# `prepare=False` goes on from the present states, so a recording that fits no memory can come in pieces. Here the
# second half follows the first, and the outputs are those of one run. (Under `grad` each piece learns within itself:
# truncated backpropagation.)

# %%
whole = run(x_test)
first, _ = bh.rollout(net, x_test[:2000])
second, _ = bh.rollout(net, x_test[2000:], prepare=False)
assert np.allclose(jnp.concatenate([first, second]), whole, atol=1e-3)

# %% [markdown]
# ## Record what you need
#
# What is recorded is kept for every step, and `checkpoint` does not shrink it. Record one layer and not all; or run in
# pieces, and reduce each piece before the next. Rates need no memory that grows:


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
# Two more options help while you look for a mistake: `check_finite=True` names the state and the step at which a number
# stops being finite, and `pbar=` shows progress. Both run step by step.
#
# ## Live
#
# `bh.stream(net)` is one compiled step with states of its own. Call it with the input of one step, `[1, N]`, as it
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
# The network follows with the delay measured above: that is what it takes to be sure. Step by step it gives what one
# run gives for the whole recording.

# %%
live.reset()  # states at rest, present weights
streamed = np.stack([live(np.asarray(frame)[None])[0] for frame in x_test[:500, 0]])
assert live.steps == 500
assert np.allclose(streamed, run(x_test)[:500, 0], atol=1e-3)
assert (np.asarray(live.records["hidden.spk"][0]) == seen["hidden.spk"][499, 0]).all()

# %% [markdown]
# - The stream's states are its own: several streams on one network do not disturb each other, and the network's states
#   stay at rest until `live.write_back()` copies them there.
# - The first call compiles. Where that is too late, feed one step and `reset()`.
# - Weights are taken up at the first step and at `reset()`; all else that is fixed about a layer is compiled in.
#
# What does a step cost here? This is measured while the page is made, perhaps on a busy machine; `docs/speed.md` has
# numbers from an idle one.

# %%
frame, times = np.zeros((1, n_in), np.float32), []
for _ in range(2000):
    start = time.perf_counter()
    jax.block_until_ready(live(frame))
    times.append(time.perf_counter() - start)
print(f"median {1e6 * statistics.median(times):.0f} us a step")

# %% [markdown]
# Real time at a `dt` of 1 ms leaves 1000 us. For a whole recording at once `rollout` is faster a step, and has
# gradients.
#
# ## Where next
#
# - [Speed and memory](../docs/speed.md): what a step costs and why, against other libraries.
# - [Training on many devices](../docs/many_devices.md): spread a batch, chips or seeds.
# - [The H1 chips against LIF](03_h1_chips_against_lif.ipynb): all of this goes for chip layers too.
