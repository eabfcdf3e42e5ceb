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
# # Train a spiking network
#
# **What you learn.** How to train a network with surrogate gradients. You run the network over time, update its weights
# with an optimizer, compare surrogates, and test the network on held-out data.
#
# **Who it is for.** Readers who have [built a network](02_build_a_network.ipynb) and want to train it.
#
# Reading takes about 10 minutes, and running takes about 30 seconds.
#
# A spike is a step function of the membrane potential. Its derivative is zero almost everywhere, so ordinary
# backpropagation does not work. With a surrogate gradient, the forward pass computes exact spikes, and the backward
# pass uses a smooth function instead of the derivative of the step function. Gradients can then be computed by
# backpropagation through time, as in other recurrent networks.

# %%
import brainstate
import braintools
import brainunit as u
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import brainhw as bh

brainstate.environ.set(dt=1 * u.ms)

# %% [markdown]
# ## The network
#
# The inputs are Poisson spike trains. The hidden layer consists of leaky integrate-and-fire neurons. A leaky readout
# converts their spikes into logits. The argument `spk_fun` of the hidden layer sets the surrogate.


# %%
class Classifier(brainstate.nn.Module):
    def __init__(self, n_in, n_hidden, n_out, spk_fun):
        super().__init__()
        self.synapse = bh.nn.LIFSynapse(n_in, n_hidden, weight_init=braintools.init.KaimingNormal(unit=u.mV))
        self.hidden = bh.nn.LIFLayer(n_hidden, tau=20 * u.ms, V_th=1 * u.mV, spk_fun=spk_fun)
        self.readout = bh.nn.LeakyReadout(n_hidden, n_out, tau=10 * u.ms)

    def update(self, spikes):
        return self.readout(self.hidden(self.synapse(spikes)))


# %% [markdown]
# ## A task
#
# Each of the 256 samples contains 100 Poisson spike trains with a rate of 5 Hz and a length of 200 ms. The labels are
# random, so there is no pattern to learn. The task only shows whether a network with four hidden neurons can be trained
# to fit these labels. Without a surrogate gradient this is not possible.

# %%
n_in, n_hidden, n_out, n_steps, n_samples = 100, 4, 2, 200, 256
rng = np.random.default_rng(0)


def toss(n_samples):
    """Return spikes [T, B, N] and a label of 0 or 1 for each sample."""
    probability = float(5 * u.Hz * brainstate.environ.get_dt())
    x = (rng.random((n_steps, n_samples, n_in)) < probability).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(rng.integers(0, n_out, n_samples))


x, y = toss(n_samples)

# %% [markdown]
# ## The loss, step by step
#
# The loss function resets the states, runs the network over time, averages the output of the readout over time, and
# compares the average with the labels. The next cell contains two versions of it: the first uses `for_loop`, the second
# uses `rollout`. The arguments of `for_loop` are a function that computes one time step, here `net.update`, and an
# input whose first axis is time. It returns the outputs of all time steps in one array.

# %%
brainstate.random.seed(1)
net = Classifier(n_in, n_hidden, n_out, braintools.surrogate.ReluGrad())


def loss_written_out():
    bh.prepare_net(net, n_samples)
    outputs = brainstate.transform.for_loop(net.update, x)  # [T, B, n_out]
    logits = outputs.mean(axis=0)
    return braintools.metric.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def loss(net, x, y):
    outputs, _ = bh.rollout(net, x)  # prepare_net and for_loop in one call, and faster
    return braintools.metric.softmax_cross_entropy_with_integer_labels(outputs.mean(axis=0), y).mean()


weights = net.states(brainstate.ParamState)
by_hand = brainstate.transform.grad(loss_written_out, weights, return_value=True)
by_rollout = brainstate.transform.grad(lambda: loss(net, x, y), weights, return_value=True)
(gradients, value), (same_gradients, same_value) = by_hand(), by_rollout()
print(f"loss {value:.4f} with for_loop, {same_value:.4f} with rollout")

for path, gradient in gradients.items():
    size = u.math.abs(gradient).max()
    print(f"gradient of {'.'.join(path)}: at most {size:.2g}")
    assert size > 0 * size
    assert u.math.abs(gradient - same_gradients[path]).max() < 1e-4 * size

# %% [markdown]
# The loss before training is close to $\ln 2 = 0.693$, the value for random guessing. Both versions return the same
# loss and the same gradients. The loss is a plain number. The gradient for a parameter is returned in the unit of this
# parameter, as optimizers expect.
#
# ## The training step
#
# Put the forward pass, the backward pass and the weight update into one function decorated with
# `brainstate.transform.jit`. They are then compiled once. Outside of such a function, the time loop would be compiled
# at every call.


# %%
def train(spk_fun, epochs=200):
    brainstate.random.seed(1)
    net = Classifier(n_in, n_hidden, n_out, spk_fun)
    weights = net.states(brainstate.ParamState)
    optimizer = braintools.optim.Adam(lr=3e-3)
    optimizer.register_trainable_weights(weights)

    @brainstate.transform.jit
    def step():
        grads, value = brainstate.transform.grad(lambda: loss(net, x, y), weights, return_value=True)()
        optimizer.update(grads)
        return value

    return net, np.array([float(step()) for _ in range(epochs)])


net, losses = train(braintools.surrogate.ReluGrad())
print(f"first loss {losses[0]:.4f}, last loss {losses[-1]:.4f}")
assert losses[-1] < losses[0] - 0.05

# %% [markdown]
# ## Surrogates compared
#
# `spk_fun` accepts all surrogates of braintools and of brainhw. The argument of a surrogate is the dimensionless
# `(V - V_th)/V_th`, so the width of a surrogate is relative to the threshold.

