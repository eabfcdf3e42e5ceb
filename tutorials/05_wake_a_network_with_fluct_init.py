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
# # Initialise a network with `fluct_init`
#
# **What you learn.** Why deep spiking networks are often silent at the start, and how `bh.init.fluct_init` sets weights
# that avoid this. You see how the initial weights affect rates, membrane potentials, gradients and training. You also
# learn the meaning of the parameter `xi`, and what changes when a chip limits the range of the weights.
#
# **Who it is for.** Readers who have [trained a network](04_train_a_spiking_network.ipynb).
#
# Reading takes about 10 minutes, and running takes about 30 seconds.
#
# A layer that never spikes transmits nothing and gets almost no gradient. Deep networks with sparse spikes often start
# in this state. Each layer has a lower firing rate than the previous layer, and the last layers are silent.

# %%
import warnings

import brainstate
import braintools
import brainunit as u
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import brainhw as bh

brainstate.environ.set(dt=2.0 * u.ms)
brainstate.random.seed(0)

# %% [markdown]
# ## Sparse spikes, deep network
#
# Randman is a synthetic data set with ten classes and 20 inputs. Every input spikes exactly once in 100 steps of 2
# ms. The classes differ only in the spike times. The network has four hidden layers of 64 LIF neurons and a leaky
# readout.

# %%
data = bh.data.randman()
sample = data.train.x[:256]  # [B, T, N], the axis order of data sets
print(data)


def deep_net(n_layers=4, width=64):
    brainstate.random.seed(0)
    stages = []
    for n_in in (20, *[width] * (n_layers - 1)):
        stages.append(bh.nn.LIFSynapse(n_in, width))
        stages.append(bh.nn.LIFLayer(width, tau=20 * u.ms, spk_fun=bh.surrogate.fast_sigmoid(slope=10)))
    return brainstate.nn.Sequential(*stages, bh.nn.LeakyReadout(width, data.n_classes, tau=20 * u.ms))


# %% [markdown]
# The first network is initialised with Kaiming initialisation, which is common for non-spiking networks. The variance
# of the weights is `2 / n_in` times the squared threshold. `bh.init.fluct_report` runs a network on data and measures
# every layer. It does not change the network.

# %%
asleep = deep_net()
bh.init.kaiming_init(asleep, key=0)
before = bh.init.fluct_report(asleep, [sample])
print(before)
bh.visualize.plot_fluct_report(before)
plt.show()

# %% [markdown]
# The inputs spike at 5 Hz, the first layer spikes at about 1 Hz, and the last layer does not spike. Each row of the
# figure shows one layer. The left panel shows the response of the membrane potential to one input spike, divided by the
# weight. The middle panel shows the distribution of the membrane potentials that the neurons would have without spikes
# and resets, divided by the threshold. The right panel shows the firing rate of every neuron. The membrane potentials
# become smaller from layer to layer.
#
# ## Why the network is silent
#
# A spike of weight $w$ changes the membrane potential by $w\,e^{-t/\tau}$. Let $n$ independent inputs spike at rate
# $\nu$, with weights of mean zero and standard deviation $\sigma_W$. The membrane potential then fluctuates around zero
# with the standard deviation
#
# $$\sigma_U = \sigma_W \sqrt{n \, \nu \, \hat\epsilon}, \qquad \hat\epsilon = \int_0^\infty e^{-2t/\tau} dt = \tau/2,$$
#
# and the distance from the mean $\mu_U$ to the threshold, in standard deviations, is
# $\xi = (V_{th} - \mu_U) / \sigma_U$. Kaiming initialisation sets $\sigma_W = V_{th} \sqrt{2/n}$. Then $n$ cancels:
# $\xi = 1 / \sqrt{\nu \tau}$ depends only on the input rate and the time constant. A low input rate therefore gives a
# large $\xi$, and the output rate is even lower than the input rate. In the next layer $\xi$ is then even larger.

# %%
print("layer  rate in   xi by the formula  xi measured (median)  silent neurons")
for layer in before.layers:
    with np.errstate(divide="ignore"):
        formula = 1 / np.sqrt(float(layer.nu_in * 20 * u.ms))
    print(f"{layer.index:5}  {layer.nu_in:6.2f}  {formula:18.1f}  {layer.xi_median:20.1f}  {layer.dead:8} of 64")

assert before.layers[-1].dead == 64

