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
# # Fractional memory
#
# **What you learn.** How the order of the derivative determines how long the membrane potential remembers an input.
# Four ways to set the orders of a network. How to learn the orders on a task that needs memory.
#
# **Who it is for.** Readers who have [trained a network](04_train_a_spiking_network.ipynb). If you use spikeDE, [Coming
# from spikeDE](../docs/coming_from_spikede.md) lists the corresponding names in brainhw.
#
# Reading takes about 10 minutes, and running takes about 30 seconds. The last part requires the package mnist1d:
# `pip install "brainhw[mnist1d]"`.
#
# In an ordinary leaky neuron the membrane potential decays exponentially. After five time constants almost nothing
# remains, so each neuron has one time scale. In a fractional neuron the membrane potential decays as a power of time,
# so the neuron combines a memory of milliseconds with a memory of seconds.

# %%
import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import brainhw as bh

brainstate.environ.set(dt=1.0 * u.ms)
brainstate.random.seed(0)

# %% [markdown]
# ## The order determines the decay
#
# `bh.nn.FractionalLIFLayer` solves
#
# $$\tau^\alpha D^\alpha V = -V + x, \qquad 0 < \alpha \le 1,$$
#
# where $D^\alpha$ is the derivative of order $\alpha$. With $\alpha = 1$ this is the equation of the ordinary leaky
# neuron. With $\alpha < 1$ the derivative depends on the complete past of $V$. Four neurons with different orders
# receive one pulse of 1 ms. The figure shows their membrane potentials without spikes:

# %%
orders = jnp.array([0.5, 0.7, 0.9, 1.0])
n_steps = 4000
layer = bh.nn.FractionalLIFLayer(4, alpha=orders, tau=20 * u.ms, kernel="dense", horizon=n_steps)
pulse = jnp.zeros((n_steps, 4)).at[0].set(1.0) * u.mV
V = np.asarray(layer.subthreshold(pulse) / u.mV)
time = np.arange(n_steps)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained")
for i, alpha in enumerate(orders):
    color = plt.get_cmap("viridis")(i / 4)
    left.plot(time[:60], V[:60, i], color=color, label=f"order {alpha:.1f}")
    right.loglog(time[1:], V[1:, i], color=color)
left.set(xlabel="time after the pulse (ms)", ylabel="membrane potential (mV)")
left.legend(frameon=False)
right.set(xlabel="time after the pulse (ms)", ylabel="membrane potential (mV)", ylim=(1e-7, 1))
plt.show()

# %% [markdown]
# In the left panel, the membrane potential of low-order neurons decays fastest at first. After a few steps most of the
# response is gone. The right panel has logarithmic axes and shows the later decay. The curve of order 1 is an
# exponential and soon falls below the axis range. The other curves become straight lines, so they decay as powers of
# time. In theory their exponent is $-1 - \alpha$. The next cell measures the exponent between one and four seconds:

# %%
for i, alpha in enumerate(orders[:3]):
    slope = np.polyfit(np.log(time[1000:]), np.log(V[1000:, i]), 1)[0]
    print(f"order {alpha:.1f}: decays as time to the power {slope:.2f}; theory {-1 - alpha:.2f}")
    assert abs(slope + 1 + alpha) < 0.1
print(f"V after 1 s: order 0.5 {V[1000, 0]:.1e} mV, order 0.9 {V[1000, 2]:.1e} mV, order 1 {V[1000, 3]:.1e} mV")

# %% [markdown]
# A neuron of low order therefore combines a fast response with a weak memory of the whole past. The late response to
# one pulse is small, but the responses to many pulses add up. In the next cell a neuron of order 1 and a neuron of
# order 0.5 receive a constant input:

# %%
steady = bh.nn.FractionalLIFLayer(2, alpha=jnp.array([1.0, 0.5]), tau=20 * u.ms, reset="subtract")
spikes, seen = bh.rollout(steady, jnp.full((600, 2), 1.3) * u.mV, record=(".V", ".V_pre"))
figure, axes = plt.subplots(2, 1, figsize=(9, 4), sharex=True, layout="constrained")
for neuron, (ax, name) in enumerate(zip(axes, ("order 1", "order 0.5"), strict=True)):
    bh.visualize.plot_membrane(seen[".V"][:, neuron], V_pre=seen[".V_pre"][:, neuron], V_th=1.0 * u.mV, ax=ax)
    ax.set_title(name, loc="right", fontsize="medium")
    gaps = np.diff(np.flatnonzero(spikes[:, neuron]))
    print(f"{name:9}: intervals between spikes {gaps[0]} ms at the start, {gaps[-1]} ms at the end")
axes[0].set_xlabel("")
axes[1].get_legend().remove()
plt.show()

assert gaps[-1] < gaps[0]