# %%
surrogates = {
    "ReluGrad()": braintools.surrogate.ReluGrad(),
    "fast_sigmoid(5)": bh.surrogate.fast_sigmoid(5.0),
    "fast_sigmoid(25)": bh.surrogate.fast_sigmoid(25.0),
    "atan(2)": bh.surrogate.atan(2.0),
}
others = {name: spk_fun for name, spk_fun in surrogates.items() if name != "ReluGrad()"}
curves = {"ReluGrad()": losses[:100]} | {name: train(spk_fun, 100)[1] for name, spk_fun in others.items()}

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
distance = np.linspace(-1, 1, 401, dtype=np.float32)
for name, spk_fun in surrogates.items():
    left.plot(distance, spk_fun.surrogate_grad(distance), label=name)
    right.plot(curves[name], label=name)
left.set(xlabel="(V - V_th) / V_th", ylabel="surrogate derivative", xticks=[-1, -0.5, 0, 0.5, 1])
right.set(xlabel="epoch", ylabel="training loss")
right.legend(frameon=False)
plt.show()

# %% [markdown]
# The derivative of `fast_sigmoid(25)` is narrow. Only neurons whose membrane potential is close to the threshold get a
# gradient, so at first the loss decreases more slowly than with the other surrogates. In a network with one hidden
# layer, this is the only difference between the surrogates. In a deep network, the surrogate determines whether the
# first layers learn at all.
#
# ## Record the membrane potential
#
# `V_pre` is the membrane potential before the reset, so it shows when the threshold is crossed.

# %%
_, seen = bh.rollout(net, x[:, 0], record=("hidden.V", "hidden.V_pre", "hidden.spk"))
figure, ax = plt.subplots(figsize=(9, 3), layout="constrained")
bh.visualize.plot_membrane(
    seen["hidden.V"], V_pre=seen["hidden.V_pre"], V_th=net.hidden.threshold(), neurons=[0, 1], ax=ax
)
plt.show()
print(f"{int(seen['hidden.spk'].sum())} spikes from {n_hidden} neurons in {n_steps} ms")

# %% [markdown]
# ## Does the network generalise?
#
# The training loss decreased, so the network classifies the 256 training samples better than random guessing. To find
# out whether the network generalises, the next cell tests it on new samples.


# %%
@brainstate.transform.jit
def accuracy(x, y):
    return bh.train.accuracy(bh.rollout(net, x)[0], y)


fitted, fresh = float(accuracy(x, y)), float(accuracy(*toss(1000)))
print(f"accuracy on the training samples {fitted:.2f}, on 1000 fresh ones {fresh:.2f}")
assert fitted > 0.6
assert 0.45 < fresh < 0.55

# %% [markdown]
# The accuracy on the new samples is about 0.5, as with random guessing. The labels are random, so the network has
# fitted noise. A decreasing training loss only shows that the gradients work. Always test on data that were not used in
# training.
#
# ## Real data with a test set
#
# Japanese Vowels contains recordings of nine speakers. The official split has 270 training recordings and 370 test
# recordings. They are prepared as in [Build a network](02_build_a_network.ipynb). The layer sizes, the surrogate and
# the learning rate differ from those above. `bh.train.fit` replaces the training loop. It runs a training step like the
# one above on each batch, shows the progress, and returns the loss and the metrics of each epoch. It can also save and
# resume a run, keep the best weights, and stop early.

# %%
data = bh.data.japanese_vowels()
scale = bh.data.fit_channel_scale(data.train)


def encode(split):
    x = bh.data.repeat_frames(bh.data.split_on_off(scale.apply(split).x), 4)
    return bh.data.Split(x=x, y=split.y, lengths=split.lengths * 4)


train_split, test_split = encode(data.train), encode(data.test)
brainstate.random.seed(1)
net = Classifier(24, 100, 9, bh.surrogate.fast_sigmoid(5.0))
history = bh.train.fit(
    net,
    train_split,
    test_split,
    loss=lambda outputs, batch: braintools.metric.softmax_cross_entropy_with_integer_labels(
        outputs.mean(axis=0), batch.y
    ).mean(),
    metrics={"accuracy": lambda outputs, batch: bh.train.accuracy(outputs, batch.y)},
    epochs=12,
    batch_size=54,
    learning_rate=1e-2,
    keep="last",
    progress=False,
)
print(history)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.plot(range(1, 13), history.column("loss"))
left.set(xlabel="epoch", ylabel="training loss")
right.plot(range(1, 13), history.column("accuracy"), label="training recordings")
right.plot(range(1, 13), history.column("validation_accuracy"), label="test recordings")
right.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.03))
right.legend(frameon=False)
plt.show()
test_accuracy = history.column("validation_accuracy")[-1]
print(f"test accuracy after 12 epochs {test_accuracy:.3f}, chance {1 / 9:.3f}")
assert test_accuracy > 0.9

# %% [markdown]
# Do not use the test accuracy to stop the training or to choose settings. The test recordings would then no longer be
# held-out data. For this purpose, use a part of the training recordings as validation data.
#
# ## Next steps
#
# - [Initialise a network with fluct_init](05_wake_a_network_with_fluct_init.ipynb): choose initial weights with which
#   no neuron is silent.
# - [Train a network for a chip](08_train_for_the_chip.ipynb): train a network within the limits of a chip.
# - [Long sequences and streaming](09_long_rollouts_and_streaming.ipynb): train on long sequences, and process live
#   input.
# - `gallery/japanese_vowels_h1.py` trains chip layers on these recordings with the same calls. This script differs from
#   the tutorial in three ways: it uses the modules of a chip, it calls `bh.init.fluct_init` before the first step, and
#   a penalty keeps the weights in range.
