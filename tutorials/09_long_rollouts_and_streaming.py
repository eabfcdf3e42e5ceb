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
# **What you learn.** How to train on sequences of thousands of time steps with little memory. How to process a
# recording in pieces, and how to record only the states that you need. How to run a trained network on live input, one
# time step at a time.
#
# **Who it is for.** Readers of [Train a spiking network](04_train_a_spiking_network.ipynb) who work with long
# recordings or with live input from a sensor.
#
# Reading takes about 8 minutes, and running takes about 15 seconds.

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
# The input is a simulated source with 24 channels that spike at random. The source has three modes. In each mode, eight
# channels spike at 60 Hz and the others spike at 15 Hz. A mode lasts for 300 ms on average. The task is to determine
# the current mode. On average, all channels together emit less than one spike per time step of 1 ms, so the network
# needs memory. Each recording is 4 s long, which is 4000 time steps.

# %%
n_in, n_modes, n_steps, batch_size = 24, 3, 4000, 8
rate = np.full((n_modes, n_in), 15.0)
rate[np.arange(n_modes).repeat(8), np.arange(n_in)] = 60.0
probability = np.asarray(rate * u.Hz * brainstate.environ.get_dt())


def source(seed):
    """Yield the spikes [n_in] and the mode of each step, without end."""
    rng = np.random.default_rng(seed)
    mode = int(rng.integers(n_modes))
    while True:
        if rng.random() < float(brainstate.environ.get_dt() / (300 * u.ms)):
            mode = (mode + int(rng.integers(1, n_modes))) % n_modes
        yield (rng.random(n_in) < probability[mode]).astype(np.float32), mode


def recordings(seeds):
    """Return the spikes [T, B, n_in] and the modes [T, B] of several sources."""
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
# The backward pass needs the membrane potentials of all 4000 steps of the forward pass. With `checkpoint="auto"`, only
# the states of some steps are stored. The backward pass recomputes the other states when it needs them. The next
# cell prints the memory that the compiler reports for three settings:


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
# This network is a chain of layers, so by default `rollout` runs it layer by layer. With `layerwise=False` it runs the
# network step by step, as it does for networks that are not a chain. The backward pass needs less memory if the network
# runs layer by layer. Without `checkpoint`, the number of stored states is proportional to the number of steps. With
# `checkpoint="auto"` it is proportional to the square root of the number of steps. The loss needs most of the remaining
# memory. It compares the output of every step with a target, so the outputs and their gradients must always be stored
# for every step.
#
# All three settings produce the same spikes. The gradients differ only by rounding errors, because the terms of the
# sums are added in a different order.

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
# To train with `checkpoint="auto"`, pass this argument to `rollout` in the loss function. The rest of the training step
# stays the same.

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
print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}; correct in a share of {accuracy:.3f} of the steps of new recordings")
lags = range(100)
agreement = [(decided[lag:] == right[: n_steps - lag]).mean() for lag in lags]
print(f"the decisions agree best with the mode {np.argmax(agreement)} ms earlier: in a share of {max(agreement):.3f}")
assert losses[-1] < 0.7 * losses[0]
assert accuracy > 0.7

# %% [markdown]
# ## Run in pieces
#
# With `prepare=False`, `rollout` continues from the current states instead of resetting them. If a recording does not
# fit into memory, you can thus process it piece by piece. In the next cell the network processes a recording in two
# halves. The outputs are equal to the outputs of a single run. (If you compute gradients, they do not flow from one
# piece back into the previous piece. This is truncated backpropagation through time.)

# %%
whole = run(x_test)
first, _ = bh.rollout(net, x_test[:2000])
second, _ = bh.rollout(net, x_test[2000:], prepare=False)
assert np.allclose(jnp.concatenate([first, second]), whole, atol=1e-3)

# %% [markdown]
# ## Record only what you need
#
# Recorded values are stored for every step, and `checkpoint` does not reduce their memory. To save memory, record one
# layer instead of all layers. Alternatively, process the recording in pieces and sum up the recorded values of each
# piece before you process the next piece. The next cell computes firing rates in this way. The memory for the recorded
# values then does not grow with the length of the recording:


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
# Two more options of `rollout` are useful for long runs. With `check_finite=True`, `rollout` reports the first state
# that is not finite, and in which step this occurred. With `pbar=` it shows a progress bar. With each of these options
# the network runs step by step instead of layer by layer.
#
# ## Live input
#
# `bh.stream(net)` returns a stream. This is a compiled function that computes one time step of the network and stores
# its states. As soon as the input of a step arrives, call the stream with this input, `[1, N]`.

# %%
live = bh.stream(net, record=("hidden.spk",))
truth, decisions, confidence = [], [], []
for spikes, mode in itertools.islice(source(100), 2000):
    logits = live(spikes[None])[0]
    truth.append(mode)
    decisions.append(int(logits.argmax()))
    confidence.append(np.asarray(jax.nn.softmax(logits)))
print(f"after {live.steps} steps: share of correct decisions {np.mean(np.equal(truth, decisions)):.3f}")

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
# The decision of the network lags behind the mode of the source by the delay that was measured above, because the
# network must first receive enough spikes of the new mode. The stream returns the same outputs as one run over the
# whole recording.

# %%
live.reset()  # resets the states and reads the weights again
streamed = np.stack([live(np.asarray(frame)[None])[0] for frame in x_test[:500, 0]])
assert live.steps == 500
assert np.allclose(streamed, run(x_test)[:500, 0], atol=1e-3)
assert (np.asarray(live.records["hidden.spk"][0]) == seen["hidden.spk"][499, 0]).all()

# %% [markdown]
# - A stream has its own states. Several streams of one network therefore do not affect each other, and a step of a
#   stream does not change the states of the network. To copy the states of a stream into the network, call
#   `live.write_back()`.
# - The first call compiles the step. To compile it before the input arrives, pass any input of one step and then call
#   `reset()`.
# - A stream reads the weights at its first step and at `reset()`. Other fixed properties of a layer, such as the kind
#   of reset, become constants of the compiled step.
#
# The next cell measures how long a step takes. The printed time may be too long, because the machine that builds this
# page may run other programs at the same time. `docs/speed.md` lists times that were measured on an idle machine.

# %%
frame, times = np.zeros((1, n_in), np.float32), []
for _ in range(2000):
    start = time.perf_counter()
    jax.block_until_ready(live(frame))
    times.append(time.perf_counter() - start)
print(f"median {1e6 * statistics.median(times):.0f} us per step")

# %% [markdown]
# To process input in real time with a `dt` of 1 ms, a step may take at most 1000 us. For a whole recording use
# `rollout`, which is faster per step and supports gradients.
#
# ## Next steps
#
# - [Speed and memory](../docs/speed.md): how long a step takes, and comparisons with other libraries.
# - [Train on several devices](../docs/many_devices.md): distribute a batch, sampled chips or seeds.
# - [H1 chips compared with LIF neurons](03_h1_chips_against_lif.ipynb): everything on this page also works with chip
#   layers.