# %% [markdown]
# In the neuron of order 1, the input before a spike has almost no effect after the spike, so all intervals between its
# spikes are equal. The fractional neuron still remembers the input before the spike. Its first interval is long, and
# the later intervals become shorter and shorter. (With `history="clear"` a spike deletes the past, and the intervals
# are equal.)
#
# ## The complete past at constant cost
#
# The first example used `kernel="dense"`, which stores 4000 past values per neuron. The default, `kernel="soe"`,
# approximates the power law by a sum of 24 exponentials. It stores the past in 24 values per neuron, one for each
# exponential. The cost of a step does not depend on the length of the past, and the order is still trainable.

# %%
sums = bh.nn.FractionalLIFLayer(4, alpha=orders, tau=20 * u.ms)  # kernel="soe", n_exponentials=24
difference = np.abs(sums.subthreshold(pulse) / u.mV - V).max()
print(f"largest difference over {n_steps} steps: {difference:.1e} mV of {V.max():.1e} mV")
print(f"an error of at most 1e-4 in the weights over 40 steps needs {bh.kernel.n_exponentials(1e-4, 40)} exponentials")
assert difference < 1e-5

# %% [markdown]
# ## Four ways to set the orders of a network
#
# `bh.set_fractional_orders` sets the orders of all fractional layers of a network. `bh.fractional_summary` shows the
# orders of each layer. The network in the next cell has two fractional layers.


# %%
def two_layers(n_in, n, n_out, **options):
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(n_in, n),
        bh.nn.FractionalLIFLayer(n, tau=5 * u.ms, **options),
        bh.nn.LIFSynapse(n, n),
        bh.nn.FractionalLIFLayer(n, tau=5 * u.ms, **options),
        bh.nn.LeakyReadout(n, n_out, tau=10 * u.ms),
    )


ways = {
    "one order for all": {"alpha": 0.6},
    "one for each layer": {"alpha": [0.3, 0.8], "alpha_mode": "per_layer", "learn_alpha": True},
    "several terms, the same in all layers": {
        "alpha": [0.3, 0.5, 0.7],
        "multi_coefficient": [1.0, 0.5, 0.2],
        "alpha_mode": "multiterm",
        "learn_coefficient": True,
    },
    "several terms, different in each layer": {
        "alpha": [[0.3, 0.5], [0.4, 0.6, 0.8]],
        "multi_coefficient": [[1.0, 0.5], [1.0, 0.3, 0.1]],
    },
}
net = two_layers(24, 50, 9)
for words, orders_of_net in ways.items():
    bh.set_fractional_orders(net, **orders_of_net)
    print(f"{words}\n{bh.fractional_summary(net)}\n")
assert [len(alpha) for alpha in bh.get_per_layer_alpha(net)] == [2, 3]

# %% [markdown]
# With several terms the membrane potential follows $\sum_j w_j \tau^{\alpha_j} D^{\alpha_j} V = -V + x$. The largest
# order determines the response at short times, and the smallest order determines the decay at long times. A list of
# floats has two possible meanings: one order for each layer, or several terms that are the same in all layers.
# Choose the meaning with `alpha_mode`. Without `alpha_mode`, `bh.set_fractional_orders` chooses a meaning and warns.
#
# The neurons of a layer can also have different orders. In this case, the entry of the list for this layer is an array
# with one order per neuron. In the next section, the network learns such orders.
#
# ## Learn the orders
#
# In MNIST-1D a sample is a series of 40 values that contains one of ten shapes at a random position. The network
# receives one value per step, so its membrane potentials must remember the earlier part of the shape.

# %%
data = bh.data.mnist1d()
figure, axes = plt.subplots(2, 5, figsize=(9, 2.8), sharex=True, sharey=True, layout="constrained")
for label, ax in enumerate(axes.flat):
    ax.plot(data.train.x[data.train.y == label][:2, :, 0].T)
    ax.set_title(f"shape {label}", fontsize="small")
for ax in axes[1]:
    ax.set_xlabel("time (ms)")
figure.supylabel("input", fontsize="medium")
plt.show()

# %%
n = 64


class AlwaysOn(brainstate.nn.Module):
    """Append an input that is always one. Its weights replace the bias, which synapses do not have."""

    def update(self, x):
        return jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)


def synapse(n_in, strength, bias):
    scale = np.append(np.full(n_in, strength / np.sqrt(n_in)), bias).astype(np.float32)
    return bh.nn.LIFSynapse(
        n_in + 1, n, weight_init=scale[:, None] * brainstate.random.normal(size=(n_in + 1, n)) * u.mV
    )


