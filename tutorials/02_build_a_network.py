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
# # Build a network
#
# **What you learn.** Put synapses, neuron layers and a readout together as one module; which shapes go in and come out;
# how states and batches belong together; how to look inside; recurrent layers; and what a mistake looks like.
#
# **Who it is for.** Readers of [Units and your first neuron](01_units_and_your_first_neuron.ipynb). The network is not
# trained here; that comes in [Train a spiking network](04_train_a_spiking_network.ipynb).
#
# Some ten minutes to read, a quarter of a minute to run.

# %%
import brainstate
import brainunit as u
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import brainhw as bh

brainstate.environ.set(dt=1 * u.ms)
brainstate.random.seed(0)

# %% [markdown]
# ## Data, time first
#
# The Japanese Vowels recordings ship with brainhw: nine speakers say one vowel, as 12 numbers a frame and 7 to 29
# frames.

# %%
data = bh.data.japanese_vowels()
print(data)

# %% [markdown]
# A synapse takes spikes, or analog values as here. Each channel is scaled and split into its positive and its negative
# part, which makes 24, because an input line has no sign; each frame is held for four steps of 1 ms. Data sets are
# stored sample first, `[n, T, N]`. brainhw runs **time first**: `[T, B, N]`, steps, samples of the batch, channels.

# %%
scale = bh.data.fit_channel_scale(data.train)
frames = bh.data.repeat_frames(bh.data.split_on_off(scale.apply(data.train).x), 4)  # [n, T, N]
x = jnp.asarray(frames[:8].swapaxes(0, 1))  # the first eight recordings, [T, B, N]
n_steps, batch_size, n_in = x.shape
print("stored", frames.shape, "-> run", x.shape)

# %% [markdown]
# ## A network is a module
#
# Modules are made in `__init__` and called in `update`, which says what one step does. From left to right: a synapse
# turns inputs into voltage steps, a LIF layer turns those into spikes, and a leaky readout turns spikes into one number
# a class. Weights of the synapse are voltages (`weight_init` makes them in mV by default); those of the readout are
# plain numbers, as its outputs are.


# %%
class Net(brainstate.nn.Module):
    def __init__(self, n_hidden=50, n_out=9):
        super().__init__()
        self.synapse = bh.nn.LIFSynapse(n_in, n_hidden)
        self.hidden = bh.nn.LIFLayer(n_hidden, tau=20 * u.ms)
        self.readout = bh.nn.LeakyReadout(n_hidden, n_out, tau=20 * u.ms)

    def update(self, x):
        return self.readout(self.hidden(self.synapse(x)))


net = Net()
print(net)

# %% [markdown]
# What is learnt is a `ParamState`, what moves in time a `HiddenState`. Both are found from the network, under the names
# of its attributes.

# %%
for kind in (brainstate.ParamState, brainstate.HiddenState):
    print(kind.__name__)
    for path, state in net.states(kind).items():
        print("   ", ".".join(map(str, path)), np.shape(u.get_mantissa(state.value)), u.get_unit(state.value))

# %% [markdown]
# ## One step, one sample, one batch
#
# Calling a network advances it by one step. `bh.rollout` runs a whole input, `[T, N]` for one sample or `[T, B, N]` for
# a batch, and returns what `update` returned at every step.

# %%
print("one step  ", x[0, 0].shape, "->", net(x[0, 0]).shape)
print("one sample", x[:, 0].shape, "->", bh.rollout(net, x[:, 0])[0].shape)
outputs, _ = bh.rollout(net, x)
print("one batch ", x.shape, "->", outputs.shape)
assert outputs.shape == (n_steps, batch_size, 9)

# %% [markdown]
# States have the shape of what runs through them: `[N]` for one sample, `[B, N]` for a batch. `rollout` sees to that.
# Where you step a network yourself, `bh.prepare_net(net, batch_size)` does: it writes every state back to rest, in the
# shape of the batch. Forget it and the next step says so.

# %%
bh.prepare_net(net)  # one sample
try:
    net(x[0])  # a batch
except ValueError as error:
    print(error)

bh.prepare_net(net, batch_size)
stepped = brainstate.transform.for_loop(net.update, x)
assert np.allclose(stepped, outputs, atol=1e-5)

# %% [markdown]
# (`brainstate.nn.init_all_states` makes *new* states in modules of other packages, which a function compiled before
# does not know. `prepare_net` writes into those there are, and may stand inside of `jit`.)
#
# ## Look inside
#
# `record` names what to keep of every step: a module by its path, then a state of it.

# %%
outputs, seen = bh.rollout(net, x, record=("hidden.V", "hidden.V_pre", "hidden.spk"))
for name, values in seen.items():
    print(f"{name:13}", values.shape, u.get_unit(values))

figure, axes = plt.subplots(3, figsize=(9, 6), sharex=True, layout="constrained")
picture = axes[0].imshow(x[:, 0].T, aspect="auto", origin="lower", extent=(0, n_steps, 0, n_in), cmap="Greys")
axes[0].set(ylabel="input channel", title="recording 0")
figure.colorbar(picture, ax=axes[0], label="value")
bh.visualize.plot_raster(seen["hidden.spk"][:, 0], ax=axes[1])
axes[1].set(xlabel="", ylabel="hidden neuron")
for k in range(9):
    axes[2].plot(np.arange(n_steps), outputs[:, 0, k], label=f"class {k}" if k == 0 else f"{k}")