# %% [markdown]
# For the first two layers, the formula predicts the measured $\xi$ within 20 %. The measured fluctuations are a little
# smaller than predicted, for two reasons. Each input spikes exactly once, which is not a Poisson process, and no spikes
# arrive before the first step. In deeper layers the formula is not valid, because a few neurons emit almost all of the
# spikes.
#
# ## Use `fluct_init`
#
# `fluct_init` inverts the formula. You set the requested value of $\xi$ with `xi_target`, and `fluct_init` computes the
# weights. It processes one layer after the other. For each layer it measures the response to one spike, predicts the
# variance of the membrane potential from your data, and draws the weights at random. Then it runs the layer and uses
# the output spikes as input of the next layer. By default `fluct_init` accepts only chip neurons. With `families="any"`
# it also accepts other neurons.

# %%
awake = deep_net()
after = bh.init.fluct_init(awake, [sample], xi_target=1.0, families="any", key=0, return_report=True)
print(after)
bh.visualize.plot_fluct_report(after)
plt.show()

assert all(layer.dead == 0 for layer in after.layers)
assert all(abs(layer.xi_median - 1) < 0.1 for layer in after.layers)

# %% [markdown]
# In all four layers $\xi$ now has the requested value, and no neuron is silent. The weights are in mV. The first layer
# has 20 inputs with low rates and needs large weights. The other layers have 64 inputs with higher rates and need
# smaller weights.
#
# ## Effect on training
#
# Both networks are trained in the same way. The training step also returns the norm of the gradient for the weights of
# each synapse. The left figure shows these norms in the first step.


# %%
def train(net, epochs=5):
    weights = net.states(brainstate.ParamState)
    optimizer = braintools.optim.Adam(lr=2e-3)
    optimizer.register_trainable_weights(weights)

    def loss(x, y):
        logits, _ = bh.rollout(net, x)
        highest = logits.max(axis=0)  # [B, classes]: the highest value at any step
        hits = (highest.argmax(axis=-1) == y).mean()
        return braintools.metric.softmax_cross_entropy_with_integer_labels(highest, y).mean(), hits

    gradient = brainstate.transform.grad(loss, weights, has_aux=True, return_value=True)

    @brainstate.transform.jit
    def step(x, y):
        grads, value, hits = gradient(x, y)
        optimizer.update(grads)
        return value, hits, [jnp.linalg.norm(u.get_mantissa(g)) for g in grads.values()]

    @brainstate.transform.jit
    def evaluate(x, y):
        return loss(x, y)[1]

    curve, norms = [], None
    x_test, y_test = jnp.swapaxes(data.test.x, 0, 1), jnp.asarray(data.test.y)
    for epoch in range(epochs):
        for batch in bh.data.batches(data.train, 128, seed=0, epoch=epoch):
            *_, sizes = step(jnp.swapaxes(batch.x, 0, 1), jnp.asarray(batch.y))
            norms = np.array(sizes) if norms is None else norms
        curve.append(float(evaluate(x_test, y_test)))
    return norms, np.array(curve)


runs = {"Kaiming": train(asleep), "fluct_init": train(awake)}

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
places = ["1", "2", "3", "4", "readout"]
for name, (norms, curve) in runs.items():
    left.semilogy(places, np.where(norms > 0, norms, np.nan), "o-", label=name)
    right.plot(np.arange(1, len(curve) + 1), curve, "o-", label=name)
    print(f"{name:10}  gradients {', '.join(f'{n:.1e}' for n in norms)}  test accuracy {curve[-1]:.3f}")
left.set(xlabel="synapses of layer", ylabel="gradient norm (1/mV; readout: 1)", title="before the first step")
right.axhline(1 / data.n_classes, color="0.5", linestyle="--", label="chance")
right.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1), xticks=range(1, len(curve) + 1))
right.legend(frameon=False)
plt.show()

assert (runs["fluct_init"][0][:4] > 50 * runs["Kaiming"][0][:4]).all()
assert runs["fluct_init"][1][-1] > runs["Kaiming"][1][-1] + 0.1

# %% [markdown]
# With Kaiming initialisation the gradients are a few hundred to a thousand times smaller than with `fluct_init`. The
# synapses of the fourth layer and of the readout get no input spikes, so their gradients are exactly zero. The
# logarithmic axis cannot show these two points. After a few epochs, all layers of the network with Kaiming
# initialisation spike too. In a network with more layers, some layers may remain silent. [The page on
# fluct_init](../docs/fluct_init.md) has results for 2 to 8 layers and for chips.
#
# ## The meaning of `xi`
#
# `xi` is the distance from the mean membrane potential to the threshold in standard deviations. With $\xi = 1$ a neuron
# spikes often. With $\xi = 3$ it spikes only when many inputs spike at the same time by chance. The figure shows one
# layer on the same data with three values of `xi`:

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True, layout="constrained")
one = brainstate.nn.Sequential(bh.nn.LIFSynapse(20, 64), bh.nn.LIFLayer(64, tau=20 * u.ms))
for ax, xi in zip(axes, (1.0, 2.0, 3.0), strict=True):
    report = bh.init.fluct_init(one, [sample], xi, families="any", verbose=False, return_report=True)
    layer = report.layers[0]
    bh.visualize.plot_membrane_distribution(layer, ax=ax)
    ax.set_xlim(-1.5, 1.5)
    print(f"xi {xi:g}: weights of {layer.weight_spread:.2f} mV, rate {layer.nu_out:.1f}, {layer.dead} silent")
    assert abs(layer.xi_median - xi) < 0.1 * xi
