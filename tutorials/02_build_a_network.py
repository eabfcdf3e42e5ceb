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
# **What you learn.** How to combine synapses, neuron layers and a readout into one module. You also learn about the
# shapes of inputs and outputs, states, batches, recording, recurrent layers, and error messages.
#
# **Who it is for.** Readers of [Units and your first neuron](01_units_and_your_first_neuron.ipynb). The network is
# trained in a later tutorial, [Train a spiking network](04_train_a_spiking_network.ipynb).
#
# Reading takes about 10 minutes, and running takes about 15 seconds.

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
# ## Data with time on the first axis
#
# The Japanese Vowels recordings are part of brainhw. Nine speakers say /ae/. A recording has 7 to 29 frames, and each
# frame has 12 values.

# %%
data = bh.data.japanese_vowels()
print(data)

# %% [markdown]
# The input of a synapse consists of spikes or, as here, of analog values. A chip cannot receive negative values.
# Therefore each channel is scaled and then split into two channels, one for its positive part and one for its negative
# part. This gives 24 channels. Each frame is repeated for four steps of 1 ms. The arrays of a data set have the samples
# on the first axis, `[n, T, N]`. The input of a network has **time on the first axis**, `[T, B, N]`: time steps,
# samples of the batch, and channels.

# %%
scale = bh.data.fit_channel_scale(data.train)
frames = bh.data.repeat_frames(bh.data.split_on_off(scale.apply(data.train).x), 4)  # [n, T, N]
x = jnp.asarray(frames[:8].swapaxes(0, 1))  # the first eight recordings, as [T, B, N]
n_steps, batch_size, n_in = x.shape
print("stored", frames.shape, "-> run", x.shape)

# %% [markdown]
# ## A network is a module
#
# Create the submodules in `__init__` and call them in `update`, which computes one time step. In this network a synapse
# converts the inputs into voltage steps, a LIF layer converts the voltage steps into spikes, and a leaky readout
# converts the spikes into one value per class. The weights of the synapse are voltages. They are in mV by default.
# Weights that you pass as `weight_init` may have a different unit of voltage. The weights and outputs of the readout
# are plain numbers.


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
# A `ParamState` contains a trainable parameter, and a `HiddenState` contains a value that changes over time.
# `net.states` returns all states of one kind. The key of each state is its path: the names of the attributes that lead
# from the network to the state.

# %%
for kind in (brainstate.ParamState, brainstate.HiddenState):
    print(kind.__name__)
    for path, state in net.states(kind).items():
        print("   ", ".".join(map(str, path)), np.shape(u.get_mantissa(state.value)), u.get_unit(state.value))

# %% [markdown]
# ## One step, one sample, one batch
#
# A call of a network computes one time step. `bh.rollout` runs the network on a whole input, which is `[T, N]` for one
# sample or `[T, B, N]` for a batch. It returns the outputs of all time steps.

# %%
print("one step  ", x[0, 0].shape, "->", net(x[0, 0]).shape)
print("one sample", x[:, 0].shape, "->", bh.rollout(net, x[:, 0])[0].shape)
outputs, _ = bh.rollout(net, x)
print("one batch ", x.shape, "->", outputs.shape)
assert outputs.shape == (n_steps, batch_size, 9)

# %% [markdown]
# The state of a layer with `N` neurons has the shape `[N]` for one sample and `[B, N]` for a batch. `rollout` sets this
# shape automatically. If you run single steps yourself, first call `bh.prepare_net(net, batch_size)`. This call resets
# every state to its resting value and sets its shape. If the states and the input have different batch sizes, the step
# raises an error, as the next cell shows.

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
# (In modules of other packages, `brainstate.nn.init_all_states` creates *new* states. Functions that were compiled
# before do not use these new states. `prepare_net` changes the values of the existing states, and can be called in a
# function under `jit`.)
#
# ## Record states
#
# The argument `record` is a list of state names. `rollout` also returns the values of these states in every step. Each
# name consists of the path of a module and the name of one of its states, for example `hidden.V`.

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
# Shorter recordings are padded with zeros to the length of the longest recording. Therefore the input and the spikes in
# the figure stop before the end. The network is not trained, so the output of the readout has no meaning yet. The next
# cell computes firing rates, which also have a unit:

# %%
lengths = data.train.lengths[:8] * 4 * u.ms
rates = (seen["hidden.spk"].sum(axis=(0, 2)) / 50 / lengths).in_unit(u.Hz)
print("mean rate of the hidden neurons, by recording:", rates.round(0))
assert (rates > 5 * u.Hz).all()
assert (rates < 500 * u.Hz).all()

# %% [markdown]
# ## Recurrent layers
#
# With `topology="RC"` a layer has recurrent weights `W` of shape `[N, N]`. The first index is the presynaptic neuron:
# `W[i, j]` is the weight from neuron `i` to neuron `j`. A spike acts through the recurrent weights in the *next* time
# step. To show this, the next cell connects twelve neurons in a ring. Each neuron is connected only to the next neuron,
# with a weight that is large enough to make it spike. The first neuron receives one input pulse.

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
# The input lasts for one step, but the spike keeps circulating in the ring. A recurrent layer can thus remember an
# input for much longer than the time constant of its neurons.
#
# ## Arbitrary connections
#
# `update` is Python code, so layers can be connected in any way. In the next network the second layer is recurrent and
# receives two inputs: the spikes of the first layer and, through a shortcut, the input of the network. The synapses
# convert both inputs into voltages, so they can be added. The sum of a voltage and a charge, or of a voltage and a
# plain number, would raise an error.


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
# For a simple sequence of modules use `brainstate.nn.Sequential(synapse, layer, readout)`. The paths of its modules are
# `"layers.0"`, `"layers.1"` and so on. If a network is a simple chain of layers, `rollout` runs it layer by layer: it
# computes all time steps of one layer before it continues with the next layer. This is faster. It works for a
# `Sequential` and for a class such as `Net`. Other networks run step by step.
#
# ## Error messages
#
# If an argument is invalid, the call raises an error immediately. The message shows the value that was passed and the
# value that was expected, and often explains how to fix the mistake.


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
say(lambda: net.hidden(x[0]))  # the input goes to the layer without its synapse
say(lambda: net.synapse(x[0] * u.mV))  # a synapse takes spikes, not voltages
say(lambda: bh.rollout(net, x[:, :, :12]))  # half of the channels
say(lambda: bh.rollout(net, frames.tolist()))  # lists instead of an array
say(lambda: bh.rollout(net, x, record=("hiden.V",)))  # a misspelt name

# %% [markdown]
# (If you run single steps of a `Sequential`, brainstate catches the error of brainhw and raises a different one. The
# message of brainhw is then further up in the traceback.)
#
# brainhw cannot detect one mistake. If you pass data with the samples on the first axis, `[B, T, N]`, the shapes are
# valid, but the network treats samples as time steps and time steps as samples. To find this mistake, check that the
# first axis of the output has the length `T`.
#
# ## Next steps
#
# - [H1 chips compared with LIF neurons](03_h1_chips_against_lif.ipynb): run chip neurons on the same recordings.
# - [Train a spiking network](04_train_a_spiking_network.ipynb): compute gradients through spikes.
# - [Long sequences and streaming](09_long_rollouts_and_streaming.ipynb): reduce the memory of `rollout`, and process
#   live input.