axes[2].set(xlabel="time (ms)", ylabel="readout", xlim=(0, n_steps))
axes[2].legend(frameon=False, fontsize="small", ncols=9, loc="lower left", bbox_to_anchor=(0, 1))
plt.show()

# %% [markdown]
# Recordings are padded with zeros to the longest, which is why input and spikes stop before the end. The readout is of
# untrained weights and says nothing yet. A firing rate has a unit too:

# %%
lengths = data.train.lengths[:8] * 4 * u.ms
rates = (seen["hidden.spk"].sum(axis=(0, 2)) / 50 / lengths).in_unit(u.Hz)
print("mean rate of the hidden neurons, by recording:", rates.round(0))
assert (rates > 5 * u.Hz).all()
assert (rates < 500 * u.Hz).all()

# %% [markdown]
# ## Recurrent layers
#
# `topology="RC"` gives a layer weights of its own, `[N, N]`, presynaptic neuron first, so `W[i, j]` is what a spike of
# neuron `i` does to neuron `j`. A spike arrives in the *next* step. To see this, connect twelve neurons in a ring, each
# to the next one only and strongly enough to make it fire, and push the first one once.

# %%
n_ring = 12
to_the_next = 1.2 * np.roll(np.eye(n_ring), 1, axis=1)
ring = bh.nn.LIFLayer(
    n_ring, tau=5 * u.ms, V_th=1 * u.mV, reset="zero", topology="RC", recurrent_init=to_the_next * u.mV
)

push = np.zeros((40, n_ring))
push[0, 0] = 1.2
spikes, _ = bh.rollout(ring, push * u.mV)

figure, ax = plt.subplots(figsize=(9, 2.2), layout="constrained")
ax.scatter(*np.nonzero(spikes), s=20)
ax.set(xlabel="time (ms)", ylabel="neuron", yticks=range(0, n_ring, 3))
plt.show()

assert (np.argmax(spikes, axis=1) == np.arange(40) % n_ring).all()
assert spikes.sum() == 40

# %% [markdown]
# The push is gone after one step, and the spike goes round for ever: recurrent layers have memory beyond their leak.
#
# ## Any wiring
#
# `update` is plain Python, so layers can be joined in any way. Here the input also reaches the second layer directly,
# and that layer is recurrent. Both drives are voltages, so they may be added; a charge or a plain number would be
# refused.


# %%
class WithShortcut(brainstate.nn.Module):
    def __init__(self):
        super().__init__()
        self.to_first = bh.nn.LIFSynapse(n_in, 40)
        self.first = bh.nn.LIFLayer(40, tau=10 * u.ms)
        self.to_second = bh.nn.LIFSynapse(40, 30)
        self.shortcut = bh.nn.LIFSynapse(n_in, 30)
        self.second = bh.nn.LIFLayer(30, tau=20 * u.ms, topology="RC")
        self.readout = bh.nn.LeakyReadout(30, 9, tau=20 * u.ms)

    def update(self, x):
        spikes = self.first(self.to_first(x))
        return self.readout(self.second(self.to_second(spikes) + self.shortcut(x)))


outputs, seen = bh.rollout(WithShortcut(), x, record=("first.spk", "second.spk"))
print({name: values.shape for name, values in seen.items()})

# %% [markdown]
# Where there is nothing to say but "one after the other", `brainstate.nn.Sequential(synapse, layer, readout)` does; the
# paths are then `"layers.0"`, `"layers.1"` and so on. A chain, written either way, runs layer by layer in `rollout`,
# which is faster; any other wiring runs step by step.
#
# ## What mistakes look like
#
# Mistakes are reported where they are made, in one sentence that says what came, what was expected, and often what to
# do.


# %%
def say(mistake):
    try:
        mistake()
    except (TypeError, ValueError) as error:
        print(f"{type(error).__name__}: {error}\n")
    else:
        raise AssertionError("this should have failed")


say(lambda: bh.nn.LIFLayer(50, tau=20 * u.mV))  # a time constant in millivolts
say(lambda: bh.nn.LIFLayer(50, tau=20))  # a time constant of unknown unit
say(lambda: bh.nn.LIFLayer(50, tau=[5, 10, 20] * u.ms))  # three time constants for fifty neurons
say(lambda: bh.nn.LIFSynapse(24, 50, weight_init=np.ones((50, 24)) * u.mV))  # weights transposed
say(lambda: net.hidden(x[0]))  # the input into a layer, past its synapse
say(lambda: net.synapse(x[0] * u.mV))  # a synapse gives the voltage, it does not take one
say(lambda: bh.rollout(net, x[:, :, :12]))  # half of the channels
say(lambda: bh.rollout(net, frames.tolist()))  # lists instead of an array
say(lambda: bh.rollout(net, x, record=("hiden.V",)))  # a typing error

# %% [markdown]
# (A `Sequential` that you step by hand puts an error of brainstate around ours; the sentence stands further up in the
# traceback.)
#
# One mistake no library can see: data sample first, `[B, T, N]`, run as if it were time first. All shapes fit, and
# samples and time change places. Look at the shape of what comes out: the first number must be the number of steps.
#
# ## Where next
#
# - [The H1 chips against LIF](03_h1_chips_against_lif.ipynb): the same recordings on chip neurons, and what changes.
# - [Train a spiking network](04_train_a_spiking_network.ipynb): gradients through spikes.
# - [Long rollouts and streaming](09_long_rollouts_and_streaming.ipynb): what `rollout` does about memory, and live
#   input.