for ax in axes[1:]:
    ax.set_ylabel("")
plt.show()

# %% [markdown]
# (The part above the threshold is shaded. The left distribution extends beyond both ends of the axis.) The recommended
# range of `xi` is 1 to 3. Small values suit deep networks and sparse input, where rates would otherwise decrease with
# depth. Larger values give fewer spikes. Outside of this range `fluct_init` warns.
#
# ## Measure any network
#
# You can use `fluct_report` on any network, also without `fluct_init`. The next cell measures the network again after
# training. Training has changed the membrane potentials, as expected.

# %%
trained = bh.init.fluct_report(awake, [sample])
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
bh.visualize.plot_layer_rates(trained, ax=ax)
ax.set_title("after training: a dot for each neuron, a bar for the mean")
plt.show()
for layer in trained.layers:
    print(f"layer {layer.index}: xi {layer.xi_median:.2f}, rate {layer.nu_out:.1f}, {layer.dead} silent")

# %% [markdown]
# ## Weights in the range of a chip: `in_range`
#
# An H1 chip limits the magnitude of the weights. In the next cell `fluct_init` initialises a network of chip layers.
# The input consists of analog values: the Japanese Vowels recordings with 24 channels, in which each frame is repeated
# for two steps.

# %%
vowels = bh.data.japanese_vowels()
scale = bh.data.fit_channel_scale(vowels.train)
frames = bh.data.repeat_frames(bh.data.split_on_off(scale.apply(vowels.train).x), 2)[::2]
# The network also runs on the zeros after the end of a short recording, so these steps are measured too.
lengths = [frames.shape[1]] * len(frames)


def chip_net():
    return brainstate.nn.Sequential(
        bh.nn.H1v1Synapse(24, 50),
        bh.nn.H1v1Layer(50, tau=20 * u.ms),
        bh.nn.H1v1Synapse(50, 45),
        bh.nn.H1v1Layer(45, tau=20 * u.ms),
    )


free, bounded = chip_net(), chip_net()
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    bh.init.fluct_init(free, [frames], in_range=False, lengths=lengths, verbose=False)
for warning in said:
    print(warning.message)

# %% [markdown]
# Each warning describes a problem and how to solve it. The first layer reaches the requested $\xi$, but some of its
# weights are too large for the chip. The second layer receives spikes at low rates. brainhw assumes that the charge on
# this chip grows more slowly than the weight (see `print(bh.chip.H1V1)`), so even weights of 12 do not cause large
# enough fluctuations. With `in_range=True` the weights stay in range. Instead, `fluct_init` raises the mean of the
# membrane potential to reach the requested $\xi$, as far as the range allows. The default, `'auto'`, keeps the weights
# of a layer in range if the layer can reach the requested $\xi$ in this way.

# %%
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    bh.init.fluct_init(bounded, [frames], in_range=True, lengths=lengths, verbose=False)
for warning in said:
    print(warning.message)
figure, axes = plt.subplots(2, 1, figsize=(7, 5), layout="constrained")
for ax, (title, net) in zip(axes, {"as targeted": free, "in_range=True": bounded}.items(), strict=True):
    bh.visualize.plot_weight_histogram(net, ax=ax)
    ax.set_ylabel(f"{title}\ndensity")
    for layer in bh.init.fluct_report(net, [frames], lengths=lengths).layers:
        print(
            f"{title:13}  layer {layer.index}: xi {layer.xi_median:.2f}, rate {layer.nu_out:.0f}, "
            f"{layer.dead} silent, {layer.out_of_range} weights out of range"
        )
plt.show()

assert bh.train.out_of_range(free) > 0
assert bh.train.out_of_range(bounded) == 0

# %% [markdown]
# To keep the weights in range during training, call `bh.train.clip_weights(net)` after each training step. The chip
# scripts in `gallery/` do the same.
#
# ## Next steps
#
# - [Initialise weights with fluct_init](../docs/fluct_init.md) describes every step of the method, its validation and
#   its limits.
# - `gallery/deep_networks.py` makes the same comparison with more layers, on three more data sets and on chips.
# - [Adaptive neurons](06_adaptive_lif_on_ecg.ipynb): train neurons with spike-frequency adaptation on
#   electrocardiograms.