def neurons():
    tau = jnp.exp(brainstate.random.uniform(np.log(1.0), np.log(10.0), n)) * u.ms
    return bh.nn.FractionalLIFLayer(
        n,
        # ExpT learns the logarithm of tau and keeps tau above half a step. Below half a step, an explicit step of order
        # 1 is unstable.
        tau=brainstate.nn.Param(tau, t=brainstate.nn.ExpT(0.5 * u.ms)),
        reset="subtract",
        n_exponentials=8,
        horizon=40,
        spk_fun=bh.surrogate.fast_sigmoid(slope=3),
    )


def shape_net(orders, learn):
    brainstate.random.seed(0)
    net = brainstate.nn.Sequential(
        AlwaysOn(),
        synapse(1, 4.0, 1.0),
        neurons(),
        AlwaysOn(),
        synapse(n, 2.0, 0.3),
        neurons(),
        bh.nn.LeakyReadout(n, data.n_classes, tau=10 * u.ms, bias=True),
    )
    bh.set_fractional_orders(net, orders, learn_alpha=learn)  # before the optimizer collects the parameters
    return net


# %% [markdown]
# The next cell trains two networks that differ only in the orders of their neurons. In the first network all orders are
# fixed to 1. In the second network the order of each neuron is trainable, and the initial orders are between 0.1 and
# 0.8. Both networks also learn time constants and weights. During training, each series is rotated by a random number
# of steps, so that the network cannot learn the positions of the shapes.


# %%
def rotated(net, batch):
    x = batch.x
    if batch.key is not None:  # None in tests
        shifts = jax.random.randint(batch.key, (x.shape[1],), 0, 40)
        x = jax.vmap(jnp.roll, in_axes=(1, 0, None), out_axes=1)(x, shifts, 0)
    return bh.rollout(net, x)[0].max(axis=0)  # [B, classes]: the highest value at any step


def loss(highest, batch):
    return braintools.metric.softmax_cross_entropy_with_integer_labels(highest, batch.y).mean()


def accuracy(highest, batch):
    return (highest.argmax(axis=-1) == batch.y).mean()


def train(net):
    history = bh.train.fit(
        net,
        data.train,
        data.test,
        loss=loss,
        metrics={"accuracy": accuracy},
        forward=rotated,
        epochs=6,
        batch_size=100,
        learning_rate=1e-2,
        max_gradient=1.0,
        keep="last",
        progress=False,
    )
    return history.column("validation_accuracy")


start = [np.linspace(0.1, 0.8, n, dtype=np.float32)] * 2
ordinary = shape_net([np.ones(n, np.float32)] * 2, learn=False)
fractional = shape_net(start, learn=True)
curves = {"order 1": train(ordinary), "orders learnt": train(fractional)}

# %%
figure, (left, *rest) = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
for name, curve in curves.items():
    left.plot(np.arange(1, len(curve) + 1), curve, "o-", markersize=3, label=name)
    print(f"{name:13}  test accuracy {curve[-1]:.3f}")
left.axhline(0.1, color="0.5", linestyle="--", label="chance")
left.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1))
left.legend(frameon=False)
for ax, place, name in zip(rest, (2, 5), ("first layer", "second layer"), strict=True):
    bh.visualize.plot_fractional_orders(fractional.layers[place], start=start[:1], bins=10, ax=ax)
    ax.set(xlabel="order", ylabel=f"{name}: share of orders")
rest[0].get_legend().remove()
rest[1].get_legend().remove()
plt.show()
print(bh.fractional_summary(fractional))

learnt = [np.ravel(alpha) for alpha in bh.get_per_layer_alpha(fractional)]
moved = [float(np.abs(after - before).mean()) for after, before in zip(learnt, start, strict=True)]
print(f"mean change of an order: {moved[0]:.2f} in the first layer, {moved[1]:.2f} in the second")

assert curves["orders learnt"][-1] > max(0.5, curves["order 1"][-1])
assert min(moved) > 0.01
assert all((alpha > 0).all() and (alpha < 1).all() for alpha in learnt)

# %% [markdown]
# The dashed line in the histograms shows the initial orders. Training moved some orders out of the initial range.
#
# Longer training gives higher accuracies. With 128 neurons per layer and 150 epochs of training, fractional networks
# reach an accuracy of 0.916 on this task, and LIF networks reach 0.879. These values are means over three seeds of
# `gallery/mnist1d_fractional.py` ([results](../docs/results.md)).
#
# ## Next steps
#
# - [Fractional neurons](../docs/fractional.md) describes the numerical schemes, their accuracy and cost, the resets,
#   and recommendations for training.
# - [Coming from spikeDE](../docs/coming_from_spikede.md) compares the arguments and the behaviour of both libraries.
# - `gallery/mnist1d_fractional.py` runs the complete training on this task, for fractional neurons with one term and
#   with two terms, and for LIF neurons.
# - `gallery/ecg_fractional.py` trains two feed-forward layers of fractional neurons on electrocardiograms.
